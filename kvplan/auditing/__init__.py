"""Recorded facts against predictions: `audit(path)` reads cases as JSON lines and compares every fact.

To add an engine, write `kvplan/auditing/<engine>.py` and add its row to `AUDITORS`. The module has:

`recorded(case, expected) -> Mapping[str, Any]`
    The facts that the record holds, under the names of docs/reference/audit.md; nested ones are flattened
    (`memory[0].num_blocks`), runs of equal layers are spelled out (one int a layer). A fact that the record
    lacks is left out. Only this function sees the recorded values.
`predict(case, asked) -> Mapping[str, Any] | NotPredicted`
    What kvplan says, by the same names; more names than were recorded do no harm. `case` carries no recorded
    value. A name that was recorded and is missing here counts as a difference.
`asked(case, expected) -> Mapping[str, Any]` (optional)
    Inputs that the record keeps among its facts (vLLM: the memory budgets; the lengths asked about), and
    nothing else: what it returns is handed to `predict`.
`as_recorded(name, predicted, recorded) -> Any` (optional)
    The predicted value written as the record writes that fact (rounded to its digits, in its unit). Two values
    agree when this equals `recorded`; without it, they agree when they are equal.
`remark(case) -> str` (optional)
    What a reader must know beside the verdict (an erratum of the source), or "".

`InvalidCase(reason)` says that a record cannot be read; errors of kvplan's own (`KvplanError`) are turned into
`not_predicted` or `invalid` for it by `judge`. Tests: `tests/auditing/test_<engine>.py`.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from kvplan.auditing.judge import Audit

#: Engine name in a case -> module in `kvplan.auditing`. A new engine is one file and one row.
AUDITORS: Final[dict[str, str]] = {
    "fieldlog": "fieldlog",
    "llama.cpp": "llama_cpp",
    "paper": "papers",
    "transformers": "transformers",
    "vllm": "vllm",
}


def auditor(engine: str) -> Any | None:
    """The module that knows an engine's facts, or None."""
    name = AUDITORS.get(engine)
    return import_module(f"kvplan.auditing.{name}") if name else None


def audit(
    cases: str | Path | Mapping[str, Any] | Iterable[str | Path | Mapping[str, Any]],
    *,
    model: Any = None,
    progress: Callable[[int], None] | None = None,
) -> "Audit":
    """Compare recorded cases with predictions.

    Args:
        cases: a JSON-lines file, an engine's log, one case as a dict, or several of these.
        model: what a log is about, as `kvplan.load` takes it; a llama.cpp log lists most of its model's metadata itself.
        progress: called with the bytes read so far of each line (or 1 a dict).

    Returns:
        An `Audit`: `.results` in order, `.exact` (whether all are), `.to_dict()`.

    Raises:
        InputError: a file is missing, unreadable or holds no case. A malformed case is a result, not an error.
    """
    from kvplan.auditing.cases import read_cases, record_from
    from kvplan.auditing.judge import Audit, judge
    from kvplan.auditing.logs import judge_log, reader_of

    subject = None
    if model is not None:
        from kvplan.loaders import load

        subject = load(model)
    sources = [cases] if isinstance(cases, str | Path | Mapping) else list(cases)
    results = []
    for source in sources:
        if isinstance(source, Mapping):
            results.append(judge(record_from(source, where="dict")))
            continue
        reader = reader_of(Path(source))
        if reader is not None:
            results.extend(judge_log(Path(source), reader, subject))
            continue
        results.extend(judge(record) for record in read_cases(Path(source), progress=progress))
    return Audit(results=tuple(results))
