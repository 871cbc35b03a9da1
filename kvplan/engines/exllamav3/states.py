"""What ExLlamaV3 stores for each job: rings of sliding layers, recurrent states, compressors.

One fixed slot for each of `max_batch_size` jobs, allocated when the model loads. States are bf16, fp16 or fp32 as said at each
class, whatever the cache mode is.

Source: exllamav3 1.6.5, `modules/{sliding_attn,gated_delta_net,short_conv,ple}.py`, `cache/dsa.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Final

import msgspec

from kvplan.domain.dtypes import item_bytes
from kvplan.domain.model import Full, Reach
from kvplan.engines.exllamav3.planes import PAGE, Paged, Plane
from kvplan.engines.kernel.tensors import Count, at_most
from kvplan.units import ceil_div

#: Rows that a ring keeps beside its window, so that a pass may be rolled back: two pages. `sliding_window_overp`.
_SPARE: Final = 2 * PAGE


class Slots(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs hold a state, how many drafted tokens one of them may take back, and the dtype of recurrent states."""

    jobs: int
    history: int = 0
    state_dtype: str = "float16"  # or float32


class Ring(msgspec.Struct, frozen=True, kw_only=True):
    """The last `window` tokens of a sliding layer, in whole pages with two pages to spare; never quantised.

    Source: `modules/sliding_attn.py:SWALayerState`.
    """

    heads: int
    dim: int
    window: int  # tokens before the current one that it may look at, as the module is told

    @property
    def rows(self) -> int:
        """Rows of the ring."""
        return ceil_div(self.window + _SPARE, PAGE) * PAGE

    def planes(self, slots: Slots, jobs: Count, seq_len: Count) -> Iterator[Plane[Count]]:
        """Keys and values of `jobs` jobs."""
        for name in ("keys", "values"):
            needed = at_most(seq_len, self.window) * (self.heads * self.dim * 2)
            yield Plane(name=name, shape=(jobs, self.rows, self.heads, self.dim), dtype="float16", needed=needed)

    def checkpoint(self, slots: Slots) -> int:
        """Host bytes that a stored checkpoint of one sequence takes."""
        return 2 * self.window * self.heads * self.dim * 2


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """A short convolution's ring and a recurrent state of two rows a job, with the staged inputs of a drafting pass.

    `gate` is the width of the staged gate. Mamba-2 layers (`always_fp32`) keep fp32 states whatever is asked.

    Source: `modules/gated_delta_net.py:GDNLayerState`, `modules/mamba2.py`.
    """

    channels: int
    kernel: int
    heads: int
    key_dim: int
    value_dim: int
    gate: int
    always_fp32: bool = False

    def _dtype(self, slots: Slots) -> str:
        return "float32" if self.always_fp32 else slots.state_dtype

    def planes(self, slots: Slots, jobs: Count, seq_len: Count) -> Iterator[Plane[Count]]:
        """The state of `jobs` jobs."""
        width, rows = self.kernel + slots.history, jobs * (slots.history + 1)
        state = self.heads * self.key_dim * self.value_dim * item_bytes(self._dtype(slots))
        yield Plane(name="conv", shape=(jobs, self.channels, width), dtype="bfloat16", needed=self.channels * self.kernel * 2)
        shape = (jobs * 2, 1, self.heads, self.key_dim, self.value_dim)
        yield Plane(name="state", shape=shape, dtype=self._dtype(slots), needed=state)
        yield Plane(name="staged inputs", shape=(rows, self.channels), dtype="bfloat16")
        yield Plane(name="staged rates", shape=(rows, self.heads), dtype="bfloat16")
        yield Plane(name="staged gates", shape=(rows, self.gate), dtype="float32")

    def checkpoint(self, slots: Slots) -> int:
        """Host bytes that a stored checkpoint of one sequence takes."""
        return self.channels * self.kernel * 2 + self.heads * self.key_dim * self.value_dim * item_bytes(self._dtype(slots))


class Conv(msgspec.Struct, frozen=True, kw_only=True):
    """A short convolution's ring. Source: `modules/short_conv.py:ShortConvLayerState`."""

    channels: int
    kernel: int

    def planes(self, slots: Slots, jobs: Count, seq_len: Count) -> Iterator[Plane[Count]]:
        """The ring of `jobs` jobs."""
        shape = (jobs, self.channels, self.kernel + slots.history)
        yield Plane(name="conv", shape=shape, dtype="float16", needed=self.checkpoint(slots))

    def checkpoint(self, slots: Slots) -> int:
        """Host bytes that a stored checkpoint of one sequence takes."""
        return self.channels * self.kernel * 2


class Compressor(msgspec.Struct, frozen=True, kw_only=True):
    """DeepSeek-V4's state: a ring of raw rows, and buffers of the compressor where the layer has one.

    `ratio` 0: a sliding layer, the ring alone. With `index_dim` the windows overlap, and their snapshots are fp32 because
    they carry the position's bias. The length of a draft does not matter.

    Source: `cache/dsa.py:DSV4LayerState`.
    """

    dim: int
    window: int
    ratio: int = 0
    index_dim: int = 0

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...], str]]:
        rows = ceil_div(self.window + _SPARE, PAGE) * PAGE
        yield "ring", (rows, self.dim), "float16"
        if not self.ratio:
            return
        overlap = bool(self.index_dim)
        for name in ("compressor rows", "compressor gates"):
            yield name, (PAGE + self.ratio, self.dim * (2 if overlap else 1)), "float16"
        if overlap:
            depth = PAGE // self.ratio + 2
            for name in ("index rows", "index gates"):
                yield name, (PAGE + self.ratio, self.index_dim * 2), "float16"
            yield "snapshots", (depth, 2, self.ratio, self.dim), "float32"
            yield "index snapshots", (depth, 2, self.ratio, self.index_dim), "float32"

    def planes(self, slots: Slots, jobs: Count, seq_len: Count) -> Iterator[Plane[Count]]:
        """The state of `jobs` jobs; of the buffers nothing need be kept but what has not been compressed yet."""
        for name, sizes, dtype in self._shapes():
            needed: int | Count = 0
            if name == "ring":
                needed = at_most(seq_len, self.window) * (self.dim * 2)
            shape: tuple[int | Count, ...] = (jobs,)
            yield Plane(name=name, shape=shape + sizes, dtype=dtype, needed=needed)

    def checkpoint(self, slots: Slots) -> int:
        """Host bytes that a stored checkpoint of one sequence takes: one job's state whole."""
        return sum(prod(one[1]) * item_bytes(one[2]) for one in self._shapes())


class Ngrams(msgspec.Struct, frozen=True, kw_only=True):
    """An n-gram injection: a dilated convolution's ring on the card, token ids in host memory.

    Source: `modules/ple.py:PLELayerState`.
    """

    channels: int
    window: int
    context: int

    def planes(self, slots: Slots, jobs: Count, seq_len: Count) -> Iterator[Plane[Count]]:
        """The state of `jobs` jobs."""
        shape = (jobs, self.channels, self.window + slots.history)
        yield Plane(name="n-gram conv", shape=shape, dtype="float16", needed=self.channels * self.window * 2)
        ids = (jobs, self.context + slots.history)
        yield Plane(name="n-gram ids", shape=ids, dtype="int64", needed=self.context * 8, on_host=True)

    def checkpoint(self, slots: Slots) -> int:
        """Host bytes that a stored checkpoint of one sequence takes."""
        return self.channels * self.window * 2 + self.context * 8


Slot = Ring | Delta | Conv | Compressor | Ngrams


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What one layer of the model, or one occurrence of it in a layer map, holds.

    `after` marks an n-gram injection: the engine keeps it as a layer of its own, listed after all others. `reach` is how far
    back the model looks into the pages.
    """

    layer: int
    paged: Paged | None = None
    slot: Slot | None = None
    after: bool = False
    reach: Reach = Full()
