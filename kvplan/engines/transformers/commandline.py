"""How `transformers serve` reads a command line: typer, no abbreviations; without a model nothing is loaded at start.

Source: transformers/cli/serve.py:Serve.__init__.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any, ClassVar, Final

from kvplan.engines.kernel.commandline.asked import Asked
from kvplan.engines.kernel.commandline.commands import ALLOCATOR, Commands, program_name
from kvplan.engines.kernel.commandline.flags import at_release
from kvplan.engines.kernel.commandline.parser import Style, scan, store
from kvplan.engines.kernel.commandline.told import Told
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Word

_FOLDER: Final = "kvplan.engines.transformers"
_STYLE: Final = Style(abbreviations=False, human=False)


class TransformersCommands(Commands):
    """`transformers serve [MODEL]`."""

    name: ClassVar[str] = "transformers"
    folder: ClassVar[str] = _FOLDER
    packages: ClassVar[tuple[str, ...]] = ("transformers",)
    variables: ClassVar[tuple[str, ...]] = ALLOCATOR

    reserves: ClassVar[bool] = False
    starts_empty: ClassVar[bool] = True
    without_bytes: ClassVar[frozenset[str]] = frozenset({"device", "compile", "use_cache"})

    def begins(self, words: Sequence[Word], call: Call) -> int:
        """The program's two words."""
        return 2 if len(words) > 1 and program_name(words[0]) == "transformers" and words[1].text == "serve" else 0

    def read(self, program: Sequence[Word], rest: Sequence[Word], call: Call, version: str) -> Told:
        """The words after the program."""
        told = Told()
        for found in scan(rest, at_release(_FOLDER, version), _STYLE, told, named_release=bool(version)):
            if not isinstance(found, Word):
                store(found, told, _STYLE)
            elif told.model is None:
                told.model, told.lines["model"] = (found.text if found.known else UNRESOLVED), found.line
        return told

    def asked(self, options: Mapping[str, Any], environment: Mapping[str, str], known: Container[str]) -> Asked:
        """What requests take grows as they go: one is asked about."""
        found = super().asked(options, environment, known)
        found.sequences = 1
        return found


COMMANDS: Final = TransformersCommands()
