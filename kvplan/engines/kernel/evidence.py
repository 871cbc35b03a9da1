"""What stands behind a number: recorded cases of this engine, version range and these memory kinds, or only its rules.

`measured`: every memory kind of the model occurs in recorded cases of that engine and version, all of them exact
(`tests/golden`, checked by `kvplan audit` in the tests). `derived`: the rule was read in the engine's source or a paper, and
no recorded case covers it. `inferred`: the architecture is unknown and was read by its shape.
"""

from kvplan.domain.allocation import Evidence
from kvplan.domain.model import Model
from kvplan.domain.words import memory_kinds
from kvplan.engines.kernel.about import About


def evidence(about: About, release: tuple[int, ...], model: Model, *, inferred: bool = False) -> Evidence:
    """What stands behind an engine's numbers for `model`."""
    if inferred:
        return "inferred"
    covered: set[str] = set()
    for row in about.recorded:
        if row.first <= release <= row.last:
            covered |= row.kinds
    return "measured" if memory_kinds(model) <= covered else "derived"
