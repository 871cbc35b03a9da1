"""Mistral, Mixtral and Ministral (a window, where there is one), Voxtral's text part, and the latents of Mistral 4 and Large 4.

Mistral Large 4 has layers without rotary keys, layers that read another layer's latent, and an indexer.
Source: `configuration_mistral*.py`, `_ministral*.py`, `_mixtral.py`, `modeling_mistral_large4.py` of transformers 5.23.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, layer_count, lenient, query_heads
from kvplan.architectures.kit.indexed import listed_or_periodic, read_index
from kvplan.architectures.kit.latent import Mla, latent, read_latent
from kvplan.architectures.kit.layers import INDEXED, draft_count, layer_types
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.sliding import sliding
from kvplan.domain.model import Latent, Memory, Shared


@reader
def _large4(c: Config, row: Row, mla: Mla) -> Decoder:
    layers, heads = layer_count(c, row), query_heads(c, row)
    layer_types(c, layers, INDEXED)
    drafts, index = draft_count(c), read_index(c)
    owners = listed_or_periodic(c, layers, drafts)
    rotary = _rotary_layers(c, layers)
    sources = c.integers("kv_source_layers", length=layers, maximum=layers - 1) or list(range(layers))
    latent = read_latent(c, row, mla, heads)
    bare = latent if not latent.rope_dim else _without_rope(latent)
    rows: list[tuple[Memory, ...]] = []
    for i, source in enumerate(sources):
        if source > i or sources[source] != source:
            c.refuse(f"kv_source_layers[{i}]", f"must name an earlier layer that owns its latent, got {source}")
        memory: Memory = Shared(source=source) if source != i else latent if rotary[i] else bare
        rows.append((memory, index) if owners[i] else (memory,))
    return Decoder(layers=rows, heads=heads)


def _rotary_layers(c: Config, layers: int) -> list[bool]:
    """Which layers rotate: `no_rope_layers` (1 rotates), else all but every fourth."""
    given = c.integers("no_rope_layers", length=layers, maximum=1)
    if given is not None:
        return [bool(flag) for flag in given]
    interval = c.integer("no_rope_layer_interval", default=4)
    return [(i + 1) % interval != 0 for i in range(layers)]


def _without_rope(latent: Latent) -> Latent:
    """A layer without rotation keeps the latent alone; its keys are as wide as before."""
    return Latent(
        rank=latent.rank,
        rope_dim=0,
        heads=latent.heads,
        nope_dim=latent.nope_dim + latent.rope_dim,
        value_dim=latent.value_dim,
    )


ROWS: Final[dict[str, Reader]] = {
    "ministral": sliding(Row(32, 32, 4096, 8, refuses_null=("kv_heads",), window=4096)),
    "ministral3": sliding(Row(34, 32, 4096, 8, 128, refuses_null=("kv_heads", "head_dim"))),
    "mistral": sliding(Row(32, 32, 4096, 8, refuses_null=("kv_heads",), window=4096)),
    "mistral4": latent(lenient(36, 32, 4096), Mla(rank=256, nope_dim=64)),
    "mistral_large4_text": _large4(lenient(72, 64, 6144), Mla(nope_dim=64)),
    "mixtral": sliding(Row(32, 32, 4096, 8, refuses_null=("kv_heads",))),
    "voxtral_realtime_text": sliding(Row(32, 32, 4096, 8, refuses_null=("kv_heads",), window=4096)),
}
