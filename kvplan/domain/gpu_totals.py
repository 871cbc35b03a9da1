"""What CUDA calls a card's total, which is less than the box says and differs by driver and board: a band, with SMs and L2.

Source: gpu_totals.json, made by tools/make_gpu_totals.py from printed totals (device queries, torch's properties, logs).
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from kvplan.units import MIB

DATA: Final = Path(__file__).resolve().with_name("gpu_totals.json")


class CardTotals(Struct, frozen=True, kw_only=True):
    """One card as programs see it; None and 0 where nobody printed it.

    Attributes:
        names: as drivers and runtimes print them.
        low, high: smallest and largest total under Linux, bytes.
        wddm: the total under Windows and WSL, bytes.
        sms: streaming multiprocessors; `l2` bytes of L2 cache.
        cc: compute capability as printed, `9.0`.
        smi: MiB that nvidia-smi shows.
    """

    names: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    wddm: int | None = None
    sms: int | None = None
    l2: int | None = None
    cc: str = ""
    smi: int | None = None

    @property
    def capability(self) -> int:
        """`9.0` as 90; 0 where it is not known."""
        major, _, minor = self.cc.partition(".")
        return int(major) * 10 + int(minor or 0) if major.isdigit() and (minor or "0").isdigit() else 0


class Slice(Struct, frozen=True, kw_only=True):
    """A MIG slice: the card's id, the profile, its MiB."""

    card: str
    profile: str
    mib: int
    sms: int | None = None


class _File(Struct, frozen=True):
    cards: dict[str, CardTotals]
    mig: tuple[Slice, ...]


@cache
def _file() -> _File:
    return msgspec.json.decode(DATA.read_bytes(), type=_File)


def totals(card: str) -> CardTotals | None:
    """The card of that catalogue id.

    >>> totals("h200-sxm-141gb").sms
    132
    """
    return _file().cards.get(card)


def every() -> Mapping[str, CardTotals]:
    """All cards by id."""
    return _file().cards


def slices() -> tuple[Slice, ...]:
    """All MIG slices."""
    return _file().mig


def printed(name: str) -> tuple[str, CardTotals] | None:
    """The card that a driver calls `name` (case and spaces aside): its id and totals."""
    card = _first_of().get(_plain(name))
    return None if card is None else (card, _file().cards[card])


def named(name: str) -> tuple[str, ...]:
    """The ids of all cards that a driver calls so."""
    return _called().get(_plain(name), ())


@cache
def _called() -> Mapping[str, tuple[str, ...]]:
    """A driver's name, plainly -> all cards that it stands for, in the file's order."""
    found: dict[str, tuple[str, ...]] = {}
    for card, facts in _file().cards.items():
        for plain in {_plain(known) for known in facts.names}:
            found[plain] = (*found.get(plain, ()), card)
    return found


@cache
def _first_of() -> Mapping[str, str]:
    """A driver's name or an id, plainly -> the first card of the file that has it."""
    found: dict[str, str] = {}
    for card, facts in _file().cards.items():
        for known in (*facts.names, card):
            found.setdefault(_plain(known), card)
    return found


def _plain(name: str) -> str:
    return "".join(name.lower().replace("nvidia", "").replace("geforce", "").split()).replace("-", "")


def band(found: CardTotals, reported_bytes: int | None = None) -> tuple[int, int, int, str]:
    """The total: best value, low, high, and what stands behind it.

    Without a print it is nvidia-smi's total less 200 MiB to 1.1 GiB, the range over cards that have both.
    """
    if found.low is not None and found.high is not None:
        return (found.low + found.high) // 2, found.low, found.high, "printed totals of this card"
    shown = reported_bytes or (found.smi * MIB if found.smi else None)
    if shown is None:
        return 0, 0, 0, "nobody printed it"
    return shown - 550 * MIB, shown - 1110 * MIB, shown - 200 * MIB, "nvidia-smi's total less what drivers keep"
