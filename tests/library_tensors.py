"""What a model's memories say that a transformers 5.23 cache holds, layer by layer, as recorded and live tests compare it."""

from collections.abc import Iterator

import pytest

from kvplan.domain.model import Compressed, Index, Latent, Model, Reach, Recurrent, Shared, Softmax, State, Window

Tensors = dict[str, tuple[tuple[int, ...], str]]  # name -> shape without the batch, dtype


def held_tensors(model: Model, layer: int, kind: str, length: int) -> Tensors:
    """What the memories of one layer say that the library's cache holds."""
    tensors: Tensors = {}
    for memory in model.layers[layer].memories:
        match memory:
            case Softmax(reach=Compressed(ratio=ratio), key_dim=dim):
                tensors["compressed_kv.compressor"] = ((length // ratio, dim), model.dtype)
            case Index(reach=Compressed(ratio=ratio), dim=dim):
                tensors["compressed_kv.indexer"] = ((length // ratio, dim), model.dtype)
            case Softmax():
                tokens = kept(memory.reach, kind, length)
                tensors["keys"] = ((memory.kv_heads, tokens, memory.key_dim), model.dtype)
                tensors["values"] = ((memory.kv_heads, tokens, memory.value_dim), model.dtype)
            case Latent():
                tokens = kept(memory.reach, kind, length)
                tensors["keys"] = ((1, tokens, memory.rank), model.dtype)
                tensors["values"] = ((1, tokens, memory.rope_dim), model.dtype)
            case Index() if "MiniMax" in kind:
                tensors["idx_keys"] = ((memory.heads, length, memory.dim), memory.dtype or model.dtype)
            case Index():
                tensors["indexer_keys"] = ((length, memory.heads * memory.dim), memory.dtype or model.dtype)
            case Recurrent():
                tensors |= dict(state_tensors(memory.states, model.dtype))
            case Shared():
                pass
            case _:
                pytest.fail(f"no such tensor is recorded for {memory}")
    return tensors


def kept(reach: Reach, kind: str, length: int) -> int:
    """Tokens of a layer: a window's dynamic layer keeps one less than the window, its static one the window."""
    if not isinstance(reach, Window) or ("Sliding" not in kind and "Deepseek" not in kind):
        return length
    return min(length, reach.size if "Static" in kind else reach.size - 1)


def state_tensors(states: tuple[State, ...], dtype: str) -> Iterator[tuple[str, tuple[tuple[int, ...], str]]]:
    convs = [state for state in states if state.name.startswith("conv")]
    rest = [state for state in states if not state.name.startswith("conv")]
    for i, state in enumerate(convs):
        shape = (*state.shape, state.kernel) if state.kernel else state.shape
        yield f"conv_states.{i}", (shape, state.dtype or dtype)
    for i, state in enumerate(rest):
        yield f"recurrent_states.{i}", (state.shape, state.dtype or dtype)
