"""LoRA slots: two stacked matrices beside every linear layer, for `max_loras` adapters of `max_lora_rank`.

Source: `lora/layers/base_linear.py:create_lora_weights`, `column_parallel_linear.py`, `logits_processor.py`,
`fused_moe.py`; 0.26.
"""

from collections.abc import Sequence
from typing import Final

from kvplan.domain.caching_allocator import fresh_block
from kvplan.domain.parameters import Parameter
from kvplan.engines.vllm.ledger.settings import Settings
from kvplan.engines.vllm.ledger.tensors import Rank, local_shape

_TOWERS: Final = frozenset({"vision", "audio", "encoder", "draft"})
_LARGEST_VOCABULARY: Final = 258_048  # beyond it logits take no adapter


def slots(parameters: Sequence[Parameter], settings: Settings, rank: Rank) -> int:
    """Bytes of all slots on one rank; 0 where LoRA is off. Each half of a joined projection has its own pair."""
    if not settings.max_loras:
        return 0
    adapters, width, item = settings.max_loras, settings.max_lora_rank, rank.item_bytes
    found = 0
    for p in parameters:
        if not p.linear or len(p.shape) != 2 or p.component in _TOWERS or (p.role == "head" and p.shape[0] > _LARGEST_VOCABULARY):
            continue
        held = [layer for layer in p.layers if layer in rank.layers] if p.layers else [0]
        outputs, inputs = local_shape(p, rank)
        if p.role == "head":
            outputs = p.shape[0]  # logits are gathered before the adapter adds to them
        pieces = 2 if p.role == "gate_up" else 1
        experts = max(1, p.experts)
        down = fresh_block(adapters * experts * width * inputs * item)
        up = fresh_block(adapters * experts * (outputs // pieces) * width * item)
        found += len(held) * pieces * (down + up)
    return found
