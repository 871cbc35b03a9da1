"""Requests with times through the scheduler, step by step and compiled by numba, where no prompt shares anything.

As `served`, for any layout of groups. With prefix caching, a displaced request looks for what is left of its own blocks:
`Displaced`, and the trace is followed in another form from its start. Held against `served` on random workloads:
`tests/engines/vllm/test_compiled.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic
from kvplan.engines.vllm.scheduler import kernel as k
from kvplan.engines.vllm.scheduler.served import STUCK, Stopped, Unfollowed
from kvplan.engines.vllm.scheduler.settings import TAIL_BEFORE_END, Settings
from kvplan.errors import Refused

_BUFFER: Final = 200_000  # steps until they are counted


class Displaced(Unfollowed):
    """A request lost its blocks, and may find them again."""


def applies(settings: Settings, traffic: Traffic) -> bool:
    """Whether the layout, the options and the trace are those that are followed here."""
    groups, caching = settings.groups, settings.enable_prefix_caching
    return (
        traffic.hashes is None
        and settings.policy == "fcfs"
        and settings.long_prefill_token_threshold == 0
        and settings.max_num_active_seqs is None
        and all(group.block_size == settings.hash_block_size for group in groups if group.mode == "align")
        # what is before a chunk counts as found, in a model of nothing else
        and not (caching and any(g.kind == "chunked" for g in groups) and not any(g.sees_everything for g in groups))
    )


def _made(settings: Settings, traffic: Traffic, clock: Clock, *, stop: bool) -> k.State:
    """The state before the first request."""
    groups, count = settings.groups, len(traffic)
    states = [i for i, spec in enumerate(groups) if spec.kind == "mamba"]
    others = [spec.block_size for spec in groups if spec.kind != "mamba"]
    told, now = np.zeros(k.OPTIONS, dtype=np.int64), np.zeros(k.CHANGING, dtype=np.int64)
    for place, value in {
        k.GROUPS: len(groups), k.BUDGET: settings.max_num_batched_tokens, k.LIMIT: settings.max_model_len,
        k.SEATS: settings.max_num_seqs,
        k.ALIGNMENT: settings.alignment if TAIL_BEFORE_END.at(settings.release) else settings.hash_block_size,
        k.AHEAD: settings.async_scheduling, k.CHUNKS: settings.enable_chunked_prefill, k.CACHING: settings.enable_prefix_caching,
        k.ALL_KEPT: settings.prefix_cache_retention_interval != 0, k.WHOLE: settings.scheduler_reserve_full_isl,
        k.WATERMARK: int(settings.watermark * settings.num_gpu_blocks), k.ALIGNED_STATES: settings.aligned_states,
        k.TAIL_BEFORE: TAIL_BEFORE_END.at(settings.release), k.FIRST_STATE: states[0] if states else -1,
        k.CHECKPOINTS: bool(states) and all(groups[i].checkpoint_blocks > 0 for i in states),
        k.STATE_BLOCK: min(others) if others else groups[states[0]].block_size, k.BLOCKS: settings.num_gpu_blocks,
        k.UNIT: settings.hash_block_size, k.STOPS: stop,
    }.items():  # fmt: skip
        told[place] = int(value)
    seats = min(settings.max_num_seqs, count)
    now[k.TIME], now[k.FREE], now[k.SLOTS] = traffic.arrival_us[0], settings.num_gpu_blocks - 1, seats + 1
    requests, moments = np.zeros((k.OF_REQUEST, count), dtype=np.int32), np.full((k.MOMENTS, count), -1, dtype=np.int64)
    requests[k.PROMPT] = requests[k.KNOWN] = np.minimum(traffic.prompt, k.LARGE)
    requests[k.OUTPUT], requests[k.SLOT], moments[k.ARRIVAL] = np.minimum(traffic.output, k.LARGE), -1, traffic.arrival_us
    lists = np.zeros((k.LISTS, seats + 1), dtype=np.int64)
    lists[k.PLACES] = np.arange(seats, -1, -1)
    kinds = {"full": k.FULL, "mla": k.FULL, "sliding": k.SLIDING, "chunked": k.CHUNKED}
    rows = []
    for spec in groups:
        cap, grid = spec.admission_blocks(settings.max_in_flight_tokens, settings.max_model_len), spec.checkpoint_alignment
        kind = kinds.get(spec.kind, k.ALIGNED if spec.mode == "align" else k.STATE)
        unlimited, nowhere = -1 if cap is None else cap, -1 if grid is None else grid
        rows.append((kind, spec.block_size, spec.window or spec.chunk, unlimited, spec.checkpoint_blocks, nowhere))
    return k.State(
        told=told,
        now=now,
        step_us=np.array([clock.step_us(n) for n in range(settings.max_num_batched_tokens + 1)], dtype=np.int64),
        requests=requests,
        moments=moments,
        groups=np.ascontiguousarray(np.array(rows, dtype=np.int64).T),
        places=np.full((k.OF_PLACE, len(groups), seats + 1), -1, dtype=np.int64),
        lists=lists,
        meter=np.zeros((3, _BUFFER), dtype=np.int64),
    )


def serve(
    settings: Settings,
    traffic: Traffic,
    clock: Clock,
    meter: Meter,
    *,
    advance: Callable[[int], None] = lambda _: None,
    stop: bool = False,
) -> Outcome:
    """As `served.serve`, for what `applies` says.

    Raises:
        Refused: a request waits for ever.
        Stopped: as asked for.
        Displaced: not followed from there on.
    """
    s, told, ended = _made(settings, traffic, clock, stop=stop), 0, k.MORE
    while ended == k.MORE:
        ended = k.steps(s)
        if ended == k.STUCK:
            raise Refused(STUCK)
        if ended == k.STOPPED:
            raise Stopped
        if ended == k.DISPLACED:
            raise Displaced
        meter.idle(int(s.now[k.IDLE]))
        s.now[k.IDLE] = 0
        meter.add(*s.meter[:, : s.now[k.TOKENS]])
        advance(int(s.now[k.ENDED]) - told)
        told = int(s.now[k.ENDED])
    return Outcome(
        held_us=meter.held_us,
        timeline=meter.timeline,
        admitted_us=s.moments[k.ADMITTED_US].copy(),
        finished_us=s.moments[k.FINISHED_US].copy(),
        waited=int(s.now[k.WAITED]),
        preempted=int(s.now[k.FELL_EVER]),
        preemptions=int(s.now[k.FALLS]),
        refused=int(s.now[k.REFUSED]),
        asked_tokens=int(s.now[k.ASKED]),
        steps=int(s.now[k.STEP]),
        held_up=bool(s.now[k.WAS_HELD_UP]),
    )
