"""What mlx-lm itself refuses, in its words where it has some.

Source: mlx_lm/utils.py:_get_classes; models/cache.py:RotatingKVCache.to_quantized, `merge`; models/base.py and the attention of
single modules; measured with 0.32.2 on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kvplan.engines.mlx_lm.layers import Chunked, Compressing, Entry, Growing, Rotating
from kvplan.engines.mlx_lm.models import Reading
from kvplan.engines.mlx_lm.options import MlxLmOptions

# fmt: off
#: Modules whose attention cannot read a quantised cache: its arrays are tuples.
UNREADABLE: Final = frozenset({
    "afm7", "bailing_hybrid", "bailing_moe_v3", "deepseek_v3", "gemma2", "glm4_moe_lite", "kimi_k25", "kimi_k3", "kimi_linear",
    "kimi_vl", "mistral4", "phi", "phi3small", "plamo", "plamo2", "stablelm",
})
#: Modules that fail with more than one sequence: masks that do not broadcast, or an offset that must be one number.
UNBATCHED: Final = frozenset({"gemma2", "gpt_bigcode", "phi3small"})
# fmt: on


def quantised(entries: Iterable[Entry]) -> list[Growing]:
    """The caches that `kv_bits` quantises: those that grow and are an entry of their own."""
    return [m for entry in entries if not entry.listed for m in entry.members if isinstance(m, Growing)]


def why_not_quantised(reading: Reading, options: MlxLmOptions) -> str:
    """Why the cache cannot be quantised; empty when it can, or when nothing in it would be.

    It fails in the call after which `quantized_kv_start` tokens are cached, and works until then.
    """
    if options.kv_bits is None:
        return ""
    if any(isinstance(m, Rotating) for entry in reading.entries if not entry.listed for m in entry.members):
        return "RotatingKVCache Quantization NYI"
    caches = quantised(reading.entries)
    for dim in (dim for m in caches for dim in (m.key_dim, m.value_dim)):
        if dim % options.kv_group_size:
            return f"a head's width of {dim} is not divisible by the quantization group size {options.kv_group_size}"
    if caches and reading.module in UNREADABLE:
        return f"the attention of {reading.module} cannot read a quantised cache"
    return ""


def why_not_batched(reading: Reading, options: MlxLmOptions) -> str:
    """Why sequences are served one after the other, or fail together; empty when they are batched."""
    if options.kv_bits is not None:
        return "with kv_bits mlx-lm serves one sequence at a time (it has no batched quantised cache)"
    for member in (m for entry in reading.entries for m in entry.members):
        if isinstance(member, Chunked | Compressing):
            name = "ChunkedKVCache" if isinstance(member, Chunked) else "LayerCache"
            return f"{name} does not support batching, so mlx-lm serves one sequence at a time"
    if reading.module in UNBATCHED or reading.traits.one_offset:
        return f"mlx-lm's {reading.module} fails with more than one sequence in a batch"
    return ""
