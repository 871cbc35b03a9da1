"""One printer a format: a file here, and a row of `FORMATS`."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from kvplan.errors import OptionError, nearest

if TYPE_CHECKING:
    from kvplan.report.blocks import Answer, View


class Format(NamedTuple):
    """One format: what people call it, the endings of its files, and where its printer is.

    The printer is a function `(answer, view) -> str` (or `bytes`, for a format that is no text), written `module:name` and
    imported when it is used.
    """

    name: str
    printer: str
    endings: tuple[str, ...] = ()
    short: str = ""


FORMATS: Final = (
    Format("table", "kvplan.report.formats.table:text", endings=(".txt",)),
    Format("json", "kvplan.report.formats.json:text", endings=(".json",)),
    Format("csv", "kvplan.report.formats.csv:text", endings=(".csv",)),
    Format("markdown", "kvplan.report.formats.markdown:text", endings=(".md", ".markdown"), short="md"),
    Format("html", "kvplan.report.formats.html:text", endings=(".html", ".htm")),
    Format("parquet", "kvplan.report.formats.parquet:data", endings=(".parquet",)),
    Format("svg", "kvplan.report.formats.figure:svg", endings=(".svg",)),
    Format("pdf", "kvplan.report.formats.figure:pdf", endings=(".pdf",)),
    Format("png", "kvplan.report.formats.figure:png", endings=(".png",)),
)

#: Those that draw, with the extra `plot`.
FIGURES: Final = ("svg", "pdf", "png")


def named(name: str, *more: str) -> Format:
    """The format that is called so; `more` are others that the question has of its own.

    Raises:
        OptionError: there is none.
    """
    for row in FORMATS:
        if name in {row.name, row.short}:
            return row
    known = [*(row.name for row in FORMATS), *more]
    near = nearest(name.lower(), known)
    said = f"did you mean `{near}`? " if near else ""
    raise OptionError(f"«format»: unknown format `{name[:40]}`", hint=f"{said}one of {', '.join(known)}")


def by_ending(path: Path) -> Format | None:
    """The format that a file's name says, if it says one."""
    return next((row for row in FORMATS if path.suffix.lower() in row.endings), None)


def render(answer: "Answer", fmt: str, view: "View") -> str | bytes:
    """`answer` in a format of `FORMATS`.

    Raises:
        OptionError: no such format, or one that this answer does not have.
    """
    module, _, name = named(fmt).printer.partition(":")
    shown: str | bytes = getattr(import_module(module), name)(answer, view)
    return shown
