"""State-space models and their hybrids: Mamba, Falcon-Mamba, Mamba-2, Jamba, Bamba, Granite 4 H, Falcon-H1, PLaMo 2.

Sources: transformers 5.23 `modeling_*.py` of each (`MambaMixer`, `Mamba2Mixer`); PLaMo 2: the checkpoint's own code.
"""

from typing import Final

from kvplan.architectures.parameters.blocks import Tensors, convolution, linear, norm, under, vector
from kvplan.architectures.parameters.decoder import Names, Row, decoder
from kvplan.architectures.parameters.dense import BIASED
from kvplan.architectures.parameters.mlp import Experts, Mlp
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.architectures.parameters.sparse import GRANITE_MOE, granite_shared
from kvplan.architectures.parameters.states import Mamba, mamba, mamba2
from kvplan.domain.model import Recurrent

_BACKBONE: Final = Names(root="backbone.", embed="embeddings", final="norm_f")
_NAMED: Final = Mamba(prefix="mamba", conv_bias="mamba_conv_bias", bias="mamba_proj_bias", rank=("mamba_dt_rank",))
_PRE_FF: Final = ("input_layernorm", "pre_ff_layernorm")
_FEED_FORWARD: Final = Mlp(prefix="feed_forward")


def _jamba(s: Sizes, layer: int) -> bool:
    """Dense where the layer's number is not that of its period's expert layer, or has one expert."""
    period, offset = s.number("expert_layer_period"), s.number("expert_layer_offset")
    return layer % period != offset or s.number("num_experts") <= 1


def _granite(s: Sizes, row: Row, layer: int) -> Row:
    """Granite 4: without experts only the shared feed-forward layer is left."""
    return row if s.maybe("num_local_experts") else row._replace(experts=None, mlp=None)


def _plamo2(s: Sizes, memory: Recurrent) -> Tensors:
    """PLaMo 2's Mamba: B, C and the time step come from the convolved inputs, each with a norm."""
    conv, ssm = memory.states
    heads, inner, state = ssm.shape[0], conv.shape[0], ssm.shape[-1]
    rank = max(64, s.hidden // 16)
    parts = [
        *linear("in_proj", 2 * inner, s.hidden, "ssm_in", component="mixer", split="column"),
        *convolution("conv1d", inner, 1, conv.kernel, component="mixer", split="column"),
        *linear("bcdt_proj", rank + 2 * state, inner, "ssm_x", component="mixer", split="row"),
        *linear("dt_proj", heads, rank, "ssm_dt", component="mixer", split="column"),
        *vector("dt_bias", heads, role="ssm_dt", component="mixer", split="column", dtype="float32"),
        *vector("A_log", heads, role="ssm_a", component="mixer", split="column", dtype="float32"),
        *vector("D", heads, role="ssm_d", component="mixer", split="column", dtype="float32"),
        *norm("dt_norm_weight", rank), *norm("B_norm_weight", state), *norm("C_norm_weight", state),
        *linear("out_proj", s.hidden, inner, "ssm_out", component="mixer", split="row"),
    ]  # fmt: skip
    yield from under("mixer.", parts, "mixer")


ROWS: Final[dict[str, Row]] = {
    **dict.fromkeys(
        ("mamba", "falcon_mamba"),
        Row(
            mlp=None, norms=("norm",), order=("norms", "mixer"), names=_BACKBONE, tied=True,
            recurrent=lambda s, memory: mamba(s, memory, Mamba()),
        ),
    ),
    "mamba2": Row(
        mlp=None, norms=("norm",), order=("norms", "mixer"), names=_BACKBONE,
        recurrent=lambda s, memory: mamba2(s, memory, Mamba()),
    ),
    "jamba": Row(
        experts=Experts(
            prefix="feed_forward", number=("num_experts",), width=("intermediate_size",), router="router", dense=_jamba,
            mlp=_FEED_FORWARD,
        ),
        norms=_PRE_FF, names=Names(final="final_layernorm"),
        recurrent=lambda s, memory: mamba(s, memory, _NAMED._replace(norms=True)),
    ),
    "bamba": Row(
        attention=BIASED, mlp=_FEED_FORWARD._replace(bias="mlp_bias"), norms=_PRE_FF, names=Names(final="final_layernorm"),
        order=("mlp", "norms", "mixer"), recurrent=lambda s, memory: mamba2(s, memory, _NAMED),
    ),
    "falcon_h1": Row(
        attention=BIASED._replace(k_bias="attention_bias"), mlp=_FEED_FORWARD._replace(bias="mlp_bias"), norms=_PRE_FF,
        names=Names(final="final_layernorm"), order=("mlp", "mixer", "norms"),
        recurrent=lambda s, memory: mamba2(s, memory, _NAMED._replace(gated_norm="mamba_rms_norm")),
    ),
    "granitemoehybrid": Row(
        attention=BIASED, experts=GRANITE_MOE, order=("norms", "mlp", "more", "mixer"), more=granite_shared, vary=_granite,
        recurrent=lambda s, memory: mamba2(s, memory, _NAMED),
    ),
    "plamo2": Row(
        attention=BIASED._replace(prefix="mixer", fused="qkv_proj", qkv_bias=False, o_bias=False),
        mlp=Mlp(fused="gate_up_proj", names=("down_proj",)),
        norms=("pre_mixer_norm", "post_mixer_norm", "pre_mlp_norm", "post_mlp_norm"), names=Names(layers="layers.layers"),
        tied=True, recurrent=_plamo2,
    ),
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors."""
    return decoder(s, ROWS[s.model_type], root)
