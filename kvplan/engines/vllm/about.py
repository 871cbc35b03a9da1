"""What is known of vLLM without loading its rules."""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.engines.kernel.about import About, DataRanks, Reserve, Share, number_of, switched_on
from kvplan.units import GIB

_DTYPE: Final = "--kv-cache-dtype "


def _told(ranks: int, devices: int, experts: bool) -> dict[str, Any]:
    return {"data_parallel_size": ranks} | ({"enable_expert_parallel": True} if experts else {})


def _flags(options: Mapping[str, Any]) -> str:
    ranks, experts = number_of(options, "data_parallel_size"), switched_on(options, "enable_expert_parallel")
    return " ".join(
        [*([f"--data-parallel-size {ranks}"] if ranks > 1 else []), *(["--enable-expert-parallel"] if experts else [])]
    )


ABOUT: Final = About(
    name="vllm",
    latest="0.33.0",
    source="vllm 0.9.1 to 0.33.0, v1/core/kv_cache_utils.py (0.33: kv_cache_planning.py), v1/kv_cache_interface.py",
    engine="kvplan.engines.vllm.engine:Vllm",
    tier_options=("kv_offloading_size", "kv_transfer_config", "dyn_kvbm_cpu_cache_gb", "dyn_kvbm_disk_cache_gb"),
    roles={
        "kv_dtype": "kv_cache_dtype",
        "tensor_parallel": "tensor_parallel_size",
        "stages": "pipeline_parallel_size",
        "context": "max_model_len",
        "sequences": "max_num_seqs",
        "utilization": "gpu_memory_utilization",
        "memory": "device_memory_bytes",
        "device_name": "device_name",
        "compute_capability": "compute_capability",
        "cache": "kv_cache_memory_bytes",
    },
    offline=("usage_context", "LLM_CLASS"),
    cache_dtypes={
        "bfloat16": _DTYPE + "bfloat16",
        "fp8_per_token_head": _DTYPE + "fp8_per_token_head",
        "int8_per_token_head": _DTYPE + "int8_per_token_head",
        "fp8_e4m3": _DTYPE + "fp8",
        "fp8_e5m2": _DTYPE + "fp8_e5m2",
        "nvfp4": _DTYPE + "nvfp4",
        "int4_per_token_head": _DTYPE + "int4_per_token_head",
    },
    weight_flags={"fp8_e4m3": "--quantization fp8", "bnb-4bit": "--quantization bitsandbytes"},
    # Fp8Config.get_min_capability, marlin_utils_fp8.py:is_fp8_marlin_supported: 8.0 until 0.11, 7.5 in 0.30 and later
    weight_cards={"fp8": 75},
    # 1.15 GiB in a recorded run with 2,048 batched tokens (tests/golden), more with more
    reserve=Reserve(2 * GIB, "activations, graphs, context"),
    share=Share(
        meaning="of total",
        flag="--gpu-memory-utilization {}",
        split_flag="--tensor-parallel-size {}",
        source="vllm/v1/worker/utils.py:request_memory",
    ),
    program="vllm",
    command=(
        "vllm serve {model}",
        " --max-model-len {context}",
        " --max-num-seqs {batch_size}",
        " --gpu-memory-utilization {utilization}",
        " {kv_dtype_flag}",
        " --tensor-parallel-size {tensor_parallel}",
        " --pipeline-parallel-size {stages}",
        " --data-parallel-size {replicas}",
        " {data_ranks}",
    ),
    data_ranks=DataRanks(ranks=lambda options: number_of(options, "data_parallel_size"), told=_told, flags=_flags),
    makers=("nvidia",),
    rules_of_device="CUDA's rules",
    recorded="kvplan.engines.vllm.recorded",
    rules="vLLM v1/kv_cache_interface.py: KVCacheSpec.page_size_bytes; v1/core/kv_cache_utils.py: get_kv_cache_configs",
    media="kvplan.engines.vllm.media_use:used",
    audit="kvplan.engines.vllm.audit.cases",
    tiers="kvplan.engines.vllm.tiers.answer:tiers",
    logs="kvplan.engines.vllm.audit.log",
    field_logs="kvplan.engines.vllm.audit.fieldlog",
    tables="kvplan.engines.vllm.tables",
    commands="kvplan.engines.vllm.commandline:COMMANDS",
    machine_file="kvplan.engines.vllm.startup_plan:read",
    live="kvplan.engines.vllm.live:ASKING",
)
