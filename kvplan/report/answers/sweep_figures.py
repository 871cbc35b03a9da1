"""The figures of a grid: a curve a combination and batch size over the lengths, or over the batch sizes of one length."""

from typing import TYPE_CHECKING, Any, Final

from kvplan.errors import OptionError
from kvplan.report.answers.engine_words import engine_words
from kvplan.report.figures import Axis, Curves, Line

if TYPE_CHECKING:
    from kvplan.questions.sweep.grid import Combination, Sweep

#: Points of a curve: more than a page shows, and few enough for any grid.
_POINTS: Final = 512
_CURVES: Final = 12  # in one figure
_GEOMETRIC: Final = 16  # the last over the first, from which on steps are factors
_VARYING: Final = ("model", "engine", "kv_dtype", "tensor_parallel")


def sweep_figures(sweep: "Sweep") -> list[Curves]:
    """The cache over the lengths, in one figure a batch size where the curves would be many; and what the next token adds."""
    if not sweep.combinations:
        raise OptionError("nothing is predicted, so there is no figure", hint="; ".join(sweep.notes[:2]))
    drawn = sweep.thinned(_POINTS)
    lengths, batches = drawn.seq_lens.tolist(), drawn.batch_sizes.tolist()
    differing = [name for name in _VARYING if len({c.labels[name] for c in drawn.combinations}) > 1]
    same = [_label(drawn.combinations[0], name) for name in _VARYING if name not in differing and name != "tensor_parallel"]
    found = [(c, drawn.columns(c)) for c in drawn.combinations]
    notes = _notes(sweep, len(lengths))
    if len(lengths) == 1 and len(batches) > 1:
        lines = [_line(c, differing, "", batches, list(map(int, columns["total_bytes"]))) for c, columns in found]
        title = " · ".join(["KV cache", *same, f"{lengths[0]:,} tokens a sequence"])
        axis = Axis(title="Sequences held at once", log=_steps_are_factors(batches))
        return [_curves("cache", title, axis, lines, notes)]
    axis = Axis(title="Tokens per sequence", kind="tokens", log=_steps_are_factors(lengths))
    apart = len(batches) > 1 and len(batches) * len(found) > _CURVES
    groups = [[i] for i in range(len(batches))] if apart else [list(range(len(batches)))]
    figures = []
    for group in groups:
        lines = [
            _line(
                c,
                differing,
                f"batch {batches[i]:,}" if len(group) > 1 else "",
                lengths,
                _column(columns, "total_bytes", i, batches),
            )
            for c, columns in found
            for i in group
        ]
        held = f"batch {batches[group[0]]:,}" if len(group) == 1 else f"{len(group)} batch sizes"
        name = f"cache-batch-{batches[group[0]]}" if apart else "cache"
        figures.append(_curves(name, " · ".join(["KV cache", *same, held]), axis, lines, notes))
    lines = [_line(c, differing, "", lengths, _column(columns, "bytes_per_token", 0, batches)) for c, columns in found]
    title = " · ".join(["KV cache of the next token", *same])
    figures.append(_curves("per-token", title, axis, lines, notes, y="What one more token of one sequence adds", more=True))
    return figures


def _curves(
    name: str, title: str, x: Axis, lines: list[Line], notes: tuple[str, ...], *, y: str = "KV cache", more: bool = False
) -> Curves:
    values = [value for line in lines for value in line.y]
    # against lengths whose steps are factors a straight scale would bend what grows evenly
    log = x.log and min(values, default=0) > 0 and max(values) >= 4 * min(values)
    return Curves(name=name, title=title, x=x, y=Axis(title=y, kind="bytes", log=log), lines=tuple(lines), notes=notes, more=more)


def _line(c: "Combination", differing: list[str], batch: str, x: list[int], y: list[int]) -> Line:
    words = [_label(c, name) for name in differing] + ([batch] if batch else [])
    return Line(label=" · ".join(words) or str(c.labels["model"]), x=tuple(x), y=tuple(y))


def _label(c: "Combination", name: str) -> str:
    if name == "engine":
        return engine_words(str(c.labels["engine"]), str(c.labels["engine_version"]))
    value = c.labels[name]
    return f"{value} devices" if name == "tensor_parallel" else str(value)


def _column(columns: Any, name: str, batch: int, batches: list[int]) -> list[int]:
    return list(map(int, columns[name].reshape(-1, len(batches))[:, batch]))


def _steps_are_factors(values: list[int]) -> bool:
    """Whether values span so much, by growing steps, that steps of an axis are factors."""
    if len(values) < 3 or values[0] <= 0 or values[-1] < _GEOMETRIC * values[0]:
        return False
    return values[-1] - values[-2] > 2 * (values[1] - values[0])


def _notes(sweep: "Sweep", drawn: int) -> tuple[str, ...]:
    evidence = list(dict.fromkeys(str(c.labels["evidence"]) for c in sweep.combinations))
    fewer = (f"{drawn} of {len(sweep.seq_lens):,} lengths are drawn",) if drawn < len(sweep.seq_lens) else ()
    return (f"evidence: {', '.join(evidence)}", *fewer, *sweep.notes)
