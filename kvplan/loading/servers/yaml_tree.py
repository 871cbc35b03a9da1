"""YAML as manifests are written: anchors, merges and several documents, bounded; every node knows its lines.

An alias is the node it stands for, not a copy; what walks a tree counts what it visits.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kvplan.errors import InputError

MAX_DEPTH: Final = 60
MAX_NODES: Final = 200_000
_INTEGER: Final = re.compile(r"[-+]?\d{1,18}")
_FLOAT: Final = re.compile(r"[-+]?(?:\d{1,18}\.\d{0,18}|\.\d{1,18}|\d{1,18}(?=[eE]))(?:[eE][-+]?\d{1,3})?")
_WORDS: Final[Mapping[str, Any]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None, "true": True, "True": True, "TRUE": True, "false": False,
    "False": False, "FALSE": False,
}  # fmt: skip


class YamlError(InputError):
    """A text that is no YAML, or more of it than anybody writes."""


class Text:
    """A scalar: its text, whether quotes or a block made it a text, and its lines."""

    __slots__ = ("last", "line", "plain", "style", "text")

    def __init__(self, text: str, line: int, last: int, style: str) -> None:
        self.text, self.line, self.last, self.style = text, line, last, style
        self.plain = not style

    @property
    def value(self) -> Any:
        """What it means: a number, a boolean, nothing, or text."""
        if not self.plain:
            return self.text
        if self.text in _WORDS:
            return _WORDS[self.text]
        if _INTEGER.fullmatch(self.text):
            return int(self.text)
        return float(self.text) if _FLOAT.fullmatch(self.text) else self.text


class Items:
    """A list."""

    __slots__ = ("items", "line")

    def __init__(self, items: "list[Node]", line: int) -> None:
        self.items, self.line = items, line


class Map:
    """A mapping with text keys."""

    __slots__ = ("entries", "line", "lines")

    def __init__(self, entries: "dict[str, Node]", lines: dict[str, int], line: int) -> None:
        self.entries, self.lines, self.line = entries, lines, line

    def get(self, *path: str) -> "Node | None":
        """The node behind keys, one inside the other."""
        node: Node | None = self
        for key in path:
            node = node.entries.get(key) if isinstance(node, Map) else None
        return node

    def map(self, *path: str) -> "Map":
        """The mapping behind keys; an empty one where there is none."""
        found = self.get(*path)
        return found if isinstance(found, Map) else Map({}, {}, self.line)

    def list(self, *path: str) -> "list[Node]":
        """The list behind keys; empty where there is none."""
        found = self.get(*path)
        return found.items if isinstance(found, Items) else []

    def text(self, *path: str) -> str:
        """The text behind keys; empty where there is none."""
        found = self.get(*path)
        return found.text if isinstance(found, Text) and found.value is not None else ""


Node = Text | Items | Map


def documents(text: str) -> list[Node]:
    """The documents of a text.

    Raises:
        YamlError: not YAML, nested too deeply, or too much of it.
    """
    import yaml

    try:
        return list(_Builder(yaml, text).documents())
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        last = len(text.splitlines())  # the end of a text is said to lie on the line behind it
        where = f"line {min(mark.line + 1, last)}: " if mark else ""
        cut = mark is not None and mark.line + 1 >= last
        kind = "JSON" if text.lstrip()[:1] in {"{", "["} else "YAML"
        hint = "is it whole?" if cut else "check commas and brackets" if kind == "JSON" else "check the indentation"
        raise YamlError(f"{where}not valid {kind}: {problem.problem or problem.context}", hint=hint) from problem
    except yaml.YAMLError as problem:
        raise YamlError(f"not valid YAML: {getattr(problem, 'reason', 'unreadable')}", hint="is it the right file?") from problem


class _Builder:
    def __init__(self, yaml: Any, text: str) -> None:
        self.yaml, self.count = yaml, 0
        self.events: Iterator[Any] = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.anchors: dict[str, Node] = {}
        self.open: set[str] = set()

    def documents(self) -> Iterator[Node]:
        for event in self.events:
            if isinstance(event, self.yaml.DocumentStartEvent):
                self.anchors = {}
                yield self.node(next(self.events), 0)

    def node(self, event: Any, depth: int) -> Node:
        yaml, line = self.yaml, event.start_mark.line + 1
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            what = f"more than {MAX_NODES:,} values" if self.count > MAX_NODES else f"nested more than {MAX_DEPTH} levels deep"
            raise YamlError(f"line {line}: {what}", hint="give the part that starts the server")
        if isinstance(event, yaml.AliasEvent):
            found = self.anchors.get(event.anchor)
            if found is None:
                raise YamlError(f"line {line}: no anchor `{event.anchor[:40]}` before it", hint="check the name")
            return found
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            last = event.end_mark.line + (event.end_mark.column > 0)
            node = Text(event.value, line, max(line, last), event.style or "")
        elif isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(inner := next(self.events), yaml.SequenceEndEvent):
                items.append(self.node(inner, depth + 1))
            node = Items(items, line)
        else:
            node = self.mapping(line, depth)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def mapping(self, line: int, depth: int) -> Map:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        merged: list[Map] = []
        while not isinstance(event := next(self.events), self.yaml.MappingEndEvent):
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            if not isinstance(key, Text):
                continue
            if key.text == "<<" and key.plain:
                inner = value.items if isinstance(value, Items) else [value]
                merged += [one for one in inner if isinstance(one, Map)]
                continue
            entries[key.text], lines[key.text] = value, key.line
        for one in merged:
            self.count += len(one.entries)
            for name, node in one.entries.items():
                if name not in entries:
                    entries[name], lines[name] = node, one.lines[name]
        return Map(entries, lines, line)


def plain(node: Node | None, budget: list[int] | None = None) -> Any:
    """Plain Python values.

    Raises:
        YamlError: aliases that multiply.
    """
    left = budget if budget is not None else [MAX_NODES]
    left[0] -= 1
    if left[0] < 0:
        raise YamlError("aliases that multiply without end", hint="write the values out")
    if isinstance(node, Map):
        return {key: plain(inner, left) for key, inner in node.entries.items()}
    if isinstance(node, Items):
        return [plain(inner, left) for inner in node.items]
    return None if node is None else node.value


def walk(node: Node, visit: Sequence[str] = ()) -> Iterator[tuple[tuple[str, ...], Map]]:
    """Every mapping with the keys that lead to it, in the order of the text.

    Raises:
        YamlError: aliases that multiply.
    """
    left = MAX_NODES
    stack: list[tuple[tuple[str, ...], Node]] = [(tuple(visit), node)]
    while stack:
        path, one = stack.pop()
        left -= 1
        if left < 0:
            raise YamlError("aliases that multiply without end", hint="write the values out")
        if isinstance(one, Map):
            yield path, one
            stack += [((*path, key), inner) for key, inner in reversed(one.entries.items())]
        elif isinstance(one, Items):
            stack += [(path, inner) for inner in reversed(one.items)]
