"""How TabbyAPI reads its settings: config.yml, then TABBY_SECTION_KEY, then flags; the later wins, unknown keys are ignored.

Source: theroyallab/tabbyAPI common/tabby_config.py:load, common/args.py, common/config_models.py.
"""

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any, ClassVar, Final

from kvplan.engines.kernel.commandline.asked import Asked
from kvplan.engines.kernel.commandline.commands import ALLOCATOR, Commands, module_of, program_name
from kvplan.engines.kernel.commandline.flags import Flag, at_release, flags_of
from kvplan.engines.kernel.commandline.parser import Style, scan, store
from kvplan.engines.kernel.commandline.told import Told
from kvplan.engines.kernel.commandline.values import BadValue, one
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Image, Word

_FOLDER: Final = "kvplan.engines.exllamav3"
_STYLE: Final = Style(human=False)
_SCRIPTS: Final = ("main.py", "start.py")
#: Flags that no other `main.py` has.
_OWN: Final = frozenset(
    {"--model-name", "--cache-mode", "--gpu-split", "--gpu-split-auto", "--autosplit-reserve", "--draft-model-name"}
)
_PYTHON: Final = re.compile(r"python[\d.]*")
_PREFIX: Final = "TABBY_"


class TabbyCommands(Commands):
    """TabbyAPI, the server of ExLlamaV3."""

    name: ClassVar[str] = "exllamav3"
    folder: ClassVar[str] = _FOLDER
    variables: ClassVar[tuple[str, ...]] = ALLOCATOR

    refuses_unknown: ClassVar[bool] = False
    spreads: ClassVar[bool] = True
    container: ClassVar[str] = "ghcr.io/theroyallab/tabbyapi:latest"
    starts_empty: ClassVar[bool] = True
    drafters: ClassVar[tuple[str, ...]] = ("draft_model_name",)
    without_bytes: ClassVar[frozenset[str]] = frozenset(
        {
            "model_name", "backend", "tensor_parallel_backend", "cuda_malloc_async", "gpu_split_auto", "rope_scale", "rope_alpha",
            "draft_model_dir", "draft_rope_scale", "draft_rope_alpha",
        }
    )  # fmt: skip

    def begins(self, words: Sequence[Word], call: Call) -> int:
        """`python main.py` with its flags, or in its folder or image."""
        if not words or module_of(words)[1]:
            return 0
        name = program_name(words[0])
        if _PYTHON.fullmatch(name) and len(words) > 1:
            script, end = words[1].text, 2
        elif name in {"start.sh", "start.bat"}:
            script, end = words[0].text, 1
        else:
            return 0
        if re.split(r"[\\/]", script)[-1] not in (*_SCRIPTS, "start.sh", "start.bat"):
            return 0
        ours = "tabby" in script.lower() or "tabby" in call.image.lower()
        typed = {word.text.partition("=")[0].replace("_", "-") for word in words[end:]}
        return end if ours or typed & _OWN else 0

    def owns(self, found: Image) -> bool:
        """theroyallab/tabbyapi."""
        return "tabbyapi" in found.repository.lower()

    def started(self, found: Image, words: Sequence[Word], version: str) -> tuple[str, ...] | None:
        """The image's entrypoint."""
        return ("python3", "main.py")

    def alone(self, environment: Mapping[str, Word]) -> bool:
        """TABBY_ variables of its model."""
        known = {flag.env for flag in flags_of(_FOLDER).flags if flag.memory}
        return any(name in known for name in environment)

    def read(self, program: Sequence[Word], rest: Sequence[Word], call: Call, version: str) -> Told:
        """The environment, then the words."""
        told = Told()
        table = {flag.env: flag for flag in flags_of(_FOLDER).flags if flag.env}
        for name, word in call.environment.items():
            if name.startswith(_PREFIX) and name in table:
                _put(table[name], UNRESOLVED if not word.known else word.text, told, word.line)
        known = at_release(_FOLDER, "")
        for found in scan([_dashed(word) for word in rest], known, _STYLE, told, named_release=bool(version)):
            if not isinstance(found, Word):
                store(found, told, _STYLE)
        return _named(told)

    def file(self, keys: Mapping[str, Any]) -> bool:
        """A config.yml: a section `model` with a name or folder, beside sections of its own."""
        model = keys.get("model")
        ours = {flag.key.partition(".")[0] for flag in flags_of(_FOLDER).flags}
        inside = {flag.dest for flag in flags_of(_FOLDER).flags if flag.key.startswith("model.")}
        return isinstance(model, dict) and len(set(model) & inside) * 2 > len(model) and set(keys) <= ours | {"model"}

    def settings(self, keys: Mapping[str, Any]) -> Told:
        """What the server makes of such a file; keys are per section, unknown ones are ignored."""
        told = Told()
        table = {flag.key: flag for flag in flags_of(_FOLDER).flags}
        for section, values in keys.items():
            for key, value in values.items() if isinstance(values, dict) else ():
                flag = table.get(f"{section}.{key}")
                if flag is not None and flag.memory and value is not None:
                    told.put(flag.dest, value)
        return _named(told)

    def asked(self, options: Mapping[str, Any], environment: Mapping[str, str], known: Container[str]) -> Asked:
        """Tensor parallelism is over all cards or none; what is off asks for nothing."""
        given = _without_vision(options)
        splits = given.pop("tensor_parallel", False)
        found = super().asked(given, environment, known)
        found.splits_all = splits is True
        return found


def _without_vision(options: Mapping[str, Any]) -> dict[str, Any]:
    """Switches that are off ask for nothing."""
    return {name: value for name, value in options.items() if not (name in {"vision", "cpu_moe_offload_layers"} and not value)}


def _dashed(word: Word) -> Word:
    """`--max_seq_len` is `--max-seq-len`, as both spellings are added."""
    name, equals, value = word.text.partition("=")
    return Word(name.replace("_", "-") + equals + value, word.line, word.known) if name.startswith("--") else word


def _put(flag: Flag, text: str, told: Told, line: int) -> None:
    if not flag.memory:
        return
    try:
        many = flag.takes == "many" and text != UNRESOLVED
        value = [one(flag, part) for part in re.split(r"[,\s\[\]]+", text) if part] if many else text
        told.put(flag.dest, value if many or text == UNRESOLVED else one(flag, text), line)
    except BadValue as problem:
        told.refused.append(f"`{flag.env}`: {problem}")


def _named(told: Told) -> Told:
    model = told.options.pop("model_name", None)
    if isinstance(model, str):
        told.model, told.lines["model"] = model, told.lines.get("model_name", 0)
    return told


COMMANDS: Final = TabbyCommands()
