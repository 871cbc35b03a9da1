"""DeepSeek: 1 is plain, V2 and V3 keep latents, V3.2 an indexer beside them, V4 compressed entries; OCR 2's text part.

Every layer of V4 stores a single vector of `head_dim` a token that is key and value at once, for the last
`sliding_window` tokens. Compressed-sparse layers add one entry for 4 tokens (overlapping groups) and an indexer over
those entries; heavily-compressed layers one for 128. The layer map is `layer_types`, or `compress_ratios` in released
checkpoints, whose last entries belong to the prediction layers. Sources: transformers 5.23
`models/deepseek_*`; V4.1: mlx-lm 0.32 `models/deepseek_v41.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import DERIVED, Row, divided, hidden_size, kv_heads, layer_count, lenient, query_heads, width
from kvplan.architectures.kit.indexed import every_layer, indexed
from kvplan.architectures.kit.latent import Mla, latent
from kvplan.architectures.kit.layers import SLIDING, attention, draft_count
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.domain.model import Compressed, Index, Memory, Softmax, Window

_SPARSE: Final = "compressed_sparse_attention"
_HEAVY: Final = "heavily_compressed_attention"
_OF_RATIO: Final = {0: "sliding_attention", 4: _SPARSE, 128: _HEAVY}


@reader
def _v2(c: Config, row: Row, mla: Mla) -> Decoder:
    """DeepSeek-OCR and -VL2-Tiny carry V2 text parts that run ordinary attention and zero MLA sizes."""
    layers, heads = layer_count(c, row), query_heads(c, row)
    if c.flag("use_mla", default=True):
        return latent(row, mla).read(c)
    dim = divided(c, "hidden_size", hidden_size(c, row), heads, "query heads")
    memory: tuple[Memory, ...] = (attention(kv_heads(c, row, heads), dim),)
    return Decoder(layers=[memory] * layers, heads=heads, drafts=[memory] * draft_count(c, default=row.drafts))


@reader
def _v4(c: Config, row: Row, *, sources: bool = False) -> Decoder:
    """Each layer's window, compressed entries and indexer; with `sources`, only in the layers that own them."""
    layers, heads = layer_count(c, row), query_heads(c, row)
    kinds = _v4_kinds(c, layers, draft_count(c, default=row.drafts))
    dim = width(c, "head_dim", default=row.head_dim)
    window = Softmax(kv_heads=1, key_dim=dim, value_dim=0, reach=Window(c.integer("sliding_window", default=128)))
    rates = c.section("compress_rates")
    sparse = Compressed(_rate(c, rates, "compress_rate_csa", _SPARSE, 4), overlap=True)
    heavy = Compressed(_rate(c, rates, "compress_rate_hca", _HEAVY, 128))
    memories: dict[str, tuple[Memory, ...]] = {
        SLIDING: (window,),
        _SPARSE: (
            window,
            Softmax(kv_heads=1, key_dim=dim, value_dim=0, reach=sparse),
            Index(dim=width(c, "index_head_dim", default=128), reach=sparse),
        ),
        _HEAVY: (window, Softmax(kv_heads=1, key_dim=dim, value_dim=0, reach=heavy)),
    }
    rows = [memories[kind] for kind in kinds]
    if sources:
        _keep_sources(c, rows, layers)
    return Decoder(layers=rows[:layers], heads=heads, drafts=rows[layers:])


def _keep_sources(c: Config, rows: list[tuple[Memory, ...]], layers: int) -> None:
    """V4.1 lists the layers that own compressed entries and indexers; the others read the last owner's."""
    entries = c.integers("kv_source_layer_ids", maximum=layers - 1)
    indexers = c.integers("index_source_layer_ids", maximum=layers - 1)
    for i in range(layers):
        window, *compressed = rows[i]
        kept = [
            memory
            for memory in compressed
            if (owners := indexers if isinstance(memory, Index) else entries) is None or i in owners
        ]
        rows[i] = (window, *kept)


def _rate(c: Config, rates: Config, legacy: str, kind: str, default: int) -> int:
    """Tokens an entry: the old scalar key wins over the map, as in the config class."""
    return c.integer(legacy) if c.has(legacy) else rates.integer(kind, default=default)


def _v4_kinds(c: Config, layers: int, drafts: int) -> list[str]:
    """One kind a layer, the prediction layers last (sliding when the config does not say)."""
    given = c.texts("layer_types", allowed=frozenset(_OF_RATIO.values()))
    if given is None:
        ratios = c.integers("compress_ratios")
        if ratios is not None:
            for i, ratio in enumerate(ratios):
                if ratio not in _OF_RATIO:
                    c.refuse(f"compress_ratios[{i}]", f"must be 0, 4 or 128, got {ratio}")
            given = [_OF_RATIO[ratio] for ratio in ratios]
    if given is None:
        given = [_HEAVY if i < 2 or i % 2 == 0 else _SPARSE for i in range(layers)]
    if len(given) < layers:
        c.refuse("layer_types" if c.has("layer_types") else "compress_ratios", f"has {len(given)} entries for {layers} layers")
    return [*given[:layers], *[(given[i] if i < len(given) else SLIDING) for i in range(layers, layers + drafts)]]


_V4: Final = lenient(43, 64, head_dim=512, drafts=1)
ROWS: Final[dict[str, Reader]] = {
    "deepseek": plain(Row(30, 32, 4096)),
    "deepseek_ocr2_text": plain(Row(32, 32, 4096, names=DERIVED, refuses_remainder=True)),
    "deepseek_ref": _v4(_V4),
    "deepseek_v2": _v2(lenient(32, 32, 4096), Mla()),
    "deepseek_v3": latent(lenient(61, 128, 7168, drafts=1), Mla()),
    "deepseek_v32": indexed(lenient(61, 128, 7168), Mla(), every_layer),  # no shared indexers in its code
    "deepseek_v4": _v4(_V4),
    "deepseek_v41": _v4(_V4, sources=True),
    "deepseek_v41_text": _v4(_V4, sources=True),
    "joyai_llm_flash": latent(lenient(61, 128, 7168), Mla()),  # mlx-lm and others read it as a V3
}
