"""Typed reads from a spec's nodes: each failure names file, line, path and value."""

import re
from collections.abc import Callable, Iterable
from typing import Final, NoReturn, TypeVar

from kvplan.domain.dtypes import DTYPES, STATE_ITEM_BYTES, lookup
from kvplan.domain.model import MAX_ELEMENTS, Fact, ModelError
from kvplan.errors import KvplanError, SpecError, nearest, written
from kvplan.errors import shown as shown_value
from kvplan.loading.yaml_spec.nodes import ListNode, MapNode, Node, Scalar, at
from kvplan.units import parse_count

T = TypeVar("T")
#: Tokens as people say them.
_SHORT: Final = re.compile("[1-9][0-9]{0,5}[kKmM]")

_PLAIN_DTYPES: Final = frozenset({name for name, row in DTYPES.items() if row.block == 1 and not row.head_scale_bytes})


class Fields:
    """One mapping of a spec, at `path` inside `source`; keys that it does not know are refused at once.

    `other` are keys of another kind of file, and what to say of it.
    """

    __slots__ = ("_facts", "_lines", "entries", "line", "path", "source")

    def __init__(
        self,
        node: Node,
        source: str,
        path: str,
        known: Iterable[str],
        facts: list[Fact] | None = None,
        *,
        other: tuple[frozenset[str], str] = (frozenset(), ""),
    ) -> None:
        self.source = source
        self.path = path
        self.line = node.line
        self._facts = facts if facts is not None else []
        if not isinstance(node, MapNode):
            self.refuse_here(f"must be a mapping (`key: value`), got {shown(node)}")
        self.entries = node.entries
        self._lines = node.lines
        names = tuple(known)
        for key in node.entries:
            if key not in names:
                near = nearest(key, names)
                hint = f"did you mean `{near}`?" if near else f"known here: {', '.join(names)}"
                if not other[0].isdisjoint(node.entries):
                    hint = other[1]
                raise SpecError(f"{at(source, node.lines[key])}: unknown key `{self.name(key)[:80]}`", hint=hint)

    def name(self, key: str) -> str:
        """The key with its path: `layers[1].kv_heads`."""
        return f"{self.path}.{key}" if self.path else key

    def where(self, key: str) -> str:
        """`file:line` of a key."""
        return at(self.source, self._lines.get(key, self.line))

    def refuse(self, key: str, problem: str, *, hint: str = "check that key") -> NoReturn:
        """Raise the error for `key`.

        Raises:
            SpecError: always.
        """
        raise SpecError(f"{self.where(key)}: `{self.name(key)[:120]}` {problem}", hint=hint)

    def refuse_here(self, problem: str, *, hint: str = "see docs/guides/specs.md") -> NoReturn:
        """Raise the error for the mapping itself.

        Raises:
            SpecError: always.
        """
        what = f"`{self.path[:120]}`" if self.path else "the description"
        raise SpecError(f"{at(self.source, self.line)}: {what} {problem}", hint=hint)

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        found = self.entries.get(key)
        return found is not None and not (isinstance(found, Scalar) and found.value is None)

    def need(self, key: str, *others: str) -> Node:
        """The node under `key`; `others` are spellings that the error also offers.

        Raises:
            SpecError: it is missing.
        """
        if not self.has(key):
            also = "".join(f" (or `{other}`)" for other in others)
            self.refuse_here(f"needs `{key}`{also}", hint=f"add `{key}: …`")
        return self.entries[key]

    def need_all(self, *keys: str) -> None:
        """Several keys; what is missing is said at once.

        Raises:
            SpecError: one is missing.
        """
        missing = [key for key in keys if not self.has(key)]
        if missing:
            told = " and ".join(filter(None, (", ".join(f"`{key}`" for key in missing[:-1]), f"`{missing[-1]}`")))
            self.refuse_here(f"needs {told}", hint=f"add `{', '.join(f'{key}: …' for key in missing)}`")

    def tokens(self, key: str) -> int:
        """A required number of tokens, in digits or as people say it: `1k` is 1,024, as in a plan and on the command line.

        Raises:
            SpecError: missing, or anything else.
        """
        node = self.need(key)
        said = node.value if isinstance(node, Scalar) else None
        if not isinstance(said, str) or not _SHORT.fullmatch(said):
            return self.integer(key)
        value = self.checked(Scalar(node.line, parse_count(said), said), self.name(key))
        self.note(key, value)
        return value

    def integer(self, key: str, *, minimum: int = 1, maximum: int = MAX_ELEMENTS) -> int:
        """A required whole number.

        Raises:
            SpecError: missing, or anything else.
        """
        value = self.checked(self.need(key), self.name(key), minimum, maximum)
        self.note(key, value)
        return value

    def optional_integer(self, key: str, *, minimum: int = 1, maximum: int = MAX_ELEMENTS) -> int | None:
        """A whole number, or None when the key is absent."""
        return self.integer(key, minimum=minimum, maximum=maximum) if self.has(key) else None

    def checked(self, node: Node, path: str, minimum: int = 1, maximum: int = MAX_ELEMENTS) -> int:
        """The whole number in `node`.

        Raises:
            SpecError: not an integer, or out of range; the message shows what the file says.
        """
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int):
            self._bad(node, path, f"must be an integer, got {shown(node)}")
        if not minimum <= value <= maximum:
            self._bad(node, path, f"must be an integer from {minimum} to {maximum:,}, got {shown(node)}")
        return value

    def _bad(self, node: Node, path: str, problem: str) -> NoReturn:
        raise SpecError(f"{at(self.source, node.line)}: `{path[:120]}` {problem}", hint="write it as digits, such as 1024")

    def integers(self, key: str, *, minimum: int = 1, maximum: int = MAX_ELEMENTS) -> tuple[int, ...]:
        """A required list of whole numbers."""
        items = self.items(key)
        return tuple(self.checked(node, f"{self.name(key)}[{i}]", minimum, maximum) for i, node in enumerate(items))

    def items(self, key: str) -> tuple[Node, ...]:
        """A required list with at least one entry.

        Raises:
            SpecError: missing, not a list, or empty.
        """
        node = self.need(key)
        if not isinstance(node, ListNode) or not node.items:
            self.refuse(key, f"must be a list with at least one entry, got {shown(node)}")
        return node.items

    def text(self, key: str, *, limit: int = 2000) -> str:
        """A required text of 1 to `limit` characters; a number is taken as it is written.

        Raises:
            SpecError: missing, or anything else.
        """
        node = self.need(key)
        if not isinstance(node, Scalar) or isinstance(node.value, bool):
            self.refuse(key, f"must be a text, got {shown(node)}")
        value = node.value if isinstance(node.value, str) else node.shown
        if not 1 <= len(value) <= limit:
            self.refuse(key, f"must be a text of 1 to {limit:,} characters")
        return value

    def choice(self, key: str, allowed: Iterable[str]) -> str:
        """One of a few words; the error offers the nearest."""
        value, words = self.text(key), tuple(allowed)
        if value not in words:
            near = nearest(value, words)
            hint = f"did you mean `{near}`?" if near else "pick one of them"
            self.refuse(key, f"must be one of {', '.join(words)}, got `{value[:40]}`", hint=hint)
        return value

    def flag(self, key: str) -> bool:
        """True or false; false when absent."""
        if not self.has(key):
            return False
        node = self.entries[key]
        if not isinstance(node, Scalar) or not isinstance(node.value, bool):
            self.refuse(key, f"must be true or false, got {shown(node)}", hint="`yes` and `no` are texts in YAML 1.2")
        return node.value

    def dtype(self, key: str) -> str:
        """A plain (unpacked) element type in its canonical spelling.

        Raises:
            SpecError: unknown, or a packed cache format.
        """
        value = self.text(key)
        if value in STATE_ITEM_BYTES:
            return value
        try:
            name = lookup(value).name
        except KvplanError as problem:
            self.refuse(key, f"is not a dtype that kvplan knows: `{value[:40]}`", hint=problem.hint)
        if name not in _PLAIN_DTYPES:
            self.refuse(key, f"must be a plain type, got the packed format `{name}`", hint="such as bfloat16 or float32")
        return name

    def note(self, key: str, value: object) -> None:
        """Record where a number came from."""
        self._facts.append(Fact(self.name(key), written(value, 200), self.where(key)))

    def built(self, make: Callable[[], T]) -> T:
        """The value of `make()`, whose own objections get this place in the file.

        Raises:
            SpecError: the values contradict each other.
        """
        try:
            return make()
        except ModelError as problem:
            self.refuse_here(f"is not consistent: {problem}")


def shown(node: Node) -> str:
    """A node as an error shows it."""
    if isinstance(node, MapNode):
        return "a mapping"
    if isinstance(node, ListNode):
        return "an empty list" if not node.items else f"a list of {len(node.items)}"
    return "nothing" if node.value is None else shown_value(node.value)
