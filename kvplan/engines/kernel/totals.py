"""A card's total as an engine's process sees it: what was given, what a log said, or what starts on such cards print."""

from kvplan.domain import gpu_totals
from kvplan.domain.budget import gpu_memory
from kvplan.domain.ledger import Line, band, exact
from kvplan.domain.machine import Learned, Machine


def total_line(machine: Machine, known: Learned) -> Line:
    """The first line of a ledger.

    Args:
        known: what is true of this many processes.

    Raises:
        OptionError: a chip of several sizes, and nobody says which.
    """
    if machine.given is not None:
        return exact("total", machine.given, "--memory", "given")
    if known.total is not None:
        return exact("total", known.total, known.source, known.basis)
    facts = gpu_totals.totals(machine.gpu.id)
    best, low, high, source = gpu_totals.band(facts, machine.gpu.most_bytes) if facts is not None else (0, 0, 0, "")
    if best:
        return band("total", best, low, high, source)
    found = gpu_memory(machine.gpu)
    return exact("total", found.bytes, found.source, found.basis)
