"""Shares of a card in the words of each engine: pure arithmetic; each engine's way is in its `About`.

The same word means different things: vLLM's fraction is of the card's *total*, SGLang's of what is *free before* it loads
its weights, TensorRT-LLM's and LMDeploy's of what is *free after*. llama.cpp takes what its context needs, and transformers
grows as it goes.
"""

from fractions import Fraction
from math import ceil
from typing import Final

from kvplan.engines.kernel.about import Meaning

#: Vendor -> the environment variable that shows a process some of the cards only.
_VISIBLE: Final = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "HIP_VISIBLE_DEVICES", "intel": "ZE_AFFINITY_MASK"}
_DIGITS: Final = 4


def visible_cards(vendor: str, cards: tuple[int, ...]) -> str:
    """What a process's environment says so that it sees these cards only; empty for a vendor without such a variable.

    >>> visible_cards("nvidia", (0, 1))
    'CUDA_VISIBLE_DEVICES=0,1'
    """
    name = _VISIBLE.get(vendor)
    return f"{name}={','.join(map(str, cards))}" if name else ""


def of_total(needed_bytes: int, total_bytes: int) -> tuple[str, int]:
    """The smallest fraction of four digits that gives `needed_bytes`, and the bytes that the engine then takes.

    >>> of_total(20, 100)
    ('0.2', 20)
    """
    share = Fraction(-(-needed_bytes * 10**_DIGITS // total_bytes), 10**_DIGITS)
    text = f"{float(share):.{_DIGITS}f}".rstrip("0").rstrip(".")
    return text, ceil(total_bytes * float(share))


def of_free(cache_bytes: int, kept_bytes: int, free_bytes: int, meaning: Meaning) -> str:
    """The fraction for an engine that measures what is free when it starts, rounded down; empty when nothing is left for it.

    Args:
        cache_bytes: what its cache shall get.
        kept_bytes: its weights and reserve.
        free_bytes: free when it starts, after those that started earlier.
    """
    after = free_bytes - kept_bytes
    if after <= 0 or free_bytes <= 0 or cache_bytes > after:
        return ""
    share = Fraction(cache_bytes, after)
    if meaning == "of free before loading":  # cache = after - before * (1 - fraction)
        share = 1 - Fraction(after - cache_bytes, free_bytes)
    return f"{share.numerator * 10**_DIGITS // share.denominator / 10**_DIGITS:g}"
