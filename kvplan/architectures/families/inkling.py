"""Inkling: keys and values, and four short convolutions, in every layer; five of six layers slide.

The convolutions (keys, values, after attention, after the MLP) are computed in float32.
Source: transformers 5.24 `modeling_inkling.py`, `_inkling2.py`, `_inkling2_loop.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Names, Row, head_dim, hidden_size, kv_heads, layer_count, lenient, query_heads
from kvplan.architectures.kit.layers import attention, draft_count, layer_types
from kvplan.architectures.kit.loops import MAX_PASSES, Memories, looped
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.states import taps
from kvplan.domain.model import MAX_LAYERS, Recurrent, Softmax, State, Window

_FULL: Final = "hybrid"
_SLIDING: Final = "hybrid_sliding"
_NEAR: Final = Names(heads=("swa_num_attention_heads",), kv_heads=("swa_num_key_value_heads",), head_dim=("swa_head_dim",))


@reader
def _inkling(c: Config, row: Row, *, window: int, sliding_kv_heads: int, loops: bool = False) -> Decoder:
    """Full and sliding layers, each kind with heads of its own; some may run several times, convolutions and all."""
    layers, heads = layer_count(c, row), query_heads(c, row)
    hidden = hidden_size(c, row)
    kernel = taps(c, "conv_kernel_size", "sconv_kernel_size", default=4)
    local = Window(c.integer("sliding_window_size", "sliding_window", default=window))
    near = row._replace(kv_heads=sliding_kv_heads, names=_NEAR)
    near_heads = query_heads(c, near)
    memories = {
        _FULL: _layer(attention(kv_heads(c, row, heads), head_dim(c, row, heads)), hidden, kernel),
        _SLIDING: _layer(attention(kv_heads(c, near, near_heads), head_dim(c, near, near_heads), local), hidden, kernel),
    }
    listed = c.integers("local_layer_ids", maximum=layers - 1)
    slides = {i for i in range(layers) if (i + 1) % 6} if listed is None else set(listed)
    kinds = layer_types(c, layers, _FULL, _SLIDING) or [_SLIDING if i in slides else _FULL for i in range(layers)]
    predicted = draft_count(c, "num_mtp_layers", "num_nextn_predict_layers")
    predicted_near = set(c.integers("mtp_local_layer_ids") or ())
    drafts = [memories[_SLIDING if i in predicted_near else _FULL] for i in range(predicted)]
    own = [memories[kind] for kind in kinds]
    return _looped(c, own, heads, drafts) if loops else Decoder(layers=own, heads=heads, drafts=drafts)


def _looped(c: Config, own: list[Memories], heads: int, drafts: list[Memories]) -> Decoder:
    """`loop_config` wins over the flat keys. Source: `Inkling2LoopTextConfig.__post_init__`, transformers 5.24."""
    nested = c.section("loop_config")
    first = c.integer("loop_layer_index_start", default=6, minimum=0, maximum=MAX_LAYERS)
    stop = c.integer("loop_layer_index_end", default=18, minimum=0, maximum=MAX_LAYERS)
    passes = c.integer("loop_num_passes", default=3, maximum=MAX_PASSES)
    first = nested.integer("core_start", default=first, minimum=0, maximum=MAX_LAYERS)
    stop = nested.integer("core_end", default=stop, minimum=0, maximum=MAX_LAYERS)
    passes = nested.integer("num_passes", default=passes, maximum=MAX_PASSES)
    return looped(c, "loop_num_passes", own, passes, heads=heads, first=first, stop=stop, drafts=drafts)


def _layer(keys: Softmax, hidden: int, kernel: int) -> Memories:
    inner = keys.kv_heads * keys.key_dim
    names = (("conv_keys", inner), ("conv_values", inner), ("conv_attention", hidden), ("conv_mlp", hidden))
    states = tuple(State(name=name, shape=(size,), kernel=kernel, dtype="float32") for name, size in names)
    return (keys, Recurrent(kind="short_conv", states=states))


ROWS: Final[dict[str, Reader]] = {
    "inkling2_loop_text": _inkling(lenient(24, 24, 2304, 8, 128), window=1024, sliding_kv_heads=8, loops=True),
    "inkling2_text": _inkling(lenient(48, 48, 4608, 8, 128), window=1024, sliding_kv_heads=8),
    "inkling_text": _inkling(lenient(66, 64, 6144, 8, 128), window=512, sliding_kv_heads=16),
}
