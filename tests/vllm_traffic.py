"""Small servers of vLLM that are short of room, requests with times for them, and answers as plain values."""

import random
from typing import Any

import numpy as np
from arrivals import traffic

from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic, first_width
from kvplan.engines.vllm.scheduler.settings import GroupSpec, Settings
from kvplan.errors import Refused


def workload(seed: int) -> tuple[Settings, Traffic, Clock]:
    """A small server that is short of room, and requests for it. A seed, for drawing each number costs more than the replay."""
    r = random.Random(seed)
    size, limit, batch = r.choice((4, 8, 16)), r.choice((64, 200)), r.choice((16, 40, 256))
    told = Settings(
        groups=(GroupSpec(kind=r.choice(("full", "mla")), block_size=size),),
        num_gpu_blocks=-(-limit // size) + 1 + r.randint(0, 30),
        max_model_len=limit,
        max_num_batched_tokens=batch,
        max_num_seqs=min(batch, r.choice((2, 5, 16))),
        scheduler_block_size=size,
        hash_block_size=size,
        release=(0, 32, 0),
        async_scheduling=r.random() < 0.5,
        enable_prefix_caching=r.random() < 0.8,
        enable_chunked_prefill=batch < limit or r.random() < 0.8,
        scheduler_reserve_full_isl=r.random() < 0.5,
        watermark=r.choice((0.0, 0.1)),
    )
    each, hashed = size * r.choice((1, 2, 8)), r.random() < 0.6
    rows = []
    for i in range(r.randint(1, 24)):
        prompt = r.randint(1, limit + 2) if r.random() < 0.3 else r.randint(1, limit // 2)
        shared, base = r.randint(0, 8), r.randint(0, 1)
        names = tuple(base * 100 + j if j < shared else 1000 * (i + 1) + j for j in range(-(-prompt // each)))
        later = r.choice((0, 1, 500, 20_000, 300_000))
        rows.append((later, prompt, r.randint(1, r.choice((3, 90))), names if hashed else ()))
    return told, traffic(rows, each), Clock(prefill_rate=r.choice((1e3, 1e5)), decode_rate=r.choice((30.0, 200.0)))


def answer(run: Any, told: Settings, asked: Traffic, clock: Clock, **more: Any) -> Outcome | str:
    first, last = int(asked.arrival_us[0]), int(asked.arrival_us[-1])
    try:
        found: Outcome = run(told, asked, clock, Meter(told.num_gpu_blocks, first, first_width(first, last)), **more)
    except Refused as problem:
        return str(problem)
    return found


def plain(found: Outcome | str) -> Any:
    if isinstance(found, str):
        return found
    values = {name: getattr(found, name) for name in found.__struct_fields__}
    line = values.pop("timeline")
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()} | {
        "timeline": (line.start_us, line.width_us, line.held, line.peaks)
    }
