"""Multi-token-prediction layers, which checkpoints store and only speculative decoding loads."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec.structs import replace

from kvplan.architectures.parameters.blocks import Tensors, linear, norm, table, under
from kvplan.architectures.parameters.decoder import Kind, Row, layer, layer_kind
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.domain.parameters import Parameter


class Draft(NamedTuple):
    """How a family stores a prediction layer: DeepSeek V3's form and where it differs."""

    embed: bool = False  # the checkpoint repeats the embedding table in it
    head: bool = False  # and the head
    dense: bool = False  # its feed-forward layer is dense in a model of experts
    final: bool = True  # a norm after the layer


_REPEATED: Final = Draft(embed=True, head=True)
#: Model type of the text part -> the form of its prediction layers. Read from the published tensor counts of the checkpoints
#: (DeepSeek-V3, GLM-4.5, GLM-5, Hy3, MiMo-7B, EXAONE-4.5, ERNIE-4.5: each to the element).
DRAFTS: Final[dict[str, Draft]] = {
    **dict.fromkeys(("deepseek_v3", "deepseek_v32", "kimi_k2", "glm4_moe", "glm4_moe_lite", "glm4v_moe_text"), _REPEATED),
    **dict.fromkeys(
        ("glm_moe_dsa", "hy_v3", "mimo", "exaone4_5_text", "exaone_moe", "bailing_hybrid", "glm5_next_text", "axk1"), Draft()
    ),
    "ernie4_5_moe": Draft(dense=True, final=False),
    "mimo_v2_flash": Draft(dense=True),
}


def with_drafts(s: Sizes, row: Row, tensors: Iterable[Parameter], root: str | None = None) -> Tensors:
    """The model's tensors and then its prediction layers: layers after the last, each with two norms, a projection of both
    inputs and a layer of the model's last kind."""
    yield from tensors
    form = DRAFTS.get(s.model_type)
    number = len(s.drafts)
    if form is None or not number:
        return
    prefix = row.names.root if root is None else root
    numbers = tuple(range(s.layers, s.layers + number))
    kind = layer_kind(s, row, s.layers - 1)
    if form.dense:
        kind = kind._replace(sparse=False)
    for tensor in draft(s, form, kind):
        yield replace(tensor, name=f"{prefix}{row.names.layers}.{{layer}}.{tensor.name}", component="draft", layers=numbers)


def draft(s: Sizes, form: Draft, kind: Kind) -> Tensors:
    """One prediction layer."""
    if form.embed:
        yield from table("embed_tokens", s.number("vocab_size"), s.hidden)
    yield from norm("enorm", s.hidden)
    yield from norm("hnorm", s.hidden)
    yield from linear("eh_proj", s.hidden, 2 * s.hidden, "other", component="draft", quantised=False)
    yield from layer(s, kind)
    if form.final:
        yield from norm("shared_head.norm", s.hidden)
    if form.head:
        head = linear("head", s.number("vocab_size"), s.hidden, "head", component="draft", split="vocab")
        yield from under("shared_head.", head)
