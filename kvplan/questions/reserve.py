"""The pool that a server makes of a memory figure, or the largest cache that it could be told to make."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.model import Model
from kvplan.domain.pool import Pool
from kvplan.domain.tiers import TierAsk
from kvplan.engines import make_engine
from kvplan.errors import NoStart, Refused
from kvplan.questions.tiers import tiers_of


def reserved(
    model: Model, engine: str, options: Mapping[str, Any], budget_bytes: int, below: TierAsk | None = None
) -> Pool | NotPredicted:
    """What a server of that engine makes of `budget_bytes` on each device, and of budgets `below` it (0 tokens: its longest).

    Raises:
        OptionError: unknown engine or option.
    """
    made = make_engine(engine, options)
    try:
        prepared = made.on(model)
        pool = prepared.largest_pool(budget_bytes)
    except Refused as problem:
        return NotPredicted(
            reason=problem.reason,
            see=problem.see,
            model=model.name,
            engine=made.name,
            engine_version=made.version,
            no_start=isinstance(problem, NoStart),
        )
    if pool is not None and below is not None:
        ask = replace(below, tokens=below.tokens or pool.max_model_len)
        return replace(pool, tiers=tiers_of(prepared, ask, pool))
    if pool is not None:
        return pool
    return NotPredicted(
        reason=f"{made.name} reserves no pool: it allocates what a request needs",
        model=model.name,
        engine=made.name,
        engine_version=made.version,
    )
