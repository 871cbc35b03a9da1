"""Facts of recorded entries of `mlx_lm.server`'s prompt cache."""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.engines.kernel.cases import Case, InvalidCase, of_budgets, whole
from kvplan.engines.mlx_lm.engine import MlxLmOn
from kvplan.engines.mlx_lm.tiers import ENTRIES, entries, entry_bytes
from kvplan.errors import Refused

_FACTS: Final = ("entry_tokens", "entry_bytes", "refused")
_OF_A_BUDGET: Final = ("host_entries", "host_bytes_used")


def is_tier(case: Case) -> bool:
    """Whether a record is one of the prompt cache."""
    return case.options.get("tier") == "mlx-prompt-cache"


def batched(case: Case) -> bool:
    """Whether the request was one of a batch."""
    return case.options.get("path") == "batch"


def recorded(expected: Mapping[str, Any]) -> dict[str, Any]:
    """The entry, and what each limit keeps, as `host[i].…`."""
    return of_budgets(expected, _FACTS, "host", _OF_A_BUDGET)


def predict(case: Case, on: MlxLmOn) -> dict[str, Any]:
    """The same facts of the record's request."""
    prompt, generated = case.count("prompt_len", minimum=1), case.count("max_tokens", default=0)
    limits = case.options.get("host_bytes")
    if not isinstance(limits, list) or not 0 < len(limits) <= 64:
        raise InvalidCase("`options.host_bytes` must be a list of 1 to 64 limits")
    try:
        entry = entry_bytes(on, prompt, generated, batched=batched(case))
    except Refused:
        return {"refused": True}
    facts: dict[str, Any] = {"entry_tokens": prompt + generated, "entry_bytes": entry}
    most = case.option("prompt_cache_size", default=ENTRIES, minimum=1)
    for i, limit in enumerate(limits):
        kept = entries(most, whole(limit, "options.host_bytes"), entry)
        facts |= {f"host[{i}].host_entries": kept, f"host[{i}].host_bytes_used": kept * entry}
    return facts
