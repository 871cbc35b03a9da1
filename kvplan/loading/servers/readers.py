"""The readers of every engine's command lines, loaded when an input is read."""

from typing import Final

from kvplan.engines import command_readers
from kvplan.engines.kernel.commandline.commands import Commands

#: One an engine that has command lines, in the order of the engines.
READERS: Final[tuple[Commands, ...]] = command_readers()


def reader_of(engine: str) -> Commands:
    """The reader of an engine's command lines."""
    return next(one for one in READERS if one.name == engine)
