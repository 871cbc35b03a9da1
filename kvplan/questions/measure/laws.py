"""How a tensor grows: the laws, which of them fit what was seen, and where two that fit would differ."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Literal

from msgspec import Struct

from kvplan.domain.model import Compressed, Full, Reach, Steps, Window

Kind = Literal["constant", "token", "window", "compressed", "step", "encoder"]
#: Tokens of a group or a step that are looked for.
MOST_SIZE: Final = 65_536
#: Laws, and lengths, that are looked at to part them.
_MOST_LAWS: Final = 200


class Seen(Struct, frozen=True):
    """Bytes of one sequence at one length."""

    seq_len: int  # tokens
    encoder_len: int  # tokens
    bytes: int


class Law(Struct, frozen=True):
    """Bytes of one sequence as a function of its length: entries of `row` bytes, and `extra` bytes whatever the length.

    `size` is the window, the tokens of an entry, or the tokens of a step.
    """

    kind: Kind
    row: int = 0  # bytes of an entry
    size: int = 0  # tokens
    extra: int = 0  # bytes

    def entries(self, seq_len: int, encoder_len: int = 0) -> int:
        """Entries that are kept.

        >>> Law("window", row=2, size=8).entries(5), Law("window", row=2, size=8).entries(50)
        (5, 8)
        >>> Law("compressed", row=2, size=4).entries(11), Law("step", row=2, size=4).entries(9)
        (2, 12)
        """
        match self.kind:
            case "constant":
                return 0
            case "token":
                return seq_len
            case "window":
                return min(seq_len, self.size)
            case "compressed":
                return seq_len // self.size
            case "step":
                return -(-seq_len // self.size) * self.size
            case "encoder":
                return encoder_len

    def bytes(self, seq_len: int, encoder_len: int = 0) -> int:
        """Bytes of one sequence."""
        return self.extra + self.row * self.entries(seq_len, encoder_len)

    @property
    def reach(self) -> Reach:
        """The same as a model says it."""
        match self.kind:
            case "window":
                return Window(self.size)
            case "compressed":
                return Compressed(self.size)
            case "step":
                return Steps(self.size)
            case _:
                return Full()

    def __str__(self) -> str:
        """In words."""
        words = {
            "constant": "the same at every length",
            "token": "per token",
            "window": f"per token, at most {self.size:,}",
            "compressed": f"one entry for {self.size:,} tokens",
            "step": f"per token, in steps of {self.size:,}",
            "encoder": "per encoder token",
        }[self.kind]
        return f"{words}, and {self.extra:,} bytes" if self.extra and self.kind != "constant" else words


def fitting(seen: Sequence[Seen]) -> list[Law]:
    """Every law that gives exactly what was seen, the simplest first; none where nothing fits.

    >>> [str(law) for law in fitting([Seen(s, 0, 6 * min(s, 9)) for s in (3, 4, 9, 20)])]
    ['per token, at most 9']
    """
    return list(_fitting(tuple(dict.fromkeys(seen))))


@lru_cache(maxsize=4096)  # layers are alike
def _fitting(seen: tuple[Seen, ...]) -> tuple[Law, ...]:
    values = {one.bytes for one in seen}
    if len(values) == 1:
        return (Law("constant", extra=values.pop()),)
    return tuple(law for law in _candidates(seen) if all(law.bytes(s.seq_len, s.encoder_len) == s.bytes for s in seen))


def _candidates(seen: Sequence[Seen]) -> Iterator[Law]:
    """Laws that agree with a few of the lengths."""
    by_encoder = dict(sorted((s.encoder_len, s.bytes) for s in seen))
    if len(by_encoder) > 1:
        yield from _lines("encoder", by_encoder)
    by_length = dict(sorted((s.seq_len, s.bytes) for s in seen))
    if len(by_length) < 2:
        return
    yield from _lines("token", by_length)
    yield from _windows(by_length)
    yield from _steps(by_length)
    yield from _groups(by_length)


def _lines(kind: Kind, values: dict[int, int]) -> Iterator[Law]:
    """A straight line through the first two lengths."""
    (x, first), (y, second), *_ = values.items()
    row, rest = divmod(second - first, y - x)
    if not rest and row > 0 and first >= row * x:
        yield Law(kind, row=row, extra=first - row * x)


def _windows(values: dict[int, int]) -> Iterator[Law]:
    """A line that ends at the largest value; with one length before the end, a line through nothing."""
    most = max(values.values())
    growing = [(tokens, size) for tokens, size in values.items() if size < most]
    if not growing or values[max(values)] != most:
        return
    x, first = growing[0]
    rows = [(size - first) // (tokens - x) for tokens, size in growing[1:2] if not (size - first) % (tokens - x)]
    for row in dict.fromkeys([*rows, *([first // x] if not first % x else [])]):
        extra = first - row * x
        if row > 0 and extra >= 0 and not (most - extra) % row:
            yield Law("window", row=row, size=(most - extra) // row, extra=extra)


def _steps(values: dict[int, int]) -> Iterator[Law]:
    """Room that grows by whole steps of tokens; the longest step is tried first, since shorter ones that divide it may fit."""
    longest, most = max(values), max(values.values())
    for size in range(min(MOST_SIZE, 2 * longest), 1, -1):
        row, rest = divmod(most, -(-longest // size) * size)
        law = Law("step", row=row, size=size)
        if not rest and row and all(law.bytes(tokens) == value for tokens, value in values.items()):
            yield law


def _groups(values: dict[int, int]) -> Iterator[Law]:
    """One entry for each full group of tokens."""
    longest, most = max(values), max(values.values())
    for size in range(2, min(MOST_SIZE, longest) + 1):
        row, rest = divmod(most, longest // size)
        law = Law("compressed", row=row, size=size)
        if not rest and all(law.bytes(tokens) == value for tokens, value in values.items()):
            yield law


def parting(laws: Sequence[Law], taken: Sequence[int], most: int) -> int | None:
    """The length at which laws that all fit differ most evenly; None where they agree up to `most`.

    >>> parting([Law("compressed", row=1, size=3), Law("compressed", row=1, size=4)], (3, 4), 100)
    6
    """
    if len(laws) < 2:
        return None
    some = laws[:: max(1, len(laws) // _MOST_LAWS)][:_MOST_LAWS]
    edges = {law.size * times - less for law in some for times in (1, 2, 3) for less in (0, 1)}
    lengths = sorted(length for length in edges if 2 <= length <= most and length not in taken)
    best, length = len(some), None
    for tokens in lengths[:: max(1, len(lengths) // _MOST_LAWS)]:
        groups: dict[int, int] = {}
        for law in some:
            size = law.bytes(tokens)
            groups[size] = groups.get(size, 0) + 1
        if max(groups.values()) < best:
            best, length = max(groups.values()), tokens
    return length
