"""Tensors of all runs put together: one series a path, with its law, its axes and its layer."""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from kvplan.domain.dtypes import STATE_ITEM_BYTES, lookup
from kvplan.errors import KvplanError
from kvplan.questions.measure.laws import Law, Seen, fitting
from kvplan.questions.measure.observed import Facts, Held, Point

#: What stands for places in a list that grows.
_ANY: Final = "*"
#: Lists that hold one entry a layer, by their names.
_LAYERED: Final = frozenset({"layers", "layer", "h", "blocks", "block"})


class Series(Struct, frozen=True, kw_only=True):
    """One tensor, or all tensors of one list that grows, over all runs.

    `entry` are the axes of one entry of one sequence, in elements. `laws` are all that fit the runs that are no checks (none:
    it follows no law, or it is not the batch's: then `per_sequence` is false). `own`: it hangs on a module; `stepped`: each
    decode step writes it; `counter`: whole numbers or a few bytes.
    """

    path: tuple[str, ...]
    at: int | None  # where in the path the layer stands
    dtype: str
    entry: tuple[int, ...]
    laws: tuple[Law, ...]
    per_sequence: bool
    stepped: bool
    counter: bool
    own: bool
    bytes: tuple[int, ...]  # of all sequences, in the order of the points

    @property
    def name(self) -> str:
        """The path as a person writes it."""
        return shown_path(self.path)

    @property
    def layer(self) -> int | None:
        """The layer's number, if the path names one."""
        return None if self.at is None else int(self.path[self.at][1:].partition("/")[0])

    @property
    def law(self) -> Law | None:
        """The simplest law that fits."""
        return self.laws[0] if self.per_sequence and self.laws else None


def shown_path(path: Sequence[str]) -> str:
    """A path as Python writes it.

    >>> shown_path(("layers", "#3/12", "keys"))
    'layers[3].keys'
    """
    words = ""
    for step in path:
        place = step[1:].partition("/")[0] if step.startswith("#") else step
        words += f"[{place}]" if step.startswith("#") or step == _ANY else f".{step}" if words else step
    return words or "the cache"


def together(points: Sequence[Point], facts: Facts) -> list[Series]:
    """Every series of the runs, in the order of their paths' first appearance."""
    growing = _growing(points)
    members: dict[tuple[str, ...], list[list[Held]]] = {}
    for number, point in enumerate(points):
        for held in point.held:
            key = tuple(_generic(held.path, growing))
            members.setdefault(key, [[] for _ in points])[number].append(held)
    made = (_series(key, runs, points, facts) for key, runs in members.items())
    return [series for series in made if any(series.bytes)]


def _growing(points: Iterable[Point]) -> frozenset[tuple[str, ...]]:
    """Lists whose length differs from run to run: their paths without lengths."""
    lengths: dict[tuple[str, ...], set[str]] = {}
    for point in points:
        for held in point.held:
            for depth, step in enumerate(held.path):
                if step.startswith("#") and not step.endswith("/0"):
                    lengths.setdefault(_plain(held.path[:depth]), set()).add(step.partition("/")[2])
    return frozenset(path for path, found in lengths.items() if len(found) > 1)


def _plain(path: Iterable[str]) -> tuple[str, ...]:
    return tuple(step.partition("/")[0] if step.startswith("#") else step for step in path)


def _generic(path: tuple[str, ...], growing: frozenset[tuple[str, ...]]) -> list[str]:
    """The path with what differs from run to run left open."""
    return [_ANY if step.startswith("#") and _plain(path[:depth]) in growing else step for depth, step in enumerate(path)]


def _series(path: tuple[str, ...], runs: list[list[Held]], points: Sequence[Point], facts: Facts) -> Series:
    first = next(run for run in runs if run)[0]
    sizes = [sum(held.storage_bytes for held in run) for run in runs]
    per_sequence = all(size % point.batch_size == 0 for size, point in zip(sizes, points, strict=True))
    fitted = [(p, size) for p, size in zip(points, sizes, strict=True) if not p.check]
    seen = [Seen(p.seq_len, p.encoder_len, size // p.batch_size) for p, size in fitted]
    by_length: dict[tuple[int, int], set[int]] = {}
    for one in seen:
        by_length.setdefault((one.seq_len, one.encoder_len), set()).add(one.bytes)
    per_sequence = per_sequence and all(len(found) == 1 for found in by_length.values())
    laws = fitting(seen) if per_sequence else ()
    counter = first.dtype in {"int64", "int32", "bool", "int16"} or max(sizes) <= 64
    return Series(
        path=path,
        at=layer_at(path, facts.layers),
        dtype=first.dtype,
        entry=_entry(path, runs, points),
        laws=tuple(laws),
        per_sequence=per_sequence,
        stepped=any(held.stepped for run in runs for held in run),
        counter=counter,
        own=first.own,
        bytes=tuple(sizes),
    )


def layer_at(path: Sequence[str], layers: int | None) -> int | None:
    """Where a path names a layer: at a place in a list of layers, else in one that has a place for each."""
    places = [(depth, step.partition("/")[2]) for depth, step in enumerate(path) if step.startswith("#")]
    named = [depth for depth, _ in places if depth and path[depth - 1] in _LAYERED]
    fitting_lists = [depth for depth, length in places if layers is None or length in {str(layers), "0"}]
    return next(iter([*named, *fitting_lists]), None)


def _entry(path: tuple[str, ...], runs: list[list[Held]], points: Sequence[Point]) -> tuple[int, ...]:
    """Axes that are neither the batch's nor the tokens': those that are equal in all runs, and the batch's size is none."""
    shapes = {(point.batch_size, held.shape) for run, point in zip(runs, points, strict=True) for held in run[:1]}
    lengths = {len(shape) for _, shape in shapes}
    if len(lengths) != 1:
        return ()
    axes = []
    for axis in range(lengths.pop()):
        sizes = {shape[axis] for _, shape in shapes}
        if len(sizes) == 1:
            axes.append(sizes.pop())
        elif all(shape[axis] % batch == 0 for batch, shape in shapes):
            each = {shape[axis] // batch for batch, shape in shapes}
            if len(each) == 1 and each != {1}:  # sequences and heads in one axis
                axes.append(each.pop())
    return tuple(axes)


def item_bytes_of(dtype: str) -> int | None:
    """Bytes of an element, where kvplan knows such a type for states."""
    if dtype in STATE_ITEM_BYTES:
        return STATE_ITEM_BYTES[dtype]
    try:
        row = lookup(dtype)
    except KvplanError:
        return None
    return row.block_bytes if row.block == 1 else None
