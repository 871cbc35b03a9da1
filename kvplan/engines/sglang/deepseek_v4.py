"""DeepSeek V4: a window of latents for every layer, compressed entries for some, and the states that compress them.

Prices are floats here, as in the engine: a page of entries is padded, and a token takes its share of the padding.

Source: sglang 0.5.23, `model_executor/pool_configurator.py:DSV4PoolConfigurator`, `mem_cache/deepseek_v4_memory_pool.py`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, structs

from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.layers import stage_layers
from kvplan.engines.sglang.requests import sliding_rows
from kvplan.engines.sglang.tensors import item_size

PAGE: Final = 256
HEAD: Final = 512  # 448 elements in fp8 and 64 rotary ones in bfloat16: the only layout there is
_ENTRY: Final = 448 + 64 * 2 + 8  # bytes, scales included
_ALIGN: Final = 576  # a page of entries is whole multiples of it
_INDEX: Final = 128
_INDEX_ENTRY: Final = 128 + 4
_INDEX_PAGE: Final = 64
_FOUR: Final = 4
_MANY: Final = 128


class Sizes(Struct, frozen=True, kw_only=True):
    """Pools of one stage; `cell` is bytes a token of the full pool, a share of everything else included."""

    cell: float
    tokens: int
    profiled: int  # tokens before a limit made them fewer
    fixed_bytes: int  # of states that do not grow with the tokens
    sliding_tokens: int
    four: int  # entries that stand for 4 tokens
    many: int  # entries that stand for 128 tokens
    four_states: int
    many_states: int = 0


class Part(Struct, frozen=True, kw_only=True):
    """One kind of tensor: `layers` have one each, of `rows` rows of `row_bytes`."""

    name: str
    layers: tuple[int, ...]
    rows: int
    row_bytes: int

    @property
    def bytes(self) -> int:
        """In all layers."""
        return len(self.layers) * self.rows * self.row_bytes


class Held(Struct, frozen=True, kw_only=True):
    """What one request holds of a kind of tensor: rows for each page of 256 tokens, or rows of its own."""

    name: str
    layers: tuple[int, ...]
    row_bytes: int
    rows_per_page: int = 1
    ratio: int = 1  # tokens of an entry
    entry_bytes: int = 0  # 0: a row is all payload
    most: int | None = None  # pages, where only a window is kept
    per_request: int = 0  # rows, whatever its length


def page_bytes(entries: int) -> int:
    """A page of so many entries.

    >>> page_bytes(256), page_bytes(64), page_bytes(2)
    (149760, 37440, 1728)
    """
    return -(-entries * _ENTRY // _ALIGN) * _ALIGN


def sizes(args: Arguments, budget: int, rank: int, limit: int | None) -> Sizes:
    """What `budget` bytes pay for, at most `limit` tokens."""
    cell, stage = price(args, rank), _ratios(args, rank)
    slots, ring = _request_slots(args, args.requests or 1), _rings(args)[1]
    rows = -(-(slots * ring + ring + 1) // _MANY) * _MANY
    fixed = rows * 2 * HEAD * _state_item(args) * len(stage[_MANY]) if stage[_MANY] else 0
    tokens = int(max(budget - fixed, 0) / cell) // PAGE * PAGE
    while tokens > 0 and tokens * cell > max(budget - fixed, 0):
        tokens -= PAGE
    profiled = tokens
    if limit is not None and limit < tokens:
        tokens = limit // PAGE * PAGE
    empty = Sizes(
        cell=cell, tokens=0, profiled=profiled, fixed_bytes=fixed, sliding_tokens=0, four=0, many=0, four_states=0, many_states=0
    )
    return at_tokens(args, empty, tokens, rank)


def at_tokens(args: Arguments, found: Sizes, tokens: int, rank: int) -> Sizes:
    """The pools that follow from the tokens of the full one."""
    sliding = int(tokens * args.swa_full_tokens_ratio) // PAGE * PAGE
    ring = _rings(args)[0] if _ratios(args, rank)[_FOUR] else 0
    return structs.replace(
        found,
        tokens=tokens,
        sliding_tokens=sliding,
        four=tokens // _FOUR,
        many=tokens // _MANY,
        four_states=sliding // PAGE * ring,
    )


def with_requests(args: Arguments, found: Sizes, requests: int) -> Sizes:
    """The states of the 128-token entries, which running requests have: known last."""
    return structs.replace(found, many_states=_request_slots(args, requests) * _rings(args)[1])


def price(args: Arguments, rank: int) -> float:
    """Bytes that one token of the full pool costs, on one stage."""
    stage = _ratios(args, rank)
    layers = len(stage_layers(args, rank))
    item = _state_item(args)
    share = (_rings(args)[0] if stage[_FOUR] else 0) / PAGE
    sliding = page_bytes(PAGE) / PAGE * layers + share * (4 * HEAD * item + 4 * _INDEX * item) * len(stage[_FOUR])
    entries: float = 0
    if stage[_FOUR]:
        entries += (1 / 4 * (page_bytes(PAGE // _FOUR) / (PAGE // _FOUR)) + 1 / 4 * _INDEX_ENTRY) * len(stage[_FOUR])
    if stage[_MANY]:
        entries += 1 / 128 * (page_bytes(PAGE // _MANY) / (PAGE // _MANY)) * len(stage[_MANY])
    cost = args.swa_full_tokens_ratio * sliding + entries
    return cost * ((layers + 1) / layers) if args.speculation else cost


def parts(args: Arguments, found: Sizes, rank: int) -> tuple[Part, ...]:
    """Everything that is allocated for one stage."""
    stage, item = _ratios(args, rank), _state_item(args)
    four, many = stage[_FOUR], stage[_MANY]
    ring_four, ring_many = _rings(args)
    four_rows = -(-(found.four_states + ring_four + 1) // _FOUR) * _FOUR
    many_rows = -(-(found.many_states + ring_many + 1) // _MANY) * _MANY
    index_rows = -(-(32 * found.many + PAGE) // _INDEX_PAGE)
    few, more = PAGE // _FOUR, PAGE // _MANY
    every, sliding_rows = tuple(stage_layers(args, rank)), -(-(found.sliding_tokens + PAGE) // PAGE)
    return (
        Part(name="swa_kv_pool", layers=every, rows=sliding_rows, row_bytes=page_bytes(PAGE)),
        Part(name="c4_kv_pool", layers=four, rows=-(-(found.four + PAGE) // few), row_bytes=page_bytes(few)),
        Part(name="c128_kv_pool", layers=many, rows=-(-(found.many + PAGE) // more), row_bytes=page_bytes(more)),
        Part(name="index_pool", layers=four, rows=index_rows, row_bytes=_INDEX_PAGE * _INDEX_ENTRY),
        Part(name="c4_state_pool", layers=four, rows=four_rows, row_bytes=4 * HEAD * item),
        Part(name="indexer_state_pool", layers=four, rows=four_rows, row_bytes=4 * _INDEX * item),
        Part(name="c128_state_pool", layers=many, rows=many_rows, row_bytes=2 * HEAD * item),
    )  # fmt: skip


def held(args: Arguments, rank: int) -> tuple[Held, ...]:
    """What a running request holds on one stage, tensor by tensor."""
    stage, item, rings = _ratios(args, rank), _state_item(args), _rings(args)
    four, many, most = stage[_FOUR], stage[_MANY], -(-sliding_rows(args) // PAGE)
    few, more = page_bytes(PAGE // _FOUR), page_bytes(PAGE // _MANY)
    index, ring = _INDEX_PAGE * _INDEX_ENTRY, rings[0]
    return (
        Held(
            name="swa_kv_pool", layers=tuple(stage_layers(args, rank)), row_bytes=page_bytes(PAGE), entry_bytes=_ENTRY, most=most
        ),
        Held(name="c4_kv_pool", layers=four, row_bytes=few, ratio=_FOUR, entry_bytes=_ENTRY),
        Held(name="c128_kv_pool", layers=many, row_bytes=more, ratio=_MANY, entry_bytes=_ENTRY),
        Held(name="index_pool", layers=four, row_bytes=index, ratio=_FOUR, entry_bytes=_INDEX_ENTRY),
        Held(name="c4_state_pool", layers=four, row_bytes=4 * HEAD * item, rows_per_page=ring, most=most),
        Held(name="indexer_state_pool", layers=four, row_bytes=4 * _INDEX * item, rows_per_page=ring, most=most),
        Held(name="c128_state_pool", layers=many, row_bytes=2 * HEAD * item, per_request=rings[1]),
    )


def page_items(args: Arguments, rank: int) -> tuple[tuple[str, int, bool], ...]:
    """What HiCache keeps of a page of 256 tokens: its pool's name, bytes in all layers, whether windows alone have it."""
    stage, item, ring = _ratios(args, rank), _state_item(args), _rings(args)[0]
    four, many, every = len(stage[_FOUR]), len(stage[_MANY]), len(stage_layers(args, rank))
    few, more = page_bytes(PAGE // _FOUR), page_bytes(PAGE // _MANY)
    return (
        ("swa", page_bytes(PAGE) * every, True),
        ("deepseek_v4_c4", few * four, False),
        ("deepseek_v4_c4_indexer", _INDEX_PAGE * _INDEX_ENTRY * four, False),
        ("deepseek_v4_c4_state", 4 * HEAD * item * ring * four, True),
        ("deepseek_v4_c4_indexer_state", 4 * _INDEX * item * ring * four, True),
        ("deepseek_v4_c128", more * many, False),
    )


def _rings(args: Arguments) -> tuple[int, int]:
    """Rows of a request's ring: of 4-token and of 128-token entries. Source: `get_compress_state_ring_size`."""
    return (16, 256) if args.speculation.tokens else (8, 128)


def _request_slots(args: Arguments, requests: int) -> int:
    return requests + args.extra_slots + 1


def _state_item(args: Arguments) -> int:
    named = args.options.dsv4_compress_state_dtype
    return item_size({"fp32": "float32", "bf16": "bfloat16"}.get(named, named))


def _ratios(args: Arguments, rank: int) -> dict[int, tuple[int, ...]]:
    """Layers of the stage that own entries of 4, and of 128 tokens."""
    stage = stage_layers(args, rank)
    return {ratio: tuple(i for i in stage if args.reading.ratios[i] == ratio) for ratio in (_FOUR, _MANY)}
