"""YAML as people write specs, read from the parser's events: bounded, and every node knows its line.

No constructor runs and nothing is guessed: anchors, aliases, tags and second documents are refused, and a plain
scalar is an integer only when it is written as one (`yes`, `8k`, `1e3`, `0x10`, `010` and `1_000` are text).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

from msgspec import Struct

from kvplan.errors import SpecError

MAX_BYTES: Final = 2**20
MAX_DEPTH: Final = 40
MAX_NODES: Final = 100_000

Value = str | int | float | bool | None

_INTEGER: Final = r"0|-?[1-9][0-9]{0,17}"
_FLOAT: Final = r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,3})?"
_WORDS: Final[dict[str, Value]] = {"": None, "~": None, "null": None, "true": True, "false": False}


class Scalar(Struct, frozen=True, array_like=True, tag=0):
    """A single value; `text` is what the file says where the value does not say it."""

    line: int
    value: Value
    text: str | None = None

    @property
    def shown(self) -> str:
        """What the file says, for errors."""
        return _shown(self.value) if self.text is None else self.text


class ListNode(Struct, frozen=True, array_like=True, tag=1):
    """A sequence."""

    line: int
    items: "tuple[Node, ...]"


class MapNode(Struct, frozen=True, array_like=True, tag=2):
    """A mapping with text keys; `lines` says where each key stands."""

    line: int
    entries: "dict[str, Node]"
    lines: dict[str, int]


Node = Scalar | ListNode | MapNode


def at(source: str, line: int) -> str:
    """`source:line`, as compilers print it; line 0 means that there are no lines (a Python dict)."""
    return f"{source}:{line}" if line else source


def parse_yaml(raw: bytes, source: str) -> Node:
    """The one document in `raw`.

    Raises:
        SpecError: not UTF-8, not YAML, or something that a spec does not need (see the module's docstring).
    """
    import yaml

    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise SpecError(f"{source}: not UTF-8 text", hint="give a YAML model description") from problem
    try:
        return _Builder(yaml, text, source).document()
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = at(source, mark.line + 1 if mark else 0)
        what = problem.problem or problem.context
        raise SpecError(f"{where}: not valid YAML: {what}", hint="check the indentation") from problem
    except yaml.YAMLError as problem:  # a character that YAML does not allow
        reason = str(getattr(problem, "reason", "unreadable"))
        raise SpecError(f"{source}: not valid YAML: {reason}", hint="is it the right file?") from problem


class _Builder:
    """Turns parser events into nodes; one level of Python recursion for each level of nesting, at most MAX_DEPTH."""

    def __init__(self, yaml: Any, text: str, source: str) -> None:
        self._yaml = yaml
        self._events: Iterator[Any] = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self._source = source
        self._nodes = 0

    def document(self) -> Node:
        """The root node of the only document."""
        next(self._events)  # stream start
        event = next(self._events)
        if not isinstance(event, self._yaml.DocumentStartEvent):
            raise SpecError(f"{self._source}: holds no YAML value", hint="give a YAML model description")
        root = self._node(next(self._events), 0)
        next(self._events)  # document end
        event = next(self._events)
        if not isinstance(event, self._yaml.StreamEndEvent):
            self._refuse(event, "a second document starts here", "one file describes one model")
        return root

    def _refuse(self, event: Any, problem: str, hint: str) -> NoReturn:
        raise SpecError(f"{at(self._source, event.start_mark.line + 1)}: {problem}", hint=hint)

    def _node(self, event: Any, depth: int) -> Node:
        yaml, line = self._yaml, event.start_mark.line + 1
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._refuse(event, f"more than {MAX_NODES:,} values", "use `repeat` or `pattern` for equal layers")
        if depth > MAX_DEPTH:
            self._refuse(event, f"nested more than {MAX_DEPTH} levels deep", "a model description is not that deep")
        if getattr(event, "anchor", None) is not None:  # aliases have one too
            self._refuse(event, "anchors and aliases are not allowed", "write the value out, or use `repeat` or `pattern`")
        if event.tag is not None:
            self._refuse(event, f"the tag `{event.tag[:60]}` is not allowed", "write a plain value")
        if isinstance(event, yaml.ScalarEvent):
            value = event.value if event.style else _plain(event.value)
            said = f"'{event.value[:58]}'" if event.style else event.value[:60]
            return Scalar(line, value, None if said == _shown(value) else said)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(event, depth + 1))
            return ListNode(line, tuple(items))
        return self._mapping(line, depth)

    def _mapping(self, line: int, depth: int) -> MapNode:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), self._yaml.MappingEndEvent):
            if not isinstance(event, self._yaml.ScalarEvent):
                self._refuse(event, "a key must be a plain text", "write `key: value`, without anchors")
            self._node(event, depth + 1)  # the same bounds and refusals as for a value
            key = event.value
            if key in entries:
                self._refuse(event, f"`{key[:60]}` is given twice", f"it stands on line {lines[key]} already")
            lines[key] = event.start_mark.line + 1
            entries[key] = self._node(next(self._events), depth + 1)
        return MapNode(line, entries, lines)


def _plain(text: str) -> Value:
    """A plain scalar's value, by YAML 1.2's core spellings alone."""
    if text in _WORDS:
        return _WORDS[text]
    if re.fullmatch(_INTEGER, text):
        return int(text)
    return float(text) if re.fullmatch(_FLOAT, text) else text


def from_python(data: object, source: str) -> Node:
    """The same nodes from Python values, under the same bounds.

    Raises:
        SpecError: too deep, too many values, a key that is not a text, or a value of another type.
    """
    count = 0

    def node(value: object, depth: int) -> Node:
        nonlocal count
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise SpecError(f"{source}: too large or nested too deeply", hint="use `repeat` or `pattern` for equal layers")
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise SpecError(f"{source}: a key must be a text, got `{str(key)[:40]}`", hint="use text keys")
            return MapNode(0, {key: node(inner, depth + 1) for key, inner in value.items()}, dict.fromkeys(value, 0))
        if isinstance(value, list | tuple):
            return ListNode(0, tuple(node(inner, depth + 1) for inner in value))
        if value is None or isinstance(value, str | int | float):
            return Scalar(0, value)
        raise SpecError(f"{source}: cannot hold a value of type `{type(value).__name__}`", hint="use plain Python values")

    return node(data, 0)


def _shown(value: Value) -> str:
    """A Python value as YAML would write it, without ever printing a huge number."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value[:60] if isinstance(_plain(value[:60]), str) else f"'{value[:58]}'"
    if isinstance(value, int) and abs(value) >= 10**18:
        return "a number of more than 18 digits"
    return str(value)[:60]


def to_python(node: Node) -> Any:
    """Plain Python values again: dicts, lists, texts, numbers, booleans, None."""
    if isinstance(node, MapNode):
        return {key: to_python(inner) for key, inner in node.entries.items()}
    if isinstance(node, ListNode):
        return [to_python(inner) for inner in node.items]
    return node.value
