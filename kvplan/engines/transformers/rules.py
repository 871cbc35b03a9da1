"""What decides the storage of one model in one release of `transformers`, gathered before any tensor is counted."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from kvplan.domain.model import Recurrent, State
from kvplan.engines.kernel.tensors import Count

#: What becomes of a layer's window: dropped; one token less is kept; kept in full; applied to every layer; kept in full
#: by the attention module itself.
Windows = Literal["ignored", "less_one", "kept", "everywhere", "on_modules"]
#: Whose first tensor is a view of a projection's output: nobody's, the values', or keys' and values' alike.
Fused = Literal["", "values", "both"]


class Rules(Struct, frozen=True, kw_only=True):
    """Flags that the tensors are built by; every one has its row and source in `transformers_versions`."""

    dtype: str  # of keys, values and model-dtype states
    key_dtype: str  # of keys, where rotary tables left them in another
    gate_dtype: str = ""  # of the gates that a compressor keeps of its last group; the model's when empty
    preallocated: bool = False
    windows: Windows = "less_one"
    every_window: int | None = None  # tokens; for `everywhere`
    window_unclipped: bool = False  # a window longer than the cache is allocated in full
    fused: Fused = ""
    first_view_of_one: bool = False  # … only for a batch of one
    fixed_len: int | None = None  # tokens: max_cache_len as given
    extra_len: int = 0  # tokens beyond those used, when it is not given
    latent: bool = True  # MLA: the latent itself, not every head's keys and values
    cross_slides: bool = False
    index_name: str = "indexer_keys"
    reference_window: int | None = None  # tokens (Unlimited-OCR)
    state_names: tuple[str, ...] = ()  # in the order of the states, where they are not the cache's own
    state_in_model_dtype: bool = False
    conv_columns_less: int = 0
    conv_is_view: bool = False
    one_is_a_step: bool = False  # a prompt of one token goes the way of a decode step

    def max_cache_len(self, seq_len: Count) -> Count:
        """Tokens that a preallocated layer has room for."""
        if self.fixed_len is None:
            return seq_len + self.extra_len
        return seq_len * 0 + self.fixed_len

    def conv_columns(self, state: State) -> int:
        """Columns kept of a short convolution: as many as it has taps."""
        return state.kernel - self.conv_columns_less if state.kernel else 0

    def state_shape(self, state: State) -> tuple[int, ...]:
        """One sequence's state as it is kept."""
        return (*state.shape, self.conv_columns(state)) if state.kernel else state.shape

    def state_dtype(self, state: State) -> str:
        """A state's own dtype, or the model's."""
        if state.dtype is None or (self.state_in_model_dtype and not state.kernel):
            return self.dtype
        return state.dtype

    def named_states(self, memory: Recurrent) -> list[tuple[str, State]]:
        """A layer's states under the library's names: convolutions and recurrences are counted apart."""
        if len(self.state_names) == len(memory.states):
            return list(zip(self.state_names, memory.states, strict=True))
        named: list[tuple[str, State]] = []
        for state in memory.states:
            kind = "conv_states" if state.kernel or state.name.startswith("conv") else "recurrent_states"
            named.append((f"{kind}.{sum(name.startswith(kind) for name, _ in named)}", state))
        return named
