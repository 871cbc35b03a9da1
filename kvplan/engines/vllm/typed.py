"""What to type for options that were named: flags of `vllm serve`, its JSON, and its environment.

Source: vllm/engine/arg_utils.py:EngineArgs.add_cli_args, vllm/envs.py.
"""

from collections.abc import Collection, Iterator
from shlex import quote
from typing import Any, Final

from msgspec.structs import fields

from kvplan.engines.kernel.typed import hub_name, own_flags
from kvplan.engines.vllm.options import VllmOptions

#: Options that are variables of the environment -> their names.
ENVIRONMENT: Final = {
    "use_simple_kv_offload": "VLLM_USE_SIMPLE_KV_OFFLOAD",
    "lmcache_local_cpu": "LMCACHE_LOCAL_CPU",
    "lmcache_max_local_cpu_size": "LMCACHE_MAX_LOCAL_CPU_SIZE",
    "lmcache_max_local_disk_size": "LMCACHE_MAX_LOCAL_DISK_SIZE",
    "lmcache_chunk_size": "LMCACHE_CHUNK_SIZE",
    "dyn_kvbm_cpu_cache_gb": "DYN_KVBM_CPU_CACHE_GB",
    "dyn_kvbm_disk_cache_gb": "DYN_KVBM_DISK_CACHE_GB",
}
#: In the pieces of the command, in JSON below, in the environment; or what the machine is, or how a program starts the engine.
_BESIDE: Final = frozenset(
    {
        "kv_cache_dtype", "max_model_len", "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "max_num_seqs",
        "gpu_memory_utilization", "speculative_config", "draft", "kv_cache_layout", "usage_context", "cudagraph_mode",
        "cudagraph_capture_sizes", "limit_mm_per_prompt", "device", "device_name", "device_memory_bytes", "compute_capability",
        "enable_expert_parallel", "allow_chunked_local_attn_with_hybrid_kv_cache", "kv_transfer_config", *ENVIRONMENT,
    }
)  # fmt: skip
_DEFAULTS: Final = {item.name: item.default for item in fields(VllmOptions)}
#: Flags that older releases do not have: since which.
_POOLING: Final = (0, 10, 2)  # `--runner`; before, `--task`
_SIZES: Final = (0, 14)  # `--cudagraph-capture-sizes`; before, a key of the compilation config


def flags(options: VllmOptions, given: Collection[str], release: tuple[int, ...], *, use: str) -> Iterator[str]:
    """Flags beside those of every command, in the order of the options."""
    yield from own_flags(options, given, beside=_BESIDE, negated=True)
    if options.dtype == "auto" and not options.has_bfloat16:
        yield "--dtype half"  # what it falls back to
    if options.limit_mm_per_prompt.strip():
        yield f"--limit-mm-per-prompt {_json(_limits(options.limit_mm_per_prompt))}"
    compiled = _compiled(options, release)
    if compiled:
        yield f"--compilation-config {_json(compiled)}"
    if options.capture_sizes is not None and release >= _SIZES:
        yield "--cudagraph-capture-sizes " + " ".join(map(str, options.capture_sizes))
    if options.kv_transfer_config.strip():
        import json

        yield f"--kv-transfer-config {_json(json.loads(options.kv_transfer_config))}"
    drafted = _speculative(options)
    if drafted:
        yield f"--speculative-config {_json(drafted)}"
    if use != "generate":
        old = "embed" if use == "embed" else "score"
        yield "--runner pooling" if release >= _POOLING else f"--task {old}"


def environment(options: VllmOptions) -> Iterator[str]:
    """Variables that the server reads."""
    if options.kv_cache_layout:
        yield f"VLLM_KV_CACHE_LAYOUT={options.kv_cache_layout}"
    for option, name in ENVIRONMENT.items():
        value = getattr(options, option)
        if value != _DEFAULTS[option]:
            yield f"{name}={int(value) if isinstance(value, bool) else f'{value:g}'}"


def _compiled(options: VllmOptions, release: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options.cudagraph_mode:
        found["cudagraph_mode"] = options.cudagraph_mode
    if options.capture_sizes is not None and release < _SIZES:
        found["cudagraph_capture_sizes"] = list(options.capture_sizes)
    return found


def _limits(text: str) -> Any:
    import json

    found = json.loads(text)
    return found if isinstance(found, dict) else {"image": found}


def _speculative(options: VllmOptions) -> dict[str, Any]:
    """The flag's own JSON with the drafter's name; a drafter alone proposes one token at a time."""
    import json

    found: dict[str, Any] = json.loads(options.speculative_config) if options.speculative_config else {}
    if options.draft is not None:
        found = {"method": "draft_model", **found, "model": hub_name(options.draft)}
        found.setdefault("num_speculative_tokens", 1)
    return found


def _json(value: Any) -> str:
    import json

    return quote(json.dumps(value))
