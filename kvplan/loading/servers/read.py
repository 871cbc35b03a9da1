"""The servers of an input: which form it is, its processes, and what each engine makes of its own."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from kvplan.domain.servers import Server, Servers
from kvplan.engines.kernel.commandline.commands import Commands
from kvplan.engines.kernel.commandline.told import Told
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Word
from kvplan.errors import InputError, KvplanError
from kvplan.files import expanded, read_bounded
from kvplan.limits import SERVERS, SERVERS_BYTES
from kvplan.loading.servers.containers import unwrapped
from kvplan.loading.servers.forms import (
    charts,
    compose,
    dotenv,
    kserve,
    kubeai,
    kubernetes,
    markdown,
    modelfile,
    settings,
    shell,
    sky,
    swap,
    systemd,
    windows,
)
from kvplan.loading.servers.forms.shell import with_cards
from kvplan.loading.servers.readers import READERS
from kvplan.loading.servers.source import Read, Source
from kvplan.loading.servers.yaml_tree import Map, Node, YamlError, documents

_YAML: Final = (".yaml", ".yml")
_DATA: Final = (*_YAML, ".json")
#: What no shell line begins with: JSON, or a manifest in YAML. Where such a text cannot be parsed, nothing else reads it.
_JSON: Final = re.compile(r'\s*(?:\{\s*(?:["}]|$)|\[\s*[{"\[])')
_MANIFEST: Final = re.compile(r"(?m)^(?:apiVersion|services|models|kind):")
#: Forms whose servers have cards of their own: what a pod calls its first card is not another's.
_PODS: Final[tuple[Any, ...]] = (charts, charts.RUNTIMES, kserve, kubeai, kubernetes)
#: Lines after the one that a word was said to stand on, where it is looked for.
_NEAR: Final = 80
_WHAT: Final = "a command line, a compose file, a manifest, a unit, a Modelfile or a settings file"


def read_servers(path: str | Path, variables: Mapping[str, str] | None = None) -> Servers:
    """The servers of a file.

    Raises:
        InputError: it cannot be read, or is no text that anybody starts servers with.
    """
    file = expanded(path)
    raw = read_bounded(file, SERVERS_BYTES, InputError, _WHAT)
    text = decoded(raw, str(path))
    beside = file.with_name(".env")
    pairs = None
    if file.name != ".env" and beside.is_file():
        try:
            pairs = dotenv.values(decoded(read_bounded(beside, SERVERS_BYTES, InputError, "variables"), str(beside)))
        except InputError:
            pairs = None
    return servers_of(text, str(path), {**(pairs or {}), **(variables or {})} if _is_compose(text) else variables, pairs)


def decoded(raw: bytes, name: str) -> str:
    """The text of a file.

    Raises:
        InputError: it is no UTF-8.
    """
    encoding = "utf-16" if raw[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        return raw.decode(encoding).replace("\r\n", "\n")
    except UnicodeDecodeError as problem:
        raise InputError(f"`{name}` is not UTF-8 text", hint=f"give {_WHAT}") from problem


def _is_compose(text: str) -> bool:
    return bool(re.search(r"(?m)^services:", text))


def servers_of(
    text: str, name: str = "", variables: Mapping[str, str] | None = None, beside: Mapping[str, str] | None = None
) -> Servers:
    """The servers of a text; `name` says what it is as a file's ending does.

    Raises:
        InputError: YAML that is none, or more of anything than people write; one sentence.
    """
    source = Source(text=text, name=name, variables=variables or {}, dotenv=beside)
    try:
        found, others = _found(source)
    except KvplanError as problem:
        raise problem.at(f"`{name}`" if name else "the input", InputError) from problem
    if len(found) > SERVERS:
        raise InputError(f"`{name}` starts more than {SERVERS:,} servers", hint="give a part of it")
    return Servers(name=name, servers=tuple(found), others=others, text=text, variables=variables, beside=beside)


def command_servers(words: tuple[str, ...], variables: Mapping[str, str] | None = None) -> Servers:
    """The servers of a command line that a shell has split already."""
    environment = {name: Word(value) for name, value in (variables or {}).items()}
    call = Call(words=tuple(Word(text, 1) for text in words), environment=environment, line=1)
    calls = [with_cards(one) for one in unwrapped(call, shell.calls)]
    return Servers(name="", servers=tuple(server for one in calls for server in _servers(one, "")), text=shlex.join(words) + "\n")


def _found(source: Source) -> tuple[list[Server], tuple[str, ...]]:
    if not source.file.endswith(_DATA) and markdown.reads(source.file, source.text):
        found: list[Server] = []
        for name, text, before in markdown.parts(source.text):
            inner, _ = _found(replace(source, text=text, name=name))
            found += [
                replace(one, line=one.line + before, lines={k: v + before for k, v in one.lines.items()}, file=source.name)
                for one in inner
            ]
        return found, ()
    if not source.file.endswith(_DATA):
        for form in (modelfile, systemd, windows, dotenv):
            if form.reads(source):
                return _all(form.found(source), source)
        if not _looks_like_yaml(source):
            return _all(shell.found(source), source)
    try:
        roots = documents(source.text)
    except YamlError as problem:
        if source.file.endswith(_YAML) and "{{" in source.text:
            raise YamlError(
                "a template of a Helm chart, not a manifest", hint="render it: `helm template CHART | kvplan check -`"
            ) from problem
        if source.file.endswith(_DATA) or _JSON.match(source.text) or _MANIFEST.search(source.text):
            raise
        return _all(shell.found(source), source)
    return _yaml(source, roots)


def _looks_like_yaml(source: Source) -> bool:
    """Whether a text without a telling name is a mapping in YAML."""
    if source.file.endswith((".sh", ".bash", ".txt")) and not (_MANIFEST.search(source.text) or _JSON.match(source.text)):
        return False
    first = next((line for line in source.text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "---"))), "")
    return bool(re.match(r'["\'{]?[A-Za-z_][\w.-]*["\']?:(?:\s|$)', first)) or bool(_JSON.match(source.text))


def _yaml(source: Source, roots: list[Node]) -> tuple[list[Server], tuple[str, ...]]:
    found: list[Server] = []
    others: tuple[str, ...] = ()
    known: tuple[Any, ...] = (compose, kserve, kubeai, charts.RUNTIMES, kubernetes, swap, sky)
    forms = [form for form in known if any(map(form.reads, roots))]
    if not forms:
        for root in roots:
            ours = settings.reader_of(root)
            if ours is not None:
                found.append(_settings(*ours, source, root))
        if found:
            return found, ()
        forms = [charts] if any(map(charts.reads, roots)) else []
    for form in forms:
        more, left = _all(form.found(source), source)
        found += [replace(one, pod=True) for one in more] if form in _PODS else more
        others += left
    return sorted(found, key=lambda one: one.line) if len(forms) > 1 else found, others


def _settings(reader: Commands, keys: Mapping[str, Any], source: Source, root: Node) -> Server:
    told = reader.settings(keys)
    lines = {name: _key_line(root, name) for name in (*told.options, "model")}
    return _server(reader, replace_lines(told, lines), Call(words=(), line=1, place=source.file), "", source.name)


def replace_lines(told: Told, lines: Mapping[str, int]) -> Told:
    """What was told, with lines."""
    told.lines = dict(lines)
    return told


def _key_line(root: Node, name: str) -> int:
    """The line of a key that is spelled with dashes or underscores, at the top or in a section."""
    if not isinstance(root, Map):
        return 0
    for holder in (root, *(one for one in root.entries.values() if isinstance(one, Map))):
        for key, line in holder.lines.items():
            if key.replace("-", "_") == name or (name == "model" and key == "model_name"):
                return line
    return 0


def _all(read: Read, source: Source) -> tuple[list[Server], tuple[str, ...]]:
    lines = source.text.splitlines()
    found = [(call.place, server) for call in read.calls for server in _servers(_placed(call, lines), source.name)]
    places = {place for place, _ in found}
    return [server for _, server in found], tuple(name for name in read.take_cards if name not in places)


def _placed(call: Call, lines: list[str]) -> Call:
    """A call whose words stand on the lines that hold them: of a folded text only its beginning is known."""
    words: list[Word] = []
    at, changed = 0, False
    for word in call.words:
        line = max(word.line, at)
        if word.text and 0 < line <= len(lines) and word.text not in lines[line - 1]:
            near = next((n for n in range(line, min(line + _NEAR, len(lines))) if word.text in lines[n]), -1)
            line = near + 1 if near >= 0 else line
        moved = line != word.line and bool(word.line)
        changed = changed or moved
        words.append(Word(word.text, line, word.known) if moved else word)
        at = line if word.line else at
    return replace(call, words=tuple(words)) if changed else call


def _servers(call: Call, name: str) -> Iterator[Server]:
    """The server that a process is, where it is one."""
    if not call.words:
        for reader in READERS:
            if reader.name == call.place:
                yield _server(reader, reader.read((), (), call, ""), call, "", name)
        return
    for reader in READERS:
        end = reader.begins(call.words, call)
        if end:
            version = reader.version(call)
            told = reader.read(call.words[:end], call.words[end:], call, version)
            yield _server(reader, told, call, version, name)
            return


def _server(reader: Commands, told: Told, call: Call, version: str, name: str) -> Server:
    env = {key: (word.text if word.known else UNRESOLVED) for key, word in call.environment.items() if key in reader.variables}
    return Server(
        engine=reader.name, model=told.model, version=version, options=told.options, gpus=call.gpus, env=env,
        unknown=tuple(told.unknown), gone=tuple(told.gone), refused=tuple(told.refused), notes=tuple(told.notes),
        place=call.place, file=name, line=call.line or next((word.line for word in call.words if word.line), 1),
        lines=told.lines, alternative=call.alternative,
    )  # fmt: skip
