"""Requests with times through the slots: those that have come are tasks, a step lasts as the clock says, its output is read."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np

from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic
from kvplan.engines.llama_cpp.slots.prompts import Prompt
from kvplan.engines.llama_cpp.slots.server import Request, Server
from kvplan.engines.llama_cpp.slots.settings import Settings
from kvplan.errors import Refused

_FLUSHED = 100_000  # steps
_TOLD = 500  # requests between two words on the progress


def serve(
    settings: Settings,
    traffic: Traffic,
    clock: Clock,
    meter: Meter,
    *,
    advance: Callable[[int], None] = lambda _: None,
    stop: bool = False,
) -> Outcome | None:
    """Run the requests to their end; None where it was stopped at the first one that waited for a slot or cells.

    Raises:
        Refused: prompts share tokens, and what is found of them is not written down for the model.
    """
    if traffic.hashes is not None and not settings.reuses:
        raise Refused(
            "what llama-server finds of a prompt where windows or states cannot be cut back (checkpoints) is not followed",
            "leave out the column of hashes: then no prompt shares anything",
        )
    server, count = Server(settings), len(traffic)
    arrivals = traffic.arrival_us.tolist()
    admitted, finished, queued_in = array("q", [-1]) * count, array("q", [-1]) * count, array("q", [0]) * count
    out = Outcome(held_us=meter.held_us, timeline=meter.timeline, admitted_us=np.array([]), finished_us=np.array([]))
    rows = (array("q"), array("q"), array("q"))
    now, coming, done, told = meter.timeline.start_us, 0, 0, 0
    while True:
        while coming < count and arrivals[coming] <= now:
            prompt = _prompt(traffic, coming)
            if not prompt.tokens:
                out.refused += 1
                done += 1
            else:
                server.queue.append(Request(coming, prompt, int(traffic.output[coming])))
                queued_in[coming] = out.steps
            coming += 1
        if server.idle:
            if coming == count:
                break
            meter.idle(arrivals[coming] - now)
            now = arrivals[coming]
            continue
        step = server.update()
        out.held_up = out.held_up or server.held_up
        if stop and out.held_up:
            return None
        lasts = clock.step_us(step.prefill) if step.used else 0
        for row, value in zip(rows, (now, step.used, lasts), strict=True):
            row.append(value)
        for request in step.admitted:
            admitted[request.index] = now
            out.waited += int(queued_in[request.index] != out.steps)
        now += lasts
        out.steps += 1
        for request in step.ended:
            done += 1
            if request.failed:
                out.refused += 1
                admitted[request.index] = -1
            else:
                finished[request.index] = now
                out.asked_tokens += request.prompt.tokens
                out.hit_tokens += request.hit
        if len(rows[0]) >= _FLUSHED:
            _flush(meter, rows)
        if done - told >= _TOLD:
            advance(done - told)
            told = done
    advance(done - told)
    _flush(meter, rows)
    out.admitted_us, out.finished_us = np.array(admitted, dtype=np.int64), np.array(finished, dtype=np.int64)
    return out


def _prompt(traffic: Traffic, request: int) -> Prompt:
    names, tokens = tuple(traffic.names(request)), int(traffic.prompt[request])
    return Prompt(names, traffic.hash_tokens, min(tokens, len(names) * traffic.hash_tokens), tokens)


def _flush(meter: Meter, rows: tuple[array[int], array[int], array[int]]) -> None:
    meter.add(*(np.array(values, dtype=np.int64) for values in rows))
    for values in rows:
        del values[:]
