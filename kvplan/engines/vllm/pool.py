"""From available memory to blocks, tokens and concurrency, and the lines that vLLM prints.

Source: `vllm/v1/core/kv_cache_utils.py`: `get_kv_cache_configs`, `_check_enough_kv_cache_memory`,
`_estimate_max_model_len_from_groups`, `get_max_concurrency_for_kv_cache_config`, `get_kv_cache_capacity`.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from kvplan.engines.vllm.groups import block_bytes, tuple_bytes
from kvplan.engines.vllm.plan import Plan
from kvplan.engines.vllm.releases import (
    CONCURRENCY_BY_GROUPS,
    CPU_WORDS,
    FIT_BY_FIRST_GROUP,
    FIT_BY_GROUPS,
    FIT_WHOLE_MODEL,
    GIB_TRIMMED,
    NULL_BLOCK_ASIDE,
    ONE_LOG_LINE,
    REFUSAL_WORDS,
    STATES_CHECKED,
    TOKENS_FROM_CONCURRENCY,
    V0,
)
from kvplan.engines.vllm.specs import StateSpec
from kvplan.units import GIB, ceil_div


class Reserved(Struct, frozen=True, kw_only=True):
    """What vLLM makes of a memory budget: `refused` holds its words when it does not start."""

    num_blocks: int
    num_tokens: int
    concurrency: float
    max_model_len: int
    lines: tuple[str, ...]
    num_cpu_blocks: int = 0  # V0
    refused: str = ""
    estimated_max_model_len: int | None = None


def reserve(plan: Plan, budgets: tuple[int, ...]) -> Reserved:
    """The pool of `budgets` bytes on each pipeline stage; one budget stands for all."""
    if plan.scheduling.batch_tokens < plan.scheduling.max_num_seqs:
        return _refused_step(plan)
    if not plan.groups:
        return Reserved(num_blocks=1, num_tokens=0, concurrency=0.0, max_model_len=plan.max_model_len, lines=())
    if V0.at(plan.version):
        return _reserve_v0(plan, budgets)
    sizes = plan.block_bytes
    budgets = budgets * len(sizes) if len(budgets) == 1 else budgets
    whole = FIT_BY_GROUPS.at(plan.version) and FIT_WHOLE_MODEL.at(plan.version)
    tested = (min(budgets),) * len(budgets) if whole else budgets
    lines: list[str] = []
    length = plan.max_model_len
    if plan.options.max_model_len == -1:
        length = min(_longest(plan, stage, budget, length) for stage, budget in enumerate(tested))
        lines.append(_auto_fit_line(plan, length, min(_usable(plan, stage, budget) for stage, budget in enumerate(tested))))
    for stage, budget in enumerate(tested):
        if not sizes[stage]:
            continue
        need, usable = needed_bytes(plan, stage, length), _usable(plan, stage, budget)
        if need > usable:
            return _refused(plan, stage, budget, length, need, usable)
    blocks = min(budget // size for budget, size in zip(budgets, sizes, strict=True) if size)
    blocks = plan.options.num_gpu_blocks_override if plan.options.num_gpu_blocks_override is not None else max(blocks, 0)
    if _too_few_states(plan, blocks):
        return _refused_states(plan, blocks, length)
    concurrency = _concurrency(plan, blocks, length)
    tokens = _tokens(plan, blocks, concurrency, length)
    return Reserved(
        num_blocks=blocks,
        num_tokens=tokens,
        concurrency=concurrency,
        max_model_len=length,
        lines=(*lines, *_size_lines(plan, tokens, concurrency, length)),
    )


def _refused_step(plan: Plan) -> Reserved:
    """A step gives every running request a token: no more of them than tokens. Source: `config/scheduler.py`."""
    words = (
        f"max_num_batched_tokens ({plan.scheduling.batch_tokens}) must be greater than or equal to max_num_seqs "
        f"({plan.scheduling.max_num_seqs})."
    )
    return Reserved(num_blocks=0, num_tokens=0, concurrency=0.0, max_model_len=plan.max_model_len, lines=(), refused=words)


def _too_few_states(plan: Plan, blocks: int) -> bool:
    """Whether a captured decode step of `max_num_seqs` requests would have no state for some of them."""
    options = plan.options
    captured = (
        options.device != "cpu" and not options.enforce_eager and options.cudagraph_mode.upper() not in {"NONE", "PIECEWISE"}
    )
    stateful = any(isinstance(group.spec, StateSpec) for group in plan.groups)
    return STATES_CHECKED.at(plan.version) and captured and stateful and plan.scheduling.max_num_seqs > blocks


def _refused_states(plan: Plan, blocks: int, length: int) -> Reserved:
    words = (
        f"max_num_seqs ({plan.scheduling.max_num_seqs}) exceeds available Mamba cache blocks ({blocks}). Each decode sequence "
        f"requires one Mamba cache block, so CUDA graph capture cannot proceed. Please lower max_num_seqs to at most {blocks} "
        "or increase gpu_memory_utilization."
    )
    return Reserved(num_blocks=0, num_tokens=0, concurrency=0.0, max_model_len=length, lines=(), refused=words)


def _reserve_v0(plan: Plan, budgets: tuple[int, ...]) -> Reserved:
    """Blocks of the V0 engine, on the GPU and for swapping on the CPU.

    Source: `vllm/worker/worker.py:determine_num_available_blocks`, `raise_if_cache_size_invalid`; 0.6.
    """
    size, length = max(plan.block_bytes), plan.max_model_len
    blocks = plan.options.num_gpu_blocks_override or (max(min(budgets), 0) // size if size else 0)
    spare = int(plan.options.swap_space * GIB) // size if size else 0
    tokens = blocks * plan.block_size
    if length > tokens:
        words = (
            f"The model's max seq len ({length}) is larger than the maximum number of tokens that can be stored in KV cache "
            f"({tokens}). Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
        )
        return Reserved(
            num_blocks=0, num_tokens=0, concurrency=0.0, max_model_len=length, lines=(), refused=words,
            estimated_max_model_len=tokens or None,
        )  # fmt: skip
    concurrency = tokens / length
    lines = (
        f"# GPU blocks: {blocks}, # CPU blocks: {spare}",
        f"Maximum concurrency for {length} tokens per request: {concurrency:.2f}x",
    )
    return Reserved(
        num_blocks=blocks, num_tokens=tokens, concurrency=concurrency, max_model_len=length, lines=lines, num_cpu_blocks=spare
    )


def request_bytes(plan: Plan, stage: int, tokens: int) -> int:
    """Bytes of the pool that one request of `tokens` tokens may hold on one stage."""
    return plan.block_bytes[stage] * plan.blocks(tokens)


def needed_bytes(plan: Plan, stage: int, tokens: int) -> int:
    """Bytes of one request as the fit test counts them: by groups, or layer by layer before 0.14."""
    version = plan.version
    if plan.rules.tuples and len(plan.groups) > 1:
        own = zip(plan.stages[stage], plan.groups, strict=True)  # a group that a stage leaves empty counts as the whole
        return tuple_bytes(tuple(part if part.members else whole for part, whole in own)) * plan.blocks(tokens)
    if FIT_BY_GROUPS.at(version):
        whole = FIT_WHOLE_MODEL.at(version) and len(plan.stages) > 1
        size = block_bytes(plan.groups, plan.rules) if whole else plan.block_bytes[stage]
        return size * (plan.group_blocks(tokens)[0] if FIT_BY_FIRST_GROUP.at(version) else plan.blocks(tokens))
    layers = plan.stage_layers[stage]  # as they registered: what is held like full attention is counted as what it is
    return sum(held.spec.page_bytes * held.spec.blocks(tokens, plan.scheduling) for held in plan.caches if held.layer in layers)


def _usable(plan: Plan, stage: int, budget: int) -> int:
    """The budget without the null block, which the fit test sets aside."""
    return budget - plan.block_bytes[stage] if NULL_BLOCK_ASIDE.at(plan.version) else budget


def _longest(plan: Plan, stage: int, budget: int, limit: int) -> int:
    """The longest request that fits, at most `limit`; 0 when none does."""
    usable = _usable(plan, stage, budget)
    return _largest(lambda tokens: needed_bytes(plan, stage, tokens) <= usable, limit)


def _largest(fits: Callable[[int], bool], limit: int) -> int:
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _concurrency(plan: Plan, blocks: int, tokens: int) -> float:
    """Requests of `tokens` tokens that the pool holds."""
    if CONCURRENCY_BY_GROUPS.at(plan.version):
        return blocks / plan.blocks(tokens)
    if plan.rules.tuples:
        wanted = sum(group.spec.blocks(tokens, plan.scheduling) * group.page_bytes for group in plan.groups)
        return blocks / ceil_div(wanted, plan.groups[0].page_bytes)
    width = max(len(group.members) for group in plan.groups)
    first = plan.groups[0].page_bytes if len(plan.groups) == 1 else plan.groups[0].spec.page_bytes * width
    one = sum(g.spec.blocks(tokens, plan.scheduling) * g.spec.page_bytes for g in plan.groups) * width
    if len(plan.groups) == 1:
        one = plan.groups[0].spec.blocks(tokens, plan.scheduling) * first
    return blocks / ceil_div(one, first)


def _tokens(plan: Plan, blocks: int, concurrency: float, length: int) -> int:
    if TOKENS_FROM_CONCURRENCY.at(plan.version):
        return int(concurrency * length)
    return blocks // len(plan.groups) * min(group.spec.block_size for group in plan.groups) * plan.scheduling.context_parallel


def _device(plan: Plan) -> str:
    return "CPU" if plan.options.device == "cpu" and ONE_LOG_LINE.at(plan.version) else "GPU"


def _size_lines(plan: Plan, tokens: int, concurrency: float, length: int) -> tuple[str, ...]:
    size = f"{_device(plan)} KV cache size: {tokens:,} tokens"
    most = f"Maximum concurrency for {length:,} tokens per request: {concurrency:.2f}x"
    return (f"{size}, {most}",) if ONE_LOG_LINE.at(plan.version) else (size, most)


def _auto_fit_line(plan: Plan, length: int, budget: int) -> str:
    memory = f"available KV cache memory ({format_gib(plan, budget)} GiB {_device(plan)})"
    if length == plan.max_model_len:
        return f"Auto-fit max_model_len: full model context length {length} fits in {memory}"
    return f"Auto-fit max_model_len: reduced from {plan.max_model_len} to {length} to fit in {memory}"


def format_gib(plan: Plan, amount: int) -> str:
    """GiB as the release prints them: two decimals, later without trailing zeros."""
    return str(round(amount / GIB, 2)) if GIB_TRIMMED.at(plan.version) else f"{amount / GIB:.2f}"


def _refused(plan: Plan, stage: int, budget: int, length: int, need: int, usable: int) -> Reserved:
    if usable <= 0 and budget <= 0:
        words = "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine."
        return Reserved(num_blocks=0, num_tokens=0, concurrency=0.0, max_model_len=length, lines=(), refused=words)
    longest = _longest(plan, stage, budget, length)
    based = f"Based on the available memory, the estimated maximum model length is {longest}. " if longest else ""
    words = (
        f"To serve at least one request with the {REFUSAL_WORDS.at(plan.version)} max seq len ({length}), "
        f"({format_gib(plan, need)} GiB KV cache is needed, which is larger than the available KV cache memory "
        f"({format_gib(plan, usable)} GiB). {based}Try increasing `gpu_memory_utilization`{CPU_WORDS.at(plan.version)} or "
        "decreasing `max_model_len` "
        "when initializing the engine."
    )
    return Reserved(
        num_blocks=0,
        num_tokens=0,
        concurrency=0.0,
        max_model_len=length,
        lines=(),
        refused=words,
        estimated_max_model_len=longest or None,
    )
