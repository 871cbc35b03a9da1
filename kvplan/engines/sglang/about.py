"""What is known of SGLang without loading it."""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.engines.kernel.about import About, DataRanks, Share, number_of, switched_on

_DTYPE: Final = "--kv-cache-dtype "


def _groups(options: Mapping[str, Any]) -> int:
    """Attention groups: by the flag, or by the deprecated pair (`handle_deprecated_dp_attention`)."""
    groups = number_of(options, "attn_dp_size")
    return groups if groups > 1 or not switched_on(options, "enable_dp_attention") else number_of(options, "dp_size")


def _told(ranks: int, devices: int, experts: bool) -> dict[str, Any]:
    return {"attn_dp_size": ranks} | ({"ep_size": devices} if experts else {})


def _flags(options: Mapping[str, Any]) -> str:
    numbers = [f"--{name.replace('_', '-')} {options[name]}" for name in ("attn_dp_size", "ep_size") if name in options]
    if switched_on(options, "enable_dp_attention"):
        numbers += [f"--dp-size {number_of(options, 'dp_size')} --enable-dp-attention"]
    return " ".join(numbers)


ABOUT: Final = About(
    name="sglang",
    latest="0.5.23",
    source="sglang 0.5.23, srt/mem_cache, srt/model_executor/pool_configurator.py, srt/arg_groups",
    engine="kvplan.engines.sglang.engine:Sglang",
    tier_options=("enable_hierarchical_cache",),
    roles={
        "kv_dtype": "kv_cache_dtype",
        "tensor_parallel": "tp_size",
        "stages": "pp_size",
        "context": "context_length",
        "sequences": "max_running_requests",
        "utilization": "mem_fraction_static",
        "memory": "device_memory_bytes",
        "device_name": "device_name",
        "compute_capability": "compute_capability",
    },
    cache_dtypes={
        "bfloat16": _DTYPE + "bf16",
        "fp8_e4m3": _DTYPE + "fp8_e4m3",
        "fp8_e5m2": _DTYPE + "fp8_e5m2",
        "nvfp4": _DTYPE + "nvfp4",
    },
    weight_flags={
        "fp8_e4m3": "--quantization fp8",
        "bnb-4bit": "--quantization bitsandbytes --load-format bitsandbytes",
    },
    share=Share(
        meaning="of free before loading",
        flag="--mem-fraction-static {}",
        split_flag="--tp-size {}",
        source="sglang srt/mem_cache/kv_cache_configurator.py:_profile_available_bytes",
        rank=1,
    ),
    program="python",
    command=(
        "python -m sglang.launch_server --model-path {model}",
        " --context-length {context}",
        " --max-running-requests {batch_size}",
        " --mem-fraction-static {utilization}",
        " {kv_dtype_flag}",
        " --tp-size {tensor_parallel}",
        " --pp-size {stages}",
        " --dp-size {replicas}",
        " {data_ranks}",
    ),
    data_ranks=DataRanks(ranks=_groups, told=_told, flags=_flags, inside=True),
    makers=("nvidia",),
    rules_of_device="CUDA's rules",
    recorded="kvplan.engines.sglang.recorded",
    rules="SGLang srt/mem_cache/memory_pool.py: MHATokenToKVPool, MLATokenToKVPool, MambaPool; pool_configurator.py",
    audit="kvplan.engines.sglang.audit.cases",
    tiers="kvplan.engines.sglang.tiers.answer:tiers",
    logs="kvplan.engines.sglang.audit.log",
    field_logs="kvplan.engines.sglang.audit.fieldlog",
    tables="kvplan.engines.sglang.tables",
    commands="kvplan.engines.sglang.commandline:COMMANDS",
    live="kvplan.engines.sglang.live:ASKING",
)
