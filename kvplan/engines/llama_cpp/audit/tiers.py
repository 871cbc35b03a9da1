"""Facts of recorded states of sequences: bytes of a prompt-cache entry and of a context checkpoint."""

from collections.abc import Mapping
from typing import Any

from kvplan.engines.kernel.cases import Case, InvalidCase, of_budgets, whole
from kvplan.engines.llama_cpp.context import Context
from kvplan.engines.llama_cpp.tiers import saved
from kvplan.gguf.hparams import Hparams


def is_tier(case: Case) -> bool:
    """Whether a record is one of saved states."""
    return case.options.get("tier") == "llama-state"


def recorded(expected: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of each length, as `states[i].…`."""
    return of_budgets(expected, ("refused",), "states", ("prompt_cache_bytes", "checkpoint_bytes"))


def predict(case: Case, h: Hparams, context: Context[int]) -> dict[str, Any]:
    """Both sizes at each length; of a model that makes no checkpoint, the whole state twice, as the library answers."""
    lengths = case.workload.get("tokens")
    if not isinstance(lengths, list) or not 0 < len(lengths) <= 64:
        raise InvalidCase("`workload.tokens` must be a list of 1 to 64 lengths")
    facts: dict[str, Any] = {}
    for i, tokens in enumerate(lengths):
        found = saved(h, context, whole(tokens, "workload.tokens", 1))
        facts |= {
            f"states[{i}].prompt_cache_bytes": found.whole,
            f"states[{i}].checkpoint_bytes": found.checkpoint or found.whole,
        }
    return facts
