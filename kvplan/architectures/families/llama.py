"""Llama of Meta: 1 to 3 are plain, 4 sees chunks, 3.2 Vision looks at an image; and the Cross-Layer Attention paper's models.

Sources: `configuration_llama.py`, `_llama4.py`, `_mllama.py` of transformers 5.23; Cross-Layer Attention, arXiv 2405.12981.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import DERIVED, Row, ignored, is_null, read_heads
from kvplan.architectures.kit.layers import CHUNKED, CROSS_LAYER_NOTE, FULL, SLIDING, attention, decoder, layer_types
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.sliding import by_rope
from kvplan.domain.model import Cross, Memory, Shared


@reader
def _llama4(c: Config, row: Row) -> Decoder:
    """Layers with RoPE see a chunk of 8,192 tokens, the others everything."""
    heads = read_heads(c, row)
    chunk = None if is_null(c, "attention_chunk_size") else c.integer("attention_chunk_size", default=8192)
    kinds = layer_types(c, heads.layers, FULL, SLIDING, CHUNKED)
    if kinds is not None:
        for key in ("no_rope_layers", "no_rope_layer_interval"):
            ignored(c, key, "`layer_types` decides")
    else:
        kinds = [CHUNKED if local else FULL for local in by_rope(1)(c, heads.layers)]
    return decoder(c, heads, kinds, chunk=chunk)


@reader
def _vision(c: Config, row: Row) -> Decoder:
    """The layers of `cross_attention_layers` look at the image only and keep its keys and values."""
    heads = read_heads(c, row)
    named = c.integers("cross_attention_layers")
    looking = {3, 8, 13, 18, 23, 28, 33, 38} if named is None else set(named)
    if named is not None and max(looking, default=0) >= heads.layers:
        c.refuse("cross_attention_layers", f"names layer {max(looking)} of {heads.layers}")
    own: tuple[Memory, ...] = (attention(heads.kv, heads.dim),)
    image: tuple[Memory, ...] = (Cross(kv_heads=heads.kv, key_dim=heads.dim, value_dim=heads.dim),)
    return Decoder(layers=[image if i in looking else own for i in range(heads.layers)], heads=heads.query)


@reader
def _cross_layer(c: Config, row: Row) -> Decoder:
    """`kv_source_layer` lists, for each layer, the layer whose keys and values it reads."""
    heads = read_heads(c, row)
    sources = c.integers("kv_source_layer", length=heads.layers) or list(range(heads.layers))
    own: tuple[Memory, ...] = (attention(heads.kv, heads.dim),)
    for i, source in enumerate(sources):
        if source > i or sources[source] != source:
            c.refuse(f"kv_source_layer[{i}]", f"is {source}, which is not an earlier layer that owns its keys and values")
    owners = c.integer("num_kv_layers", default=None)
    ignored(c, "cla_share_factor", "`kv_source_layer` says it")
    if owners is not None and owners != len(set(sources)):
        c.refuse("num_kv_layers", f"is {owners}, but `kv_source_layer` names {len(set(sources))} owners")
    layers = [own if source == i else (Shared(source=source),) for i, source in enumerate(sources)]
    notes = () if len(set(sources)) == heads.layers else (CROSS_LAYER_NOTE,)
    return Decoder(layers=layers, heads=heads.query, notes=notes)


ROWS: Final[dict[str, Reader]] = {
    "llama": plain(Row(32, 32, 4096, refuses_remainder=True)),
    "llama-cla": _cross_layer(Row(32, 32, 4096)),
    "llama4_text": _llama4(Row(48, 40, 5120, 8, 128, refuses_null=("kv_heads", "head_dim"))),
    "mllama_text_model": _vision(Row(40, 32, 4096, 8, refuses_null=("kv_heads",), names=DERIVED)),
}
