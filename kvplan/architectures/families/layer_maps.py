"""Families whose layers differ in kind from one another, or count in their own way.

- Mllama: the layers of `cross_attention_layers` look at the image only and keep its keys and values.
- Nemotron-NAS: `block_configs` gives each layer its KV heads, or no attention at all.
- HRM: a stack of layers runs many times, and each run keeps its own keys and values.
- Unlimited OCR: the prompt is kept whole; only generated tokens fall out of the window.
- IQuest loop coder: each layer keeps everything for the first pass and a window for the second.
- AFM 7: the last `num_kv_reuse_layers` layers read the keys and values of the last layer before them.

Sources: `configuration_mllama.py`, `configuration_hrm_text.py`, `configuration_unlimited_ocr.py` of transformers 5.23; the
remote code of nvidia/Llama-3_3-Nemotron-Super-49B-v1 (`block_config.py`); mlx-lm 0.32 `iquestloopcoder.py`, `afm7.py`.
"""

from collections.abc import Callable
from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import (
    DERIVED,
    Names,
    Row,
    count,
    decoder,
    ignored,
    is_null,
    read_head_dim,
    read_heads,
)
from kvplan.architectures.kit.shapes import Decoder, attention, divided
from kvplan.domain.model import MAX_LAYERS, Cross, Full, Memory, Reach, Shared, Window

_MLLAMA: Final = Row(40, 32, 4096, 8, rejects="k", names=DERIVED)


def _read_mllama(c: Config) -> Decoder:
    heads = read_heads(c, _MLLAMA)
    named = c.integers("cross_attention_layers")
    looking = {3, 8, 13, 18, 23, 28, 33, 38} if named is None else set(named)
    if named is not None and max(looking, default=0) >= heads.layers:
        c.refuse("cross_attention_layers", f"names layer {max(looking)} of {heads.layers}")
    own: tuple[Memory, ...] = (attention(heads.kv, heads.dim),)
    image: tuple[Memory, ...] = (Cross(kv_heads=heads.kv, key_dim=heads.dim, value_dim=heads.dim),)
    return Decoder(layers=[image if i in looking else own for i in range(heads.layers)], heads=heads.query)


_NAS: Final = Row(32, 32, 4096)


def _read_nas(c: Config) -> Decoder:
    layers = count(c, ("num_hidden_layers",), _NAS.layers, MAX_LAYERS)
    query = count(c, ("num_attention_heads",), _NAS.heads)
    ignored(c, "num_key_value_heads", "`block_configs` gives each layer its own")
    dim = read_head_dim(c, _NAS, query)
    blocks = c.sections("block_configs", length=layers)
    return Decoder(layers=[_nas_block(block.section("attention"), query, dim) for block in blocks], heads=query)


def _nas_block(block: Config, query: int, dim: int) -> tuple[Memory, ...]:
    if block.flag("no_op") or block.flag("replace_with_linear"):
        return ()
    group = block.integer("n_heads_in_group")
    window: int | None = block.integer("window_length", default=None)
    reach: Reach = Window(window) if window else Full()
    return (attention(divided(block, "n_heads_in_group", query, group, "heads in a group"), dim, reach),)


_HRM: Final = Row(16, 12, 1536, head_dim=128, rejects="d", names=Names(kv_heads=()))


def _read_hrm(c: Config) -> Decoder:
    """`num_layers_per_stack` marks a config that has been written back: its layer count is already the total."""
    heads = read_heads(c, _HRM)
    if not c.has("num_layers_per_stack"):
        runs = c.integer("H_cycles", default=2, maximum=1_000) * (c.integer("L_cycles", default=3, maximum=1_000) + 1)
        if heads.layers * runs > MAX_LAYERS:
            c.refuse("num_hidden_layers", f"{heads.layers} layers in {runs} runs are more than {MAX_LAYERS:,} layers")
        heads = heads._replace(layers=heads.layers * runs)
    return decoder(c, heads, ["full_attention"] * heads.layers, None)


_OCR: Final = Row(12, 10, 1280, 10, names=DERIVED)


def _read_unlimited_ocr(c: Config) -> Decoder:
    heads = read_heads(c, _OCR)
    if is_null(c, "sliding_window"):
        c.refuse("sliding_window", "is null, which this class does not take")
    window = c.integer("sliding_window", default=128)
    c.items("layer_types", length=heads.layers)
    note = f"the prompt is kept whole; of the generated tokens only the last {window:,} stay"
    return Decoder(layers=[(attention(heads.kv, heads.dim),)] * heads.layers, heads=heads.query, notes=(note,))


_LOOP: Final = Row(32, 32, 4096)


def _read_loop_coder(c: Config) -> Decoder:
    heads = read_heads(c, _LOOP)
    if c.integer("loop_num", default=2) != 2:
        c.refuse("loop_num", "is not 2, and the caches of other loops are not known")
    window = c.integer("loop_window_size", default=64)
    both: tuple[Memory, ...] = (attention(heads.kv, heads.dim), attention(heads.kv, heads.dim, Window(window)))
    return Decoder(layers=[both] * heads.layers, heads=heads.query)


_AFM7: Final = Row(
    32,
    16,
    2048,
    names=Names(("num_layers", "num_hidden_layers"), ("num_heads",), ("num_kv_heads",), (), ("hidden_dim", "hidden_size")),
)


def _read_afm7(c: Config) -> Decoder:
    heads = read_heads(c, _AFM7)
    reusing = c.integer("num_kv_reuse_layers", default=0, minimum=0)
    if reusing >= heads.layers:
        c.refuse("num_kv_reuse_layers", f"{reusing} of {heads.layers} layers leaves no owner")
    owners = heads.layers - reusing
    own: tuple[Memory, ...] = (attention(heads.kv, heads.dim),)
    return Decoder(layers=[own] * owners + [(Shared(source=owners - 1),)] * reusing, heads=heads.query)


_READERS: Final[dict[str, Callable[[Config], Decoder]]] = {
    "afm7": _read_afm7,
    "hrm_text": _read_hrm,
    "iquestloopcoder": _read_loop_coder,
    "mllama_text_model": _read_mllama,
    "nemotron-nas": _read_nas,
    "unlimited_ocr_text": _read_unlimited_ocr,
}


def read(c: Config, model_type: str) -> Decoder:
    """Layers as the family's own map says."""
    return _READERS[model_type](c)
