"""One answer: what was kept, by which law, as which model, and whether lengths that were not fitted agree. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from kvplan.domain.allocation import Allocation
from kvplan.domain.model import Model, ModelError
from kvplan.domain.workload import Workload
from kvplan.errors import KvplanError
from kvplan.questions.estimate import plan
from kvplan.questions.measure.description import described
from kvplan.questions.measure.observed import Facts, NotMeasured, Observation, Point
from kvplan.questions.measure.series import Series, shown_path, together


class Line(Struct, frozen=True, kw_only=True):
    """Equal tensors of several layers: how they grow, and what those of one layer take at the longest length."""

    name: str
    layers: tuple[int, ...]
    law: str
    entry: tuple[int, ...]  # elements of one entry of one sequence
    dtype: str
    bytes: int  # of all layers, at the longest length; of one sequence, if sequences own it

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name, "layers": list(self.layers), "law": self.law, "entry": list(self.entry), "dtype": self.dtype,
            "bytes": self.bytes,
        }  # fmt: skip


class Compared(Struct, frozen=True, kw_only=True):
    """One run beside what the description says of it; `fitted` says that its laws knew it."""

    batch_size: int
    seq_len: int
    prompt_len: int
    encoder_len: int
    predicted: int | None  # bytes
    real: int  # bytes
    layer: int | None = None  # the first that differs
    fitted: bool = True

    @property
    def equal(self) -> bool:
        """Whether every layer agrees to the byte."""
        return self.predicted == self.real and self.layer is None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "batch_size": self.batch_size, "seq_len": self.seq_len, "prompt_len": self.prompt_len,
            "encoder_len": self.encoder_len,
            "predicted_bytes": self.predicted, "real_bytes": self.real, "fitted": self.fitted, "equal": self.equal,
        }  # fmt: skip


class Unexplained(Struct, frozen=True, kw_only=True):
    """A tensor that no law describes, with its numbers."""

    name: str
    why: str
    numbers: str

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"name": self.name, "why": self.why, "numbers": self.numbers}


class Measured(Struct, frozen=True, kw_only=True):
    """What a model keeps, measured, and the model that says the same.

    `model` estimates and compares like any other; it is to be believed when `passed`. `beside` are tensors that no sequence
    owns (counters, tables): they are no part of it. `unexplained` are those that it cannot describe.
    """

    model: Model
    facts: Facts
    lines: tuple[Line, ...]
    beside: tuple[Line, ...]
    unexplained: tuple[Unexplained, ...]
    runs: tuple[Compared, ...]
    remarks: tuple[str, ...]
    seconds: float
    depths: tuple[int, ...] = ()  # layers of the stacks that were run, where these are fewer than the model has

    def __repr__(self) -> str:
        said = "every byte as described" if self.passed else "not described"
        return f"<Measured {self.facts.name} · {len(self.model.layers)} layers · {len(self.runs)} runs · {said}>"

    @property
    def passed(self) -> bool:
        """Whether the description gives every measured byte, also at lengths that were not fitted."""
        return not self.unexplained and all(run.equal for run in self.runs)

    def failure(self) -> str:
        """What differs, in a sentence; empty when nothing does."""
        if self.unexplained:
            first = self.unexplained[0]
            more = f", and {len(self.unexplained) - 1:,} more" if len(self.unexplained) > 1 else ""
            return f"{first.name} follows no law that a description has: {first.why}{more}"
        wrong = next((run for run in self.runs if not run.equal), None)
        if wrong is None:
            return ""
        what = f"{wrong.batch_size} x {wrong.seq_len:,} tokens"
        where = "" if wrong.layer is None else f" in layer {wrong.layer}"
        said = "nothing" if wrong.predicted is None else f"{wrong.predicted:,} bytes"
        return f"at {what} the laws say {said} and {wrong.real:,} are kept{where}"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, every bytes value an exact int."""
        f = self.facts
        return {
            "class": f.name, "source": f.source, "library": f.library, "torch": f.torch, "device": f.device,
            "passed": self.passed, "failure": self.failure(), "model": self.model.to_dict(),
            "tensors": [line.to_dict() for line in self.lines],
            "beside": [line.to_dict() for line in self.beside],
            "unexplained": [one.to_dict() for one in self.unexplained],
            "runs": [run.to_dict() for run in self.runs], "remarks": list(self.remarks), "run_layers": list(self.depths),
        }  # fmt: skip


def measured(seen: Observation, name: str = "") -> Measured:
    """Fit the runs, describe the model, and hold the description against every run.

    Args:
        seen: the runs.
        name: what the model is called; the class when empty.
    """
    facts = seen.facts
    series = together(seen.points, facts)
    beside = [one for one in series if not one.per_sequence and (one.counter or not one.stepped)]
    loose = [_unexplained(one, seen.points) for one in series if one.law is None and one not in beside]
    unexplained = tuple(dict.fromkeys(loose))  # layers are alike
    try:
        model = described(name or facts.name, series, facts, list(_notes(seen, beside)))
    except ModelError as problem:
        raise NotMeasured(
            f"{facts.name}: what it keeps is no model: {problem}", hint="measure a smaller config of it"
        ) from problem
    kept = [one for one in series if one not in beside]
    return Measured(
        model=model,
        facts=facts,
        lines=tuple(_lines([one for one in kept if one.law is not None], seen.points)),
        beside=tuple(_lines(beside, seen.points)),
        unexplained=unexplained,
        runs=tuple(_compared(model, kept, number, point) for number, point in enumerate(seen.points)),
        remarks=seen.remarks,
        seconds=seen.seconds,
        depths=seen.depths,
    )


def stacks_in_words(depths: Sequence[int], layers: int) -> str:
    """Which stacks stand for all layers."""
    *learned, last = depths
    return f"{layers:,} layers from {' and '.join(map(str, learned))} of them; what {last} keep was predicted first"


def _notes(seen: Observation, beside: Sequence[Series]) -> Iterator[str]:
    """What every report of the model says."""
    facts = seen.facts
    by = facts.library or f"torch {facts.torch}"
    longest = max(point.seq_len for point in seen.points)
    yield f"measured: {facts.source or facts.name} with {by} on {facts.device}, up to {longest:,} tokens, after a decode step"
    if seen.depths:
        yield stacks_in_words(seen.depths, facts.layers or 0)
    yield from (remark for remark in seen.remarks if remark.startswith("its config names"))
    if beside:
        most = sum(max(one.bytes) for one in beside)
        yield f"beside it the class keeps {most:,} bytes that no sequence owns (counters, tables), which are not counted"


def _compared(model: Model, kept: Sequence[Series], number: int, point: Point) -> Compared:
    """One run, layer by layer; what names no layer is the first's."""
    real = [0] * len(model.layers)
    loose = any(one.layer is None for one in kept)
    for one in kept:
        real[one.layer if one.layer is not None and one.layer < len(real) else 0] += one.bytes[number]
    predicted: list[int] | None = None
    try:
        answer = plan(model, Workload(batch_size=point.batch_size, seq_len=point.seq_len, encoder_len=point.encoder_len))
        predicted = [layer.bytes for layer in answer.layers] if isinstance(answer, Allocation) else None
    except KvplanError:
        pass
    wrong = None if predicted is None or loose else next((i for i, size in enumerate(predicted) if size != real[i]), None)
    return Compared(
        batch_size=point.batch_size,
        seq_len=point.seq_len,
        prompt_len=point.prompt_len,
        encoder_len=point.encoder_len,
        predicted=None if predicted is None else sum(predicted),
        real=sum(real),
        layer=wrong,
        fitted=not point.check,
    )


def _unexplained(one: Series, points: Sequence[Point]) -> Unexplained:
    """A tensor and its numbers, shortest length first."""
    seen = sorted({(p.seq_len, p.batch_size, size) for p, size in zip(points, one.bytes, strict=True)})
    numbers = ", ".join(f"{batch}x{length:,}: {size:,} B" for length, batch, size in seen[:8])
    why = "its bytes over the length are none of the laws"
    if not one.per_sequence:
        why = "it is written at each step and does not grow with the batch, as what is made for a fixed batch does"
    return Unexplained(
        name=shown_path(_beyond(one)), why=why, numbers=f"sequences x tokens: {numbers}{', …' if len(seen) > 8 else ''}"
    )


def _lines(series: Sequence[Series], points: Sequence[Point]) -> Iterator[Line]:
    """Equal series of several layers in one line."""
    longest = max(range(len(points)), key=lambda i: points[i].seq_len)
    groups: dict[tuple[Any, ...], list[Series]] = {}
    for one in series:
        name = shown_path(_beyond(one))
        groups.setdefault((name, str(one.law or _whatever(one)), one.entry, one.dtype), []).append(one)
    for (name, law, entry, dtype), alike in groups.items():
        yield Line(
            name=name,
            layers=tuple(sorted({one.layer for one in alike if one.layer is not None})),
            law=law,
            entry=entry,
            dtype=dtype,
            bytes=sum(one.bytes[longest] // (points[longest].batch_size if one.per_sequence else 1) for one in alike),
        )


def _beyond(one: Series) -> list[str]:
    """A path without its layer."""
    return [step for depth, step in enumerate(one.path) if depth != one.at]


def _whatever(one: Series) -> str:
    """The law of a tensor that no sequence owns."""
    return "the same for every batch" if len(set(one.bytes)) == 1 else "grows, the same for every batch"
