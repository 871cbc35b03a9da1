"""A process as somebody starts it: words, environment, image, cards. What a variable leaves open is said, never guessed."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

#: Stands for a value that the input does not decide.
UNRESOLVED: Final = "unresolved"

#: Cards of a process: how many, which, or "all"; None where nothing says.
Gpus = int | str | tuple[int | str, ...] | None


class Word(Struct, frozen=True):
    """One word of a command line after quotes and variables; `line` is where it stands (0: nowhere)."""

    text: str
    line: int = 0
    known: bool = True  # False: it holds a variable that has no value here


def words(*texts: str, line: int = 0) -> tuple[Word, ...]:
    """Texts as words.

    >>> words("vllm", "serve")[1].text
    'serve'
    """
    return tuple(Word(text, line) for text in texts)


class Image(Struct, frozen=True):
    """A container image's name: `repository` without registry host or tag is not kept apart, `name` is its last part."""

    repository: str
    name: str
    tag: str


def image(text: str) -> Image:
    """The parts of an image's name.

    >>> image("registry.example.com:5000/vllm/vllm-openai:v0.26.0-cu129@sha256:ab")
    Image(repository='registry.example.com:5000/vllm/vllm-openai', name='vllm-openai', tag='v0.26.0-cu129')
    """
    repository = text.partition("@")[0]
    folder, slash, last = repository.rpartition("/")
    name, _, tag = last.partition(":")
    return Image(folder + slash + name, name, tag)


class Call(Struct, frozen=True, kw_only=True):
    """One process.

    `pinned` are releases that the same input installs, by package; `files` texts that it writes, by name; `place` is what the
    input calls it (a service, a container); `alternative` says that others of this name are never in memory together with it.
    """

    words: tuple[Word, ...]
    environment: Mapping[str, Word] = {}
    image: str = ""
    gpus: Gpus = None
    pinned: Mapping[str, str] = {}
    files: Mapping[str, str] = {}
    place: str = ""
    line: int = 0
    alternative: str = ""
