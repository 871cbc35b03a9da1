"""What changed between releases of each engine, rule by rule, and for whom: `docs/reference/changes-*.md`.

    python tools/changes.py    asks the catalogue anew and writes docs/reference/changes.json; minutes

The pages are made of the rules and of that file by `tools/make_reference.py`, at once. Run this when a rule by release or a model
of the catalogue is new: `tests/test_changes.py` asks some of it again.
"""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, NamedTuple

from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import ABOUTS, PREDICTED
from kvplan.engines.kernel.releases import ByType, Quirk, Release, Rule, parse_version, written
from kvplan.loading import catalogue
from kvplan.questions.diff import BUDGET_BYTES, Diff, of_engines
from kvplan.units import GIB

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
DATA = REFERENCE / "changes.json"
#: Windows and batches in flight are shorter than this, so that a change of what they hold is seen.
WORKLOAD = Workload(seq_len=65_536)
_NAMED = 6  # models of one rule that a page names


class Step(NamedTuple):
    """A rule that changes at a release: for which model types (none: all), from and to which value, and its source."""

    release: Release
    rule: Rule
    kinds: tuple[str, ...]
    was: Any
    now: Any
    source: str


def rules(engine: str) -> list[Rule]:
    """Every rule by release of an engine, in the order of its modules."""
    package = import_module(ABOUTS[engine].engine.rpartition(".")[0])
    found: dict[int, Rule] = {}
    for module in walk_packages(package.__path__, f"{package.__name__}."):
        for value in vars(import_module(module.name)).values():
            for rule in value.values() if isinstance(value, dict) else [value]:
                if isinstance(rule, Quirk | ByType):
                    found.setdefault(id(rule), rule)
    return list(found.values())


def steps(engine: str) -> list[Step]:
    """Every change, newest release first."""
    found: dict[tuple[Any, ...], list[str]] = {}
    known = rules(engine)
    first = [rows[0][0] for rule in known for rows in ([rule.rows] if isinstance(rule, Quirk) else rule.rows.values())]
    oldest = min(first, default=())  # what holds there did not change: nothing earlier was read
    for rule in known:
        for kind, rows in [("", rule.rows)] if isinstance(rule, Quirk) else rule.rows.items():
            value = rows[0][1] if isinstance(rule, Quirk) else rule.default
            for since, now, source in rows:
                if now != value and since > oldest:
                    found.setdefault((since, id(rule), value, now, source), []).append(kind)
                value = now
    by_id = {id(rule): rule for rule in known}
    every = [
        Step(since, by_id[i], tuple(k for k in kinds if k), was, now, source)
        for (since, i, was, now, source), kinds in found.items()
    ]
    return sorted(every, key=lambda step: step.release, reverse=True)


def versioned() -> list[str]:
    """The engines whose rules are known by release; of a front end, what it asks for is known, and its engine allocates."""
    return [name for name in PREDICTED if steps(name) and not ABOUTS[name].behind]


def text_of(release: Release) -> str:
    """As it is typed after the `@`."""
    return written(release if len(release) > 1 else (*release, 0))


def before(engine: str, release: Release) -> str:
    """The release before, of those at which a rule changes."""
    earlier = [step.release for step in steps(engine) if step.release < release]
    return text_of(max(earlier, default=parse_version(ABOUTS[engine].read_since or "0.1")))


def asked(engine: str, release: Release, models: list[Model]) -> Diff:
    """What a release changes for models."""
    return of_engines(f"{engine}@{before(engine, release)}", f"{engine}@{text_of(release)}", models, WORKLOAD)


def by_rule(found: Diff) -> dict[str, list[list[Any]]]:
    """Source of a rule -> name, bytes before and after, requests before and after of each model."""
    rows: dict[str, list[list[Any]]] = {}
    for c in found.changes:
        for cause in c.causes:
            row = [c.model.name, c.before.total_bytes, c.after.total_bytes, c.before.requests, c.after.requests]
            rows.setdefault(f"{cause.source} | {cause.rule}", []).append(row)
    return rows


def main() -> int:
    """Ask the whole catalogue about every release."""
    models = [catalogue.load(name)[0] for name in catalogue.names()]
    data: dict[str, Any] = {}
    for engine in versioned():
        data[engine] = {}
        for release in sorted({step.release for step in steps(engine)}, reverse=True):
            data[engine][text_of(release)] = by_rule(asked(engine, release, models))
            print(engine, text_of(release), {rule[-40:]: len(rows) for rule, rows in data[engine][text_of(release)].items()})
    DATA.write_text(json.dumps(data, indent=0, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8")
    return 0


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value) or "nothing"


def _whom(rows: list[list[Any]]) -> str:
    """Who is changed, and by how much."""
    if not rows:
        return "no cache of the catalogue, at defaults"
    words = [f"{name} {_percent(was, now, *requests)}" for name, was, now, *requests in rows[:_NAMED]]
    return ", ".join(words) + (f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else "")


def _percent(was: int | None, now: int | None, before_requests: int | None, after_requests: int | None) -> str:
    if was is None or now is None:
        return "is served" if was is None else "is refused"
    if was == now or not was:
        first, last = ("-" if count is None else f"{count:,}" for count in (before_requests, after_requests))
        return f"({first} to {last} requests)"
    return f"{100 * (now - was) / was:+.1f}%"


def page(engine: str) -> Iterator[str]:
    """The page of an engine."""
    data = json.loads(DATA.read_text(encoding="utf-8")).get(engine, {})
    yield f"# What changed for you: {engine}\n\n"
    amount = f"{BUDGET_BYTES // GIB} GiB"
    yield f"Every rule of {engine}'s that changed between releases, newest first, with where it was read. Named are models of\n"
    yield f"the catalogue whose cache of one sequence of {WORKLOAD.seq_len:,} tokens is another, and by how much, or of which\n"
    yield f"another number fits into {amount}. For your models and options: `kvplan diff {engine}@A {engine}@B MODEL`.\n"
    for release in sorted({step.release for step in steps(engine)}, reverse=True):
        yield f"\n## {text_of(release)}\n\n| rule | was | is | for whom | source |\n| --- | --- | --- | --- | --- |\n"
        for step in steps(engine):
            if step.release == release:
                says = step.rule.says or "(no words)"
                rows = data.get(text_of(release), {}).get(f"{step.source} | {says}", [])
                kinds = f" ({', '.join(step.kinds[:6])}{' …' if len(step.kinds) > 6 else ''})" if step.kinds else ""
                cells = (says + kinds, _value(step.was), _value(step.now), _whom(rows), f"`{step.source}`")
                yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    sys.exit(main())
