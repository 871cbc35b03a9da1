"""What an answer gives to be drawn: values with their axes. Nothing here knows what draws them.

A figure's numbers are the answer's own. `words` says all of them: a figure holds it for those who do not see it, and a page's
figure is known by it to be current.
"""

from collections.abc import Iterable
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

from kvplan.report.blocks import View

#: A curve's points that are spelled out.
_SPELLED = 200


class Axis(Struct, frozen=True, kw_only=True):
    """One axis: what it counts, in full and without the unit, and in what.

    Attributes:
        kind: bytes and tokens get their units, steps of their own, and a word on what the unit is.
        log: a step is a factor.
    """

    title: str
    kind: Literal["bytes", "tokens", "number"] = "number"
    log: bool = False


class Line(Struct, frozen=True, kw_only=True):
    """One curve: `y` at each `x`; of `steps`, which hold from one `x` to the next, there is one `x` more."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    steps: bool = False
    filled: bool = False


class Curves(Struct, frozen=True, kw_only=True):
    """How amounts grow; a `level` is a limit across the whole figure."""

    name: str
    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    levels: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()
    more: bool = False

    def words(self) -> str:
        """Every number of the figure."""
        found = [f"{self.title}. {self.y.title} ({self.y.kind}) by {self.x.title} ({self.x.kind})"]
        for line in self.lines:
            pairs = list(zip(line.x, line.y, strict=False))
            if len(pairs) > _SPELLED:
                pairs = [pairs[0], pairs[-1]]
            found.append(f"{line.label}: {', '.join(f'{_plain(x)} {_plain(y)}' for x, y in pairs)}")
        return ". ".join([*found, *(f"{label}: {_plain(y)}" for label, y in self.levels), *self.notes])


class Bar(Struct, frozen=True, kw_only=True):
    """One bar: its parts from the axis on, and what stands at its end."""

    label: str
    parts: tuple[int, ...]
    text: str = ""


class Bars(Struct, frozen=True, kw_only=True):
    """Amounts side by side; `parts` names what a bar is made of, where that is more than one thing."""

    name: str
    title: str
    axis: Axis
    bars: tuple[Bar, ...]
    parts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    more: bool = False

    def words(self) -> str:
        """Every number of the figure."""
        found = [f"{self.title}. {self.axis.title} ({self.axis.kind})" + (f": {' and '.join(self.parts)}" if self.parts else "")]
        found += [f"{bar.label}: {' + '.join(map(_plain, bar.parts))} ({bar.text})" for bar in self.bars]
        return ". ".join([*found, *self.notes])


class Mark(Struct, frozen=True, kw_only=True):
    """One point, named."""

    label: str
    x: float
    y: float


class Marks(Struct, frozen=True, kw_only=True):
    """Named points in groups."""

    name: str
    title: str
    x: Axis
    y: Axis
    groups: tuple[tuple[str, tuple[Mark, ...]], ...]
    notes: tuple[str, ...] = ()
    more: bool = False

    def words(self) -> str:
        """Every number of the figure."""
        found = [f"{self.title}. {self.y.title} by {self.x.title} ({self.x.kind})"]
        for group, marks in self.groups:
            found.append(f"{group}: {', '.join(f'{m.label} {_plain(m.x)} {_plain(m.y)}' for m in marks)}")
        return ". ".join([*found, *self.notes])


class Layers(Struct, frozen=True, kw_only=True):
    """Which layer keeps what, one row a model: the layer whose cache each layer reads, which is its own where it owns one.

    A layer without a cache is None.
    """

    name: str
    title: str
    rows: tuple[tuple[str, tuple[int | None, ...]], ...]
    notes: tuple[str, ...] = ()
    more: bool = False

    def words(self) -> str:
        """Every number of the figure."""
        found = [f"{self.title}. The layer whose keys and values each layer reads"]
        found += [f"{label}: {' '.join('-' if s is None else str(s) for s in sources)}" for label, sources in self.rows]
        return ". ".join([*found, *self.notes])


Picture = Curves | Bars | Marks | Layers


@runtime_checkable
class Drawn(Protocol):
    """An answer that has figures: one in `kvplan.report.answers` with this beside what every answer has."""

    def figures(self, view: View) -> Iterable[Picture]:
        """The answer's figures, the principal ones first; those with `more` are drawn where every one is asked for.

        Raises:
            OptionError: more than a figure can show.
        """
        ...


def _plain(number: float) -> str:
    """A number, exact where it is whole."""
    return f"{int(number):,}" if float(number).is_integer() else f"{number:.6g}"
