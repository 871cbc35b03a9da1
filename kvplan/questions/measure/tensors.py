"""The tensors that live on from step to step: in whatever `forward` handed back, and on the modules themselves."""

from collections import deque
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from kvplan.errors import printable
from kvplan.questions.measure.observed import MOST_TENSORS, Held, NotMeasured

_DEEPEST: Final = 24  # objects inside objects
_LISTS: Final = (list, tuple, deque)
_SIZED: Final = (list, tuple, deque, dict, set, frozenset)
#: What holds no tensors, or leads back to everything.
_CLOSED: Final = (str, bytes, int, float, complex, type, ModuleType, FunctionType, MethodType, BuiltinFunctionType)
#: Of a module: its parts, which are visited by themselves, its weights, and what torch and the library keep there.
_TORCHS_OWN: Final = frozenset({"_parameters", "_modules", "_non_persistent_buffers_set", "config", "generation_config"})
_HOOKS: Final = ("_forward_", "_backward_", "_state_dict_", "_load_state_dict_", "_is_full_")

#: A tensor, and the names and places that lead to it.
Reached = tuple[tuple[str, ...], Any]
#: What tells whether a tensor is still the same: where it lies, how often it was written, its shape.
Mark = tuple[int, int, tuple[int, ...]]


def inside(value: Any) -> list[Reached]:
    """Every tensor inside a cache object: attributes, mappings, lists and what they hold, each once."""
    return list(_walk(value, (), set(), 0))


def on_modules(network: Any) -> list[Reached]:
    """Every tensor that hangs on a module and is none of its weights: buffers, attributes, and what those hold."""
    weights = {id(weight) for weight in network.parameters()}
    seen: set[int] = set(weights)
    found: list[Reached] = []
    for name, module in network.named_modules():
        held = {**vars(module), **module._buffers}
        start: tuple[str, ...] | None = None
        for key, value in held.items():
            if _closed(value) or key in _TORCHS_OWN or key == "_buffers" or key.startswith(_HOOKS):
                continue
            start = tuple(_steps_of(name)) if start is None else start
            found += _walk(value, (*start, _word(key)), seen, len(start))
            _bounded(found)
    return found


def _closed(value: Any) -> bool:
    """Whether something surely holds no tensor."""
    return value is None or isinstance(value, _CLOSED) or (isinstance(value, _SIZED) and not value)


def marks(reached: list[Reached]) -> dict[tuple[str, ...], Mark]:
    """What each tensor is at this moment; the caller keeps the tensors, so that no other can take their place."""
    return {path: _mark(tensor) for path, tensor in reached}


def as_held(
    returned: list[Reached],
    own: list[Reached],
    before: Mapping[tuple[str, ...], Mark],
    at_last: Mapping[tuple[str, ...], Mark],
) -> tuple[Held, ...]:
    """What a run left: all of a returned cache, and on modules what is new or was written since `before`.

    `at_last` are the marks before the last decode step.
    """
    found: list[Held] = []
    storages: set[int] = set()
    kept = [(path, tensor, False) for path, tensor in returned]
    kept += [(path, tensor, True) for path, tensor in own if before.get(path) != _mark(tensor)]
    for path, tensor, on_module in kept:
        storage = tensor.untyped_storage()
        first = storage._cdata not in storages
        storages.add(storage._cdata)
        found.append(
            Held(
                path=path,
                shape=tuple(int(size) for size in tensor.shape),
                dtype=str(tensor.dtype).removeprefix("torch."),
                view_bytes=tensor.numel() * tensor.element_size(),
                storage_bytes=int(storage.nbytes()) if first else 0,
                own=on_module,
                stepped=at_last.get(path) != _mark(tensor),
            )
        )
    return tuple(found)


def _mark(tensor: Any) -> Mark:
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.untyped_storage()._cdata, version, tuple(tensor.shape)


def _walk(value: Any, path: tuple[str, ...], seen: set[int], depth: int) -> Iterator[Reached]:
    if _closed(value) or id(value) in seen:
        return
    if hasattr(value, "untyped_storage"):
        seen.add(id(value))
        yield path, value
        return
    if depth > _DEEPEST:
        return
    seen.add(id(value))
    for step, part in _parts(value):
        yield from _walk(part, (*path, step), seen, depth + 1)


def _parts(value: Any) -> list[tuple[str, Any]]:
    """What an object holds, by name or place; a module's tensors are found on the module."""
    if isinstance(value, Mapping):
        numbered = all(isinstance(key, int) for key in value)
        return [(f"#{key}/{len(value)}" if numbered else _word(key), part) for key, part in list(value.items())[:MOST_TENSORS]]
    if isinstance(value, _LISTS):
        fields = getattr(value, "_fields", None)
        if fields:  # a named tuple
            return [(_word(name), part) for name, part in zip(fields, value, strict=True)]
        return [(f"#{place}/{len(value)}", part) for place, part in enumerate(list(value)[:MOST_TENSORS])]
    if hasattr(value, "named_modules") or hasattr(value, "to_diff_dict"):  # a module; a config of transformers
        return []
    held = dict(getattr(value, "__dict__", None) or {})
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if isinstance(name, str) and name not in held and not name.startswith("__") and hasattr(value, name):
                held[name] = getattr(value, name)
    return [(_word(name), part) for name, part in held.items()]


def _steps_of(name: str) -> Iterator[str]:
    """A module's place as a path: numbers are places in a list of modules."""
    for word in name.split(".") if name else ():
        yield f"#{word}/0" if word.isdecimal() else _word(word)


def _word(name: object) -> str:
    return printable(name, 60).replace("#", "") or "-"


def _bounded(found: list[Reached]) -> None:
    if len(found) > MOST_TENSORS:
        raise NotMeasured(f"the model keeps more than {MOST_TENSORS:,} tensors", hint="measure a smaller config of it")
