"""What a server makes of its memory: the budget, the pools' tokens, running requests, and every allocated byte.

Source: sglang 0.5.23, `mem_cache/kv_cache_configurator.py` (`_profile_available_bytes`, `resolve_max_num_reqs`),
`model_executor/pool_configurator.py`, `mem_cache/allocation_sizing.py`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.engines.sglang import classes, deepseek_v4, states
from kvplan.engines.sglang.arguments import Arguments, pre_capture_reserve
from kvplan.engines.sglang.layers import Layout, layout, total_bytes
from kvplan.engines.sglang.states import GIB, States

_NO_LIMIT: Final = 2**63 - 1
_EVICTION: Final = "SGLANG_SWA_EVICTION_INTERVAL"


class NoRoom(Exception):
    """The server does not start; the text is what it says."""


class Sizes(Struct, frozen=True, kw_only=True):
    """The pools of one pipeline stage, on one device."""

    available_bytes: int
    cell: int | float
    tokens: int  # max_total_num_tokens
    full_tokens: int | None = None
    sliding_tokens: int | None = None
    requests: int  # max_running_requests
    state_slots: int = 0
    compressed: deepseek_v4.Sizes | None = None


class Reserved(Struct, frozen=True, kw_only=True):
    """Sizes and the bytes that they take."""

    sizes: Sizes
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
    one = states.state(args)
    slots = None
    if one is not None:
        slots = states.slots(args, one, rest)
        if slots.size <= 0:
            raise NoRoom(
                f"Not enough GPU memory for hybrid (mamba/linear-attention) state cache. Computed max_mamba_cache_size={slots.size} "
                f"(total_rest_memory={slots.rest:.2f} GB, mamba_cache_per_req={slots.per_request / (1 << 20):.2f} MB)."
            )
        rest = slots.rest
    if rest <= 0:
        minimum = 1 - after / before
        raise NoRoom(
            f"Loaded weights leave no GPU memory for the KV cache under --mem-fraction-static={args.mem_fraction_static}. "
            f"Raise --mem-fraction-static above {-(-minimum * 1000 // 1) / 1000:.3f} "
            f"(minimum viable = 1 - available/pre = {minimum:.4f})."
        )
    return from_budget(args, int(rest * GIB), rank, slots.size if slots else 0)


def from_budget(args: Arguments, budget: int, rank: int = 0, slots: int = 0) -> Reserved:
    """The pools that `budget` bytes pay for, states not in it."""
    if args.reading.architecture == classes.COMPRESSED:
        return _compressed(args, budget, rank)
    plan = layout(args, rank)
    page = args.page_size
    if args.reading.sliding:
        full, sliding = _split_tokens(args, plan, budget)
        tokens = full if plan.full_layers else sliding
        rows = {"full": full + page, "sliding": sliding + page}
        sized = (full, sliding)
    else:
        tokens = _tokens(args, plan, budget)
        rows, sized = {"full": tokens + page}, None
    if tokens <= 0:
        raise NoRoom(
            "Not enough memory. Please try to increase --mem-fraction-static. "
            f"Current value: mem_fraction_static={args.mem_fraction_static}"
        )
    requests = running_requests(args, tokens, slots)
    one = states.state(args)
    kv = total_bytes(plan.tensors, {**rows, "index": index_rows(args, tokens)}, page)
    sizes = Sizes(
        available_bytes=budget, cell=plan.cell, tokens=tokens, full_tokens=sized[0] if sized else None,
        sliding_tokens=sized[1] if sized else None, requests=requests, state_slots=slots,
    )  # fmt: skip
    return Reserved(
        sizes=sizes,
        kv_bytes=kv,
        states=states.allocated(args, one, slots, requests, rank) if one else None,
        req_to_token_bytes=req_to_token_bytes(args, requests),
        mapping_bytes=(sized[0] + page + 1) * 8 if sized else 0,
    )


def _rest(args: Arguments, before: float, after: float) -> float:
    """GiB for caches: what is free, without the slack that the static fraction leaves."""
    slack = before * (1 - args.mem_fraction_static)
    if args.reading.state is not None and args.post_capture:
        slack = max(slack, pre_capture_reserve(args) / 1024)
    return after - slack - args.reserved_gib


def _tokens(args: Arguments, plan: Layout, budget: int) -> int:
    """`DefaultPoolConfigurator`: whole pages; without keys anywhere, the context or what the user says."""
    limit, page = args.options.max_total_tokens, args.page_size
    if plan.cell:
        tokens = budget // int(plan.cell)
    elif args.options.pp_size > 1 and args.reading.attention:
        tokens = _NO_LIMIT
    else:
        tokens = limit or args.reading.context
    tokens = tokens // page * page
    return min(tokens, limit) // page * page if limit is not None else tokens


def _split_tokens(args: Arguments, plan: Layout, budget: int) -> tuple[int, int]:
    """Tokens of the full and of the sliding pool."""
    limit = args.options.max_total_tokens
    if not plan.sliding_layers:
        raise NoRoom("Hybrid SWA model must have at least one SWA layer")
    if _capped(args, plan):
        return _capped_tokens(args, plan, budget)
    tokens = int(budget // plan.cell)
    full, sliding = _by_ratio(args, plan, tokens)
    if limit is not None and limit < (full if plan.full_layers else sliding):
        full, sliding = _by_ratio(args, plan, limit)
    return full, sliding


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


def _capped(args: Arguments, plan: Layout) -> bool:
    """`SWARequestCapPoolConfigurator.is_applicable`: without reuse of prefixes, so many requests need so many tokens."""
    chunks = args.chunked_prefill_size > 0 or args.options.disaggregation_mode == "decode"
    known = args.max_running_requests is not None and args.reading.window is not None
    return known and not args.radix and chunks and plan.full_layers > 0


def _capped_tokens(args: Arguments, plan: Layout, budget: int) -> tuple[int, int]:
    page, limit = args.page_size, args.options.max_total_tokens
    sliding = -(-request_cap(args) // page) * page
    fixed = sliding * plan.sliding_cell
    full = int((budget - fixed) // plan.full_cell) // page * page
    if full <= 0:
        raise NoRoom(
            f"SWA pool cap ({sliding} tokens, {fixed / GIB:.2f} GiB) leaves no room for the full KV pool within the available "
            f"{budget / GIB:.2f} GiB. Reduce --max-running-requests, lower {_EVICTION}, or increase --mem-fraction-static."
        )
    if limit is not None and limit < full:
        full, sliding = limit // page * page, min(sliding, limit)
    return full, sliding


def request_cap(args: Arguments) -> int:
    """`compute_swa_request_cap`: tokens of the sliding pool that so many requests hold at most."""
    page, window, speculation = args.page_size, args.reading.window or 0, args.speculation
    requests = args.requests or 1
    held = window + args.options.swa_eviction_interval * (speculation.tokens or 1) + page
    if not speculation:
        held += page
    elif not args.overlap:
        held += _first_version_length(args)
    else:
        held += 2 * allocation_length(args)
    if args.options.disaggregation_mode == "decode":
        return held * requests + (window + page) * args.extra_slots
    return held * requests + (2 if args.overlap else 1) * args.chunked_prefill_size + page


def allocation_length(args: Arguments) -> int:
    """`get_alloc_len_per_decode`: slots that one step of one request may take."""
    speculation, page = args.speculation, args.page_size * args.options.dcp_size
    if not speculation:
        return 1
    steps, topk = speculation.steps or 1, speculation.topk or 1
    if page == 1 or topk == 1 or speculation.algorithm == "NGRAM":
        return max(steps * topk, speculation.tokens)
    pages = (page - 1 + steps + page - 1) // page
    return max(pages * page * topk, speculation.tokens)


def _first_version_length(args: Arguments) -> int:
    """`spec_decode_alloc_len_per_request`, without overlapped scheduling."""
    page, speculation = args.page_size, args.speculation
    steps, topk, tokens = speculation.steps or 1, speculation.topk or 1, speculation.tokens or 1
    if page > 1:
        steps = -(-(steps + (page if topk > 1 else 0)) // page) * page
        tokens = -(-tokens // page) * page
    return max(steps * topk, tokens)


def index_rows(args: Arguments, tokens: int) -> int:
    """Pages of index keys, which every context-parallel device keeps all of."""
    return ((tokens + args.page_size) * args.options.dcp_size + 1) // args.page_size


def running_requests(args: Arguments, tokens: int, slots: int) -> int:
    """`resolve_max_num_reqs`.

    Raises:
        NoRoom: states for not even one request.
    """
    requests = args.requests
    if requests is None:
        requests = min(max(min(int(tokens / args.reading.context * 512), 4096), 2048), tokens // 2)
    else:
        requests = min(requests, tokens // 2)
    if args.reading.state is None:
        return requests
    requests = min(requests, slots // args.slots_per_request)
    if requests <= 0:
        raise NoRoom(
            f"max_mamba_cache_size {slots} is too small: every running request needs {args.slots_per_request} slots of states"
        )
    return requests


def req_to_token_bytes(args: Arguments, requests: int) -> int:
    """The table from requests to slots, in int32. Source: `get_req_to_token_extra_context_len`."""
    extra = 4 + args.speculation.tokens
    page = args.page_size * args.options.dcp_size
    if args.speculation and page > 1:
        extra = max(extra, 2 * allocation_length(args) + page - 1)
    return (requests + 1 + args.extra_slots) * (args.reading.context + extra) * 4


def _compressed(args: Arguments, budget: int, rank: int) -> Reserved:
    """DeepSeek V4, whose pools have sizes of their own."""
    found = deepseek_v4.sizes(args, budget, rank)
    check_window(args, found.sliding_tokens)
    if found.tokens <= 0:
        raise NoRoom(
            "Not enough memory. Please try to increase --mem-fraction-static. "
            f"Current value: mem_fraction_static={args.mem_fraction_static}"
        )
    requests = running_requests(args, found.tokens, 0)
    found = deepseek_v4.with_requests(args, found, requests)
    sizes = Sizes(
        available_bytes=budget, cell=found.cell, tokens=found.tokens, full_tokens=found.tokens,
        sliding_tokens=found.sliding_tokens, requests=requests, compressed=found,
    )  # fmt: skip
    return Reserved(
        sizes=sizes,
        kv_bytes=sum(part.bytes for part in deepseek_v4.parts(args, found, rank)),
        states=None,
        req_to_token_bytes=req_to_token_bytes(args, requests),
        mapping_bytes=(found.tokens + args.page_size + 1) * 8,
    )
