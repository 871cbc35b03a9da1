"""The lines that a server prints of its pools. "GB" is GiB.

Source: sglang 0.5.23, `mem_cache/memory_pool.py`, `mem_cache/swa_memory_pool.py`, `mem_cache/kv_cache_configurator.py`,
`model_executor/pool_configurator.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kvplan.engines.sglang import deepseek_v4
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.layers import layout, stage_layers
from kvplan.engines.sglang.pool import Reserved, capped, index_rows
from kvplan.engines.sglang.states import GIB, States
from kvplan.engines.sglang.tensors import Place, Tensor

#: As torch calls the dtype of the tensors.
_TORCH: Final = {
    "fp8_e4m3": "float8_e4m3fn", "fp8_e5m2": "float8_e5m2", "mxfp8": "float8_e4m3fn", "nvfp4": "float4_e2m1fn_x2",
    "fp4_mx_block16": "float4_e2m1fn_x2",
}  # fmt: skip


def lines(args: Arguments, found: Reserved) -> tuple[str, ...]:
    """What one stage prints, in order, from its budget to its pools."""
    return tuple(_lines(args, found))


def _lines(args: Arguments, found: Reserved) -> Iterator[str]:
    if args.reserved_gib:
        yield (
            f"Reserving {args.reserved_gib:.2f} GB of the KV budget for post-sizing multimodal allocations "
            "(feature-transport pools + embedding cache)."
        )
    sizes = found.sizes
    if sizes.compressed is not None:
        yield from _compressed(args, found, sizes.compressed)
        return
    limit = args.options.max_total_tokens
    profiled = sizes.profiled[0] or sizes.profiled[1]
    if sizes.full_tokens is not None and sizes.sliding_tokens is not None and not capped(args, layout(args, found.rank)):
        if sizes.profiled != (sizes.full_tokens, sizes.sliding_tokens):
            yield _sizing(*sizes.profiled)
        yield _sizing(sizes.full_tokens, sizes.sliding_tokens)
    if limit is not None and limit > profiled:
        yield f"max_total_tokens={limit} is larger than the profiled value {profiled}. Use the profiled value instead."
    if sizes.requests < sizes.asked:
        yield (
            f"max_running_requests is capped to {sizes.requests} by the mamba state cache "
            f"(max_mamba_cache_size={sizes.state_slots}, {args.slots_per_request} state slots per request). To raise it: "
            "increase --mamba-full-memory-ratio or --max-mamba-cache-size, or halve the state size with "
            "--mamba-ssm-dtype bfloat16."
        )
    elif args.requests is not None and sizes.requests < args.requests:
        yield (
            f"max_running_requests was reduced from the requested {args.requests} to {sizes.requests} (per dp worker) due to "
            "the available KV cache capacity."
        )
    if found.states is not None:
        yield _states(args, found.states)
    if not args.post_capture:
        yield from _rows(args, found)


def _sizing(full: int, sliding: int) -> str:
    if not full:
        return f"Use sliding window memory pool (all SWA). swa_layer_tokens={sliding}"
    return f"Use sliding window memory pool. full_layer_tokens={full}, swa_layer_tokens={sliding}"


def _states(args: Arguments, states: States) -> str:
    text = (
        f"Mamba Cache is allocated. max_mamba_cache_size: {states.size}, conv_state size: {states.conv / GIB:.2f}GB, "
        f"ssm_state size: {states.temporal / GIB:.2f}GB "
    )
    if states.drafted:
        text += (
            f"intermediate_ssm_state_cache size: {states.draft_temporal / GIB:.2f}GB "
            f"intermediate_conv_window_cache size: {states.draft_conv / GIB:.2f}GB "
        )
    return text


def _rows(args: Arguments, found: Reserved) -> Iterator[str]:
    """One line a pool of keys and values, by the sizes of its tensors, the extra page included."""
    sizes, page = found.sizes, args.page_size
    tensors = layout(args, found.rank).tensors
    dtype = _TORCH.get(args.cache, args.cache)
    if sizes.full_tokens is not None and sizes.sliding_tokens is not None:
        total = 0
        places: tuple[tuple[Place, str, int], ...] = (
            ("full", "Full", sizes.full_tokens),
            ("sliding", "SWA", sizes.sliding_tokens),
        )
        for place, word, tokens in places:
            keys, values = row_sums([t for t in tensors if t.place == place], tokens + page, 0)
            total += keys + values
            yield f"{word} " + _pair(dtype, tokens, keys, values)
        yield f"SWAKVPool mem usage: {total / GIB:.2f} GB, swa size: {sizes.sliding_tokens}, full size: {sizes.full_tokens}"
        return
    tokens, more = sizes.tokens, index_rows(args, sizes.tokens)
    if args.reading.latent is not None:
        size = sum(row_sums([t for t in tensors if t.kind != "scale"], tokens + page, more))
        yield f"KV Cache is allocated. dtype: torch.{dtype}, #tokens: {tokens}, KV size: {size / GIB:.2f} GB"
        return
    main = [t for t in tensors if t.kind != "index"]
    yield _pair(dtype, tokens, *row_sums(main, tokens + page, 0))
    for names in (("index_k", "index_v"), ("index_k_only",)):
        index = [t for t in tensors if t.name in names]
        if index:
            yield _pair(_TORCH.get(index[0].dtype, index[0].dtype), tokens, *row_sums(index, tokens + page, 0))


def row_sums(tensors: Iterable[Tensor], rows: int, index: int) -> tuple[int, int]:
    """Bytes of keys (and of whatever is no value) and of values, without the rows that only fill a page.

    Args:
        tensors: of one pool.
        rows: its rows, one a token, the extra page included.
        index: pages of index keys.
    """
    sums = [0, 0]
    for tensor in tensors:
        value = tensor.name in {"v_buffer", "v_scale_buffer", "dq_v_buffer", "index_v"}
        sums[value] += tensor.row_bytes * (index if tensor.place == "index" else rows) * tensor.count
    return sums[0], sums[1]


def _pair(dtype: str, tokens: int, keys: int, values: int) -> str:
    return (
        f"KV Cache is allocated. dtype: torch.{dtype}, #tokens: {tokens}, K size: {keys / GIB:.2f} GB, "
        f"V size: {values / GIB:.2f} GB"
    )


def _compressed(args: Arguments, found: Reserved, sizes: deepseek_v4.Sizes) -> Iterator[str]:
    """DeepSeek V4 in its own words."""
    if args.options.pp_size > 1:
        stage = stage_layers(args, found.rank)
        local = f"local={len(stage)}/{args.reading.ratio_entries}"
        for _ in range(2):  # the sizes are worked out twice
            yield f"DSV4 pool PP slice: rank={found.rank} layers=[{stage.start},{stage.stop}) {local}"
    ratio = args.swa_full_tokens_ratio
    first = deepseek_v4.at_tokens(args, sizes, sizes.profiled, found.rank)
    yield _ratio_line(first, ratio)
    yield (
        "DSV4 memory calculation: unified=False, unified_fp8=False, dspark_draft_bf16=False, "
        f"bytes_per_full_token={sizes.cell:.2f}, available_bytes={found.sizes.available_bytes / GIB:.2f} GB, "
        f"c128_state_fixed={sizes.fixed_bytes / GIB:.2f} GB, c2_state_fixed=0.00 GB, swa_fixed=0.00 GB, "
        f"swa_ring_fixed=0.00 GB, c4_state_fixed=0.00 GB, full_token={first.tokens}"
    )
    yield _sizes_line(first)
    if sizes.profiled != sizes.tokens:
        yield _ratio_line(sizes, ratio)
        yield _sizes_line(sizes)
    yield (
        f"Initialize DeepSeekV4TokenToKVPool with max_num_reqs={found.sizes.requests} swa_size={sizes.sliding_tokens} "
        f"c4_size={sizes.four} c4_logical_size={sizes.many * 32} c128_size={sizes.many} "
        f"c4_state_pool_size={sizes.four_states} c128_state_pool_size={sizes.many_states} unified=False unified_fp8=False"
    )
    yield "DSV4 SWA storage: worker=target, storage=paged, paged_allocator=True"


def _ratio_line(sizes: deepseek_v4.Sizes, ratio: float) -> str:
    return f"DSV4 SWA sizing: mode=ratio (explicit), swa_tokens={sizes.sliding_tokens}, swa_full_tokens_ratio={ratio}"


def _sizes_line(sizes: deepseek_v4.Sizes) -> str:
    return (
        f"DSV4 pool sizes: full={sizes.tokens}, swa={sizes.sliding_tokens}, c4={sizes.four}, c128={sizes.many}, "
        f"c4_state={sizes.four_states}, c128_state=0"
    )
