"""Tensors of a layer, and what a token costs: the number that the budget is divided by.

The two differ. A cell is SGLang's own arithmetic for its budget (`_compute_cell_size`); the pools then allocate tensors of rows,
one page more than they hand out.

Source: sglang 0.5.23, `model_executor/pool_configurator.py`, `mem_cache/memory_pool.py`, `mem_cache/swa_memory_pool.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kvplan.domain.model import Latent, Softmax
from kvplan.engines.sglang import classes
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.backends import Card
from kvplan.engines.sglang.reading import Sparse
from kvplan.engines.sglang.tensors import Layout, Place, Tensor, item_size, local_heads, stages

_INDEX_SLOTS: Final = 64  # index keys of one physical page
_INDEX_BLOCK: Final = 128  # elements that share a scale of 4 bytes
_LATENT_BLOCK: Final = 128
_FP4_BLOCK: Final = 16
_MXFP8_BLOCK: Final = 32


def stage_layers(args: Arguments, rank: int) -> range:
    """Layers that get rows on one stage. A model whose layers run several times has as many rows."""
    reading = args.reading
    if args.options.pp_size == 1:
        return range(reading.layers)
    stage = stages(reading.hidden_layers, args.options.pp_size)[rank]
    return range(stage.start * reading.loops, stage.stop * reading.loops)


def layout(args: Arguments, rank: int = 0) -> Layout:
    """Tensors and cells of pipeline stage `rank`, on one device of it."""
    stage = stage_layers(args, rank)
    if args.reading.sliding_heads is not None:
        return _split(args, args.reading.sliding_heads, stage)
    layers = tuple(stage) if args.reading.attention is None else tuple(i for i in args.reading.attention if i in stage)
    if args.reading.latent is not None:
        return _latent(args, args.reading.latent, stage, layers)
    heads = args.reading.heads
    if heads is None:
        return Layout(stage=stage, tensors=(), cell=0)
    if args.reading.sparse is not None:
        return _minimax(args, heads, args.reading.sparse, stage, layers)
    count = local_heads(heads.kv_heads, args.options.attention_tp, args.options.dcp_size)
    if args.reading.attention is not None:  # HybridLinearKVPool passes no width of the values on
        tensors = _heads(args, layers, count, heads.key_dim, heads.key_dim, "full")
    else:
        tensors = _heads(args, layers, count, heads.key_dim, heads.value_dim, "full")
    return _drafted(args, stage, tensors, _heads_cell(args, heads, count, len(layers)), len(layers))


def _heads_cell(args: Arguments, heads: Softmax, count: int, layers: int) -> int:
    """Keys and values of `layers` layers, with what fp4 and mxfp8 need beside them."""
    item = item_size(args.cache)
    if args.cache == "fp4_mx_block16":
        return count * (heads.key_dim // 2) * layers * 2 + (count * heads.key_dim // _FP4_BLOCK) * layers * 2
    if args.cache == "nvfp4":
        linear, native, workspace = nvfp4_scales(args)
        scales = count * (heads.key_dim // _FP4_BLOCK) * layers * 2
        packed = count * (heads.key_dim // 2) * layers * 2
        return packed + scales * (linear + native) + (count * heads.key_dim * 2 if workspace else 0)
    cell = count * (heads.key_dim + heads.value_dim) * layers * item
    if args.cache == "mxfp8":
        cell += count * (heads.key_dim + heads.value_dim) * layers // _MXFP8_BLOCK
    return cell


def nvfp4_scales(args: Arguments) -> tuple[bool, bool, bool]:
    """Whether nvfp4 keeps scales by token, scales as sm_100's kernels read them, and a workspace of unpacked values.

    Source: `layers/quantization/fp4_kv_cache_quant_method.py:NVFP4KVCacheMethod`.
    """
    workspace = args.kernels.prefill == "flashinfer"
    native = "trtllm_mha" in {args.kernels.prefill, args.kernels.decode}
    sm100 = Card(args.options.compute_capability).sm100
    return workspace or (native and not sm100), native and sm100, workspace


def _heads(args: Arguments, layers: tuple[int, ...], count: int, key: int, value: int, place: Place) -> Iterator[Tensor]:
    """`MHATokenToKVPool`: keys and values of equal width are halves of one tensor, of whole pages."""
    cache = args.cache
    packed = place == "full" and not args.reading.sliding and cache in {"nvfp4", "fp4_mx_block16"}
    if packed:
        yield from _packed(args, layers, count, key)
        return
    item, joined = item_size(cache), key == value and cache != "mxfp8"
    for name, kind, width in (("k_buffer", "key", key), ("v_buffer", "value", value)):
        yield Tensor(
            name=name, kind=kind, layers=layers, row=(count, width), dtype=cache, item=item, place=place, whole_pages=joined
        )
    if cache == "mxfp8":
        for name, width in (("k_scale_buffer", key), ("v_scale_buffer", value)):
            row = (count, width // _MXFP8_BLOCK)
            yield Tensor(name=name, kind="scale", layers=layers, row=row, dtype="e8m0", item=1, place=place)


def _packed(args: Arguments, layers: tuple[int, ...], count: int, width: int) -> Iterator[Tensor]:
    """Two elements in a byte, and a scale of one byte for sixteen; the values are as wide as the keys."""
    copies, workspace = 1, False
    if args.cache == "nvfp4":
        linear, native, workspace = nvfp4_scales(args)
        copies = linear + native
    for name, kind in (("k_buffer", "key"), ("v_buffer", "value")):
        yield Tensor(name=name, kind=kind, layers=layers, row=(count, width // 2), dtype=args.cache, item=1)
    for name in ("k_scale_buffer", "v_scale_buffer"):
        if copies:
            row = (copies, count * width // _FP4_BLOCK)
            yield Tensor(name=name, kind="scale", layers=layers, row=row, dtype="fp8_e4m3", item=1)
    for name in ("dq_k_buffer", "dq_v_buffer") if workspace else ():
        yield Tensor(name=name, kind="scale", layers=(), row=(count, width), dtype="fp8_e4m3", item=1)


def _latent(args: Arguments, latent: Latent, stage: range, layers: tuple[int, ...]) -> Layout:
    """`MLATokenToKVPool` and, with index keys, `DSATokenToKVPool`: latents are the same on every device."""
    item, plain = item_size(args.cache), latent.rank + latent.rope_dim
    width = latent_width(args, latent)
    cell = width * len(layers) * item
    if args.cache in {"nvfp4", "fp4_mx_block16"}:
        cell = cell // 2 + plain // _FP4_BLOCK * len(layers) * item
        tensors = [
            Tensor(name="kv_buffer", kind="latent", layers=layers, row=(1, plain // 2), dtype=args.cache, item=1),
            Tensor(name="kv_scale_buffer", kind="scale", layers=layers, row=(1, plain // _FP4_BLOCK), dtype="fp8_e4m3", item=1),
        ]
    else:
        tensors = [Tensor(name="kv_buffer", kind="latent", layers=layers, row=(1, width), dtype=args.cache, item=item)]
    index = args.reading.index
    if index is None:
        return _drafted(args, stage, tensors, cell, len(layers))
    owners = tuple(i for i in args.reading.index_layers if i in layers)
    slot = index.dim + index.dim // _INDEX_BLOCK * 4
    kpool, shared = args.reading.index_kpool, args.options.dcp_size
    tensors.append(
        Tensor(
            name="index_k_with_scale_buffer", kind="index", layers=owners, row=(_INDEX_SLOTS * slot,), dtype="uint8", item=1,
            place="index", tokens_per_row=_INDEX_SLOTS * kpool,
        )
    )  # fmt: skip
    entry = -(-slot // kpool) * shared
    drafter = args.speculation.layers if args.speculation.shares_budget else 0
    more = int(cell * drafter / len(layers)) * shared + entry * drafter if drafter and layers else 0
    return Layout(stage=stage, tensors=tuple(tensors), cell=cell + entry * len(owners) + more, draft_cell=more)


def latent_width(args: Arguments, latent: Latent) -> int:
    """Elements of a latent's row: fp8 rows of sparse latents hold their scales, and the rotary part in bfloat16.

    Source: `kv_cache_configurator.py:calculate_mla_kv_cache_dim`.
    """
    plain = latent.rank + latent.rope_dim
    backends = {"prefill": {args.dsa_prefill}, "decode": {args.dsa_decode}}
    used = backends.get(args.options.disaggregation_mode, {args.dsa_prefill, args.dsa_decode})
    raw = "trtllm" in used or {args.dsa_prefill, args.dsa_decode} == {"tilelang"}
    if args.reading.index is None or raw or args.cache != "fp8_e4m3":
        return plain
    return latent.rank + latent.rank // _LATENT_BLOCK * 4 + latent.rope_dim * 2


def _minimax(args: Arguments, heads: Softmax, sparse: Sparse, stage: range, layers: tuple[int, ...]) -> Layout:
    """`MiniMaxSparseKVPool`: every layer's heads, and one head of index keys, with values or without, in the sparse layers."""
    count = local_heads(heads.kv_heads, args.options.attention_tp)
    tensors = list(
        _heads(
            args,
            layers,
            local_heads(heads.kv_heads, args.options.attention_tp, args.options.dcp_size),
            heads.key_dim,
            heads.key_dim,
            "full",
        )
    )
    mine = tuple(i for i in sparse.layers if i in stage)
    keys = tuple(i for i in mine if i in sparse.keys_only)
    both = tuple(i for i in mine if i not in sparse.keys_only)
    dtype = _index_dtype(args)
    item = item_size(dtype)
    for name, owners, joined in (("index_k", both, True), ("index_v", both, True), ("index_k_only", keys, False)):
        if owners:
            kind = "index"
            tensors.append(
                Tensor(name=name, kind=kind, layers=owners, row=(1, sparse.dim), dtype=dtype, item=item, whole_pages=joined)
            )
    cell = len(layers) * 2 * count * heads.key_dim * item_size(args.cache) + (len(both) * 2 + len(keys)) * sparse.dim * item
    return _drafted(args, stage, tensors, cell, len(layers))


def _index_dtype(args: Arguments) -> str:
    """`get_minimax_sparse_index_dtype`: index keys are fp8 where the kernel reads them so."""
    card, fp8 = Card(args.options.compute_capability), args.cache == "fp8_e4m3"
    reads_fp8 = card.sm90 or (card.sm100 and "trtllm_mha" in {args.kernels.prefill, args.kernels.decode})
    return args.cache if fp8 and reads_fp8 else args.reading.dtype


def _drafted(args: Arguments, stage: range, tensors: Iterable[Tensor], cell: int, layers: int) -> Layout:
    """The cell with a drafter's layers in it, each as large as one of the model's own."""
    drafter = args.speculation.layers if args.speculation.shares_budget else 0
    more = int(cell * drafter / layers) if drafter and layers else 0
    return Layout(stage=stage, tensors=tuple(tensors), cell=cell + more, draft_cell=more)


def _split(args: Arguments, sliding: Softmax, stage: range) -> Layout:
    """`HybridSWAPoolConfigurator` and `SWAKVPool`: layers with a window have a pool of their own."""
    reading, item = args.reading, item_size(args.cache)
    windows = tuple(i for i in reading.sliding if i in stage)
    whole = tuple(i for i in stage if i not in windows)
    full = reading.heads or sliding
    devices = args.options.attention_tp
    per_full = _row(args, full, local_heads(full.kv_heads, devices), item)
    per_sliding = _row(args, sliding, local_heads(sliding.kv_heads, devices), item)
    own = reading.architecture in classes.OWN_SLIDING_WIDTHS
    count = local_heads(full.kv_heads, devices, args.options.dcp_size)
    tensors = list(_heads(args, whole, count, full.key_dim, full.value_dim if own else full.key_dim, "full"))
    if own:
        tensors += _heads(args, windows, local_heads(sliding.kv_heads, devices), sliding.key_dim, sliding.value_dim, "sliding")
    else:
        tensors += _heads(args, windows, count, full.key_dim, full.key_dim, "sliding")
    drafter = args.speculation if args.speculation.shares_budget else None
    draft_sliding = drafter.sliding if drafter else 0
    draft_full = drafter.layers - draft_sliding if drafter else 0
    full_cell = per_full * (len(whole) + draft_full)
    sliding_cell = per_sliding * (len(windows) + draft_sliding)
    if not whole:
        cell: int | float = sliding_cell + per_full * draft_full
    else:
        cell = full_cell + args.swa_full_tokens_ratio * sliding_cell
    return Layout(
        stage=stage,
        tensors=tuple(tensors),
        cell=cell,
        full_cell=full_cell,
        sliding_cell=sliding_cell,
        draft_cell=per_full * draft_full,
        draft_sliding_cell=per_sliding * draft_sliding,
        full_layers=len(whole),
        sliding_layers=len(windows),
    )


def _row(args: Arguments, heads: Softmax, count: int, item: int) -> int:
    elements = count * (heads.key_dim + heads.value_dim)
    return elements * item + (elements // _MXFP8_BLOCK if args.cache == "mxfp8" else 0)
