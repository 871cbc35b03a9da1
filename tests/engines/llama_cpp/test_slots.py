"""llama-server's slots, step by step: each case was followed by hand in `tools/server/server-context.cpp` (0c1e57098)."""

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic
from kvplan.engines import make_engine
from kvplan.engines.llama_cpp.engine import LlamaCppOn
from kvplan.engines.llama_cpp.slots.prompts import EMPTY, Prompt, PromptCache
from kvplan.engines.llama_cpp.slots.serve import serve
from kvplan.engines.llama_cpp.slots.server import Request, Server
from kvplan.engines.llama_cpp.slots.settings import Settings, settings_of, told
from kvplan.errors import Refused
from kvplan.loading import load

TOLD = Settings(
    slots=2, cells=512, context=512, unified=True, batch=64, cuts=(), reuses=True, cache_bytes=0,
    state_bytes=lambda tokens: 10 * tokens,
)  # fmt: skip


def prompt(tokens: int, *names: int, own: int = 0) -> Prompt:
    """A prompt of names of 32 tokens each, and its own tokens behind them."""
    return Prompt(names, 32, min(tokens, 32 * len(names)), tokens + own)


def ran(server: Server, *requests: Request) -> list[list[int]]:
    """The requests at once, step by step to their end: who ended in each step."""
    server.queue.extend(requests)
    ended = []
    while not server.idle:
        ended.append([request.index for request in server.update().ended])
    return ended


def outcome(settings: Settings, rows: list[tuple[int, int, int]], **more: Any) -> Outcome | None:
    """Requests of (arrival in microseconds, prompt, output)."""
    columns = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    asked = Traffic(**dict(zip(("arrival_us", "prompt", "output"), columns, strict=True)), **more)
    meter = Meter(settings.cells + 1, int(asked.arrival_us[0]), 10**6)
    return serve(settings, asked, Clock(prefill_rate=1e4, decode_rate=100), meter)


def test_a_batch_has_a_token_of_every_slot_that_generates_and_then_prompts() -> None:
    server = Server(TOLD)
    server.queue.extend([Request(0, prompt(0, own=100), 4), Request(1, prompt(0, own=50), 2)])
    assert server.update().prefill == 64  # the last slot was taken first, and slots go in the order of their numbers
    assert [(slot.request.index if slot.request else None, slot.cells) for slot in server.slots] == [(1, 50), (0, 14)]
    assert server.update().prefill == 63  # the other gives its second token, and has ended
    assert [slot.state for slot in server.slots] == ["idle", "prompt"]
    steps = [server.update().prefill for _ in range(4)]
    assert steps == [23, 0, 0, 0]
    assert server.idle
    assert server.slots[1].prompt.tokens == 100 + 4 - 1


def test_a_slot_is_chosen_by_what_it_holds_and_else_by_how_long_it_was_idle() -> None:
    server = Server(TOLD)
    ran(server, Request(0, prompt(64, 1, 2), 1))
    ran(server, Request(1, prompt(64, 3, 4), 1))
    assert [slot.prompt.names for slot in server.slots] == [(3, 4), (1, 2)]
    again, other = Request(2, prompt(96, 1, 2, 5), 1), Request(3, prompt(64, 9, 10), 1)
    ran(server, again)
    assert again.hit == 64
    ran(server, other)
    assert other.hit == 0
    assert [slot.prompt.names for slot in server.slots] == [(9, 10), (1, 2, 5)]  # the other slot was idle for longer
    same = Request(4, prompt(96, 1, 2, 5), 1)
    ran(server, same)
    assert same.hit == 95  # one token at least is computed
    few = Request(5, prompt(320, 9, *range(20, 29)), 1)
    ran(server, few)
    assert few.hit == 32  # a tenth is not more than a tenth: the slot that was idle for longer, which happens to hold it


def test_those_that_found_no_slot_come_in_their_order_but_two_at_once_the_other_way_round() -> None:
    server = Server(TOLD)
    ended = ran(server, *(Request(i, prompt(0, own=16), 1) for i in range(5)))
    assert ended == [[1, 0], [3, 2], [4]]  # each that ends puts one in front of the queue: the second one before the first


def test_cells_that_run_out_end_all_that_work() -> None:
    found = outcome(replace(TOLD, cells=100, context=100), [(0, 60, 30), (0, 30, 30)])
    assert found is not None
    assert (found.refused, found.held_up) == (2, True)
    apart = outcome(replace(TOLD, cells=200, context=100, unified=False), [(0, 60, 30), (0, 30, 30)])
    assert apart is not None
    assert (apart.refused, apart.held_up) == (0, False)
    longest = outcome(replace(TOLD, cells=100, context=100), [(0, 60, 500), (10**7, 100, 5)])
    assert longest is not None
    # 60 tokens in one batch, and tokens of output until there are 99; as many as the slot holds are refused
    assert longest.finished_us.tolist() == [40 * 10_000, -1]
    assert longest.refused == 1


def test_an_idle_slot_is_cleared_where_its_cells_are_needed() -> None:
    server = Server(replace(TOLD, cells=128, context=128))
    ran(server, Request(0, prompt(64, 1, 2), 1))
    server.queue.append(Request(1, prompt(0, own=100), 1))
    waited = []
    while not server.idle:
        server.update()
        waited.append(server.held_up)
    assert [slot.prompt.tokens for slot in server.slots] == [100, 0]
    assert waited == [False, False]  # what an idle slot kept is forgotten: nobody waits for that


def test_prompts_of_idle_slots_go_to_the_host_and_come_back() -> None:
    server = Server(replace(TOLD, cache_bytes=10 * 200))
    ran(server, Request(0, prompt(64, 1, 2), 1))
    ran(server, Request(1, prompt(64, 3, 4), 1))
    assert server.cache is not None
    assert [entry.names for entry, _ in server.cache.entries] == [(1, 2)]
    assert [slot.prompt.tokens for slot in server.slots] == [64, 0]  # a slot whose cells others share is cleared
    again = Request(2, prompt(96, 1, 2, 5), 1)
    ran(server, again)
    assert again.hit == 64
    assert [entry.names for entry, _ in server.cache.entries] == [(3, 4)]


def test_the_prompt_cache_makes_room_and_keeps_what_is_longer() -> None:
    cache = PromptCache(1000, 10**6, lambda tokens: 10 * tokens)
    assert cache.save(prompt(32, 1))
    assert cache.save(prompt(64, 1, 2))  # contains the first
    assert not cache.save(prompt(32, 1))
    assert not cache.save(prompt(0, own=101))
    assert cache.save(prompt(32, 7))
    assert [entry.tokens for entry, _ in cache.entries] == [64, 32]
    assert cache.save(prompt(0, own=40))
    assert [entry.tokens for entry, _ in cache.entries] == [32, 40]  # the oldest went
    assert cache.best(EMPTY, prompt(64, 7, 8)) == 0
    assert cache.best(EMPTY, prompt(64, 8, 7)) is None
    few = PromptCache(-1, 50, lambda tokens: tokens)
    assert few.save(prompt(0, own=40))
    assert few.save(prompt(0, own=41))
    few.update()
    assert [entry.tokens for entry, _ in few.entries] == [41]


def test_a_server_is_what_its_flags_say() -> None:
    def settings(name: str, **options: Any) -> Settings:
        prepared = make_engine("llama.cpp", options).on(load(name))
        assert isinstance(prepared, LlamaCppOn)
        return settings_of(prepared, told(prepared))[0]

    usual = settings("llama-3.1-8b")
    assert (usual.slots, usual.unified, usual.cells, usual.context, usual.batch) == (4, True, 131072, 131072, 2048)
    assert usual.reuses
    eight = settings("llama-3.1-8b", parallel=8, ctx_size=65536)
    assert (eight.slots, eight.unified, eight.context) == (8, False, 8192)
    windows = settings("gemma-3-4b", ctx_size=8192)
    assert (windows.reuses, windows.cuts) == (False, (516, 4))
    assert settings("gemma-3-4b", ctx_size=8192, swa_full=True).reuses
    hashes = {"offsets": np.array([0, 1]), "hashes": np.array([5]), "hash_tokens": 32}
    with pytest.raises(Refused, match="cannot be cut back"):
        outcome(windows, [(0, 60, 3)], **hashes)
    with pytest.raises(Refused, match="front end `cli`"):
        settings("llama-3.1-8b", frontend="cli")


def test_a_build_whose_slots_were_not_read_is_refused() -> None:
    """b3000 has one slot of 512 tokens and no prompt cache: a server of 0.5.0 says nothing of it."""
    prepared = make_engine("llama.cpp@b3000", {}).on(load("llama-3.1-8b"))
    with pytest.raises(Refused, match="llama-server b3000 are not written down, only those of"):
        prepared.told_pool(2**36)


def test_a_prompt_whose_end_is_a_checkpoint_takes_more_steps() -> None:
    """1,000 tokens in batches of 2,048, micro-batches of 512: they end 516 and 4 tokens before the prompt does."""
    server = Server(replace(TOLD, slots=1, cells=4096, context=4096, batch=2048, cuts=(516, 4)))
    server.queue.append(Request(0, prompt(0, own=1000), 1))
    assert [server.update().prefill for _ in range(3)] == [484, 512, 4]
    assert server.idle
