"""The plan that a start of vLLM leaves for the next one, read as a machine file.

With `VLLM_ENABLE_STARTUP_PLAN=1` each worker writes `{VLLM_CACHE_ROOT}/startup_plan/startup_plan_*.json`: the bytes that it
suggests as `--kv-cache-memory`, and what was free. A later start with the same fingerprint (model, options, device, libraries)
takes them over instead of profiling, where at least as much is free.

Source: vLLM `v1/worker/startup_plan.py` (`maybe_save_startup_plan`, `_applicable_kv_cache_memory_bytes`).
"""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.machine import Learned
from kvplan.errors import InputError, shown

_SCHEMA: Final = 1  # PLAN_SCHEMA_VERSION
_MOST: Final = 2**50


def read(data: Mapping[str, Any], name: str) -> Learned | None:
    """What a plan says; None where `data` is none.

    Raises:
        InputError: a plan of another schema, or bytes that are none.
    """
    if "fingerprint" not in data or "kv_cache_memory_bytes" not in data:
        return None
    if data.get("schema") != _SCHEMA:
        raise InputError(f"{name}: a start-up plan of schema {shown(data.get('schema'))}", hint=f"schema {_SCHEMA} is read")
    return Learned(
        source=f"start-up plan {str(data['fingerprint'])[:40]}",
        cache=_amount(data, "kv_cache_memory_bytes", name),
        baseline=_amount(data, "free_memory_baseline", name),
    )


def _amount(data: Mapping[str, Any], key: str, name: str) -> int:
    amount = data.get(key)
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 < amount < _MOST:
        raise InputError(f"{name}: `{key}` must be a whole number of bytes, got {shown(amount)}", hint="as vLLM wrote it")
    return amount
