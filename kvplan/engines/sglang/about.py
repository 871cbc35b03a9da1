"""What is known of SGLang without loading it."""

from typing import Final

from kvplan.engines.kernel.about import About, Share

ABOUT: Final = About(
    name="sglang",
    cache_dtypes={
        "bfloat16": "--kv-cache-dtype bf16",
        "fp8_e4m3": "--kv-cache-dtype fp8_e4m3",
        "fp8_e5m2": "--kv-cache-dtype fp8_e5m2",
        "mxfp4": "--kv-cache-dtype fp4_e2m1",
    },
    share=Share(
        meaning="of free before loading",
        flag="--mem-fraction-static {}",
        split_flag="--tp-size {}",
        source="sglang model_executor: _profile_available_bytes",
        rank=1,
    ),
    rules="SGLang srt/mem_cache/memory_pool.py: MHATokenToKVPool, MLATokenToKVPool, MambaPool",
)
