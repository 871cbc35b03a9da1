"""What is known of TensorRT-LLM without loading its rules."""

from typing import Final

from kvplan.engines.kernel.about import About, Reserve, Share
from kvplan.units import GIB

_DTYPE: Final = "kv_cache_config.dtype: "

ABOUT: Final = About(
    name="tensorrt-llm",
    latest="1.4.0",
    source="TensorRT-LLM 1.4.0rc4, tensorrt_llm/_torch/pyexecutor/*.py, tensorrt_llm/runtime/kv_cache_manager_v2",
    engine="kvplan.engines.tensorrt_llm.engine:TensorrtLlm",
    roles={
        "kv_dtype": "kv_cache_dtype",
        "tensor_parallel": "tp_size",
        "stages": "pp_size",
        "context": "max_seq_len",
        "sequences": "max_batch_size",
        "utilization": "kv_cache_free_gpu_memory_fraction",
        "compute_capability": "compute_capability",
    },
    cache_dtypes={
        "bfloat16": _DTYPE + "auto",
        "fp8_e4m3": _DTYPE + "fp8",
        "nvfp4": _DTYPE + "nvfp4",
    },
    weight_formats=("fp8", "nvfp4"),
    reserve=Reserve(3 * GIB, "context, libraries, and the largest pass of its own measurement"),
    share=Share(
        meaning="of free after loading",
        flag="--kv_cache_free_gpu_memory_fraction {}",
        split_flag="--tp_size {}",
        source="tensorrt_llm/_torch/pyexecutor/_util.py",
        rank=1,
    ),
    program="trtllm-serve",
    rules="TensorRT-LLM _torch/pyexecutor/resource_manager.py, _util.py; runtime/kv_cache_manager_v2",
    logs="kvplan.engines.tensorrt_llm.audit.log",
    field_logs="kvplan.engines.tensorrt_llm.audit.fieldlog",
    tables="kvplan.engines.tensorrt_llm.tables",
    commands="kvplan.engines.tensorrt_llm.commandline:COMMANDS",
)
