"""Where an answer leaves the program: stdout, a file written whole or not at all, remarks on stderr."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from kvplan import limits
from kvplan.cli.surroundings import plain
from kvplan.errors import OptionError, printable
from kvplan.files import expanded
from kvplan.report.formats import FIGURES, FORMATS, by_ending, render
from kvplan.units import parse_unit

if TYPE_CHECKING:
    from kvplan.report.blocks import Answer

#: Characters of a line on stderr; a hint fits.
_MOST: Final = limits.HINT + 100


def show(answer: "Answer", fmt: str | None, output: Path | None, unit: str | None = None, *, quiet: bool = False) -> None:
    """Show an answer: on stdout or in a file, in the format that was asked for or that the file's name says.

    Raises:
        OptionError: an unknown unit, a form that the answer does not have, or a place that cannot be written.
    """
    from kvplan.report.blocks import View

    to_terminal = output is None or str(output) == "-"
    view = View(unit=checked_unit(unit), width=terminal_width(), color=to_terminal and wants_color())
    form = chosen_format(fmt, output, quiet=quiet)
    shown = render(answer, form, view)
    emit(shown, output)
    if not quiet:
        size = len(shown) if isinstance(shown, bytes) else len(shown.encode())
        told(output, f"{form}, {size:,} bytes")


def drawn(answer: "Answer", folder: Path | None, fmt: str | None, output: Path | None, unit: str | None = None) -> str | None:
    """Every figure of an answer, a file each in `folder`: SVG, or the figures' format that was asked for.

    Returns:
        The format that is left for the report.

    Raises:
        OptionError: a place that cannot be written, or more than a figure can show.
        EnvironmentMissing: matplotlib is not installed.
    """
    if folder is None:
        return fmt
    from kvplan.report.blocks import View
    from kvplan.report.formats.figure import every

    own = fmt if fmt in FIGURES and output is None else None
    place = Path(expanded(folder))
    for name, shown in every(answer, own or "svg", View(unit=checked_unit(unit))):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise cannot_write(place, problem, "«plots FOLDER»") from problem
        target = place / f"{name}.{own or 'svg'}"
        emit(shown, target)
        remark(f"wrote {target}")
    return None if own else fmt


def chosen_format(fmt: str | None, output: Path | None, *, otherwise: str = "table", quiet: bool = False) -> str:
    """The format that was asked for; else what the file's name says; else `otherwise`. A contradiction gets a remark.

    Raises:
        OptionError: a file that is called as a format is, where none was asked for.
    """
    said = None if output is None or str(output) == "-" else by_ending(output)
    if fmt is None:
        meant = next((row for row in FORMATS if output is not None and str(output).lower() in {row.name, row.short} - {""}), None)
        if meant is not None:
            raise OptionError(
                f"«output»: `{output}` is a format, not a file",
                hint=f"print it with -f {meant.name}, or name a file: -o report{meant.endings[0]}",
            )
        return said.name if said else otherwise
    if output is not None and said is not None and said.name != fmt and not quiet:
        remark(f"note: `{output}` is written as {fmt}, as --format says; its name says {said.name}")
    return fmt


def told(output: Path | None, what: str) -> None:
    """One line on stderr about a file that was written; a device or pipe is no file."""
    if output is not None and str(output) != "-" and not _is_stream(Path(expanded(output))):
        remark(f"wrote {output}: {what}")


def _is_stream(target: Path) -> bool:
    """Whether a place is a device, a pipe, or somebody's open file."""
    return (target.exists() and not target.is_file()) or target.is_relative_to("/dev") or target.is_relative_to("/proc")


def wants_color() -> bool:
    """Colour only on a terminal that did not ask for none."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Columns of the terminal, also of one that only stderr or stdin leads to; 80 without one, unless COLUMNS says otherwise."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and len(columns) < 6 and int(columns):
        return int(columns)
    for stream in (sys.stdout, sys.stderr, sys.stdin):
        try:
            if stream is not None and stream.isatty():
                return os.get_terminal_size(stream.fileno()).columns or 80
        except (AttributeError, OSError, ValueError):  # a stream that is closed, or no file
            continue
    return 80


def checked_unit(unit: str | None) -> str | None:
    """A unit in its own spelling (`gib`: GiB; `GB` is 10**9 bytes).

    Raises:
        OptionError: there is none of that name.
    """
    return None if unit is None else parse_unit(unit, what="--unit")


def remark(text: str) -> None:
    """A line (or several) for the person, on stderr."""
    shown = "\n".join(printable(line, _MOST) for line in text.splitlines())
    print(plain(shown, sys.stderr.encoding), file=sys.stderr)


def emit(shown: str | bytes, output: Path | None = None) -> None:
    """Write a report to stdout or to a file.

    Raises:
        OptionError: a file that cannot be written, or what is no text on a terminal.
    """
    if output is None or str(output) == "-":
        if isinstance(shown, str):
            sys.stdout.write(plain(shown, sys.stdout.encoding))
        else:
            stdout_for_bytes().write(shown)
        sys.stdout.flush()
        return
    with replacing(output) as temporary:
        if isinstance(shown, str):
            temporary.write_text(shown, encoding="utf-8")
        else:
            temporary.write_bytes(shown)


def stdout_for_bytes() -> BinaryIO:
    """Stdout, for what is no text.

    Raises:
        OptionError: it is a terminal.
    """
    if sys.stdout.isatty():
        raise OptionError("that format is no text for a terminal", hint="write it to a file with -o FILE")
    sys.stdout.flush()
    return sys.stdout.buffer


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary file beside `target`, renamed over it when the block succeeds and removed when it does not.

    Raises:
        OptionError: the folder is missing or not writable, or the disk is full.
    """
    import tempfile

    target = Path(os.path.realpath(expanded(target)))  # what a link leads to is replaced, never the link
    if target.is_symlink():
        raise OptionError(f"cannot write `{target}`: it is a link that leads nowhere", hint="choose another place with -o FILE")
    if target.is_dir():
        raise OptionError(f"cannot write `{target}`: it is a folder", hint="give a file name")
    if _is_stream(target):
        yield target  # a device, a pipe, somebody's open file: written, never replaced
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


def cannot_write(target: Any, problem: OSError, instead: str = "-o FILE") -> OptionError:
    """The error for an unwritable output."""
    return OptionError(
        f"cannot write `{target}`: {(problem.strerror or str(problem)).lower()}", hint=f"choose another place with {instead}"
    )
