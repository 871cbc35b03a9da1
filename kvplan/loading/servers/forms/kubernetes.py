"""Kubernetes manifests: every container of every pod, whatever kind holds it; cards of one pod."""

import re
from collections.abc import Iterator
from typing import Any, Final

from msgspec.structs import replace

from kvplan.engines.kernel.commandline.words import Call, Gpus, Word
from kvplan.loading.servers.containers import contained, count_of
from kvplan.loading.servers.forms.compose import first_line
from kvplan.loading.servers.forms.shell import calls as shell_calls
from kvplan.loading.servers.source import Read, Source
from kvplan.loading.servers.yaml_tree import Items, Map, Node, Text, documents, walk

_VARIABLE: Final = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_CARDS: Final = ("nvidia.com/gpu", "amd.com/gpu")
_MAIN: Final = ("extraPodSpec", "mainContainer")
_JOBS: Final = frozenset({"Job", "CronJob"})
#: Kinds that other forms read, by their `apiVersion`'s beginning.
_OTHER_FORMS: Final = ("kubeai.org/", "serving.kserve.io/", "production-stack.vllm.ai/")


def reads(root: Node) -> bool:
    """A document with `apiVersion` and `kind`."""
    return isinstance(root, Map) and bool(root.text("apiVersion") and root.text("kind"))


def found(source: Source) -> Read:
    """The processes of every container, in order."""
    roots = [root for root in documents(source.text) if isinstance(root, Map)]
    roots = [
        one for root in roots for one in (root.list("items") if root.text("kind") == "List" else [root]) if isinstance(one, Map)
    ]
    maps = {root.text("metadata", "name"): root.map("data") for root in roots if root.text("kind") == "ConfigMap"}
    calls: list[Call] = []
    take_cards: list[str] = []
    for root in roots:
        if root.text("kind") == "ConfigMap" or root.text("apiVersion").startswith(_OTHER_FORMS):
            continue
        for _, holder in walk(root):
            for one in holder.list("containers"):
                if isinstance(one, Map):
                    calls += container(one, maps)
                    if container_cards(one) is not None and root.text("kind") not in _JOBS:
                        take_cards.append(one.text("name"))
            main = holder.map(*_MAIN)
            if main.entries:  # NVIDIA's Dynamo: a pod's container, its cards beside it
                cards = holder.text("resources", "limits", "gpu")
                counted = count_of(cards) if cards else None
                calls += (replace(call, gpus=counted) if call.gpus is None else call for call in container(main, maps))
    return Read(tuple(calls), tuple(take_cards))


def container(one: Map, maps: dict[str, Map]) -> Iterator[Call]:
    """The processes of a container."""
    environment = container_environment(one, maps)
    call = Call(
        words=(), environment=environment, image=one.text("image"), gpus=container_cards(one), place=one.text("name"),
        line=one.lines.get("image", one.line), files=_files(maps),
    )  # fmt: skip
    command = one.get("command")
    replaced = None if command is None else list(words(command, environment))
    yield from contained(call, replaced or None, list(words(one.get("args"), environment)), shell_calls)


def _files(maps: dict[str, Map]) -> dict[str, str]:
    """Texts of config maps by their keys; a path that ends so is looked for by `Call.files` alone where it is the same."""
    return {key: node.text for data in maps.values() for key, node in data.entries.items() if isinstance(node, Text)}


def container_environment(one: Map, maps: dict[str, Map]) -> dict[str, Word]:
    """`env` and what config maps of the same file add; secrets and the pod's own fields are open."""
    found: dict[str, Word] = {}
    for source in one.list("envFrom"):
        if isinstance(source, Map):
            data = maps.get(source.text("configMapRef", "name"))
            for key, node in (data.entries if data is not None else {}).items():
                if isinstance(node, Text):
                    found[source.text("prefix") + key] = Word(node.text, node.line)
    given = one.get("env")
    if isinstance(given, Map):  # a mapping, as some operators write it
        for key, node in given.entries.items():
            if isinstance(node, Text):
                found[key] = Word(node.text, node.line)
        return found
    for entry in given.items if isinstance(given, Items) else []:
        if not isinstance(entry, Map) or not entry.text("name"):
            continue
        value = entry.get("value")
        reference = entry.map("valueFrom", "configMapKeyRef")
        held = maps.get(reference.text("name"), Map({}, {}, 0)).get(reference.text("key"))
        if isinstance(value, Text):
            word = substituted(value.text, found)
            found[entry.text("name")] = Word(word.text, value.line, word.known)
        elif isinstance(held, Text):
            found[entry.text("name")] = Word(held.text, held.line)
        else:
            found[entry.text("name")] = Word("", entry.line, known=False)
    return found


def substituted(text: str, environment: dict[str, Word]) -> Word:
    """A text with `$(X)`; a name that the pod does not set is left open."""
    known = True

    def value(match: re.Match[str]) -> str:
        nonlocal known
        if match[0] == "$$":
            return "$"
        word = environment.get(match[1])
        known = known and word is not None and word.known
        return word.text if word is not None else ""

    made = _VARIABLE.sub(value, text)
    return Word(made, 0, known)


def words(node: Node | None, environment: dict[str, Word]) -> Iterator[Word]:
    """A command or arguments: a list of words (a single text is one word)."""
    given: list[Any] = node.items if isinstance(node, Items) else [node] if isinstance(node, Text) else []
    for one in given:
        if isinstance(one, Text) and one.value is not None:
            script = "\n" in one.text or " " in one.text
            word = substituted(one.text, environment) if not script else _script(one.text, environment)
            yield Word(word.text, first_line(one), word.known)


def _script(text: str, environment: dict[str, Word]) -> Word:
    """A text for a shell: a `$(X)` without value is a command to it, and open where it stands."""

    def value(match: re.Match[str]) -> str:
        word = environment.get(match[1]) if match[0] != "$$" else None
        return "$" if match[0] == "$$" else word.text if word is not None and word.known else match[0]

    return Word(_VARIABLE.sub(value, text))


def container_cards(one: Map) -> Gpus:
    """Cards by `resources.limits`, else by its requests."""
    for kind in ("limits", "requests"):
        for name in _CARDS:
            found = one.get("resources", kind, name)
            if isinstance(found, Text):
                return count_of(found.text)
    return None
