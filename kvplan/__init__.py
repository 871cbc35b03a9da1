"""kvplan: how much memory the KV cache takes, in the engine you actually run.

>>> import kvplan
>>> kvplan.estimate("llama-3.1-8b", seq_len=8192, batch_size=4).total_bytes
4294967296
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvplan.allocation import Allocation, Buffer, NotPredicted, Pool
    from kvplan.api import estimate, sweep
    from kvplan.asking import fit
    from kvplan.auditing import audit
    from kvplan.committees import Committee, committee
    from kvplan.errors import EnvironmentMissing, InputError, KvplanError, Mismatch
    from kvplan.fits import Fit
    from kvplan.loaders import load
    from kvplan.model import Model
    from kvplan.reserving import reserve
    from kvplan.variants import variant
    from kvplan.workload import Workload

__version__ = "0.1.0"

_HOMES = {
    "Allocation": "allocation",
    "Buffer": "allocation",
    "Committee": "committees",
    "EnvironmentMissing": "errors",
    "Fit": "fits",
    "InputError": "errors",
    "KvplanError": "errors",
    "Mismatch": "errors",
    "Model": "model",
    "NotPredicted": "allocation",
    "Pool": "allocation",
    "Workload": "workload",
    "audit": "auditing",
    "committee": "committees",
    "estimate": "api",
    "fit": "asking",
    "load": "loaders",
    "reserve": "reserving",
    "sweep": "api",
    "variant": "variants",
}

__all__ = [
    "Allocation",
    "Buffer",
    "Committee",
    "EnvironmentMissing",
    "Fit",
    "InputError",
    "KvplanError",
    "Mismatch",
    "Model",
    "NotPredicted",
    "Pool",
    "Workload",
    "audit",
    "committee",
    "estimate",
    "fit",
    "load",
    "reserve",
    "sweep",
    "variant",
]


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
