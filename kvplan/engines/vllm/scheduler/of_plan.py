"""What a server's plan and pool say to its scheduler, and requests with times through it."""

from collections.abc import Callable, Iterator
from math import gcd, lcm
from typing import Any, Final

import numpy as np

from kvplan.domain.pool import Pool
from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic
from kvplan.engines.kernel import native
from kvplan.engines.vllm.plan import Plan
from kvplan.engines.vllm.scheduler import offload, served
from kvplan.engines.vllm.scheduler.compiled import serve as compiled
from kvplan.engines.vllm.scheduler.fast import steps, windows
from kvplan.engines.vllm.scheduler.settings import GroupSpec, Host, Settings, check_release
from kvplan.engines.vllm.specs import ChunkedSpec, FullSpec, SlidingSpec, StateSpec
from kvplan.errors import Refused
from kvplan.limits import OFFLOADED_WORK

#: An array of counts, one a request.
Counts = np.ndarray[Any, Any]
_SEE: Final = "docs/guides/replay.md says what is followed"

#: Tokens of output from which on machine code is worth the seconds in which it is made.
_WORTH: Final = 500_000
#: Blocks of states that a request holds where prefixes are cached, before the one for a checkpoint inside a chunk.
_ALIGNED_STATES: Final = 2
#: Kind of state -> tokens at multiples of which its prefill writes out a checkpoint. Source: `mamba/mamba_mixer2.py`,
#: `mamba/kda_checkpoint.py`; else, the block's (`mamba/abstract.py:get_mamba_prefill_checkpoint_grid`, 0.33).
_CHECKPOINTS: Final = {"mamba2": 1, "kda": 16}


def settings_of(plan: Plan, pool: Pool, *, caching: bool) -> Settings:
    """The scheduler of a server that was started with `plan` and made `pool`.

    Args:
        caching: whether prefixes are kept.

    Raises:
        Refused: something whose steps are not written down.
    """
    options = plan.options
    if options.speculative.num_speculative_tokens:
        raise Refused("the steps of a server that drafts tokens are not written down", _SEE)
    if len(plan.stages) > 1:
        raise Refused("the steps of pipeline stages are not written down", _SEE)
    if plan.scheduling.context_parallel > 1:
        raise Refused("the steps of decode context parallelism are not written down", _SEE)
    if not plan.groups:
        raise Refused("this model keeps no cache, so that nothing of it waits for one")
    groups = tuple(_group(group.spec, caching=caching) for group in plan.groups)
    sizes = [group.block_size for group in groups]
    whole = lcm(*sizes)
    aligned = all(group.kind != "mamba" or group.mode == "align" for group in groups)
    settings = Settings(
        groups=groups,
        num_gpu_blocks=pool.num_blocks,
        max_model_len=pool.max_model_len,
        max_num_batched_tokens=plan.scheduling.batch_tokens,
        max_num_seqs=plan.scheduling.max_num_seqs,
        scheduler_block_size=whole,
        hash_block_size=gcd(*sizes) if caching and aligned else whole,
        release=plan.version,
        async_scheduling=plan.scheduling.in_flight_tokens > plan.scheduling.batch_tokens,
        enable_chunked_prefill=options.enable_chunked_prefill,
        enable_prefix_caching=caching,
    )
    check_release(settings)
    if caching and any(group.kind == "chunked" and group.block_size != settings.alignment for group in groups):
        raise Refused("vLLM finds no prefixes of chunked layers beside other block sizes", _SEE)
    return settings


def _group(spec: object, *, caching: bool) -> GroupSpec:
    match spec:
        case FullSpec():
            return GroupSpec(kind="mla" if spec.latent else "full", block_size=spec.block_size)
        case SlidingSpec():
            return GroupSpec(kind="sliding", block_size=spec.block_size, window=spec.reach)
        case ChunkedSpec():
            return GroupSpec(kind="chunked", block_size=spec.block_size, chunk=spec.reach)
        case StateSpec() if not spec.every_block and not caching:
            return GroupSpec(kind="mamba", block_size=spec.block_size, mode="none")
        case StateSpec() if not spec.every_block:
            exports = spec.states > _ALIGNED_STATES
            return GroupSpec(
                kind="mamba",
                block_size=spec.block_size,
                mode="align",
                checkpoint_blocks=int(exports),
                checkpoint_alignment=_CHECKPOINTS.get(str(spec.content[0]), spec.block_size) if exports else None,
            )
    raise Refused("the steps of layers that keep an encoder's output, or a state for every block, are not written down", _SEE)


def held_by_one(settings: Settings, tokens: Counts) -> Counts:
    """Blocks that requests of `tokens` computed tokens hold at their ends."""
    blocks = tokens * 0
    for group in settings.groups:
        size = group.block_size
        if group.kind == "mamba":
            blocks = blocks + 1
            continue
        behind = tokens * 0
        if group.kind == "sliding":
            behind = np.maximum(0, tokens - group.window + 1)
        elif group.kind == "chunked":
            behind = tokens // group.chunk * group.chunk
        blocks = blocks - (-tokens // size) - behind // size
    return blocks


def is_worth_compiling(traffic: Traffic) -> bool:
    """Whether llvmlite is there, and the trace long enough for it."""
    return int(traffic.output.sum()) >= _WORTH and native.available()


def _quicker(settings: Settings, traffic: Traffic) -> Iterator[Callable[..., Outcome]]:
    """What may follow the trace in less time than step by step, the quickest first."""
    if is_worth_compiling(traffic) and compiled.applies(settings):
        yield compiled.serve
    if windows.applies(settings, traffic):
        yield windows.serve


def serve_above(
    settings: Settings,
    chunks: int,
    traffic: Traffic,
    clock: Clock,
    meter: Meter,
    *,
    advance: Callable[[int], None] = lambda _: None,
    stop: bool = False,
) -> Outcome | None:
    """As `serve`, with `chunks` blocks of host memory below the cache; step by step.

    Raises:
        Refused: a trace that would take too long so.
    """
    work = int(traffic.output.sum()) + int(traffic.prompt.sum()) // settings.hash_block_size
    if work > OFFLOADED_WORK:
        raise Refused(
            f"with host memory a trace is followed step by step: at most {OFFLOADED_WORK:,} tokens of output and blocks of "
            f"prompts, and this one has {work:,}",
            "replay a part of it",
        )
    scheduler = offload.OffloadingScheduler(settings, Host(chunks=chunks))
    try:
        return served.serve(settings, traffic, clock, meter, advance=advance, stop=stop, scheduler=scheduler)
    except served.Stopped:
        return None


def serve(
    settings: Settings,
    traffic: Traffic,
    clock: Clock,
    meter: Meter,
    *,
    plain: bool = False,
    advance: Callable[[int], None] = lambda _: None,
    stop: bool = False,
) -> Outcome | None:
    """The requests through the scheduler; None where it was stopped at the first one that waited for room.

    Args:
        plain: step by step, whatever the layout.
    """
    try:
        if plain:
            return served.serve(settings, traffic, clock, meter, advance=advance, stop=stop)
        if steps.applies(settings, traffic):
            return steps.Fast(settings, traffic, clock, meter).run(advance, stop=stop)
        for way in _quicker(settings, traffic):
            told = 0

            def tell(done: int) -> None:
                nonlocal told
                told += done
                advance(done)

            try:
                return way(settings, traffic, clock, meter.again(), advance=tell, stop=stop)
            except served.Unfollowed:
                advance(-told)
        return served.serve(settings, traffic, clock, meter, advance=advance, stop=stop)
    except served.Stopped:
        return None
