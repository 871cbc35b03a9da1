"""Ollama's Modelfile: commands in any case; what stands between three quotes is text.

Source: ollama, parser/parser.go:ParseFile (`io.ErrUnexpectedEOF`, `errMissingFrom`).
"""

import re
from collections.abc import Iterator
from typing import Final

from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.errors import InputError
from kvplan.loading.servers.source import Read, Source, unclosed

_COMMANDS: Final = frozenset(
    {"from", "parameter", "template", "system", "adapter", "license", "message", "draft", "renderer", "parser", "requires"}
)
_LINE: Final = re.compile(r"\s*([A-Za-z]+)(?:\s+(.*))?$")
#: The word that stands for the program: see the reader of the engine that has Modelfiles.
PROGRAM: Final = "Modelfile"


def reads(source: Source) -> bool:
    """By its name, or because it begins with FROM and every line is a command."""
    if source.file.startswith("modelfile") or source.file.endswith(".modelfile"):
        return True
    first = next((line for line in source.text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    return bool(re.match(r"\s*from\s+\S+\s*$", first, re.IGNORECASE)) and not re.search(
        r"(?mi)^[^\S\n]*(?:run|cmd|entrypoint|copy|env|workdir|expose|arg)\s", source.text
    )


def _lines(text: str) -> Iterator[tuple[str, str, int]]:
    """(command, what follows, line)."""
    inside = 0  # the line where a text begins
    for number, line in enumerate(text.splitlines(), 1):
        quotes = line.count('"""')
        if inside:
            inside = inside if quotes % 2 == 0 else 0
            continue
        if quotes % 2:
            inside = number
        match = _LINE.match(line)
        if match is not None and not line.lstrip().startswith("#") and match[1].lower() in _COMMANDS:
            yield match[1].lower(), (match[2] or "").strip(), number
    if inside:
        raise unclosed(inside)


def found(source: Source) -> Read:
    """The one model that it describes.

    Raises:
        InputError: a text that nothing closes, or commands without a FROM: Ollama makes no model of it.
    """
    words: list[Word] = [Word(PROGRAM, 1)]
    based = False
    for command, rest, line in _lines(source.text):
        based = based or (command == "from" and bool(rest))
        if command == "parameter":
            name, _, value = rest.partition(" ")
            words += [Word("PARAMETER", line), Word(name.lower(), line), Word(value.strip().strip('"'), line)]
        else:
            words += [Word(command.upper(), line), Word("", line), Word(rest.strip().strip('"'), line)]
    if len(words) > 1 and not based:
        raise InputError("no FROM line", hint="it names the model that the file describes")
    return Read((Call(words=tuple(words), line=1),) if len(words) > 1 else ())
