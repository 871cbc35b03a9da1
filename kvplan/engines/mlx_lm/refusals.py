"""What mlx-lm itself refuses, in its words where it has some.

Source: mlx_lm/utils.py:_get_classes; models/cache.py:RotatingKVCache.to_quantized, `merge`; models/base.py and the attention of
single modules; measured with 0.32.2 on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from kvplan.domain.model import Model
from kvplan.engines.mlx_lm.layers import Chunked, Compressing, Entry, Growing, Rotating
from kvplan.engines.mlx_lm.models import Reading, text_of
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


def why_not_looped(reading: Reading, model: Model) -> str:
    """Loops that a module does not run. Source: `ModelArgs.__post_init__` in models/nanbeige.py, models/iquestloopcoder.py."""
    passes = model.loop.passes if model.loop is not None else 1
    if reading.module == "iquestloopcoder" and passes != 2:
        return f"mlx-lm's iquestloopcoder runs its layers twice, and this model {passes} times"
    if reading.module == "nanbeige":
        for key in ("loop_share_kv", "enable_double_loop_split", "enable_depth_attention"):
            if text_of(model).flag(key):
                return f"mlx-lm's nanbeige does not take `{key}`"
    return ""


def quantised(entries: Iterable[Entry]) -> list[Growing]:
    """The caches that `kv_bits` quantises: those that grow and are an entry of their own."""
    return [m for entry in entries if not entry.listed for m in entry.members if isinstance(m, Growing)]


class Failure(Struct, frozen=True, kw_only=True):
    """Why the cache cannot be quantised. `reads`: packing works, and the next call that reads the packed arrays fails."""

    reason: str
    reads: bool = False

    def at(self, tokens: int, start: int) -> bool:
        """Whether a sequence of `tokens` meets it: the last call brings one token, and packing is after a call."""
        return tokens > max(start, 1) if self.reads else tokens >= start


def why_not_quantised(reading: Reading, options: MlxLmOptions) -> Failure | None:
    """What fails once `quantized_kv_start` tokens are cached; None when nothing does, or nothing would be quantised."""
    if options.kv_bits is None:
        return None
    if any(isinstance(m, Rotating) for entry in reading.entries if not entry.listed for m in entry.members):
        return Failure(reason="RotatingKVCache Quantization NYI")
    caches = quantised(reading.entries)
    for dim in (dim for m in caches for dim in (m.key_dim, m.value_dim)):
        if dim % options.kv_group_size:
            size = options.kv_group_size
            return Failure(reason=f"a head's width of {dim} is not divisible by the quantization group size {size}")
    if caches and reading.module in UNREADABLE:
        return Failure(reason=f"the attention of {reading.module} cannot read a quantised cache", reads=True)
    return None


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
