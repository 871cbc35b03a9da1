"""What kvplan knows of an engine without loading it: one value, in the engine's own folder."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from msgspec import Struct, field

from kvplan.units import GIB

#: kvplan's words for what several engines can be told, each by a name of its own.
Role = Literal[
    "kv_dtype", "tensor_parallel", "stages", "context", "sequences", "utilization", "memory", "device_name", "compute_capability",
    "layers", "shares", "cpu_experts", "elsewhere", "cache_on_cards", "drafter", "projector", "cache",
]  # fmt: skip
#: Of these, what says where things lie.
PLACES: Final[tuple[Role, ...]] = ("layers", "shares", "cpu_experts", "elsewhere", "cache_on_cards", "drafter", "projector")
#: Of these, the words that people may type for any engine.
SHARED: Final[tuple[Role, ...]] = ("kv_dtype", "tensor_parallel")
Meaning = Literal["of total", "of free before loading", "of free after loading", "what its context needs", "grows as it goes"]


class Reserve(Struct, frozen=True):
    """What weights and cache leave to activations, graphs, libraries and the device's context: assumed, and why."""

    bytes: int
    reason: str


class Share(Struct, frozen=True, kw_only=True):
    """How one process is told its part of a card: the flag (with `{}` for the fraction), what the fraction is of, and where
    that is written.

    `split_flag` splits a model over cards, where kvplan does not write the whole command. `rank` is when it starts: 0
    anywhere, 1 after those, 2 last. `limits` says that its flag limits a process that is given no pool.
    """

    meaning: Meaning
    flag: str = ""
    split_flag: str = ""
    source: str = ""
    rank: int = 0
    limits: bool = False


class DataRanks(Struct, frozen=True, kw_only=True):
    """How an engine is told of data ranks: groups of devices with a cache and requests of their own, that share one model's
    experts.

    `ranks` reads their number from the engine's options, `told` are the options for so many ranks on so many devices, with
    experts dealt out or not, and `flags` what to type for them. `inside`: the ranks divide the devices of tensor
    parallelism; else they multiply them.
    """

    ranks: Callable[[Mapping[str, Any]], int]
    told: Callable[[int, int, bool], dict[str, Any]]
    flags: Callable[[Mapping[str, Any]], str]
    inside: bool = False


def number_of(options: Mapping[str, Any], name: str) -> int:
    """A count among options as they were typed or passed; 1 where there is none.

    >>> number_of({"dp_size": "8"}, "dp_size"), number_of({}, "dp_size")
    (8, 1)
    """
    text = str(options.get(name, 1))[:6]
    return int(text) or 1 if text.isdecimal() else 1


def switched_on(options: Mapping[str, Any], name: str) -> bool:
    """Whether a switch among options as they were typed or passed is on."""
    return str(options.get(name, ""))[:5].lower() in {"true", "1", "yes", "on"}


class About(Struct, frozen=True, kw_only=True):
    """All that kvplan may ask of an engine without loading it; it costs no import beside this file.

    `roles` name the engine's own option for kvplan's words, `also` further options that decide the same thing.
    `cache_dtypes` are kvplan's dtypes, the widest first, with what to type for each. `weight_formats` are lighter formats that
    its users take weights in, the mildest first, `weight_flags` those that it makes of any checkpoint, `weight_cards` the least
    compute capability (75 is sm_75) of those that not every card multiplies. `command`: pieces of its
    command line: a piece whose value is missing is left out. `engine`, `media`, `audit`, `logs`, `field_logs`, `tables`,
    `tiers` and `commands` say where things are, as `module` or `module:name`.
    """

    name: str  # as typed: "llama.cpp"
    latest: str = ""  # the release whose rules NAME without @VERSION means
    source: str = ""  # what was read: repository or package, with the release or commit
    engine: str = ""  # the engine's class; empty: known, not predicted
    behind: str = ""  # the engine that it starts, and that allocates
    installs: str = ""  # where it keeps models that people name to it
    roles: Mapping[Role, str] = field(default_factory=dict)
    also: Mapping[Role, tuple[str, ...]] = field(default_factory=dict)
    lengths: tuple[str, ...] = ()  # what else bounds the longest request, where that is no role of its own
    offline: tuple[str, str] | None = None  # its option and the value that say: used in a program, not as a server
    cache_dtypes: Mapping[str, str] = field(default_factory=dict)
    weight_formats: tuple[str, ...] = ("fp8", "int4")
    weight_flags: Mapping[str, str] = field(default_factory=dict)  # format -> what loads any checkpoint in it
    weight_cards: Mapping[str, int] = field(default_factory=dict)
    tier_options: tuple[str, ...] = ()  # its own options that fill memory below the device
    reserve: Reserve = Reserve(GIB, "activations, context")
    share: Share = Share(meaning="what its context needs")
    command: tuple[str, ...] = ()
    data_ranks: DataRanks | None = None
    program: str = ""  # what its command line begins with; empty: told in Python, or by nobody
    makers: tuple[str, ...] = ()  # of the devices whose rules were read; empty: its rules ask no device
    rules_of_device: str = ""  # what those rules are called: "CUDA's rules"
    theory: bool = False  # no engine allocates so: the least that a model needs
    read_since: str = ""  # the first release whose rules were read, where cases are recorded of later ones alone
    recorded: str = ""  # what recorded cases hold (tools/make_recorded.py)
    rules: str = ""  # where its storage rules were read, for `kvplan explain`
    media: str = ""  # what images, video and audio are in it; empty: as the model's own processor does
    audit: str = ""
    logs: str = ""
    field_logs: str = ""
    tables: str = ""
    tiers: str = ""  # what it fills below the device: (the engine on a model, what is asked) -> tiers; empty: none is known
    commands: str = ""  # how its command lines are read
    spread: str = ""  # how it deals a model out to unequal devices and the host (`kernel/spreading.py`)
    spread_since: str = ""  # the first release of which that is known
    live: str = ""  # what its running server is asked
    machine_file: str = ""  # how what one start leaves for the next is read
    suffixes: tuple[str, ...] = ()  # files that mean this engine: (".gguf",)
    owners: tuple[str, ...] = ()  # whose repositories mean it: ("mlx-community/",)
    default_on: tuple[str, ...] = ()  # makers of devices whose usual engine it is

    @property
    def predicted(self) -> bool:
        """Whether kvplan predicts its cache."""
        return bool(self.engine)
