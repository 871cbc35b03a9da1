"""The specs that a model's layers register with vLLM, at a block size.

One function a memory kind. Sources: each layer class's `get_kv_cache_spec` (`model_executor/layers/attention/`,
`mla_attention.py`, `mamba/abstract.py`), `mamba_utils.py` for states, `models/deepseek_v4` for the compressors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never

from msgspec.structs import replace

from kvplan.domain.dtypes import item_bytes
from kvplan.domain.model import (
    Chunk,
    Compressed,
    Cross,
    Full,
    Index,
    Latent,
    Layer,
    Memory,
    Model,
    Recurrent,
    Shared,
    Softmax,
    Window,
)
from kvplan.engines.kernel.heads import split_heads
from kvplan.engines.vllm.dtypes import COMPRESSED_BLOCK, PLAIN, SPARSE_ROWS, head_bytes
from kvplan.engines.vllm.models import any_traits, text_traits
from kvplan.engines.vllm.specs import ChunkedSpec, CrossSpec, FullSpec, Held, SlidingSpec, Spec, StateSpec, without_reach
from kvplan.engines.vllm.states import Storage, state_spec
from kvplan.errors import Refused
from kvplan.units import ceil_div

_ALIGNMENT: Final = {True: 576, False: 512}  # bytes: DeepSeek V4 pages, with fp8_ds_mla rows or not
_V4_ROW: Final = 584  # bytes: 448 fp8, 64 rope keys in bf16, 8 scale bytes
_V4_WINDOW_BLOCK: Final = 64  # tokens
_BOUNDARY: Final = 2  # layers
_EXPANDED_WIDTH: Final = 256  # elements: heads before MLA was served as such
_INDEX_GROUP: Final = 128  # elements that share one fp32 scale
_COMPRESSOR_BLOCK: Final = {True: 4, False: 8}  # tokens; overlapping groups or not


def sparse_mla(model: Model) -> bool:
    """Whether MLA layers read what an indexer picks (DeepSeek V3.2, GLM-5)."""
    kinds = {type(memory) for memories in model.collapsed() for memory in memories}
    return {Index, Latent} <= kinds


def compressed(model: Model) -> bool:
    """Whether entries stand for several tokens (DeepSeek V4)."""
    return any(isinstance(getattr(memory, "reach", None), Compressed) for memories in model.collapsed() for memory in memories)


def layer_caches(model: Model, storage: Storage, block_size: int) -> tuple[Held, ...]:
    """Every cache of the target's layers, in the order in which vLLM registers them.

    Raises:
        Refused: a memory that vLLM has no cache for.
        OptionError: tensor parallelism does not divide the heads.
    """
    if text_traits(model).encoder_only:
        return ()
    shared = any(t.ignores_sharing for t in any_traits(model))
    plain = replace(storage, cache="auto")
    skipped = boundary_layers(model) if storage.cache.startswith("turboquant") else frozenset()
    sparse = sparse_mla(model)
    made: dict[tuple[tuple[Memory, ...], bool], list[tuple[int, str, Spec]]] = {}
    caches: list[Held] = []
    for layer in model.layers:
        memories = model.layers[_owner(layer)].memories if shared else layer.memories
        key = (memories, layer.index in skipped)
        if key not in made:
            made[key] = list(_specs(memories, model, plain if key[1] else storage, block_size, sparse=sparse))
        caches += [Held(layer=layer.index, memory=m, name=name, spec=spec) for m, name, spec in made[key]]
    if storage.whole_windows:
        caches = [replace(held, spec=without_reach(held.spec)) for held in caches]
    if text_traits(model).attention_first:
        caches.sort(key=lambda held: isinstance(held.spec, StateSpec))
    return tuple(caches)


def boundary_layers(model: Model) -> frozenset[int]:
    """The layers that TurboQuant leaves in the model's dtype: the first and last two, in models without states.

    Source: `config/vllm.py`, the boundary skip of `TurboQuantConfig`.
    """
    if has_states(model):
        return frozenset()
    count = len(model.layers)
    return frozenset(i for i in range(count) if i < _BOUNDARY or i >= count - _BOUNDARY)


def has_states(model: Model) -> bool:
    """Whether some layer keeps a state."""
    return any(isinstance(memory, Recurrent) for memories in model.collapsed() for memory in memories)


def _owner(layer: Layer) -> int:
    return next((memory.source for memory in layer.memories if isinstance(memory, Shared)), layer.index)


def draft_caches(model: Model, drafter: Model | None, method: str, storage: Storage, block_size: int) -> tuple[Held, ...]:
    """The caches of a drafter's layers: the model's own MTP layers, or those of a draft model; none for n-grams.

    Raises:
        Refused: MTP is asked for and the model has no MTP layers.
    """
    if method == "mtp":
        layers, source = model.drafts, model
        if text_traits(model).one_window_draft:
            layers = tuple(layer for layer in model.layers if any(_is_window(memory) for memory in layer.memories))[:1]
        if not any(layer.memories for layer in layers):
            raise Refused("the config has no multi-token-prediction layers to draft with")
    elif drafter is not None:
        layers, source = drafter.layers, drafter
    else:
        return ()
    start, sparse = len(model.layers), sparse_mla(source)
    found = tuple(
        Held(layer=start + i, memory=m, name=name, spec=spec, draft=True)
        for i, layer in enumerate(layers)
        for m, name, spec in _specs(layer.memories, source, storage, block_size, sparse=sparse)
    )
    extra = storage.spec_tokens - 1 if method == "mtp" and sum(bool(layer.memories) for layer in layers) > 1 else 0
    return tuple(_looking_ahead(held, extra) for held in found) if extra else found


def _looking_ahead(held: Held, extra: int) -> Held:
    spec = replace(held.spec, lookahead=extra) if isinstance(held.spec, SlidingSpec) else held.spec
    return replace(held, spec=spec)


def _specs(
    memories: tuple[Memory, ...], model: Model, storage: Storage, block_size: int, *, sparse: bool
) -> Iterator[tuple[int, str, Spec]]:
    """One layer's caches: indexers register before the attention that they serve; `sparse`: the model's MLA has some."""
    sparse = sparse or any(isinstance(memory, Index) for memory in memories)
    order = sorted(range(len(memories)), key=lambda i: not isinstance(memories[i], Index) and not _plain_window(memories[i]))
    for i in order:
        for name, spec in _memory(memories[i], model, storage, block_size, sparse=sparse):
            yield (i if not name.endswith("compressor state") else -1), name, spec


def _is_window(memory: Memory) -> bool:
    return isinstance(getattr(memory, "reach", None), Window)


def _plain_window(memory: Memory) -> bool:
    return isinstance(memory, Softmax) and memory.value_dim == 0 and isinstance(memory.reach, Window)


def _memory(memory: Memory, model: Model, storage: Storage, block_size: int, *, sparse: bool) -> Iterator[tuple[str, Spec]]:
    match memory:
        case Softmax(value_dim=0):
            yield from _single_latent(memory, storage)
        case Softmax():
            yield "keys and values", _softmax(memory, memory.kv_heads, memory.key_dim, memory.value_dim, storage, block_size)
        case Latent() if text_traits(model).expands_latents or storage.expand_latents:
            step = _EXPANDED_WIDTH if storage.expand_latents else 1
            width = ceil_div(memory.nope_dim + memory.rope_dim, step) * step
            yield "keys and values", _softmax(memory, memory.heads, width, width, storage, block_size)
        case Latent():
            yield "latent", _latent(memory, storage, block_size, sparse=sparse)
        case Index():
            yield from _index(memory, storage, block_size, latent=sparse_mla(model))
        case Recurrent():
            yield "state", state_spec(memory, model, storage, block_size)
        case Cross():
            heads = split_heads(memory.kv_heads, storage.tensor_parallel)
            entry = heads * head_bytes(storage.cache, memory.key_dim, memory.value_dim, storage.dtype)
            content = (heads, memory.key_dim, memory.value_dim, storage.cache)
            yield "cross keys and values", CrossSpec(content=content, block_size=block_size, entry_bytes=entry)
        case Shared():
            return
        case _:
            assert_never(memory)


def _softmax(memory: Softmax | Latent, kv_heads: int, key: int, value: int, storage: Storage, block_size: int) -> Spec:
    """Ordinary attention: K and V of each head, side by side. Source: `AttentionSpec.unpadded_page_size_bytes`."""
    heads = split_heads(kv_heads, storage.tensor_parallel)
    content, entry = (heads, key, value, storage.cache), heads * head_bytes(storage.cache, key, value, storage.dtype)
    match memory.reach:
        case Full():
            return FullSpec(content=content, block_size=block_size, entry_bytes=entry)
        case Window(size=size):
            return SlidingSpec(content=content, block_size=block_size, entry_bytes=entry, reach=size + storage.wider_windows)
        case Chunk() if storage.whole_chunks:
            return FullSpec(content=content, block_size=block_size, entry_bytes=entry)
        case Chunk(size=size):
            return ChunkedSpec(content=content, block_size=block_size, entry_bytes=entry, reach=size)
        case Compressed():
            raise Refused("compressed keys beside values: vLLM serves DeepSeek V4's single latent only")


def _latent(memory: Latent, storage: Storage, block_size: int, *, sparse: bool) -> Spec:
    """MLA: one row a token, on every device whole. Source: `mla_attention.py:get_kv_cache_spec`."""
    if not isinstance(memory.reach, Full | Window):
        raise Refused("latent attention that sees only a chunk or compressed entries")
    width = memory.rank + memory.rope_dim
    row = SPARSE_ROWS.get(storage.cache) or head_bytes(storage.cache, width, 0, storage.dtype)
    if storage.cache.endswith("_per_token_head"):
        row = head_bytes(storage.cache, width, 0, storage.dtype)
    content, stride = ("latent", width, storage.cache), row if sparse and storage.cache in PLAIN else 1
    if isinstance(memory.reach, Window):
        return SlidingSpec(
            content=content, block_size=block_size, entry_bytes=row, latent=True, reach=memory.reach.size, stride_alignment=stride
        )
    return FullSpec(content=content, block_size=block_size, entry_bytes=row, latent=True, stride_alignment=stride)


def _index(memory: Index, storage: Storage, block_size: int, *, latent: bool) -> Iterator[tuple[str, Spec]]:
    """An indexer's keys: fp8 with fp32 scales beside MLA and in DeepSeek V4, the cache's own dtype beside softmax (M3)."""
    quantised = memory.dim + memory.dim // _INDEX_GROUP * 4
    row = memory.heads * (quantised if latent or isinstance(memory.reach, Compressed) else memory.dim * item_bytes(storage.dtype))
    content = ("index", memory.heads, memory.dim, row)
    if not isinstance(memory.reach, Compressed):
        yield "index keys", FullSpec(content=content, block_size=block_size, entry_bytes=row, latent=True)
        return
    align = _ALIGNMENT[storage.cache == "fp8_ds_mla"]
    yield (
        "index keys",
        FullSpec( content=content, block_size=COMPRESSED_BLOCK, entry_bytes=row, tokens_per_entry=memory.reach.ratio,
            latent=True, alignment=align,
        ),
    )  # fmt: skip
    yield "index compressor state", _compressor(memory.dim, memory.reach, align)


def _compressor(width: int, reach: Compressed, alignment: int) -> Spec:
    """What a compressor must remember of the group that it is filling: keys and weights in float32, of two groups
    where they overlap."""
    groups = 2 if reach.overlap else 1
    return SlidingSpec(
        content=("compressor", groups, width),
        block_size=_COMPRESSOR_BLOCK[reach.overlap],
        entry_bytes=groups * 2 * width * 4,
        latent=True,
        reach=groups * reach.ratio,
        alignment=alignment,
    )


def _single_latent(memory: Softmax, storage: Storage) -> Iterator[tuple[str, Spec]]:
    """DeepSeek V4: one latent that is key and value, of every token in a window or of every `ratio` tokens."""
    row = _V4_ROW if storage.cache == "fp8_ds_mla" else memory.key_dim * item_bytes(storage.dtype)
    align = _ALIGNMENT[storage.cache == "fp8_ds_mla"]
    content = ("v4", memory.key_dim, row)
    match memory.reach:
        case Window(size=size):
            yield (
                "window latent",
                SlidingSpec(
                    content=content,
                    block_size=_V4_WINDOW_BLOCK,
                    entry_bytes=row,
                    latent=True,
                    reach=size,
                    alignment=align,
                ),
            )
        case Compressed(ratio=ratio):
            yield (
                "compressed latent",
                FullSpec(
                    content=content,
                    block_size=COMPRESSED_BLOCK,
                    entry_bytes=row,
                    tokens_per_entry=ratio,
                    latent=True,
                    alignment=align,
                ),
            )
            yield "compressor state", _compressor(memory.key_dim, memory.reach, align)
        case _:
            raise Refused("keys that are their own values, for every token: no model that vLLM serves has them")
