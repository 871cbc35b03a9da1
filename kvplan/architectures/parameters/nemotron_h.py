"""Nemotron-H: one mixer a layer: Mamba-2, attention, a feed-forward layer without a gate, or experts of that kind.

Source: transformers 5.23 `modeling_nemotron_h.py` (`MIXER_TYPES`); the experts of Nemotron 3 Super work in a narrower latent.
"""

from typing import Final

from kvplan.architectures.families.nemotron import draft_kinds, layer_kinds
from kvplan.architectures.parameters.attention import Attention, attention
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, over_layers, table, under, vector
from kvplan.architectures.parameters.decoder import Names, Row, head
from kvplan.architectures.parameters.mlp import Mlp, feed_forward
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.architectures.parameters.states import Mamba, mamba2
from kvplan.domain.model import Memory, Recurrent, Softmax

ROWS: Final[dict[str, Row]] = {"nemotron_h": Row(names=Names(root="backbone.", embed="embeddings", final="norm_f"))}
_UNGATED: Final = Mlp(prefix="", names=("up_proj", "down_proj"))


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors, prediction layers at the end."""
    row = ROWS["nemotron_h"]
    prefix = row.names.root if root is None else root
    yield from table(f"{prefix}embeddings", s.number("vocab_size"), s.hidden)
    main, predicted = layer_kinds(s.c), draft_kinds(s.c)
    layers = [(kind, s.memories[index]) for index, kind in enumerate(main)]
    yield from over_layers(f"{prefix}layers", layers, lambda layer: _layer(s, *layer))
    yield from norm(f"{prefix}norm_f", s.hidden)
    if not s.tied():
        yield from head(s, row)
    if s.drafts:
        drafts = [(kind, s.drafts[index]) for index, kind in enumerate(predicted * (len(s.drafts) // len(predicted)))]
        yield from under("", over_layers("mtp.layers", drafts, lambda layer: _draft(s, *layer, len(predicted))), "draft")
        yield from under("mtp.layers.", _ends(s, len(predicted)), "draft")


def _layer(s: Sizes, kind: str, memories: tuple[Memory, ...]) -> Tensors:
    yield from norm("norm", s.hidden)
    yield from _mixer(s, kind, memories)


def _mixer(s: Sizes, kind: str, memories: tuple[Memory, ...]) -> Tensors:
    if kind == "moe":
        yield from under("mixer.", _experts(s))
        return
    if kind == "mlp":
        width = s.number("intermediate_size")
        yield from under("mixer.", feed_forward(s.hidden, width, _UNGATED, bias=s.c.flag("mlp_bias")), "mlp")
        return
    for memory in memories:
        if isinstance(memory, Recurrent):
            yield from mamba2(s, memory, Mamba(conv_bias="use_conv_bias", bias="mamba_proj_bias"))
        elif isinstance(memory, Softmax):
            yield from attention(s, Attention(prefix="mixer", qkv_bias="attention_bias", o_bias="attention_bias"), memory)


def _experts(s: Sizes) -> Tensors:
    number, latent, bias = s.number("n_routed_experts"), s.maybe("moe_latent_size"), s.c.flag("mlp_bias")
    routed = feed_forward(latent or s.hidden, s.number("moe_intermediate_size"), _UNGATED, component="experts", experts=number)
    yield from under("experts.{expert}.", routed)
    yield from linear("gate", number, s.hidden, "router", component="experts", quantised=False)
    correction = "gate.e_score_correction_bias"
    yield from vector(correction, number, role="router", component="experts", dtype="float32", buffer=True)
    wide = s.number("moe_shared_expert_intermediate_size")
    yield from under("shared_experts.", feed_forward(s.hidden, wide, _UNGATED, bias=bias), "mlp")
    if latent:
        yield from linear("fc1_latent_proj", latent, s.hidden, "other", component="experts", bias=bias)
        yield from linear("fc2_latent_proj", s.hidden, latent, "other", component="experts", bias=bias)


def _draft(s: Sizes, kind: str, memories: tuple[Memory, ...], layers: int) -> Tensors:
    yield from _layer(s, kind, memories)


def _ends(s: Sizes, layers: int) -> Tensors:
    """The first prediction layer joins both inputs, the last norms its output."""
    yield from norm("0.enorm", s.hidden)
    yield from norm("0.hnorm", s.hidden)
    yield from linear("0.eh_proj", s.hidden, 2 * s.hidden, "other", component="draft")
    yield from norm(f"{layers - 1}.final_layernorm", s.hidden)
