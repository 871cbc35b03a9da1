"""Gated DeltaNet beside full attention: a float32 matrix a value head in most layers, ordinary attention in the rest.

Linear layers also keep the last inputs of one short convolution over queries, keys and values.
Sources: transformers 5.23 `modeling_qwen3_next.py`, `_qwen3_5.py`, `_olmo_hybrid.py` (`GatedDeltaNet`).
"""

from collections.abc import Callable

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Heads, Row, read_heads
from kvplan.architectures.kit.layers import FULL, INDEXED, LINEAR, attention, draft_count, layer_types
from kvplan.architectures.kit.reader import Decoder, reader
from kvplan.domain.model import Memory, Recurrent


def _nothing(_: Config) -> tuple[Memory, ...]:
    return ()


def _nowhere(c: Config, row: Row, kinds: list[str]) -> dict[int, Memory]:
    return {}


@reader
def delta(
    c: Config,
    row: Row,
    linear: Callable[[Config, Row, Heads], Recurrent],
    implied: Callable[[Config, int], list[str]],
    *,
    indexer: Callable[[Config], tuple[Memory, ...]] = _nothing,
    beside: Callable[[Config, Row, list[str]], dict[int, Memory]] = _nowhere,
) -> Decoder:
    """Linear layers and, as `layer_types` or the class says, attention.

    Args:
        c: the config.
        row: key names and class defaults.
        linear: the state of a linear layer.
        implied: the kind of each layer where `layer_types` is absent.
        indexer: what attention layers keep beside their keys and values.
        beside: layer -> what it keeps besides, given the kinds of all.
    """
    heads = read_heads(c, row)
    full: tuple[Memory, ...] = (attention(heads.kv, heads.dim), *indexer(c))
    state = linear(c, row, heads)
    kinds = implied(c, heads.layers)
    kinds = layer_types(c, heads.layers, LINEAR, FULL, INDEXED) or kinds
    rows: list[tuple[Memory, ...]] = [(state,) if kind == LINEAR else full for kind in kinds]
    for layer, memory in beside(c, row, kinds).items():
        rows[layer] = (*rows[layer], memory)
    drafts = draft_count(c, "mtp_num_hidden_layers", "num_nextn_predict_layers", default=row.drafts)
    return Decoder(layers=rows, heads=heads.query, drafts=[full] * drafts)
