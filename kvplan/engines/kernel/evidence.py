"""What stands behind a number, judged by the combination: memory kind x cache dtype x engine x release x maker of the device.

`recorded`: recorded cases of that engine hold every memory kind of the model at that cache dtype, at a release from which no
rule changed, on a device of that maker (where one was named), all of them exact (`tests/golden`, checked by `kvplan audit` in
the tests). `same rule`: the kinds are recorded, and so is how the dtype stores them, though not together, or on another device
of which the rules are the same. `from source`: the rule was read in the engine's source, and no recorded case holds it.
`theory`: what a model needs at least; no engine allocates so. `hypothetical`: a layout that no checkpoint has: a what-if, or
a design described by hand. `inferred`: an unknown architecture, read by its shape: an upper bound.

What is recorded is data, written from the recorded cases by tools/make_recorded.py into `recorded.py` of each engine.
"""

from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import import_module
from typing import Final, NamedTuple

from msgspec import Struct, field

from kvplan.domain.allocation import Evidence
from kvplan.domain.dtypes import ALIASES, DTYPES
from kvplan.domain.model import Model
from kvplan.domain.words import memory_kinds
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.releases import Release, parse_version

#: Memories whose bytes no cache dtype decides: states have dtypes of their own, and what is shared owns nothing.
_WITHOUT_DTYPE: Final = ("recurrent", "shared")
#: The maker of a device that is none: the engine's code ran on a CPU.
HOST: Final = ""


class Records(Struct, frozen=True, kw_only=True):
    """What an engine's recorded cases hold.

    `held`: memory kind -> cache dtype -> maker -> releases. `changes`: releases from which a rule of the cache was another;
    `changes_of` those of single model types.
    """

    held: Mapping[str, Mapping[str, Mapping[str, tuple[Release, ...]]]] = field(default_factory=dict)
    changes: tuple[Release, ...] = ()
    changes_of: Mapping[str, tuple[Release, ...]] = field(default_factory=dict)

    @property
    def first(self) -> Release:
        """The oldest release that is recorded."""
        makers = (makers for dtypes in self.held.values() for makers in dtypes.values())
        return min(release for of in makers for releases in of.values() for release in releases)

    @property
    def kinds(self) -> frozenset[str]:
        """Every kind of memory that is recorded."""
        return frozenset(self.held)


def records(about: About) -> Records:
    """What the recorded cases of an engine hold."""
    return _records(about.recorded) if about.recorded else Records()


@cache
def _records(where: str) -> Records:
    module = import_module(where)
    return Records(held=module.HELD, changes=module.CHANGES, changes_of=module.CHANGES_OF)


def evidence(
    about: About, release: Release, model: Model, stored: str, *, maker: str | None = None, read: Model | None = None
) -> Evidence:
    """What stands behind an engine's numbers.

    Args:
        about: the engine.
        release: of the engine.
        model: that is asked about.
        stored: the cache dtype; keys' and values' with a slash where they differ.
        maker: of the device, where one is named.
        read: the model as the engine reads it, where that is another.
    """
    if model.inferred:
        return "inferred"
    if about.theory:
        return "theory"
    if model.by_hand:
        return "hypothetical"
    found = records(about)
    release = _padded(release)
    if not found.held or not _first(about.recorded) <= release <= _padded(parse_version(about.latest)):
        return "from source"  # nobody has recorded anything so old, or read the rules of anything so new
    asked = _Asked(about.recorded, about.makers, release, found.changes_of.get(model.text_type, ()), maker)
    weakest: Evidence = "recorded"
    for kind in memory_kinds(read or model):
        for dtype in stored.split("/"):
            strength = _judged(asked, kind, ALIASES.get(dtype, dtype))
            if strength == "from source":
                return strength
            if strength == "same rule":
                weakest = strength
    return weakest


@cache
def _first(where: str) -> Release:
    return _records(where).first


class _Asked(NamedTuple):
    """One engine at one release on one maker's devices."""

    where: str  # its recorded cases
    makers: tuple[str, ...]  # whose devices were studied with it
    release: Release
    changed: tuple[Release, ...]  # where the model type's own rules did
    maker: str | None

    @property
    def _found(self) -> Records:
        return _records(self.where)

    def judge(self, kind: str, dtype: str) -> Evidence:
        """One kind of memory at one cache dtype."""
        named = not kind.startswith(_WITHOUT_DTYPE)
        held = self._found.held.get(kind, {})
        cases = held.get(dtype, {}) if named else _merged(held)
        if self._here(cases, self.maker):
            return "recorded"
        foreign = self.maker is not None and bool(self.makers) and self.maker not in self.makers
        if foreign or not self._here(_merged(held), None):
            return "from source"
        alike = self._here(_merged(self._stored_so(kind, dtype)), None)
        return "same rule" if alike or not named else "from source"

    def _stored_so(self, kind: str, dtype: str) -> Mapping[str, Mapping[str, tuple[Release, ...]]]:
        """Recorded cases that show how `dtype` stores such a memory: of any memory, where an element is so many bytes and
        nothing beside; else of one of the same form, for scales and packing go by its shape.
        """
        row = DTYPES.get(dtype)
        plain = row is not None and not row.packed and not row.head_scale_bytes
        form = kind.partition("/")[0]
        alike = (dtypes for other, dtypes in self._found.held.items() if plain or other.partition("/")[0] == form)
        return {str(number): dtypes[dtype] for number, dtypes in enumerate(alike) if dtype in dtypes}

    def _here(self, makers: Mapping[str, tuple[Release, ...]], maker: str | None) -> bool:
        """Whether one of the cases is of this maker's device and under the rules of this release."""
        cases = (release for of, releases in makers.items() if maker in {None, of} for release in releases)
        return any(self._same_rules(release) for release in cases)

    def _same_rules(self, recorded: Release) -> bool:
        first, last = sorted((_padded(recorded), self.release))
        return not any(first < _padded(change) <= last for change in (*self._found.changes, *self.changed))


@lru_cache(maxsize=1024)  # a sweep asks the same of every model, and there are hundreds of recorded releases to look through
def _judged(asked: _Asked, kind: str, dtype: str) -> Evidence:
    return asked.judge(kind, dtype)


def _padded(release: Release) -> Release:
    """`0.11` as `0.11.0`."""
    return (*release, 0, 0, 0)[: max(3, len(release))]


def _merged(held: Mapping[str, Mapping[str, tuple[Release, ...]]]) -> Mapping[str, tuple[Release, ...]]:
    """Every dtype's cases together."""
    found: dict[str, tuple[Release, ...]] = {}
    for makers in held.values():
        for maker, releases in makers.items():
            found[maker] = (*found.get(maker, ()), *releases)
    return found
