"""From a model to what each layer of one rank keeps: bytes a token, windows, states.

Source: TensorRT-LLM 1.4.0rc4 `_torch/pyexecutor/resource_manager.py:KVCacheManager.get_cache_size_per_token`,
`_torch/attention_backend/sparse/dsa.py`, `_torch/pyexecutor/mamba_cache_manager.py`, `mapping.py:pp_layers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from kvplan.domain.model import Cross, Full, Index, Latent, Layer, Memory, Model, Reach, Recurrent, Softmax
from kvplan.engines.tensorrt_llm import models
from kvplan.errors import NoStart, Refused
from kvplan.units import ceil_div

#: Bits of an element of the cache.
BITS: Final = {"float32": 32, "bfloat16": 16, "float16": 16, "fp8_e4m3": 8, "int8": 8, "nvfp4": 4}
_SCALED: Final = 16  # elements of nvfp4 that share a scale of one byte
_INDEX_SCALED: Final = 128  # elements of an index key that share a scale of four bytes


class Kept(Struct, frozen=True, kw_only=True):
    """What one layer of one rank keeps of a token; `window` is what its manager was told, None for every token."""

    layer: int  # of the model; the drafter's follow after the last
    heads: int
    width: int  # elements of a head
    planes: int  # keys and values, or one for both
    dtype: str
    index_bytes: int = 0
    reach: Reach = Full()
    window: int | None = None
    cross: bool = False
    drafts: bool = False
    latent: bool = False

    @property
    def plane_bytes(self) -> int:
        """Bytes of one token's keys (or values), without scales."""
        return self.heads * self.width * BITS[self.dtype] // 8

    @property
    def scale_bytes(self) -> int:
        """Bytes of one token's block scales, keys and values together."""
        return self.planes * self.heads * self.width // _SCALED if self.dtype == "nvfp4" else 0

    @property
    def kv_bytes(self) -> int:
        """Bytes of one token's keys and values, without scales."""
        return self.planes * self.plane_bytes

    @property
    def token_bytes(self) -> int:
        """Bytes of one token, all together."""
        return self.kv_bytes + self.scale_bytes + self.index_bytes


class KeptState(Struct, frozen=True, kw_only=True):
    """What one recurrent layer of one rank keeps of a sequence."""

    layer: int
    shapes: tuple[tuple[str, tuple[int, ...], str, int], ...]  # name, shape, dtype, bytes

    @property
    def bytes(self) -> int:
        """Of all its tensors."""
        return sum(size for _, _, _, size in self.shapes)


class Stage(Struct, frozen=True, kw_only=True):
    """The layers of one rank."""

    kept: tuple[Kept, ...]
    states: tuple[KeptState, ...] = ()

    @property
    def token_bytes(self) -> int:
        """Bytes of one token in all layers of the decoder."""
        return sum(kept.token_bytes for kept in self.kept if not kept.cross)

    @property
    def cross_bytes(self) -> int:
        """Bytes of one token of an encoder."""
        return sum(kept.token_bytes for kept in self.kept if kept.cross)

    @property
    def state_bytes(self) -> int:
        """Bytes of one sequence's states."""
        return sum(state.bytes for state in self.states)


class Sharing(Struct, frozen=True, kw_only=True):
    """How layers and heads are shared out, and in what dtypes they are stored."""

    tp: int  # of heads: 1 where each rank serves requests of its own
    pp: int
    dtype: str
    state_dtype: str
    drafted: int = 0  # layers of the model's own drafter
    draft: Model | None = None


def stages(model: Model, sharing: Sharing) -> tuple[Stage, ...]:
    """Each pipeline rank's layers; the last has the drafter's.

    Raises:
        Refused: what the engine says instead of starting.
    """
    queries = models.query_heads(model)
    if queries is not None and queries % sharing.tp:
        raise NoStart(f"assert self.num_heads % tp_size == 0: {queries} heads over tp_size {sharing.tp}")
    if sharing.pp > len(model.layers):
        raise NoStart(f"pp_size {sharing.pp} is more than the {len(model.layers)} layers")
    wide = _one_width(model)
    found: list[Stage] = []
    for rank in range(sharing.pp):
        layers = stage_layers(len(model.layers), sharing.pp, rank)
        kept = [one for index in layers for one in _kept(model, index, sharing, wide)]
        states = tuple(state for index in layers for state in _states(model, index, sharing))
        if rank == sharing.pp - 1:
            kept += _drafted(model, sharing, wide)
        found.append(Stage(kept=tuple(kept), states=states))
    if not any(stage.kept for stage in found):
        raise Refused(f"{model.name} has no layer with keys and values")
    return tuple(found)


def stage_layers(layers: int, stages: int, rank: int) -> range:
    """The layers of a pipeline rank: the first ranks take one more where they do not come out even. Source: `mapping.py`."""
    each, more = divmod(layers, stages)
    start = rank * each + min(rank, more)
    return range(start, start + each + (rank < more))


def _one_width(model: Model) -> int:
    """The width that every head gets: one number of the config, whatever single layers have."""
    if models.needs_second(model):
        return 0
    return max((m.key_dim for layer in model.layers for m in layer.memories if isinstance(m, Softmax)), default=0)


def _kept(model: Model, index: int, sharing: Sharing, wide: int) -> Iterator[Kept]:
    memories = models.memories(model, index)
    extra = sum(_index_bytes(model, m) for m in memories if isinstance(m, Index))
    for memory in memories:
        found = _one(memory, index, sharing, wide, extra)
        if found is not None:
            yield found
            extra = 0


def _one(memory: Memory, index: int, sharing: Sharing, wide: int, extra: int) -> Kept | None:
    if isinstance(memory, Latent):
        return _checked(
            Kept(
                layer=index, heads=1, width=memory.absorbed_elements, planes=1, dtype=sharing.dtype, index_bytes=extra,
                reach=memory.reach, latent=True,
            )
        )  # fmt: skip
    if isinstance(memory, Softmax):
        heads = ceil_div(memory.kv_heads, sharing.tp)
        return _checked(
            Kept(
                layer=index, heads=heads, width=wide or memory.key_dim, planes=2, dtype=sharing.dtype, index_bytes=extra,
                reach=memory.reach,
            )
        )  # fmt: skip
    if isinstance(memory, Cross):
        if memory.kv_heads % sharing.tp:
            raise Refused(f"{memory.kv_heads} heads of cross attention cannot be divided by tp_size {sharing.tp}")
        return _checked(
            Kept(
                layer=index, heads=memory.kv_heads // sharing.tp, width=memory.key_dim, planes=2, dtype=sharing.dtype, cross=True,
            )
        )  # fmt: skip
    return None


def _checked(kept: Kept) -> Kept:
    elements = kept.heads * kept.width
    if kept.dtype == "nvfp4" and elements % _SCALED:
        raise Refused(f"NVFP4 KV cache needs a multiple of {_SCALED} elements a token, and layer {kept.layer} has {elements}")
    return kept


def _index_bytes(model: Model, memory: Index) -> int:
    """An index key in eight bits (or four) with a scale of four bytes for each 128 elements."""
    elements = memory.heads * memory.dim
    return (elements // 2 if models.index_in_fp4(model) else elements) + elements // _INDEX_SCALED * 4


def _drafted(model: Model, sharing: Sharing, wide: int) -> list[Kept]:
    """The drafter's layers: the model's own, each as its last layer; or those of another model, of the same tokens."""
    last, found = len(model.layers), []
    if sharing.drafted:
        attention = (i for i in reversed(range(last)) if any(isinstance(m, Softmax | Latent) for m in models.memories(model, i)))
        own = next(attention, None)
        if own is None:
            raise Refused("its drafter's layers are not known")
        for number in range(sharing.drafted):
            layer = model.drafts[number] if number < len(model.drafts) else None
            found += _as_drafts(_of_draft(model, layer, own, sharing, wide), last + number)
    if sharing.draft is not None:
        other = stages(sharing.draft, Sharing(tp=sharing.tp, pp=1, dtype=sharing.dtype, state_dtype=sharing.state_dtype))[0]
        if other.states:
            raise Refused("a drafter with recurrent states was not studied")
        for kept in other.kept:
            found += _as_drafts((kept,), last + sharing.drafted + kept.layer)
    return found


def _of_draft(model: Model, layer: Layer | None, own: int, sharing: Sharing, wide: int) -> tuple[Kept, ...]:
    if layer is None or not any(isinstance(m, Softmax | Latent) for m in layer.memories):
        return tuple(kept for kept in _kept(model, own, sharing, wide) if not kept.cross)
    extra = sum(_index_bytes(model, m) for m in layer.memories if isinstance(m, Index))
    found = (_one(m, own, sharing, wide, extra) for m in layer.memories if isinstance(m, Softmax | Latent))
    return tuple(kept for kept in found if kept is not None)


def _as_drafts(kept: tuple[Kept, ...], layer: int) -> list[Kept]:
    from msgspec.structs import replace

    return [replace(one, layer=layer, drafts=True) for one in kept]


def _states(model: Model, index: int, sharing: Sharing) -> Iterator[KeptState]:
    """A convolution's last inputs and a state, both split over the ranks; both must divide."""
    for memory in model.layers[index].memories:
        if not isinstance(memory, Recurrent):
            continue
        if memory.kind not in {"mamba2", "gated_delta", "kda", "state"}:
            raise Refused(f"TensorRT-LLM has no cache for layers of kind {memory.kind}")
        shapes: list[tuple[str, tuple[int, ...], str, int]] = []
        for state in memory.states:
            first = state.shape[0]
            if state.shard and first % sharing.tp:
                what = "conv_dim" if state.kernel else "mamba_num_heads"
                raise Refused(f"{what} must be divisible by tp_size")
            split = first // sharing.tp if state.shard else first
            shape = (split, *state.shape[1:], *((state.kernel - 1,) if state.kernel else ()))
            dtype = models.activations(model) if state.kernel else sharing.state_dtype
            size = BITS[dtype] // 8
            for part in shape:
                size *= part
            shapes.append((state.name, shape, dtype, size))
        yield KeptState(layer=index, shapes=tuple(shapes))
