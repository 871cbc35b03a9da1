"""The ranks of torchrun: each does its own work, and all learn what the others found.

NCCL carries the messages between GPUs, gloo between CPUs. Only kvplan's own plain values travel, between
processes of one run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any, Final, TypeVar

from kvplan.errors import EnvironmentMissing, InputError, KvplanError, Mismatch
from kvplan.validation.devices import Device
from kvplan.validation.ranks import Ranks

Answer = TypeVar("Answer")

#: How long a rank waits for the slowest; touching a terabyte takes minutes.
_PATIENCE: Final = timedelta(minutes=15)

#: An error that travelled is raised as the plain class of its exit code.
_BY_CODE: Final = {cls.exit_code: cls for cls in (KvplanError, InputError, EnvironmentMissing, Mismatch)}


class Group:
    """One process alone, or one of several that answer together."""

    def __init__(self, ranks: Ranks, exchange: Callable[[Any], list[Any]] | None = None) -> None:
        self.ranks = ranks
        self._exchange = exchange

    def together(self, work: Callable[[], Answer]) -> list[Answer]:
        """Run `work` on every rank; the answers in order of rank, the same list on all of them.

        Raises:
            KvplanError: what any rank met, on all ranks, so that none waits for one that has left.
        """
        if self._exchange is None:
            return [work()]
        answer: Answer | None = None
        problem: KvplanError | None = None
        try:
            answer = work()
        except KvplanError as met:
            problem = met
        told = (answer, None if problem is None else (problem.exit_code, str(problem), problem.hint))
        gathered = self._exchange(told)
        if problem is not None:
            raise problem
        for rank, (_, failure) in enumerate(gathered):
            if failure is not None:
                code, message, hint = failure
                raise _BY_CODE[code](f"rank {rank}: {message}", hint=hint)
        return [value for value, _ in gathered]


@contextmanager
def joined(ranks: Ranks, device: Device) -> Iterator[Group]:
    """The process group of this run, left again when the block ends.

    Raises:
        EnvironmentMissing: this torch has no backend for the device, or the other ranks cannot be reached.
    """
    if not ranks.several:
        yield Group(ranks)
        return
    torch = device.torch
    distributed: Any = import_module("torch.distributed")
    backend = "nccl" if device.kind == "cuda" else "gloo"
    if not distributed.is_available() or not getattr(distributed, f"is_{backend}_available")():
        raise EnvironmentMissing(f"this torch has no {backend} backend, which {ranks.world_size} ranks need to talk")
    if device.kind == "cuda":
        torch.cuda.set_device(device.index)
    try:
        distributed.init_process_group(backend, rank=ranks.rank, world_size=ranks.world_size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as problem:
        reason = str(problem).partition("\n")[0]
        raise EnvironmentMissing(
            f"rank {ranks.rank} cannot reach the others: {reason[:200]}", hint="start with torchrun"
        ) from problem

    def exchange(value: Any) -> list[Any]:
        gathered: list[Any] = [None] * ranks.world_size
        distributed.all_gather_object(gathered, value)
        return gathered

    try:
        yield Group(ranks, exchange)
    finally:
        distributed.destroy_process_group()
