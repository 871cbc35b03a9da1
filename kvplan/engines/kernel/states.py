"""The shape of a recurrent state on one device."""

from kvplan.domain.model import State
from kvplan.units import ceil_div


def state_shape(state: State, tensor_parallel: int = 1) -> tuple[int, ...]:
    """One device's share of a state; a short convolution keeps its last kernel - 1 inputs.

    Source: mamba_ssm `causal_conv1d_update`: the state holds width - 1 columns.
    """
    first = state.shape[0]
    if state.shard and tensor_parallel > 1:
        replicated = max(state.groups, tensor_parallel) if state.groups else 0
        first = ceil_div(first - state.groups * state.group_elements + replicated * state.group_elements, tensor_parallel)
    columns = (state.kernel - 1,) if state.kernel else ()
    return (first, *state.shape[1:], *columns)
