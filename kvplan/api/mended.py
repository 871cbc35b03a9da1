"""`kvplan check --fix`: the input with the smallest change that makes its servers start, as a text; nothing is written here."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from kvplan.api.check import Running
from kvplan.api.check_server import Place, served, visible
from kvplan.api.mends import mends
from kvplan.domain.servers import Server, Servers
from kvplan.errors import KvplanError
from kvplan.loading.servers import edits
from kvplan.loading.servers.read import servers_of
from kvplan.loading.servers.readers import reader_of
from kvplan.questions.check import Checked


class Mended(Struct, frozen=True):
    """An input before and after, and what was changed in words; `read` is what is read out of it now."""

    before: Servers
    read: Servers
    changes: tuple[str, ...]

    @property
    def diff(self) -> str:
        """The change as `diff -u` shows it; empty where there is none."""
        name = self.before.name or "input"
        one, two = (text.splitlines(keepends=True) for text in (self.before.text, self.read.text))
        lines = unified_diff(one, two, f"a/{name}", f"b/{name}")
        return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)


def mended(read: Sequence[Servers], place: Place) -> list[Mended]:
    """Each input with the least change of each of its servers that makes it start beside those before it, where one does.

    What may be changed, and what comes first, is `mends`' to say. A change is kept only when the changed text reads as it is
    meant: this option of this server, and nothing else.
    """
    return [_input(servers, place) for servers in read]


def _input(before: Servers, place: Place) -> Mended:
    running, read, changes = Running(), before, []
    for number in range(len(before.servers)):
        found = running.check(running.within(read.servers[number]), place)
        if found.outcome.status not in {"starts", "not decided"}:
            made = next(_texts(read, number, found, running, place), None)
            if made is not None:
                read, words = made
                changes.append(words)
                found = running.check(running.within(read.servers[number]), place)
        running.start(found)
    return Mended(before, read, tuple(changes))


def _texts(read: Servers, number: int, found: Checked, running: Running, place: Place) -> Iterator[tuple[Servers, str]]:
    """(what is read with a change, the change in words), the smallest first."""
    written, taken = read.servers[number], running.left_out(found.server)

    def tried(options: Mapping[str, Any]) -> Checked:
        return served(replace(found.server, options={**found.server.options, **options}), place, taken, brief=True)

    for mend in mends(found, len(visible(found.server, place)), tried):
        again = _put(read, number, mend.options)
        if again is not None:
            reader = reader_of(written.engine)
            shown = " ".join(f"{reader.spelled(name)} {_typed(value)}" for name, value in mend.options.items())
            yield again, f"{shown} ({written.model})"


def _put(read: Servers, number: int, options: Mapping[str, Any]) -> Servers | None:
    """The input with these options of one server; None where they cannot be put in, or do not read back."""
    now = read
    for name, value in options.items():
        text = next(filter(None, _edited(now.text, now.servers[number], name, _typed(value))), None)
        try:
            again = None if text is None else servers_of(text, read.name, read.variables, read.beside)
        except KvplanError:
            again = None
        if again is None or len(again.servers) != len(read.servers):
            return None
        now = again
    meant = [one.to_dict() for one in read.servers]
    meant[number]["options"] = {**meant[number]["options"], **options}
    return now if [one.to_dict() for one in now.servers] == meant else None


def _edited(text: str, server: Server, name: str, value: str) -> Iterator[str | None]:
    """Texts in which an option has a value: where it stands, else added in a form that its server's lines have."""
    reader = reader_of(server.engine)
    flag = reader.spelled(name)
    at = server.lines.get(name, 0)
    if at:
        yield edits.replaced(text, at, reader.spellings(name), value)
        return
    model = server.lines.get("model", 0)
    if name.isupper():
        for line in (line for option, line in server.lines.items() if option.isupper()):
            yield edits.beside_variable(text, line, name, value)
        yield edits.before_program(text, server.line, name, value, reader.serving(None)[0].text)
    elif flag.startswith("-"):
        yield edits.added(text, model, server.model or "", flag, value)
    else:
        yield edits.parameter(text, model, name, value)


def _typed(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
