"""How Ollama reads its environment, its own words and a Modelfile's parameters.

Source: envconfig/config.go: Var, Bool, Uint; parser/parser.go; api/types.go: Options.
"""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from kvplan.engines.kernel.commandline.asked import Asked
from kvplan.engines.kernel.commandline.commands import Commands, program_name
from kvplan.engines.kernel.commandline.flags import Flag, flags_of
from kvplan.engines.kernel.commandline.told import Told
from kvplan.engines.kernel.commandline.values import BadValue, integer, number
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Image, Word

_FOLDER: Final = "kvplan.engines.ollama"
#: What the form of Modelfiles puts before their lines: three words each, the command, its name, its value.
MODELFILE: Final = "Modelfile"
_PREFIX: Final = "OLLAMA_"
_SERVED: Final = "environment of ollama serve"
#: Parameters that the parser still takes and nobody reads (parser.go: deprecatedParameters).
_DEPRECATED: Final = frozenset(
    {
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
    }
)
#: strconv.ParseBool; anything else that is set means true (envconfig.Bool).
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
#: Flags of `ollama run` that take a word.
_WITH_VALUE: Final = frozenset({"--keepalive", "--format", "--dimensions"})


#: Tokens of a slot on cards of less than 24 GiB in all (server/routes.go); more memory gives more, and then it is said.
_LENGTH: Final = 4096
_TAG: Final = re.compile(
    r"(?P<family>[a-z-]+?)(?P<number>\d+(?:\.\d+)?)?(?:-(?P<extra>[a-z]+))?(?::(?:(?P<size>\d+(?:\.\d+)?[bm](?:-a\d+b)?)|latest)"
    r"(?:-[a-z0-9.]+?)*?(?:-(?P<mix>q\d(?:_[0-9kmsl]+)*|fp16|bf16|f16|mxfp4))?)?"
)


class OllamaCommands(Commands):
    """`ollama serve` and its environment; `ollama run MODEL`."""

    name: ClassVar[str] = "ollama"
    folder: ClassVar[str] = _FOLDER
    variables: ClassVar[tuple[str, ...]] = ("GGML_CUDA_ENABLE_UNIFIED_MEMORY", "GGML_CUDA_NO_VMM")

    refuses_unknown: ClassVar[bool] = False
    reserves: ClassVar[bool] = False

    settable: ClassVar[Mapping[str, str]] = {}
    spreads: ClassVar[bool] = True
    renamed: ClassVar[Mapping[str, str]] = {
        f"OLLAMA_{name.upper()}": name
        for name in ("context_length", "num_parallel", "kv_cache_type", "flash_attention", "gpu_overhead", "sched_spread")
    }
    container: ClassVar[str] = "ollama/ollama:{version}"
    describes: ClassVar[bool] = True
    slots: ClassVar[str] = "OLLAMA_NUM_PARALLEL"
    layers: ClassVar[str] = "num_gpu"
    starts_empty: ClassVar[bool] = True
    without_bytes: ClassVar[frozenset[str]] = frozenset(
        {"OLLAMA_KEEP_ALIVE", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_LLM_LIBRARY", "OLLAMA_VULKAN", "OLLAMA_IGPU_ENABLE", "from"}
    )

    def begins(self, words: Sequence[Word], call: Call) -> int:
        """The program and one of its two words that hold a model; a Modelfile."""
        if words and words[0].text == MODELFILE:
            return 1
        if len(words) > 1 and program_name(words[0]) == "ollama" and words[1].text in {"serve", "start", "run"}:
            return 2
        return 0

    def known_as(self, model: str) -> Iterator[tuple[str, str | None]]:
        """`llama3.1:8b-instruct-q8_0` of Ollama's library is llama-3.1-8b; weights that no tag names are Q4_K_M."""
        found = _TAG.fullmatch(model.lower())
        if found is None:
            return
        family, number, size, mix = found["family"], found["number"] or "", found["size"] or "", found["mix"]
        for name in (f"{family}{number}", f"{family}-{number}".rstrip("-")):
            yield f"{name}-{size}".rstrip("-"), mix or "q4_k_m"

    def loads(self, model: str, mix: str) -> tuple[str, ...]:
        """`ollama run`, of a GGUF on the hub."""
        owner, slash, name = model.rpartition("/")
        return ("ollama", "run", f"hf.co/{owner}{slash}{name}-GGUF:{mix}" if owner else f"{name}-{mix}")

    def limited(self, options: Mapping[str, Any], option: str, tokens: int) -> Mapping[str, Any]:
        """The model's own length, or the server's."""
        return {"num_ctx" if "num_ctx" in options else "OLLAMA_CONTEXT_LENGTH": tokens}

    def asked(self, options: Mapping[str, Any], environment: Mapping[str, str], known: Container[str]) -> Asked:
        """Slots and their length: the model's or the request's own, the server's, else by the cards' memory."""
        found = super().asked(options, environment, known)
        length = options.get("num_ctx") or options.get("OLLAMA_CONTEXT_LENGTH")
        slots = options.get("OLLAMA_NUM_PARALLEL")
        found.context = length if isinstance(length, int) else _LENGTH
        found.sequences = slots if isinstance(slots, int) and slots > 0 else 1
        layers = options.get("num_gpu")
        found.on_cards = layers != 0
        return found

    def owns(self, found: Image) -> bool:
        """ollama/ollama, by its name."""
        return found.name.lower() == "ollama"

    def started(self, found: Image, words: Sequence[Word], version: str) -> tuple[str, ...] | None:
        """`ollama serve`, or `ollama` before other words."""
        return ("ollama",) if words else ("ollama", "serve")

    def serving(self, model: Word | None) -> tuple[Word, ...]:
        """`ollama run MODEL`, which loads it."""
        return (Word("ollama"), Word("run"), model) if model is not None else (Word("ollama"), Word("serve"))

    def alone(self, environment: Mapping[str, Word]) -> bool:
        """Variables of the server that change memory."""
        known = {flag.env for flag in flags_of(_FOLDER).flags if flag.memory and flag.env.startswith(_PREFIX)}
        return any(name in known for name in environment)

    def read(self, program: Sequence[Word], rest: Sequence[Word], call: Call, version: str) -> Told:
        """The model of `ollama run`, and the environment."""
        told = Told()
        if program and program[0].text == MODELFILE:
            _modelfile(rest, told)
        elif len(program) > 1 and program[1].text == "run":
            at = 0
            while at < len(rest):
                word = rest[at]
                at += 1
                if word.known and word.text.startswith("-"):
                    at += word.text in _WITH_VALUE
                    continue
                told.model, told.lines["model"] = (word.text if word.known else UNRESOLVED), word.line
                break
        environment(call.environment, told)
        return told


def environment(variables: Mapping[str, Word], told: Told) -> None:
    """OLLAMA_ variables: those that change memory are options, those that Ollama does not read are unknown."""
    table = {flag.env: flag for flag in flags_of(_FOLDER).flags if flag.where == _SERVED}
    for name, word in variables.items():
        if not name.startswith(_PREFIX):
            continue
        flag = table.get(name)
        if flag is None:
            told.miss(name, gone=False)
        elif flag.memory:
            text = word.text.strip().strip("\"'")
            if not word.known:
                told.put(name, UNRESOLVED, word.line)
            elif text:
                told.put(name, _variable(flag, text), word.line)


def _variable(flag: Flag, text: str) -> Any:
    """A variable's value; one that does not read as a number is as if it were not set (envconfig.Uint)."""
    if flag.type == "bool":
        return text not in _FALSE
    if flag.type == "int":
        return int(text) if text.isdecimal() and len(text) < 20 else None
    return text


def _modelfile(rest: Sequence[Word], told: Told) -> None:
    """Its lines: the first FROM is the model."""
    for command, name, value in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        if command.text == "FROM":
            if told.model is None:
                told.model, told.lines["model"] = (value.text if value.known else UNRESOLVED), value.line
        elif command.text == "PARAMETER":
            parameter(name.text, (value,), told, name.line)
        else:
            parameter(command.text, (value,), told, command.line)


def parameter(name: str, words: Sequence[Word], told: Told, line: int) -> None:
    """A line of a Modelfile: `PARAMETER NAME VALUE`, or a command of its own such as `DRAFT`."""
    table = {one: flag for flag in flags_of(_FOLDER).flags if not flag.env for one in flag.names}
    flag = table.get(name) or table.get(name.upper())
    if flag is None or flag.where == "ollama run":
        if name not in _DEPRECATED:
            told.miss(name, gone=False)
        return
    if not flag.memory or not words:
        return
    if any(not word.known for word in words):
        told.put(flag.dest, UNRESOLVED, line)
        return
    text = " ".join(word.text for word in words)
    try:
        value: Any = text
        if flag.type == "int":
            value = integer(text)
        elif flag.type == "float":
            value = number(text)
        elif flag.type == "bool":
            value = text.strip().lower() == "true"
    except BadValue as problem:
        told.refused.append(f"`{name}`: {problem}")
        return
    told.put(flag.dest, value, line)


COMMANDS: Final = OllamaCommands()
