"""`kvplan.audit`: recorded facts against predictions."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kvplan.domain.machine import Learned
from kvplan.engines.kernel.cases import read_cases, record_from
from kvplan.engines.kernel.verdicts import Audit
from kvplan.limits import AUDIT_CASES
from kvplan.loading import load
from kvplan.questions.audit.judge import judge
from kvplan.questions.audit.learn import learned_from
from kvplan.questions.audit.logs import judge_log, left_out, reader_of
from kvplan.report.notebook import displayed

displayed(Audit, "kvplan.report.answers.audit:AuditAnswer", several=False)


def audit(
    cases: str | Path | Mapping[str, Any] | Iterable[str | Path | Mapping[str, Any]],
    *,
    model: Any = None,
    gpu: str | None = None,
    learn: list[Learned] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Audit:
    """Compare recorded cases with predictions.

    Args:
        cases: a JSON-lines file, an engine's log, one case as a dict, or several of these.
        model: what a log is about, as `kvplan.load` takes it; a llama.cpp log lists most of its model's metadata itself.
        gpu: the card that a log is from, where it does not tell.
        learn: a list that gets what only the machines behind logs and recorded starts know (`combined` makes one of them).
        progress: called with the bytes read so far of each line (or 1 a dict).

    Returns:
        An `Audit`: `.results` in order, `.exact` (whether all are), `.to_dict()`.

    Raises:
        InputError: a file is missing, unreadable or holds no case. A malformed case is a result, not an error.
    """
    subject = None if model is None else load(model)
    sources = [cases] if isinstance(cases, str | Path | Mapping) else list(cases)
    results = []
    for source in sources:
        if isinstance(source, Mapping):
            results.append(judge(record_from(source, where="dict")))
            continue
        reader = reader_of(Path(source))
        if reader is not None:
            results.extend(judge_log(Path(source), reader, subject, gpu=gpu, learn=learn))
            continue
        for number, record in enumerate(read_cases(Path(source), progress=progress)):
            if number == AUDIT_CASES:
                results.append(left_out(Path(source).name, f"it holds more than {AUDIT_CASES:,} cases: the rest was left out"))
                break
            results.append(judge(record))
            if learn is not None:
                learn.extend(learned_from(record))
    return Audit(results=tuple(results))
