"""Requests with times through the scheduler, as `served.serve`, step by step over arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic
from kvplan.engines.kernel import native
from kvplan.engines.vllm.scheduler.compiled import state as s
from kvplan.engines.vllm.scheduler.compiled.loop import steps
from kvplan.engines.vllm.scheduler.served import STUCK, Stopped, Unfollowed
from kvplan.engines.vllm.scheduler.settings import Settings
from kvplan.errors import Refused


class Overfull(Unfollowed):
    """A table was made too small."""


def applies(settings: Settings) -> bool:
    """Whether the options are those that are followed here."""
    return settings.policy == "fcfs" and settings.long_prefill_token_threshold == 0 and settings.max_num_active_seqs is None


def serve(
    settings: Settings,
    traffic: Traffic,
    clock: Clock,
    meter: Meter,
    *,
    advance: Callable[[int], None] = lambda _: None,
    stop: bool = False,
    plain: bool = False,
) -> Outcome:
    """As `served.serve`, for what `applies` says.

    Args:
        advance: told how many more requests have ended.
        stop: end at the first request that waits for blocks or a place.
        plain: as Python's functions, without machine code.

    Raises:
        Refused: a request waits for ever.
        Stopped: as asked for.
        Overfull: not followed to the end here.
    """
    state = s.made(settings, traffic, clock, stop=stop)
    run = native.function(steps, state) if native.available() and not plain else (lambda: steps(state))
    told, ended = 0, s.MORE
    while ended == s.MORE:
        ended = run()
        if ended == s.STUCK:
            raise Refused(STUCK)
        if ended == s.STOPPED:
            raise Stopped
        if ended == s.OVERFULL:
            raise Overfull
        count = int(state.now[s.TOKENS])
        meter.idle(int(state.now[s.IDLE]))
        state.now[s.IDLE] = 0
        meter.add(*np.asarray(state.meter)[:, :count])
        done = int(state.now[s.ENDED])
        advance(done - told)
        told = done
    sums: dict[str, Any] = {
        name: int(state.now[place])
        for name, place in (
            ("waited", s.WAITED), ("preempted", s.PREEMPTED), ("preemptions", s.PREEMPTIONS), ("refused", s.REFUSED),
            ("asked_tokens", s.ASKED), ("hit_tokens", s.HIT), ("found_again_tokens", s.FOUND_AGAIN),
        )
    }  # fmt: skip
    return Outcome(
        held_us=meter.held_us,
        timeline=meter.timeline,
        admitted_us=np.array(state.moments[s.M_ADMITTED_US]),
        finished_us=np.array(state.moments[s.M_FINISHED_US]),
        steps=int(state.now[s.STEP]),
        held_up=bool(state.now[s.WAS_HELD_UP]),
        **sums,
    )
