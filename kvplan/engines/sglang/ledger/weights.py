"""Weights as loaded on one rank: the checkpoint's tensors, joined and divided as SGLang's layers do, in whole segments.

Source: sglang 0.5.23, `layers/linear.py`, `layers/vocab_parallel_embedding.py`, `layers/moe/fused_moe_triton/layer.py`,
`models/deepseek_common/deepseek_weight_loader.py`. What a driver calls used are the caching allocator's segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from kvplan.domain.caching_allocator import simulate
from kvplan.domain.described import Described
from kvplan.domain.origin import Settings
from kvplan.domain.parameters import Parameter, in_order, on_rank
from kvplan.domain.storage.formats import plain
from kvplan.domain.storage.schemes import Scheme, scheme_of
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.tensors import stages

_JOINED: Final = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up", "q_a": "qkv_a", "kv_a": "qkv_a"}
_ATTENTION: Final = frozenset({"attention", "mixer", "vision", "audio", "encoder"})
_OUTER: Final = frozenset({"vision", "audio", "encoder"})
_ROTARY_BYTES: Final = 4  # float32 on CUDA: layers/rotary_embedding
_FLOAT: Final = 4


def stored_scheme(tensors: Described) -> Scheme | None:
    """What the checkpoint's quantisation converts.

    Raises:
        ConfigError: a method whose storage is not known.
    """
    return scheme_of(Settings(data=tensors.config), Settings(data=tensors.text))


def loaded_bytes(tensors: Described, args: Arguments, rank: int, scheme: Scheme | None) -> int:
    """Segments that the weights of one device of pipeline stage `rank` take."""
    return simulate(_joined(tensors, args, rank, scheme)).reserved_bytes


def draft_bytes(tensors: Described, args: Arguments, scheme: Scheme | None) -> int:
    """Segments of the drafter that speculation loads: the checkpoint's own prediction layers, or another model."""
    if not args.speculation.shares_budget and args.speculation.algorithm != "FROZEN_KV_MTP":
        return 0
    if args.options.draft is not None:
        held = [p for p in tensors.drafter if p.component != "draft"]
        return simulate(_one(p, args, None) for p, _ in in_order(held)).reserved_bytes
    held = [p for p in tensors.parameters if p.component == "draft"]
    return simulate(_one(p, args, scheme, layer) for p, layer in in_order(held)).reserved_bytes


def table_bytes(tensors: Described, args: Arguments) -> int:
    """The table of rotations that all layers share, as long as the model's own limit."""
    heads, latent = args.reading.heads, args.reading.latent
    width = latent.rope_dim if latent is not None else heads.key_dim if heads is not None else 0
    positions, rope = tensors.text.get("max_position_embeddings"), tensors.text.get("rope_parameters")
    part = tensors.text.get("partial_rotary_factor")
    if part is None and isinstance(rope, Mapping):
        part = rope.get("partial_rotary_factor")
    if latent is None and isinstance(part, int | float) and 0 < part <= 1:
        width = int(width * part)
    return positions * width * _ROTARY_BYTES if isinstance(positions, int) else 0


def _joined(tensors: Described, args: Arguments, rank: int, scheme: Scheme | None) -> Iterator[int]:
    """Bytes of each of SGLang's tensors, in the order in which layers are built."""
    stage = stages(args.reading.hidden_layers, args.options.pp_size)[rank]
    sizes: dict[tuple[object, ...], int] = {}
    copies = 0
    for p, layer in in_order([p for p in tensors.parameters if p.component != "draft"]):
        if not _held(p, layer, stage, rank, args.options.pp_size):
            continue
        size = _one(p, args, scheme, layer)
        role = _JOINED.get(p.role, "") if p.component not in _OUTER else ""
        module = p.name.rpartition(".")[0].rpartition(".")[0] if role else p.name
        key = (layer, p.component, module, role, len(p.shape))
        sizes[key] = sizes.get(key, 0) + size
        if p.role == "kv_b" and args.reading.latent is not None:
            copies += size  # w_kc and w_vc, which absorbed attention reads
    yield from sizes.values()
    yield copies


def _held(p: Parameter, layer: int | None, stage: range, rank: int, pipeline: int) -> bool:
    """Whether a pipeline stage holds a tensor."""
    if p.component not in _OUTER and layer is not None:
        return layer in stage
    return rank == pipeline - 1 if p.component in {"head", "norm"} else rank == 0


def _one(p: Parameter, args: Arguments, scheme: Scheme | None, layer: int | None = None) -> int:
    """Bytes of one parameter in one layer on one device, all experts of it."""
    options = args.options
    ranks, experts = options.tp_size, p.experts or 1
    if p.component in _ATTENTION:
        ranks = options.attention_tp
    elif p.component == "embed" and options.attention_groups > 1:
        ranks = 1
    if p.experts and options.ep_size > 1:
        experts, ranks = -(-experts // options.ep_size), max(1, ranks // options.ep_size)
    shape = on_rank(p, ranks)
    item = _FLOAT if p.dtype == "float32" or args.reading.dtype == "float32" else 2
    form = scheme.format_of(p, layer) if scheme is not None else None
    return experts * (plain(shape, item) if form is None else form.stored(shape)).bytes
