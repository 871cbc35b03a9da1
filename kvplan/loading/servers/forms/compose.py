"""Docker compose files: services with images, commands, environment and cards."""

from collections.abc import Iterator, Mapping
from typing import Final

from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Gpus, Word
from kvplan.loading.servers.containers import contained, count_of, identities
from kvplan.loading.servers.forms.dotenv import pairs
from kvplan.loading.servers.forms.shell import calls as shell_calls
from kvplan.loading.servers.shell_words import commands
from kvplan.loading.servers.source import Read, Source, split
from kvplan.loading.servers.variables import Variables
from kvplan.loading.servers.yaml_tree import Items, Map, Node, Text, documents

#: Where a variable has no value.
OPEN: Final = "\0"


def reads(root: Node) -> bool:
    """A mapping of services, each a mapping."""
    return isinstance(root, Map) and any(isinstance(one, Map) for one in root.map("services").entries.values())


def found(source: Source) -> Read:
    """The processes of every service, in order."""
    known = Variables(source.variables)
    calls: list[Call] = []
    take_cards: list[str] = []
    for root in documents(source.text):
        if not isinstance(root, Map):
            continue
        for name, written in root.map("services").entries.items():
            if isinstance(written, Map):
                service = _extended(written, root)
                calls += _service(name, service, known, source)
                if _cards(service, known) is not None:
                    take_cards.append(name)
    return Read(tuple(calls), tuple(take_cards))


def _extended(service: Map, root: Map) -> Map:
    """With what `extends: {service: NAME}` of the same file adds."""
    base = service.get("extends")
    name = base.text if isinstance(base, Text) else base.text("service") if isinstance(base, Map) and not base.get("file") else ""
    other = root.get("services", name) if name else None
    if not isinstance(other, Map) or other is service:
        return service
    return Map({**other.entries, **service.entries}, {**other.lines, **service.lines}, service.line)


def _service(name: str, service: Map, known: Variables, source: Source) -> Iterator[Call]:
    environment = _environment(service, known, source)
    image = _word(service.get("image"), known)
    call = Call(
        words=(), environment=environment, image=image.text if image.text else "", gpus=_cards(service, known), place=name,
        line=service.lines.get("image", service.line),
    )  # fmt: skip
    entrypoint = service.get("entrypoint")
    if isinstance(entrypoint, Text) and entrypoint.value is None:
        entrypoint = None
    started = None if entrypoint is None else list(_words(entrypoint, known))
    yield from contained(call, started, list(_words(service.get("command"), known)), shell_calls)


def _environment(service: Map, known: Variables, source: Source) -> dict[str, Word]:
    found: dict[str, Word] = {}
    files = service.get("env_file")
    named = [files] if isinstance(files, Text) else files.items if isinstance(files, Items) else []
    for one in named:
        file = one.text if isinstance(one, Text) else one.text("path") if isinstance(one, Map) else ""
        if file.removeprefix("./") == ".env" and source.dotenv is not None:
            found |= {key: Word(value) for key, value in source.dotenv.items()}
    given = service.get("environment")
    if isinstance(given, Map):
        for key, node in given.entries.items():
            if isinstance(node, Text) and node.value is None:
                found[key] = _passed(key, known, node.line)
            elif isinstance(node, Text):
                word = _word(node, known)
                found[key] = Word(word.text, given.lines[key], word.known)
    elif isinstance(given, Items):
        for node in given.items:
            if isinstance(node, Text):
                word = _word(node, known)
                key, equals, value = word.text.partition("=")
                found[key] = Word(value, node.line, word.known) if equals else _passed(key, known, node.line)
    return found


def _passed(name: str, known: Variables, line: int) -> Word:
    word = known.word(name)
    return Word(word.text, line, word.known)


def interpolated(text: str, known: Variables) -> Word:
    """A text with compose's variables: `$X`, `${X:-y}`, `$$` for a dollar; what has no value leaves a mark and the word open."""
    if "$" not in text:
        return Word(text)
    shown: list[str] = []
    rest = text
    while rest:
        plain, dollar, after = rest.partition("$")
        shown.append(plain)
        if not dollar:
            break
        if after.startswith("$") or not (after[:1].isalpha() or after[:1] in {"{", "_"}):
            shown.append("$")
            rest = after.removeprefix("$")
            continue
        end = _end(after)
        raw = commands(f'"${after[:end]}"')
        word = known.whole(raw[0].words[0].parts) if raw and raw[0].words else Word("", known=False)
        shown.append(word.text if word.known else OPEN)
        rest = after[end:]
    made = "".join(shown)
    return Word(made, 0, OPEN not in made)


def _end(after: str) -> int:
    """Where a variable ends that begins behind its dollar."""
    if after[0] != "{":
        end = 0
        while end < len(after) and (after[end].isalnum() or after[end] == "_"):
            end += 1
        return end
    level = 0
    for at, char in enumerate(after):
        level += char == "{"
        level -= char == "}"
        if not level:
            return at + 1
    return len(after)


def _word(node: Node | None, known: Variables) -> Word:
    if not isinstance(node, Text) or node.value is None:
        return Word("")
    word = interpolated(node.text, known)
    return Word(word.text.replace(OPEN, ""), first_line(node), word.known)


def first_line(node: Text) -> int:
    """Where a scalar's text begins: that of a block, on the line after its mark."""
    return node.line + (node.style in {"|", ">"})


def _words(node: Node | None, known: Variables) -> Iterator[Word]:
    """A command: a list of words, or a text that is split, after its variables, as a shell would split it."""
    if isinstance(node, Items):
        for one in node.items:
            if isinstance(one, Text):
                yield _word(one, known)
    elif isinstance(node, Text) and node.value is not None:
        for text in split(interpolated(node.text, known).text, first_line(node)):
            yield Word(text.replace(OPEN, ""), node.line, OPEN not in text)


def _cards(service: Map, known: Variables) -> Gpus:
    """`deploy … devices`, `gpus`, or a runtime."""
    devices = service.list("deploy", "resources", "reservations", "devices")
    asked = service.get("gpus")
    if isinstance(asked, Text):
        return count_of(interpolated(asked.text, known).text)
    if isinstance(asked, Items):
        devices = [*devices, *asked.items]
    for device in devices:
        if isinstance(device, Map) and _is_card(device):
            return _device(device, known)
    return None


def _is_card(device: Map) -> bool:
    capabilities = {one.text for one in device.list("capabilities") if isinstance(one, Text)}
    return device.text("driver") in {"", "nvidia", "amd", "cdi"} and (
        not capabilities or bool(capabilities & {"gpu", "nvidia", "compute"})
    )


def _device(device: Map, known: Variables) -> Gpus:
    names = [_word(one, known) for one in device.list("device_ids")]
    if names:
        if any(not one.known for one in names):
            return UNRESOLVED
        texts = [one.text.rpartition("=")[2] for one in names]
        return "all" if "all" in texts else identities([part for text in texts for part in text.split(",")])
    if device.get("count") is not None:
        word = _word(device.get("count"), known)
        return count_of(word.text) if word.known else UNRESOLVED
    return "all"


def dotenv(text: str) -> Mapping[str, str]:
    """The `.env` beside a compose file."""
    return {name: word.text for name, word in pairs(text).items() if word.known}
