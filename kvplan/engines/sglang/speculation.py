"""The drafter: its steps, and the layers of its cache that are charged to the model's budget.

Source: sglang 0.5.23, `srt/arg_groups/speculative_hook.py`, `model_executor/model_runner_components/spec_aux_hidden_state.py`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.engines.sglang import classes
from kvplan.engines.sglang.models import architecture, read
from kvplan.engines.sglang.options import SglangOptions
from kvplan.engines.sglang.reading import Reading
from kvplan.errors import OptionError

_EAGLE: Final = frozenset({"EAGLE", "EAGLE3", "STANDALONE", "FROZEN_KV_MTP"})
_WIDE: Final = frozenset({"LlamaForCausalLM", "Grok1ForCausalLM", "Grok1VForCausalLM"})


class Speculation(Struct, frozen=True, kw_only=True):
    """The drafter. `layers` of its cache are charged to the target's budget; `sliding` of them to its sliding pool."""

    algorithm: str = ""
    steps: int = 0
    topk: int = 0
    tokens: int = 0  # drafted a step, the root included; 0 without a drafter
    layers: int = 0
    sliding: int = 0

    def __bool__(self) -> bool:
        return bool(self.algorithm)

    @property
    def shares_budget(self) -> bool:
        """Whether the drafter's cache is charged at all: an n-gram drafter has none."""
        return self.algorithm in {"EAGLE", "EAGLE3", "STANDALONE"}


def speculate(reading: Reading, options: SglangOptions) -> Speculation:
    """The drafter and what it is charged. Source: `speculative_hook.py`, `spec_aux_hidden_state.py`."""
    algorithm = options.speculative_algorithm.upper()
    if not algorithm:
        return Speculation()
    if algorithm == "NEXTN":
        algorithm = "EAGLE"
    if algorithm == "EAGLE" and options.draft is not None and architecture(options.draft).startswith("Gemma4"):
        algorithm = "FROZEN_KV_MTP"
    if algorithm == "NGRAM":
        tokens = options.speculative_num_draft_tokens or 12
        topk = options.speculative_ngram_max_bfs_breadth
        return Speculation(algorithm=algorithm, steps=options.speculative_num_steps or tokens // topk, topk=topk, tokens=tokens)
    if algorithm not in _EAGLE:
        raise OptionError(
            f"speculative_algorithm: kvplan does not know what `{options.speculative_algorithm[:40]}` takes of the budget",
            hint="known: EAGLE, EAGLE3, NEXTN, STANDALONE, NGRAM",
            option="speculative_algorithm",
        )
    steps, topk, tokens = _draft_shape(reading, options, algorithm)
    layers, sliding = _draft_layers(reading, options)
    return Speculation(algorithm=algorithm, steps=steps, topk=topk, tokens=tokens, layers=layers, sliding=sliding)


def _draft_shape(reading: Reading, options: SglangOptions, algorithm: str) -> tuple[int, int, int]:
    """Steps, branches and tokens; `_auto_choose_speculative_params` when nothing is given."""
    steps, topk, tokens = options.speculative_num_steps, options.speculative_eagle_topk, options.speculative_num_draft_tokens
    if steps is None:
        if topk is not None or tokens is not None:
            raise OptionError("speculative_eagle_topk and speculative_num_draft_tokens need speculative_num_steps beside them")
        wide = algorithm != "STANDALONE" and reading.architecture in _WIDE
        return (5, 4, 8) if wide else (3, 1, 4)
    if topk is None:
        raise OptionError("speculative_num_steps needs speculative_eagle_topk beside it")
    return steps, topk, steps + 1 if topk == 1 or tokens is None else tokens


def _draft_layers(reading: Reading, options: SglangOptions) -> tuple[int, int]:
    """Layers of the drafter that are charged, and how many of them to the sliding pool."""
    if options.draft is not None:
        draft = read(options.draft, options)
        one = draft.architecture in classes.ONE_DRAFT_LAYER
        layers = 1 if one else draft.draft_layers if draft.draft_layers is not None else max(draft.hidden_layers, draft.layers)
        return layers, min(len(draft.sliding), layers)
    declared = reading.draft_layers
    if reading.architecture in classes.BUNDLED_DRAFT:
        one = reading.architecture in classes.ONE_DRAFT_LAYER
        declared = 1 if one else max(reading.hidden_layers, reading.layers) if declared is None else declared
    layers = declared or 0
    return layers, min(len(reading.sliding), layers)
