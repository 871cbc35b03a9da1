"""How LMDeploy reads a command line: plain argparse, the model a bare word anywhere.

Source: lmdeploy/cli/serve.py:SubCliServe.add_parser_api_server, lmdeploy/cli/utils.py:ArgumentHelper.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from kvplan.engines.kernel.commandline.commands import ALLOCATOR, Commands, program_name
from kvplan.engines.kernel.commandline.flags import at_release
from kvplan.engines.kernel.commandline.parser import Style, scan, store
from kvplan.engines.kernel.commandline.told import Told
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Image, Word

_FOLDER: Final = "kvplan.engines.lmdeploy"
_PROGRAM: Final = ("lmdeploy", "serve", "api_server")
_STYLE: Final = Style(human=False)


class LmdeployCommands(Commands):
    """`lmdeploy serve api_server MODEL`."""

    name: ClassVar[str] = "lmdeploy"
    folder: ClassVar[str] = _FOLDER
    packages: ClassVar[tuple[str, ...]] = ("lmdeploy",)
    variables: ClassVar[tuple[str, ...]] = ALLOCATOR

    container: ClassVar[str] = "openmmlab/lmdeploy:v{version}"
    drafters: ClassVar[tuple[str, ...]] = ("speculative_draft_model",)
    without_bytes: ClassVar[frozenset[str]] = frozenset({"device", "model_format", "communicator", "role"})

    def begins(self, words: Sequence[Word], call: Call) -> int:
        """The program's three words."""
        if len(words) < len(_PROGRAM) or program_name(words[0]) != _PROGRAM[0]:
            return 0
        return len(_PROGRAM) if tuple(word.text for word in words[1:3]) == _PROGRAM[1:] else 0

    def owns(self, found: Image) -> bool:
        """openmmlab/lmdeploy."""
        return "lmdeploy" in found.name.lower()

    def read(self, program: Sequence[Word], rest: Sequence[Word], call: Call, version: str) -> Told:
        """The words after the program."""
        told = Told()
        for found in scan(rest, at_release(_FOLDER, version), _STYLE, told, named_release=bool(version)):
            if not isinstance(found, Word):
                store(found, told, _STYLE)
            elif told.model is None:
                told.model, told.lines["model"] = (found.text if found.known else UNRESOLVED), found.line
            elif found.known:
                told.refused.append(f"`{found.text}` is one word too many: the server refuses it")
        policy = told.options.get("quant_policy")
        if isinstance(policy, str) and policy.isdecimal() and len(policy) < 4:
            told.options["quant_policy"] = int(policy)
        return told


COMMANDS: Final = LmdeployCommands()
