"""What the shell completes beside commands and flags: models, GPUs, engines, dtypes, formats, and the names of `--set`.

Each is asked with what stands before the cursor, and answers with whole words; the last of a list with commas is completed.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final


def models(incomplete: str) -> list[str]:
    """Names of the catalogue; where none begins so, the shell completes files."""
    from kvplan.loading.catalogue import names

    return [name for name in names() if name.startswith(incomplete.lower())]


def engines(incomplete: str) -> list[str]:
    """Engines that are predicted."""
    from kvplan.engines import PREDICTED

    return _last(incomplete, PREDICTED)


def dtypes(incomplete: str) -> list[str]:
    """Cache dtypes and their other spellings."""
    from kvplan.domain.dtypes import ALIASES, DTYPES

    return _last(incomplete, ("auto", *DTYPES, *(alias for alias in ALIASES if alias[0].isalpha())))


def weight_formats(incomplete: str) -> list[str]:
    """Formats of weights that `--weights-dtype` names."""
    known = (
        "bf16",
        "fp8",
        "int8",
        "int4",
        "awq",
        "gptq",
        "nvfp4",
        "mxfp4",
        "bnb-4bit",
        "q8_0",
        "q6_k",
        "q5_k_m",
        "q4_k_m",
        "q4_1",
    )
    return [name for name in known if name.startswith(incomplete)]


def gpus(incomplete: str) -> list[str]:
    """Cards by their ids, or by any word of one (`4090`)."""
    from kvplan.domain.gpus import gpus as catalogue
    from kvplan.domain.gpus import more_gpus

    ids = [entry.id for entry in (*catalogue(), *more_gpus())]
    return _last(
        incomplete, (*ids, *(word for name in ids if len(word := name.removeprefix("rtx-")) < len(name)), "all", "local")
    )


def formats(incomplete: str) -> list[str]:
    """Report formats."""
    from kvplan.report.formats import FORMATS

    return [row.name for row in FORMATS if row.name.startswith(incomplete)]


def units(incomplete: str) -> list[str]:
    """Units of a report."""
    from kvplan.units import UNITS

    return [name for name in UNITS if name.startswith(incomplete)]


def settings(incomplete: str, ctx: Any) -> list[str]:
    """`NAME=` of the options of the engine that was typed, else of the usual server's."""
    from kvplan.engines import default_engine, option_names
    from kvplan.errors import OptionError

    typed = ctx.params.get("engine") or ctx.params.get("engines") or default_engine("")
    try:
        names = sorted({name for engine in str(typed).split(",") for name in option_names(engine)})
    except OptionError:
        return []
    return [f"{name}=" for name in names if name.startswith(incomplete)]


def _last(incomplete: str, known: Iterable[str]) -> list[str]:
    """The words that may stand at the end of a list."""
    before, comma, word = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in dict.fromkeys(known) if name.startswith(word.lower())]


#: An option, or an argument's name -> what it completes to.
_WORDS: Final[dict[str, Callable[[str], list[str]]]] = {
    "model": models, "models": models, "names": engines, "--model": models, "--engine": engines, "--kv-dtype": dtypes,
    "--weights-dtype": weight_formats, "--gpu": gpus, "--format": formats, "--unit": units,
}  # fmt: skip


def completes(command: Any) -> None:
    """Give a command's arguments and options what completes them: one table instead of a word in every definition."""
    from typer._click.shell_completion import CompletionItem

    for parameter in command.params:
        own = next((_WORDS[name] for name in (*parameter.opts, parameter.name) if name in _WORDS), None)
        takes_options = "--set" in parameter.opts and command.name != "committee"
        if own is None and not takes_options:
            continue

        def words(ctx: Any, param: Any, incomplete: str, own: Callable[[str], list[str]] | None = own) -> list[Any]:
            found = settings(incomplete, ctx) if own is None else own(incomplete)
            return [CompletionItem(word) for word in found]

        parameter._custom_shell_complete = words
