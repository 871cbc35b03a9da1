"""Where text leaves the program: stdout, a file written whole or not at all, remarks on stderr."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvplan.errors import OptionError
from kvplan.units import BYTE_UNITS


def wants_color() -> bool:
    """Colour only on a terminal that did not ask for none."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Columns of the terminal; 80 when piped, unless COLUMNS says otherwise."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and len(columns) < 6 and int(columns):
        return int(columns)
    if not sys.stdout.isatty():
        return 100
    return os.get_terminal_size(sys.stdout.fileno()).columns or 80


def checked_unit(unit: str | None) -> str | None:
    """`unit` if it is one of the binary units.

    Raises:
        OptionError: it is not.
    """
    if unit is not None and unit not in BYTE_UNITS:
        raise OptionError(f"--unit: unknown unit `{unit[:20]}`", hint=f"one of {', '.join(BYTE_UNITS)}")
    return unit


def remark(text: str) -> None:
    """One line for the person, on stderr."""
    print(text, file=sys.stderr)


def emit(text: str, output: Path | None = None) -> None:
    """Write a report to stdout or to a file."""
    if output is None or str(output) == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary file beside `target`, renamed over it when the block succeeds and removed when it does not.

    Raises:
        OptionError: the folder is missing or not writable, or the disk is full.
    """
    import tempfile

    target = target.expanduser()
    if target.exists() and not target.is_file():
        if target.is_dir():
            raise OptionError(f"cannot write `{target}`: it is a folder", hint="give a file name")
        yield target  # a device such as /dev/null or /dev/full: nothing to rename
        return
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".tmp")
    except OSError as problem:
        raise cannot_write(target, problem) from problem
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~mask)
        temporary.replace(target)
    except OSError as problem:
        raise cannot_write(target, problem) from problem
    finally:
        temporary.unlink(missing_ok=True)


def cannot_write(target: Any, problem: OSError) -> OptionError:
    """The error for an unwritable output."""
    return OptionError(
        f"cannot write `{target}`: {(problem.strerror or str(problem)).lower()}", hint="choose another place with -o FILE"
    )
