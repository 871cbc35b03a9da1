"""The root command, and the one place where errors become messages and exit codes.

Commands are listed here by name and imported when they run, so that each pays only for what it uses.
"""

import sys
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from kvplan import limits
from kvplan.cli import surroundings
from kvplan.cli.options import flag
from kvplan.cli.output import remark
from kvplan.errors import KvplanError

#: Command -> (its module in `kvplan.cli`, its function). A new command is one file and one row.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "estimate": ("estimate", "estimate"),
    "compare": ("compare", "compare"),
    "sweep": ("sweep", "sweep"),
    "explain": ("explain", "explain"),
    "fit": ("fit", "fit"),
    "committee": ("committee", "committee"),
    "reserve": ("reserve", "reserve"),
    "receipt": ("receipt", "receipt"),
    "validate": ("validate", "validate"),
    "audit": ("audit", "audit"),
    "spec": ("spec", "spec"),
    "models": ("models", "models"),
    "engines": ("lists", "engines"),
    "dtypes": ("lists", "dtypes"),
    "gpus": ("lists", "gpus"),
}
EXIT_CODES: Final = (
    "Exit codes: 0 yes, 1 no (a mismatch, no room), 2 bad input, 3 something is missing on this machine, 70 a bug in kvplan."
)


class LeftByLibrary(Exception):
    """Something that a command uses asked the interpreter to end; only kvplan chooses when that is, and the code."""


class LazyCommands(TyperGroup):
    """A group that imports a command's module only when that command, or the list of all, is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command's name, in the order of the documentation."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Build one command, or None if there is no such name."""
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        module, function = found
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name)(getattr(import_module(f"kvplan.cli.{module}"), function))
        return typer.main.get_command(single)

    def invoke(self, ctx: Any) -> Any:
        """Run a command. What it uses may not end the program behind its back: that would read as an answer."""
        try:
            return super().invoke(ctx)
        except SystemExit as problem:
            said = "no exit code" if problem.code is None else f"exit code {problem.code}"
            raise LeftByLibrary(f"a library ended the command before it had an answer ({said})") from problem

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does, with the nearest name in the error."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from kvplan.errors import OptionError, nearest

            near = nearest(args[0], COMMANDS)
            raise OptionError(
                f"unknown command `{args[0][:60]}`", hint=f"did you mean `{near}`?" if near else f"one of {', '.join(COMMANDS)}"
            )
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyCommands,
    name="kvplan",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from kvplan import __version__

        print(f"kvplan {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails")] = False,
) -> None:
    """How much memory will the KV cache take, in the engine you actually run?"""


def main(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if args is None else args
    surroundings.prepare()
    limits.start_question()
    try:
        result = app(arguments, standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # typer exits for a closed pipe: a reader that has enough is no failure
        surroundings.mute_stdout()
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except surroundings.Ended as ended:
        print("ended", file=sys.stderr)
        return 128 + ended.number
    except Exception as problem:  # the one edge: every failure becomes a sentence and a code
        if "--debug" in arguments:
            raise
        return _report(problem)
    if result == 130:  # typer's answer to Ctrl-C
        print("interrupted", file=sys.stderr)
    return result if isinstance(result, int) else 0


def _report(problem: Exception) -> int:
    """Print what went wrong and choose the exit code."""
    if isinstance(problem, KvplanError):
        remark(problem.render(flag))
        return problem.exit_code
    if isinstance(problem, typer.Abort):
        print("interrupted", file=sys.stderr)
        return 130
    if isinstance(problem, typer.Exit):
        return int(problem.exit_code)
    code, said, hint = _sentence(problem)
    remark(f"error: {said}\n\nhint: {hint}")
    return code


def _sentence(problem: Exception) -> tuple[int, str, str]:
    """(exit code, what went wrong, what to do) of an exception that is none of kvplan's."""
    message = getattr(problem, "format_message", None)
    if message is not None:  # typer's own errors about the command line
        return 2, message(), "see `kvplan --help` or `kvplan COMMAND --help`"
    if isinstance(problem, surroundings.StdoutClosed):
        return 2, "stdout is closed", "write the report to a file with -o FILE"
    if isinstance(problem, MemoryError):
        return 3, "this machine has not enough memory for that", "ask for less at once"
    if isinstance(problem, ImportError):
        missing = "is not there" if isinstance(problem, ModuleNotFoundError) else "cannot be loaded"
        name = problem.name or str(problem)[:80]
        return 3, f"a package that this needs {missing}: {name}", "install kvplan again, or give the process more memory"
    if isinstance(problem, OSError):
        surroundings.mute_stdout()
        reason = (problem.strerror or str(problem)).lower()
        where = f" `{problem.filename}`" if isinstance(problem.filename, str) else ""
        return 2, f"cannot read or write{where}: {reason}", "check the path and the disk, or choose another with -o FILE"
    bug = "run again with `kvplan --debug …` and report the traceback"
    if isinstance(problem, LeftByLibrary):
        return 70, str(problem), bug
    return 70, f"a bug in kvplan: {type(problem).__name__}: {problem}", bug
