"""A class run with few of its layers, and what is kept in all of them; all layers are run where that cannot be told.

Two small stacks are run, and the first is written as a third before that is run (`depth`). Then the true stack is built, without
being run: each of its layers must be made as the one that stands for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from kvplan.questions.measure.depth import LAYERS, Cut, Deeper, chosen_in_code, cut, learned, unlike
from kvplan.questions.measure.observe import Clock, observe, run_again
from kvplan.questions.measure.observed import NotMeasured, Observation, Point
from kvplan.questions.measure.strange import Stranger, not_built
from kvplan.questions.measure.subjects import words_of

#: Shares of the time: of the first small stack, and of building the true one.
_FIRST: Final = 0.5
_BUILD: Final = 0.3
#: Attributes of a module that say which layer it is.
_NUMBERS: Final = ("idx", "index", "layer_id", "layer_num", "layer_no")


class _Untold(Exception):
    """Few layers do not tell what all keep; why, in words."""


def observe_class(stranger: Stranger, config: Mapping[str, Any], seconds: float) -> Observation:
    """Run a class with few of its layers where these tell what all of them keep, else with all.

    Args:
        stranger: the class.
        config: what it is built from.
        seconds: about how much processor time.

    Raises:
        NotMeasured: its code fails, or keeps nothing.
    """
    clock = Clock()
    try:
        return replace(_few(stranger, config, seconds, clock), seconds=clock())
    except _Untold as untold:
        why = str(untold)
    left = max(1.0, seconds - clock())
    seen = observe(stranger.subject(config), left)
    remarks = (f"all {seen.facts.layers:,} layers were run: {why}"[:400],) if why and seen.facts.layers else ()
    return replace(seen, remarks=(*remarks, *seen.remarks), seconds=clock())


def _few(stranger: Stranger, config: Mapping[str, Any], seconds: float, clock: Clock) -> Observation:
    """What stacks of three depths show of all layers.

    Raises:
        _Untold: they do not.
        NotMeasured: the true stack is not built.
    """
    values, found = _cut(stranger, config)
    taken = frozenset(v for v in values.values() if isinstance(v, int) and not isinstance(v, bool))
    depths = found.depths(taken)
    if depths is None:
        raise _Untold("a stack that has every kind of them is hardly smaller")
    for name, text in stranger.sources():
        line = chosen_in_code(text)
        if line:
            raise _Untold(f"the code chooses by the layer's number ({name}:{line})")
    full = _with_lists(config, values, found)
    try:
        subject = stranger.subject(found.config(full, depths[0]))
        seen = observe(subject, _FIRST * seconds)
        if seen.facts.layers != depths[0]:
            raise _Untold("another key says how many layers there are")
        second = _points(stranger, found.config(full, depths[1]), [seen.points[0], *_checks(seen)])
        deeper = learned(found, [seen.points[0], *_checks(seen)], second, depths[:2])
        built = -clock()
        third = stranger.subject(found.config(full, depths[2]))
        built += clock()
        last = run_again(third, _checks(seen))
    except (NotMeasured, KeyError, TypeError, ValueError, IndexError) as problem:
        raise _Untold(f"fewer do not run: {words_of(problem)}") from problem
    _compare(deeper, seen, depths, second, last)
    remarks = [*seen.remarks]
    if built * found.layers / depths[2] > _BUILD * max(seconds - clock(), 0.0):
        remarks.append(f"all {found.layers:,} layers were not built to be compared, for want of time")
    else:
        _built_alike(stranger, config, found, subject.network, depths[0])
    return replace(
        seen,
        facts=replace(seen.facts, layers=found.layers),
        points=tuple(deeper.point(point, found.layers) for point in seen.points),
        remarks=tuple(remarks),
        depths=depths,
    )


def _cut(stranger: Stranger, config: Mapping[str, Any]) -> tuple[dict[str, Any], Cut]:
    """The part of the config that has the layers, and how they repeat themselves."""
    try:
        values, section = stranger.section(config)
        found = cut(values, section)
    except MemoryError:
        raise
    except Exception as problem:  # of a stranger's config class, which says it again where it is built
        raise _Untold("") from problem
    if isinstance(found, str):
        raise _Untold(found)
    return values, found


def _with_lists(config: Mapping[str, Any], values: Mapping[str, Any], found: Cut) -> dict[str, Any]:
    """The config with what the cut changes, where only the class's own defaults had it."""
    full = dict(config)
    held = full
    for step in found.section:
        held[step] = dict(held.get(step) or {})
        held = held[step]
    names = {path.partition("/")[0] for path in (*found.lists, *found.places)}
    if not any(name in held for name in LAYERS):
        names |= {name for name in LAYERS if values.get(name) == found.layers}
    for name in names:
        held.setdefault(name, values[name])
    return full


def _checks(seen: Observation) -> list[Point]:
    return [point for point in seen.points if point.check]


def _points(stranger: Stranger, config: Mapping[str, Any], points: Sequence[Point]) -> list[Point]:
    return run_again(stranger.subject(config), points)


def _compare(
    deeper: Deeper, seen: Observation, depths: tuple[int, int, int], second: Sequence[Point], last: Sequence[Point]
) -> None:
    """Whether the first stack says what was kept by itself, by the second and by the third."""
    checks = _checks(seen)
    asked = [(depths[0], seen.points[0], seen.points[0]), *((depths[0], point, point) for point in checks)]
    asked += [(depths[1], point, real) for point, real in zip([seen.points[0], *checks], second, strict=True)]
    asked += [(depths[2], point, real) for point, real in zip(checks, last, strict=True)]
    for depth, point, real in asked:
        other = unlike(deeper.point(point, depth), real)
        if other:
            raise _Untold(f"of {depth} layers, {other} is not as {depths[0]} layers say")


def _built_alike(stranger: Stranger, config: Mapping[str, Any], found: Cut, small: Any, depth: int) -> None:
    """Whether each layer of the true stack is made as the one that stands for it.

    Raises:
        NotMeasured: the true stack is not built.
        _Untold: one is not.
    """
    try:
        whole = stranger.built(config, "meta")
    except MemoryError:
        raise
    except Exception as problem:  # whatever the code raises is its answer
        try:
            whole = stranger.built(config, "cpu")
        except Exception:
            raise not_built(problem, stranger.file, stranger.name) from problem
    few, all_ = _stacks(small, depth), _stacks(whole, found.layers)
    if not few or few.keys() != all_.keys():
        raise _Untold("its modules are not a list of so many layers")
    for name, layers in all_.items():
        mine, theirs = _made(few[name]), _made(layers)
        for number, made in enumerate(theirs):
            if made != mine[found.place(number, depth, found.layers)]:
                raise _Untold(f"layer {number} is made otherwise than the config lets expect")


def _stacks(network: Any, depth: int) -> dict[str, list[Any]]:
    """Modules that hold as many others, by number."""
    numbers = [str(number) for number in range(depth)]
    return {name: list(module._modules.values()) for name, module in network.named_modules() if list(module._modules) == numbers}


def _made(layers: Sequence[Any]) -> list[dict[str, Any]]:
    """How each layer is made: its classes, the shapes of its weights, and plain attributes, except the layer's own number."""
    found = [dict(_facts(layer)) for layer in layers]
    counted: dict[str, set[int]] = {}
    seen: dict[str, set[Any]] = {}
    for number, facts in enumerate(found):
        for key, value in facts.items():
            if isinstance(value, int) and not isinstance(value, bool):
                counted.setdefault(key, set()).add(value - number)
                seen.setdefault(key, set()).add(value)
    numbers = {key for key, differences in counted.items() if len(differences) == 1 and len(seen[key]) > 1}
    return [{key: value for key, value in facts.items() if key not in numbers} for facts in found]


def _facts(layer: Any) -> Iterator[tuple[str, Any]]:
    for name, module in layer.named_modules():
        yield f"{name}:", type(module).__qualname__
        for kind in (module._parameters, module._buffers):
            for key, tensor in kind.items():
                yield f"{name}:{key}", None if tensor is None else (tuple(tensor.shape), str(tensor.dtype))
        for key, value in vars(module).items():
            if not key.startswith("_") and _is_plain(value) and not any(word in key.lower() for word in _NUMBERS):
                yield f"{name}.{key}", value


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return len(value) <= 16 and all(isinstance(one, str | int) for one in value)
    return value is None or isinstance(value, str | int)
