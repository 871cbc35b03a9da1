"""Why vLLM takes more than `ideal`: each byte beyond it has one of six causes, and their sum is the difference.

`ideal` is one device's fair share: all that the model must remember, once, split evenly over the devices of
tensor parallelism. The parts:

block_rounding   the last block of each group is not full, and a window does not begin at a block boundary
page_padding     pages enlarged so that all are equal, or aligned
group_padding    groups with fewer or smaller layers than the widest leave the rest of their blocks empty
replication      what several devices hold alike: KV heads that do not split, latents, layers that could share
retention        tokens in flight beside a window, copies of states for prefix caching, compressors' states, drafters
precision        scales and row formats, less what quantisation saves: negative where vLLM stores fewer bytes than `ideal`
                 (an indexer's keys are fp8 with scales in a bfloat16 cache)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, assert_never

from msgspec.structs import replace

from kvplan.domain.dtypes import DTYPES, lookup
from kvplan.domain.model import Cross, Index, Latent, Memory, Model, Recurrent, Shared, Softmax
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.retention import cross_tokens, kept_tokens
from kvplan.engines.kernel.tensors import At, Count, at_least, whole_blocks
from kvplan.engines.kernel.theory import theory
from kvplan.engines.vllm.dtypes import FP8, SPARSE_ROWS
from kvplan.engines.vllm.specs import FullSpec, Held, Spec, StateSpec
from kvplan.errors import OptionError
from kvplan.units import ceil_div

if TYPE_CHECKING:
    from kvplan.engines.vllm.plan import Plan

PARTS: Final = ("block_rounding", "page_padding", "group_padding", "replication", "retention", "precision")


def needed(held: Held, model: Model, plan: Plan, tokens: Count, encoder_len: int, layer: int) -> Count:
    """Bytes of one cache that hold what the model must remember of one sequence, as vLLM stores it."""
    zero, spec = tokens * 0, held.spec
    memory = _memory(held, model, layer)
    if memory is None:
        return zero
    if isinstance(spec, StateSpec):
        return zero + spec.state_bytes
    match memory:
        case Cross():
            return zero + min(cross_tokens(memory, encoder_len), plan.scheduling.batch_tokens) * spec.entry_bytes
        case Softmax() | Latent() | Index():
            return kept_tokens(memory.reach, _local(tokens, plan, spec)) * spec.entry_bytes
        case Shared():
            return kept_tokens(_source(model, memory), _local(tokens, plan, spec)) * spec.entry_bytes
        case Recurrent():
            return zero
        case _:
            assert_never(memory)


def _source(model: Model, memory: Shared) -> Any:
    return next(m.reach for m in model.layers[memory.source].memories if isinstance(m, Softmax | Latent | Cross))


def _memory(held: Held, model: Model, layer: int) -> Memory | None:
    """The memory that a cache holds; None for caches that the model does not speak of."""
    if held.draft or held.memory < 0:
        return None
    return model.layers[layer].memories[held.memory]


def _local(tokens: Count, plan: Plan, spec: Spec) -> Count:
    """A sequence's tokens on one device of decode context parallelism."""
    return whole_blocks(tokens, plan.scheduling.context_parallel) if isinstance(spec, FullSpec) else tokens


def wasted(plan: Plan, stage: int, model: Model, workload: Workload, tensor_parallel: int) -> tuple[int, dict[str, int]]:
    """`ideal`'s bytes, and the six parts of what vLLM takes beyond them, for the whole workload."""
    tokens, block = workload.seq_len, plan.block_bytes[stage]
    parts = dict.fromkeys(PARTS, 0)
    payload, shared = 0, 0
    for whole, part in zip(plan.groups, plan.stages[stage], strict=True):
        blocks = whole.spec.blocks(tokens, plan.scheduling)
        parts["group_padding"] += blocks * (block - part.page_bytes)
        for held in part.members:
            spec = held.spec
            need = needed(held, model, plan, tokens, workload.encoder_len, held.layer)
            holds = at_least(spec.held_bytes(tokens, plan.scheduling), need)
            parts["page_padding"] += blocks * (spec.page_bytes - spec.content_bytes)
            parts["block_rounding"] += blocks * spec.content_bytes - holds
            parts["retention"] += holds - need
            payload += need
            shared += need if isinstance(_memory(held, model, held.layer), Shared) else 0
    fair = _ideal(plan, stage, model, workload, tensor_parallel=1)
    device = fair if tensor_parallel == 1 else _ideal(plan, stage, model, workload, tensor_parallel=tensor_parallel)
    share = ceil_div(fair, tensor_parallel)
    parts["replication"] = device - share + shared
    parts["precision"] = payload - shared - device
    n = workload.batch_size
    return share * n, {name: value * n for name, value in parts.items()}


def _ideal(plan: Plan, stage: int, model: Model, workload: Workload, *, tensor_parallel: int) -> int:
    """The theory's bytes of one sequence in the stage's layers, at the nearest cache dtype that it knows."""
    layers = plan.stage_layers[stage]
    tokens = workload.seq_len if tensor_parallel == 1 else ceil_div(workload.seq_len, plan.scheduling.context_parallel)
    cache = lookup(_like(plan.cache_dtype, plan.model_dtype))
    typed = model if model.dtype == plan.model_dtype else replace(model, dtype=plan.model_dtype)
    try:
        pieces = list(theory(typed, cache, tensor_parallel, At(tokens, 1, workload.encoder_len)))
    except OptionError:  # heads that do not split so: nothing is replicated evenly
        return _ideal(plan, stage, model, workload, tensor_parallel=1)
    return sum(piece.payload * sum(layer in layers for layer in piece.layers) for piece in pieces)


def _like(cache: str, model_dtype: str) -> str:
    if cache in FP8 or cache in SPARSE_ROWS:
        return "fp8_e4m3" if cache != "nvfp4_ds_mla" else "nvfp4"
    return cache if cache in DTYPES else model_dtype
