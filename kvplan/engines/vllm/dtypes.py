"""vLLM's cache dtypes (bytes of one head's entry) and the block sizes that its attention backends take.

Sources: `vllm/config/cache.py:CacheDType`, `vllm/v1/kv_cache_interface.py` (`AttentionSpec`, `MLAAttentionSpec`),
`vllm/platforms/cuda.py` (which backend a layer gets), each backend's `get_supported_kernel_block_sizes`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import lcm
from typing import Final

from kvplan.domain.dtypes import alike, item_bytes, lookup
from kvplan.errors import OptionError
from kvplan.units import ceil_div

FP8: Final = frozenset({"fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc"})
PLAIN: Final = frozenset({"auto", "bfloat16", "float16", "float32"})
_SCALES: Final = 8  # bytes a head: one fp32 for K, one for V


def _turboquant(key_bits: int, value_bits: int) -> Callable[[int, int], int]:
    """Packed keys (8 bits: fp8 as they are; else with a 2-byte norm) and values (with scale and zero), made even.

    Source: `v1/attention/ops/turboquant`: `TurboQuantConfig.slot_size_aligned`.
    """

    def content(key_dim: int, value_dim: int) -> int:
        keys = key_dim if key_bits == 8 else ceil_div(key_dim * key_bits, 8) + 2
        size = keys + ceil_div(value_dim * value_bits, 8) + 4
        return size + size % 2

    return content


#: Quantised dtype -> bytes of one head's K and V of one token, scales included.
QUANTISED: Final[dict[str, Callable[[int, int], int]]] = {
    **dict.fromkeys(FP8, lambda key, value: key + value),
    "fp8_per_token_head": lambda key, value: key + value + _SCALES,
    "int8_per_token_head": lambda key, value: key + value + _SCALES,
    "int4_per_token_head": lambda key, value: key // 2 + value // 2 + _SCALES,
    "nvfp4": lambda key, value: key // 2 + key // 16 + value // 2 + value // 16,
    "turboquant_k8v4": _turboquant(8, 4),
    "turboquant_4bit_nc": _turboquant(4, 4),
    "turboquant_k3v4_nc": _turboquant(3, 4),
    "turboquant_3bit_nc": _turboquant(3, 3),
}
#: Row formats of sparse MLA: bytes of one token's latent, rope keys and scales.
SPARSE_ROWS: Final = {"fp8_ds_mla": 656, "nvfp4_ds_mla": 352}
NAMES: Final = (*sorted(PLAIN), *QUANTISED, *SPARSE_ROWS)
_SPELLINGS: Final = {"fp8_e4m3fn": "fp8_e4m3", "fp8_e4m3fnuz": "fp8_e4m3"}


def cache_dtype(name: str) -> str:
    """vLLM's name for a cache dtype; kvplan's other spellings (`bf16`, `f16`) are understood.

    Raises:
        OptionError: vLLM has no such cache dtype; the message names the nearest.
    """
    text = name.strip().lower().removeprefix("torch.")
    text = _SPELLINGS.get(text, text)
    if text in NAMES:
        return text
    try:
        plain = lookup(text).name
    except OptionError:
        plain = ""
    if plain in NAMES:
        return plain
    near = alike(text, NAMES)
    raise OptionError(
        f"engine vllm has no kv_cache_dtype `{name[:40]}`",
        hint=f"did you mean `{near}`?" if near else f"one of {', '.join(sorted(NAMES))}",
        option="kv_cache_dtype",
    )


def head_bytes(dtype: str, key_dim: int, value_dim: int, model_dtype: str) -> int:
    """Bytes of one head's keys and values of one token (`value_dim` 0: one latent for both).

    >>> head_bytes("int8_per_token_head", 128, 128, "bfloat16")
    264
    """
    if dtype in QUANTISED:
        return QUANTISED[dtype](key_dim, value_dim)
    return (key_dim + value_dim) * item_bytes(model_dtype if dtype == "auto" else dtype)


DEFAULT_BLOCK: Final = {"cuda": 16, "cpu": 128}
SMALLEST_BLOCK: Final = 16
SPARSE_MLA_BLOCK: Final = 64
SPARSE_SOFTMAX_BLOCK: Final = 128  # MiniMax M3
COMPRESSED_BLOCK: Final = 256  # DeepSeek V4


def softmax_kernel_block(widest_head: int, dtype: str, capability: int) -> int:
    """The smallest block of the backend that ordinary attention gets.

    FlashAttention 3 reads fp8 in blocks of 64 for heads wider than 256; FlashAttention 4 (sm_100) wants 128 for 256.
    """
    if capability >= 100 and widest_head == 256 and dtype in PLAIN:
        return 128
    return 64 if widest_head > 256 and dtype in FP8 and capability >= 90 else SMALLEST_BLOCK


def mla_kernel_block(dtype: str, capability: int, hopper_block: int) -> int:
    """The smallest block of the backend that dense MLA gets: FlashMLA for fp8 on Hopper, else FlashAttention or Triton."""
    if capability >= 100:
        return 32
    if capability < 90:
        return SMALLEST_BLOCK
    return 64 if dtype not in PLAIN else hopper_block


def preferred_block(default: int, kernels: list[int]) -> int:
    """The block size when the user gives none.

    Source: `platforms/interface.py:_preferred_block_size_for_backends`.
    """
    if all(default % kernel == 0 for kernel in kernels):
        return default
    return lcm(*kernels)
