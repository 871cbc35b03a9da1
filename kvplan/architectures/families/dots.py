"""dots of Xiaohongshu: dots.llm1, whose later layers slide, and dots3-note, a latent with sliding layers of another width.

dots3-note keeps float32 indexer keys in its full layers. Source: transformers 5.23 `modeling_dots1.py`, `_dots3_note.py`.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, layer_count, lenient, query_heads, width
from kvplan.architectures.kit.latent import Mla, read_latent
from kvplan.architectures.kit.layers import FULL, INDEXED, SLIDING, layer_types
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.sliding import from_layer, sliding
from kvplan.domain.model import Index, Latent, Memory, Window


class _Sizes(NamedTuple):
    """A sliding layer's own sizes; `swa_*` in released checkpoints, `per_layer_config` in configs saved later."""

    num_attention_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int


@reader
def _note(c: Config, row: Row, mla: Mla) -> Decoder:
    """Full layers with an indexer, and sliding layers without."""
    layers, heads = layer_count(c, row), query_heads(c, row)
    index = Index(dim=width(c, "index_head_dim", default=128), dtype="float32")
    window = Window(c.integer("sliding_window", "sliding_window_size", default=512))
    kinds = _note_kinds(c, layers)
    wide = read_latent(c, row, mla, heads)
    released = _released_sizes(c)
    overrides = _by_layer(c.section("per_layer_config"))
    rows: list[tuple[Memory, ...]] = []
    for i, kind in enumerate(kinds):
        if kind == SLIDING:
            sizes = _saved_sizes(c, overrides.get(i), wide) if c.has("per_layer_config") else released
            rows.append((_sliding_latent(sizes, window),))
        else:
            rows.append((wide, index) if kind == INDEXED else (wide,))
    return Decoder(layers=rows, heads=heads)


def _note_kinds(c: Config, layers: int) -> list[str]:
    """One kind a layer. Released checkpoints call an indexed layer "full_attention" unless `use_dsa` is false."""
    slides = c.flag("use_sliding_window", default=True)
    indexed = c.flag("use_dsa", default=True)
    explicit = c.has("use_dsa") or not c.has("per_layer_config")
    kinds = layer_types(c, layers, INDEXED, FULL, SLIDING)
    if kinds is None:
        kinds = [FULL if not slides or i < 2 or i % 4 == 1 else SLIDING for i in range(layers)]
    if not explicit and c.has("layer_types"):
        return kinds
    wanted = INDEXED if indexed else FULL
    return [kind if kind == SLIDING else wanted for kind in kinds]


def _released_sizes(c: Config) -> _Sizes:
    dim = width(c, "swa_head_dim", default=256)
    nope = width(c, "swa_qk_nope_head_dim", default=192, minimum=0)
    return _Sizes(
        num_attention_heads=width(c, "swa_num_attention_heads", default=64),
        kv_lora_rank=width(c, "swa_kv_lora_rank", default=1024),
        qk_nope_head_dim=nope,
        qk_rope_head_dim=width(c, "swa_qk_rope_head_dim", default=max(dim - nope, 0), minimum=0),
        v_head_dim=width(c, "swa_v_head_dim", default=128),
    )


def _by_layer(saved: Config) -> dict[int, Any]:
    """`per_layer_config` by layer: its keys are numbers, zero-padded or not ("02")."""
    keys = {str(key): value for key, value in saved.data.items()}
    return {int(key): value for key, value in keys.items() if len(key) <= 8 and key.isascii() and key.isdigit()}


def _saved_sizes(c: Config, entry: Any, wide: Latent) -> _Sizes:
    """The entry of `per_layer_config`; what it leaves out is as in the other layers."""
    values = entry if isinstance(entry, Mapping) else {}
    inner = Config(values, c.source, f"{c.path}per_layer_config.")
    return _Sizes(
        num_attention_heads=width(inner, "num_attention_heads", default=wide.heads),
        kv_lora_rank=width(inner, "kv_lora_rank", default=wide.rank),
        qk_nope_head_dim=width(inner, "qk_nope_head_dim", default=wide.nope_dim, minimum=0),
        qk_rope_head_dim=width(inner, "qk_rope_head_dim", default=wide.rope_dim, minimum=0),
        v_head_dim=width(inner, "v_head_dim", default=wide.value_dim),
    )


def _sliding_latent(sizes: _Sizes, window: Window) -> Latent:
    return Latent(
        rank=sizes.kv_lora_rank,
        rope_dim=sizes.qk_rope_head_dim,
        heads=sizes.num_attention_heads,
        nope_dim=sizes.qk_nope_head_dim,
        value_dim=sizes.v_head_dim,
        reach=window,
    )


ROWS: Final[dict[str, Reader]] = {
    "dots1": sliding(Row(62, 32, 4608, 32, window=4096), from_layer(62)),
    "dots3_note_text": _note(lenient(46, 128, 5120), Mla()),
}
