"""The one question: how many bytes does this workload's cache take in this engine?"""

from typing import Any

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine


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
    return make_engine(engine, options).footprint(model, workload)
