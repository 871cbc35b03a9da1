"""What vLLM prints at start-up, predicted from the memory that it prints: every value that the rounded figure allows.

A server prints its memory with two decimals and its blocks and tokens exactly. A printed size stands for an interval of
bytes, so a prediction is the set of values that memory in the interval gives; the record agrees when its value is
one of them. The memory itself is predicted the other way, from the blocks or tokens. Flags that a record does not
tell (the release, the drafter's tokens, the batch) are tried in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import islice
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.model import Model
from kvplan.engines.kernel.printed import read_printed
from kvplan.engines.kernel.search import largest
from kvplan.engines.vllm.engine import Vllm, VllmOn
from kvplan.engines.vllm.plan import Plan
from kvplan.engines.vllm.pool import Reserved, format_gib, needed_bytes
from kvplan.engines.vllm.releases import FIT_BY_GROUPS
from kvplan.engines.vllm.specs import StateSpec
from kvplan.errors import KvplanError
from kvplan.units import GIB, ceil_div

#: Names under which records keep the memory for the cache, in GiB.
AVAILABLE: Final = ("available_kv_gib_printed", "available_gib_printed", "kv_cache_gib_printed")
#: Facts of the pool, and of a refusal.
POOL: Final = ("num_gpu_blocks", "num_tokens", "max_concurrency_printed", "num_cpu_blocks")
REFUSAL: Final = ("needed_gib_printed", "estimated_max_model_len_printed", "max_tokens_stored_printed")
HYBRID: Final = ("attention_block_size_printed", "mamba_padding_percent_printed")
#: Pools that are worked out one by one for one printed memory.
_STEPS: Final = 512
_MOST: Final = 10_000  # values of one fact


class Values(Struct, frozen=True):
    """Every value that a fact may have, in order of preference."""

    options: tuple[Any, ...]

    def like(self, recorded: Any) -> Any:
        """The recorded value if it is one of them, else the nearest."""
        if recorded in self.options:
            return recorded
        if isinstance(recorded, list):  # of groups
            wanted = tuple(tuple(row) if isinstance(row, list) else row for row in recorded)
            return recorded if wanted in self.options else [list(row) for row in self.options[0]]
        limits = [value.gib for value in self.options if isinstance(value, Below)]
        if limits and isinstance(recorded, int | float) and recorded < max(limits):
            return recorded
        numbers = [value for value in self.options if isinstance(value, int | float)]
        if not numbers or not isinstance(recorded, int | float):
            return self.options[0] if not isinstance(self.options[0], Below) else None
        return min(numbers, key=lambda value: abs(value - recorded))


class Below(Struct, frozen=True):
    """Any amount of GiB that is smaller than this: what a refusal leaves open."""

    gib: float


def interval(printed: float | int) -> tuple[int, int]:
    """The bytes that a printed number of GiB may stand for: lowest and highest."""
    shown = read_printed(printed, "available memory")
    half = Fraction(1, 2 * 10 ** max(shown.decimals, 2))
    low, high = (shown.value - half) * GIB, (shown.value + half) * GIB
    return max(0, int(low) + (low.denominator != 1)), int(high)


def predict(
    model: Model, versions: tuple[str, ...], options: tuple[Mapping[str, Any], ...], asked: Mapping[str, Any]
) -> dict[str, Any] | NotPredicted:
    """The facts under every release and set of flags that the record leaves open.

    Args:
        model: the model.
        versions: releases, the likeliest first.
        options: flags, the likeliest first.
        asked: the memory (`available`), and `blocks` or `tokens`, from which the memory is predicted.
    """
    found: dict[str, list[Any]] = {}
    refusal: NotPredicted | None = None
    for version in versions:
        for flags in options:
            # what was printed comes before decode steps are captured, and few records tell how many requests were asked for
            engine = Vllm.made({"enforce_eager": True, **flags}, version)
            try:
                on = engine.on(model)
            except KvplanError as problem:
                refusal = refusal or NotPredicted(reason=str(problem))
                continue
            for name, values in _facts(on, asked):
                found.setdefault(name, []).extend(islice(values, _MOST))
    if not found:
        return refusal or NotPredicted(reason="the record says neither the memory nor the blocks")
    return {name: Values(tuple(dict.fromkeys(values))) for name, values in found.items()}


def _facts(on: VllmOn, asked: Mapping[str, Any]) -> Iterator[tuple[str, Iterator[Any]]]:
    plan = on.plan
    yield "attention_block_size_printed", iter((plan.block_size,))
    padding = _padding(plan)
    if padding is not None:
        yield "mamba_padding_percent_printed", iter((padding,))
    needed = [needed_bytes(plan, stage, plan.max_model_len) for stage in range(len(plan.stages))]
    yield "needed_gib_printed", iter([float(format_gib(plan, amount)) for amount in needed])
    if asked.get("groups"):
        yield "groups", iter((tuple((len(g.members), g.page_bytes, g.spec.block_size) for g in plan.groups),))
    for length in asked.get("lengths", ()):
        yield f"max_concurrency[{length}]", _concurrencies(on, int(length), asked)
    pools = list(_pools(on, asked))
    started, refused = [p for p in pools if not p.refused], [p for p in pools if p.refused]
    if started:
        yield "num_gpu_blocks", iter([p.num_blocks for p in started])
        yield "num_tokens", iter([p.num_tokens for p in started])
        yield "max_concurrency_printed", iter([round(p.concurrency, 2) for p in started])
        yield "num_cpu_blocks", iter([p.num_cpu_blocks for p in started])
    if refused:
        yield "estimated_max_model_len_printed", iter([p.estimated_max_model_len for p in refused])
        yield "max_tokens_stored_printed", iter([p.estimated_max_model_len for p in refused])
    known = _memory(on, asked)
    if known is None and refused and not started and "estimated" in asked:
        # no estimate was printed: the memory is anything that is less than what was needed
        yield from ((name, iter((Below(min(needed) / GIB),))) for name in AVAILABLE)
    if known is not None:
        sizes = _printed_sizes(*known)
        yield from ((name, iter(sizes)) for name in AVAILABLE)


def _padding(plan: Plan) -> float | None:
    """By how much of a state its page is larger, in percent, as the log says it."""
    specs = [held.spec for held in plan.caches if isinstance(held.spec, StateSpec)]
    if not specs:
        return None
    return round(100 * (specs[0].page_bytes - specs[0].content_bytes) / specs[0].content_bytes, 2)


def _pools(on: VllmOn, asked: Mapping[str, Any]) -> Iterator[Reserved]:
    """The pool of each number of blocks that the memory allows."""
    plan = on.plan
    if asked.get("available") is None:
        blocks = asked.get("blocks") or _blocks_of(on, asked.get("tokens"))
        if blocks:
            yield from _of_blocks(on, blocks, None if asked.get("blocks") else asked["tokens"])
        return
    size = max(plan.block_bytes)
    low, high = interval(asked["available"])
    if "estimated" in asked and FIT_BY_GROUPS.at(plan.version):  # a refusal prints what is left without the null block
        low, high = low + size, high + size
    first = ceil_div(low + 1, size) * size if size else high
    steps = range(first, high + 1, size) if size else range(0)
    if len(steps) > _STEPS:  # the memory says nothing so precise: the tokens say which pool it was
        blocks = _blocks_of(on, asked.get("tokens")) or 0
        steps = range(max(first, (blocks - 1) * size), min(high, (blocks + 1) * size) + 1, size)[:3]
    for budget in (low, *steps, high):
        yield on.reserved((budget,))


def _of_blocks(on: VllmOn, blocks: int, tokens: int | None) -> Iterator[Reserved]:
    """The pool of so many blocks; and of each larger number that prints the same tokens."""
    for more in range(_STEPS):
        found = on.reserved(((blocks + more) * max(on.plan.block_bytes),))
        if more and (tokens is None or found.num_tokens != tokens):
            return
        yield found


def _concurrencies(on: VllmOn, length: int, asked: Mapping[str, Any]) -> Iterator[float]:
    """What the log prints of requests of another length, with each pool that the memory allows."""
    other = Vllm(replace(on.engine.options, max_model_len=length), on.engine.version).on(on.model)
    yield from (round(pool.concurrency, 2) for pool in _pools(other, asked) if not pool.refused)


def _blocks_of(on: VllmOn, tokens: int | None) -> int | None:
    """The blocks of a pool of so many tokens: the fewest that reach them."""
    if not tokens or not on.plan.groups:
        return None
    wanted, size = tokens, max(on.plan.block_bytes)
    return largest(lambda blocks: on.reserved((blocks * size,)).num_tokens < wanted, ceiling=2**40) + 1


def _memory(on: VllmOn, asked: Mapping[str, Any]) -> tuple[int, int] | None:
    """The bytes that the printed blocks, tokens or longest request need, and the next one's."""
    plan = on.plan
    if asked.get("estimated"):
        longest = asked["estimated"]
        return needed_bytes(plan, 0, longest), needed_bytes(plan, 0, longest + 1) - 1
    size, blocks = max(plan.block_bytes), asked.get("blocks")
    if blocks:
        return blocks * size, (blocks + 1) * size - 1
    tokens = asked.get("tokens")
    fewest = _blocks_of(on, tokens)
    if not tokens or not fewest:
        return None
    more = _blocks_of(on, tokens + 1) or fewest + 1
    return fewest * size, more * size - 1


def _printed_sizes(low: int, high: int) -> list[float]:
    """Every number of GiB with two decimals that an amount in the interval is printed as."""
    first, last = round(low / GIB * 100), round(high / GIB * 100)
    return [hundredths / 100 for hundredths in range(first, min(last, first + _MOST) + 1)]
