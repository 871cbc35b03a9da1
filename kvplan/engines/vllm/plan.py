"""From a model and flags to what vLLM settles before it looks at memory: block sizes, groups, bytes of a block.

The steps are those of the engine core: resolve the flags, choose the block size (`platforms/interface.py`), let every layer
register its spec, align attention pages with states, group the layers (`kv_cache_utils.py`), and cut the groups for
pipeline stages.
"""

from __future__ import annotations

from collections import deque
from math import lcm
from operator import attrgetter
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.dtypes import item_bytes, lookup
from kvplan.domain.latest import latest
from kvplan.domain.model import Chunk, Cross, Index, Latent, Model, Softmax
from kvplan.engines.kernel.releases import Release
from kvplan.engines.kernel.tensors import Count
from kvplan.engines.vllm import dtypes as dt
from kvplan.engines.vllm.groups import CacheGroup, Rules, block_bytes, cache_groups, on_stage
from kvplan.engines.vllm.layers import (
    compressed,
    draft_caches,
    has_states,
    layer_caches,
    sparse_mla,
)
from kvplan.engines.vllm.models import (
    item_tokens,
    state_chunk,
)
from kvplan.engines.vllm.options import VllmOptions
from kvplan.engines.vllm.releases import (
    ALIGNED_TO_GIVEN,
    ALL_STATES_DRAFTED,
    BALANCED_GROUPS,
    CHUNKS,
    HOPPER_MLA_BLOCK,
    HYBRID_GROUPS,
    IN_FLIGHT_BATCHES,
    LATENT_BESIDE_STATES,
    LATENT_EXPANDED,
    NEMOTRON_STATES,
    PACKED_LAYOUTS,
    STATE_MODES,
    TUPLES,
    UNIFIED_PAGES,
    V0,
    WIDER_WINDOWS,
)
from kvplan.engines.vllm.resolved import StateMode, exported, model_dtype, model_length, resolved_cache_dtype, state_mode
from kvplan.engines.vllm.specs import ChunkedSpec, FullSpec, Held, Rows, Scheduling, SlidingSpec, StateSpec
from kvplan.engines.vllm.stages import stage_layers
from kvplan.engines.vllm.states import Storage
from kvplan.units import ceil_div

#: Drafting methods whose layers are EAGLE's to the planner. Source: config/speculative.py:use_eagle.
_DRAFTING_LAYERS: Final = frozenset({"eagle", "eagle3", "mtp", "dflash"})
_STATES: Final = {"none": 1, "align": 2, "all": 0}  # blocks of states a request, tokens aside
_FLASHINFER_DELTA: Final = 64  # tokens: FlashInfer exports states of a gated delta rule at multiples of them


class Layout(Struct, frozen=True, kw_only=True):
    """What lies in the pool: it depends neither on how many requests run at once, nor on what one step takes, nor on how large
    the card is (`_BESIDE`).

    `stages` are each pipeline stage's parts of `groups`, `block_bytes` the bytes of one block of the pool there.
    """

    rules: Rules
    model_dtype: str
    cache_dtype: str
    block_size: int  # after alignment
    state_block_size: int | None
    caches: tuple[Held, ...]
    groups: tuple[CacheGroup, ...]
    stages: tuple[tuple[CacheGroup, ...], ...]
    stage_layers: tuple[range, ...]
    block_bytes: tuple[int, ...]


class Plan(Layout, frozen=True, kw_only=True):
    """What is settled before memory is profiled."""

    options: VllmOptions
    version: Release
    scheduling: Scheduling
    max_model_len: int

    def group_blocks(self, tokens: Count) -> tuple[Count, ...]:
        """Blocks of each group that a request of `tokens` tokens may hold."""
        return tuple(group.spec.blocks(tokens, self.scheduling) for group in self.groups)

    def blocks(self, tokens: Count) -> Count:
        """Blocks of all groups together."""
        return sum(self.group_blocks(tokens), start=tokens * 0)


def make_plan(model: Model, options: VllmOptions, version: Release) -> Plan:
    """Settle everything.

    Raises:
        Refused: vLLM cannot serve the model so.
        OptionError: flags that do not fit the model.
    """
    length = model_length(model, options)
    batch = options.batch(version, length, item_tokens(model.model_type))
    batches = options.batches_in_flight(version) if IN_FLIGHT_BATCHES.at(version) else 1
    layout = _layout(model, options, version, length)
    return Plan(
        **{name: getattr(layout, name) for name in Layout.__struct_fields__},
        options=options,
        version=version,
        scheduling=Scheduling(
            in_flight_tokens=batch.tokens * batches,
            batch_tokens=batch.tokens,
            max_num_seqs=batch.seqs,
            context_parallel=options.decode_context_parallel_size,
        ),
        max_model_len=length,
    )


#: A search asks for one layout again and again, with other lengths and numbers of requests: so many are kept of a model.
_KEPT: Final = 16


#: Options that a layout does not depend on.
_BESIDE: Final = (
    "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override",
    "device_name", "device_memory_bytes",
)  # fmt: skip
_UNTOLD: Final = {name: getattr(VllmOptions(), name) for name in _BESIDE}
_DECIDING: Final = attrgetter(
    *(name for name in VllmOptions.__struct_fields__ if name not in {*_BESIDE, "max_model_len", "draft"})
)


@latest(4, by_identity=True)
def _kept(model: Model) -> deque[tuple[tuple[object, ...], Model | None, Layout]]:
    """The latest layouts of a model, by what decides them; a drafter stands apart, as models are equal whose configs are not."""
    return deque(maxlen=_KEPT)


def _layout(model: Model, options: VllmOptions, version: Release, length: int) -> Layout:
    known = _kept(model)
    states = length if has_states(model) else None  # no other memory is as long as a request may be
    deciding = (version, states, *_DECIDING(options))
    for decided, draft, layout in tuple(known):  # another thread may append
        if draft is options.draft and decided == deciding:
            return layout
    layout = _laid_out(model, replace(options, max_model_len=states, **_UNTOLD), version)
    known.append((deciding, options.draft, layout))
    return layout


def _laid_out(model: Model, options: VllmOptions, version: Release) -> Layout:
    length = model_length(model, options)
    mode = state_mode(model, options, version)
    storage = _storage(model, options, version, mode)
    caches, block_size = _caches(model, options, storage, version)
    state_size: int | None = None
    if has_states(model):
        state_size = length if mode == "none" else block_size
        caches = tuple(_state_sized(held, state_size) for held in caches)
    rules = Rules(
        hybrid_manager=_groups_apart(model, options, version),
        block_outermost=(options.block_outermost and PACKED_LAYOUTS.at(version)) or compressed(model),
        balance=BALANCED_GROUPS.at(version),
        tuples=TUPLES.at(version) if compressed(model) else "",
        unified_pages=UNIFIED_PAGES.at(version),
    )
    groups = cache_groups(caches, rules)
    layers = _stages(model, options)
    stages = tuple(on_stage(groups, own) for own in layers)
    return Layout(
        rules=rules,
        model_dtype=storage.dtype,
        cache_dtype=storage.cache,
        block_size=block_size,
        state_block_size=state_size,
        caches=caches,
        groups=groups,
        stages=stages,
        stage_layers=layers,
        block_bytes=tuple(block_bytes(stage, rules) for stage in stages),
    )


def _state_sized(held: Held, size: int) -> Held:
    return replace(held, spec=held.spec.with_block_size(size)) if isinstance(held.spec, StateSpec) else held


def _storage(model: Model, options: VllmOptions, version: Release, mode: StateMode) -> Storage:
    dtype = model_dtype(model, options)
    spec_tokens = options.speculative.num_speculative_tokens
    conv = dtype if options.mamba_cache_dtype == "auto" else lookup(options.mamba_cache_dtype, what="mamba_cache_dtype").name
    state = options.mamba_ssm_cache_dtype
    drafted = ALL_STATES_DRAFTED if mode == "all" else STATE_MODES
    return Storage(
        dtype=dtype,
        cache=resolved_cache_dtype(model, options, version),
        tensor_parallel=options.tensor_parallel_size,
        conv_dtype=conv,
        state_dtype=state if state == "auto" else lookup(state, what="mamba_ssm_cache_dtype").name,
        spec_tokens=spec_tokens,
        states=_STATES[mode] + (spec_tokens if drafted.at(version) else 0),
        every_block=mode == "all",
        nemotron_states=NEMOTRON_STATES.at(version),
        checkpoints=exported(model, options, version, mode),
        device=options.device,
        expand_latents=LATENT_EXPANDED.at(version),
        whole_windows=V0.at(version),
        whole_chunks=CHUNKS.at(version) == "full",
        wider_windows=WIDER_WINDOWS.at(model.text_type, version),
    )


def _caches(model: Model, options: VllmOptions, storage: Storage, version: Release) -> tuple[tuple[Held, ...], int]:
    """Every cache, the drafter's last, and the block size after alignment."""
    kernels = _kernel_blocks(model, options, storage, version)
    default = dt.DEFAULT_BLOCK[options.device]
    size = options.block_size or dt.preferred_block(default, kernels)

    def build(block_size: int) -> tuple[Held, ...]:
        drafts = draft_caches(model, options.draft, options.speculative.method, storage, block_size)
        return layer_caches(model, storage, block_size) + drafts

    caches = build(size)
    attention = next((h.spec for h in caches if isinstance(h.spec, FullSpec | SlidingSpec | ChunkedSpec) and not h.draft), None)
    state_page = max((h.spec.content_bytes for h in caches if isinstance(h.spec, StateSpec)), default=0)
    if attention is not None and state_page:
        step = state_chunk(model) if storage.every_block else _FLASHINFER_DELTA if "gated_delta" in storage.checkpoints else 1
        least = max(*kernels, size) if ALIGNED_TO_GIVEN.at(version) else max(kernels)
        if attention.latent:
            least = max(least, LATENT_BESIDE_STATES.at(version))
        size = _aligned_block(size, attention, state_page, kernels, lcm(least, step))
        page = size * attention.entry_bytes
        caches = tuple(_padded_state(held, page) for held in build(size))
    elif storage.cache.startswith("turboquant"):
        size = _mixed_block(size, storage)
        caches = build(size)
    return caches, size


def _padded_state(held: Held, page: int) -> Held:
    spec = held.spec
    return replace(held, spec=spec.padded(page)) if isinstance(spec, StateSpec) and spec.content_bytes < page else held


def _groups_apart(model: Model, options: VllmOptions, version: Release) -> bool:
    """Whether layers that see a part have groups of their own: the hybrid manager. Source: `config/vllm.py`."""
    reaches = {type(getattr(memory, "reach", None)) for memories in model.collapsed() for memory in memories}
    drafting = options.speculative.method in _DRAFTING_LAYERS
    allowed = options.allow_chunked_local_attn_with_hybrid_kv_cache
    unified = Chunk in reaches and (drafting or not (CHUNKS.at(version) != "unified" if allowed is None else allowed))
    return HYBRID_GROUPS.at(version) and not options.one_group(version) and not unified


def _aligned_block(size: int, attention: Rows, state_page: int, kernels: list[int], least: int) -> int:
    """The attention block whose page is at least as large as a state, in multiples of `least` tokens.

    Source: `platforms/interface.py:_align_hybrid_block_size`.
    """
    wanted = least * ceil_div(state_page, least * attention.entry_bytes)
    step = lcm(*kernels)
    return max(size, ceil_div(wanted, step) * step)


def _mixed_block(size: int, storage: Storage) -> int:
    """Longer blocks where quantised layers share the pool with plain ones: by the ratio of their element sizes.

    Source: `platforms/interface.py:_align_heterogeneous_kv_block_size`.
    """
    return size * item_bytes(storage.dtype)


def _kernel_blocks(model: Model, options: VllmOptions, storage: Storage, version: Release) -> list[int]:
    """The smallest block of each attention backend that the model's layers get, states aside."""
    memories = {memory for group in model.collapsed() for memory in group}
    if compressed(model):
        return [dt.COMPRESSED_BLOCK]
    found: set[int] = set()
    if any(isinstance(memory, Latent) for memory in memories):
        sparse = any(isinstance(memory, Index) for memory in memories)
        mla = dt.mla_kernel_block(storage.cache, options.compute_capability, HOPPER_MLA_BLOCK.at(version))
        found.add(dt.SPARSE_MLA_BLOCK if sparse else mla)
    heads = [max(m.key_dim, m.value_dim) for m in memories if isinstance(m, Softmax | Cross)]
    if heads:
        sparse = any(isinstance(memory, Index) for memory in memories) and not sparse_mla(model)
        plain = dt.softmax_kernel_block(max(heads), storage.cache, options.compute_capability)
        found |= {dt.SPARSE_SOFTMAX_BLOCK, plain} if sparse else {plain}
    return sorted(found) or [dt.SMALLEST_BLOCK]


def _stages(model: Model, options: VllmOptions) -> tuple[range, ...]:
    """The layers of each pipeline stage; those of drafts, which are numbered behind the model's, are the last one's."""
    found = stage_layers(len(model.layers), options.pipeline_parallel_size, options.stage_sizes or ())
    return (*found[:-1], range(found[-1].start, 2**40))
