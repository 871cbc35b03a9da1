"""The ranks of torchrun: each does its own work, and all learn what the others found.

NCCL carries the messages between GPUs, gloo between CPUs. Only kvplan's own plain values travel, between
processes of one run.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib import import_module
from threading import Timer
from typing import Any, Final, TypeVar

from kvplan.errors import EnvironmentMissing, InputError, KvplanError, Mismatch
from kvplan.limits import RANK_SECONDS, RANK_WORD_SECONDS
from kvplan.questions.validate.choosing import open_device
from kvplan.questions.validate.ranks import Ranks

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

    def each(self, work: Callable[[], Answer]) -> Answer:
        """Run `work` on every rank, go on when all have done theirs; this rank's answer.

        Raises:
            KvplanError: what any rank met, on all ranks, so that none waits for one that has left.
        """
        return self._agreed(work, lambda answer: None)[0]

    def together(self, work: Callable[[], Answer]) -> list[Answer]:
        """As `each`, and the answers of all ranks in order, the same list on all of them."""
        answer, shared = self._agreed(work, lambda answer: answer)
        return [answer] if self._exchange is None else shared

    def _agreed(self, work: Callable[[], Answer], share: Callable[[Answer], Any]) -> tuple[Answer, list[Any]]:
        if self._exchange is None:
            return work(), []
        try:
            answer = work()
        except KvplanError as problem:
            self._exchange((None, (problem.exit_code, str(problem), problem.hint)))
            raise
        gathered = self._exchange((share(answer), None))
        for rank, (_, failure) in enumerate(gathered):
            if failure is not None:
                code, message, hint = failure
                raise _BY_CODE[code](f"rank {rank}: {message}", hint=hint)
        return answer, [value for value, _ in gathered]


@contextmanager
def joined(ranks: Ranks, device_text: str, say: Callable[[str], None] = lambda text: None) -> Iterator[Group]:
    """The process group of this run, left again when the block ends; a process alone needs none, and no torch.

    `say` is told what is waited for when the others do not come at once.

    Raises:
        OptionError, EnvironmentMissing: the device is not there, this torch has no backend for it, or the
            other ranks cannot be reached.
    """
    if not ranks.several:
        yield Group(ranks)
        return
    device = open_device(device_text, ranks)
    distributed: Any = import_module("torch.distributed")
    backend = "nccl" if device.kind == "cuda" else "gloo"
    if not distributed.is_available() or not getattr(distributed, f"is_{backend}_available")():
        raise EnvironmentMissing(f"this torch has no {backend} backend, which {ranks.world_size} ranks need to talk")
    bound = {}
    if device.kind == "cuda":
        device.torch.cuda.set_device(device.index)
        bound["device_id"] = device.torch.device(device.name)  # NCCL takes its buffers now, not between two measurements
    where = f"{os.environ.get('MASTER_ADDR', 'localhost')[:80]}:{os.environ.get('MASTER_PORT', '')[:8]}"
    waiting = Timer(RANK_WORD_SECONDS, say, (f"waiting for the other ranks of {ranks.world_size} at {where}",))
    waiting.daemon = True
    waiting.start()
    try:
        distributed.init_process_group(
            backend, rank=ranks.rank, world_size=ranks.world_size, timeout=timedelta(seconds=RANK_SECONDS), **bound
        )
    except (RuntimeError, ValueError) as problem:
        reason = str(problem).partition("\n")[0]
        raise EnvironmentMissing(
            f"rank {ranks.rank} cannot reach the others: {reason[:200]}", hint="start with torchrun"
        ) from problem
    finally:
        waiting.cancel()
    talking = distributed.new_group(timeout=_PATIENCE)  # what is exchanged may wait for a rank that touches a terabyte

    def exchange(value: Any) -> list[Any]:
        gathered: list[Any] = [None] * ranks.world_size
        try:
            distributed.all_gather_object(gathered, value, group=talking)
        except RuntimeError as problem:  # gloo's and NCCL's word for a rank that has gone
            reason = str(problem).partition("\n")[0]
            raise EnvironmentMissing(
                f"rank {ranks.rank} has lost another rank: {reason[:200]}", hint="see what that rank said, and start all again"
            ) from problem
        return gathered

    try:
        yield Group(ranks, exchange)
    finally:
        with suppress(RuntimeError):
            distributed.destroy_process_group()
