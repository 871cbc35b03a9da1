"""What people type: several spellings of one thing, and what to say where none of them was meant."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from kvplan.errors import OptionError, nearest

#: An option's spelling -> the one that stands for all, dashes aside. Every command that has the one takes the others.
SYNONYMS: Final = {
    "context": "seq-len", "ctx": "seq-len", "ctx-size": "seq-len", "context-length": "seq-len", "seqlen": "seq-len",
    "batch": "batch-size", "users": "batch-size", "requests": "batch-size",
    "kv-cache-dtype": "kv-dtype", "cache-dtype": "kv-dtype",
    "tensor-parallel-size": "tensor-parallel", "tp-size": "tensor-parallel", "tp": "tensor-parallel",
    "gpu-memory-utilization": "utilization",
    "fmt": "format", "out": "output",
}  # fmt: skip
#: What people type where another option, or none, is meant -> what to type.
_MEANT: Final = {
    "max-model-len": "-s TOKENS is a request's length; --set max_model_len=… the server's limit",
    "max-num-seqs": "-b N is how many requests there are; --set max_num_seqs=… the server's limit; fit --max-seqs finds it",
    "max-tokens": "-s TOKENS, prompt and output together",
    "dtype": "--kv-dtype DTYPE is the cache's; --weights-dtype (of fit, reserve, receipt) the weights'",
    "quantization": "--weights-dtype FORMAT of `kvplan fit`",
    "json": "-f json", "csv": "-f csv", "markdown": "-f markdown", "md": "-f md", "html": "-f html",
    "verbose": "-f json has every number", "v": "-V is the version; -f json has every number",
    "model": "the model is an argument, without an option in front", "m": "the model is an argument, without an option in front",
    "input-len": "-s TOKENS, prompt and output together", "output-len": "-s TOKENS, prompt and output together",
    "device": "--gpu NAME of `kvplan fit` for a card; --device of `kvplan validate` for this machine's",
    "backend": "-e ENGINE", "gpus": "--gpu NAME:N", "num-gpus": "--gpu NAME:N", "vram": "--memory SIZE",
}  # fmt: skip
#: A command that people look for -> the one that does it.
_COMMANDS: Final = {
    "est": "estimate", "calc": "estimate", "size": "estimate", "plan": "fit", "serve": "fit", "capacity": "fit", "list": "models",
    "ls": "models", "scan": "fit", "verify": "validate", "diff": "compare", "show": "explain",
    "info": "explain", "lint": "check", "parse": "check", "model": "models", "engine": "engines", "dtype": "dtypes",
    "gpu": "gpus", "devices": "gpus",
}  # fmt: skip

#: How an option says that it takes several values in one word.
_SEVERAL: Final = re.compile(r",…|commas between|\w,\w")


def spelled(name: str) -> str:
    """An option's name, dashes in front aside, in the spelling that stands for all of its synonyms.

    >>> spelled("ctx"), spelled("seq_len"), spelled("s")
    ('seq-len', 'seq-len', 's')
    """
    plain = name.replace("_", "-")
    return SYNONYMS.get(plain, plain)


def rewritten(arguments: Sequence[str]) -> list[str]:
    """A command line with what stands for options of the program itself put there: nothing, `help …`, `version`, `--debug`."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    words = [word for word in arguments[:end] if word != "--debug"]
    if words[:1] == ["check"] and end < len(arguments):  # a second one stays: what follows is a command line, not files
        return [*words, "--", *arguments[end:]]
    words += arguments[end:]
    if not words:
        return ["--help"]
    if words[0] == "version":
        return ["--version", *words[1:]]
    if words[0] == "help":
        return [*words[1:2], "--help"]
    return words


def unknown_command(name: str, known: Iterable[str]) -> OptionError:
    """The error about a command that there is none of, to be raised."""
    names = list(known)
    near = _COMMANDS.get(name.lower()) or nearest(name.lower(), names)
    looks = "." in name or "/" in name or any(map(str.isdigit, name))
    hint = f"`kvplan estimate {name[:60]}` asks about a model" if looks and not near else f"one of {', '.join(names)}"
    return OptionError(f"unknown command `{name[:60]}`", hint=f"did you mean `kvplan {near}`?" if near else hint)


def sentence(problem: Any) -> tuple[str, str]:
    """(what is wrong, what to do) of an error of the command-line library."""
    ctx = getattr(problem, "ctx", None)
    command = ctx.command_path if ctx is not None else "kvplan"
    see = f"see `{command} --help`"
    option = getattr(problem, "option_name", "")
    if type(problem).__name__ == "NoSuchOption":
        return f"`{command}` has no option `{option[:60]}`", _meant(option, ctx) or see
    parameter = getattr(problem, "param", None)
    if type(problem).__name__ == "MissingParameter" and parameter is not None:
        name = (parameter.metavar or parameter.name or "").removesuffix("...")
        if parameter.param_type_name == "option":
            name = f"{parameter.opts[0]} {parameter.metavar or ''}".strip()
        return f"`{command}` needs {name}", see
    if type(problem).__name__ == "BadParameter" and parameter is not None and parameter.param_type_name == "option":
        said = problem.message.removesuffix(".").replace("a valid int range", "a whole number")
        return f"{parameter.opts[-1]}: {said}", see
    return problem.format_message().removesuffix("."), see


def once(order: Iterable[Any]) -> None:
    """Whether every option of one value was given once, by whichever of its names.

    Args:
        order: the parameters as they were typed, in the library's words.

    Raises:
        OptionError: one was given twice.
    """
    seen: set[int] = set()
    for parameter in order:
        if parameter.param_type_name != "option" or parameter.multiple or parameter.is_flag or parameter.count:
            continue
        if id(parameter) in seen:
            name = next((name for name in parameter.opts if name.startswith("--")), parameter.opts[0])
            several = _SEVERAL.search(f"{parameter.metavar or ''} {parameter.help or ''}")
            raise OptionError(
                f"{name} is given twice, and which of them is meant is not known",
                hint=f"several with commas between: {name} A,B" if several else "give it once",
            )
        seen.add(id(parameter))


def _meant(option: str, ctx: Any) -> str:
    """What to type instead of an option that a command does not have; empty where nothing is near."""
    if ctx is not None and ctx.command_path.endswith(" check"):
        return "a command line is put behind `--`: `kvplan check --gpu NAME -- vllm serve MODEL …`"
    name = option.lstrip("-").replace("_", "-").lower()
    known = {found for parameter in ctx.command.params for found in parameter.opts if found.startswith("--")} if ctx else set()
    if spelled(name) != name:  # a synonym of an option that this command does not have
        name = spelled(name)
    said = _MEANT.get(name)
    if said is not None:
        return said
    near = nearest(f"--{name}", known)
    return f"did you mean `{near}`?" if near else ""
