"""Predicted beside real: plain values, whatever allocated the real side.

`compare` takes the tensors that were found, not how they came to be, so that a cache which an engine's own
code built can stand where torch's empty tensors stand today.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from kvplan.domain.allocation import Allocation
from kvplan.questions.validate.tensors import PlannedTensor

Unit = Literal["bytes", "sequences", "entries"]


class RealTensor(Struct, frozen=True, kw_only=True):
    """A tensor that was found on the device: `storage_bytes` is `untyped_storage().nbytes()`."""

    layer: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    storage_bytes: int


class Check(Struct, frozen=True, kw_only=True):
    """One figure, predicted and real. `exact`: a difference is a failure; otherwise it is information."""

    name: str
    predicted: int | None  # None: not predicted, and `remark` says why
    real: int
    exact: bool
    unit: Unit = "bytes"
    remark: str = ""

    @property
    def equal(self) -> bool:
        """Whether both are the same number."""
        return self.predicted == self.real

    @property
    def passed(self) -> bool:
        """Equal, or not required to be."""
        return self.equal or not self.exact

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; byte figures are named `*_bytes`."""
        suffix = "_bytes" if self.unit == "bytes" else ""
        return {
            "name": self.name,
            f"predicted{suffix}": self.predicted,
            f"real{suffix}": self.real,
            "unit": self.unit,
            "equal": self.equal,
            "exact": self.exact,
            "remark": self.remark,
        }


class Difference(Struct, frozen=True, kw_only=True):
    """The first tensor of a buffer whose bytes are not the predicted ones."""

    layer: int
    predicted_bytes: int
    real_bytes: int


class BufferCheck(Struct, frozen=True, kw_only=True):
    """All tensors of one `Buffer` together."""

    name: str
    kind: str
    layers: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    predicted_bytes: int
    real_bytes: int
    difference: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "kind": self.kind,
            "layers": list(self.layers),
            "shape": list(self.shape),
            "dtype": self.dtype,
            "predicted_bytes": self.predicted_bytes,
            "real_bytes": self.real_bytes,
            "equal": self.difference is None,
        }

    def sentence(self) -> str:
        """Where prediction and reality part: layer, name, shape, both numbers."""
        if self.difference is None:
            return ""
        where = f"layer {self.difference.layer}, {self.name}, shape {self.shape} of {self.dtype}"
        return f"{where}: predicted {self.difference.predicted_bytes:,} bytes, real {self.difference.real_bytes:,}"


class Step(Struct, frozen=True, kw_only=True):
    """One allocation of a search for the largest batch."""

    batch_size: int
    predicted_bytes: int
    fits: bool


class Validation(Struct, frozen=True, kw_only=True):
    """Everything that one device answered about one allocation."""

    allocation: Allocation
    device: str
    device_name: str
    torch_version: str  # empty: torch took no part
    checks: tuple[Check, ...]
    buffers: tuple[BufferCheck, ...] = ()
    steps: tuple[Step, ...] = ()
    limit_bytes: int | None = None
    rank: int = 0
    world_size: int = 1
    part: str = ""  # the device of a spread process whose part it is

    @property
    def whose(self) -> str:
        """Which of several processes or parts it is, in words; empty for the only one."""
        return self.part or (f"rank {self.rank}" if self.world_size > 1 else "")

    def __repr__(self) -> str:
        said = "as predicted" if self.passed else self.failure()
        return f"<Validation {self.allocation.model.name} · {self.allocation.engine} on {self.device_name}: {said}>"

    @property
    def passed(self) -> bool:
        """Whether every exact figure is equal, every buffer included."""
        return all(check.passed for check in self.checks) and all(b.difference is None for b in self.buffers)

    def failure(self) -> str:
        """The first difference in one sentence; empty when there is none."""
        on = f"{self.whose}: " if self.whose else ""
        for buffer in self.buffers:
            if buffer.difference:
                return f"{on}{buffer.sentence()}"
        for check in self.checks:
            if not check.passed:
                return f"{on}{check.name}: predicted {check.predicted:,} {check.unit}, real {check.real:,}"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, every bytes value an exact int."""
        about = self.allocation.to_dict()
        keys = ("model", "engine", "engine_version", "kv_dtype", "tensor_parallel", "batch_size", "seq_len", "encoder_len")
        answer: dict[str, Any] = {key: about[key] for key in keys}
        answer |= {
            "device": self.device,
            "device_name": self.device_name,
            "torch_version": self.torch_version,
            "rank": self.rank,
            "world_size": self.world_size,
            **({"part": self.part} if self.part else {}),
            "limit_bytes": self.limit_bytes,
            "predicted_bytes": self.allocation.allocated_bytes,
            "equal": self.passed,
            "checks": [check.to_dict() for check in self.checks],
            "buffers": [buffer.to_dict() for buffer in self.buffers],
        }
        if self.steps:
            answer["steps"] = [
                {"batch_size": s.batch_size, "predicted_bytes": s.predicted_bytes, "fits": s.fits} for s in self.steps
            ]
        return answer


def compare(allocation: Allocation, planned: Sequence[PlannedTensor], real: Iterable[RealTensor]) -> tuple[BufferCheck, ...]:
    """Each buffer of `allocation` against the tensors that exist for it.

    Tensors are paired by layer and name, in order where a layer holds several of one name. A planned
    tensor without a partner counts as 0 real bytes; a real tensor that nobody planned gets a row of its own.
    """
    waiting: Mapping[tuple[int, str], list[RealTensor]] = defaultdict(list)
    for tensor in real:
        waiting[tensor.layer, tensor.name].append(tensor)
    real_bytes = [0] * len(allocation.buffers)
    differences: dict[int, Difference] = {}
    for wanted in planned:
        queue = waiting[wanted.layer, wanted.name]
        found = queue.pop(0).storage_bytes if queue else 0
        real_bytes[wanted.buffer] += found
        if found != wanted.predicted_bytes and wanted.buffer not in differences:
            differences[wanted.buffer] = Difference(layer=wanted.layer, predicted_bytes=wanted.predicted_bytes, real_bytes=found)
    checked = [
        BufferCheck(
            name=buffer.name,
            kind=buffer.kind,
            layers=buffer.layers,
            shape=buffer.shape,
            dtype=buffer.dtype,
            predicted_bytes=buffer.padded_bytes,
            real_bytes=real_bytes[position],
            difference=differences.get(position),
        )
        for position, buffer in enumerate(allocation.buffers)
    ]
    return (*checked, *(_unplanned(tensor) for queue in waiting.values() for tensor in queue))


def _unplanned(tensor: RealTensor) -> BufferCheck:
    return BufferCheck(
        name=tensor.name,
        kind="not predicted",
        layers=(tensor.layer,),
        shape=tensor.shape,
        dtype=tensor.dtype,
        predicted_bytes=0,
        real_bytes=tensor.storage_bytes,
        difference=Difference(layer=tensor.layer, predicted_bytes=0, real_bytes=tensor.storage_bytes),
    )
