"""What differs between builds of llama.cpp, by build number: masks, copies of the batch, outputs, padding of cells.

Source: recorded logs (`tests/golden/llama_cpp_gpu_logs.jsonl`, 2024-03 to 2026-09) and commit 0c1e57098.
"""

from __future__ import annotations

import re
from typing import Final

from kvplan.engines.llama_cpp.placement.compute import Rules

_BUILD: Final = re.compile(r"(?<![\w.])b(\d{3,6})(?!\d)")
_DATE: Final = re.compile(r"(20\d\d)(?:-(\d\d))?")
#: (year, month) -> the builds of about that month, for logs that name no build.
_MONTHS: Final = (
    ((2023, 8), 1000), ((2024, 3), 2300), ((2024, 6), 3060), ((2024, 9), 3650), ((2024, 12), 4230), ((2025, 1), 4400),
    ((2025, 2), 4610), ((2025, 4), 5020), ((2025, 6), 5560), ((2025, 8), 6060), ((2025, 10), 6660), ((2025, 12), 7220),
    ((2026, 1), 7590), ((2026, 2), 7896), ((2026, 3), 8180), ((2026, 5), 8900), ((2026, 6), 9200), ((2026, 8), 9700),
    ((2026, 9), 10600), ((2026, 10), 11000),
)  # fmt: skip
NEWEST: Final = 11_000  # of builds after those that were read

_IN_PLACE: Final = 5000  # builds before it wrote a gate's product over one of its factors


def build_of(version: str) -> int | None:
    """The build that a version names, or about the build of its date; None where it names neither.

    >>> build_of("llama.cpp b8179"), build_of("llama.cpp (2026-03)"), build_of("0.5.0")
    (8179, 8180, None)
    """
    found = _BUILD.search(version)
    if found:
        return int(found[1])
    date = _DATE.search(version)
    if not date:
        return None
    when = (int(date[1]), int(date[2] or 6))
    return next((build for month, build in reversed(_MONTHS) if month <= when), _MONTHS[0][1])


def rules_of(build: int | None, *, outputs: int | None, slots: int, pipeline: bool) -> tuple[Rules, Rules]:
    """The rules of a build, from the least to the most that it may take.

    Args:
        build: or None: the commit that was studied.
        outputs: tokens whose logits are computed, where somebody knows (0: all).
        slots: of the server.
        pipeline: whether several batches are computed at once.
    """
    if build is None:
        asked = slots if outputs is None else outputs
        return Rules(outputs=asked), Rules(outputs=asked)
    fewest = most = 0 if outputs is None else outputs
    if outputs is None and build > 8900:  # one a slot in servers; all in programs that use the library
        fewest, most = slots, 0
    hidden = (1, 1) if build <= 7780 else (1, 2) if build < 7896 else (2, 2)
    if pipeline and build >= 8500:
        hidden = (2, 5)
    old, new = build < 9300, build >= 9665
    least = Rules(outputs=fewest, host_mask=4 if old else 2, hidden=hidden, studied=False, gates=2 if build < _IN_PLACE else 3)
    beside = 2 if new else 6  # the mask and its cast
    return least, Rules(outputs=most, host_mask=2 if new else 4, device_mask=beside, hidden=hidden, studied=False)
