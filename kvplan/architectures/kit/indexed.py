"""Sparse attention over a latent: an indexer keeps a key a token and picks the tokens that attention reads.

The lightning indexer keeps one key of `index_head_dim` elements a token beside the latent; nothing is dropped from the
cache. A layer marked "shared" reuses the choice of the layer before and has no indexer of its own.
Sources: DeepSeek-V3.2-Exp report section 2; transformers 5.23 `modeling_*.py` of each (`Indexer`).
"""

from collections.abc import Callable
from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, layer_count, query_heads, width
from kvplan.architectures.kit.latent import Mla, read_latent
from kvplan.architectures.kit.layers import INDEXED, draft_count, layer_types
from kvplan.architectures.kit.reader import Decoder, reader
from kvplan.domain.model import Index

Owners = Callable[[Config, int, int], list[bool]]  # which of `layers`, with so many drafts, run an indexer of their own

_LETTERS: Final = {"F": "full", "S": "shared"}


def every_layer(_: Config, layers: int, drafts: int) -> list[bool]:
    """The class has no shared indexers."""
    return [True] * layers


def listed(c: Config, layers: int) -> list[bool] | None:
    """What `indexer_types` says, where it is there.

    Raises:
        ConfigError: another length than the layers, or an unknown kind.
    """
    return _full(c.texts("indexer_types", length=layers, allowed=frozenset(_LETTERS.values())))


def listed_or_periodic(c: Config, layers: int, drafts: int) -> list[bool]:
    """`indexer_types`, a pattern of F and S, or every n-th layer.

    Raises:
        ConfigError: another length than the layers, or an unknown kind.
    """
    kinds = listed(c, layers)
    if kinds is not None:
        return kinds
    spelled = c.data.get("index_topk_pattern")
    if c.has("index_topk_pattern") and isinstance(spelled, str):
        if set(spelled) - set(_LETTERS) or len(spelled) not in {layers, layers + drafts}:
            c.refuse("index_topk_pattern", f"must be {layers} letters F or S, got `{spelled[:40]!r}`")
        return [letter == "F" for letter in spelled[:layers]]
    kinds = _full(c.texts("index_topk_pattern", length=layers, allowed=frozenset(_LETTERS.values())))
    if kinds is not None:
        return kinds
    step = max(c.integer("index_topk_freq", default=1, minimum=0), 1)
    offset = c.integer("index_skip_topk_offset", default=2, minimum=0)
    return [max(i - offset + 1, 0) % step == 0 for i in range(layers)]


def _full(kinds: list[str] | None) -> list[bool] | None:
    return None if kinds is None else [kind == "full" for kind in kinds]


def read_index(c: Config) -> Index:
    """The keys of one indexer."""
    return Index(dim=width(c, "index_head_dim", default=128))


@reader
def indexed(c: Config, row: Row, mla: Mla, owners: Owners = listed_or_periodic) -> Decoder:
    """Latents, and an index key cache where a layer owns an indexer."""
    layers, heads = layer_count(c, row), query_heads(c, row)
    layer_types(c, layers, INDEXED)
    drafts, index = draft_count(c), read_index(c)
    owns = owners(c, layers, drafts)
    latent = read_latent(c, row, mla, heads)
    rows = [(latent, index) if each else (latent,) for each in owns]
    return Decoder(layers=rows, heads=heads, drafts=[(latent, index)] * drafts)
