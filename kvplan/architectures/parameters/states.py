"""State-space mixers: Mamba and Mamba-2, their sizes taken from the states that the family's reader found."""

from typing import NamedTuple

from kvplan.architectures.parameters.blocks import Tensors, convolution, linear, norm, under, vector
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.domain.model import Recurrent


class Mamba(NamedTuple):
    """How a family writes a state-space mixer. A switch is a constant or the config key that holds it."""

    prefix: str = "mixer"
    conv_bias: bool | str = "use_conv_bias"
    bias: bool | str = "use_bias"
    rank: tuple[str, ...] = ("time_step_rank",)  # Mamba: the width of the time step before its expansion; "auto": hidden / 16
    norms: bool = False  # Jamba: norms of the time step, B and C
    gated_norm: bool | str = True  # Mamba-2: a norm before the output


def mamba(s: Sizes, memory: Recurrent, row: Mamba) -> Tensors:
    """Mamba: one decay for each channel and state."""
    conv, ssm = memory.states
    inner, state, taps = conv.shape[0], ssm.shape[-1], conv.kernel
    rank, bias = time_step_rank(s, row), s.flag(row.bias)
    parts = [
        *vector("A_log", inner, state, role="ssm_a", component="mixer", split="column", dtype="float32"),
        *vector("D", inner, role="ssm_d", component="mixer", split="column", dtype="float32"),
        *convolution("conv1d", inner, 1, taps, component="mixer", bias=s.flag(row.conv_bias), split="column"),
        *linear("in_proj", 2 * inner, s.hidden, "ssm_in", component="mixer", split="column", bias=bias),
        *linear("x_proj", rank + 2 * state, inner, "ssm_x", component="mixer", split="row"),
        *linear("dt_proj", inner, rank, "ssm_dt", component="mixer", split="column", bias=True),
        *linear("out_proj", s.hidden, inner, "ssm_out", component="mixer", split="row", bias=bias),
    ]
    if row.norms:
        parts += [*norm("dt_layernorm", rank), *norm("b_layernorm", state), *norm("c_layernorm", state)]
    yield from under(f"{row.prefix}.", parts, "mixer")


def time_step_rank(s: Sizes, row: Mamba) -> int:
    """The rank of the time step; "auto" or absent means a sixteenth of the hidden size, rounded up."""
    for key in row.rank:
        value = s.c.data.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return s.number(key)
    return -(-s.hidden // 16)


def mamba2(s: Sizes, memory: Recurrent, row: Mamba) -> Tensors:
    """Mamba-2: one decay for each head; B and C pass through the convolution with the inputs."""
    conv, ssm = memory.states
    heads, head_dim = ssm.shape[0], ssm.shape[1]
    inner, channels = heads * head_dim, conv.shape[0]
    bias = s.flag(row.bias)
    parts = [
        *vector("dt_bias", heads, role="ssm_dt", component="mixer", split="column"),
        *vector("A_log", heads, role="ssm_a", component="mixer", split="column"),
        *vector("D", heads, role="ssm_d", component="mixer", split="column"),
        *convolution("conv1d", channels, 1, conv.kernel, component="mixer", bias=s.flag(row.conv_bias), split="column"),
        *linear("in_proj", inner + channels + heads, s.hidden, "ssm_in", component="mixer", split="column", bias=bias),
    ]
    if s.flag(row.gated_norm):
        parts += [*norm("norm", inner)]
    parts += [*linear("out_proj", s.hidden, inner, "ssm_out", component="mixer", split="row", bias=bias)]
    yield from under(f"{row.prefix}.", parts, "mixer")
