"""Host memory whose use a replay follows: the native connector, as `kvplan.engines.vllm.scheduler.offload` steps it."""

from __future__ import annotations

from typing import Final

from kvplan.domain.model import Model
from kvplan.domain.tiers import HostRoom
from kvplan.engines.vllm.plan import Plan
from kvplan.engines.vllm.resolved import prefix_caching
from kvplan.engines.vllm.specs import FullSpec
from kvplan.engines.vllm.tiers import native
from kvplan.engines.vllm.tiers.sizes import gib, shown_gib
from kvplan.errors import OptionError, Refused
from kvplan.units import GIB

#: The first release whose connector's steps are written down.
_FIRST: Final = (0, 32)
_SEE: Final = "docs/guides/replay.md says what is followed; `kvplan tiers` says how much fits"


def host_room(model: Model, plan: Plan, budget_bytes: int) -> HostRoom:
    """The chunks of `--kv-offloading-size`.

    Args:
        model: as vLLM reads it.
        plan: how it is laid out.

    Raises:
        Refused: steps that are not written down, or vLLM does not start so.
        OptionError: not one chunk, or a connector is told otherwise, too.
    """
    if plan.version < _FIRST:
        raise Refused("what vLLM stores in host memory, step by step, is known from 0.32 on", _SEE)
    if not all(isinstance(group.spec, FullSpec) for group in plan.groups):
        raise Refused(
            "which prompts vLLM finds in host memory is written down for layers that see everything, and some of "
            f"{model.name}'s see a window or keep a state",
            _SEE,
        )
    if not prefix_caching(model, plan.options, plan.version):
        raise Refused("what vLLM stores in host memory is followed where it caches prefixes, and it was told not to", _SEE)
    if plan.options.connector() is not None:
        raise OptionError("«host» and a connector among the options are two answers", hint="give one of them")
    size = gib(budget_bytes)
    budget = int(size * GIB)
    found = native.chunked(model, plan, native.ChunkOptions(), plan.max_model_len)
    chunks = found.chunks(budget)
    if not chunks:
        raise OptionError(f"«host»: {budget_bytes:,} bytes are less than one chunk of {found.chunk_bytes:,}")
    flag = f"--kv-offloading-size {shown_gib(size)}"
    tokens = native.block_tokens(plan, plan.groups[0].spec)
    return HostRoom(
        budget_bytes=budget,
        chunk_bytes=found.chunk_bytes,
        chunks=chunks,
        flags=flag,
        notes=(
            f"host memory is that of vLLM's native connector (`{flag}`): {chunks:,} chunks of {tokens} tokens, the least "
            "recently used go first; whole chunks of prompts are stored, what is generated is not until it comes back in one",
            "transfers take no time of their own: a request waits for the step that looks for its load, however long that is; "
            "LMCache, Mooncake, the simple connector and disks below are not followed",
        ),
    )
