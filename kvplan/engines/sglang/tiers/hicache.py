"""HiCache: a host pool beside each of the GPU's pools, on every rank.

Source: sglang 0.5.23, `mem_cache/pool_host/base.py:HostKVCache`, `pool_host/mamba.py`, `pool_host/dsa.py`,
`mem_cache/hybrid_cache/hybrid_pool_assembler.py:_split_hicache_size`, `mem_cache/hicache_auto_size.py`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.engines.sglang import deepseek_v4, states
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.layers import layout
from kvplan.engines.sglang.pool import Reserved, index_rows
from kvplan.engines.sglang.tensors import Tensor, tensor_bytes
from kvplan.errors import Refused
from kvplan.units import GIB

RATIO: Final = 2.0  # the most that nobody asked for
FRACTION: Final = 0.8  # of what is free: --hicache-host-memory-fraction
LAYOUTS: Final = ("page_first", "layer_first", "page_first_direct", "page_head")
_KEPT_FREE: Final = 10 * GIB  # HICACHE_HOST_MEMORY_RESERVE_BYTES
_SLACK: Final = 0.05  # of the budget: page rounding, staging buffers
_GB: Final = 1e9


class Asked(Struct, frozen=True, kw_only=True):
    """What the flags ask for; neither size nor ratio: as much as the host has, at most twice the GPU's.

    `free_bytes` is what the operating system calls available (None: not looked at), shared by `ranks` processes.
    """

    size_gb: float = 0.0  # --hicache-size, of each rank
    ratio: float | None = None  # --hicache-ratio
    free_bytes: int | None = None
    ranks: int = 1
    layout: str = "page_first"
    fraction: float = FRACTION


class Source(Struct, frozen=True, kw_only=True):
    """A pool of the GPU that gets one on the host."""

    name: str
    slots: int  # of the GPU's pool
    device_bytes: int
    slot_bytes: int  # on the host
    page: int = 1  # slots
    outside: bool = False  # of the budget: as many slots as the first pool, in one page more


class HostPool(Struct, frozen=True, kw_only=True):
    """A pool on the host of one rank."""

    name: str
    slots: int
    slot_bytes: int
    bytes: int
    outside: bool = False  # not counted in what --hicache-size asks for


class HostPools(Struct, frozen=True, kw_only=True):
    """All of them, the anchor's first: its slots are tokens."""

    pools: tuple[HostPool, ...]
    ratio: float

    @property
    def tokens(self) -> int:
        """Tokens whose keys and values, or latents, the host holds."""
        return self.pools[0].slots

    @property
    def bytes(self) -> int:
        """Of one rank."""
        return sum(pool.bytes for pool in self.pools)

    @property
    def outside_bytes(self) -> int:
        """Of them, what no budget counted."""
        return sum(pool.bytes for pool in self.pools if pool.outside)


def host_pools(args: Arguments, found: Reserved, asked: Asked) -> HostPools:
    """The host's pools of one rank, beside the GPU's.

    Raises:
        Refused: in SGLang's words.
    """
    if not args.radix:
        raise Refused(
            "The arguments enable-hierarchical-cache and disable-radix-cache are mutually exclusive and cannot be used at the "
            "same time. Please use only one of them."
        )
    if asked.layout not in LAYOUTS:
        raise Refused(f"Unsupported layout: {asked.layout}")
    if found.sizes.compressed is not None:
        return _compressed(args, found, found.sizes.compressed, asked)
    sources = _sources(args, found)
    _check_form(args, found, asked)
    available = None if asked.free_bytes is None else (asked.free_bytes - _KEPT_FREE) // max(asked.ranks, 1)
    left: int | None = None
    if asked.size_gb > 0 or asked.ratio is not None:
        ratio = RATIO if asked.ratio is None else asked.ratio
    else:
        ratio, left = _fitting_ratio(sources, available, asked.fraction)
    budgeted = [source for source in sources if not source.outside]
    total = sum(source.device_bytes for source in budgeted)
    pools: list[HostPool] = []
    for source in sources:
        if source.outside:
            slots = pools[0].slots
            size = (slots // source.page + 1) * source.page * source.slot_bytes if source.page > 1 else slots * source.slot_bytes
        else:
            share = asked.size_gb * source.device_bytes / total if len(budgeted) > 1 and total else asked.size_gb
            slots = int(share * _GB // source.slot_bytes) if share > 0 else int(source.slots * ratio)
            slots = (slots // source.page + 1) * source.page
            size = slots * source.slot_bytes
        limit = available if left is None else left
        if limit is not None and size > limit:
            raise _too_large(size, limit)
        left = None if left is None else left - size
        pools.append(HostPool(name=source.name, slots=slots, slot_bytes=source.slot_bytes, bytes=size, outside=source.outside))
    return HostPools(pools=tuple(pools), ratio=ratio)


def _too_large(size: int, limit: int) -> Refused:
    return Refused(
        f"Not enough host memory available. Requesting {size / _GB:.2f} GB but only have {limit / _GB:.2f} GB free. Please "
        "reduce the size of the hierarchical cache."
    )


def _fitting_ratio(sources: list[Source], available: int | None, fraction: float) -> tuple[float, int | None]:
    """The default ratio: what the host has room for, and the bytes that all pools share."""
    if available is None:
        return RATIO, None
    budget = int(available * fraction)
    device = sum(source.device_bytes for source in sources)
    ratio = min(RATIO, budget * (1 - _SLACK) / device)
    if ratio <= 0:
        raise Refused(
            "No host memory is left for HiCache after the 10 GiB reserve; set --hicache-ratio or --hicache-size explicitly."
        )
    return ratio, budget


def _check_form(args: Arguments, found: Reserved, asked: Asked) -> None:
    tensors = layout(args, found.rank).tensors
    if any(tensor.kind == "scale" and tensor.dtype == "e8m0" for tensor in tensors):
        raise Refused("kv: MHA host transfers do not support KV scale layout 'token'.")
    kinds = {tensor.kind for tensor in tensors}
    stateful = found.states is not None
    if asked.layout in {"layer_first", "page_head"} and stateful:
        raise Refused(f"Unsupported layout: {asked.layout}")
    unequal = any(_widths(tensors, place)[0] != _widths(tensors, place)[1] for place in ("full", "sliding"))
    if asked.layout == "layer_first" and "key" in kinds and unequal:
        raise Refused("Unsupported layout: layer_first")
    if asked.layout == "page_head" and kinds != {"key", "value"}:
        raise Refused("Unsupported layout: page_head")
    if stateful and not tensors:
        raise Refused("integer division or modulo by zero")


def _widths(tensors: tuple[Tensor, ...], place: str) -> tuple[int, int]:
    """Elements of a row of keys and of values."""
    key, value = (
        sum(tensor.row[-1] for tensor in tensors if tensor.place == place and tensor.kind == kind) for kind in ("key", "value")
    )
    return key, value


def _sources(args: Arguments, found: Reserved) -> list[Source]:
    """The GPU's pools, in the order in which the host's are made."""
    tensors, sizes, page = layout(args, found.rank).tensors, found.sizes, args.page_size
    rows = {"full": (sizes.tokens if sizes.full_tokens is None else sizes.full_tokens) + page}
    rows["sliding"] = (sizes.sliding_tokens or 0) + page
    rows["index"] = index_rows(args, sizes.tokens)
    sources = []
    for name, place in (("kv", "full"), ("swa", "sliding")):
        parts = [tensor for tensor in tensors if tensor.place == place and tensor.kind != "index"]
        if place == "full" or sizes.sliding_tokens is not None:
            sources.append(
                Source(
                    name=name,
                    slots=rows[place] - page,
                    device_bytes=sum(tensor_bytes(tensor, rows[place], page) for tensor in parts),
                    slot_bytes=sum(tensor.row_bytes * tensor.count for tensor in parts),
                    page=page,
                )
            )
    one = states.state(args)
    if found.states is not None and one is not None:
        size = states.slot_bytes(args, one, found.rank)
        held = states.reported_bytes(args, one, found.states, sizes.requests, found.rank)
        sources.append(Source(name="mamba", slots=found.states.size, device_bytes=held, slot_bytes=size))
    index = [tensor for tensor in tensors if tensor.kind == "index"]
    if index:
        slot = sum(tensor.row_bytes * tensor.count // tensor.tokens_per_row for tensor in index)
        size = sum(tensor_bytes(tensor, rows[tensor.place], page) for tensor in index)
        paged = any(tensor.place == "index" for tensor in index)
        sources.append(
            Source(
                name="indexer", slots=rows["full"] - page, device_bytes=size, slot_bytes=slot, page=page if paged else 1,
                outside=True,
            )
        )  # fmt: skip
    return sources


def _compressed(args: Arguments, found: Reserved, sizes: deepseek_v4.Sizes, asked: Asked) -> HostPools:
    """DeepSeek V4: pages of every kind, by ratio alone. Source: `hybrid_pool_assembler.py:_deepseek_v4_num_host_pages`."""
    if asked.size_gb > 0:
        raise Refused("DeepSeek V4 HiCache currently does not support --hicache-size; use --hicache-ratio instead.")
    if asked.ratio is None:
        raise Refused(
            "HiCache auto-sizing does not support DeepSeekV4TokenToKVPool; set --hicache-ratio or --hicache-size explicitly."
        )
    page = deepseek_v4.PAGE
    full = int(-(-sizes.tokens // page) * asked.ratio)
    sliding = int(-(-sizes.sliding_tokens // page) * asked.ratio)
    available = None if asked.free_bytes is None else (asked.free_bytes - _KEPT_FREE) // max(asked.ranks, 1)
    pools = [HostPool(name="kv", slots=full * page, slot_bytes=0, bytes=0)]
    for name, item_bytes, windows in deepseek_v4.page_items(args, found.rank):
        pages = sliding if windows else full
        size = pages * item_bytes
        if available is not None and size > available:
            raise _too_large(size, available)
        pools.append(HostPool(name=name, slots=pages * page, slot_bytes=-(-item_bytes // page), bytes=size))
    return HostPools(pools=tuple(pools), ratio=asked.ratio)
