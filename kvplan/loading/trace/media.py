"""What the requests of a trace hold beside their text: images, videos and clips, by column or the same for every request.

A column says how many, how large or how long; where it leaves out what one is like, whoever asks says it (`--images`, `--video`).
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from msgspec import Struct
from pyarrow import compute

from kvplan import limits
from kvplan.domain.media.asked import MOST_IMAGES, MOST_SECONDS, MOST_SIDE, Media, Size, Sound, Video, parse_media
from kvplan.errors import OptionError, TraceError, printable, shown
from kvplan.loading.trace.columns import Chosen, Role

_MEDIA: Final[tuple[Role, ...]] = ("images", "height", "width", "audio", "video")
#: What the columns replace of what whoever asks says, beside the role itself.
_OPTION: Final[dict[Role, str]] = {"images": "images", "height": "images", "width": "images", "audio": "audio", "video": "video"}
_NO_SIZE: Final = "says how many images, and no column how large: «images 1x1024x1024» says what one is"


class Where(Protocol):
    """A table, and the words for its places."""

    name: str
    roles: Chosen
    table: Any

    def bad(self, row: int, what: str, hint: str = "") -> TraceError:
        """An error at a row, counted from 0."""

    def whole(self, name: str) -> Any:
        """A column as one array."""


class TraceMedia(Struct, frozen=True, kw_only=True, eq=False):
    """What each request of a trace holds beside its text.

    `each` are the different ones, `of` the entry of each request; `tokens` are what a column says that they are, where no rule
    of a model is needed. `bad` is an error at the first request that has an entry.
    """

    each: tuple[Media, ...]
    of: np.ndarray[Any, Any]
    tokens: np.ndarray[Any, Any] | None
    bad: Callable[[int, str, str], TraceError]

    def part(self, rows: np.ndarray[Any, Any]) -> "TraceMedia":
        """Some of the requests, `rows` in order."""
        tokens = None if self.tokens is None else self.tokens[rows]
        return TraceMedia(each=self.each, of=self.of[rows], tokens=tokens, bad=self.bad)


def read_media(at: Where, asked: Media, notes: list[str]) -> TraceMedia | None:
    """The media of all requests; None where they are text alone.

    Args:
        asked: by the options: of every request, or what one is like where a column says how many or how long.
        notes: what is not counted is added.

    Raises:
        TraceError: a value that is no size, number or length.
        OptionError: a column and an option that are two answers, or a number of images without their size.
    """
    roles = {role: name for role, name in at.roles.names.items() if role in _MEDIA}
    if ("height" in roles) != ("width" in roles):
        one = roles.pop("height", "") or roles.pop("width", "")
        notes.append(f"`{printable(one, 40)}` is not read: an image has a height and a width")
    columns: dict[Role, _Column] = {role: _Column(at, role, name) for role, name in roles.items()}
    images = columns.get("images")
    if images is not None and images.numbers and "height" not in columns and not asked.images:
        said = f"`{printable(images.name, 40)}` {_NO_SIZE}"
        if "images" in at.roles.told:
            raise OptionError(said)
        if "image_tokens" not in at.roles.names:
            notes.append(f"{said}; prompts are as long as the trace says")
        del columns["images"]
    _one_answer(columns, asked)
    tokens = _tokens(at, notes, counted="images" in columns or "height" in columns or bool(asked.images))
    if not columns and not asked and tokens is None:
        return None
    of, firsts = _combined([column.codes for column in columns.values()], at.table.num_rows)
    if len(firsts) > limits.TRACE_MEDIA:
        raise TraceError(
            f"`{at.name}`: {len(firsts):,} different images, videos or clips, more than kvplan counts ({limits.TRACE_MEDIA:,})",
            hint="round their sizes or lengths",
        )

    def bad(entry: int, what: str, hint: str = "") -> TraceError:
        return at.bad(int(firsts[entry]), what, hint)

    each = tuple(_media(columns, int(row), asked) for row in firsts)
    return TraceMedia(each=each, of=of, tokens=tokens, bad=bad)


class _Column:
    """A column of media: its values as codes, and the value of a row."""

    def __init__(self, at: Where, role: Role, name: str) -> None:
        self.at, self.name, self.role = at, name, role
        values = at.whole(name)
        kind = values.type
        if pa.types.is_null(kind):
            values = pa.array([0] * len(values), pa.int64())
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            values = compute.utf8_trim_whitespace(compute.fill_null(values, ""))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            values = compute.fill_null(values, 0)
        else:
            raise at.bad(0, f"`{printable(name, 40)}` is neither a number nor a text", "4x1024x1024, 60s@1fps@720x1280 or 30")
        encoded = values.dictionary_encode()
        self.codes = np.asarray(encoded.indices).astype(np.int64)
        self.values: list[Any] = encoded.dictionary.to_pylist()
        self.numbers = not any(isinstance(value, str) and not value.isdigit() for value in self.values if value != "")

    def number(self, row: int, most: float, *, whole: bool = True) -> float:
        """The number of a row; nothing is 0.

        Raises:
            TraceError: it is none, or beyond `most`.
        """
        value = self.values[self.codes[row]]
        try:
            number = float(value or 0)
        except ValueError:
            number = -1.0
        if not 0 <= number <= most or (whole and number != int(number)):
            what = "whole number" if whole else "number of seconds"
            raise self.at.bad(row, f"`{printable(self.name, 40)}` is {shown(value)}, not a {what} from 0 to {most:,.0f}")
        return number

    def text(self, row: int) -> str | None:
        """The text of a row that is no number."""
        value = self.values[self.codes[row]]
        return value if isinstance(value, str) and value and not _numeric(value) else None

    def parsed(self, row: int, text: str) -> Media:
        """Media as people write them.

        Raises:
            TraceError: they are not.
        """
        option = _OPTION[self.role]
        try:
            return parse_media(**{option: text})
        except OptionError as problem:
            said = str(problem).partition(": ")[2]  # behind the option's name
            raise self.at.bad(row, f"`{printable(self.name, 40)}`: {said}") from problem


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _one_answer(columns: dict[Role, _Column], asked: Media) -> None:
    """Refuse a column and an option that both say what a request holds.

    Raises:
        OptionError: they do.
    """
    pairs: tuple[tuple[Role, object], ...] = (("height", asked.images), ("images", asked.images), ("audio", asked.sounds))
    for role, given in pairs:
        column = columns.get(role)
        if column is None or not given or (role == "images" and column.numbers):
            continue
        raise OptionError(
            f"«{_OPTION[role]}» and the trace's column `{printable(column.name, 40)}` are two answers",
            hint=f"«columns {role}=none» leaves the column out",
        )


def _tokens(at: Where, notes: list[str], *, counted: bool) -> np.ndarray[Any, Any] | None:
    """What a column says that images are in tokens, unless the model's own rule counts them."""
    name = at.roles.names.get("image_tokens")
    if name is None:
        return None
    if counted:
        notes.append(f"`{printable(name, 40)}` is not read: images are counted by the model's own rule")
        return None
    column = _Column(at, "image_tokens", name)
    firsts = np.unique(column.codes, return_index=True)[1]
    values = np.array([column.number(int(row), limits.TRACE_TOKENS) for row in firsts], dtype=np.int64)
    found: np.ndarray[Any, Any] = values[column.codes]
    return found


def _combined(codes: list[np.ndarray[Any, Any]], rows: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Which of the different combinations each row has, and the first row of each."""
    found = np.zeros(rows, dtype=np.int64)
    for column in codes:
        found = np.unique(found * (int(column.max(initial=0)) + 1) + column, return_inverse=True)[1]
    firsts = np.unique(found, return_index=True)[1]
    return found, firsts


def _media(columns: dict[Role, _Column], row: int, asked: Media) -> Media:
    """What the request of a row holds."""
    return Media(
        images=tuple(_images(columns, row, asked.images)),
        videos=tuple(_videos(columns.get("video"), row, asked.videos)),
        sounds=tuple(_sounds(columns.get("audio"), row, asked.sounds)),
    )


def _images(columns: dict[Role, _Column], row: int, like: tuple[Size, ...]) -> Iterator[Size]:
    """How many a column says, of the size that columns or `like` say."""
    column, high, wide = columns.get("images"), columns.get("height"), columns.get("width")
    text = column.text(row) if column is not None else None
    if column is not None and text is not None:
        yield from column.parsed(row, text).images
        return
    if high is not None and wide is not None:
        sides = int(high.number(row, MOST_SIDE)), int(wide.number(row, MOST_SIDE))
        if bool(sides[0]) != bool(sides[1]):
            raise high.at.bad(row, f"an image of {sides[0]} x {sides[1]} pixels")
        like = (Size(*sides),) if sides[0] else ()
    count = 1 if column is None else int(column.number(row, MOST_IMAGES))
    if count and not like and column is not None:
        raise column.at.bad(row, f"{count:,} images without a size")
    if count * len(like) > MOST_IMAGES:
        raise OptionError(f"a request holds {count * len(like):,} images, more than are taken together ({MOST_IMAGES:,})")
    yield from like * count


def _videos(column: _Column | None, row: int, like: tuple[Video, ...]) -> Iterator[Video]:
    """As a text says, or as long as a number says, with the frames and the size of `like`."""
    if column is None:
        yield from like
        return
    text = column.text(row)
    if text is not None:
        yield from column.parsed(row, text).videos
        return
    seconds = column.number(row, MOST_SECONDS, whole=False)
    if not seconds:
        return
    if len(like) != 1:
        raise OptionError(
            f"`{printable(column.name, 40)}` holds seconds: «video 1s@2fps@720x1280» says frames a second and their size",
            hint="or «columns video=none» leaves them out",
        )
    one = like[0]
    yield from column.parsed(row, f"{seconds:.6f}s@{one.fps:.6f}fps@{one.height}x{one.width}").videos


def _sounds(column: _Column | None, row: int, like: tuple[Sound, ...]) -> Iterator[Sound]:
    """As a text says, or as long as a number says."""
    if column is None:
        yield from like
        return
    text = column.text(row)
    if text is not None:
        yield from column.parsed(row, text).sounds
        return
    seconds = column.number(row, MOST_SECONDS, whole=False)
    if seconds:
        yield Sound(seconds=seconds)
