"""The root command, and the one place where errors become messages and exit codes.

Commands are listed here by name and imported when they run, so that each pays only for what it uses.
"""

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from kvplan import limits
from kvplan.cli import surroundings, usage
from kvplan.cli.options import flag
from kvplan.cli.output import remark
from kvplan.errors import KvplanError


class Command(NamedTuple):
    """One command: its module in `kvplan.cli`, its function, and two ways to type it."""

    module: str
    function: str
    examples: tuple[str, ...]


#: What people want -> the commands for it, in the order of the help. A new command is one file and one entry.
GROUPS: Final[dict[str, dict[str, Command]]] = {
    "Ask how much": {
        "estimate": Command("estimate", "estimate", ("estimate llama-3.1-8b -s 32k -b 4", "estimate gemma-3-27b -e vllm -s max")),
        "compare": Command(
            "compare", "compare", ("compare llama-3.1-8b gemma-3-27b -e ideal,vllm", "compare llama-3.1-8b --variant mqa,cla=2")
        ),
        "sweep": Command(
            "sweep", "sweep", ("sweep llama-3.1-8b -s 1k:128k:x2 -b 1,8", "sweep llama-3.1-8b --kv-dtype bf16,fp8 -o grid.csv")
        ),
        "report": Command(
            "report",
            "report",
            ("report llama-3.1-8b gemma-3-27b -o report.html", "report qwen3-8b --gpu 4090,h100 -e vllm -o page.html"),
        ),
        "site": Command("site", "site", ("site -o kvcaches --workers 2", "site 'qwen3-*' llama-3.1-8b -o few")),
        "explain": Command("explain", "explain", ("explain deepseek-v3", "explain gemma-3-27b -e vllm -s 32k")),
    },
    "Serve it": {
        "fit": Command(
            "fit", "fit", ("fit llama-3.1-8b --gpu 4090 -s 8k", 'fit llama-3.3-70b --gpu h100:4 --target "32 users at 32k"')
        ),
        "committee": Command("committee", "committee", ("committee --example > plan.yaml", "committee plan.yaml --solve")),
        "reserve": Command("reserve", "reserve", ("reserve llama-3.1-8b --memory 20GiB", "reserve llama-3.1-8b --gpu h100")),
        "check": Command(
            "check", "check", ("check docker-compose.yml --gpu h100", "check --gpu 4090 -- vllm serve Qwen/Qwen3-8B -tp 2")
        ),
        "replay": Command(
            "replay",
            "replay",
            ("replay azure.csv --model llama-3.1-8b --gpu h100", "replay mooncake.jsonl --model qwen3-8b --gpu h100:4 -f json"),
        ),
        "receipt": Command("receipt", "receipt", ("receipt llama-3.1-8b --gpu h100", "receipt qwen3-8b --gpu 4090 --offline")),
    },
    "Prove it": {
        "measure": Command(
            "measure", "measure", ("measure model.py:MyModel --config config.json -o mine.yaml", "measure model.py:MyModel")
        ),
        "validate": Command(
            "validate", "validate", ("validate llama-3.1-8b -s 4k -b 2 --device cpu", "validate gpt2 --against transformers")
        ),
        "diff": Command(
            "diff",
            "diff",
            ("diff vllm@0.26 vllm@0.33", "diff old.json new.json --of model"),
        ),
        "conformance": Command(
            "conformance", "conformance", ("conformance export -o cases.jsonl", "conformance score answers.jsonl")
        ),
        "audit": Command("audit", "audit", ("audit server.log --model llama-3.1-8b", "audit cases.jsonl -f json")),
    },
    "Look things up": {
        "models": Command("models", "models", ("models qwen3", "models --kind MLA")),
        "engines": Command("lists", "engines", ("engines", "engines vllm")),
        "dtypes": Command("lists", "dtypes", ("dtypes", "dtypes fp8")),
        "gpus": Command("lists", "gpus", ("gpus h100", "gpus 'apple*'")),
        "spec": Command("spec", "spec", ("spec llama-3.1-8b", "spec llama-3.1-8b -o mine.yaml")),
    },
}
COMMANDS: Final = {name: command for group in GROUPS.values() for name, command in group.items()}
EXIT_CODES: Final = (
    "Exit codes: 0 yes, 1 no (a mismatch, no room), 2 bad input, 3 something is missing on this machine, 70 a bug in kvplan."
)
#: Characters of a command's line in the list of all.
SUMMARY: Final = 55
#: What a newcomer types first.
FIRST: Final = ("estimate llama-3.1-8b -s 32k", "fit llama-3.1-8b --gpu 4090 -s 8k", "compare llama-3.1-8b --variant mqa,cla=2")


class LeftByLibrary(Exception):
    """Something that a command uses asked the interpreter to end; only kvplan chooses when that is, and the code."""


def examples(commands: Iterable[str]) -> str:
    """Commands as the end of a help page: one a line, never folded."""
    return "\b\nExamples:\n" + "\n".join(f"  kvplan {command}" for command in commands)


class OnceCommand(TyperCommand):
    """A command whose options of one value are refused when they are given twice: the library would keep the last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does, once nothing was given twice."""
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            usage.once(order)
        return super().parse_args(ctx, args)


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
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        function = getattr(import_module(f"kvplan.cli.{found.module}"), found.function)
        single.command(cmd_name, cls=OnceCommand, epilog=examples(found.examples))(function)
        built = typer.main.get_command(single)
        if any(name.endswith("_COMPLETE") for name in os.environ):
            from kvplan.cli.completion import completes

            completes(built)
        return built

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands by what people want, each in one line."""
        widest = max(map(len, COMMANDS))
        for title, group in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(widest), self.get_command(ctx, name).get_short_help_str(SUMMARY)) for name in group]
                )

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
            raise usage.unknown_command(args[0], COMMANDS)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyCommands,
    name="kvplan",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=f"{examples(FIRST)}\n\n{EXIT_CODES}",
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": usage.spelled},
)


def _version(wanted: bool) -> None:
    if wanted:
        from kvplan import __version__

        print(f"kvplan-exact {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and exit")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails")] = False,
) -> None:
    """How much memory will the KV cache take, in the engine you actually run?"""


def main(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return surroundings.watched(lambda: _answer(sys.argv[1:] if args is None else args), _say)


def _say(word: str) -> None:
    print(word, file=sys.stderr)


def _answer(typed: list[str]) -> int:
    arguments = usage.rewritten(typed)
    limits.start_question()
    try:
        result = app(arguments, prog_name=_program(), standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # typer exits for a closed pipe: a reader that has enough is no failure
        surroundings.mute_stdout()
        return 0
    except Exception as problem:  # the one edge: every failure becomes a sentence and a code
        surroundings.still_wanted()  # what is interrupted while it loads fails in its own words
        if "--debug" in typed:
            raise
        return _report(problem)
    if result == 130:  # typer's answer to Ctrl-C
        _say("interrupted")
    return result if isinstance(result, int) else 0


def _program() -> str:
    """The name that this was called by, as far as it is one of ours: completion asks for it."""
    called = os.path.basename(sys.argv[0]) if sys.argv else ""
    return called if called == "kvplan-exact" else "kvplan"


def _report(problem: Exception) -> int:
    """Print what went wrong and choose the exit code."""
    if isinstance(problem, KvplanError):
        remark(problem.render(flag))
        return problem.exit_code
    if isinstance(problem, typer.Abort):
        _say("interrupted")
        return 130
    if isinstance(problem, typer.Exit):
        return int(problem.exit_code)
    code, said, hint = _sentence(problem)
    remark(f"error: {said}\n\nhint: {hint}")
    return code


def _sentence(problem: Exception) -> tuple[int, str, str]:
    """(exit code, what went wrong, what to do) of an exception that is none of kvplan's."""
    if hasattr(problem, "format_message"):  # typer's own errors about the command line
        return 2, *usage.sentence(problem)
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
