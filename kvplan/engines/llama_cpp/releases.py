"""What differs between builds of llama.cpp in the compute buffers: masks, hidden states on the host, outputs, gates.

Source: the project's history (the commits are named at the rows), recorded logs (`tests/golden/llama_cpp_gpu_logs.jsonl`,
2024-03 to 2026-09) and commit 0c1e57098. What changed in the memory of a context is `builds`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from kvplan.engines.kernel.releases import Quirk, Release, quirk
from kvplan.engines.llama_cpp.builds import FIRST, LATEST, build
from kvplan.engines.llama_cpp.context import Context
from kvplan.engines.llama_cpp.placement.compute import Band, Rules, compute
from kvplan.engines.llama_cpp.placement.place import Placed
from kvplan.gguf.hparams import Hparams

_BUILD: Final = re.compile(r"(?<![\w.])b(\d{3,6})(?!\d)")
_DATE: Final = re.compile(r"(20\d\d)(?:-(\d\d))?")
#: (year, month) -> the first build of that month, by the dates of the commits.
_MONTHS: Final = (
    ((2023, 9), 1134), ((2023, 10), 1300), ((2023, 11), 1449), ((2023, 12), 1589), ((2024, 1), 1743), ((2024, 2), 2038),
    ((2024, 3), 2298), ((2024, 4), 2583), ((2024, 5), 2776), ((2024, 6), 3062), ((2024, 7), 3269), ((2024, 8), 3499),
    ((2024, 9), 3651), ((2024, 10), 3854), ((2024, 11), 4001), ((2024, 12), 4231), ((2025, 1), 4405), ((2025, 2), 4608),
    ((2025, 3), 4795), ((2025, 4), 5015), ((2025, 5), 5238), ((2025, 6), 5559), ((2025, 7), 5788), ((2025, 8), 6050),
    ((2025, 9), 6339), ((2025, 10), 6654), ((2025, 11), 6908), ((2025, 12), 7213), ((2026, 1), 7599), ((2026, 2), 7900),
    ((2026, 3), 8183), ((2026, 4), 8607), ((2026, 5), 8995), ((2026, 6), 9445), ((2026, 7), 9853), ((2026, 8), 10_217),
)  # fmt: skip
#: Months by which a build may be older than the text that names its date; of a program that brings its own copy, more.
_OLDER, _COPIES_OLDER = 1, 12

MASK_BYTES: Final[Quirk[int]] = quirk(
    (build(FIRST), 4, "src/llama-graph.cpp: build_kq_mask"),
    (build(9410), 2, "src/llama-graph.cpp: build_attn_inp_kq_mask, #23764"),
    says="bytes of one entry of the mask with flash attention",
)
HIDDEN: Final[Quirk[int]] = quirk(
    (build(FIRST), 1, "src/llama-graph.cpp: build_inp_embd"),
    (build(7819), 2, "src/llama-graph.cpp: ggml_build_forward_select, #18898"),
    says="hidden states of a batch on the host",
)
OUTPUTS_LIMITED: Final[Quirk[bool]] = quirk(
    (build(FIRST), False, "src/llama-context.cpp: n_outputs of the reserve is n_tokens"),
    (build(9460), True, "src/llama-context.cpp: n_outputs_max, #23861"),
    says="llama-server computes logits of one token a slot at most",
)
GATES: Final[Quirk[int]] = quirk(
    (build(FIRST), 2, "src/llama-graph.cpp: build_ffn, a product that is written over its factor"),
    (build(5776), 3, "src/llama-graph.cpp: build_ffn, ggml_swiglu_split, #14158"),
    says="vectors of a gated feed-forward that lie side by side",
)


def build_of(version: str) -> int | None:
    """The build that a version names; None where it names none.

    >>> build_of("llama.cpp b8179"), build_of("llama.cpp (2026-03)")
    (8179, None)
    """
    found = _BUILD.search(version)
    return int(found[1]) if found else None


def between(version: str) -> tuple[Release, Release]:
    """The oldest and the newest release that a version may be: of a date, what there was then and a month before.

    >>> between("llama.cpp b8179"), between("llama.cpp (2026-03)"), between("0.5.0") == (LATEST, LATEST)
    (((0, 0, 8179), (0, 0, 8179)), ((0, 0, 7900), (0, 0, 8606)), True)
    """
    named = build_of(version)
    if named is not None:
        return build(named), build(named)
    date = _DATE.search(version)
    if not date:
        return LATEST, LATEST
    year, month = int(date[1]), int(date[2]) if date[2] else 0
    older = _COPIES_OLDER if "ollama" in version.lower() else _OLDER
    return build(_first(year, (month or 1) - older)), _last(year, month or 12)


def _first(year: int, month: int) -> int:
    """The first build of a month; months are counted on over years."""
    when = (year + (month - 1) // 12, (month - 1) % 12 + 1)
    return next((number for named, number in reversed(_MONTHS) if named <= when), FIRST)


def _last(year: int, month: int) -> Release:
    """The last build of a month; of months after those that were counted, the commit that was studied."""
    when = (year, month + 1) if month < 12 else (year + 1, 1)
    number = next((number for named, number in _MONTHS if named >= when), None)
    return LATEST if number is None else build(number - 1)


def rules_of(release: Release, *, outputs: int | None, slots: int, pipeline: bool, server: bool = False) -> tuple[Rules, Rules]:
    """The rules of a release, from the least to the most that it may take.

    Args:
        release: of the build; the latest: the commit that was studied.
        outputs: tokens whose logits are computed, where somebody knows (0: all).
        slots: of the server.
        pipeline: whether several batches are computed at once.
        server: whether the program is known to be llama-server.
    """
    limited = OUTPUTS_LIMITED.at(release)
    fewest = most = 0 if outputs is None else outputs
    if outputs is None and limited:  # one a slot in servers; all in programs that use the library
        fewest, most = slots, slots if server else 0
    if release >= LATEST and server:
        return Rules(outputs=most), Rules(outputs=most)
    mask, hidden, gates = MASK_BYTES.at(release), HIDDEN.at(release), GATES.at(release)
    states = (2, 5) if pipeline and hidden > 1 else (hidden, hidden)
    least = Rules(outputs=fewest, host_mask=mask, hidden=states, studied=False, gates=gates)
    both = mask + 2 if mask > 2 else mask  # the mask and its cast
    return least, Rules(outputs=most, host_mask=mask, device_mask=both, hidden=states, studied=False)


def bands_between(
    h: Hparams,
    context: Context[int],
    placed: Sequence[Placed],
    releases: tuple[Release, Release],
    *,
    quantised: bool,
    outputs: int | None = None,
    server: bool = False,
) -> tuple[Band, ...]:
    """The compute buffers of each device and of the host, from the least to the most of two releases' rules.

    Args:
        h: the model.
        context: its context.
        placed: where its layers lie, from what takes least to what takes most.
        releases: the oldest and the newest that it may be.
        quantised: whether keys or values are.
        outputs: tokens whose logits are computed, where somebody knows.
        server: whether the program is known to be llama-server.
    """
    found = []
    for release in dict.fromkeys(releases):
        rules = rules_of(
            release, outputs=outputs, slots=int(context.n_seq_max), pipeline=placed[-1].pipeline_parallel, server=server
        )
        found += [
            compute(h, context, at, each, quantised=quantised) for at, each in zip((placed[0], placed[-1]), rules, strict=True)
        ]
    return tuple(_together(bands) for bands in zip(*found, strict=True))


def _together(bands: Sequence[Band]) -> Band:
    low, high = min(band.low for band in bands), max(band.high for band in bands)
    exact = len({(band.low, band.best, band.high) for band in bands}) == 1
    return bands[0] if exact else Band(low=low, best=(low + high) // 2, high=high)
