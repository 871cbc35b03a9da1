"""The GPU catalogue: memory as the driver reports it, with the source of every entry (kvplan/domain/gpus.yaml)."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.errors import InputError, OptionError, nearest
from kvplan.units import MIB

DATA: Final = Path(__file__).resolve().with_name("gpus.yaml")
_TEXTS: Final = ("id", "vendor", "arch", "memory_kind", "reported_by", "compute_capability", "interconnect", "note")
_NUMBERS: Final = ("bandwidth_gb_s", "bf16_dense_tflops")
_BYTES: Final = ("reported_mib", "reported_bytes", "cuda_total_bytes")
_LISTS: Final = ("sources", "unverified_fields")
_SIZED: Final = re.compile(r"(.+)-(\d{1,4})gb")
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

    @property
    def capability(self) -> int:
        """`9.0` as 90, the way CUDA names architectures; 0 when it is not known."""
        major, _, minor = self.compute_capability.partition(".")
        return int(major) * 10 + int(minor or 0) if major.isdecimal() and (minor or "0").isdecimal() else 0

    @property
    def sizes(self) -> str:
        """The marketed sizes in words: `80 GB`, `8/16/24 GB`."""
        return "/".join(map(str, self.marketed_gb)) + " GB"


@cache
def gpus() -> tuple[Gpu, ...]:
    """Every GPU of the catalogue, in the file's order."""
    return read_gpus(DATA.read_bytes(), "gpus.yaml")


def gpu(name: str) -> Gpu:
    """The GPU called `name`: its id, or enough of it to mean one (`h200`, `4090`).

    Where a card is sold as a module and as a PCIe card of the same name, the name alone means the module (SXM). Of a chip
    that is sold in several sizes `NAME-SIZEgb` is the one of that size (`apple-m4-32gb`).

    Raises:
        OptionError: none or several; the message names the nearest.
    """
    wanted = name.strip().lower()
    for entry in gpus():
        if entry.id == wanted:
            return entry
    parts = [part for part in wanted.replace("_", "-").replace(" ", "-").split("-") if part]
    found = [entry for entry in gpus() if parts and all(part in entry.id.split("-") for part in parts)]
    modules = [entry for entry in found if "sxm" in entry.id.split("-")]
    if len(modules) == 1 and len({entry.arch for entry in found}) == 1:
        found = modules
    if len(found) == 1:
        return found[0]
    several = None if found else _of_several_sizes(wanted)
    if several is not None:
        return several
    if found:
        raise OptionError(f"`{name[:60]}` may be several GPUs", hint=f"one of {', '.join(entry.id for entry in found)}")
    near = nearest(wanted, (entry.id for entry in gpus()))
    raise OptionError(
        f"unknown GPU `{name[:60]}`", hint=(f"did you mean `{near}`? " if near else "") + "`kvplan gpus` lists all of them"
    )


def _of_several_sizes(wanted: str) -> Gpu | None:
    """`NAME-SIZEgb` of a chip that is sold in several sizes; None where NAME is no such chip.

    Raises:
        OptionError: it is not sold in that size.
    """
    parts = _SIZED.fullmatch(wanted)
    if parts is None:
        return None
    try:
        entry = gpu(parts[1])
    except OptionError:
        return None
    size = int(parts[2])
    if size not in entry.marketed_gb:
        if len(entry.marketed_gb) == 1:
            return None
        raise OptionError(f"{entry.id} is sold with {entry.sizes}, not with {size:,} GB", hint="`kvplan gpus` lists the sizes")
    return replace(entry, id=f"{entry.id}-{size}gb", marketed_gb=(size,)) if len(entry.marketed_gb) > 1 else entry


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
