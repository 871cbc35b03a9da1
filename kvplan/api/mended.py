"""`kvplan check --fix`: the input with the smallest change that makes its servers start, as a text; nothing is written here."""

import re
from collections.abc import Sequence
from difflib import unified_diff
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.servers import Server, Servers
from kvplan.engines import about
from kvplan.engines.kernel.about import Role
from kvplan.loading.servers.read import servers_of
from kvplan.loading.servers.readers import reader_of
from kvplan.questions.check import Check, Checked

#: Tokens that a length is rounded down to, for people.
_ROUND: Final = 256


class Mended(Struct, frozen=True):
    """An input before and after, and what was changed in words; `text` is the same where nothing helps."""

    name: str
    before: str
    text: str
    changes: tuple[str, ...]

    @property
    def read(self) -> Servers:
        """What is read out of it now."""
        return servers_of(self.text, self.name)

    @property
    def diff(self) -> str:
        """The change as `diff -u` shows it; empty where there is none."""
        name = self.name or "input"
        lines = unified_diff(self.before.splitlines(keepends=True), self.text.splitlines(keepends=True), f"a/{name}", f"b/{name}")
        return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)


def mended(read: Sequence[Servers], found: Check) -> list[Mended]:
    """Each input with its longest requests shortened to what fits, or, where none does, with a larger part of the cards."""
    answers = iter(found.servers)
    made: list[Mended] = []
    for servers in read:
        text, changes, moved = servers.text, [], 0
        for server in servers.servers:
            one = next(answers)
            changed = _shortened(text, replace(server, lines={k: v + moved for k, v in server.lines.items()}), one, servers)
            if changed is not None:
                moved += changed[0].count("\n") - text.count("\n")
                text = changed[0]
                changes.append(changed[1])
        made.append(Mended(servers.name, servers.text, text, tuple(changes)))
    return made


def _shortened(text: str, server: Server, one: Checked, servers: Servers) -> tuple[str, str] | None:
    """(the text with a shorter limit, what was done); None where no limit helps, or it cannot be put in."""
    roles, found = about(server.engine).roles, one.outcome
    reader = reader_of(server.engine)
    if found.status == "starts" or not (found.longest or found.share):
        return None
    value: int | float = found.share or 0
    if found.longest:
        value = found.longest // _ROUND * _ROUND or found.longest
    word: Role = "context" if found.longest else "utilization"
    option = reader.typed_as(roles.get(word, ""))
    flag = reader.spelled(option)
    lines = text.splitlines(keepends=True)
    at = server.lines.get(option, 0)
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    made = _replaced(lines, at, flag, option, shown) if at else _added(lines, server, flag, shown)
    if made is None:
        return None
    again = servers_of(made, servers.name).servers
    held = [one.options.get(option) for one in again]
    if value not in held or len(again) != len(servers.servers):
        return None  # it did not read back: better no change than a wrong one
    return made, f"{flag} {shown} ({server.model})"


def _replaced(lines: list[str], at: int, flag: str, option: str, value: str) -> str | None:
    """The value behind the flag, or on the line after it, or of a key, replaced."""
    spellings = {flag, option, option.replace("_", "-"), f"--{option}", _camel(option)}
    names = "|".join(map(re.escape, sorted(spellings, key=len, reverse=True)))
    pattern = re.compile(rf"((?:{names})[\"']?\s*[=:,\s]\s*[\"']?)([\d.]+[kKmM]?)")
    for end in range(at, min(at + 2, len(lines)) + 1):
        piece = "".join(lines[at - 1 : end])
        found = pattern.search(piece) or _listed(piece, names)
        if found is not None:
            return "".join([*lines[: at - 1], piece[: found.start(2)], value, piece[found.end(2) :], *lines[end:]])
    return None


def _listed(piece: str, names: str) -> "re.Match[str] | None":
    """A flag and its value as two items of a YAML list."""
    return re.search(rf"((?:{names})[\"']?\s*(?:#[^\n]*)?\n\s*-\s*[\"']?)([\d.]+[kKmM]?)", piece)


def _camel(option: str) -> str:
    head, *rest = option.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _added(lines: list[str], server: Server, flag: str, value: str) -> str | None:
    """The flag put behind the model, in the form that its line has."""
    at = server.lines.get("model", 0)
    if not at or not server.model or server.model not in lines[at - 1]:
        return None
    line = lines[at - 1]
    end = line.index(server.model) + len(server.model)
    indent = line[: len(line) - len(line.lstrip())]
    if re.match(r"\s*-\s", line) and not re.search(r"[\[,]", line):  # an item of a list of words
        item = re.match(r"\s*-\s*([\"']?)", line)
        quote = item[1] if item else ""
        new = f'{indent}- {quote}{flag}{quote}\n{indent}- "{value}"\n'
        return "".join([*lines[:at], new, *lines[at:]])
    closed = line[end : end + 1] if line[end : end + 1] in {'"', "'"} else ""
    end += len(closed)
    mark = closed or '"'
    separate = f", {mark}{flag}{mark}, {mark}{value}{mark}" if re.match(r"\s*[,\]]", line[end:]) else f" {flag} {value}"
    return "".join([*lines[: at - 1], line[:end] + separate + line[end:], *lines[at:]])
