"""Shell lines and scripts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.loading.servers.containers import unwrapped
from kvplan.loading.servers.readers import READERS
from kvplan.loading.servers.shell_words import Command, commands
from kvplan.loading.servers.source import Read, Source, unclosed
from kvplan.loading.servers.variables import Variables

#: `pip install "vllm[flash]==0.11.0"`.
_PINNED: Final = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==(\d[\w.]*)(?:\+[\w.]*)?")
_INSTALLERS: Final = frozenset({"pip", "pip3", "uv", "python", "python3", "conda", "mamba", "uvx", "pipx"})
_WRITERS: Final = frozenset({"cat", "tee", "sudo"})
_EXPORTS: Final = frozenset({"export", "declare", "typeset"})
_EXPORTED: Final = frozenset({"-x", "-gx", "-xg"})
_CLEAN: Final = frozenset({"exec", "command"})


def found(source: Source) -> Read:
    """The processes of a script."""
    return Read(tuple(calls(source.text, Call(words=()), variables=source.variables)))


def calls(text: str, outer: Call, depth: int = 0, *, variables: Mapping[str, str] | None = None) -> Iterator[Call]:
    """The processes that a shell text starts, in order; `outer` holds image, cards and environment of where it runs."""
    known = Variables(variables)
    for name, word in outer.environment.items():
        known.set(name, word.text if word.known else None)
        known.exported.add(name)
    first = outer.words[0].line if outer.words else 1
    pinned, files = dict(outer.pinned), dict(outer.files)
    for command in commands(text, first or 1):
        yield from _run(command, known, outer, pinned, files, depth)


def _run(
    command: Command, known: Variables, outer: Call, pinned: dict[str, str], files: dict[str, str], depth: int
) -> Iterator[Call]:
    words = tuple(word for raw in command.words for word in known.fields(raw))
    name = words[0].text if words else ""
    if not words or name in {*_EXPORTS, "local", "readonly"}:
        _declare(name, words, command, known)
        return
    if name == "set" and any(word.text in {"-a", "-ax", "allexport"} for word in words):
        known.exports_all = True
        return
    if name == "unset":
        for word in words[1:]:
            known.values.pop(word.text, None)
        return
    if name == "for" and len(words) > 1:
        known.set(words[1].text, None)
        return
    if name == "read":
        for word in words[1:]:
            known.set(word.text, None)
        return
    _write(command, words, known, files)
    if name.rpartition("/")[2] in _INSTALLERS:
        pinned |= _pins(words)
    environment = known.environment()
    for one in command.assigned:
        word = known.whole(one.values[0].parts, one.values[0].line) if one.values else Word("")
        environment[one.name] = word
    call = Call(
        words=words, environment=environment, image=outer.image, gpus=outer.gpus, pinned=dict(pinned), files=dict(files),
        place=outer.place, line=words[0].line, alternative=outer.alternative,
    )  # fmt: skip
    for process in unwrapped(call, calls, depth):
        if command.unclosed and any(reader.begins(process.words, process) for reader in READERS):
            raise unclosed(command.unclosed)
        yield with_cards(process)


def with_cards(call: Call) -> Call:
    """A process with the cards that its environment leaves it."""
    from msgspec.structs import replace

    from kvplan.loading.servers.containers import cards

    chosen = cards(call.environment, call.gpus)
    return call if chosen == call.gpus else replace(call, gpus=chosen)


def _declare(name: str, words: Sequence[Word], command: Command, known: Variables) -> None:
    """`X=y`, `export X=y`, `export X`."""
    exports = name == "export" or (name in _EXPORTS and any(word.text in _EXPORTED for word in words))
    for one in command.assigned:
        known.assign(one)
        if exports:
            known.exported.add(one.name)
    if exports:
        known.exported.update(word.text for word in words[1:] if word.text.isidentifier())


def _write(command: Command, words: Sequence[Word], known: Variables, files: dict[str, str]) -> None:
    """`cat <<EOF > file`, `tee file <<EOF`: a file that later lines may name."""
    if not command.heredocs or words[0].text not in _WRITERS:
        return
    targets = [known.whole(raw.parts) for raw in command.into]
    targets += [
        word
        for word in words[1:]
        if "tee" in {w.text for w in words[:2]} and not word.text.startswith("-") and word.text != "tee"
    ]
    text = known.whole(command.heredocs[-1].text)
    for target in targets:
        if target.known and text.known:
            files[target.text] = text.text


def _pins(words: Sequence[Word]) -> dict[str, str]:
    """Releases that an installation names."""
    return {
        found[1].lower(): found[2].rstrip(".")
        for word in words
        if word.known and (found := _PINNED.fullmatch(word.text)) is not None
    }
