"""What is known of SGLang without loading it."""

from typing import Final

from kvplan.engines.kernel.about import About, Share

_DTYPE: Final = "--kv-cache-dtype "

ABOUT: Final = About(
    name="sglang",
    latest="0.5.23",
    source="sglang 0.5.23, srt/mem_cache, srt/model_executor/pool_configurator.py, srt/arg_groups",
    engine="kvplan.engines.sglang.engine:Sglang",
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
    ),
    makers=("nvidia",),
    rules_of_device="CUDA's rules",
    recorded="kvplan.engines.sglang.recorded",
    rules="SGLang srt/mem_cache/memory_pool.py: MHATokenToKVPool, MLATokenToKVPool, MambaPool; pool_configurator.py",
    audit="kvplan.engines.sglang.audit.cases",
    logs="kvplan.engines.sglang.audit.log",
    field_logs="kvplan.engines.sglang.audit.fieldlog",
    tables="kvplan.engines.sglang.tables",
)
