"""Which column of a trace holds what, by name; and what whoever asks says of it."""

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, get_args

from msgspec import Struct

from kvplan.errors import OptionError, TraceError, nearest, printable

Role = Literal["arrival", "prompt", "output", "hashes", "images", "height", "width", "image_tokens", "audio", "video"]
Unit = Literal["s", "ms", "us", "ns", ""]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
UNITS: Final[dict[str, int]] = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}  # nanoseconds

#: Names as traces have them, in small letters without spaces and marks; the first that is there counts.
_NAMES: Final[dict[Role, tuple[str, ...]]] = {
    "arrival": (
        "timestamp", "arrivals", "arrivedat", "arrivaltime", "arrival", "arrivaltimes", "arrivalms", "arrivaltimems", "tsms",
        "timestampms", "ts", "requesttime", "starttime", "starttimes", "startms", "createdat", "time", "datetime",
    ),
    "prompt": (
        "contexttokens", "inputlength", "inputlen", "inputtokens", "numprefilltokens", "prompttokens", "promptlength",
        "promptlen", "requesttokens", "numprompttokens", "inputtoks", "prefilltokens",
    ),
    "output": (
        "generatedtokens", "outputlength", "outputlen", "outputtokens", "numdecodetokens", "completiontokens", "responsetokens",
        "responselength", "numoutputtokens", "outputtoks", "decodetokens",
    ),
    "hashes": ("hashids", "blockhashes", "prefixhashes", "hashes"),
    "images": ("images", "numimages", "imagecount", "nimages", "numberofimages"),
    "height": ("imageheight", "imageheightpx", "imgheight", "imageh"),
    "width": ("imagewidth", "imagewidthpx", "imgwidth", "imagew"),
    "image_tokens": ("imagetokens", "numimagetokens", "imagetoks", "mmtokens", "multimodaltokens", "mediatokens", "visiontokens"),
    "audio": ("audios", "audioseconds", "audiodurations", "audioduration", "audiolengths", "audio"),
    "video": ("videos", "videoseconds", "videodurations", "videoduration", "videolengths", "video"),
}  # fmt: skip
#: In place of a column's name: there is none, whatever columns are called.
NONE: Final = "none"
_ENDS: Final = re.compile(r"(?:^|[_\W])(ms|us|ns|millis|milliseconds|micros|seconds|s)$", re.IGNORECASE)
_ENDINGS: Final[dict[str, Unit]] = {"millis": "ms", "milliseconds": "ms", "micros": "us", "seconds": "s"}


class Chosen(Struct, frozen=True, kw_only=True):
    """The columns of a trace by what they hold; `unit` is the arrival's, where its name or whoever asks says it.

    `told` are those that whoever asks named.
    """

    names: dict[Role, str]
    unit: Unit = ""
    told: frozenset[Role] = frozenset()

    def get(self, role: Role) -> str | None:
        """The column of a role, where the trace has one."""
        return self.names.get(role)


def plain(name: str) -> str:
    """A column's name without what spellings differ in.

    >>> plain("Request tokens"), plain("arrival_s")
    ('requesttokens', 'arrivals')
    """
    return re.sub(r"[\W_]", "", name).lower()


def chosen(columns: Sequence[str], given: str | None, *, timed: bool = True) -> Chosen:
    """The columns, those that whoever asks names first.

    Args:
        given: `arrival=ts:ms,prompt=in,output=out`, as much of it as is wanted; `images=none`: no column holds that.
        timed: whether times of arrival are needed.

    Raises:
        OptionError: not in that form, or no such column.
        TraceError: no column of prompts, of outputs or of times.
    """
    told, unit = _told(given, columns)
    known = {plain(column): column for column in reversed(columns)}
    found: dict[Role, str] = dict(told)
    for role in ROLES:
        if role not in found:
            match = next((known[name] for name in _NAMES[role] if name in known), None)
            if match is not None:
                found[role] = match
    found = {role: name for role, name in found.items() if name}
    for role, what in (("prompt", "tokens of the prompts"), ("output", "tokens of the outputs")):
        if role not in found:
            raise TraceError(f"no column of {what}: the trace has {listed(columns)}", hint=f"name it: «columns {role}=NAME»")
    arrival = found.get("arrival")
    if arrival is None and timed:
        raise TraceError(
            f"no column of arrival times: the trace has {listed(columns)}",
            hint="«rate N» puts N requests a second evenly apart, or name the column: «columns arrival=NAME»",
        )
    if arrival is not None and not unit:
        match_ = _ENDS.search(arrival)
        if match_ is not None:
            ending = match_[1].lower()
            unit = _ENDINGS.get(ending) or ending  # type: ignore[assignment]
    return Chosen(names=found, unit=unit, told=frozenset(told))


def _told(given: str | None, columns: Sequence[str]) -> tuple[dict[Role, str], Unit]:
    found: dict[Role, str] = {}
    unit: Unit = ""
    for part in (given or "").split(",") if given else ():
        role, equals, name = part.strip().partition("=")
        if not equals or role not in ROLES or not name:
            raise OptionError(
                f"«columns»: expected something like arrival=ts,prompt=in,output=out, got `{printable(part, 60)}`",
                hint=f"what a column can be: {', '.join(ROLES)}",
            )
        if role == "arrival" and name not in columns and name.rpartition(":")[2] in UNITS:
            name, _, ending = name.rpartition(":")
            unit = ending  # type: ignore[assignment]
        if name == NONE and NONE not in columns:
            name = ""
        elif name not in columns:
            near = nearest(name, columns)
            raise OptionError(
                f"«columns»: the trace has no column `{printable(name, 60)}`, it has {listed(columns)}",
                hint=f"did you mean `{near}`?" if near else "",
            )
        found[role] = name
    return found, unit


def listed(columns: Iterable[str]) -> str:
    """The columns in words, the first of them.

    >>> listed(["a", "b"])
    '`a`, `b`'
    """
    names = [f"`{printable(column, 30)}`" for column in columns]
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return (", ".join(names[:12]) or "no columns") + more
