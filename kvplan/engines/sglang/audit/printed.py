"""What a server printed of its pools, predicted from the tokens and slots that it printed; and the tokens from the sizes.

Sizes are printed in GiB with two decimals, under the name of GB. A size follows from a number of tokens to the byte; a number
of tokens follows from a size as an interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from kvplan.engines.kernel.cases import InvalidCase
from kvplan.engines.kernel.printed import Between, read_printed
from kvplan.engines.sglang import states
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.layers import layout
from kvplan.engines.sglang.log import row_sums
from kvplan.engines.sglang.pool import index_rows
from kvplan.units import GIB

#: Where records keep the sizes that a number of tokens is told from.
_OF_ROWS: Final = ("kv_gib_printed", "k_gib_printed", "v_gib_printed", "total_gib_printed")


def sizes(args: Arguments, counts: Mapping[str, int]) -> dict[str, Fraction]:
    """Bytes of every line that the counts decide.

    Args:
        args: the settled flags.
        counts: `num_tokens`, `full_tokens` and `swa_tokens`, `slots`, `requests`, as far as they are known.
    """
    page, tensors = args.page_size, layout(args).tensors
    found: dict[str, int] = {}
    full = counts.get("full_tokens")
    if args.reading.sliding and full is not None:
        sliding = counts.get("swa_tokens", 0)
        pairs = {
            "full": row_sums([t for t in tensors if t.place == "full"], full + page, 0),
            "swa": row_sums([t for t in tensors if t.place == "sliding"], sliding + page, 0),
        }
        for word, (keys, values) in pairs.items():
            found |= {f"{word}_k": keys, f"{word}_v": values}
        found["total"] = sum(found.values())
    tokens = counts.get("num_tokens")
    if tokens is not None and not args.reading.sliding:
        main = [t for t in tensors if t.kind != "index" or args.reading.latent is not None]
        keys, values = row_sums([t for t in main if not _beside(args, t.kind)], tokens + page, index_rows(args, tokens))
        found |= {"kv": keys + values} if args.reading.latent is not None else {"k": keys, "v": values}
        found["total"] = keys + values
    one, slots = states.state(args), counts.get("slots")
    if one is not None and slots is not None:
        pool = states.allocated(args, one, slots, counts.get("requests", 0), 0)
        found |= {"conv": pool.conv, "ssm": pool.temporal}
        if args.speculation:
            found |= {"draft_conv": pool.draft_conv, "draft_ssm": pool.draft_temporal}
    return {f"{name}_gib_printed": Fraction(size) for name, size in found.items()}


def _beside(args: Arguments, kind: str) -> bool:
    return kind == "scale" and args.reading.latent is not None


def tokens_of(args: Arguments, shown: Mapping[str, Any]) -> Between | None:
    """The tokens that the printed sizes leave possible, None when they say nothing."""
    if not layout(args).cell:  # states alone: as many tokens as a request may have
        most = (args.options.max_total_tokens or args.reading.context) // args.page_size * args.page_size
        return Between(most, most)
    low, high = 0, 2**53
    at_none, at_one = sizes(args, {"num_tokens": 0}), sizes(args, {"num_tokens": args.page_size})
    known = False
    for name in _OF_ROWS:
        value = shown.get(name)
        if name not in at_one or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        step = (at_one[name] - at_none[name]) / args.page_size
        if not step:
            continue
        lowest, highest = interval(value)
        low = max(low, int((lowest - at_none[name]) / step))
        high = min(high, int((highest - at_none[name]) / step) + 1)
        known = True
    return Between(max(0, low), max(0, high)) if known else None


def interval(printed: float) -> tuple[Fraction, Fraction]:
    """The bytes that a printed number of GiB may stand for.

    Raises:
        InvalidCase: no such number.
    """
    if not 0 <= printed < 1e9:
        raise InvalidCase("a printed size is out of range")
    shown = read_printed(printed, "a printed size")
    half = Fraction(1, 2 * 10 ** max(shown.decimals, 2))
    return (shown.value - half) * GIB, (shown.value + half) * GIB
