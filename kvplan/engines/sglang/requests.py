"""Running requests: how many there may be, what one holds of a sliding pool, and its row in the table of slots.

Source: sglang 0.5.23, `mem_cache/kv_cache_configurator.py:resolve_max_num_reqs`, `mem_cache/allocation_sizing.py`,
`model_executor/pool_configurator.py:compute_swa_request_cap`.
"""

from __future__ import annotations

from kvplan.engines.sglang.arguments import Arguments
from kvplan.errors import Refused


class NoRoom(Refused):
    """The server does not start; the reason is what it says."""


def asked_requests(args: Arguments, tokens: int) -> int:
    """Running requests as far as tokens and flags go: one needs two tokens at least."""
    if args.requests is not None:
        return min(args.requests, tokens // 2)
    return min(max(min(int(tokens / args.reading.context * 512), 4096), 2048), tokens // 2)


def running_requests(args: Arguments, tokens: int, slots: int) -> int:
    """`resolve_max_num_reqs`: as many as have states, too.

    Raises:
        NoRoom: states for not even one request.
    """
    requests = asked_requests(args, tokens)
    if args.reading.state is None:
        return requests
    requests = min(requests, slots // args.slots_per_request)
    if requests <= 0:
        raise NoRoom(
            "Hybrid (mamba/linear-attention) state cache is too small to serve any requests. "
            f"max_mamba_cache_size={slots}, mamba_ratio={args.slots_per_request}, resulting max_num_reqs={requests}."
        )
    return requests


def req_to_token_bytes(args: Arguments, requests: int) -> int:
    """The table from requests to slots, with the row that pads and those of requests on their way."""
    return (requests + 1 + args.extra_slots) * request_row_bytes(args)


def request_row_bytes(args: Arguments) -> int:
    """One request's row, in int32. Source: `allocation_sizing.py:get_req_to_token_extra_context_len`."""
    extra = 4 + args.speculation.tokens
    page = args.page_size * args.options.dcp_size
    if args.speculation and page > 1:
        extra = max(extra, 2 * allocation_length(args) + page - 1)
    return (args.reading.context + extra) * 4


def request_cap(args: Arguments) -> int:
    """`compute_swa_request_cap`: tokens of the sliding pool that so many requests hold at most."""
    page, window = args.page_size, args.reading.window or 0
    requests, held = args.requests or 1, sliding_rows(args)
    if args.options.disaggregation_mode == "decode":
        return held * requests + (window + page) * args.extra_slots
    return held * requests + (2 if args.overlap else 1) * args.chunked_prefill_size + page


def sliding_rows(args: Arguments) -> int:
    """Rows of the sliding pool that one running request holds at most: what has left its window is freed in steps."""
    page, window, speculation = args.page_size, args.reading.window or 0, args.speculation
    held = window + args.options.swa_eviction_interval * (speculation.tokens or 1) + page
    if not speculation:
        return held + page
    return held + (2 * allocation_length(args) if args.overlap else _first_version_length(args))


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
