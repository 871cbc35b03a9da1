"""The GPU catalogue: memory as the driver reports it, with the source of every entry (kvplan/domain/gpus.yaml)."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain import gpu_names
from kvplan.errors import InputError, OptionError, nearest
from kvplan.units import GIB, MIB, parse_count, parse_size

DATA: Final = Path(__file__).resolve().with_name("gpus.yaml")
MORE: Final = DATA.with_name("gpus_more.json")
#: gpus.yaml as it was read when the index was made (`make index`): loading the YAML parser costs more than most answers.
KEPT: Final = DATA.with_name("gpus_kept.json")
#: Words that many cards have: alone they name none.
_SHARED: Final = frozenset({"pro", "max", "ultra", "ti", "super", "laptop", "sxm", "pcie", "ada", "d", "ai", "xt", "xtx"})
_TEXTS: Final = ("id", "vendor", "arch", "memory_kind", "reported_by", "compute_capability", "interconnect", "note")
_NUMBERS: Final = ("bandwidth_gb_s", "bf16_dense_tflops")
_BYTES: Final = ("reported_mib", "reported_bytes", "cuda_total_bytes")
_LISTS: Final = ("sources", "unverified_fields")
_KEYS: Final = frozenset({*_TEXTS, *_NUMBERS, *_BYTES, *_LISTS, "marketed_gb"})


class Gpu(Struct, frozen=True, kw_only=True):
    """One accelerator. `reported_bytes` is what the driver shows (None: not recorded); a process can take less.

    `cuda_total_bytes` is what `torch.cuda` calls the total, where it is known; `marketed_gb` the number on the box,
    one entry a size sold; `unverified` names fields that no source in `sources` states.
    """

    id: str
    vendor: str
    arch: str
    memory_kind: str  # "discrete", or "unified" with the CPU's
    marketed_gb: tuple[int, ...]
    sources: tuple[str, ...]
    reported_bytes: int | None = None
    reported_by: str = ""
    cuda_total_bytes: int | None = None
    bandwidth_gb_s: float | None = None  # 10**9 bytes per second
    bf16_dense_tflops: float | None = None
    compute_capability: str = ""
    interconnect: str = ""
    note: str = ""
    driver_name: str = ""  # as its driver prints it, of a device that was asked itself
    unverified: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Gpu {self.id} · {self.sizes}>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, as `kvplan gpus -f json` shows it."""
        return {
            "id": self.id,
            "vendor": self.vendor,
            "arch": self.arch,
            "memory_kind": self.memory_kind,
            "marketed_gb": list(self.marketed_gb),
            "reported_bytes": self.reported_bytes,
            "reported_by": self.reported_by,
            "cuda_total_bytes": self.cuda_total_bytes,
            "windows_total_bytes": self.windows_total_bytes,
            "bandwidth_gb_s": self.bandwidth_gb_s,
            "bf16_dense_tflops": self.bf16_dense_tflops,
            "compute_capability": self.compute_capability,
            "interconnect": self.interconnect,
            "note": self.note,
            "unverified": list(self.unverified),
            "sources": list(self.sources),
        }

    @property
    def capability(self) -> int:
        """`9.0` as 90, the way CUDA names architectures; 0 when it is not known."""
        major, _, minor = self.compute_capability.partition(".")
        return int(major) * 10 + int(minor or 0) if major.isdecimal() and (minor or "0").isdecimal() else 0

    @property
    def windows_total_bytes(self) -> int | None:
        """What programs see in all under Windows and WSL; None where nobody printed it. A process is lent 80 to 95 % of it."""
        from kvplan.domain import gpu_totals

        found = gpu_totals.totals(self.id)
        return None if found is None else found.wddm

    @property
    def most_bytes(self) -> int | None:
        """What the driver shows at most: as recorded, else the number on the box, which is in GiB; None for several sizes."""
        return self.reported_bytes or (self.marketed_gb[0] * GIB if len(self.marketed_gb) == 1 else None)

    @property
    def sizes(self) -> str:
        """The marketed sizes in words: `80 GB`, `8/16/24 GB`."""
        return "/".join(map(str, self.marketed_gb)) + " GB"


class Kept(Struct, frozen=True, kw_only=True):
    """The entries of gpus.yaml, and a checksum of the text that they were read from."""

    checksum: int
    gpus: tuple[Gpu, ...]


@cache
def gpus() -> tuple[Gpu, ...]:
    """Every GPU of the catalogue, in the file's order; of what was kept of that text, where something was."""
    text = DATA.read_bytes()
    kept = msgspec.json.decode(KEPT.read_bytes(), type=Kept) if KEPT.is_file() else None
    return kept.gpus if kept is not None and kept.checksum == crc32(text) else read_gpus(text, "gpus.yaml")


@cache
def more_gpus() -> tuple[Gpu, ...]:
    """Cards that are found by name and never proposed: laptops, older ones, those that nobody serves on."""
    return msgspec.json.decode(MORE.read_bytes(), type=tuple[Gpu, ...])


def gpu(name: str) -> Gpu:
    """The GPU called `name`: its id, enough of it to mean one (`h200`, `4090`), or as drivers and torch print it.

    Where a card is sold as a module and as a PCIe card of the same name, the name alone means the module (SXM). Of a chip
    that is sold in several sizes `NAME-SIZEgb` is the one of that size (`apple-m4-32gb`). A size alone (`24GiB`) is any card
    that has so much.

    Raises:
        OptionError: none, several, or several cards at once (`h100:8`).
    """
    wanted, count = counted(name)
    if count is not None:
        raise OptionError(
            f"one GPU is meant here, got `{name.strip()[:60]}`", hint="«tensor_parallel N» splits a model over several"
        )
    found = _found(wanted)
    if len(found) == 1:
        return found[0]
    not_sold = _not_sold(wanted)
    if not_sold is not None:
        raise not_sold
    if found:
        raise OptionError(f"`{name.strip()[:60]}` may be several GPUs", hint=f"one of {_listed(found)}")
    raise _unknown(name.strip(), wanted)


def counted(name: str) -> tuple[str, int | None]:
    """A card's name and how many there are: `h100:8`, `8xh100`, `h100 x 8`; None where it does not say.

    Raises:
        OptionError: a number of cards that is none.

    >>> counted("8xh100"), counted("rtx-4090"), counted("rx 7900 xtx")
    (('h100', 8), ('rtx-4090', None), ('rx 7900 xtx', None))
    """
    text, colon, number = name.strip().partition(":")
    if colon and not _found(name.strip()):  # a driver's name may have a colon
        return text.strip(), parse_count(number, what="«gpu NAME:N»")
    if not _found(text):
        for rest, count in gpu_names.counts(text):
            if count and (_found(rest) or rest.lower() in {"all", "local"}):
                return rest, count
    return name.strip(), None


@lru_cache(maxsize=1024)
def _found(name: str) -> tuple[Gpu, ...]:
    """The cards that a name may mean: the nearest of those that have all of its words."""
    for entry in gpus():
        if entry.id == name.lower():
            return (entry,)
    asked = gpu_names.words(name)
    near = _nearest(asked, gpus())
    if len(near) != 1 or gpu_names.beyond(asked, gpu_names.words(near[0].id)):
        for entry in more_gpus():
            if entry.id == name.lower():
                return (entry,)
        every = _nearest(asked, (*gpus(), *more_gpus()))
        # of one name in two sizes the card that everybody has (3060: 12 GB); else whoever asks must say
        near = near if len(near) == 1 and near[0] in every and _as_near(asked, near[0], every) else every
    if near:
        return tuple(_of_size(entry, asked.size) for entry in near)
    return (*_any_of_size(name), *_printed(name))


def _nearest(asked: gpu_names.Words, cards: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """Those that fit, and that alone which has no further word where there is one."""
    if not asked.plain - _SHARED:
        return ()
    possible = (card for card in cards if gpu_names.has_letters(asked, card.id))
    fitting = [card for card in possible if gpu_names.fits(asked, gpu_names.words(card.id), card.marketed_gb)]
    exact = [card for card in fitting if not gpu_names.beyond(asked, gpu_names.words(card.id))]
    return tuple(exact or fitting)


def _as_near(asked: gpu_names.Words, card: Gpu, others: Iterable[Gpu]) -> bool:
    """Whether the others differ from a card in nothing but their size, and it is as sure as they are."""
    own = gpu_names.words(card.id)
    return not gpu_names.beyond(asked, own) and all(gpu_names.words(other.id).plain == own.plain for other in others)


def _of_size(entry: Gpu, size: int | None) -> Gpu:
    """The chip in that size, of one that is sold in several."""
    if size is None or len(entry.marketed_gb) == 1 or size not in entry.marketed_gb:
        return entry
    return replace(entry, id=f"{entry.id}-{size}gb", marketed_gb=(size,))


def _any_of_size(name: str) -> tuple[Gpu, ...]:
    """A card of which nothing is known but its memory: `24GiB`."""
    if not name[:1].isdigit():
        return ()
    try:
        size = parse_size(name)
    except OptionError:
        return ()
    if not 0 < size < 2**50:
        return ()
    found = Gpu(
        id="".join(name.lower().split()),
        vendor="",
        arch="",
        memory_kind="discrete",
        marketed_gb=(max(1, round(size / GIB)),),
        sources=("given",),
        reported_bytes=size,
        reported_by="its size as given",
    )
    return (found,)


def _printed(name: str) -> tuple[Gpu, ...]:
    """The cards that a driver prints so."""
    from kvplan.domain import gpu_totals

    ids = gpu_totals.named(name)
    return tuple(card for card in (*gpus(), *more_gpus()) if card.id in ids)


def _not_sold(name: str) -> OptionError | None:
    """The error about a chip's own id with a size that it is not sold with; None for another name."""
    chip, _, size = name.lower().rpartition("-")
    amount = size.removesuffix("gb")
    if not (size.endswith("gb") and amount.isascii() and amount.isdigit() and len(amount) <= 4):
        return None
    entry = next((card for card in gpus() if card.id == chip and len(card.marketed_gb) > 1), None)
    if entry is None or int(amount) in entry.marketed_gb:
        return None
    said = f"{entry.id} is sold with {entry.sizes}, not with {int(amount):,} GB"
    return OptionError(said, hint="`kvplan gpus` lists the sizes")


def _unknown(name: str, wanted: str) -> OptionError:
    """The error about a name that means no card, with cards of the same family: a wrong brand helps nobody."""
    asked, cards = gpu_names.words(wanted), (*gpus(), *more_gpus())
    if asked.plain and asked.plain <= {"mac", "macbook", "pro", "air", "mini", "studio", "imac", "m"}:
        return OptionError(f"`{name[:60]}` may be any Mac", hint="name the chip and its memory: `m4-max-64gb`")
    hint = "`kvplan gpus` lists all of them; a size alone is any card, such as `24GiB`"
    if asked.size is not None:
        for entry in _nearest(replace(asked, size=None), cards):
            if len(entry.marketed_gb) > 1:
                said = f"{entry.id} is sold with {entry.sizes}, not with {asked.size:,} GB"
                return OptionError(said, hint="`kvplan gpus` lists the sizes")
            said = f"did you mean `{entry.id}`? of a card that has been given another size say «memory {asked.size}GiB»"
            return OptionError(f"unknown GPU `{name[:60]}`", hint=said)
    models = {word for word in asked.plain if any(map(str.isdigit, word))}
    related = [card for card in cards if models & gpu_names.words(card.id).plain] or [
        card
        for card in cards
        if any(own.startswith(word) for own in gpu_names.words(card.id).plain for word in models if len(word) > 2)
    ]
    near = nearest(wanted.lower(), (entry.id for entry in related)) or (related[0].id if len(related) == 1 else None)
    said = f"did you mean `{near}`? " if near else f"one of {_listed(related)}? " if 0 < len(related) <= 6 else ""
    return OptionError(f"unknown GPU `{name[:60]}`", hint=f"{said}{hint}")


def _listed(cards: Sequence[Gpu], most: int = 8) -> str:
    return ", ".join(card.id for card in cards[:most]) + (f" and {len(cards) - most} more" if len(cards) > most else "")


def read_gpus(text: bytes, source: str) -> tuple[Gpu, ...]:
    """Decode a catalogue strictly.

    Raises:
        InputError: not YAML, an unknown or missing key, a value of the wrong type, a contradiction or an id twice.
    """
    import yaml

    try:
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader, in C
    except yaml.YAMLError as problem:
        raise InputError(f"{source}: not valid YAML", hint="see kvplan/domain/gpus.yaml") from problem
    if not isinstance(data, Mapping) or not isinstance(data.get("gpus"), list):
        raise InputError(f"{source}: `gpus` must be a list", hint="see kvplan/domain/gpus.yaml")
    found = tuple(_gpu(entry, f"{source}: gpus[{i}]") for i, entry in enumerate(data["gpus"]))
    if len({entry.id for entry in found}) != len(found):
        raise InputError(f"{source}: an id occurs twice", hint="ids are unique")
    return found


def _gpu(entry: object, where: str) -> Gpu:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} must be an object", hint="see kvplan/domain/gpus.yaml")
    for key in entry:
        if key not in _KEYS:
            near = nearest(str(key), _KEYS)
            raise InputError(f"{where}: unknown key `{str(key)[:40]}`", hint=f"did you mean `{near}`?" if near else "remove it")
    values = {key: _checked(key, entry[key], f"{where}.{key}") for key in entry}
    for key in ("id", "vendor", "arch", "memory_kind", "marketed_gb", "sources"):
        if not values.get(key):
            raise InputError(f"{where}: `{key}` is missing", hint="every entry names its size and its sources")
    mebibytes = values.pop("reported_mib", None)
    values["unverified"] = values.pop("unverified_fields", ())
    if mebibytes is not None:
        exact = values.setdefault("reported_bytes", mebibytes * MIB)
        if exact // MIB != mebibytes:
            raise InputError(f"{where}: `reported_mib` and `reported_bytes` differ", hint="give one of them")
    return Gpu(**values)


def _checked(key: str, value: Any, where: str) -> Any:
    """A value of the type that its key asks for."""
    if key in _TEXTS and isinstance(value, str):
        return value
    if key in _LISTS and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if key in _NUMBERS and isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 10**9:
        return float(value)
    if key in _BYTES and _whole(value):
        return value
    if key == "marketed_gb":
        sizes = value if isinstance(value, list) else [value]
        if sizes and all(_whole(size) for size in sizes):
            return tuple(sizes)
    raise InputError(f"{where}: `{str(value)[:40]}` is not what this key holds", hint="see kvplan/domain/gpus.yaml")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**60
