"""The pools as one answer: each with its slots and bytes, and the share of them that one request takes."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from kvplan.domain.pool import Pool
from kvplan.engines.kernel.tensors import whole_blocks
from kvplan.engines.sglang import deepseek_v4, states
from kvplan.engines.sglang.about import ABOUT
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.layers import layout
from kvplan.engines.sglang.log import lines
from kvplan.engines.sglang.pool import Reserved, index_rows
from kvplan.engines.sglang.requests import sliding_rows
from kvplan.engines.sglang.tensors import Tensor, tensor_bytes


def request_share(args: Arguments, found: Reserved, tokens: int) -> Fraction:
    """Of the pool that a request of `tokens` takes most of, its part: 1 over how many fit. Above 1 where one is too long."""
    sizes, page, shared = found.sizes, args.page_size, args.options.dcp_size
    rows = whole_blocks(tokens, page * shared) * page
    parts = [Fraction(1, max(1, sizes.requests))]
    if sizes.sliding_tokens is None:
        if found.kv_bytes:  # states alone have no rows to run out of
            parts.append(Fraction(rows, sizes.tokens))
    else:
        held = whole_blocks(min(rows, sliding_rows(args)), page) * page
        parts.append(Fraction(held, max(1, sizes.sliding_tokens)))
        if sizes.full_tokens:
            parts.append(Fraction(rows, sizes.full_tokens))
    return max(parts)


def pool_of(args: Arguments, found: Reserved, budget_bytes: int) -> Pool:
    """What `kvplan reserve` shows: blocks are pages of the full pool, with the one page that pads."""
    page, sizes, share = args.page_size, found.sizes, request_share(args, found, args.reading.context)
    groups = tuple(_groups(args, found))
    main = sum(group["bytes"] for group in groups if group["main"])
    pages = (sizes.tokens // page) + 1
    return Pool(
        engine=ABOUT.name,
        budget_bytes=budget_bytes,
        num_blocks=pages,
        block_bytes=main // pages,
        num_tokens=sizes.tokens * args.options.dcp_size,
        max_model_len=args.reading.context,
        concurrency=float(1 / share),
        groups=tuple({key: value for key, value in group.items() if key != "main"} for group in groups),
        null_blocks=1,
        beside_bytes=sum(group["bytes"] for group in groups if group["charged"] and not group["main"]),
        log=lines(args, found),
    )


def _groups(args: Arguments, found: Reserved) -> Iterator[dict[str, Any]]:
    sizes = found.sizes
    if sizes.compressed is not None:
        for part in deepseek_v4.parts(args, sizes.compressed, found.rank):
            if part.layers:
                yield _group(part.name, len(part.layers), part.rows, part.row_bytes, part.bytes)
    else:
        for tensor in layout(args, found.rank).tensors:
            yield _tensor(args, found, tensor)
    one = states.state(args)
    if found.states is not None and one is not None:
        stage = layout(args, found.rank).stage
        layers = sum(i in stage for i in args.reading.state_layers)
        yield _group("states", layers, found.states.size + 1, one.layer_bytes, found.states.conv + found.states.temporal)
        if found.states.drafted:
            size = found.states.draft_conv + found.states.draft_temporal
            yield _group("states of drafts", layers, sizes.requests + args.extra_slots + 1, None, size)
    if found.mapping_bytes:
        yield _group("full_to_swa_index_mapping", None, found.mapping_bytes // 8, None, found.mapping_bytes, beside=True)
    rows = sizes.requests + 1 + args.extra_slots
    yield _group("req_to_token", None, rows, None, found.req_to_token_bytes, beside=True)


def _tensor(args: Arguments, found: Reserved, tensor: Tensor) -> dict[str, Any]:
    sizes, page = found.sizes, args.page_size
    rows = sizes.tokens + page
    if sizes.sliding_tokens is not None:
        rows = (sizes.sliding_tokens if tensor.place == "sliding" else sizes.full_tokens or 0) + page
    if tensor.place == "index":
        rows = index_rows(args, sizes.tokens)
    word = "sliding " if tensor.place == "sliding" else ""
    main = bool(tensor.layers) and (tensor.place != "sliding" or not sizes.full_tokens)
    size = tensor_bytes(tensor, rows, page)
    return _group(word + tensor.name, len(tensor.layers) or None, rows, tensor.row_bytes, size, main=main)


def _group(
    name: str, layers: int | None, slots: int, slot_bytes: int | None, size: int, *, main: bool = False, beside: bool = False
) -> dict[str, Any]:
    """`charged`: whether the budget pays for it; `main`: whether the pages of the full pool are in it."""
    known = {"pool": name, "layers": layers, "slots": slots, "slot_bytes": slot_bytes, "bytes": size}
    return {**known, "charged": not beside, "main": main}
