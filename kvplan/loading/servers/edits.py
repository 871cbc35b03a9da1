"""One option of a server put into the text that it was read from: a value replaced where it stands, or added in that line's form.

Texts alone, nothing is understood here: whoever edits reads the text again and sees whether it says what was meant.
"""

import re
from collections.abc import Sequence
from typing import Final

#: A value in a shell, a list, a mapping: no blank, no quote, no bracket.
_VALUE: Final = r"[^\s\"'\[\]{},#\\]+"


def replaced(text: str, at: int, names: Sequence[str], value: str) -> str | None:
    """The text with another value behind one of the names, in a line or in those after it; None where none stands there.

    Args:
        at: the line, from 1.
        names: every spelling of the option: `--max-model-len`, `max_model_len`, `maxModelLen`.
    """
    lines = text.splitlines(keepends=True)
    spelled = "|".join(map(re.escape, sorted({*names, *map(_camel, names)}, key=len, reverse=True)))
    near = rf"(?<![\w-])((?:{spelled})[\"']?(?:\s*[=:,]\s*|\s+)[\"']?)({_VALUE})"
    listed = rf"(?<![\w-])((?:{spelled})[\"']?\s*(?:#[^\n]*)?\n\s*-\s*[\"']?)({_VALUE})"
    keyed = rf"(name:\s*[\"']?(?:{spelled})[\"']?\s*\n\s*value:\s*[\"']?)({_VALUE})"
    for start in (at, at - 1):  # a manifest's `value` may stand under its `name`
        for end in range(start, min(start + 2, len(lines)) + 1):
            piece = "".join(lines[start - 1 : end])
            found = next((hit for pattern in (keyed, listed, near) if start > 0 and (hit := re.search(pattern, piece))), None)
            if found is not None:
                return "".join([*lines[: start - 1], piece[: found.start(2)], value, piece[found.end(2) :], *lines[end:]])
    return None


def added(text: str, at: int, word: str, name: str, value: str) -> str | None:
    """A flag put behind a word of a line (the model), in the form that the line has; None where the word is not there."""
    lines = text.splitlines(keepends=True)
    if not at or not word or word not in lines[at - 1]:
        return None
    line = lines[at - 1]
    end = line.index(word) + len(word)
    indent = line[: len(line) - len(line.lstrip())]
    if re.match(r"\s*-\s", line) and not re.search(r"[\[,]", line):  # an item of a list of words
        item = re.match(r"\s*-\s*([\"']?)", line)
        quote = item[1] if item else ""
        new = f'{indent}- {quote}{name}{quote}\n{indent}- "{value}"\n'
        return "".join([*lines[:at], new, *lines[at:]])
    closed = line[end : end + 1] if line[end : end + 1] in {'"', "'"} else ""
    end += len(closed)
    mark = closed or '"'
    separate = f", {mark}{name}{mark}, {mark}{value}{mark}" if re.match(r"\s*[,\]]", line[end:]) else f" {name} {value}"
    return "".join([*lines[: at - 1], line[:end] + separate + line[end:], *lines[at:]])


def beside_variable(text: str, at: int, name: str, value: str) -> str | None:
    """A variable put after the line of another, in that line's form; None where the line sets none."""
    lines = text.splitlines(keepends=True)
    if not 0 < at <= len(lines):
        return None
    line = lines[at - 1]
    pair = re.search(r"(?<![\w-])[A-Z][A-Z0-9_]*([\"']?\s*[=:]\s*[\"']?)([^\s\"',]+)([\"']?)", line)
    keyed = re.match(r"(\s*)-\s*name:\s*\S+\s*$", line)
    if keyed is not None and at < len(lines):
        return "".join([*lines[: at + 1], f'{keyed[1]}- name: {name}\n{keyed[1]}  value: "{value}"\n', *lines[at + 1 :]])
    if pair is None:
        return None
    new = f"{name}{pair[1]}{value}{pair[3]}"
    before, after = line[: pair.start()], line[pair.end() :]
    if after.strip():  # words follow: one more pair among them
        return "".join([*lines[: at - 1], before, new, " ", line[pair.start() :], *lines[at:]])
    return "".join([*lines[:at], before, new, "\n", *lines[at:]])


def before_program(text: str, at: int, name: str, value: str, program: str) -> str | None:
    """A variable put before the program of a shell line; None where the line does not name it."""
    lines = text.splitlines(keepends=True)
    if not 0 < at <= len(lines):
        return None
    found = re.search(rf"(?<![\w./-]){re.escape(program)}(?![\w.-])", lines[at - 1])
    if found is None or re.match(r"\s*(?:-|\w+:|ExecStart)", lines[at - 1]):
        return None
    line = lines[at - 1]
    return "".join([*lines[: at - 1], line[: found.start()], f"{name}={value} ", line[found.start() :], *lines[at:]])


def parameter(text: str, at: int, name: str, value: str) -> str | None:
    """A line of a Modelfile after that of the model."""
    lines = text.splitlines(keepends=True)
    if not 0 < at <= len(lines) or not re.match(r"(?i)\s*from\s", lines[at - 1]):
        return None
    line = lines[at - 1] if lines[at - 1].endswith("\n") else lines[at - 1] + "\n"
    return "".join([*lines[: at - 1], line, f"PARAMETER {name} {value}\n", *lines[at:]])


def _camel(option: str) -> str:
    head, *rest = option.split("_")
    return head + "".join(part.capitalize() for part in rest)
