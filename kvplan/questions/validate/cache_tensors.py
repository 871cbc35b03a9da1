"""The tensors inside a cache object of transformers, under the names that predictions use."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

#: Attributes of a layer that count tokens and hold none of them.
_COUNTERS: Final = frozenset(
    {"cumulative_length", "indexer_cumulative_length", "idx_cumulative_length", "_sliding_window_tensor", "seqlen_offset"}
)
_FIRST: Final = ("all_keys", "all_values", "keys", "values")  # owners before their views


class CacheTensor(Struct, frozen=True):
    """One tensor; a storage that another tensor already owns counts 0 bytes here."""

    layer: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    view_bytes: int
    storage_bytes: int
    bookkeeping: bool = False


def cache_tensors(cache: Any, network: Any) -> tuple[CacheTensor, ...]:
    """Every tensor of a cache object, and states that recurrent blocks of `network` hold themselves."""
    seen: dict[int, Any] = {}  # holds the storages, so that no other can take their place in memory
    found: list[CacheTensor] = []
    for layer, name, tensor in _walk(cache, network):
        storage = tensor.untyped_storage()
        own = storage._cdata not in seen
        seen[storage._cdata] = storage
        found.append(
            CacheTensor(
                layer=layer,
                name=name,
                shape=tuple(tensor.shape),
                dtype=str(tensor.dtype).removeprefix("torch."),
                view_bytes=tensor.numel() * tensor.element_size(),
                storage_bytes=int(storage.nbytes()) if own else 0,
                bookkeeping=name.removeprefix("cross_") in _COUNTERS,
            )
        )
    return tuple(found)


def _walk(cache: Any, network: Any) -> Iterator[tuple[int, str, Any]]:
    if isinstance(cache, list | tuple):  # RWKV: five tensors over all layers
        for number, stacked in enumerate(cache):
            for layer in range(stacked.shape[-1]):
                yield layer, str(number), stacked[..., layer].clone()
        return
    if hasattr(cache, "self_attention_cache"):
        yield from _layers(cache.self_attention_cache, "")
        yield from _layers(cache.cross_attention_cache, "cross_")
        return
    yield from _layers(cache, "")
    for layer, state in getattr(cache, "rnn_state", {}).items():  # xLSTM
        for number, tensor in enumerate(state):
            yield int(layer), f"rnn_state.{number}", tensor
    if hasattr(cache, "seqlen_offset") and hasattr(cache.seqlen_offset, "numel"):
        yield 0, "seqlen_offset", cache.seqlen_offset
    for layer, matrix in enumerate(getattr(cache, "linear_cache", None) or ()):  # MiniMax
        if hasattr(matrix, "numel"):
            yield layer, "linear_cache", matrix
    for path, module in network.named_modules():  # RecurrentGemma
        for name in ("conv1d_state", "recurrent_states"):
            tensor = getattr(module, name, None)
            if hasattr(tensor, "untyped_storage"):
                yield next(int(part) for part in path.split(".") if part.isdecimal()), name, tensor


def _layers(cache: Any, prefix: str) -> Iterator[tuple[int, str, Any]]:
    for index, layer in enumerate(getattr(cache, "layers", ())):
        held = dict(vars(layer))
        if held.get("values") is held.get("keys"):
            held.pop("values", None)  # DeepSeek V4: the values are the keys
        for name in sorted(held, key=lambda n: (n not in _FIRST, _FIRST.index(n) if n in _FIRST else 0)):
            for path, tensor in _tensors(name, held[name]):
                yield index, f"{prefix}{path}", tensor


def _tensors(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Tensors inside an attribute: itself, or those of a dict, list, quantized pair or packed tensor."""
    if hasattr(value, "_data") and hasattr(value, "_scale"):  # optimum-quanto
        for name in ("_data", "_scale", "_shift"):
            yield from _tensors(f"{path}.{name}", getattr(value, name))
    elif type(value).__name__ == "PackedTensor":
        yield f"{path}._data", value._data
    elif hasattr(value, "untyped_storage"):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(f"{path}.{key}", item)
    elif isinstance(value, list | tuple):
        for key, item in enumerate(value):
            yield from _tensors(f"{path}.{key}", item)
