"""What a server makes of its memory: the budget, the pools' tokens, running requests, and every allocated byte.

Source: sglang 0.5.23, `mem_cache/kv_cache_configurator.py` (`_profile_available_bytes`, `resolve_max_num_reqs`),
`model_executor/pool_configurator.py`, `mem_cache/allocation_sizing.py`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.engines.sglang import classes, deepseek_v4, states
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.fraction import pre_capture_reserve
from kvplan.engines.sglang.layers import layout
from kvplan.engines.sglang.requests import NoRoom, asked_requests, req_to_token_bytes, request_cap, running_requests
from kvplan.engines.sglang.states import GIB, States
from kvplan.engines.sglang.tensors import Layout, Place, total_bytes

_NO_LIMIT: Final = 2**63 - 1
_NO_MEMORY: Final = "Loaded weights leave no GPU memory for the KV cache under "
_EVICTION: Final = "SGLANG_SWA_EVICTION_INTERVAL"


class Sizes(Struct, frozen=True, kw_only=True):
    """The pools of one pipeline stage, on one device."""

    available_bytes: int
    cell: int | float
    tokens: int  # max_total_num_tokens
    full_tokens: int | None = None
    sliding_tokens: int | None = None
    requests: int  # max_running_requests
    profiled: tuple[int, int]  # full (or all) and sliding tokens, before a limit made them fewer
    asked: int = 0  # running requests, had states not been fewer
    state_slots: int = 0
    compressed: deepseek_v4.Sizes | None = None


class Reserved(Struct, frozen=True, kw_only=True):
    """Sizes and the bytes that they take."""

    sizes: Sizes
    rank: int
    kv_bytes: int
    states: States | None
    req_to_token_bytes: int
    mapping_bytes: int  # full_to_swa_index_mapping


def reserve(args: Arguments, before: float, after: float, rank: int = 0) -> Reserved:
    """The pools of stage `rank`.

    Args:
        args: the settled arguments.
        before: free memory before the weights are loaded, in GiB.
        after: free memory with the weights loaded, in GiB.
        rank: the pipeline stage.

    Raises:
        NoRoom: the server does not start.
    """
    rest = _rest(args, before, after)
    size, rest = _state_slots(args, rest)
    if rest <= 0:
        minimum = 1 - after / before
        raise NoRoom(
            f"{_NO_MEMORY}--mem-fraction-static={args.mem_fraction_static}. "
            f"Raise --mem-fraction-static above {-(-minimum * 1000 // 1) / 1000:.3f} "
            f"(minimum viable = 1 - available/pre = {minimum:.4f})."
        )
    return from_budget(args, int(rest * GIB), rank, size)


def rest_bytes(args: Arguments, before: float, after: float) -> int:
    """What is for caches of `after` GiB free with the weights loaded, and `before` GiB without; below 1: nothing."""
    return int(_rest(args, before, after) * GIB)


def share_out(args: Arguments, budget: int) -> tuple[Reserved, ...]:
    """The pools of every pipeline stage, `budget` bytes on each device for states and rows: the least of them is all stages'.

    Raises:
        NoRoom: the server does not start.
    """
    size, rest = _state_slots(args, budget / GIB)
    if rest <= 0:
        raise NoRoom(f"{_NO_MEMORY}--mem-fraction-static={args.mem_fraction_static}.")
    ranks = range(args.options.pp_size)
    found = tuple(from_budget(args, int(rest * GIB), rank, size) for rank in ranks)
    least = min(stage.sizes.tokens for stage in found)
    if all(stage.sizes.tokens == least for stage in found):
        return found
    return tuple(from_budget(args, int(rest * GIB), rank, size, least) for rank in ranks)


def _state_slots(args: Arguments, rest: float) -> tuple[int, float]:
    """Slots of states, and the GiB that they leave.

    Raises:
        NoRoom: not one.
    """
    one = states.state(args)
    if one is None:
        return 0, rest
    slots = states.slots(args, one, rest)
    if slots.size <= 0:
        raise NoRoom(
            "Not enough GPU memory for hybrid (mamba/linear-attention) state cache. "
            f"Computed max_mamba_cache_size={slots.size} (total_rest_memory={slots.rest:.2f} GB, "
            f"mamba_cache_per_req={slots.per_request / (1 << 20):.2f} MB)."
        )
    return slots.size, slots.rest


def from_budget(args: Arguments, budget: int, rank: int = 0, slots: int = 0, most: int | None = None) -> Reserved:
    """The pools of one stage that `budget` bytes pay for, states not in it, of at most `most` tokens.

    Raises:
        NoRoom: the server does not start.
    """
    asked = args.options.max_total_tokens
    limit = asked if most is None else most if asked is None else min(asked, most)
    if args.reading.architecture == classes.COMPRESSED:
        return _compressed(args, budget, rank, limit)
    plan = layout(args, rank)
    page = args.page_size
    if args.reading.sliding:
        profiled, (full, sliding) = _split_tokens(args, plan, budget, limit)
        tokens = full if plan.full_layers else sliding
        rows: dict[Place, int] = {"full": full + page, "sliding": sliding + page}
        sized = (full, sliding)
    else:
        first, tokens = _tokens(args, plan, budget, limit)
        profiled = (first, 0)
        rows, sized = {"full": tokens + page}, None
    if tokens <= 0:
        raise NoRoom(
            "Not enough memory. Please try to increase --mem-fraction-static. "
            f"Current value: mem_fraction_static={args.mem_fraction_static}"
        )
    asked = asked_requests(args, tokens)
    requests = running_requests(args, tokens, slots)
    one = states.state(args)
    kv = total_bytes(plan.tensors, {**rows, "index": index_rows(args, tokens)}, page)
    sizes = Sizes(
        available_bytes=budget,
        cell=plan.cell,
        tokens=tokens,
        full_tokens=sized[0] if sized else None,
        sliding_tokens=sized[1] if sized else None,
        profiled=profiled,
        requests=requests,
        asked=asked,
        state_slots=slots,
    )
    return Reserved(
        sizes=sizes,
        rank=rank,
        kv_bytes=kv,
        states=states.allocated(args, one, slots, requests, rank) if one else None,
        req_to_token_bytes=req_to_token_bytes(args, requests),
        mapping_bytes=(sized[0] + page + 1) * 8 if sized else 0,
    )


def _rest(args: Arguments, before: float, after: float) -> float:
    """GiB for caches: what is free, without the slack that the static fraction leaves."""
    slack = before * (1 - args.mem_fraction_static)
    if args.reading.state is not None and args.post_capture:
        slack = max(slack, pre_capture_reserve(args.options, args.chunked_prefill_size, args.decode_graph_max_bs) / 1024)
    return after - slack - args.reserved_gib


def _tokens(args: Arguments, plan: Layout, budget: int, limit: int | None) -> tuple[int, int]:
    """`DefaultPoolConfigurator`: whole pages that the budget pays for, and those that a limit leaves.

    Without keys anywhere it is the context, or what the user says.
    """
    page = args.page_size
    if plan.cell:
        tokens = budget // int(plan.cell)
    elif args.options.pp_size > 1 and args.reading.attention:
        tokens = _NO_LIMIT
    else:
        tokens = args.options.max_total_tokens or args.reading.context
    tokens = tokens // page * page
    return tokens, min(tokens, limit) // page * page if limit is not None else tokens


def _split_tokens(args: Arguments, plan: Layout, budget: int, limit: int | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Tokens of the full and of the sliding pool: those that the budget pays for, and those that a limit leaves."""
    if not plan.sliding_layers:
        raise NoRoom("Hybrid SWA model must have at least one SWA layer")
    if capped(args, plan):
        return _capped_tokens(args, plan, budget, limit)
    first = _by_ratio(args, plan, int(budget // plan.cell))
    tokens = first[0] if plan.full_layers else first[1]
    return first, _by_ratio(args, plan, limit) if limit is not None and limit < tokens else first


def _by_ratio(args: Arguments, plan: Layout, tokens: int) -> tuple[int, int]:
    page = args.page_size
    tokens = tokens // page * page
    if not plan.full_layers:
        return 0, tokens
    sliding = int(tokens * args.swa_full_tokens_ratio) // page * page
    check_window(args, sliding)
    return tokens, sliding


def check_window(args: Arguments, sliding: int) -> None:
    """`validate_swa_pool_size`: one request must fit.

    Raises:
        NoRoom: it does not.
    """
    window = args.reading.window
    if window is not None and window + args.page_size >= sliding:
        raise NoRoom(
            f"SWA pool ({sliding} tokens) cannot hold even one request: the prefill admission floor is sliding_window_size "
            f"({window}) + page_size ({args.page_size}). Increase --swa-full-tokens-ratio or the total KV budget."
        )


def capped(args: Arguments, plan: Layout) -> bool:
    """`SWARequestCapPoolConfigurator.is_applicable`: without reuse of prefixes, so many requests need so many tokens."""
    chunks = args.chunked_prefill_size > 0 or args.options.disaggregation_mode == "decode"
    known = args.max_running_requests is not None and args.reading.window is not None
    return known and not args.radix and chunks and plan.full_layers > 0


def _capped_tokens(args: Arguments, plan: Layout, budget: int, limit: int | None) -> tuple[tuple[int, int], tuple[int, int]]:
    page = args.page_size
    sliding = -(-request_cap(args) // page) * page
    fixed = sliding * plan.sliding_cell
    full = int((budget - fixed) // plan.full_cell) // page * page
    if full <= 0:
        raise NoRoom(
            f"SWA pool cap ({sliding} tokens, {fixed / GIB:.2f} GiB) leaves no room for the full KV pool within the available "
            f"{budget / GIB:.2f} GiB. Reduce --max-running-requests, lower {_EVICTION}, or increase --mem-fraction-static."
        )
    if limit is not None and limit < full:
        return (full, sliding), (limit // page * page, min(sliding, limit))
    return (full, sliding), (full, sliding)


def index_rows(args: Arguments, tokens: int) -> int:
    """Pages of index keys, which every context-parallel device keeps all of."""
    return ((tokens + args.page_size) * args.options.dcp_size + 1) // args.page_size


def _compressed(args: Arguments, budget: int, rank: int, limit: int | None) -> Reserved:
    """DeepSeek V4, whose pools have sizes of their own."""
    found = deepseek_v4.sizes(args, budget, rank, limit)
    check_window(args, found.sliding_tokens)
    if found.tokens <= 0:
        raise NoRoom(
            "Not enough memory. Please try to increase --mem-fraction-static. "
            f"Current value: mem_fraction_static={args.mem_fraction_static}"
        )
    requests = running_requests(args, found.tokens, 0)
    found = deepseek_v4.with_requests(args, found, requests)
    sizes = Sizes(
        available_bytes=budget,
        cell=found.cell,
        tokens=found.tokens,
        full_tokens=found.tokens,
        sliding_tokens=found.sliding_tokens,
        profiled=(found.profiled, 0),
        requests=requests,
        asked=requests,
        compressed=found,
    )
    return Reserved(
        sizes=sizes,
        rank=rank,
        kv_bytes=sum(part.bytes for part in deepseek_v4.parts(args, found, rank)),
        states=None,
        req_to_token_bytes=req_to_token_bytes(args, requests),
        mapping_bytes=(found.tokens + args.page_size + 1) * 8,
    )
