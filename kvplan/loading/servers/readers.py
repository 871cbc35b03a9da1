"""The readers of every engine's command lines, loaded when an input is read."""

from typing import Final

from kvplan.engines import command_readers
from kvplan.engines.kernel.commandline.commands import Commands

#: One an engine that has command lines, in the order of the engines.
READERS: Final[tuple[Commands, ...]] = command_readers()
