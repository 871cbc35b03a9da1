"""Recorded cases as questions for any calculator, and its answers judged: right or wrong, by engine and by kind of memory.

An item is what was asked of a real engine and one total of what it answered, in bytes. An answer is a number for an id.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from kvplan.engines.kernel.cases import InvalidCase, Record
from kvplan.errors import InputError, shown
from kvplan.questions.audit import auditor

#: The totals that records hold, the first that is there: the whole cache, one request of a server, a pool, a token.
TOTALS: Final = ("total_bytes", "bytes_one_request_at_max_model_len", "kv_pool_bytes", "bytes_per_token")
#: A total that is off by less than this is near: right for a plan, wrong for a proof.
NEAR: Final = 0.01
LICENCE: Final = "Apache-2.0, as kvplan; configs are their publishers'"
HOW: Final = 'answer with one JSON object a line: {"id": …, "bytes": a whole number, or null where you cannot tell}'

Verdict = Literal["right", "near", "too little", "too much", "none"]
VERDICTS: Final[tuple[Verdict, ...]] = ("right", "near", "too little", "too much", "none")


class Item(Struct, frozen=True, kw_only=True):
    """One question: the inputs of a recorded case, and its total in bytes; `fact` is its name in docs/reference/audit.md."""

    id: str
    engine: str
    engine_version: str
    kind: str  # of memory, in the words of `kvplan models --kind`
    model: str
    config: Mapping[str, Any]
    workload: Mapping[str, Any]
    options: Mapping[str, Any]
    fact: str
    expected: int
    source: str

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, one line of the file."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


def item_of(record: Record, kind: str) -> Item | None:
    """The question that a record makes; None for one that holds no total, or cannot be read."""
    case = record.case
    module = None if record.invalid else auditor(case.engine)
    if module is None or not case.config:
        return None
    try:
        facts = module.recorded(case, record.expected)
    except (InvalidCase, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None  # `kvplan audit` says what is wrong with it
    for name in TOTALS:
        value = facts.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return Item(
                id=case.id,
                engine=case.engine,
                engine_version=case.engine_version,
                kind=kind,
                model=case.model,
                config=case.config,
                workload=case.workload,
                options=case.options,
                fact=name,
                expected=value,
                source=case.source,
            )
    return None


def header(items: Sequence[Item]) -> dict[str, Any]:
    """The first line of the file: what it is, whose, and where the numbers come from."""
    engines: dict[str, dict[str, int]] = {}
    for item in items:
        versions = engines.setdefault(item.engine, {})
        versions[item.engine_version] = versions.get(item.engine_version, 0) + 1
    said = "read from the tensors, plans and logs of these engines, or printed in papers; nothing was computed by a formula"
    return {"conformance": 1, "cases": len(items), "licence": LICENCE, "sources": said, "engines": engines, "how": HOW}


class Line(Struct, frozen=True, kw_only=True):
    """One engine and kind of memory: how many of the cases ended how, in the order of `VERDICTS`."""

    engine: str
    kind: str
    counts: tuple[int, ...]

    @property
    def verdicts(self) -> Mapping[str, int]:
        """The same by name, `right` to `none`."""
        return dict(zip(VERDICTS, self.counts, strict=True))

    @property
    def cases(self) -> int:
        """All of them."""
        return sum(self.counts)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        counts = {verdict.replace(" ", "_"): count for verdict, count in self.verdicts.items()}
        return {"engine": self.engine, "kind": self.kind, "cases": self.cases, **counts}


class Score(Struct, frozen=True, kw_only=True):
    """All lines, in the order of the cases; `strangers` are answers to nothing that was asked."""

    lines: tuple[Line, ...]
    strangers: int = 0

    def __repr__(self) -> str:
        return f"<Score {self.total('right'):,} of {sum(line.cases for line in self.lines):,} cases right>"

    @property
    def right(self) -> bool:
        """Whether every case is answered to the byte."""
        return all(line.verdicts.get("right", 0) == line.cases for line in self.lines)

    def total(self, verdict: Verdict) -> int:
        """Cases of all engines that ended so."""
        return sum(line.verdicts.get(verdict, 0) for line in self.lines)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/audit.md)."""
        return {"strangers": self.strangers, "lines": [line.to_dict() for line in self.lines]}


def verdict(expected: int, answer: int | None) -> Verdict:
    """How an answer stands to the recorded total.

    >>> verdict(1000, 1000), verdict(1000, 1009), verdict(1000, 500), verdict(1000, None)
    ('right', 'near', 'too little', 'none')
    """
    if answer is None:
        return "none"
    if answer == expected:
        return "right"
    if abs(answer - expected) <= NEAR * expected:
        return "near"
    return "too little" if answer < expected else "too much"


def score(items: Iterable[Item], answers: Mapping[str, int | None]) -> Score:
    """Every case against its answer; a case without one is not answered."""
    counts: dict[tuple[str, str], list[int]] = {}
    asked = set()
    for item in items:
        asked.add(item.id)
        found = counts.setdefault((item.engine, item.kind), [0] * len(VERDICTS))
        found[VERDICTS.index(verdict(item.expected, answers.get(item.id)))] += 1
    lines = tuple(Line(engine=engine, kind=kind, counts=tuple(found)) for (engine, kind), found in sorted(counts.items()))
    return Score(lines=lines, strangers=len(answers.keys() - asked))


def answer_of(data: object, where: str) -> tuple[str, int | None]:
    """One line of answers: the id, and the bytes.

    Raises:
        InputError: it is no such line.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("id"), str):
        raise InputError(f"{where}: an answer has an `id`, got {shown(data)[:120]}", hint=HOW)
    value = data.get("bytes")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63):
        raise InputError(f"{where}: `bytes` must be a whole number or null, got {shown(value)[:80]}", hint=HOW)
    return data["id"], value
