"""`kvplan check`: the servers that files and command lines start, and whether they will."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kvplan.cli import options as o
from kvplan.errors import OptionError

if TYPE_CHECKING:
    from kvplan.api.check_server import Place
    from kvplan.domain.servers import Servers
    from kvplan.questions.check import Check

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


GpuOpt = Annotated[
    str | None, typer.Option("--gpu", metavar="NAME[:N]", help="The card; several with commas are cards 0, 1 … of the machine")
]
ConfigOpt = Annotated[
    list[str] | None,
    typer.Option("--model-config", metavar="NAME=FILE", help="The config.json of a model that is local or private"),
]
FormatOpt = Annotated[
    str | None,
    typer.Option("-f", "--format", metavar="FORMAT", help="table, json, csv, md, html, or for CI: sarif, github"),
]
FixOpt = Annotated[
    bool, typer.Option("--fix", help="Print the smallest change that makes it start, as a diff; -o FILE writes the changed file")
]
AllowOpt = Annotated[bool, typer.Option("--allow-undecided", help="Exit 0 also where kvplan cannot tell of a server")]
#: Formats that only this command has: notes at lines of files.
_ANNOTATIONS: Final = ("sarif", "github")


def check(
    files: FilesArg = None,
    gpu: GpuOpt = None,
    parse_only: ParseOnly = False,
    memory: o.Memory = None,
    machine: o.Machine = None,
    model_config: ConfigOpt = None,
    env_file: EnvFile = None,
    allow_undecided: AllowOpt = False,
    fix: FixOpt = False,
    infer: o.Infer = False,
    unit: o.Unit = None,
    fmt: FormatOpt = None,
    output: o.Output = None,
) -> None:
    """Will the servers of a file or a command line start?

    Reads shell lines, compose files, manifests, units and settings files; runs and expands nothing.
    Exit 0 when all start, 1 when one does not, 2 when an input cannot be read or kvplan cannot tell.
    """
    from kvplan.api.check import checked, parsed, place_of
    from kvplan.cli.output import show
    from kvplan.report.answers.check import CheckAnswer
    from kvplan.report.answers.servers import ServersAnswer
    from kvplan.report.formats import named

    names, command = _split(files or [])
    if not names and not command:
        raise OptionError(
            "a file or a command line is needed", hint="`kvplan check start.sh`, or `kvplan check -- vllm serve MODEL …`"
        )
    form = fmt if fmt is None or fmt in _ANNOTATIONS else named(fmt, *_ANNOTATIONS).name
    variables = _variables(env_file or [])
    read = parsed([name for name in names if name != "-"], command=command, text=_standard_input(names), variables=variables)
    if parse_only:
        if form in _ANNOTATIONS:
            raise OptionError(f"«parse_only» decides nothing that {form} could note", hint="leave out «parse_only», or -f json")
        show(ServersAnswer(read), form, output)
        return
    if gpu is None and memory is None:
        if not any(one.servers for one in read):
            show(ServersAnswer(read), form if form not in _ANNOTATIONS else None, output)
            return
        raise OptionError("say on which card: «gpu NAME»", hint="`kvplan gpus` lists them; «parse_only» shows what was read")
    place = place_of(
        gpu or str(memory), memory=memory if gpu else None, machine=machine, model_config=model_config or (), infer=infer
    )
    if fix:
        _fix(read, place, output)
        return
    answer = checked(read, place)
    form = form or ("sarif" if output is not None and output.suffix == ".sarif" else None)
    if form in _ANNOTATIONS:
        _annotate(answer, form, output)
    else:
        show(CheckAnswer(answer), form, output, unit)
    if answer.status == "does not start":
        raise typer.Exit(1)
    if answer.status != "starts" and not allow_undecided:
        raise typer.Exit(2 if answer.status == "not decided" else 1)


def _fix(read: "list[Servers]", place: "Place", output: Path | None) -> None:
    """The diff on stdout, or the changed text in a file of another name.

    Exit 0 when everything starts with it, else 1.
    """
    from kvplan.api.check import checked
    from kvplan.api.mended import mended
    from kvplan.cli.output import emit, remark, told
    from kvplan.report.answers.check import said

    if output is not None and len(read) > 1:
        raise OptionError("«fix» writes one file with «output»", hint="give one FILE, or print the diff")
    made = mended(read, place)
    changed = [one for one in made if one.changes]
    emit(made[0].read.text if output is not None else "".join(one.diff for one in changed), output)
    for one in changed:
        remark("\n".join(f"fix: {change}" for change in one.changes))
    told(output, "the input with that change" if changed else "the input as it was")
    again = checked([one.read for one in made], place)
    for still in again.servers:
        if still.outcome.status != "starts":
            remark(f"with that: {said(still)}" if changed else f"no change is known: {said(still)}")
    if not again.starts:
        raise typer.Exit(1)


def _annotate(answer: "Check", form: str, output: Path | None) -> None:
    """Notes at lines, on stdout or in a file."""
    from kvplan import __version__
    from kvplan.cli.output import emit, told
    from kvplan.report.formats import annotations

    shown = annotations.sarif(answer, __version__) if form == "sarif" else annotations.github(answer)
    emit(shown, output)
    told(output, f"{form}, {len(shown.encode()):,} bytes")


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
