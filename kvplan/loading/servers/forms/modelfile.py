"""Ollama's Modelfile: commands in any case; what stands between three quotes is text."""

import re
from collections.abc import Iterator
from typing import Final

from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.loading.servers.source import Read, Source

_COMMANDS: Final = frozenset(
    {"from", "parameter", "template", "system", "adapter", "license", "message", "draft", "renderer", "parser", "requires"}
)
_LINE: Final = re.compile(r"\s*([A-Za-z]+)\s+(.*)$")
#: The word that stands for the program: see the reader of the engine that has Modelfiles.
PROGRAM: Final = "Modelfile"


def reads(source: Source) -> bool:
    """By its name, or because it begins with FROM and every line is a command."""
    if source.file.startswith("modelfile") or source.file.endswith(".modelfile"):
        return True
    first = next((line for line in source.text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    return bool(re.match(r"\s*from\s+\S+\s*$", first, re.IGNORECASE)) and not re.search(
        r"(?mi)^\s*(?:run|cmd|entrypoint|copy|env|workdir|expose|arg)\s", source.text
    )


def _lines(text: str) -> Iterator[tuple[str, str, int]]:
    """(command, what follows, line)."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        quotes = line.count('"""')
        if inside:
            inside = quotes % 2 == 0
            continue
        if quotes % 2:
            inside = True
        match = _LINE.match(line)
        if match is not None and not line.lstrip().startswith("#") and match[1].lower() in _COMMANDS:
            yield match[1].lower(), match[2].strip(), number


def found(source: Source) -> Read:
    """The one model that it describes."""
    words: list[Word] = [Word(PROGRAM, 1)]
    for command, rest, line in _lines(source.text):
        if command == "parameter":
            name, _, value = rest.partition(" ")
            words += [Word("PARAMETER", line), Word(name.lower(), line), Word(value.strip().strip('"'), line)]
        else:
            words += [Word(command.upper(), line), Word("", line), Word(rest.strip().strip('"'), line)]
    return Read((Call(words=tuple(words), line=1),) if len(words) > 1 else ())
