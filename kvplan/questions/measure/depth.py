"""Fewer layers of the same kinds: which layers of a config may be left out, and what was seen of few as what is kept in all.

A stack is a head, a middle that repeats itself, and a tail. Whole periods of the middle are left out: `Cut.config` writes the
smaller config, `Cut.place` says which of its layers stands for which, and `deepened` writes runs of a small stack as runs of a
deeper one. What is read here is only what a config says; that it is true is asked of stacks of other depths (`stack`). Pure.
"""

import ast
import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.questions.measure.observed import Held, Point
from kvplan.questions.measure.series import layer_at

#: What a config calls its number of layers, the decoder's first.
LAYERS: Final = (
    "num_decoder_layers", "decoder_layers", "num_hidden_layers", "n_layer", "n_layers", "num_layers", "layers", "depth",
)  # fmt: skip
#: A stack of no more layers than this is built whole, and none is built that is shallower than the other.
_WHOLE: Final = 12
_LEAST: Final = 5
#: About how many runs are made of each stack, and which share of the work of all layers is worth it.
_RUNS: Final = (14, 3, 2)
_WORTH: Final = 0.65
#: Lists that are longer than the layers by no more than this go on with layers of another kind (those that predict further).
_BEYOND: Final = 4
#: Keys of numbers that say every which layer is another.
_PERIOD: Final = re.compile(r"interval|period|every|pattern|freq|cla_share|share_factor|layer_group|layer_step", re.I)
#: Keys of numbers that say where among the layers something begins or ends; then those that count from the front, from the
#: back, and those that speak of no layer of this stack.
_PLACE: Final = re.compile(r"layer|dense|offset|first", re.I)
_FRONT: Final = re.compile(r"first|dense|start|begin|input|hash|window|offset", re.I)
_BACK: Final = re.compile(r"shared|output|last", re.I)
_ELSEWHERE: Final = re.compile(r"nextn|mtp|predict|vision|audio|encoder|norm|token|size|dim|rank|width|hidden_states", re.I)
_END: Final = re.compile(r"index|idx", re.I)
#: Keys of lists that speak of layers.
_LAYERED: Final = re.compile(r"layer|block|pattern|idx|indices|_ids", re.I)
#: Sections of a config that hold another stack.
_OTHERS: Final = re.compile(r"vision|audio|encoder|image|video|talker|speech", re.I)
#: Names of a layer's number in code.
_NUMBER: Final = re.compile(r"^(layer_?(idx|id|index|number|num|no|i)|idx_layer|i_layer)$", re.I)

Values = Mapping[str, Any]


class Cut(Struct, frozen=True, kw_only=True):
    """A stack of `layers`, of which the first `head` and the last `tail` are each their own, and the rest repeats itself."""

    layers: int
    head: int
    period: int
    tail: int
    section: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()  # paths, joined by `/`, of what has an entry for each layer
    places: tuple[str, ...] = ()  # of what lists numbers of layers, or is one near the end

    def depths(self, taken: frozenset[int] = frozenset()) -> tuple[int, int, int] | None:
        """Three depths to build: two to learn from, a third to predict; None where that would save little.

        Args:
            taken: sizes of other things, which a depth had better not have.
        """
        least = self.head + self.tail + self.period + (self.layers - self.head - self.tail) % self.period
        may = [depth for depth in range(least, self.layers, self.period) if depth >= _LEAST]
        first = next((depth for depth in may if depth not in taken), may[0] if may else self.layers)
        second = next((depth for depth in may if depth > first), self.layers)
        third = next((depth for depth in may if depth > second + 1), self.layers)
        work = sum(runs * depth for runs, depth in zip(_RUNS, (first, second, third), strict=True))
        return (first, second, third) if third < self.layers and work <= _WORTH * _RUNS[0] * self.layers else None

    def place(self, layer: int, depth: int, among: int) -> int:
        """Which layer of a stack of `depth` stands for `layer` of one of `among` layers.

        >>> cut = Cut(layers=12, head=1, period=2, tail=1)
        >>> [cut.place(layer, 6, 12) for layer in range(12)]
        [0, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 5]
        """
        if layer < self.head:
            return layer
        if layer >= among - self.tail:
            return layer - (among - depth)
        return self.head + (layer - self.head) % self.period

    def config(self, values: Values, depth: int) -> dict[str, Any]:
        """The config of a stack of `depth` layers.

        Args:
            values: the config, with every list that the cut was read from.
            depth: of those in `depths`.
        """
        made = copy.deepcopy(dict(values))
        held = _at(made, self.section)
        start, end = depth - self.tail, self.layers - self.tail
        for key in LAYERS:
            if held.get(key) == self.layers:
                held[key] = depth
        for path in self.lists:
            *within, key = path.split("/")
            inner = _at(held, within)
            inner[key] = inner[key][:start] + inner[key][end:]
        for path in self.places:
            *within, key = path.split("/")
            inner = _at(held, within)
            inner[key] = _moved(inner[key], start, end)
        return made


def _at(values: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    for step in path:
        values = values[step]
    return values


def _moved(value: Any, start: int, end: int) -> Any:
    """Numbers of layers after those from `start` to `end` were taken out; both ends look alike, so that it is one whether
    the first layer is 0 or 1."""
    if isinstance(value, int):
        return value if value < start else max(start, value - (end - start))
    return [number if number < start else number - (end - start) for number in value if not start <= number < end]


def cut(values: Values, section: tuple[str, ...] = ()) -> Cut | str:
    """How the layers of a config repeat themselves; or why that cannot be told, in words: none where few layers are said.

    Args:
        values: the section of the config that has the layers.
        section: where in the config that is.
    """
    count = next((values[key] for key in LAYERS if _whole(values.get(key))), None)
    if count is None or count <= _WHOLE:
        return ""
    signs: list[list[Any]] = [[] for _ in range(count)]
    lists, places, fronts, backs, shares = [], [], [0], [0], False
    periods = [
        1,
        *(value for path, value in _entries(values) if _PERIOD.search(path) and not _rope(path) and _count(value, count)),
    ]
    for path, value in _entries(values):
        key = path.rpartition("/")[2]
        if path in LAYERS or _rope(path):
            continue
        if isinstance(value, bool) or not isinstance(value, int | str | list | tuple):
            if isinstance(value, Mapping) and len(value) >= count and all(str(name).isdecimal() for name in value):
                return f"`{key}` is a mapping of numbers"
            continue
        if isinstance(value, int):
            if _PERIOD.search(key) or ("offset" in key.lower() and value < max(periods)):
                continue
            if 1 <= value < count and _PLACE.search(key) and not _ELSEWHERE.search(key):
                if _END.search(key) and value > count // 2:
                    places.append(path)
                    backs.append(count - value + 1)
                    continue
                shares = shares or bool(_BACK.search(key))
                fronts.append(0 if _BACK.search(key) else value + 1)
                backs.append(0 if _FRONT.search(key) else value + (not _BACK.search(key)))
            continue
        kind = _kind(key, value, count)
        if kind == "each":
            lists.append(path)
            for layer in range(count):
                signs[layer].append(_plain(value[layer]))
        elif kind == "places":
            places.append(path)
            held = set(value)
            first = 1 if max(held) == count else 0
            for layer in range(count):
                signs[layer].append(layer + first in held)
        elif kind == "unit":
            periods.append(len(value))
        elif kind:
            return f"`{key}` is a list that is not understood"
    period = math.lcm(*periods)
    found = _repeating([tuple(sign) for sign in signs], period, max(fronts), max(backs))
    if found is None:
        return "the layers of the config do not repeat themselves"
    head, period, tail = found
    if shares:  # with the last of each kind that owns what the others share
        tail += period
    if places:  # so that numbers mean the same from 0 and from 1
        head, tail = head + 1, tail + 1
    return Cut(layers=count, head=head, period=period, tail=tail, section=section, lists=tuple(lists), places=tuple(places))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 4096


def _count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 2 <= value <= most


def _rope(path: str) -> bool:
    return "rope" in path.lower() and "/" in path


def _entries(values: Values, within: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every key with its value, those of sections too, except of other stacks."""
    for key, value in values.items():
        path = f"{within}{key}"
        if "/" in str(key) or (_OTHERS.search(str(key)) and isinstance(value, Mapping)):
            continue
        yield path, value
        if isinstance(value, Mapping) and depth < 3:
            yield from _entries(value, f"{path}/", depth + 1)


def _kind(key: str, value: Any, count: int) -> str:
    """What a list or a word says of layers: `each`, `places`, the `unit` that repeats, nothing, or what nobody knows."""
    size = len(value)
    numbers = not isinstance(value, str) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    layered = bool(_LAYERED.search(key)) and not _ELSEWHERE.search(key)
    rising = numbers and size > 0 and list(value) == sorted(set(value)) and value[0] >= 0 and value[-1] <= count
    if rising and layered and size <= count:
        return "places"
    if isinstance(value, str):
        if not re.search(r"pattern", key, re.I):
            return ""
        return "each" if size == count else "unit" if 1 < size < count else "unknown"
    if size == count or (count < size <= count + _BEYOND and (layered or "ratio" in key.lower())):
        return "each"
    if size < 2 or not layered:
        return ""
    if size < count and not numbers:
        return "unit"
    return "unknown"


def _plain(value: Any) -> Any:
    """A value that can be compared and hashed."""
    return repr(value) if isinstance(value, list | dict | float) else value


def _repeating(signs: Sequence[tuple[Any, ...]], unit: int, front: int, back: int) -> tuple[int, int, int] | None:
    """(head, period, tail) of the shallowest stack that has every layer; the period is a multiple of `unit`."""
    count, best = len(signs), None
    for period in range(unit, count // 2 + 1, unit):
        start = front
        while start + 2 * period <= count - back:
            end = start + period
            while end < count - back and signs[end] == signs[end - period]:
                end += 1
            whole = end - start - (end - start) % period
            if whole >= 2 * period:
                size = start + period + (count - end) + (end - start) % period
                if best is None or size < best[0]:
                    best = (size, (start, period, count - end))
            start = max(start + 1, end - period + 1)
    return None if best is None else best[1]


def chosen_in_code(text: str) -> int | None:
    """The line of code that compares a layer's number with a number of its own, or divides it by one; None where none does.

    >>> chosen_in_code("def forward(self, x):\\n    return x if self.layer_idx % 4 else 0")
    2
    >>> chosen_in_code("full = config.layer_types[layer_idx] == 'full'; first = layer_idx == 0")
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.FloorDiv):
            sides: list[ast.expr] = [node.left, node.right]
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        else:
            continue
        if any(_is_number(side) for side in sides) and any(_is_constant(side) for side in sides):
            return node.lineno
    return None


def _is_number(node: ast.expr) -> bool:
    """Whether an expression is a layer's number, or a sum with one."""
    if isinstance(node, ast.BinOp):
        return _is_number(node.left) or _is_number(node.right)
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return bool(_NUMBER.match(name))


def _is_constant(node: ast.expr) -> bool:
    """Whether an expression is a number beyond the first two, or holds one."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(_is_constant(one) for one in node.elts)
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value >= 2


class Deeper(Struct, frozen=True, kw_only=True):
    """How what is kept depends on the depth: by layer, and for tensors of no layer, elements of an axis that each layer adds.

    `axes`: path -> (axis, elements a layer); one that is not there is the same at every depth.
    """

    cut: Cut
    depth: int  # of the runs that it is learned from
    axes: Mapping[tuple[str, ...], tuple[int, int]] = {}

    def point(self, seen: Point, depth: int) -> Point:
        """A run of the stack that was learned from, as a run of a stack of `depth` layers."""
        layered: dict[int, list[tuple[int, Held]]] = {}
        held: list[Held] = []
        for one in seen.held:
            at = layer_at(one.path, self.depth)
            if at is None:
                held.append(self._loose(one, depth))
            else:
                layered.setdefault(int(one.path[at][1:].partition("/")[0]), []).append((at, one))
        beyond = sorted(number for number in layered if number >= self.depth)
        for layer in [*range(depth), *beyond]:
            source = layer if layer >= depth else self.cut.place(layer, self.depth, depth)
            held += [self._layer(one, at, layer, depth) for at, one in layered.get(source, ())]
        return replace(seen, held=tuple(held))

    def _layer(self, one: Held, at: int, layer: int, depth: int) -> Held:
        _, _, length = one.path[at].partition("/")
        size = int(length or 0)
        step = f"#{layer}/{size and size + depth - self.depth}"
        return replace(one, path=(*one.path[:at], step, *one.path[at + 1 :]))

    def _loose(self, one: Held, depth: int) -> Held:
        axis, each = self.axes.get(one.path, (0, 0))
        if not each:
            return one
        old = one.shape[axis]
        new = old + (depth - self.depth) * each
        shape = (*one.shape[:axis], new, *one.shape[axis + 1 :])
        return replace(one, shape=shape, view_bytes=one.view_bytes * new // old, storage_bytes=one.storage_bytes * new // old)


def learned(cut: Cut, first: Sequence[Point], second: Sequence[Point], depths: tuple[int, int]) -> Deeper:
    """What two depths show of tensors that belong to no layer: those of which one axis grows with the depth."""
    axes: dict[tuple[str, ...], tuple[int, int]] = {}
    for one, other in zip(first, second, strict=True):
        shapes = {held.path: held.shape for held in other.held}
        for held in one.held:
            there = shapes.get(held.path)
            if layer_at(held.path, depths[0]) is not None or there is None or len(there) != len(held.shape):
                continue
            moved = [axis for axis, size in enumerate(held.shape) if size != there[axis]]
            if len(moved) == 1:
                each, rest = divmod(there[moved[0]] - held.shape[moved[0]], depths[1] - depths[0])
                if not rest and held.shape[moved[0]]:
                    axes[held.path] = (moved[0], each)
    return Deeper(cut=cut, depth=depths[0], axes=axes)


def unlike(predicted: Point, real: Point) -> str:
    """What a run of another depth keeps otherwise than predicted, in words; empty when every tensor is as it should be."""
    wanted = {held.path: _facts(held) for held in predicted.held}
    found = {held.path: _facts(held) for held in real.held}
    for path, facts in found.items():
        if facts != wanted.get(path):
            layer = next((step[1:].partition("/")[0] for step in path if step.startswith("#")), None)
            return f"a tensor of layer {layer}" if layer else "a tensor of no layer"
    return "fewer tensors" if len(wanted) != len(found) else ""


def _facts(held: Held) -> tuple[Any, ...]:
    return held.shape, held.dtype, held.storage_bytes, held.own, held.stepped
