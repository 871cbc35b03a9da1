"""Budgets below the device, and the sessions that should come back, as people type them."""

from kvplan.api.given import Count, count, size
from kvplan.domain.tiers import TierAsk
from kvplan.errors import OptionError
from kvplan.units import parse_count


def tiers_asked(host: Count | None, disk: Count | None, sessions: str | None) -> TierAsk | None:
    """What is asked of the memory below the device; None where nothing is. 0 tokens: those of the answer.

    Raises:
        OptionError: a size that is none, or sessions in another form.

    >>> tiers_asked("256GiB", None, "200 at 60k")
    TierAsk(host_bytes=274877906944, disk_bytes=None, tokens=61440, sessions=200, device_bytes=0, slots=1)
    """
    if host is None and disk is None and sessions is None:
        return None
    wanted, tokens = (0, 0) if sessions is None else parse_sessions(sessions)
    return TierAsk(
        host_bytes=None if host is None else size(host, "«host»"),
        disk_bytes=None if disk is None else size(disk, "«disk»"),
        tokens=tokens,
        sessions=wanted,
    )


def parse_sessions(text: str) -> tuple[int, int]:
    """(sessions, tokens of each) of `200 at 60k`.

    Raises:
        OptionError: not in that form.

    >>> parse_sessions("200 at 60k")
    (200, 61440)
    """
    number, at, tokens = str(text)[:200].lower().partition(" at ")
    words = [part.strip() for part in (number.strip().removesuffix("sessions"), tokens.strip().removesuffix("tokens"))]
    if not at or not all(words):
        raise OptionError(f"«sessions»: expected something like `200 at 60k`, got `{str(text)[:60]}`")
    wanted = parse_count(words[0], what="«sessions»")
    return count(wanted, "«sessions»"), parse_count(words[1], what="«sessions» tokens")
