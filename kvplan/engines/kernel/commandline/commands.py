"""What every engine says of its command lines: which are its own, what its images start, and how its words are read."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from kvplan.domain.model import Model
from kvplan.engines.kernel.commandline.asked import Asked
from kvplan.engines.kernel.commandline.flags import at_release, flags_of, release_key, release_seen
from kvplan.engines.kernel.commandline.told import Told
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Image, Word, image

_RELEASE: Final = re.compile(r"v?(\d{1,4}\.\d{1,4}\.\d{1,4}(?:\.\d{1,3})?(?:\.?(?:post|rc|dev)\d{1,4})?)(?!\d)")
_PYTHON: Final = re.compile(r"(?:python|pypy)[\d.]*w?")
#: Of NVIDIA and AMD, and of packagers who number their own work: their tags name no release of the engine.
_OTHER_NUMBERS: Final = ("nvcr.io/", "rocm/", "lmcache/", "docker.io/rocm/")
#: Memory, whoever asks: the allocator's settings.
ALLOCATOR: Final = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


class Commands:
    """One engine's command lines; a subclass in its folder says how they are read."""

    name: ClassVar[str]
    #: The package that holds its table of flags.
    folder: ClassVar[str]
    #: Whether its releases compare with those of its table; builds by number do not.
    numbered: ClassVar[bool] = True
    #: The package that a pinned install names.
    packages: ClassVar[tuple[str, ...]] = ()
    #: Variables that change its memory and are no options of its own.
    variables: ClassVar[tuple[str, ...]] = ()

    #: An option -> kvplan's word for it, where that differs.
    renamed: ClassVar[Mapping[str, str]] = {}
    #: Options that change no byte which is counted: the model's own, and what only moves things in time.
    without_bytes: ClassVar[frozenset[str]] = frozenset()
    #: A variable -> the option that it sets.
    settable: ClassVar[Mapping[str, str]] = {}
    #: Options that name a second model, which drafts tokens.
    drafters: ClassVar[tuple[str, ...]] = ()
    #: Whether a drafter is loaded as any model is, with a cache of its own for the same tokens.
    drafts_apart: ClassVar[bool] = False
    #: Whether its parser stops at a word that it does not know.
    refuses_unknown: ClassVar[bool] = True
    #: Whether it takes what a request needs, and reserves nothing: then what a request needs is asked.
    reserves: ClassVar[bool] = True
    #: Its image, with `{version}` where releases are tags; empty: it has none.
    container: ClassVar[str] = ""
    #: Whether models are described to it in files of their own (a Modelfile).
    describes: ClassVar[bool] = False
    #: Whether it starts without a model, and loads those that it is asked for.
    starts_empty: ClassVar[bool] = False
    #: Options that its command line has and kvplan's engine takes as a workload: requests at once, and layers on the cards.
    slots: ClassVar[str] = ""
    layers: ClassVar[str] = ""
    #: Whether it spreads layers over all the cards that it sees, unasked.
    spreads: ClassVar[bool] = False

    def begins(self, words: Sequence[Word], call: Call) -> int:
        """How many words name its server; 0 where they do not."""
        raise NotImplementedError

    def started(self, found: Image, words: Sequence[Word], version: str) -> tuple[str, ...] | None:
        """What an image puts before these words; None where the image is not its own, or starts nothing."""
        return None

    def owns(self, found: Image) -> bool:
        """Whether an image is one of this engine's."""
        return False

    def read(self, program: Sequence[Word], rest: Sequence[Word], call: Call, version: str) -> Told:
        """What its parser makes of the words after the program."""
        raise NotImplementedError

    def file(self, keys: Mapping[str, Any]) -> bool:
        """Whether a YAML file's keys are those of its own settings."""
        return False

    def settings(self, keys: Mapping[str, Any]) -> Told:
        """What its own settings file says."""
        raise NotImplementedError

    def alone(self, environment: Mapping[str, Word]) -> bool:
        """Whether an environment alone is meant for its server."""
        return False

    def serving(self, model: Word | None) -> tuple[Word, ...]:
        """The words that start its server for a model, for manifests that name the engine and not the command."""
        raise NotImplementedError

    def knows(self, flag: str) -> bool:
        """Whether it is the engine that operators hand such a flag to."""
        return False

    def seen(self, name: str) -> str:
        """Which of the releases that were read have a name, in words; empty where all have it, or none."""
        return release_seen(self.folder, name)

    def names(self, version: str) -> Iterable[str]:
        """Every name that is known, those of the release first."""
        known = at_release(self.folder, version, self.numbered)
        return [*known.names, *known.elsewhere]

    def asked(self, options: Mapping[str, Any], environment: Mapping[str, str], known: Container[str]) -> Asked:
        """What was typed, as kvplan's engine of the same name is asked for it; `known` are the options that it takes."""
        found = Asked()
        drafter = next((options[name] for name in self.drafters if options.get(name)), "")
        found.drafter = drafter if isinstance(drafter, str) else ""
        self.place({name: value for name, value in options.items() if name not in self.drafters}, found, known)
        for name, value in environment.items():
            if name in self.settable:
                found.put(self.settable[name], value)
            else:
                found.not_counted.append(name)
        return found

    def program_words(self, words: Sequence[str]) -> int:
        """How many words of a command line of kvplan's own are the program."""
        return self.begins([Word(word) for word in words], Call(words=())) or 1

    def written(self, line: str, model: str, mix: str) -> str:
        """A command line of kvplan's with the model's file in it, where the engine takes one: called by model and mix."""
        return line

    def loads(self, model: str, mix: str) -> tuple[str, ...]:
        """Words that load a model into a server that was started without one."""
        return ()

    def known_as(self, model: str) -> Iterator[tuple[str, str | None]]:
        """Names of the catalogue that a model's name may mean, each with the format of its weights, where the name says it."""
        yield from ()

    def place(self, options: Mapping[str, Any], found: Asked, known: Container[str]) -> None:
        """Options of the same name as they are, others by `renamed`; what is neither, and changes memory, is not counted."""
        for name, value in options.items():
            own = self.renamed.get(name, name)
            if name in self.without_bytes:
                continue
            if value == UNRESOLVED:
                found.undecided.append(self.spelled(name))
            elif own in known:
                found.put(own, value)
            else:
                found.not_counted.append(self.spelled(name))

    def typed_as(self, option: str) -> str:
        """What its command line calls an option of kvplan's."""
        return next((typed for typed, own in self.renamed.items() if own == option), option)

    def too_long(self, options: Mapping[str, Any], environment: Mapping[str, str], model: Model) -> tuple[str, int]:
        """With which words it refuses requests longer than the model's config allows, and the tokens that it does; ("", 0): not.

        Asked only of models whose config is whole: one that was kept without its rope scaling does not say how long they may be.
        """
        return "", 0

    def limited(self, options: Mapping[str, Any], option: str, tokens: int) -> Mapping[str, Any]:
        """What limits requests to so many tokens; `option` is the one of kvplan's role as it is typed, empty: there is none."""
        return {option: tokens} if option else {}

    def spellings(self, dest: str) -> tuple[str, ...]:
        """Every name of an option: flags, its key, its variable."""
        flags = [flag for flag in flags_of(self.folder).flags if flag.dest == dest or flag.env == dest]
        names = [name for flag in flags for name in (*flag.names, flag.env, flag.key.rpartition(".")[2]) if name]
        return tuple(dict.fromkeys([*names, dest, dest.replace("_", "-"), f"--{dest}"]))

    def spelled(self, dest: str) -> str:
        """An option as it is typed."""
        flags = (flag for flag in flags_of(self.folder).flags if flag.dest == dest)
        names = [name for flag in flags for name in flag.names]
        return next((name for name in names if name.startswith("--")), names[0] if names else dest)

    def version(self, call: Call) -> str:
        """The release that an image's tag or a pinned install names; empty where none does."""
        if call.image:
            found = image(call.image)
            if self.owns(found) and not found.repository.startswith(_OTHER_NUMBERS):
                said = self.tagged(found.tag)
                if said:
                    return said
        return next((call.pinned[package] for package in self.packages if package in call.pinned), "")

    def tagged(self, tag: str) -> str:
        """The release that a tag names."""
        found = _RELEASE.match(tag)
        if found is None:
            return ""
        newest = release_key(flags_of(self.folder).latest)[0]  # 1.22.0 of somebody's image is no release of an engine at 0.33
        return found[1] if release_key(found[1])[0] <= max(newest, 1 if newest else 0) else ""


def program_name(word: Word) -> str:
    """A program's name without its folder.

    >>> program_name(Word("C:\\\\llama\\\\llama-server.exe"))
    'llama-server'
    """
    last = re.split(r"[\\/]", word.text)[-1]
    return last[:-4] if last.lower().endswith(".exe") else last


def module_of(words: Sequence[Word]) -> tuple[str, int]:
    """The module that `python -m MODULE` runs, and how many words that is; ("", 0) where it is none."""
    if not words or not _PYTHON.fullmatch(program_name(words[0])):
        return "", 0
    for at in range(1, min(len(words), 8)):
        text = words[at].text
        if text == "-m" and at + 1 < len(words):
            return words[at + 1].text, at + 2
        if not text.startswith("-"):
            return "", 0
    return "", 0
