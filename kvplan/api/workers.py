"""Where the pieces of a question are computed: in this process, in several of this machine, or on the workers of Dask."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, Final

from kvplan.api.given import Count, count
from kvplan.domain.pieces import Run, here
from kvplan.errors import EnvironmentMissing, OptionError, printable, shown

_MOST: Final = 256  # processes
_AHEAD: Final = 4  # pieces a worker that are sent before the first of them is needed: an answer of any length takes little memory
_LOST: Final = "a worker ended before its answer came"


def runner(workers: Count, scheduler: str | None) -> Run:
    """What computes the pieces; their order is kept.

    Args:
        workers: processes of this machine; one: this one.
        scheduler: the address of a Dask scheduler, whose workers do instead (the extra `replay`).

    Raises:
        OptionError: too many workers, or both.
    """
    number = count(workers, "«workers»")
    if number > _MOST:
        raise OptionError(f"«workers»: at most {_MOST}, got {number:,}")
    if scheduler is None:
        return here if number == 1 else _Processes(number)
    if number > 1:
        raise OptionError("«workers» are processes of this machine, «scheduler» has workers of its own", hint="give one of them")
    return _Dask(scheduler)


class _Processes:
    """Processes of this machine."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, task: Callable[[Any], Any], pieces: Iterable[Any]) -> Iterator[Any]:
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import get_context

        try:
            with ProcessPoolExecutor(self.number, mp_context=get_context("spawn")) as pool:
                yield from _in_order(lambda piece: pool.submit(task, piece), pieces, _AHEAD * self.number)
        except BrokenProcessPool as problem:
            raise EnvironmentMissing(_LOST, hint="«workers 1» computes everything in this process") from problem


class _Dask:
    """Workers of a Dask cluster."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self, task: Callable[[Any], Any], pieces: Iterable[Any]) -> Iterator[Any]:
        client, lost = _client(self.address)
        import dask  # type: ignore[import-not-found,unused-ignore]

        quiet = {"distributed.admin.large-graph-warning-threshold": "1 TiB"}  # a day's requests are sent as they are
        with client, dask.config.set(quiet):
            try:
                threads = sum(_answers(client, self.address).values())
                yield from _in_order(lambda piece: client.submit(task, piece, pure=False), pieces, _AHEAD * threads)
            except lost as problem:
                raise EnvironmentMissing(_LOST, hint="look into the log of the workers") from problem


def _in_order(submit: Callable[[Any], Any], pieces: Iterable[Any], ahead: int) -> Iterator[Any]:
    """What came of each piece in turn, while at most `ahead` are on their way."""
    flight: deque[Any] = deque()
    for piece in pieces:
        flight.append(submit(piece))
        if len(flight) >= ahead:
            yield flight.popleft().result()
    while flight:
        yield flight.popleft().result()


def _client(address: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """A client of a Dask scheduler, and what is raised when its workers are lost.

    Raises:
        EnvironmentMissing: Dask is not installed, or nobody answers.
    """
    try:
        from distributed import Client, CancelledError  # type: ignore[import-not-found,unused-ignore] # isort: skip
        from distributed.comm.core import CommClosedError  # type: ignore[import-not-found,unused-ignore]
        from distributed.scheduler import KilledWorker  # type: ignore[import-not-found,unused-ignore]
    except ImportError as problem:
        raise EnvironmentMissing(
            "«scheduler» needs Dask, which is not installed", hint="pip install 'kvplan-exact[replay]'"
        ) from problem
    try:
        return Client(address, timeout=10), (KilledWorker, CancelledError, CommClosedError)
    except (OSError, ValueError, TimeoutError) as problem:
        raise EnvironmentMissing(
            f"no Dask scheduler answers at {shown(address)}", hint="`dask scheduler` prints its address: tcp://HOST:8786"
        ) from problem


def _answers(client: Any, address: str) -> dict[str, int]:
    """The workers and their threads.

    Raises:
        EnvironmentMissing: there are none, or they have another kvplan, which may answer differently.
    """
    threads, own = dict[str, int](client.nthreads()), installed()
    if not threads:
        raise EnvironmentMissing(
            f"the Dask scheduler at {shown(address)} has no workers", hint=f"`dask worker {printable(address, 60)}` starts one"
        )
    for worker, version in client.run(installed, on_error="return").items():
        if version != own:
            has = f"kvplan {printable(version, 20)}" if isinstance(version, str) else "no kvplan"
            raise EnvironmentMissing(
                f"the worker at {printable(worker, 60)} has {has}, and this is {own}",
                hint=f"pip install 'kvplan-exact[replay]=={own}' there",
            )
    return threads


def installed() -> str:
    """The release of kvplan where this is run."""
    version: str = import_module("kvplan").__version__  # by its name: the package's front imports this module
    return version
