"""A card of the catalogue as the ledger needs it."""

from functools import lru_cache
from typing import Final

from kvplan.domain import gpu_totals
from kvplan.domain.gpus import gpu
from kvplan.engines.vllm.ledger.settings import Card
from kvplan.errors import OptionError
from kvplan.units import MIB

_MULTIPROCESSORS: Final = 108  # where nobody printed them: an A100's
_L2: Final = 40 * MIB


@lru_cache(maxsize=64)  # asked for every answer of one card
def card(name: str, total: int | None = None, *, wddm: bool = False, source: str = "given") -> Card:
    """The card that `name` means: a catalogue id, enough of one, or what a driver prints.

    Args:
        total: bytes that torch reported, where that is known; `source`: who says so.
        wddm: Windows or WSL, where the driver keeps half a MiB only.

    Raises:
        OptionError: no card, or several.
    """
    found = gpu_totals.printed(name)
    reported: int | None = None
    boxed = False  # nobody printed a total of it
    if found is None:
        try:
            entry = gpu(_words(name))
            if not entry.vendor and entry.id != "".join(name.lower().split()):  # a size beside other words is no card's name
                raise OptionError(f"unknown GPU `{name[:60]}`")
        except OptionError:
            if total is None:
                raise
            return Card(name=name, total=total, total_low=total, total_high=total, total_source=source, compute_capability=0)
        reported = entry.most_bytes
        found = entry.id, gpu_totals.totals(entry.id) or gpu_totals.CardTotals(cc=entry.compute_capability)
    identity, facts = found
    if reported is None and facts.low is None and facts.smi is None:
        reported, boxed = gpu(identity).most_bytes, True
    best, low, high, printed = gpu_totals.band(facts, reported)
    printed = "the number on the box less what drivers keep" if boxed else printed
    if wddm and facts.wddm:
        best = low = high = facts.wddm
        printed = "total under Windows and WSL"
    if total is not None:
        best = low = high = total
    return Card(
        name=name if name.lower() != identity else f"{identity} {' '.join(facts.names[:1])}",
        total=best,
        total_low=low,
        total_high=high,
        total_source=printed if total is None else source,
        total_basis="given" if total is not None else "assumed" if boxed else "measured",
        compute_capability=facts.capability,
        multiprocessors=facts.sms or _MULTIPROCESSORS,
        l2_bytes=facts.l2 or _L2,
    )


def _words(name: str) -> str:
    """A printed name as words of a catalogue id: `NVIDIA H100 80GB` as `h100-80gb`."""
    plain = name.lower().replace("(by size)", " ").replace("geforce", " ").replace("nvidia", " ").replace("tesla", " ")
    words = [word for word in plain.replace("_", " ").replace("-", " ").split() if word not in {"card", "gpu", "hbm3", "pcie"}]
    joined: list[str] = []
    for word in words:
        if word == "gb" and joined and joined[-1].isdigit():
            joined[-1] += "gb"
        else:
            joined.append(word)
    return "-".join(joined)
