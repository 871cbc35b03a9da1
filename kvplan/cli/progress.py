"""One bar on stderr for all long work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from kvplan.cli.surroundings import still_wanted


class Advance(Protocol):
    """Is told how many more are done, and how many there are where that was not known before."""

    def __call__(self, done: int, total: int | None = None, /) -> None:
        """See the class."""


@contextmanager
def progress(
    words: str, total: int | None, *, of: Literal["bytes", "rows", ""] = "bytes", shown: bool = True
) -> Iterator[Advance]:
    """A bar while something long is done; on a terminal only, and nothing of it stays.

    Args:
        words: what is done.
        total: how many bytes or rows there are; None if that is not known.
        of: what is counted; "" where nothing can be.
        shown: False where nobody wants a bar, or the work is short.

    Yields:
        What is told how many more are done.
    """
    if not shown or not sys.stderr.isatty():
        yield _unseen
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    amount: Any = DownloadColumn(binary_units=True) if of == "bytes" else MofNCompleteColumn()
    time: Any = TimeElapsedColumn() if total is None else TimeRemainingColumn()
    shape: tuple[Any, ...] = (TextColumn(words), BarColumn(), amount, time)
    if not of:
        shape = (SpinnerColumn("line"), TextColumn(words), TimeElapsedColumn())
    console = Console(file=sys.stderr)
    with Progress(*shape, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)

        def advance(done: int, total: int | None = None, /) -> None:
            still_wanted()
            bar.update(task, advance=done, total=total)  # None leaves it as it is

        yield advance


def _unseen(done: int, total: int | None = None, /) -> None:
    still_wanted()
