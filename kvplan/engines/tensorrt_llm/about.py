"""What is known of TensorRT-LLM without loading it."""

from typing import Final

from kvplan.engines.kernel.about import About, Share

ABOUT: Final = About(
    name="tensorrt-llm",
    cache_dtypes={
        "fp8_e4m3": "kv_cache_config.dtype: fp8",
        "int8": "--int8_kv_cache (checkpoint conversion)",
        "nvfp4": "kv_cache_config.dtype: nvfp4",
    },
    share=Share(
        meaning="of free after loading",
        flag="--kv_cache_free_gpu_memory_fraction {}",
        split_flag="--tp_size {}",
        source="tensorrt_llm/_torch/pyexecutor/_util.py",
        rank=1,
    ),
)
