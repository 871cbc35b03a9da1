"""Bars on stderr for long work."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvplan.units import MIB

if TYPE_CHECKING:
    from kvplan.questions.validate.ranks import Ranks


@contextmanager
def progress(ranks: "Ranks", total_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr when it is a terminal and there is much to touch; `None` is an unknown total."""
    small = total_bytes is not None and total_bytes < 512 * MIB
    if ranks.rank or small or not sys.stderr.isatty():
        yield lambda touched_bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("touching memory"), BarColumn(), DownloadColumn(binary_units=True), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=total_bytes)
        yield lambda touched_bytes: bar.advance(task, touched_bytes)
