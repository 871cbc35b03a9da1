"""systemd units and drop-ins: ExecStart, Environment."""

import re
from collections.abc import Iterator
from typing import Final

from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.errors import InputError
from kvplan.loading.servers.containers import CARDS, cards, unwrapped
from kvplan.loading.servers.forms.shell import calls as shell_calls
from kvplan.loading.servers.forms.shell import with_cards
from kvplan.loading.servers.readers import READERS
from kvplan.loading.servers.source import Read, Source, placed, split
from kvplan.loading.servers.variables import Variables

_ENDINGS: Final = (".service", ".container")
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_]\w*)\}|\$([A-Za-z_]\w*)|(%[a-zA-Z])")


def reads(source: Source) -> bool:
    """By its ending, or by its sections."""
    return source.file.endswith(_ENDINGS) or bool(re.search(r"(?m)^\[(?:Service|Container)\]\s*$", source.text))


def _entries(text: str) -> Iterator[tuple[str, str, int, int]]:
    """(key, value, first line, last line) of the section that starts things; `\\` joins lines."""
    inside, key, value, first = False, "", "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if key:
            if line.lstrip().startswith(("#", ";")):
                continue
            value += " " + line.strip()
        elif line.strip().startswith("["):
            if not line.strip().endswith("]"):
                raise InputError(f"line {number}: a section that nothing closes", hint="is it whole?")
            inside = line.strip() in {"[Service]", "[Container]"}
            continue
        elif not inside or line.lstrip().startswith(("#", ";")) or "=" not in line:
            continue
        else:
            key, _, value = (part.strip() for part in line.partition("="))
            first = number
        if value.endswith("\\"):
            value = value[:-1].rstrip()
            continue
        yield key, value, first, number
        key = ""
    if key:
        yield key, value, first, first


def found(source: Source) -> Read:
    """The processes of a unit; a drop-in without one sets a server's environment."""
    environment: dict[str, Word] = {}
    starts: list[tuple[str, int, int]] = []
    image, arguments = "", ("", 0, 0)
    for key, value, first, last in _entries(source.text):
        if key == "Environment":
            if not value:
                environment.clear()
            for pair in split(value, first):
                name, equals, text = pair.partition("=")
                if equals:
                    environment[name] = Word(text, first, "$" not in text or name == "PATH")
        elif key == "ExecStart":
            starts = [*starts, (value, first, last)] if value else []
        elif key == "ExecStartPost" and value:
            starts.append((value, first, last))
        elif key == "Image":
            image = value
        elif key == "Exec":
            arguments = (value, first, last)
    calls = [call for start in starts for call in _started(source, start, environment)]
    if image:
        from kvplan.loading.servers.containers import contained

        text, first, last = arguments
        words = placed(
            [_word(one, environment) for one in split(text, first or 1)], source.text.splitlines(), first or 1, last or 1
        )
        calls += contained(Call(words=(), environment=environment, image=image, line=first or 1), None, words, shell_calls)
    if not starts and not image:
        chosen = cards({name: word for name, word in environment.items() if name in CARDS})
        calls += [
            Call(words=(), environment=environment, gpus=chosen, place=reader.name, line=1)
            for reader in READERS
            if reader.alone(environment)
        ]
    return Read(tuple(calls))


def _started(source: Source, start: tuple[str, int, int], environment: dict[str, Word]) -> Iterator[Call]:
    value, first, last = start
    words = [_word(one, environment) for one in split(value.lstrip("-@:+!|"), first)]
    lines = source.text.splitlines()
    call = Call(words=placed(words, lines, first, last), environment=environment, line=first)
    for process in unwrapped(call, shell_calls):
        yield with_cards(process)


def _word(text: str, environment: dict[str, Word]) -> Word:
    """A word with the unit's own variables; specifiers such as `%h` are open."""
    known = Variables({name: word.text for name, word in environment.items() if word.known}).values
    shown, is_known = text, True

    def value(match: re.Match[str]) -> str:
        nonlocal is_known
        found = known.get(match[1] or match[2] or "")
        is_known = is_known and isinstance(found, str)
        return found if isinstance(found, str) else ""

    shown = _VARIABLE.sub(value, text.replace("%%", "\0")).replace("\0", "%")
    return Word(shown, 0, is_known)
