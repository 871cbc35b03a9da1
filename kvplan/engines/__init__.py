"""Back ends: how an engine stores what a model must remember. One folder an engine, loaded when asked for."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kvplan.engines.index import LINES
from kvplan.engines.kernel.about import SHARED, About, Share, number_of
from kvplan.errors import OptionError, nearest, shown

if TYPE_CHECKING:
    from kvplan.engines.kernel.commandline.commands import Commands
    from kvplan.engines.kernel.engine import Engine
    from kvplan.engines.kernel.live import Asking


class Traits(NamedTuple):
    """What is asked of every engine before one is chosen, from the index of their `About`s; each field is one there."""

    folder: str
    predicted: bool
    suffixes: tuple[str, ...]
    owners: tuple[str, ...]
    default_on: tuple[str, ...]


def _read(line: str) -> tuple[str, Traits]:
    name, folder, predicted, *lists = line.split("|")
    return name, Traits(folder, bool(predicted), *(tuple(words.split()) for words in lists))


TRAITS: Final = dict(map(_read, LINES))


@cache
def _module(name: str) -> Any:
    """A module by its name: one `fit` asks a thousand times, and `import_module` looks whether it is loaded each time."""
    return import_module(name)


class _Abouts(Mapping[str, About]):
    """Each engine's `About`, loaded when it is asked for: a question about one engine does not read the others' files."""

    def __getitem__(self, name: str) -> About:
        found: About = _module(f"kvplan.engines.{TRAITS[name].folder}").ABOUT
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(TRAITS)

    def __len__(self) -> int:
        return len(TRAITS)

    def __contains__(self, name: object) -> bool:  # without loading it
        return name in TRAITS


#: Engine name -> what is known of it. A new engine is one folder (and `make index`).
ABOUTS: Final[Mapping[str, About]] = _Abouts()
#: The engines that are predicted.
PREDICTED: Final = tuple(name for name, found in TRAITS.items() if found.predicted)


#: Who serves a model when nobody says so.
USUAL_SERVER: Final = "vllm"


def default_engine(model: str, *, gguf: bool = False, maker: str = "") -> str:
    """The engine that a model's file or owner means, else the one that a maker's devices run; else the usual server.

    Args:
        model: as it was typed.
        gguf: it is a GGUF file, whatever it is called.
        maker: of the devices, where all are of one.
    """
    name = model.lower()
    known = TRAITS.items()
    by_file = (engine for engine, has in known if has.suffixes and (gguf or name.endswith(has.suffixes)))
    by_owner = (engine for engine, has in known if has.owners and name.startswith(has.owners))
    by_maker = (engine for engine, has in known if maker in has.default_on)
    return next((engine for found in (by_file, by_owner, by_maker) for engine in found), USUAL_SERVER)


def engine_name(spec: str) -> str:
    """The name in `NAME` or `NAME@VERSION`, as the table has it."""
    return spec.partition("@")[0].strip().lower()


def about(spec: str) -> About:
    """What is known of an engine (`NAME` or `NAME@VERSION`).

    Raises:
        OptionError: no such engine; the message names the nearest.
    """
    if not isinstance(spec, str):
        raise OptionError(f"«engine»: a name is needed, got {shown(spec)}", hint=f"one of {', '.join(PREDICTED)}")
    name = engine_name(spec)
    found = ABOUTS.get(name)
    if found is None:
        near = nearest(name, ABOUTS)
        if name == "all":
            raise OptionError("unknown engine `all`", hint="`kvplan compare MODEL -e all` shows every engine")
        raise OptionError(
            f"unknown engine `{spec.partition('@')[0][:60]}`",
            hint=f"did you mean `{near}`?" if near else f"available: {', '.join(PREDICTED)}",
        )
    return found


def predicted(spec: str) -> About:
    """As `about`, for an engine whose cache is predicted.

    Raises:
        OptionError: no such engine, or one that this release does not predict.
    """
    found = about(spec)
    if not found.predicted:
        raise OptionError(f"engine `{found.name}` is not predicted by this release", hint=f"available: {', '.join(PREDICTED)}")
    return found


def share_of(spec: str) -> Share:
    """How an engine is told its share of a card; a process of another kind takes what it takes."""
    found = ABOUTS.get(engine_name(spec))
    return found.share if found else Share(meaning="what its context needs")


def pipeline_stages(spec: str, options: Mapping[str, Any]) -> int:
    """Stages that share the layers, as the options of an engine say; 1 for engines that have none.

    >>> pipeline_stages("vllm", {"pipeline_parallel_size": "2"})
    2
    """
    found = ABOUTS.get(engine_name(spec))
    return number_of(options, found.roles.get("stages", "")) if found else 1


def data_ranks(spec: str, options: Mapping[str, Any]) -> int:
    """Groups of devices with a cache of their own that share a model's experts, as the options of an engine say.

    >>> data_ranks("vllm", {"data_parallel_size": 8}), data_ranks("sglang", {"dp_size": 8})
    (8, 1)
    """
    found = ABOUTS.get(engine_name(spec))
    return found.data_ranks.ranks(options) if found and found.data_ranks else 1


def with_dtype(engine: str, options: Mapping[str, Any], kv_dtype: str) -> dict[str, Any]:
    """The options with another cache dtype, under whatever names it was asked for before."""
    known = about(engine)
    own = {known.roles.get("kv_dtype"), *known.also.get("kv_dtype", ())}
    return {**{key: value for key, value in options.items() if key not in own}, "kv_dtype": kv_dtype}


def located(where: str) -> Any:
    """What a string of an `About` names: `module`, or `module:name`."""
    module, _, name = where.partition(":")
    loaded = _module(module)
    return getattr(loaded, name) if name else loaded


def deals_out(spec: str) -> bool:
    """Whether an engine deals layers out to unequal devices and the host.

    >>> deals_out("llama.cpp"), deals_out("vllm")
    (True, False)
    """
    from kvplan.engines.kernel.releases import parse_version

    known, version = about(spec), spec.partition("@")[2]
    asked = parse_version(version or known.latest or "0")
    return bool(known.spread) and asked >= parse_version(known.spread_since or "0")


def command_readers() -> "tuple[Commands, ...]":
    """The readers of command lines, of every engine that has them, in the order of the engines."""
    return tuple(located(found.commands) for found in ABOUTS.values() if found.commands)


def live_askings() -> "tuple[tuple[str, Asking], ...]":
    """How the running servers of every engine are asked that can be, by its name."""
    return tuple((found.name, located(found.live)) for found in ABOUTS.values() if found.live)


def engine_class(spec: str) -> "type[Engine]":
    """The class behind an engine's name.

    Raises:
        OptionError: see `predicted`.
    """
    cls: type[Engine] = located(predicted(spec).engine)
    return cls


def option_names(spec: str) -> frozenset[str]:
    """The options that an engine takes, kvplan's shared words included."""
    found = predicted(spec)
    return frozenset(
        (
            *engine_class(spec).Options.__struct_fields__,
            *(word for word in SHARED if word in found.roles),
            *(("offline",) if found.offline else ()),
        )
    )


def make_engine(spec: str, options: Mapping[str, Any]) -> "Engine":
    """An engine from `NAME` or `NAME@VERSION` and options by the engine's names or kvplan's shared words.

    Raises:
        OptionError: unknown engine, option or value, or an option given twice under two names.
    """
    from kvplan.engines.kernel.releases import is_build, parse_version

    cls = engine_class(spec)
    version = spec.partition("@")[2]
    if version:
        parse_version(version)
    known = about(spec)
    if is_build(version) and not is_build(known.read_since):
        raise OptionError(f"engine version: {known.name} has no builds, got `{version[:40]}`", hint=f"a release: {known.latest}")
    return cls.made(options, version or None)
