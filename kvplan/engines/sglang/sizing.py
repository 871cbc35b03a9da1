"""The least that a server must be given so that its pools hold a workload: more never holds less, so by bisection."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from kvplan.domain.model import Model
from kvplan.engines.kernel.search import largest
from kvplan.engines.sglang.arguments import Arguments, settle
from kvplan.engines.sglang.pool import rest_bytes, share_out
from kvplan.engines.sglang.requests import NoRoom
from kvplan.engines.sglang.shares import request_share

_PARTS: Final = 10_000  # a fraction is told with four digits


def told(model: Model, args: Arguments, requests: int) -> Arguments:
    """What the flags become where `max_running_requests` is the workload's, unless it was given."""
    options = args.options
    return args if options.max_running_requests is not None else settle(model, replace(options, max_running_requests=requests))


def holds(args: Arguments, rank: int, budget_bytes: int, tokens: int, requests: int) -> bool:
    """Whether the pools of stage `rank` hold so many requests of so many tokens at once."""
    try:
        found = share_out(args, budget_bytes)[rank]
    except NoRoom:
        return False
    return request_share(args, found, tokens) * requests <= 1


def least_budget(args: Arguments, rank: int, tokens: int, requests: int) -> int:
    """The fewest bytes whose pools do."""
    return largest(lambda size: not holds(args, rank, size, tokens, requests)) + 1


def least_fraction(
    args: Arguments, rank: int, before: float, after: float, tokens: int, requests: int
) -> tuple[Arguments, int] | None:
    """The arguments with the least `mem_fraction_static` that does, and the bytes that pools then get; None: no fraction does.

    Args:
        args: the settled arguments.
        rank: the pipeline stage.
        before: GiB free before the weights are loaded.
        after: GiB free with the weights loaded.
        tokens: of a request.
        requests: at once.
    """

    def at(part: int) -> tuple[Arguments, int]:
        known = replace(args, mem_fraction_static=part / _PARTS)
        return known, max(0, rest_bytes(known, before, after))

    def too_few(part: int) -> bool:
        known, size = at(part)
        return not holds(known, rank, size, tokens, requests)

    least = largest(too_few, ceiling=_PARTS - 1) + 1
    return at(least) if least < _PARTS else None
