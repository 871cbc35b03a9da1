"""What kvplan makes of every name in the engines' own tables (`tests/golden/registries/`): read, or refused with the reason."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "tests" / "golden" / "registries"


class Entry(NamedTuple):
    """One name of a table: the model type that it is read as, or why it is not."""

    name: str
    read_as: str = ""
    reason: str = ""


def names(library: str) -> tuple[str, list[str]]:
    """Where the table stands, and the names in it."""
    head, *found = (FOLDER / f"{library}.txt").read_text(encoding="utf-8").splitlines()
    return head.removeprefix("# "), found


def _type(name: str) -> Entry:
    """A model type: read, or refused by its family."""
    from kvplan.architectures import known_model_types, reader_of
    from kvplan.architectures.kit.config import Config
    from kvplan.architectures.wrappers import WRAPPERS
    from kvplan.errors import ConfigError

    if name not in known_model_types():
        return Entry(name, reason="unknown")
    if name in WRAPPERS:
        return Entry(name, WRAPPERS[name][1])
    reader = reader_of(name)
    if reader.function.__module__.endswith(".cacheless"):
        try:
            reader.read(Config({"model_type": name}))
        except ConfigError as problem:
            return Entry(name, reason=str(problem).partition("`, which ")[2])
    return Entry(name, name)


def _class(name: str) -> Entry:
    """A class: read as the model type of its configs."""
    from kvplan.architectures.classes import GENERIC, REFUSED, TYPE_OF

    if name in GENERIC:
        return Entry(name, "whatever `model_type` says")
    if name in REFUSED:
        return Entry(name, reason=REFUSED[name])
    return Entry(name, TYPE_OF.get(name, ""), "" if name in TYPE_OF else "unknown")


def _gguf(name: str) -> Entry:
    """An architecture of a GGUF file."""
    from kvplan.gguf.known import KNOWN_ARCHITECTURES, UNREAD

    return Entry(name, name) if name in KNOWN_ARCHITECTURES else Entry(name, reason=UNREAD.get(name, "unknown"))


#: Library -> how a name of its table is looked up.
LIBRARIES: Final[dict[str, Callable[[str], Entry]]] = {
    "transformers-5.24": _type,
    "vllm-0.33": _class,
    "sglang-0.5.23": _class,
    "mlx-lm-0.32": _type,
    "llama.cpp": _gguf,
}


def entries(library: str) -> list[Entry]:
    """Every name of a library's table, in its order."""
    return [LIBRARIES[library](name) for name in names(library)[1]]


def page() -> Iterator[str]:
    """The section of docs/reference/architectures.md."""
    yield "\n## What engines name\n\nEvery name of each release's own table, and the model type that kvplan reads it as.\n"
    for library in LIBRARIES:
        found = entries(library)
        read, refused = [e for e in found if not e.reason], [e for e in found if e.reason]
        yield f"\n### {library}\n\n{names(library)[0]}. {len(read)} read, {len(refused)} refused.\n\n"
        yield "| name | read as |\n| --- | --- |\n"
        yield from (f"| `{e.name}` | {e.read_as if ' ' in e.read_as else f'`{e.read_as}`'} |\n" for e in read)
        if refused:
            yield "\n| name | refused: it is, or does |\n| --- | --- |\n"
            yield from (f"| `{e.name}` | {e.reason.replace('|', '/')} |\n" for e in refused)
