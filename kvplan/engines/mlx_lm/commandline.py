"""How mlx-lm reads a command line: plain argparse.

Source: mlx_lm/server.py:main (_parse_size), mlx_lm/generate.py:setup_arg_parser.
"""

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any, ClassVar, Final

from kvplan.engines.kernel.commandline.asked import Asked
from kvplan.engines.kernel.commandline.commands import Commands, module_of, program_name
from kvplan.engines.kernel.commandline.flags import AtRelease, Named, at_release
from kvplan.engines.kernel.commandline.parser import Given, Style, scan, store
from kvplan.engines.kernel.commandline.told import Told
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Word

_FOLDER: Final = "kvplan.engines.mlx_lm"
_PROGRAMS: Final = ("mlx_lm.server", "mlx_lm.generate")
_STYLE: Final = Style(human=False)
#: _parse_size: decimal, and these letters alone.
_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*(|M|MB|G|GB)", re.IGNORECASE)
_UNITS: Final = {"": 1, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9}


class MlxCommands(Commands):
    """`mlx_lm.server`, and `mlx_lm.generate` beside it."""

    name: ClassVar[str] = "mlx-lm"
    folder: ClassVar[str] = _FOLDER
    packages: ClassVar[tuple[str, ...]] = ("mlx-lm", "mlx_lm")

    reserves: ClassVar[bool] = False
    drafters: ClassVar[tuple[str, ...]] = ("draft_model",)
    drafts_apart: ClassVar[bool] = True  # generate.py:speculative_generate_step makes a prompt cache of each model
    without_bytes: ClassVar[frozenset[str]] = frozenset({"max_tokens", "prompt_concurrency", "num_draft_tokens"})

    def begins(self, words: Sequence[Word], call: Call) -> int:
        """`mlx_lm.server`, `python -m mlx_lm.server`, `python -m mlx_lm server`, `mlx_lm server`."""
        return _program(words)[1]

    def read(self, program: Sequence[Word], rest: Sequence[Word], call: Call, version: str) -> Told:
        """The words after the program."""
        told, known = Told(), _of(_program(program)[0])
        for found in scan(rest, known, _STYLE, told, named_release=bool(version)):
            if isinstance(found, Word):
                if found.known:
                    told.refused.append(f"`{found.text}` is one word too many: the server refuses it")
            elif found.named.flag.dest == "model":
                if found.values:
                    told.model = found.values[-1].text if found.values[-1].known else UNRESOLVED
                    told.lines["model"] = found.line
            elif found.named.flag.type == "bytes":
                _store_size(found, told)
            else:
                store(found, told, _STYLE)
        return told

    def asked(self, options: Mapping[str, Any], environment: Mapping[str, str], known: Container[str]) -> Asked:
        """What requests take grows as they go: one is asked about; a drafter is a second model with a cache of its own."""
        found = super().asked(options, environment, known)
        found.sequences = 1
        return found


def _program(words: Sequence[Word]) -> tuple[str, int]:
    """(which of the programs, how many words name it)."""
    if not words:
        return "", 0
    name, end = program_name(words[0]), 1
    module, taken = module_of(words)
    if taken:
        name, end = module, taken
    if name in {"mlx_lm", "mlx_lm.__main__"} and len(words) > end:
        name, end = f"mlx_lm.{words[end].text}", end + 1
    return (name, end) if name in _PROGRAMS else ("", 0)


def _of(program: str) -> AtRelease:
    """The flags of one of the programs."""
    known = at_release(_FOLDER, "")
    found: dict[str, Named] = {}
    from kvplan.engines.kernel.commandline.flags import flags_of

    for flag in flags_of(_FOLDER).flags:
        if not flag.programs or program in flag.programs:
            found |= {name: Named(flag) for name in flag.names}
            found |= {name: Named(flag, negated=True) for name in flag.negated}
    return AtRelease(found, {}, known.release)


def _store_size(found: Given, told: Told) -> None:
    text = found.values[-1].text if found.values else ""
    size = _SIZE.fullmatch(text)
    if found.values and not found.values[-1].known:
        told.put(found.named.flag.dest, UNRESOLVED, found.line)
    elif size is None:
        told.refused.append(f"`{found.typed}`: expected a size such as 8GB or 512MB")
    else:
        told.put(found.named.flag.dest, int(float(size[1]) * _UNITS[size[2].lower()]), found.line)


COMMANDS: Final = MlxCommands()
