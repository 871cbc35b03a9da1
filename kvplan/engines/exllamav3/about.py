"""What is known of ExLlamaV3 without loading it."""

from typing import Final

from kvplan.engines.kernel.about import About

ABOUT: Final = About(name="exllamav3", rules="exllamav3 cache/: CacheLayer_fp16, CacheLayer_quant")
