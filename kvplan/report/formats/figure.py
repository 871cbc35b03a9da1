"""Figures for papers and slides, by matplotlib (the extra `plot`): SVG, PDF and PNG.

Print and grey: what differs, differs in its dashes and marks or its hatching, and in lightness, before it does in colour.
Fonts are embedded: in a PDF as TrueType, in an SVG as outlines. One matplotlib gives the same bytes for the same answer.
"""

import logging
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from io import BytesIO
from math import ceil, floor, log2
from typing import Any, Final, assert_never

from kvplan.domain.tables import common_unit
from kvplan.errors import EnvironmentMissing, OptionError, printable
from kvplan.report.blocks import Answer, View
from kvplan.report.figures import Axis, Bars, Curves, Drawn, Layers, Line, Marks, Picture
from kvplan.units import UNITS

#: Inches: the width of a page's text, so that nine points are nine points there.
_WIDTH: Final = 6.3
_DOTS: Final = 200  # an inch, of a PNG
_MOST: Final = 12  # figures in one file; curves in one figure
_MOST_BARS: Final = 60
_COLUMNS: Final = 100  # characters of a title or note that fit the width
_TICKS: Final = 8
#: Dark and light in turn, and told apart by whoever sees few colours.
_COLORS: Final = ("#0b3c6f", "#d55e00", "#009e73", "#7a3e9d", "#56b4e9", "#000000")
_DASHES: Final[tuple[Any, ...]] = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (10, 3)), (0, (3, 1, 1, 1, 1, 1)))
_MARKS: Final = ("o", "s", "^", "D", "v", "X", "P", "<", ">", "*", "p", "h")
_FILLS: Final = ("#0b3c6f", "#c9d7e6", "#7fa3c7", "#ffffff")
_HATCHES: Final = ("", "////", "....", "xxxx")
_GREY: Final = "#595959"
_STYLE: Final[dict[str, Any]] = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"], "font.size": 8.5,
    "axes.titlesize": 9, "legend.fontsize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6, "lines.linewidth": 1.5, "lines.markersize": 4.5, "hatch.linewidth": 0.6, "text.parse_math": False,
    "text.usetex": False, "pdf.fonttype": 42, "pdf.use14corefonts": False, "svg.hashsalt": "kvplan",
    "legend.frameon": False, "axes.formatter.use_mathtext": False, "savefig.facecolor": "white",
}  # fmt: skip


def svg(answer: Answer, view: View) -> str:
    """The answer's principal figures, under each other, with their numbers in words for those who do not see them."""
    return drawn_svg(_principal(answer, view), view)


def pdf(answer: Answer, view: View) -> bytes:
    """The answer's principal figures, under each other."""
    return _saved(_principal(answer, view), "pdf", view)


def png(answer: Answer, view: View) -> bytes:
    """The answer's principal figures, under each other."""
    return _saved(_principal(answer, view), "png", view)


def ready(what: str = "a figure") -> None:
    """Know before long work that figures can be drawn.

    Raises:
        EnvironmentMissing: matplotlib is not installed.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its caches
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as problem:
        raise EnvironmentMissing(
            f"{what} needs matplotlib, which is not installed", hint="pip install 'kvplan-exact[plot]'"
        ) from problem


def every(answer: Answer, fmt: str, view: View) -> Iterator[tuple[str, str | bytes]]:
    """Each figure of an answer for itself: its name, and what its file holds.

    Raises:
        OptionError: the answer has no figures, or more than a figure can show.
        EnvironmentMissing: matplotlib is not installed.
    """
    for picture in _pictures(answer, view):
        yield picture.name, drawn_svg([picture], view) if fmt == "svg" else _saved([picture], fmt, view)


def drawn_svg(pictures: Sequence[Picture], view: View, *, outlines: bool = True) -> str:
    """Figures under each other, as SVG.

    Args:
        pictures: what is drawn.
        view: how it is wanted.
        outlines: letters as outlines, which look the same everywhere; else as text, in a fifth of the bytes.

    Raises:
        EnvironmentMissing: matplotlib is not installed.
    """
    text = re.sub(r' d="[^"]+|translate\([^)]+|\n +', _briefly, _saved(pictures, "svg", view, outlines).decode())
    title, words = (escape(printable(part, most)) for part, most in ((_title(pictures), 400), (_words(pictures), 20_000)))
    said = f'role="img" aria-labelledby="title desc">\n <title id="title">{title}</title>\n <desc id="desc">{words}</desc>'
    return re.sub(r">", lambda _: f" {said}", text[text.index("<svg ") :], count=1)


def _briefly(path: re.Match[str]) -> str:
    """A path or place to a hundredth of a unit, in one line; no indentation."""
    if path[0].isspace():
        return "\n"
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", path[0].replace("\n", ""))


def _pictures(answer: Answer, view: View) -> list[Picture]:
    if not isinstance(answer, Drawn):
        raise OptionError("this answer has no figure", hint="`compare`, `sweep` and `replay` have: -o FILE.svg")
    return list(answer.figures(view))


def _principal(answer: Answer, view: View) -> list[Picture]:
    found = [picture for picture in _pictures(answer, view) if not picture.more]
    if len(found) > _MOST:
        raise OptionError(
            f"{len(found)} figures are too many for one file: at most {_MOST}",
            hint="ask for less, or «plots FOLDER»: a file each",
        )
    return found


def _title(pictures: Sequence[Picture]) -> str:
    return "; ".join(dict.fromkeys(picture.title for picture in pictures))


def _words(pictures: Sequence[Picture]) -> str:
    return " ".join(picture.words() for picture in pictures)


@contextmanager
def _matplotlib(outlines: bool) -> Iterator[Any]:
    """matplotlib in our style whatever a person's own settings are, and silent about glyphs that its font lacks."""
    ready()
    from matplotlib import style
    from matplotlib.figure import Figure

    own = _STYLE | {"svg.fonttype": "path" if outlines else "none"}
    with warnings.catch_warnings(), style.context(["default", own]):  # type: ignore[list-item,unused-ignore]
        warnings.simplefilter("ignore")
        yield Figure


def _saved(pictures: Sequence[Picture], fmt: str, view: View, outlines: bool = True) -> bytes:
    with _matplotlib(outlines) as figure:
        heights = [_height(picture) for picture in pictures]
        whole = figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
        parts = [whole] if len(pictures) == 1 else list(whole.subfigures(len(pictures), 1, height_ratios=heights))
        for picture, part in zip(pictures, parts, strict=True):
            _draw(picture, part, view)
        title = printable(_title(pictures))
        said: dict[str, dict[str, Any]] = {
            "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
            "pdf": {"Title": title, "Subject": printable(_words(pictures), 2000), "Creator": "kvplan", "CreationDate": None},
            "png": {"Title": title, "Description": printable(_words(pictures), 2000), "Software": "kvplan"},
        }
        written = BytesIO()
        whole.savefig(written, format=fmt, dpi=_DOTS, metadata=said[fmt])
        return written.getvalue()


def _height(picture: Picture) -> float:
    """Inches."""
    notes = 0.14 * len(_folded(picture.notes))
    match picture:
        case Bars():
            return 1.1 + 0.24 * max(2, len(picture.bars)) + notes + (0.2 if picture.parts else 0)
        case Layers():
            return 1.0 + 0.27 * max(2, len(picture.rows)) + notes
        case _:
            return 3.6 + notes


def _draw(picture: Picture, part: Any, view: View) -> None:
    part.suptitle(
        "\n".join(textwrap.wrap(printable(picture.title), _COLUMNS - 12)), x=0.01, ha="left", fontsize=9.5, weight="bold"
    )
    if picture.notes:
        part.supxlabel("\n".join(_folded(picture.notes)), x=0.01, ha="left", fontsize=7, color=_GREY)
    axes = part.subplots()
    match picture:
        case Curves():
            _curves(picture, axes, view)
        case Bars():
            _bars(picture, axes, view)
        case Marks():
            _marks(picture, axes, view)
        case Layers():
            _layers(picture, axes)
        case _:
            assert_never(picture)


def _folded(notes: Iterable[str]) -> list[str]:
    return [line for note in notes for line in textwrap.wrap(printable(note), _COLUMNS + 22)][:8]


def _curves(picture: Curves, axes: Any, view: View) -> None:
    if len(picture.lines) > _MOST:
        raise OptionError(
            f"{len(picture.lines)} curves are too many for one figure: at most {_MOST}",
            hint="fewer models, engines, cache dtypes or batch sizes; the table has them all (-o report.csv)",
        )
    scale, label = _unit(picture.y, (y for line in picture.lines for y in line.y), view)
    for number, line in enumerate(picture.lines):
        _curve(line, number, axes, scale)
    for label_of, level in picture.levels:
        axes.axhline(level / scale, color="#000000", linewidth=1, linestyle=(0, (4, 2)), label=printable(label_of, 60))
    _axis(axes, "x", picture.x, [x for line in picture.lines for x in line.x], "", 1)
    _axis(axes, "y", picture.y, [y for line in picture.lines for y in line.y], label, scale)
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        lasts = [line.y[-1] if line.y else 0 for line in picture.lines]
        # as high in the legend as on the page; what is no curve stands last
        order = sorted(range(len(labels)), key=lambda i: -lasts[i] if i < len(lasts) and not picture.levels else i)
        axes.legend([handles[i] for i in order], [labels[i] for i in order], loc="best", handlelength=4)


def _curve(line: Line, number: int, axes: Any, scale: int) -> None:
    color, label = _COLORS[number % len(_COLORS)], printable(line.label, 60)
    y = [value / scale for value in line.y]
    if line.steps:
        fill = {"fill": True, "facecolor": _FILLS[1], "edgecolor": color} if line.filled else {"color": color}
        axes.stairs(y, line.x, label=label, linestyle=_DASHES[number % len(_DASHES)], linewidth=1, **fill)
        return
    each = max(1, len(y) // 10)
    axes.plot(
        line.x,
        y,
        label=label,
        color=color,
        linestyle=_DASHES[number % len(_DASHES)],
        marker=_MARKS[number % len(_MARKS)],
        markevery=(number * (each // 4) % each, each),
        markerfacecolor="white" if number % 2 else color,
    )


def _bars(picture: Bars, axes: Any, view: View) -> None:
    if len(picture.bars) > _MOST_BARS:
        raise OptionError(
            f"{len(picture.bars)} bars are too many for one figure: at most {_MOST_BARS}",
            hint="compare fewer; the table has them all (-o report.csv)",
        )
    sums = [sum(bar.parts) for bar in picture.bars]
    scale, label = _unit(picture.axis, sums, view)
    places = range(len(picture.bars))
    start = [0.0] * len(picture.bars)
    for number in range(max((len(bar.parts) for bar in picture.bars), default=0)):
        widths = [(bar.parts[number] if number < len(bar.parts) else 0) / scale for bar in picture.bars]
        name = printable(picture.parts[number], 60) if number < len(picture.parts) else None
        axes.barh(
            places, widths, left=start, height=0.7, label=name, color=_FILLS[number % len(_FILLS)], edgecolor="#0b3c6f",
            linewidth=0.6, hatch=_HATCHES[number % len(_HATCHES)],
        )  # fmt: skip
        start = [a + b for a, b in zip(start, widths, strict=True)]
    longest = max(start, default=0) or 1
    for place, bar in enumerate(picture.bars):
        axes.annotate(
            printable(bar.text, 60), (start[place], place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    axes.set_yticks(list(places), [_short(bar.label) for bar in picture.bars])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    _axis(axes, "x", picture.axis, sums, label, scale)
    axes.set_xlim(0, longest * 1.45)
    if picture.parts:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.9 / max(4, len(picture.bars))), ncols=len(picture.parts))


def _marks(picture: Marks, axes: Any, view: View) -> None:
    scale, label = _unit(picture.x, (mark.x for _, marks in picture.groups for mark in marks), view)
    for number, (name, marks) in enumerate(picture.groups):
        color = _COLORS[number % len(_COLORS)]
        axes.plot(
            [mark.x / scale for mark in marks], [mark.y for mark in marks], label=printable(name, 60), color=color,
            marker=_MARKS[number % len(_MARKS)], linestyle=_DASHES[number % len(_DASHES)], linewidth=0.8, markersize=5.5,
            markerfacecolor="white" if number % 2 else color,
        )  # fmt: skip
        below = number % 2
        for mark in marks:
            axes.annotate(
                printable(mark.label, 40), (mark.x / scale, mark.y), xytext=(-4, -9) if below else (5, 4),
                textcoords="offset points", fontsize=6, ha="right" if below else "left", color=color,
            )  # fmt: skip
    _axis(axes, "x", picture.x, [mark.x for _, marks in picture.groups for mark in marks], label, scale)
    _axis(axes, "y", picture.y, [], "", 1)
    axes.margins(x=0.2, y=0.08)
    axes.legend(loc="upper right")


def _layers(picture: Layers, axes: Any) -> None:
    longest = max((len(sources) for _, sources in picture.rows), default=1)
    for place, (_, sources) in enumerate(picture.rows):
        for layer, source in enumerate(sources):
            owns = source == layer
            axes.barh(
                place,
                0.9,
                left=layer - 0.45,
                height=0.72,
                color=_FILLS[0] if owns else "white",
                edgecolor=_FILLS[0],
                linewidth=0.6,
            )
            text = "" if source is None else str(source)
            size = 6.5 if longest <= 48 else 4
            axes.text(layer, place, text, ha="center", va="center", fontsize=size, color="white" if owns else "#000000")
    axes.set_yticks(range(len(picture.rows)), [_short(label) for label, _ in picture.rows])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Layer; in each box the layer whose keys and values it reads (dark: its own)")
    step = 1 if longest <= 24 else 4 if longest <= 64 else 8
    axes.set_xticks(range(0, longest, step))
    axes.set_xlim(-0.6, longest - 0.4)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _unit(axis: Axis, values: Iterable[float], view: View) -> tuple[int, str]:
    """What an axis's numbers are divided by, and how that is called in full."""
    if axis.kind != "bytes":
        return 1, ""
    unit = view.unit or common_unit(int(value) for value in values)
    return UNITS[unit], "bytes" if unit == "B" else f"{unit} (1 {unit} = {UNITS[unit]:,} bytes)"


def _axis(axes: Any, side: str, axis: Axis, values: Sequence[float], unit: str, scale: int) -> None:
    """The title in full, and steps that people count in."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    own = axes.xaxis if side == "x" else axes.yaxis
    title = f"{axis.title}, in {unit}" if unit else axis.title
    if axis.kind == "tokens" and max(values, default=0) >= 4096:
        title += " (1k = 1,024)"
    own.set_label_text(title)
    shown = [value / scale for value in values]
    low, high = min((v for v in shown if v > 0), default=1), max(shown, default=1)
    if axis.log and high > low:
        (axes.set_xscale if side == "x" else axes.set_yscale)("log", base=2)
        first, last = floor(log2(low)), ceil(log2(high))
        own.set_major_locator(
            FixedLocator([2.0**power for power in range(first, last + 1, max(1, ceil((last - first) / _TICKS)))])
        )
        own.set_minor_locator(NullLocator())
    elif axis.kind == "tokens" and high >= 4096:
        step = 2 ** max(10, ceil(log2(high / _TICKS)))
        own.set_major_locator(FixedLocator([step * i for i in range(int(high // step) + 2)]))
    if axis.kind == "tokens":
        own.set_major_formatter(FuncFormatter(lambda value, place: _tokens(value)))
    elif axis.kind == "bytes":
        own.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.6g}" if abs(value) < 10**6 else f"{value:,.0f}"))
    if not axis.log and side == "y" and values:
        axes.set_ylim(bottom=0)


def _tokens(value: float) -> str:
    """A tick of tokens as short as it is exact.

    >>> _tokens(512), _tokens(131072), _tokens(2**20), _tokens(1500)
    ('512', '128k', '1M', '1,500')
    """
    for size, letter in ((2**20, "M"), (2**10, "k")):
        if value >= size and value % size == 0:
            return f"{int(value) // size:,}{letter}"
    return f"{value:,.0f}"


def _short(label: str, most: int = 42) -> str:
    """A label that leaves room for its bar: the middle of a long one goes.

    >>> _short("a" * 30 + "b" * 30, 11)
    'aaaaa…bbbbb'
    """
    whole = printable(label, 200)
    keep = (most - 1) // 2
    return whole if len(whole) <= most else f"{whole[:keep]}…{whole[-keep:]}"
