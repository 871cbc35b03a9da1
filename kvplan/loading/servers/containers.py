"""Containers: what an image starts with a command, the cards that it is given, and `docker run` as it is typed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kvplan.engines.kernel.commandline.commands import program_name
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Gpus, Word, image
from kvplan.loading.servers.readers import READERS
from kvplan.loading.servers.wrappers import CONTAINERS, Inner, without_wrappers

#: Options of `docker run` that take a word.
_WITH_WORD: Final = frozenset(
    [
        "-e",
        "--env",
        "-v",
        "--volume",
        "-p",
        "--publish",
        "--name",
        "--gpus",
        "--runtime",
        "--shm-size",
        "--ipc",
        "--network",
        "--net",
        "--entrypoint",
        "-w",
        "--workdir",
        "-u",
        "--user",
        "-m",
        "--memory",
        "--cpus",
        "--ulimit",
        "--device",
        "--mount",
        "--restart",
        "--env-file",
        "--label",
        "-l",
        "--log-driver",
        "--log-opt",
        "--add-host",
        "--cap-add",
        "--cap-drop",
        "--security-opt",
        "--platform",
        "--pull",
        "-h",
        "--hostname",
        "-a",
        "--attach",
        "--cpuset-cpus",
        "--cpuset-mems",
        "--tmpfs",
        "--pid",
        "--userns",
        "--group-add",
        "--cidfile",
        "--dns",
        "--expose",
        "--health-cmd",
        "--health-interval",
        "--health-retries",
        "--health-timeout",
        "--health-start-period",
        "--ip",
        "--link",
        "--memory-swap",
        "--memory-reservation",
        "--oom-score-adj",
        "--stop-signal",
        "--stop-timeout",
        "--sysctl",
        "--uts",
        "--volumes-from",
        "--annotation",
        "--cgroup-parent",
        "--cgroupns",
        "--cpu-shares",
        "-c",
        "--cpu-quota",
        "--detach-keys",
        "--device-cgroup-rule",
        "--domainname",
        "--network-alias",
        "--pids-limit",
        "--storage-opt",
        "--umask",
        "--secret",
        "--arch",
        "--pod",
        "--mac-address",
        "--label-file",
        "--context",
        "-H",
        "--host",
        "--log-level",
        "--config",
        "--memory-swappiness",
        "--blkio-weight",
        "--cpu-period",
        "--isolation",
    ]
)
_BUNDLE: Final = re.compile(r"-[ditPqA-Za-z]*")
_PAIR: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?", re.DOTALL)
#: Variables that choose cards, the first one set counts.
CARDS: Final = (
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
)
_DEVICE_CLASS: Final = re.compile(r"(?:nvidia|amd)\.com/gpu=(.+)")


def cards(environment: Mapping[str, Word], otherwise: Gpus = None) -> Gpus:
    """The cards that the environment leaves a process; else what it was given.

    >>> cards({"CUDA_VISIBLE_DEVICES": Word("0,1")}), cards({}, "all")
    ((0, 1), 'all')
    """
    for name in CARDS:
        word = environment.get(name)
        if word is None:
            continue
        if not word.known:
            return UNRESOLVED
        text = word.text.strip().strip("\"'")
        if text.lower() in {"all"}:
            return "all"
        if text.lower() in {"", "void", "none", "nodevfiles", "-1"}:
            return otherwise if text.lower() in {"void", "none"} else ()
        return identities(text.split(","))
    return otherwise


def identities(names: Sequence[str]) -> tuple[int | str, ...]:
    """Cards by number, or by the name that they have."""
    return tuple(int(one) if one.isdecimal() and len(one) < 6 else one for one in (name.strip() for name in names) if one)


def requested(text: str) -> Gpus:
    """What `--gpus` asks for: all, a count, `device=0,1`."""
    text = text.strip().strip("\"'").strip()
    found = re.search(r"device=([^\"']+)", text)
    if found:
        return identities([one for one in found[1].split(",") if "=" not in one])
    if text.startswith("count="):
        text = text.removeprefix("count=").partition(",")[0]
    if text == "all" or text.startswith("all,") or text == "-1":
        return "all"
    return int(text) if text.isdecimal() and 0 < len(text) < 6 else None


def count_of(value: Any) -> Gpus:
    """How many cards a manifest asks for; a part of a card is no count.

    >>> count_of("2"), count_of(0.5), count_of("all"), count_of(True)
    (2, None, 'all', None)
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return value if 0 < value < 100_000 else "all" if value == -1 else None
    text = str(value).strip()
    if text in {"all", "-1"}:
        return "all"
    return int(text) if text.isdecimal() and len(text) < 6 and int(text) else None


def contained(
    call: Call, entrypoint: Sequence[Word] | None, arguments: Sequence[Word], inner: Inner, depth: int = 0
) -> Iterator[Call]:
    """The processes of a container: `entrypoint` replaces the image's, None leaves it.

    A known image puts its own program before words that name none.
    """
    words = (*(entrypoint or ()), *arguments)
    if entrypoint is None and call.image:
        words = _begun(call, words)
    if not words:
        return
    given = Call(
        words=words, environment=call.environment, image=call.image, gpus=cards(call.environment, call.gpus), pinned=call.pinned,
        files=call.files, place=call.place, line=call.line, alternative=call.alternative,
    )  # fmt: skip
    yield from unwrapped(given, inner, depth)


def _begun(call: Call, words: tuple[Word, ...]) -> tuple[Word, ...]:
    """The words with what the image starts them with; words that begin with a program are left alone."""
    found = image(call.image)
    if found.tag.startswith("full") and words and words[0].text in {"--server", "-s"}:
        words = words[1:]
        found = image(found.repository + ":server")
    for reader in READERS:
        if reader.begins(words, call):
            return words
    for reader in READERS:
        if reader.owns(found):
            before = reader.started(found, words, reader.version(call))
            if before is not None:
                if words and not words[0].text.startswith("-") and _program(words):
                    return words
                return (*map(Word, before), *words)
    return words


def _program(words: Sequence[Word]) -> bool:
    """Whether words begin with a program that is no argument: a shell, python."""
    return bool(re.fullmatch(r"(?:.*/)?(?:ba|da|z|a)?sh|(?:.*/)?python[\d.]*|sleep|tail|env|exec", words[0].text))


def unwrapped(call: Call, inner: Inner, depth: int = 0) -> Iterator[Call]:
    """The processes behind a call's wrappers and in the containers that it starts, with the environment that they set.

    Raises:
        TooMuch: shells or containers inside each other without end.
    """
    for one in without_wrappers(call, inner, depth):
        if one.words and one.words[0].known and program_name(one.words[0]) in CONTAINERS:
            yield from docker(one, inner, depth + 1)
        else:
            yield one


def docker(call: Call, inner: Inner, depth: int) -> Iterator[Call]:
    """`docker run … IMAGE WORDS`, `docker exec … NAME WORDS`."""
    words, at = list(call.words), 1
    while at < len(words) and words[at].text.startswith("-"):
        at += 1 + (words[at].text in _WITH_WORD)
    if at < len(words) and words[at].text == "container":
        at += 1
    if at >= len(words) or words[at].text not in {"run", "exec", "create"}:
        return
    runs = words[at].text != "exec"
    at += 1
    environment: dict[str, Word] = {}
    gpus: Gpus = None
    entrypoint: list[Word] | None = None
    place = call.place
    while at < len(words):
        word = words[at]
        if not word.text.startswith("-") or word.text == "-":
            if not word.known and not word.text:
                at += 1  # `$OPTIONS` that nobody here can know
                continue
            break
        name, equals, after = word.text.partition("=")
        if not equals and not word.text.startswith("--") and word.text not in _WITH_WORD:
            name, value, at = _short(words, at)
        elif equals:
            value, at = Word(after, word.line, word.known), at + 1
        elif name in _WITH_WORD:
            value, at = (words[at + 1] if at + 1 < len(words) else Word("")), at + 2
        else:
            value, at = Word(""), at + 1
        if name in {"-e", "--env"}:
            found = _PAIR.fullmatch(value.text)
            if found and found[2] is not None:
                environment[found[1]] = Word(found[2], value.line, value.known)
            elif found:
                environment[found[1]] = call.environment.get(found[1], Word("", value.line, known=False))
        elif name == "--gpus":
            gpus = requested(value.text) if value.known else UNRESOLVED
        elif name == "--device":
            device = _DEVICE_CLASS.fullmatch(value.text)
            if device:
                before = gpus if isinstance(gpus, tuple) else ()
                gpus = "all" if device[1] == "all" else (*before, *identities([device[1]]))
        elif name == "--entrypoint":
            entrypoint = [Word(part, value.line, value.known) for part in value.text.split()] if value.text else []
        elif name == "--name" and value.known:
            place = value.text
    if at >= len(words):
        return
    if not runs:
        inside = Call(
            words=tuple(words[at + 1 :]), environment=environment, pinned=call.pinned, files=call.files, place=place,
            line=call.line,
        )  # fmt: skip
        yield from unwrapped(inside, inner, depth)
        return
    named = words[at]
    started = Call(
        words=(), environment=environment, image=named.text, gpus=gpus, pinned=call.pinned, files=call.files, place=place,
        line=named.line or call.line, alternative=call.alternative,
    )  # fmt: skip
    yield from contained(started, entrypoint, words[at + 1 :], inner, depth)


def _short(words: Sequence[Word], at: int) -> tuple[str, Word, int]:
    """`-it`, `-p8000:8000`, `-dite X=y`: (the option that takes a word, the word, where to go on)."""
    word = words[at]
    for place, letter in enumerate(word.text[1:], 1):
        if f"-{letter}" in _WITH_WORD:
            rest = word.text[place + 1 :]
            if rest:
                return f"-{letter}", Word(rest, word.line, word.known), at + 1
            return f"-{letter}", words[at + 1] if at + 1 < len(words) else Word(""), at + 2
    return word.text, Word(""), at + 1
