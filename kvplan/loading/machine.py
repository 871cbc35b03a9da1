"""Machine files: what only one machine knows, learned from a server's log by `kvplan audit LOG --save machine.yaml`."""

from pathlib import Path
from typing import Any, Final

from kvplan.domain.machine import Learned
from kvplan.errors import InputError, shown
from kvplan.files import expanded, read_bounded
from kvplan.units import GIB

_BYTES: Final = ("total", "non_torch", "graphs", "estimate", "context")
_MOST: Final = 2**50
_LARGEST: Final = 2**16
_HINT: Final = "`kvplan audit server.log --save machine.yaml` writes one"


def read_machine(path: str | Path) -> Learned:
    """A machine file, or what an engine leaves for its next start.

    Raises:
        InputError: it cannot be read, or a value is not what its key holds.
    """
    import yaml

    name = str(path)
    try:
        data: Any = yaml.safe_load(read_bounded(expanded(path), _LARGEST, InputError, "a machine file"))
    except (yaml.YAMLError, RecursionError, ValueError) as problem:
        raise InputError(f"{name}: not YAML", hint=_HINT) from problem
    left = _left_by_a_start(data, name) if isinstance(data, dict) else None
    if left is not None:
        return left
    if not isinstance(data, dict) or not isinstance(data.get("machine"), dict):
        raise InputError(f"{name}: expected a mapping with the key `machine`", hint=_HINT)
    found = data["machine"]
    known = {*_BYTES, "source", "tensor_parallel"}
    for key in found:
        if key not in known:
            raise InputError(f"{name}: unknown key `{str(key)[:40]}`", hint=f"one of {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for key in (*_BYTES, "tensor_parallel"):
        value = found.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
            raise InputError(f"{name}: `{key}` must be a whole number, got {shown(value)}", hint="bytes, without a unit")
        values[key] = value
    source = found.get("source", name)
    if not isinstance(source, str) or len(source) > 200:
        raise InputError(f"{name}: `source` must be a short text", hint=_HINT)
    return Learned(source=source, **values)


def _left_by_a_start(data: dict[str, Any], name: str) -> Learned | None:
    """What an engine leaves for its next start, where the file is one of those."""
    from kvplan.engines import ABOUTS, located

    readers = (located(about.machine_file) for about in ABOUTS.values() if about.machine_file)
    return next((found for found in (read(data, name) for read in readers) if found is not None), None)


def machine_text(learned: Learned) -> str:
    """The file's text.

    >>> print(machine_text(Learned(total=85_029_612_257, source="server.log")), end="")
    # What only this machine knows, in bytes on one device. Written by kvplan audit.
    machine:
      source: "server.log"
      total: 85029612257  # 79.19 GiB
    """
    import json

    lines = ["# What only this machine knows, in bytes on one device. Written by kvplan audit.", "machine:"]
    lines.append(f"  source: {json.dumps(learned.source)}")
    for key in _BYTES:
        value = getattr(learned, key)
        if value is not None:
            lines.append(f"  {key}: {value}  # {value / GIB:.2f} GiB")
    if learned.tensor_parallel is not None:
        lines.append(f"  tensor_parallel: {learned.tensor_parallel}")
    return "\n".join(lines) + "\n"
