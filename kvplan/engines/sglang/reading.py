"""What SGLang knows of a model when it decides on memory: plain values, read by `models`."""

from __future__ import annotations

from msgspec import Struct

from kvplan.domain.model import Cross, Index, Latent, Recurrent, Softmax


class Sparse(Struct, frozen=True, kw_only=True):
    """MiniMax's sparse attention: which layers keep index keys, and which of them keys alone."""

    dim: int
    layers: tuple[int, ...]
    keys_only: tuple[int, ...]


class Tower(Struct, frozen=True, kw_only=True):
    """The vision tower as the memory heuristic sees it."""

    layers: int
    hidden_size: int


class Reading(Struct, frozen=True, kw_only=True):
    """What decides memory in SGLang. Layers are numbered as the engine numbers them."""

    name: str
    architecture: str  # "" when nothing names it
    text_type: str
    hidden_layers: int  # num_hidden_layers: what pipeline stages split
    layers: int  # layers that get a row in a pool
    loops: int  # times that the layers run, each with rows of its own
    heads: Softmax | None  # of a layer that keeps every token
    sliding_heads: Softmax | None  # of a layer with a window, where it has a pool of its own
    sliding: tuple[int, ...]  # those layers
    splits: bool  # whether the class has such pools at all
    sinks: bool  # attention sinks, which not every kernel takes
    latent: Latent | None
    index: Index | None
    index_layers: tuple[int, ...]
    index_kpool: int
    attention: tuple[int, ...] | None  # layers with keys where others have states; None: all
    state: Recurrent | None
    state_layers: tuple[int, ...]
    state_dtype: str  # of the recurrent part
    hidden_size: int
    sparse: Sparse | None
    ratios: tuple[int, ...]  # DeepSeek V4: tokens an entry, by layer; 0: a window alone
    ratio_entries: int  # in the config, which may list layers of a drafter too
    rope_dim: int
    window: int | None  # tokens, as the pools count it
    encoder: Cross | None  # whose tokens have rows in every layer, where a class has an encoder
    context: int  # tokens of the longest request
    derived_context: int  # tokens that the config allows
    dtype: str
    draft_layers: int | None  # num_nextn_predict_layers
    multimodal: bool
    tower: Tower | None
    text_only: bool  # the checkpoint says that it is served as text
    full_window_pattern: bool  # EXAONE: windows by a pattern, which SGLang does not use
    checkpoint_cache: str  # what the checkpoint's quantisation asks of the cache, or ""
    nvfp4_experts: bool  # MiniMax M3: packed experts, which bring another cache
    unknown: str = ""  # why the model cannot be predicted

    @property
    def stateful(self) -> bool:
        """Whether some layers keep a state of one sequence."""
        return bool(self.state_layers)
