"""What `kvplan validate` shows: each figure predicted and real, one block a rank."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from kvplan.domain.tables import Column, Table
from kvplan.domain.words import layer_list, layer_range
from kvplan.report.answers.estimate import title
from kvplan.report.blocks import Block, Rows, View

if TYPE_CHECKING:
    from kvplan.questions.validate.compare import BufferCheck, Check, Validation

#: The columns of the CSV: one row a check, then one a buffer.
CSV_COLUMNS = (
    "model", "engine", "engine_version", "kv_dtype", "tensor_parallel", "batch_size", "seq_len", "encoder_len",
    "device", "rank", "world_size", "part", "what", "name", "layers", "unit", "predicted", "real", "difference", "exact", "equal",
)  # fmt: skip
_MOST_BUFFERS = 16  # rows; more are in the JSON

_COLUMNS = (
    Column(title="figure", key="name"),
    Column(title="layers", key="layers", drop=2),
    Column(title="predicted", key="predicted", kind="count"),
    Column(title="real", key="real", kind="count"),
    Column(title="difference", key="difference", kind="count", drop=1, instead=""),
    Column(title="verdict", key="verdict", kind="verdict"),
)


class ValidateAnswer(Struct, frozen=True):
    """One model against real tensors, on every rank."""

    key: ClassVar[str] = "validations"
    validations: Sequence["Validation"]

    def dicts(self) -> list[dict[str, Any]]:
        """One object a rank."""
        return [validation.to_dict() for validation in self.validations]

    def rows(self) -> Rows:
        """One row a check, then one a buffer."""
        return CSV_COLUMNS, [row for validation in self.validations for row in _csv_rows(validation)]

    def blocks(self, view: View) -> list[Block]:
        """One table."""
        return [validation_table(self.validations)]


def validation_table(validations: Sequence["Validation"]) -> Table:
    """One row a buffer and one a figure of the device, in whole bytes; all ranks in one table."""
    first = validations[0]
    rows: list[tuple[Any, ...]] = []
    notes = [_device_note(first)] if len(validations) == 1 else [_device_note(v) for v in validations]
    hidden = 0
    for validation in validations:
        on = f"{validation.whose}: " if validation.whose else ""
        buffers = validation.buffers
        if len(buffers) > _MOST_BUFFERS:
            shown = [b for b in buffers if b.difference][:_MOST_BUFFERS]
            hidden += len(buffers) - len(shown)
            buffers = tuple(shown)
        rows += [_buffer_row(on, buffer) for buffer in buffers]
        rows += [_check_row(on, check) for check in validation.checks]
    if first.part and len(validations) > 1:
        notes.append("the parts were allocated one after the other, each freed before the next")
    notes += _remarks(validations)
    if hidden:
        notes.append(f"{hidden:,} more buffers, all equal; --format json lists them")
    notes += first.allocation.notes
    return Table(title=title(first.allocation), columns=_COLUMNS, rows=tuple(rows), notes=tuple(notes))


def _remarks(validations: Sequence["Validation"]) -> list[str]:
    """What the figures have to add; said once when all ranks say the same."""
    said: dict[str, list[Validation]] = {}
    for validation in validations:
        for check in validation.checks:
            if check.remark:
                said.setdefault(f"{check.name}: {check.remark}", []).append(validation)
    return [text if len(those) == len(validations) else f"{_named(those)}: {text}" for text, those in said.items()]


def _named(those: Sequence["Validation"]) -> str:
    """Some of several ranks, or parts, in words."""
    parts = [each.part for each in those if each.part]
    return ", ".join(parts) or f"rank {layer_range([each.rank for each in those])}"


def _device_note(validation: "Validation") -> str:
    on = f"{validation.whose} on " if validation.whose else ""
    name = f" ({validation.device_name})" if validation.device_name != validation.device else ""
    torch = f", torch {validation.torch_version}" if validation.torch_version else ""
    return f"{on}{validation.device}{name}{torch}; bytes, or sequences for a batch"


def _buffer_row(on: str, buffer: "BufferCheck") -> tuple[Any, ...]:
    verdict = "differs" if buffer.difference else "equal"
    what = f"{on}{buffer.name} {_shape(buffer.shape)} {buffer.dtype}"
    change = buffer.real_bytes - buffer.predicted_bytes
    return (what, layer_list(buffer.layers), buffer.predicted_bytes, buffer.real_bytes, change, verdict)


def _check_row(on: str, check: "Check") -> tuple[Any, ...]:
    change = None if check.predicted is None else check.real - check.predicted
    verdict = ("equal" if check.equal else "differs") if check.exact else "information"
    return (f"{on}{check.name}", None, check.predicted, check.real, change, verdict)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _csv_rows(validation: "Validation") -> list[dict[str, Any]]:
    shared = {**validation.to_dict(), "part": validation.part}
    rows = []
    for check in validation.checks:
        name, layers, predicted, real, change, _ = _check_row("", check)
        figures = {"predicted": predicted, "real": real, "difference": change, "exact": check.exact, "equal": check.equal}
        rows.append({**shared, "what": "check", "name": name, "layers": layers, "unit": check.unit, **figures})
    for buffer in validation.buffers:
        _, _, predicted, real, change, _ = _buffer_row("", buffer)
        figures = {"predicted": predicted, "real": real, "difference": change, "exact": True, "equal": buffer.difference is None}
        rows.append(
            {**shared, "what": "buffer", "name": buffer.name, "layers": layer_range(buffer.layers), "unit": "bytes", **figures}
        )
    return rows
