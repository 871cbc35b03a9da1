"""A `.env` file: pairs, one a line; by itself, the settings of a server that is told by its environment."""

import re
from typing import Final

from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.loading.servers.containers import CARDS, cards
from kvplan.loading.servers.readers import READERS
from kvplan.loading.servers.source import Read, Source

# No two neighbouring parts match the same blanks: a long run of them costs one look.
_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(.*)")
#: A pair and nothing behind it: `X=1 vllm serve a/b` is a command.
_ALONE: Final = re.compile(r"\s*(?:export\s+)?[A-Za-z_][A-Za-z0-9_.]*\s*=\s*(?:(?:'[^']*'|\"[^\"]*\"|[^\s'\"]+)\s*)?(?:#.*)?")
_MOST: Final = 5_000


def reads(source: Source) -> bool:
    """By its name, or because every line is a pair and no more."""
    if source.file == ".env" or source.file.endswith(".env") or source.file.startswith(".env."):
        return True
    lines = [line for line in source.text.splitlines()[:_MOST] if line.strip() and not line.lstrip().startswith("#")]
    return bool(lines) and not source.file.endswith((".sh", ".yaml", ".yml", ".service")) and all(map(_ALONE.fullmatch, lines))


def pairs(text: str) -> dict[str, Word]:
    """The pairs of such a text; a later one wins."""
    found: dict[str, Word] = {}
    for number, line in enumerate(text.splitlines()[:_MOST], 1):
        match = _LINE.fullmatch(line)
        if match is None or line.lstrip().startswith("#"):
            continue
        value = match[2].rstrip()
        if value[:1] in {'"', "'"} and value.find(value[0], 1) > 0:
            value = value[1 : value.find(value[0], 1)]
        else:
            value = re.split(r"(?<=\s)#", value, maxsplit=1)[0].rstrip()
        found[match[1]] = Word(value, number, known="${" not in value and "$(" not in value)
    return found


def values(text: str) -> dict[str, str]:
    """The pairs whose values are known."""
    return {name: word.text for name, word in pairs(text).items() if word.known}


def found(source: Source) -> Read:
    """A server that is told by these variables alone."""
    environment = pairs(source.text)
    calls = [
        Call(
            words=(),
            environment=environment,
            gpus=cards({n: w for n, w in environment.items() if n in CARDS}),
            place=reader.name,
            line=1,
        )
        for reader in READERS
        if reader.alone(environment)
    ]
    return Read(tuple(calls))
