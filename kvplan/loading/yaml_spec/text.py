"""Plain values as YAML text that `yaml_nodes` (and any other reader) takes back unchanged."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

#: Texts that may stand without quotes; anything else, and words that some YAML reader takes for another type, is quoted.
_PLAIN: Final = re.compile(r"[A-Za-z]([A-Za-z0-9._/+ -]*[A-Za-z0-9._/+-])?")
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_WIDTH: Final = 120
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


def scalar(value: str | int | float | bool | None) -> str:
    """One value.

    >>> scalar("8k"), scalar("bfloat16"), scalar(True)
    ('"8k"', 'bfloat16', 'true')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str):
        return str(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return f'"{"".join(map(_escaped, value))}"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xD800 <= code < 0xE000:  # half of a pair is not a character
        return "\ufffd"
    return f"\\U{code:08x}"


def flow(value: Any) -> str:
    """A value on one line: `{kv_heads: 1, shape: [2, 3]}`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def block(data: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A mapping as lines: nested mappings indented, lists in brackets."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{scalar(key)}:"
            yield from block(value, f"{indent}  ")
        else:
            yield from _wrapped(f"{indent}{scalar(key)}: {flow(value)}", indent, is_list=isinstance(value, list | tuple))


def _wrapped(line: str, indent: str, *, is_list: bool) -> Iterator[str]:
    """A long list over several lines, broken after commas."""
    while is_list and len(line) > _WIDTH:
        end = line.rfind(", ", 0, _WIDTH)
        if end < len(indent) + 4:
            break
        yield line[: end + 1]
        line = f"{indent}  {line[end + 2 :]}"
    yield line
