"""What a log prints of memory before the pools, beside the ledger's lines: shown, and deciding no verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from kvplan.domain.described import Described
from kvplan.engines.kernel.verdicts import ComparedFact
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.ledger.build import weight_line
from kvplan.engines.sglang.pool import rest_bytes, share_out
from kvplan.engines.sglang.requests import NoRoom
from kvplan.engines.sglang.states import GIB

_BEGIN: Final = re.compile(r"Load weight begin\. avail mem=([\d.]{1,12}) GB")
_END: Final = re.compile(r"Load weight end\..{0,400}?avail mem=([\d.]{1,12}) GB(?:, mem usage=(-?[\d.]{1,12}) GB)?")
_HALF: Final = 0.005  # GiB: figures have two decimals


def read_line(line: str, memory: dict[str, float], *, sized: bool) -> None:
    """Keep what is free before the first load, what it took, and what is free after the last one before the pools are `sized`."""
    for pattern, names in ((_BEGIN, ("before",)), (_END, ("after", "weights_gib_printed"))):
        match = pattern.search(line)
        for name, text in zip(names, match.groups() if match else (), strict=False):
            value = _number(text)
            if value is not None and (name not in memory or (name == "after" and not sized)):
                memory[name] = value


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def compared(
    memory: Mapping[str, float], args: Arguments, tensors: Described | None, tokens: int | None, *, told: bool
) -> Iterator[ComparedFact]:
    """The weights; and the tokens that follow from what was free, where the log tells the fraction.

    Raises:
        ConfigError: weights of a format whose storage is not known.
    """
    printed = memory.get("weights_gib_printed")
    if tensors is not None and printed is not None:
        line = weight_line(args, tensors)
        yield ComparedFact(
            name="weights_gib_printed", predicted=round(line.bytes / GIB, 2), recorded=printed, low=round(line.low / GIB, 3),
            high=round(line.high / GIB, 3), counts=False,
        )  # fmt: skip
    if told and tokens is not None and {"before", "after"} <= memory.keys():
        slack = 1 - args.mem_fraction_static
        before, after = memory["before"], memory["after"]
        best, low, high = (_tokens(args, before - sign * _HALF * (slack > 0), after + sign * _HALF) for sign in (0, -1, 1))
        yield ComparedFact(name="num_tokens_by_free_memory", predicted=best, recorded=tokens, low=low, high=high, counts=False)


def _tokens(args: Arguments, before: float, after: float) -> int:
    try:
        return share_out(args, max(0, rest_bytes(args, before, after)))[0].sizes.tokens
    except NoRoom:
        return 0
