"""How llama-server reads a command line and its environment.

Source: common/arg.cpp: common_params_parse_ex, common_params_parser_init, get_value_from_env, parse_bool_value.
"""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from kvplan.engines.kernel.commandline.asked import Asked
from kvplan.engines.kernel.commandline.commands import Commands, program_name
from kvplan.engines.kernel.commandline.flags import AtRelease, Flag, at_release, flags_of
from kvplan.engines.kernel.commandline.parser import is_flag
from kvplan.engines.kernel.commandline.told import Told
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Image, Word

_FOLDER: Final = "kvplan.engines.llama_cpp"
_BUILD: Final = re.compile(r"(?:.*-)?(b\d{3,6})")
#: std::stoi: blanks, a sign, digits; what follows is dropped.
_STOI: Final = re.compile(r"\s*([+-]?\d{1,18})")
_STOF: Final = re.compile(r"\s*([+-]?(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(?:[eE][+-]?\d{1,3})?)")
_ON: Final = frozenset({"on", "enabled", "true", "1"})
_OFF: Final = frozenset({"off", "disabled", "false", "0"})
#: Of these every mention counts.
_ADD_UP: Final = frozenset({"override_tensor", "override_kv", "lora", "lora_scaled", "control_vector"})
#: What names the model, the later in this list before the earlier.
_MODELS: Final = ("model_url", "docker_repo", "model", "hf_repo")
#: `-ngl 99` and more mean every layer, as people type it.
_ALL_LAYERS: Final = 99
#: `-ngld` in words -> what kvplan's option calls it.
_WORDS: Final = {"auto": -1, "all": -2}
_ATTENTION: Final = frozenset({"on", "off", "auto"})
_PREFIX: Final = "LLAMA_ARG_"


class LlamaCppCommands(Commands):
    """`llama-server`; an old binary is just `server`."""

    name: ClassVar[str] = "llama.cpp"
    folder: ClassVar[str] = _FOLDER
    numbered: ClassVar[bool] = False
    variables: ClassVar[tuple[str, ...]] = ("GGML_CUDA_ENABLE_UNIFIED_MEMORY", "GGML_CUDA_NO_VMM", "GGML_CUDA_FORCE_MMQ")

    reserves: ClassVar[bool] = False
    renamed: ClassVar[Mapping[str, str]] = {
        "batch_size": "batch", "kv_offload": "offload_kqv", "embedding": "embeddings", "spec_draft_ngl": "n_gpu_layers_draft",
    }  # fmt: skip
    drafters: ClassVar[tuple[str, ...]] = ("spec_draft_model", "spec_draft_hf")
    spreads: ClassVar[bool] = True
    container: ClassVar[str] = "ghcr.io/ggml-org/llama.cpp:server-cuda"
    without_bytes: ClassVar[frozenset[str]] = frozenset(
        {
            "mmap", "mlock", "load_mode", "cache_idle_slots", "checkpoint_min_step",
            "defrag_thold", "pooling", "rope_scaling", "rope_scale", "repack", "op_offload", "fit_ctx", "fit_target",
            "sleep_idle_seconds", "rerank", "hf_file", "mmproj_auto", "no_host",
        }
    )  # fmt: skip

    def begins(self, words: Sequence[Word], call: Call) -> int:
        """llama-server, whatever is appended to its name; `server` where its words are llama-server's."""
        if not words:
            return 0
        name = program_name(words[0])
        if name.startswith("llama-server") or name == "llama_server":
            return 1
        if name == "llama" and len(words) > 1 and words[1].text == "server":
            return 2
        return int(name == "server" and any(word.text in {"-m", "--model", "-hf", "-hfr", "--hf-repo"} for word in words))

    def owns(self, found: Image) -> bool:
        """ggml-org/llama.cpp, and what others build of it."""
        return "llama.cpp" in found.repository or "llama-cpp" in found.name or "llama-server" in found.name

    def started(self, found: Image, words: Sequence[Word], version: str) -> tuple[str, ...] | None:
        """`server*` images start the server, `full*` images with `--server`; `light*` images do not."""
        if found.tag.startswith("full"):
            return None  # tools.sh: see `begins` of the words after --server
        return None if found.tag.startswith("light") else ("llama-server",)

    def tagged(self, tag: str) -> str:
        """Builds are numbered: b6150."""
        said = _BUILD.fullmatch(tag)
        return said[1] if said else ""

    def alone(self, environment: Mapping[str, Word]) -> bool:
        """LLAMA_ARG_ variables of the table."""
        known = {flag.env for flag in flags_of(_FOLDER).flags if flag.memory}
        return any(name in known for name in environment if name.startswith(_PREFIX))

    def read(self, program: Sequence[Word], rest: Sequence[Word], call: Call, version: str) -> Told:
        """The environment first, then the words: the later wins."""
        told, known = Told(), at_release(_FOLDER, version, numbered=False)
        models: dict[str, tuple[str, int]] = {}
        for flag, value, word in _environment(call.environment, told):
            if flag.dest in _MODELS:
                models[flag.dest] = (str(value), word.line)
            elif flag.memory:
                told.put(flag.dest, value, word.line)
        for flag, value, word in _typed(list(rest), known, told, build=bool(version)):
            if flag.dest in _MODELS:
                models[flag.dest] = (str(value), word.line)
            elif flag.memory and flag.dest in _ADD_UP and flag.dest in told.options:
                told.options[flag.dest] = f"{told.options[flag.dest]},{value}"
            elif flag.memory:
                told.put(flag.dest, value, word.line)
        for name in _MODELS:
            if name in models:
                told.model, told.lines["model"] = models[name]
        if "hf_file" in told.options and "hf_repo" not in models:
            told.options.pop("hf_file")
        return told

    def written(self, line: str, model: str, mix: str) -> str:
        """The file as GGUF files are called: model and mix."""
        return line.replace("FILE.gguf", f"/models/{model.rpartition('/')[2]}-{mix}.gguf")

    def limited(self, options: Mapping[str, Any], option: str, tokens: int) -> Mapping[str, Any]:
        """Cells of all slots."""
        _, slots = _slots(options)
        return {"ctx_size": tokens * (1 if options.get("kv_unified") else slots)}

    def asked(self, options: Mapping[str, Any], environment: Mapping[str, str], known: Container[str]) -> Asked:
        """Slots and their cells; layers on cards are all or none, a part of them is not counted."""
        given = dict(options)
        layers = given.pop("n_gpu_layers", None)
        if given.get("spec_draft_ngl") in _WORDS:
            given["spec_draft_ngl"] = _WORDS[given["spec_draft_ngl"]]
        found = super().asked(given, environment, known)
        found.on_cards = layers != 0
        if isinstance(layers, int) and 0 < layers < _ALL_LAYERS:
            found.layers = layers
        elif layers == UNRESOLVED:
            found.undecided.append("--n-gpu-layers")
        found.context, found.sequences = _slots(given)
        if given.get("kv_unified") is True:
            found.sequences = 1
        return found


def _slots(options: Mapping[str, Any]) -> tuple[int | None, int]:
    """(cells of one slot, None for the model's own length; slots): `-np` divides `-c` unless the cache is one for all."""
    parallel = options.get("parallel")
    slots = parallel if isinstance(parallel, int) and parallel > 0 else 1
    cells = options.get("ctx_size")
    if not isinstance(cells, int) or cells <= 0:
        return None, slots
    return (cells if options.get("kv_unified") else max(1, cells // slots)), slots


def _typed(rest: list[Word], known: AtRelease, told: Told, *, build: bool) -> Iterator[tuple[Flag, Any, Word]]:
    """The flags of a command line with their values; no `--flag=value`, no abbreviations."""
    at = 0
    while at < len(rest):
        word = rest[at]
        at += 1
        if not word.known:
            continue
        name = word.text.replace("_", "-") if word.text.startswith("--") else word.text
        named, here = known.named(name)
        if named is None or not here:
            if not is_flag(word.text):
                told.refused.append(f"`{word.text}` belongs to no flag: the server refuses it")
                continue
            told.miss(word.text, gone=named is not None and not build)
            if named is None:
                at += int(at < len(rest) and not is_flag(rest[at].text))
                continue
        flag = named.flag
        if named.negated or flag.takes == "none":
            yield flag, flag.stores is not named.negated, word
            continue
        if flag.dest == "flash_attn" and (at >= len(rest) or rest[at].text not in _ATTENTION):
            yield flag, "on", word  # a bare switch before it took a value
            continue
        if at >= len(rest):
            told.refused.append(f"`{word.text}` needs a value")
            continue
        values = rest[at : at + (2 if flag.takes == "two" else 1)]
        at += len(values)
        yield from _with_value(flag, values, word, told)


def _with_value(flag: Flag, values: Sequence[Word], word: Word, told: Told) -> Iterator[tuple[Flag, Any, Word]]:
    if any(not one.known for one in values):
        yield flag, UNRESOLVED, word
        return
    text = ":".join(one.text for one in values)
    value = _value(flag, text)
    if value is None:
        told.refused.append(f"`{word.text}`: expected a number, got `{text[:40]}`")
    else:
        yield flag, value, word


def _value(flag: Flag, text: str) -> Any:
    """A value as C++ reads it: `32k` is 32; None where the server refuses it."""
    if flag.list:
        parts = [_number(flag, part) for part in re.split(f"[{re.escape(flag.list)}]", text) if part]
        return None if None in parts else parts
    if flag.type in {"int", "float"}:
        return _number(flag, text)
    if flag.type == "str" and flag.hint == "N":
        found = _STOI.fullmatch(text)
        return int(found[1]) if found else text
    return text


def _number(flag: Flag, text: str) -> int | float | None:
    if flag.type == "float":
        found = _STOF.match(text)
        return float(found[1]) if found else None
    found = _STOI.match(text)
    return int(found[1]) if found else None


def _environment(environment: Mapping[str, Word], told: Told) -> Iterator[tuple[Flag, Any, Word]]:
    """LLAMA_ARG_ variables: `LLAMA_ARG_NO_X` set to anything switches X off."""
    table = {flag.env: flag for flag in reversed(flags_of(_FOLDER).flags) if flag.env}
    for name, word in environment.items():
        if not name.startswith(_PREFIX):
            continue
        flag = table.get(name)
        if flag is None:
            positive = table.get(name.replace("LLAMA_ARG_NO_", _PREFIX, 1))
            if positive is None or name == _PREFIX:
                told.miss(name, gone=False)
            elif positive.takes == "none":
                yield positive, False, word
            continue
        if not word.known:
            yield flag, UNRESOLVED, word
        elif flag.takes == "none":
            text = word.text.strip().lower()
            if not flag.stores:
                yield flag, False, word
            elif text in _ON | _OFF:
                yield flag, text in _ON, word
            else:
                told.refused.append(f"`{name}`: expected on or off, got `{word.text[:40]}`")
        else:
            value = _value(flag, word.text)
            if value is not None:
                yield flag, value, word


COMMANDS: Final = LlamaCppCommands()
