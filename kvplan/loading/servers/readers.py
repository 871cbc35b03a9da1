"""The readers of every engine's command lines, loaded when an input is read."""

from typing import Final

from kvplan.engines import ABOUTS, located
from kvplan.engines.kernel.commandline.commands import Commands

#: One an engine that has command lines, in the order of the engines.
READERS: Final[tuple[Commands, ...]] = tuple(located(found.commands) for found in ABOUTS.values() if found.commands)


def reader(name: str) -> Commands | None:
    """The reader of an engine."""
    return next((one for one in READERS if one.name == name), None)
