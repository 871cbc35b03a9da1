"""Multi-token-prediction layers, which checkpoints store and only speculative decoding loads."""

from collections.abc import Iterable

from msgspec.structs import replace

from kvplan.architectures.parameters.blocks import Tensors, linear, norm, table, under
from kvplan.architectures.parameters.decoder import Kind, Row, layer, layer_kind
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.domain.parameters import Parameter


def with_drafts(s: Sizes, row: Row, tensors: Iterable[Parameter], root: str | None = None, *, tables: bool = True) -> Tensors:
    """The model's tensors and then its prediction layers, as DeepSeek V3 stores them: layers after the last, each with two
    norms, a projection of both inputs, a layer of the model's last kind, and copies of embedding and head."""
    yield from tensors
    if not s.drafts:
        return
    prefix = row.names.root if root is None else root
    numbers = tuple(range(s.layers, s.layers + len(s.drafts)))
    for tensor in deepseek_draft(s, row, layer_kind(s, row, s.layers - 1), tables=tables):
        yield replace(tensor, name=f"{prefix}{row.names.layers}.{{layer}}.{tensor.name}", component="draft", layers=numbers)


def deepseek_draft(s: Sizes, row: Row, kind: Kind, *, tables: bool = True) -> Tensors:
    """One prediction layer; `tables`: the checkpoint repeats embedding and head in it."""
    if tables:
        yield from table("embed_tokens", s.number("vocab_size"), s.hidden)
    yield from norm("enorm", s.hidden)
    yield from norm("hnorm", s.hidden)
    yield from linear("eh_proj", s.hidden, 2 * s.hidden, "other", component="draft")
    yield from layer(s, kind)
    yield from norm("shared_head.norm", s.hidden)
    if tables:
        yield from under(
            "shared_head.", linear("head", s.number("vocab_size"), s.hidden, "head", component="draft", split="vocab")
        )
