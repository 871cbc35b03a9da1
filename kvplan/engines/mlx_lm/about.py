"""What is known of mlx-lm without loading its rules."""

from typing import Final

from kvplan.engines.kernel.about import About, Reserve, Share
from kvplan.units import GIB

ABOUT: Final = About(
    name="mlx-lm",
    latest="0.32.2",
    source="mlx-lm 0.32.2, mlx 0.32.4: generate.py, models/cache.py, models/*.py",
    engine="kvplan.engines.mlx_lm.engine:MlxLm",
    tier_options=("prompt_cache_size", "prompt_cache_bytes"),
    roles={"kv_dtype": "dtype"},
    cache_dtypes={name: f"mlx_lm.convert --dtype {name}" for name in ("bfloat16", "float16")},
    weight_formats=("mlx-8bit", "mlx-4bit"),
    # activations of a chunk of 2,048 tokens, the copy that a growing array makes of itself, Metal's own buffers
    reserve=Reserve(GIB, "activations, copies, Metal"),
    share=Share(meaning="grows as it goes", source="mlx_lm/generate.py:wired_limit: up to what Metal recommends", rank=2),
    program="mlx_lm",
    # real cache objects of real model classes on a CPU (tests/golden/mlx_lm.jsonl, mlx_lm_more.jsonl)
    makers=("apple",),
    rules_of_device="Metal's rules",
    recorded="kvplan.engines.mlx_lm.recorded",
    rules="mlx-lm models/cache.py: KVCache, RotatingKVCache, ChunkedKVCache, QuantizedKVCache, ArraysCache, CacheList",
    owners=("mlx-community/",),
    audit="kvplan.engines.mlx_lm.audit",
    tiers="kvplan.engines.mlx_lm.tiers:tiers",
    tables="kvplan.engines.mlx_lm.tables",
    commands="kvplan.engines.mlx_lm.commandline:COMMANDS",
)
