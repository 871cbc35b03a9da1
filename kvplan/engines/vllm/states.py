"""States of one sequence as vLLM keeps them: shapes a device, dtypes, and the blocks that a request takes.

Sources: `model_executor/layers/mamba/mamba_utils.py` (`MambaStateShapeCalculator`, `MambaStateDtypeCalculator`),
`model_executor/models/config.py` for models that bring a dtype of their own.
"""

from __future__ import annotations

from math import prod
from typing import Final

from msgspec import Struct

from kvplan.domain.dtypes import item_bytes
from kvplan.domain.model import Model, Recurrent, State
from kvplan.engines.vllm.models import own_state_dtype
from kvplan.engines.vllm.specs import StateSpec
from kvplan.errors import OptionError, Refused

#: Kinds of state that vLLM keeps in float32 whatever the cache dtype is, unless it is told.
_FLOAT32_STATES: Final = {"cuda": frozenset({"kda"}), "cpu": frozenset({"kda", "gated_delta"})}
_SERVED: Final = frozenset({"mamba", "mamba2", "gated_delta", "kda", "linear", "short_conv"})


class Storage(Struct, frozen=True, kw_only=True):
    """How this engine stores what the model's layers keep, resolved from the options and the model."""

    dtype: str  # of the model
    cache: str  # vLLM's cache dtype
    tensor_parallel: int
    conv_dtype: str
    state_dtype: str  # "auto": as the convolution, with the model's own exceptions
    spec_tokens: int  # proposed by a drafter
    states: int  # blocks of states a request, before the checkpoint block
    every_block: bool  # and one for each block of tokens
    checkpoints: frozenset[str]  # kinds with one block more, for the checkpoint at the end of a prompt
    device: str
    nemotron_states: str = "float32"
    expand_latents: bool = False  # before MLA was served as such
    whole_windows: bool = False  # V0
    wider_windows: int = 0  # tokens beside a window's own
    whole_chunks: bool = False  # before chunks had a spec of their own


def state_spec(memory: Recurrent, model: Model, storage: Storage, block_size: int) -> StateSpec:
    """States of one sequence, one after the other in a page. Source: `mamba_utils.py:MambaStateShapeCalculator`."""
    if memory.kind not in _SERVED:
        raise Refused(f"vLLM serves no model with a state of kind `{memory.kind}`")
    shapes = tuple((state_shape(s, storage), state_dtype(s, memory, model, storage)) for s in memory.states)
    return StateSpec(
        content=(memory.kind, *shapes),
        block_size=block_size,
        state_bytes=sum(prod(shape) * item_bytes(dtype) for shape, dtype in shapes),
        every_block=storage.every_block,
        states=storage.states + (1 if memory.kind in storage.checkpoints else 0),
    )


def state_shape(state: State, storage: Storage) -> tuple[int, ...]:
    """One device's share of a state; a convolution keeps a column for each proposed token besides.

    Raises:
        OptionError: tensor parallelism does not divide it.
    """
    tp, first = storage.tensor_parallel, state.shape[0]
    if state.shard and tp > 1:
        if state.groups and state.groups % tp:
            first += (tp - state.groups) * state.group_elements
        if first % tp:
            raise OptionError(
                f"tensor_parallel {tp} does not divide the {first} rows of state `{state.name[:40]}`",
                option="tensor_parallel_size",
            )
        first //= tp
    columns = (state.kernel - 1 + storage.spec_tokens,) if state.kernel else ()
    return (*columns, first, *state.shape[1:])


def state_dtype(state: State, memory: Recurrent, model: Model, storage: Storage) -> str:
    """A state's dtype: the flags', the model's own, or the convolution's. Source: `models/config.py`, `mamba_utils.py`."""
    if state.kernel:
        return storage.conv_dtype
    if storage.state_dtype != "auto":
        return storage.state_dtype
    own = own_state_dtype(model, memory, storage.nemotron_states)
    if own:
        return own
    return "float32" if memory.kind in _FLOAT32_STATES[storage.device] else storage.conv_dtype
