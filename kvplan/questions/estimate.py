"""The one question: how many bytes does this workload's cache take in this engine?"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import about, make_engine
from kvplan.engines.kernel.engine import Engine, footprint
from kvplan.errors import Refused


def plan(model: Model, workload: Workload, engine: str = "ideal", **options: Any) -> Allocation | NotPredicted:
    """Predict the cache of `workload`.

    Args:
        engine: `NAME` or `NAME@VERSION`.
        options: the engine's own options, or the shared `kv_dtype` and `tensor_parallel`.

    Returns:
        An `Allocation`, or `NotPredicted` with the reason.

    Raises:
        OptionError: unknown engine or option.
    """
    return predict(make_engine(engine, options), model, workload)


def usual_workload(model: Model, engine: str, options: Mapping[str, Any]) -> Workload:
    """What an engine makes room for when nobody says how much; one sequence of 8,192 tokens where it has no such number.

    Args:
        options: the engine's own.

    Raises:
        OptionError: unknown engine or option.
    """
    found = None
    if about(engine).behind:
        with suppress(Refused):  # said by whoever asks for the bytes
            found = make_engine(engine, options).on(model).usual_workload()
    return found or Workload(batch_size=1, seq_len=8192)


def predict(engine: Engine, model: Model, workload: Workload) -> Allocation | NotPredicted:
    """As `plan`, for an engine that is at hand."""
    try:
        return footprint(engine.on(model), workload)
    except Refused as problem:
        return NotPredicted(
            reason=problem.reason, see=problem.see, model=model.name, engine=engine.name, engine_version=engine.version
        )
