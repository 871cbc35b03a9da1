"""How vLLM reads a command line.

Source: vllm/utils/argparse_utils.py:FlexibleArgumentParser (parse_args, _pull_args_from_config, load_config_file),
vllm/engine/arg_utils.py:EngineArgs.add_cli_args, vllm/entrypoints/openai/cli_args.py:make_arg_parser, of the releases in
`flags.json`.
"""

import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from kvplan.domain.model import Model
from kvplan.engines.kernel.commandline.asked import Asked
from kvplan.engines.kernel.commandline.commands import ALLOCATOR, Commands, module_of, program_name
from kvplan.engines.kernel.commandline.flags import AtRelease, at_release, flags_of, release_key
from kvplan.engines.kernel.commandline.parser import Given, Style, is_flag, scan, store
from kvplan.engines.kernel.commandline.told import Told
from kvplan.engines.kernel.commandline.values import BadValue, json_value
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Image, Word, words
from kvplan.engines.vllm.typed import ENVIRONMENT

_FOLDER: Final = "kvplan.engines.vllm"
#: The server's modules, and NVIDIA Dynamo's in front of the same arguments, with others of its own.
_BEHIND: Final = "dynamo.vllm"
_MODULES: Final = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server", _BEHIND)
#: `vllm serve` is the image's entrypoint since this release; before, the module.
_SERVE_IMAGE: Final = release_key("0.11.1")
#: StoreBoolean: `--enable-chunked-prefill=false` was read before this release.
_NO_STORED_BOOLEANS: Final = release_key("0.9.0")
#: `32k` for numbers inside JSON (_expand_json_human_readable_numbers), and before it `auto` for a length.
_HUMAN_JSON: Final = release_key("0.22.0")
_LEVEL: Final = re.compile(r"-O=?(\d)")
_CONFIG: Final = (".yaml", ".yml")
#: Keys of the speculative config -> the rest of the names of the flags that set them (`--spec-method`).
_SPEC: Final = {"method": "method", "model": "model", "num_speculative_tokens": "tokens"}
#: Parts of a drafter's name -> how it drafts, where no method is typed, in the order in which they are looked for.
_DRAFTS: Final = {"eagle-": "eagle", "eagle3": "eagle3", "dflash": "dflash", "dspark": "dspark"}
_LEVELS: Final = 8  # of dotted keys
#: Variables that size tiers in ways that kvplan does not count: files and numbers of blocks.
_TIERS_ELSEWHERE: Final = (
    "LMCACHE_CONFIG_FILE", "DYN_KVBM_CPU_CACHE_OVERRIDE_NUM_BLOCKS", "DYN_KVBM_DISK_CACHE_OVERRIDE_NUM_BLOCKS",
)  # fmt: skip


def _dashed(name: str) -> str:
    """`--max_model_len` as the parser sees it: up to the first dot every `_` is a `-`."""
    if not name.startswith("--"):
        return name
    head, dot, rest = name.partition(".")
    return head.replace("_", "-") + dot + rest


class VllmCommands(Commands):
    """`vllm serve`, and the module that it was before."""

    name: ClassVar[str] = "vllm"
    folder: ClassVar[str] = _FOLDER
    packages: ClassVar[tuple[str, ...]] = ("vllm",)
    variables: ClassVar[tuple[str, ...]] = (
        "VLLM_ATTENTION_BACKEND", "VLLM_PP_LAYER_PARTITION", "VLLM_USE_V1", "VLLM_KV_CACHE_LAYOUT", "VLLM_CPU_KVCACHE_SPACE",
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN", "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS", "VLLM_MLA_DISABLE",
        "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE", "VLLM_FUSED_MOE_CHUNK_SIZE", "VLLM_MM_INPUT_CACHE_GIB",
        "VLLM_MAX_TOKENS_PER_EXPERT_FP4_MOE", "VLLM_USE_V2_MODEL_RUNNER", "VLLM_ENABLE_V1_MULTIPROCESSING", *ALLOCATOR,
        *ENVIRONMENT.values(), *_TIERS_ELSEWHERE,
    )  # fmt: skip

    container: ClassVar[str] = "vllm/vllm-openai:v{version}"
    settable: ClassVar[Mapping[str, str]] = {
        "VLLM_PP_LAYER_PARTITION": "pp_layer_partition",
        "VLLM_KV_CACHE_LAYOUT": "kv_cache_layout",
        **{name: option for option, name in ENVIRONMENT.items()},
    }
    renamed: ClassVar[Mapping[str, str]] = {"cuda_graph_sizes": "cudagraph_capture_sizes"}
    without_bytes: ClassVar[frozenset[str]] = frozenset(
        {
            "model", "load_format", "max_logprobs", "num_scheduler_steps", "use_v2_block_manager", "num_lookahead_slots",
            "preemption_mode", "max_num_partial_prefills", "swap_space", "mm_processor_cache_gb", "max_cpu_loras",
            "device_ids",
            "max_seq_len_to_capture",
        }
    )  # fmt: skip

    def begins(self, words: Sequence[Word], call: Call) -> int:
        """`vllm serve`, or the module."""
        if len(words) > 1 and program_name(words[0]) == "vllm" and words[1].text == "serve":
            return 2
        module, end = module_of(words)
        return end if module in _MODULES else 0

    def owns(self, found: Image) -> bool:
        """vllm/vllm-openai and what others build of it."""
        return "vllm" in found.name.lower()

    def started(self, found: Image, words: Sequence[Word], version: str) -> tuple[str, ...] | None:
        """The entrypoint: `vllm serve`, up to 0.11.0 the module; images of others whose words begin with `serve` start `vllm`."""
        if words and words[0].text == "serve":
            return ("vllm",)
        ours = "vllm-openai" in found.name or found.name == "vllm" or "vllm-cpu" in found.name
        if not ours and not (words and words[0].text.startswith("--")):
            return None  # images of others start what they like; flags alone are the server's
        if words and not is_flag(words[0].text) and program_name(words[0]) in {"sh", "bash", "sleep", "ray", "tail"}:
            return None
        if version and release_key(version) < _SERVE_IMAGE:
            return ("python3", "-m", _MODULES[0])
        return ("vllm", "serve")

    def read(self, program: Sequence[Word], rest: Sequence[Word], call: Call, version: str) -> Told:
        """The words after the program."""
        told = Told()
        known = at_release(_FOLDER, version)
        serves = module_of(program)[1] == 0
        expanded = _with_config(_levels(rest, known), call.files, told)
        style = Style(
            spelled=_dashed,
            switches_take=bool(version) and release_key(version) < _NO_STORED_BOOLEANS,
            human=not version or release_key(version) >= _HUMAN_JSON,
        )
        plain, dotted = _dotted(expanded, known, told, named=bool(version))
        loose: list[Word] = []
        named: str | None = None
        for found in scan(plain, known, style, told, named_release=bool(version)):
            if isinstance(found, Word):
                loose.append(found)
            elif found.named.flag.dest == "model":
                value = found.values[-1] if found.values else None
                named = None if value is None else value.text if value.known else UNRESOLVED
                told.lines["model"] = found.line
            else:
                _store(found, told, style, version)
        for dest, (value, line) in dotted.items():
            told.put(dest, value, line)
        if named is None and serves and loose:
            first = loose.pop(0)
            named, told.lines["model"] = (first.text if first.known else UNRESOLVED), first.line
        if loose and loose[0].known:
            said = "is ignored: the module takes --model" if not serves else "is one word too many: the server refuses it"
            told.notes.append(f"`{loose[0].text}` {said}") if not serves else told.refused.append(f"`{loose[0].text}` {said}")
        told.model = named
        return told.behind() if module_of(program)[0] == _BEHIND else told

    def serving(self, model: Word | None) -> tuple[Word, ...]:
        """`vllm serve MODEL`."""
        return (*words("vllm", "serve"), *((model,) if model is not None else ()))

    def knows(self, flag: str) -> bool:
        """Operators that name no engine start this one."""
        return flag in at_release(_FOLDER, "").names

    def asked(self, options: Mapping[str, Any], environment: Mapping[str, str], known: Container[str]) -> Asked:
        """Parts of the compilation config are options of their own; a drafter is a second model."""
        given = dict(options)
        compiled = given.pop("compilation_config", None)
        drafted = given.get("speculative_config")
        short = {key: given.pop(f"spec_{name}") for key, name in _SPEC.items() if f"spec_{name}" in given}
        if short:
            given["speculative_config"] = drafted = {**(drafted if isinstance(drafted, dict) else {}), **short}
        if isinstance(drafted, dict):
            given["speculative_config"] = drafted = _with_method(drafted)
        if given.get("device") != "cpu":
            given.pop("device", None)
        open_ended = [name for name in ENVIRONMENT.values() if environment.get(name) == UNRESOLVED]
        found = super().asked(given, {name: value for name, value in environment.items() if name not in open_ended}, known)
        found.not_counted += open_ended  # host memory: what the card holds does not depend on it
        if isinstance(compiled, dict):
            for key, value in compiled.items():
                if key in {"cudagraph_mode", "cudagraph_capture_sizes", "max_cudagraph_capture_size"}:
                    found.put(key, value)
                elif key not in {"level", "mode", "pass_config", "custom_ops", "backend", "cache_dir", "compile_sizes"}:
                    found.not_counted.append(f"--compilation-config {key}")
        elif compiled is not None and not isinstance(compiled, int):
            found.not_counted.append("--compilation-config")
        if isinstance(drafted, dict) and isinstance(drafted.get("model"), str):
            found.drafter = drafted["model"]
        return found

    def too_long(self, options: Mapping[str, Any], environment: Mapping[str, str], model: Model) -> tuple[str, int]:
        """Source: config/model.py:_get_and_verify_max_len; what rewrites the config may lengthen it."""
        from kvplan.engines.vllm.models import trained_length

        length, derived = options.get("max_model_len"), trained_length(model)
        allowed = environment.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0").lower() in {"1", "true"}
        if allowed or not isinstance(length, int) or length <= derived or {"hf_overrides", "rope_scaling"} & set(options):
            return "", 0
        return f"User-specified max_model_len ({length}) is greater than the derived max_model_len ({derived})", derived

    def file(self, keys: Mapping[str, Any]) -> bool:
        """A file for `--config`: its keys are flags, and one of them is the model or three are known."""
        known = at_release(_FOLDER, "").names
        ours = [key for key in keys if _dashed(f"--{key}") in known]
        others = len(keys) - len(ours)
        return len(ours) > others and ((isinstance(keys.get("model"), str) and len(ours) > 1) or len(ours) >= 3)

    def settings(self, keys: Mapping[str, Any]) -> Told:
        """What the server makes of such a file."""
        return self.read(words("vllm", "serve"), list(_config_words(keys)), Call(words=()), "")


def _with_method(drafted: Mapping[str, Any]) -> dict[str, Any]:
    """The speculative config with the method that is taken where none is typed.

    Source: config/speculative.py:SpeculativeConfig.__post_init__; a drafter's config may say medusa or mtp, its name does not.
    """
    model = drafted.get("model")
    if drafted.get("method") or not isinstance(model, str):
        return dict(drafted)
    if model in {"ngram", "[ngram]"}:
        return {**{key: value for key, value in drafted.items() if key != "model"}, "method": "ngram"}
    return {**drafted, "method": next((method for part, method in _DRAFTS.items() if part in model.lower()), "draft_model")}


def _levels(rest: Sequence[Word], known: AtRelease) -> Iterator[Word]:
    """`-O3` and its kin are `--optimization-level 3`, up to 0.11 `--compilation-config 3`."""
    flag = "--optimization-level" if "--optimization-level" in known.names else "--compilation-config"
    for word in rest:
        found = _LEVEL.fullmatch(word.text) if word.known else None
        if found is None:
            yield Word(flag, word.line) if word.text == "-O" else word
        else:
            yield Word(flag, word.line)
            yield Word(found[1], word.line)


def _with_config(rest: Iterator[Word], files: Mapping[str, str], told: Told) -> list[Word]:
    """A YAML file that the same input writes, in place of `--config FILE`: after the model, before the other flags."""
    given = list(rest)
    for at, word in enumerate(given[:-1]):
        if word.text != "--config" or given[at + 1].text not in files or not given[at + 1].text.endswith(_CONFIG):
            continue
        from kvplan.engines.kernel.commandline.settings import yaml_keys

        keys = yaml_keys(files[given[at + 1].text])
        if keys is None:
            break
        model = [given[0]] if given and not is_flag(given[0].text) else []
        others = given[len(model) : at] + given[at + 2 :]
        return [*model, *_config_words(keys), *others]
    return given


def _config_words(keys: Mapping[str, Any]) -> Iterator[Word]:
    """A file's keys as words (load_config_file): true adds the flag, false and null add nothing, lists are words."""
    if isinstance(keys.get("model"), str):
        yield from words("--model", keys["model"])
    for key, value in keys.items():
        if key == "model" or value is False or value is None:
            continue
        yield Word(f"--{key}")
        if value is True:
            continue
        if isinstance(value, list):
            yield from (Word(str(one)) for one in value)
        else:
            yield Word(json.dumps(value) if isinstance(value, dict) else str(value))


def _dotted(rest: Sequence[Word], known: AtRelease, told: Told, *, named: bool) -> tuple[list[Word], dict[str, tuple[Any, int]]]:
    """(the words without dotted keys, what those build): `--flag.a.b V`, put in after everything else."""
    plain: list[Word] = []
    built: dict[str, tuple[Any, int]] = {}
    at = 0
    while at < len(rest):
        word = rest[at]
        at += 1
        name, equals, after = _dashed(word.text).partition("=") if is_flag(word.text) else (word.text, "", "")
        flag_name, dot, path = name.partition(".")
        if not word.known or not dot or not name.startswith("--"):
            plain.append(word)
            continue
        if not equals and at < len(rest):
            value, at = rest[at], at + 1
        else:
            value = Word(after, word.line)
        found, _ = known.named(flag_name)
        found = found or known.beginning(flag_name)
        if found is None:
            told.miss(flag_name, gone=False)
            continue
        keys = path.split(".")
        if len(keys) > _LEVELS:
            told.refused.append(f"`{flag_name}`: more than {_LEVELS} dots")
            continue
        whole, _ = built.get(found.flag.dest, ({}, 0))
        _set(whole, keys, value)
        if found.flag.memory:
            built[found.flag.dest] = (whole, word.line)
    return plain, built


def _set(whole: dict[str, Any], keys: Sequence[str], value: Word) -> None:
    """Put a value where a dotted key says; `key+` appends texts to a list."""
    inner = whole
    for key in keys[:-1]:
        following = inner.setdefault(key, {})
        if not isinstance(following, dict):
            return
        inner = following
    last = keys[-1]
    if last.endswith("+"):
        known = inner.setdefault(last[:-1], [])
        if isinstance(known, list):
            known += value.text.split(",")
        return
    if not value.known:
        inner[last] = UNRESOLVED
        return
    try:
        inner[last] = json_value(value.text)
    except BadValue:
        inner[last] = value.text


def _store(found: Given, told: Told, style: Style, version: str) -> None:
    """A flag's value; `auto` is -1 for a length (human_readable_int_or_auto)."""
    flag = found.named.flag
    if flag.dest == "max_model_len" and found.values and found.values[-1].text == "auto":
        told.put(flag.dest, -1, found.line)
        return
    if flag.dest == "config" and found.values and not found.values[-1].text.endswith(_CONFIG):
        told.notes.append("`--config` is read from two words, and only as .yaml or .yml")
    store(found, told, style)


def choices() -> tuple[str, ...]:
    """The releases that were read."""
    return flags_of(_FOLDER).releases


COMMANDS: Final = VllmCommands()
