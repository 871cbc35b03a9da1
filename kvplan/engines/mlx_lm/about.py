"""What is known of mlx-lm without loading it."""

from typing import Final

from kvplan.engines.kernel.about import About

ABOUT: Final = About(
    name="mlx-lm",
    rules="mlx-lm models/cache.py: KVCache, RotatingKVCache, QuantizedKVCache, ArraysCache",
)
