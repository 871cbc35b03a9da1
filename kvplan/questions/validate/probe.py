"""The largest batch that really fits under a byte limit, beside the largest that is predicted to."""

from typing import TYPE_CHECKING

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.search import largest
from kvplan.errors import DoesNotFit, OptionError
from kvplan.questions.estimate import predict
from kvplan.questions.fit.room import largest_batch
from kvplan.questions.validate.allocate import Watch, allocated, unwatched
from kvplan.questions.validate.compare import Check, RealTensor, Step, Validation, compare
from kvplan.questions.validate.devices import Device
from kvplan.questions.validate.ranks import Ranks
from kvplan.questions.validate.session import spendable_bytes
from kvplan.questions.validate.tensors import tensor_plan
from kvplan.units import MIB

if TYPE_CHECKING:
    from kvplan.engines.kernel.engine import Engine


def chosen_limit(device: Device, limit_bytes: int | None) -> int:
    """The limit to search under: the one given, or on a GPU what is free less a thirty-second of it (at least 512 MiB).

    Raises:
        OptionError: none is given for the host's memory, where taking all of it would stop the machine.
        DoesNotFit: the limit is above what is free.
    """
    spendable = spendable_bytes(device)
    if limit_bytes is None:
        if device.kind == "cpu":
            raise OptionError("«probe_max» on the CPU needs a limit", hint="for example «limit 2GiB»")
        return max(0, spendable - max(512 * MIB, spendable // 32))
    if limit_bytes > spendable:
        raise DoesNotFit(
            f"«limit» is {limit_bytes:,} bytes, and {device.name} has {spendable:,} free", hint="give a smaller «limit»"
        )
    return limit_bytes


class Prober:
    """One search; it remembers each step, and what the largest batch that fitted was made of."""

    def __init__(
        self, engine: "Engine", model: Model, workload: Workload, device: Device, limit_bytes: int, watch: Watch
    ) -> None:
        self.engine = engine
        self.model = model
        self.workload = workload
        self.device = device
        self.limit_bytes = limit_bytes
        self.watch = watch
        self.steps: list[Step] = []
        self.best: tuple[RealTensor, ...] = ()

    def footprint(self, batch_size: int) -> Allocation:
        """The prediction for `batch_size` sequences."""
        workload = Workload(batch_size=batch_size, seq_len=self.workload.seq_len, encoder_len=self.workload.encoder_len)
        answer = predict(self.engine, self.model, workload)
        if isinstance(answer, NotPredicted):
            raise OptionError(f"not predicted: {answer.reason}", hint=answer.see)
        return answer

    def size(self, allocation: Allocation) -> int:
        """Bytes as they count against the limit: what the device is expected to give out."""
        return self.device.needed_bytes([tensor.predicted_bytes for tensor in tensor_plan(allocation)])

    def fits(self, batch_size: int) -> bool:
        """Whether `batch_size` sequences can be allocated and touched without passing the limit."""
        allocation = self.footprint(batch_size)
        self.device.settle()
        try:
            with allocated(tensor_plan(allocation), self.device, limit_bytes=self.limit_bytes, watch=self.watch) as real:
                self.best = real
        except DoesNotFit:
            fitted = False
        else:
            fitted = True
        self.steps.append(Step(batch_size=batch_size, predicted_bytes=allocation.allocated_bytes, fits=fitted))
        return fitted


def probe_largest_batch(
    engine: "Engine",
    model: Model,
    workload: Workload,
    device: Device,
    limit_bytes: int,
    *,
    ranks: Ranks | None = None,
    watch: Watch = unwatched,
) -> Validation:
    """Find the largest batch by doubling and bisection, really allocating at each step, and predict it.

    The limit counts what the device gives out: tensor storage on the CPU, reserved segments on CUDA.
    `workload` gives the tokens; its batch size is not used. `chosen_limit` checks a limit against what is free.

    Raises:
        OptionError: a cache that is not predicted, or does not grow with the batch.
    """
    place = ranks or Ranks()
    prober = Prober(engine, model, workload, device, limit_bytes, watch)
    predicted = largest_batch(engine, model, workload.seq_len, limit_bytes, encoder_len=workload.encoder_len, size=prober.size)
    if isinstance(predicted, NotPredicted):
        raise OptionError(f"not predicted: {predicted.reason}", hint=predicted.see)
    real = largest(prober.fits)
    answer = prober.footprint(max(real, 1))
    none = "" if real else "not even one sequence fits "
    batch = Check(
        name="largest batch",
        predicted=predicted,
        real=real,
        exact=True,
        unit="sequences",
        remark=f"{none}under {limit_bytes:,} bytes, {len(prober.steps)} allocations tried",
    )
    return Validation(
        allocation=answer,
        device=device.name,
        device_name=device.description,
        torch_version=str(device.torch.__version__),
        checks=(batch, *_storage(answer, prober.best)),
        buffers=compare(answer, tensor_plan(answer), prober.best) if real else (),
        steps=tuple(prober.steps),
        limit_bytes=limit_bytes,
        rank=place.rank,
        world_size=place.world_size,
    )


def _storage(answer: Allocation, best: tuple[RealTensor, ...]) -> tuple[Check, ...]:
    """The storage of the largest batch, where one fitted."""
    if not best:
        return ()
    return (
        Check(
            name="tensor storage",
            predicted=answer.allocated_bytes,
            real=sum(tensor.storage_bytes for tensor in best),
            exact=True,
            remark=f"of the largest batch, {len(best):,} tensors",
        ),
    )
