"""Sizes as vLLM and LMCache are told them: whole bytes of a number in GiB."""

from math import floor
from typing import Final

from kvplan.units import GIB

_PLACES: Final = 10**6  # decimals of a size in GiB that is typed: six


def shown_gib(size: float) -> str:
    """A size in GiB as it is typed.

    >>> shown_gib(256.0), shown_gib(238.418579)
    ('256', '238.418579')
    """
    return f"{size:.6f}".rstrip("0").rstrip(".")


def gib(amount: int) -> float:
    """A size in GiB as it is typed: not more than `amount` bytes.

    >>> gib(256 * 2**30), gib(256 * 10**9)
    (256.0, 238.418579)
    """
    return floor(amount / GIB * _PLACES) / _PLACES
