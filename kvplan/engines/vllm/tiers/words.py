"""What rows of tiers have in common: ranks, evidence, sizes as they are typed, and the engine's own words."""

from __future__ import annotations

import json
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

from kvplan.domain.allocation import Evidence
from kvplan.domain.model import Softmax
from kvplan.domain.tiers import Kept, Place, Tier
from kvplan.engines.vllm.tiers import lmcache, native
from kvplan.errors import Refused

if TYPE_CHECKING:
    from kvplan.engines.vllm.engine import VllmOn

RECORDED: Final = (0, 33)  # the release whose connectors were run


def world(on: VllmOn) -> int:
    """Processes of one server."""
    options = on.engine.options
    return options.tensor_parallel_size * options.pipeline_parallel_size * options.prefill_context_parallel_size


def kept(on: VllmOn) -> Kept:
    """How ranks hold a token, where each stores what it has."""
    options = on.engine.options
    alike = lmcache.mla_only(on.read) and options.tensor_parallel_size > options.decode_context_parallel_size
    return "copied" if alike else "split"


def repeated(on: VllmOn) -> int:
    """Ranks that hold the same KV head, where there are fewer heads than ranks."""
    options = on.engine.options
    heads = [memory.kv_heads for memories in on.read.collapsed() for memory in memories if isinstance(memory, Softmax)]
    ranks = options.tensor_parallel_size // options.decode_context_parallel_size
    return max(1, ranks // max(heads)) if heads else 1


def evidence(on: VllmOn) -> Evidence:
    """Of a connector whose own code was run: what stands behind the blocks that it stores."""
    return on.evidence() if on.engine.release[:2] == RECORDED else "from source"


def transfer(connector: str, **extra: Any) -> str:
    """`--kv-transfer-config` for a connector."""
    told: dict[str, Any] = {"kv_connector": connector, "kv_role": "kv_both"}
    module = extra.pop("kv_connector_module_path", None)
    told |= {"kv_connector_module_path": module} if module else {}
    told |= {"kv_connector_extra_config": extra} if extra else {}
    return f"--kv-transfer-config {quote(json.dumps(told, separators=(',', ':')))}"


def reason(problem: Refused) -> str:
    """An engine's own words, without kvplan's in front of them."""
    _, said, words = problem.reason.partition(" refuses ")
    return words.partition(": ")[2] if said and ": " in words else problem.reason


def refused(tier: str, title: str, budget: int | None, words: str, *, place: Place = "host", flags: str = "") -> Tier:
    """A tier that the engine does not start with, or that switches itself off."""
    return Tier(tier=tier, title=title, place=place, budget_bytes=budget or 0, refused=words, flags=flags)


def whole_tokens(on: VllmOn, tokens: int, per_chunk: int = 1) -> int:
    """Tokens of a session that come back: the whole chunks that every group has."""
    size = max((native.block_tokens(on.plan, group.spec) for group in on.plan.groups), default=1) * per_chunk
    return tokens // size * size
