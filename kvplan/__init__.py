"""kvplan: how much memory the KV cache takes, in the engine you actually run.

>>> import kvplan
>>> kvplan.estimate("llama-3.1-8b", seq_len=8192, batch_size=4).total_bytes
4294967296
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvplan.api import estimate as estimate
    from kvplan.api import sweep as sweep
    from kvplan.api import try_estimate as try_estimate
    from kvplan.api.audit import audit as audit
    from kvplan.api.capacity import capacity as capacity
    from kvplan.api.check import check as check
    from kvplan.api.committee import committee as committee
    from kvplan.api.compare import compare as compare
    from kvplan.api.conformance import conformance as conformance
    from kvplan.api.conformance import conformance_cases as conformance_cases
    from kvplan.api.diff import diff as diff
    from kvplan.api.explain import explain as explain
    from kvplan.api.explain import try_explain as try_explain
    from kvplan.api.fit import fit as fit
    from kvplan.api.fit import try_fit as try_fit
    from kvplan.api.lists import dtypes as dtypes
    from kvplan.api.lists import gpus as gpus
    from kvplan.api.lists import models as models
    from kvplan.api.measure import measure as measure
    from kvplan.api.model import load as load
    from kvplan.api.page import page as page
    from kvplan.api.receipt import receipt as receipt
    from kvplan.api.replay import replay as replay
    from kvplan.api.reserve import reserve as reserve
    from kvplan.api.reserve import try_reserve as try_reserve
    from kvplan.api.site import site as site
    from kvplan.api.validate import validate as validate
    from kvplan.api.variant import variant as variant
    from kvplan.domain.allocation import Allocation as Allocation
    from kvplan.domain.allocation import Buffer as Buffer
    from kvplan.domain.allocation import NotPredicted as NotPredicted
    from kvplan.domain.model import Model as Model
    from kvplan.domain.pool import Pool as Pool
    from kvplan.domain.workload import Workload as Workload
    from kvplan.errors import EnvironmentMissing as EnvironmentMissing
    from kvplan.errors import InputError as InputError
    from kvplan.errors import KvplanError as KvplanError
    from kvplan.errors import Mismatch as Mismatch
    from kvplan.errors import Refused as Refused
    from kvplan.questions.audit.conformance import Score as Score
    from kvplan.questions.check import Check as Check
    from kvplan.questions.committee.result import Committee as Committee
    from kvplan.questions.compare import Comparison as Comparison
    from kvplan.questions.diff import Diff as Diff
    from kvplan.questions.explain.explanation import Explanation as Explanation
    from kvplan.questions.fit.question import Fit as Fit
    from kvplan.questions.measure.measured import Measured as Measured
    from kvplan.questions.oracle import Capacity as Capacity
    from kvplan.questions.page import Page as Page
    from kvplan.questions.receipt import Receipt as Receipt
    from kvplan.questions.replay import Replay as Replay
    from kvplan.questions.validate.compare import Validation as Validation

__version__ = "0.1.0"

#: Public name -> where it is.
_HOMES = {
    "Allocation": "domain.allocation",
    "Buffer": "domain.allocation",
    "Check": "questions.check",
    "Committee": "questions.committee.result",
    "Capacity": "questions.oracle",
    "Comparison": "questions.compare",
    "Diff": "questions.diff",
    "EnvironmentMissing": "errors",
    "Explanation": "questions.explain.explanation",
    "Fit": "questions.fit.question",
    "InputError": "errors",
    "KvplanError": "errors",
    "Mismatch": "errors",
    "Measured": "questions.measure.measured",
    "Model": "domain.model",
    "NotPredicted": "domain.allocation",
    "Page": "questions.page",
    "Pool": "domain.pool",
    "Receipt": "questions.receipt",
    "Replay": "questions.replay",
    "Refused": "errors",
    "Score": "questions.audit.conformance",
    "Validation": "questions.validate.compare",
    "Workload": "domain.workload",
    "audit": "api.audit",
    "capacity": "api.capacity",
    "check": "api.check",
    "committee": "api.committee",
    "compare": "api.compare",
    "conformance": "api.conformance",
    "conformance_cases": "api.conformance",
    "diff": "api.diff",
    "dtypes": "api.lists",
    "estimate": "api",
    "explain": "api.explain",
    "fit": "api.fit",
    "gpus": "api.lists",
    "load": "api.model",
    "measure": "api.measure",
    "models": "api.lists",
    "page": "api.page",
    "receipt": "api.receipt",
    "replay": "api.replay",
    "reserve": "api.reserve",
    "site": "api.site",
    "sweep": "api",
    "try_estimate": "api",
    "try_explain": "api.explain",
    "try_fit": "api.fit",
    "try_reserve": "api.reserve",
    "validate": "api.validate",
    "variant": "api.variant",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605  (one table, not three lists)


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so `import kvplan` costs next to nothing."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module `kvplan` has no attribute `{name}`")
    from importlib import import_module

    module = import_module(f"kvplan.{home}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
