"""What a server was told that decides its steps: its options, its groups, and the rules of its release."""

from typing import Final, Literal

from msgspec import Struct

from kvplan.engines.kernel.releases import Quirk, quirk
from kvplan.errors import Refused
from kvplan.units import ceil_div

_S: Final = "vllm/v1/core/sched/scheduler.py"
_T: Final = "vllm/v1/core/single_type_kv_cache_manager.py"

#: The first release whose steps are written down, and the first whose steps are with groups of states.
FIRST: Final = (0, 29)
FIRST_WITH_STATES: Final = (0, 31)

LONE_REQUEST: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_S}:schedule, 0.30.0"),
    ((0, 31), True, f"{_S}:schedule, long_prefill_token_threshold of num_eligible_reqs > 1, 0.31.0"),
    says="a cap on a prompt's chunk is not for a request that is alone",
)
TAIL_BEFORE_END: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_S}:_mamba_block_aligned_split, 0.31.0"),
    ((0, 32), True, "vllm/v1/kv_cache_interface.py:get_mamba_prefill_checkpoint_position, 0.32.0"),
    says="chunks of a state model end one token before a boundary that the prompt ends on, so that the same prompt finds a state",
)
ENTERED_ONCE: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_T}:MambaManager._cache_partial_tail_block, 0.32.0"),
    ((0, 33), True, f"{_T}:MambaManager._cache_partial_tail_block, 0.33.0"),
    says="a boundary of a state that its block is already known by is entered once",
)
GOES_ON: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_S}:schedule, 0.32.0"),
    ((0, 33), True, f"{_S}:schedule, 0.33.0"),
    says="by priority: a running request that displaces itself does not end the round of those that run",
)

GroupKind = Literal["full", "mla", "sliding", "chunked", "mamba"]


class GroupSpec(Struct, frozen=True, kw_only=True):
    """A group of layers that share rows of blocks; sizes in tokens."""

    kind: GroupKind
    block_size: int
    window: int = 0  # sliding
    chunk: int = 0  # chunked
    mode: Literal["none", "align"] = "none"  # mamba
    checkpoint_blocks: int = 0  # mamba: blocks for a state within a chunk of a prompt
    checkpoint_alignment: int | None = None

    @property
    def sees_everything(self) -> bool:
        """Whether its layers look at all tokens, so that no block is ever given back."""
        return self.kind in {"full", "mla"}

    def skipped(self, computed: int) -> int:
        """Tokens at the start that no later token looks at, once `computed` are."""
        match self.kind:
            case "sliding":
                return max(0, computed - self.window + 1)
            case "chunked":
                return computed // self.chunk * self.chunk
            case "mamba":
                return computed - 1
            case _:
                return 0

    def admission_blocks(self, in_flight: int, max_model_len: int) -> int | None:
        """The most blocks that admission counts for one request; None: all of its blocks."""
        if self.kind == "sliding":
            return ceil_div(min(self.window - 1 + in_flight, max_model_len), self.block_size) + 1
        if self.kind == "chunked":
            return ceil_div(min(self.chunk + in_flight, max_model_len), self.block_size)
        return None


class Settings(Struct, frozen=True, kw_only=True):
    """Options by the engine's own names; `num_gpu_blocks` counts the null block."""

    groups: tuple[GroupSpec, ...]
    num_gpu_blocks: int
    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int
    scheduler_block_size: int
    hash_block_size: int
    release: tuple[int, ...]
    max_num_active_seqs: int | None = None
    async_scheduling: bool = False
    enable_chunked_prefill: bool = True
    enable_prefix_caching: bool = True
    long_prefill_token_threshold: int = 0
    long_prefill_token_threshold_adaptive: bool = False
    policy: Literal["fcfs", "priority"] = "fcfs"
    prefix_cache_retention_interval: int | None = 0
    scheduler_reserve_full_isl: bool = True
    watermark: float = 0.0

    @property
    def max_in_flight_tokens(self) -> int:
        """Tokens that are scheduled and not yet settled, at most."""
        return self.max_num_batched_tokens * (2 if self.async_scheduling else 1)

    @property
    def aligned_states(self) -> bool:
        """Whether states are kept at the ends of blocks, so that chunks of prompts end there."""
        return any(group.kind == "mamba" and group.mode == "align" for group in self.groups)

    @property
    def fine_hits(self) -> bool:
        """Whether a hit may end inside a block. Source: `kv_cache_utils.py:partial_hash_hits_enabled`."""
        h = self.hash_block_size
        if not self.enable_prefix_caching or len(self.groups) < 2:
            return False
        if not any(g.kind == "mamba" and g.mode == "align" and g.block_size > h for g in self.groups):
            return False
        return all(g.sees_everything or g.kind == "mamba" or g.block_size == h for g in self.groups)

    @property
    def alignment(self) -> int:
        """Hits are multiples of so many tokens."""
        return self.hash_block_size if self.fine_hits else self.scheduler_block_size


class Host(Struct, frozen=True, kw_only=True):
    """Host memory below the cache: chunks of whole blocks of one group."""

    chunks: int
    blocks_per_chunk: int = 1


def check_release(settings: Settings) -> None:
    """Refuse a release whose steps are not written down.

    Raises:
        Refused: before 0.29, or before 0.31 with states.
    """
    first = FIRST_WITH_STATES if any(spec.kind == "mamba" for spec in settings.groups) else FIRST
    if settings.release < first:
        what = "groups of states" if first == FIRST_WITH_STATES else "any groups"
        raise Refused(f"the steps of vLLM's scheduler are known from {'.'.join(map(str, first))} on with {what}")


def checkpoint_before(tokens: int, unit: int) -> int:
    """The last multiple of `unit` below `tokens`: where a resent prompt goes on, as its last token is computed again."""
    return max((tokens - 1) // unit * unit, 0)


def checkpoint_is_valid(spec: GroupSpec, unit: int, start: int, end: int, at: int) -> bool:
    """Whether a state inside a chunk, at token `at` of `start` to `end`, can be written out.

    Source: `kv_cache_interface.py:is_mamba_prefill_checkpoint_valid`.
    """
    if spec.checkpoint_alignment is None:
        return False
    size = spec.block_size
    return (
        start % unit == 0
        and ceil_div(end, size) - 2 > (start - 1) // size
        and start + unit <= at
        and start < at < end
        and (at - start) % spec.checkpoint_alignment == 0
    )
