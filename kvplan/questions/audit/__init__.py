"""Recorded facts against predictions.

The module that knows an engine's facts lies in the engine's folder and is named by its `About`. It has:

`recorded(case, expected) -> Mapping[str, Any]`
    The facts that the record holds, under the names of docs/reference/audit.md; nested ones are flattened
    (`memory[0].num_blocks`), runs of equal layers are spelled out (one int a layer). A fact that the record
    lacks is left out. Only this function sees the recorded values.
`predict(case, asked, read) -> Mapping[str, Any] | NotPredicted`
    What kvplan says, by the same names; more names than were recorded do no harm. `case` carries no recorded
    value. A name that was recorded and is missing here counts as a difference. `read(config, name="")` makes a model of
    a hub config: an engine knows no front ends.
`asked(case, expected) -> Mapping[str, Any]` (optional)
    Inputs that the record keeps among its facts (vLLM: the memory budgets; the lengths asked about), and
    nothing else: what it returns is handed to `predict`.
`as_recorded(name, predicted, recorded) -> Any` (optional)
    The predicted value written as the record writes that fact (rounded to its digits, in its unit). Two values
    agree when this equals `recorded`; without it, they agree when they are equal.
`covers(case, facts, read) -> Covered | None`
    What a record whose `facts` are recorded holds, as evidence is judged (`engines/kernel/evidence.py`); None for one that
    holds nothing of a cache. tools/make_recorded.py asks it of exact cases.
`remark(case) -> str` (optional)
    What a reader must know beside the verdict (an erratum of the source), or "".

`InvalidCase(reason)` says that a record cannot be read; errors of kvplan's own (`KvplanError`) are turned into
`not_predicted` or `invalid` for it by `judge`. Tests: `tests/engines/<engine>/`.
"""

from typing import Any, Final

from kvplan.engines import ABOUTS, located

#: Kinds of record that belong to no single engine.
_OTHERS: Final[dict[str, str]] = {"fieldlog": "kvplan.questions.audit.fieldlog", "paper": "kvplan.questions.audit.papers"}


def auditor(engine: str) -> Any | None:
    """The module that knows an engine's facts, or None."""
    name = _OTHERS.get(engine) or (ABOUTS[engine].audit if engine in ABOUTS else "")
    return located(name) if name else None
