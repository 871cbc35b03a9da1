"""SkyPilot's tasks: a script that sets up and one that runs, with the variables and the cards that the task names."""

import re
from typing import Final

from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.loading.servers.forms.compose import first_line
from kvplan.loading.servers.forms.shell import calls
from kvplan.loading.servers.source import Read, Source
from kvplan.loading.servers.yaml_tree import Items, Map, Node, Text, documents

#: What SkyPilot itself sets in a task's environment.
_CARDS: Final = "SKYPILOT_NUM_GPUS_PER_NODE"
_COUNT: Final = re.compile(r"[\w.-]+:(\d{1,3})")


def reads(root: Node) -> bool:
    """A task: a text `run` beside `resources`, `setup` or `envs`."""
    return (
        isinstance(root, Map)
        and isinstance(root.get("run"), Text)
        and any(root.get(key) for key in ("resources", "setup", "envs"))
        and not root.text("apiVersion")
    )


def found(source: Source) -> Read:
    """The servers of every task's script; what its setup installs says their releases."""
    return Read(tuple(call for root in documents(source.text) if isinstance(root, Map) and reads(root) for call in _task(root)))


def _task(root: Map) -> list[Call]:
    parts = sorted((part for key in ("setup", "run") if isinstance(part := root.get(key), Text)), key=lambda part: part.line)
    line = first_line(parts[0])
    text = ""
    for part in parts:  # on the lines where they stand
        text += "\n" * (first_line(part) - line - text.count("\n")) + part.text.rstrip("\n") + "\n"
    cards = _cards(root.get("resources", "accelerators"))
    environment = {name: Word(node.text, node.line) for name, node in root.map("envs").entries.items() if isinstance(node, Text)}
    environment |= {_CARDS: Word(str(cards))} if cards is not None else {}
    return list(calls(text, Call(words=(Word("", line),), environment=environment, gpus=cards, place=root.text("name"))))


def _cards(node: Node | None) -> int | None:
    """`H100:8`, or the first of several that would do."""
    first = node.text if isinstance(node, Text) else ""
    if isinstance(node, Map) and node.entries:
        name, value = next(iter(node.entries.items()))
        first = f"{name}:{value.text}" if isinstance(value, Text) and value.text else name
    elif isinstance(node, Items) and node.items and isinstance(node.items[0], Text):
        first = node.items[0].text
    counted = _COUNT.fullmatch(first.strip())
    return int(counted[1]) if counted else 1 if first else None
