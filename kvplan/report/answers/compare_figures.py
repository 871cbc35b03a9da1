"""The figures of a comparison: a bar a row, parted into what holds data and what pads it."""

from collections.abc import Sequence

from kvplan.domain.allocation import Allocation
from kvplan.domain.tables import ratio_words
from kvplan.questions.compare import Comparison, Row
from kvplan.report.answers.engine_words import engine_words
from kvplan.report.figures import Axis, Bar, Bars
from kvplan.units import human_bytes

#: What may tell one row from another.
_TELLING = ("model", "engine", "kv_dtype")
#: Of a bar: what is less cannot be seen in it.
_VISIBLE = 200


def comparison_figures(c: Comparison, name: str, notes: Sequence[str]) -> list[Bars]:
    """The cache of each row, and what the next token adds to it.

    Args:
        c: the comparison.
        name: of the first figure; the second's begins with it.
        notes: what must be known beside the numbers.
    """
    differing = [word for word in _TELLING if len({_words(row, word) for row in c.rows}) > 1] or ["model"]
    same = [_words(c.rows[0], word) for word in _TELLING if word not in differing]
    w = c.workload
    held = f"{w.batch_size:,} x {w.seq_len:,} tokens" + (f" + {w.encoder_len:,} encoder tokens" if w.encoder_len else "")
    answers = [row.answer for row in c.rows]
    padded = any(
        isinstance(a, Allocation) and _VISIBLE * (a.allocated_bytes - a.payload_bytes) > a.allocated_bytes for a in answers
    )
    labels = [" · ".join(_words(row, word) for word in differing) for row in c.rows]
    cache = Bars(
        name=name,
        title=" · ".join(["KV cache", *same, held]),
        axis=Axis(title="KV cache", kind="bytes"),
        bars=tuple(_cache(row, label, padded=padded) for row, label in zip(c.rows, labels, strict=True)),
        parts=("data", "padding and rounding") if padded else (),
        notes=tuple(notes),
    )
    token = Bars(
        name=f"{name}-per-token",
        title=" · ".join(["KV cache of the next token", *same, held]),
        axis=Axis(title="What one more token of one sequence adds", kind="bytes"),
        bars=tuple(_token(row, label) for row, label in zip(c.rows, labels, strict=True)),
        notes=tuple(notes),
        more=True,
    )
    return [cache, token]


def _words(row: Row, word: str) -> str:
    if word == "engine":
        return engine_words(row.engine)
    return row.model.name if word == "model" else row.kv_dtype


def _cache(row: Row, label: str, *, padded: bool) -> Bar:
    a = row.answer
    if not isinstance(a, Allocation):
        return Bar(label=label, parts=(), text="not predicted")
    text = human_bytes(a.total_bytes) + ("" if row.relative is None else f" · {ratio_words(row.relative)}")
    parts = (a.payload_bytes, a.allocated_bytes - a.payload_bytes) if padded else (a.total_bytes,)
    return Bar(label=label, parts=parts, text=text)


def _token(row: Row, label: str) -> Bar:
    a = row.answer
    if not isinstance(a, Allocation):
        return Bar(label=label, parts=(), text="not predicted")
    return Bar(label=label, parts=(a.bytes_per_token,), text=f"{a.bytes_per_token:,} B")
