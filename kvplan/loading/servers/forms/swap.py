"""llama-swap lists: models with commands, macros inside macros, groups whose members take turns."""

import re
from collections.abc import Iterator
from typing import Final

from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.loading.servers.containers import unwrapped
from kvplan.loading.servers.forms.compose import OPEN, first_line
from kvplan.loading.servers.forms.shell import calls as shell_calls
from kvplan.loading.servers.forms.shell import with_cards
from kvplan.loading.servers.source import Read, Source, split
from kvplan.loading.servers.yaml_tree import Items, Map, Node, Text, YamlError, documents

_MACRO: Final = re.compile(r"\$\{([^}]{1,120})\}")
_DEPTH: Final = 12
_LENGTH: Final = 200_000


def reads(root: Node) -> bool:
    """A mapping of models, each with a command."""
    models = root.map("models").entries.values() if isinstance(root, Map) else ()
    return any(isinstance(one, Map) and one.get("cmd") is not None for one in models)


def found(source: Source) -> Read:
    """The process of every model, in order."""
    calls: list[Call] = []
    names: list[str] = []
    for root in documents(source.text):
        if not isinstance(root, Map):
            continue
        turns = _turns(root)
        for name, model in root.map("models").entries.items():
            if isinstance(model, Map):
                calls += _model(name, model, root, turns)
                names.append(name)
    return Read(tuple(calls), tuple(names))


def _turns(root: Map) -> dict[str, str]:
    """Model -> the group whose members are not in memory together (`swap` is true unless it says false)."""
    found: dict[str, str] = {}
    for name, group in root.map("groups").entries.items():
        if isinstance(group, Map) and group.text("swap") != "false":
            found |= {one.text: name for one in group.list("members") if isinstance(one, Text)}
    return found


def _model(name: str, model: Map, root: Map, turns: dict[str, str]) -> Iterator[Call]:
    command = model.get("cmd")
    if not isinstance(command, Text):
        return
    macros = {
        key: node.text
        for part in (root.map("macros"), model.map("macros"))
        for key, node in part.entries.items()
        if isinstance(node, Text)
    }
    macros |= {"MODEL_ID": name, "PORT": "5800"}
    text = _expanded(_uncommented(command.text), macros)
    environment: dict[str, Word] = {}
    given = model.get("env")
    for one in given.items if isinstance(given, Items) else []:
        if isinstance(one, Text):
            key, _, value = _expanded(one.text, macros).partition("=")
            environment[key] = Word(value.replace(OPEN, ""), one.line, OPEN not in value)
    line = first_line(command)
    words = tuple(Word(part.replace(OPEN, ""), line, OPEN not in part) for part in split(text, line))
    call = Call(words=words, environment=environment, place=name, line=line, alternative=turns.get(name, "the list"))
    for process in unwrapped(call, shell_calls):
        yield with_cards(process)


def _uncommented(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def _expanded(text: str, macros: dict[str, str]) -> str:
    """A text with its macros; one that is not defined leaves a mark."""
    for _ in range(_DEPTH):
        made = _MACRO.sub(lambda m: _uncommented(macros[m[1]]) if m[1] in macros else OPEN, text)
        if made == text:
            return made
        if len(made) > _LENGTH:
            break
        text = made
    raise YamlError("macros inside macros without end", hint="write the command out")
