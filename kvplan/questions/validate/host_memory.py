"""How much memory this process may still take on the host, container limits included."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kvplan.errors import EnvironmentMissing

#: (controller mount, limit file, usage file, key of reclaimable page cache in memory.stat): cgroup v2, then v1.
_V2: Final = ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")
_V1: Final = ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _psutil() -> Any:
    from importlib import import_module

    try:
        return import_module("psutil")
    except ImportError as problem:
        raise EnvironmentMissing(
            "psutil is not installed, and without it the host's memory cannot be read", hint="pip install 'kvplan-exact[torch]'"
        ) from problem


def resident_bytes() -> int:
    """Resident set size of this process."""
    return int(_psutil().Process().memory_info().rss)


def available_bytes() -> int:
    """What can be taken without swapping: the host's available memory, or less where a cgroup says so."""
    available = int(_psutil().virtual_memory().available)
    return max(0, min([available, *cgroup_headrooms()]))


def cgroup_headrooms(root: Path = Path("/")) -> Iterator[int]:
    """Bytes left under each memory limit above this process: its cgroup's and all its parents'.

    Page cache that the kernel would reclaim first does not count as used.
    Source: kernel documentation, `cgroup-v2.rst` (memory.max, memory.current) and `cgroup-v1/memory.rst`.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        mount, limit_name, usage_name, cache_key = _V1 if controllers else _V2
        top = root / mount
        folder = top / path.lstrip("/")
        for place in (folder, *(parent for parent in folder.parents if parent.is_relative_to(top))):
            limit, usage = _number(place / limit_name), _number(place / usage_name)
            if limit is not None and usage is not None:
                yield limit - usage + _cache(place / "memory.stat", cache_key)


def _number(path: Path) -> int | None:
    """The number in a cgroup file; None when there is no file, or it says `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _cache(path: Path, key: str) -> int:
    try:
        rows = dict(line.split(maxsplit=1) for line in path.read_text().splitlines())
        return int(rows.get(key, 0))
    except (OSError, ValueError):
        return 0
