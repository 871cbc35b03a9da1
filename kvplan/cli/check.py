"""`kvplan check`: the servers that files and command lines start, and whether they will."""

from typing import Annotated

import typer

from kvplan.cli import options as o
from kvplan.errors import OptionError

FilesArg = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE]... [-- COMMAND]",
        help="Scripts, compose files, manifests, units, Modelfiles, settings; - reads standard input",
        show_default=False,
    ),
]
ParseOnly = Annotated[bool, typer.Option("--parse-only", help="Show what was read, and compute nothing")]
EnvFile = Annotated[
    list[str] | None, typer.Option("--env-file", metavar="FILE", help="Values of variables that the input uses: NAME=VALUE lines")
]


def check(
    files: FilesArg = None,
    parse_only: ParseOnly = False,
    env_file: EnvFile = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
) -> None:
    """Whether the servers of a file or command line will start.

    Reads shell lines, compose files, manifests, units and settings files; runs and expands nothing.
    Exit 0 when all start, 1 when one does not, 2 when the input cannot be read.
    """
    from kvplan.api.check import parsed
    from kvplan.cli.output import show
    from kvplan.report.answers.servers import ServersAnswer

    names, command = _split(files or [])
    if not names and not command:
        raise OptionError(
            "a file or a command line is needed", hint="`kvplan check start.sh`, or `kvplan check -- vllm serve MODEL …`"
        )
    variables = _variables(env_file or [])
    read = parsed([name for name in names if name != "-"], command=command, text=_standard_input(names), variables=variables)
    show(ServersAnswer(read), fmt, output)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """(files, the command line behind `--`)."""
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _standard_input(names: list[str]) -> str | None:
    """What comes on standard input, where it is asked for."""
    if "-" not in names:
        return None
    import sys

    from kvplan.errors import InputError
    from kvplan.limits import SERVERS_BYTES
    from kvplan.loading.servers.read import decoded

    raw = sys.stdin.buffer.read(SERVERS_BYTES + 1)
    if len(raw) > SERVERS_BYTES:
        raise InputError(
            f"standard input is too large: at most {SERVERS_BYTES:,} bytes are read", hint="give the part that matters"
        )
    return decoded(raw, "standard input")


def _variables(paths: list[str]) -> dict[str, str]:
    """The pairs of the files that were named; the later wins."""
    from kvplan.errors import InputError
    from kvplan.files import expanded, read_bounded
    from kvplan.limits import SERVERS_BYTES
    from kvplan.loading.servers.forms.dotenv import values
    from kvplan.loading.servers.read import decoded

    found: dict[str, str] = {}
    for path in paths:
        found |= values(decoded(read_bounded(expanded(path), SERVERS_BYTES, InputError, "NAME=VALUE lines"), path))
    return found
