"""How trtllm-serve reads a command line and its YAML: click, underscores only; the YAML wins over the flags.

Source: tensorrt_llm/commands/serve.py:serve, llmapi/llm_args.py:update_llm_args_with_extra_dict, BaseLlmArgs and
KvCacheConfig (StrictBaseModel: extra keys are forbidden). NVIDIA Dynamo's worker has dashes and names of its own, and what
`--override-engine-args` says wins over its YAML: ai-dynamo/dynamo components/src/dynamo/trtllm/backend_args.py.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any, ClassVar, Final

from kvplan.engines.kernel.commandline.asked import Asked
from kvplan.engines.kernel.commandline.commands import ALLOCATOR, Commands, module_of, program_name
from kvplan.engines.kernel.commandline.flags import AtRelease, Named, at_release, flags_of, release_key
from kvplan.engines.kernel.commandline.parser import Style, scan, store
from kvplan.engines.kernel.commandline.settings import yaml_keys
from kvplan.engines.kernel.commandline.told import Told
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Image, Word

_FOLDER: Final = "kvplan.engines.tensorrt_llm"
_STYLE: Final = Style(abbreviations=False, human=False)
#: Keys of the YAML were forbidden by this table since about this release; older ones had others (pytorch_backend_config).
_STRICT: Final = release_key("1.0.0")
_NESTED: Final = ("kv_cache_config",)
_BEHIND: Final = "dynamo.trtllm"
#: Dynamo's flag -> that of `trtllm-serve`, where it is not the same with underscores.
_ELSEWHERE_CALLED: Final = {
    "--extra-engine-args": "--extra_llm_api_options",
    "--expert-parallel-size": "--moe_expert_parallel_size",
}
_OVERRIDES: Final = "--override-engine-args"


def _underscored(name: str) -> str:
    return _ELSEWHERE_CALLED.get(name, name.replace("-", "_").replace("__", "--", 1))


_BEHIND_STYLE: Final = Style(spelled=_underscored, human=False)


class TensorRtCommands(Commands):
    """`trtllm-serve [serve] MODEL`, and NVIDIA Dynamo's worker."""

    name: ClassVar[str] = "tensorrt-llm"
    folder: ClassVar[str] = _FOLDER
    packages: ClassVar[tuple[str, ...]] = ("tensorrt_llm", "tensorrt-llm")
    variables: ClassVar[tuple[str, ...]] = ALLOCATOR

    renamed: ClassVar[Mapping[str, str]] = {
        "tensor_parallel_size": "tp_size",
        "pipeline_parallel_size": "pp_size",
        "free_gpu_memory_fraction": "kv_cache_free_gpu_memory_fraction",
    }
    container: ClassVar[str] = "nvcr.io/nvidia/tensorrt-llm/release:{version}"
    without_bytes: ClassVar[frozenset[str]] = frozenset(
        {"load_format", "gpus_per_node", "enable_partial_reuse", "scheduler_config"}
    )

    def begins(self, words: Sequence[Word], call: Call) -> int:
        """The program; `serve` after it may stand or not, its other words are no servers; or Dynamo's module."""
        module, end = module_of(words)
        if module == _BEHIND:
            return end
        if not words or program_name(words[0]) != "trtllm-serve":
            return 0
        second = words[1].text if len(words) > 1 else ""
        if second in {"disaggregated", "disaggregated_mpi_worker", "mm_embedding_serve"}:
            return 0
        return 2 if second == "serve" else 1

    def owns(self, found: Image) -> bool:
        """nvcr.io/nvidia/tensorrt-llm/release, and what others build of it."""
        return any(name in found.repository.lower() for name in ("tensorrt-llm", "tensorrt_llm", "trtllm"))

    def version(self, call: Call) -> str:
        """NVIDIA's tags of this image do name its release."""
        from kvplan.engines.kernel.commandline.words import image

        found = image(call.image)
        return self.tagged(found.tag) if call.image and self.owns(found) else super().version(call)

    def read(self, program: Sequence[Word], rest: Sequence[Word], call: Call, version: str) -> Told:
        """The words after the program, then the YAML where the same input writes it."""
        told, known = Told(), _flags(version)
        if module_of(program)[0] == _BEHIND:
            return _behind(rest, call, version)
        for found in scan(rest, known, _STYLE, told, named_release=bool(version)):
            if not isinstance(found, Word):
                store(found, told, _STYLE)
            elif told.model is None:
                told.model, told.lines["model"] = (found.text if found.known else UNRESOLVED), found.line
            elif found.known:
                told.refused.append(f"`{found.text}` is one word too many: the server refuses it")
        return _with_file(told, call, version)

    def asked(self, options: Mapping[str, Any], environment: Mapping[str, str], known: Container[str]) -> Asked:
        """Keys of `kv_cache_config` are options of their own."""
        given = dict(options)
        cache = given.pop("kv_cache_config", None)
        for key, value in cache.items() if isinstance(cache, dict) else ():
            given["kv_cache_dtype" if key == "dtype" else key] = value
        if given.get("backend") == "pytorch":
            given.pop("backend")
        drafted = given.pop("speculative_config", None)
        found = super().asked(given, environment, known)
        if isinstance(drafted, dict):
            model = drafted.get("speculative_model_dir") or drafted.get("speculative_model")
            found.drafter = model if isinstance(model, str) else ""
            if isinstance(drafted.get("max_draft_len"), int):
                found.put("max_draft_len", drafted["max_draft_len"])
            if isinstance(drafted.get("num_nextn_predict_layers"), int):
                found.put("num_nextn_predict_layers", drafted["num_nextn_predict_layers"])
        elif drafted is not None:
            found.not_counted.append("speculative_config")
        return found

    def file(self, keys: Mapping[str, Any]) -> bool:
        """A file for `--extra_llm_api_options`: most keys are of its table, and one is of nobody else's."""
        known = _keys()
        ours = [key for key in keys if key in known]
        return len(ours) * 2 >= len(keys) and any(
            key in keys for key in ("kv_cache_config", "cuda_graph_config", "pytorch_backend_config", "disable_overlap_scheduler",
                                    "enable_attention_dp", "moe_config", "attn_backend", "enable_iter_perf_stats")
        )  # fmt: skip

    def settings(self, keys: Mapping[str, Any]) -> Told:
        """What the server makes of such a file."""
        told = Told()
        _settings(keys, told, "", 0)
        return told


def _with_file(told: Told, call: Call, version: str) -> Told:
    """What the YAML says, where the same input writes it."""
    named = told.options.get("extra_llm_api_options")
    if isinstance(named, str) and named in call.files:
        keys = yaml_keys(call.files[named])
        if keys is not None:
            line = told.lines["extra_llm_api_options"]
            told.put("extra_llm_api_options", None)
            _settings(keys, told, version, line)
    return told


def _behind(rest: Sequence[Word], call: Call, version: str) -> Told:
    """Dynamo's worker: argparse, the model is a flag, and a text in JSON has the last word."""
    told, left, overrides = Told(), list(rest), Word("")
    for at, word in reversed(list(enumerate(left))):
        name, equals, value = word.text.partition("=")
        if name not in {"--model", "--model-path", _OVERRIDES}:
            continue
        said = Word(value, word.line, word.known) if equals else left[at + 1] if at + 1 < len(left) else Word("")
        del left[at : at + (1 if equals else 2)]
        if name == _OVERRIDES:
            overrides = overrides if overrides.text else said
        elif told.model is None:
            told.model, told.lines["model"] = (said.text if said.known else UNRESOLVED), word.line
    for found in scan(left, _flags(version), _BEHIND_STYLE, told, named_release=bool(version)):
        if not isinstance(found, Word):
            store(found, told, _BEHIND_STYLE)
        elif found.known:
            told.refused.append(f"`{found.text}` is one word too many: the worker refuses it")
    told = _with_file(told.behind(), call, version)
    keys = yaml_keys(overrides.text) if overrides.text else None
    if keys is not None:
        _settings(keys, told, version, overrides.line)
    elif overrides.text or not overrides.known:
        told.put("override_engine_args", UNRESOLVED, overrides.line)
    return told


def _flags(version: str) -> AtRelease:
    """The flags alone; keys of the YAML are no flags."""
    known = at_release(_FOLDER, version)
    here, elsewhere = (
        {name: flag for name, flag in part.items() if name.startswith("-")} for part in (known.names, known.elsewhere)
    )
    return AtRelease(here, elsewhere, known.release)


def _keys() -> dict[str, Named]:
    return {flag.key: Named(flag) for flag in flags_of(_FOLDER).flags if flag.key}


def _settings(keys: Mapping[str, Any], told: Told, version: str, line: int) -> None:
    """The YAML's keys, whole; those that the release forbids are unknown."""
    known, strict = _keys(), not version or release_key(version) >= _STRICT
    for key, value in keys.items():
        named = known.get(key)
        if named is None:
            if strict:
                told.miss(key, gone=False)
            continue
        if key in _NESTED and isinstance(value, dict) and strict:
            for inner in value:
                if f"{key}.{inner}" not in known:
                    told.miss(f"{key}.{inner}", gone=False)
        if named.flag.memory:
            told.put(named.flag.dest, value, line)
        if key == "kv_cache_config" and isinstance(value, dict) and "free_gpu_memory_fraction" in value:
            told.put("free_gpu_memory_fraction", None)  # one and the same; the YAML wins


COMMANDS: Final = TensorRtCommands()
