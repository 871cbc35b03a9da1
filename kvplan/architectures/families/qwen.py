"""Qwen of Alibaba: 1 plain; 2 and 3 with a gated window; 3-Next, 3.5 and 4-Exp, delta-rule linear attention in most layers.

Every fourth layer of the latter is ordinary attention. Qwen4-Exp's attention layers may own an indexer (`indexer_*`),
whose raw keys its reference keeps for every token, and its first layers may hold n-gram context (`ple_layer_ids`).
Sources: transformers 5.23 `configuration_qwen*.py`, `modeling_qwen3_next.py`, `_qwen3_5.py`, `_qwen4_exp.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.delta import delta
from kvplan.architectures.kit.heads import DERIVED, MHA, Heads, Row, hidden_size, lenient, width
from kvplan.architectures.kit.layers import FULL, LINEAR
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Reader
from kvplan.architectures.kit.sliding import from_layer, sliding
from kvplan.architectures.kit.states import gated_delta, state_dtype, taps
from kvplan.domain.model import Index, Memory, Recurrent, State

_QWEN2_VL: Final = sliding(Row(80, 64, 8192, 8, window=4096, names=DERIVED), from_layer(80), gated=True)


def _even_below(c: Config, layers: int) -> list[bool]:
    """Even layers below `max_window_layers` slide."""
    last = c.integer("max_window_layers", default=28, minimum=0)
    return [i % 2 == 0 and i < last for i in range(layers)]


def _linear(c: Config, row: Row, heads: Heads) -> Recurrent:
    return gated_delta(
        key_heads=width(c, "linear_num_key_heads", default=16),
        key_dim=width(c, "linear_key_head_dim", default=128),
        value_heads=width(c, "linear_num_value_heads", default=32),
        value_dim=width(c, "linear_value_head_dim", default=128),
        kernel=taps(c, "linear_conv_kernel_dim", default=4),
        dtype=state_dtype(c, "mamba_ssm_dtype"),
    )


def _every_fourth(c: Config, layers: int) -> list[str]:
    interval = c.integer("full_attention_interval", default=4)
    return [LINEAR if (i + 1) % interval else FULL for i in range(layers)]


def _indexer(c: Config) -> tuple[Memory, ...]:
    """Qwen4-Exp's indexer, where the config has one."""
    if not c.has("indexer_head_dim"):
        return ()
    return (Index(dim=width(c, "indexer_head_dim"), heads=width(c, "indexer_kv_heads", default=1)),)


def _ngram_context(c: Config, row: Row, kinds: list[str]) -> dict[int, Memory]:
    """Per-layer embeddings: a dilated convolution over the residual streams, and the last tokens' ids.

    Source: transformers 5.23 `Qwen4ExpTextPLELayer._short_conv`, `Qwen4ExpTextNGramEmbedding.forward`.
    """
    numbers = c.integers("ple_layer_ids", minimum=1, maximum=len(kinds))
    if not numbers:
        return {}
    ngram = c.integer("ngram_size", default=3, minimum=2, maximum=4096)
    columns = (taps(c, "ple_conv_kernel_size", default=4) - 1) * ngram
    channels = hidden_size(c, row) * c.integer("hc_count", default=4, maximum=4096)
    context = State(name="ngram_ids", shape=(ngram - 1,), dtype="int64", shard=False)
    states = (State(name="ple_conv", shape=(channels, columns)), context) if columns else (context,)
    layers = sorted({number - 1 for number in numbers})
    for layer in layers:
        if kinds[layer] != LINEAR:
            c.refuse("ple_layer_ids", f"names layer {layer + 1}, which is not a linear layer")
    return dict.fromkeys(layers, Recurrent(kind="state", states=states))


ROWS: Final[dict[str, Reader]] = {
    "qwen": plain(Row(32, 32, 4096, head_dim=128, names=MHA._replace(head_dim=("kv_channels",)))),
    "qwen2": sliding(Row(32, 32, 4096, 32, window=4096), from_layer(28), gated=True),
    "qwen2_5_omni_text": sliding(Row(28, 28, 3584, 4, window=32768, refuses_remainder=True), from_layer(28), gated=True),
    "qwen2_5_vl_text": _QWEN2_VL,
    "qwen2_moe": sliding(Row(24, 16, 2048, 16, window=4096, refuses_null=("kv_heads",)), _even_below, gated=True),
    "qwen2_vl_text": _QWEN2_VL,
    "qwen3": sliding(Row(32, 32, 4096, 32, 128, window=4096, refuses_null=("head_dim",)), from_layer(28), gated=True),
    "qwen3_5_moe_text": delta(lenient(40, 16, 2048, 2, 256, drafts=1), _linear, _every_fourth),
    "qwen3_5_text": delta(lenient(32, 16, 4096, 4, 256, drafts=1), _linear, _every_fourth),
    "qwen3_moe": sliding(Row(24, 32, 2048, 4, refuses_null=("kv_heads",), window=4096), gated=True),
    # the config has no key for its prediction layer
    "qwen3_next": delta(lenient(48, 16, 2048, 2, 256, drafts=1), _linear, _every_fourth),
    "qwen3_omni_moe_text": sliding(Row(28, 28, 2048, 4, refuses_null=("kv_heads",))),
    "qwen3_vl_moe_text": sliding(Row(24, 16, 2048, 16, refuses_null=("kv_heads",))),
    "qwen3_vl_text": plain(Row(32, 32, 4096, 32, 128, refuses_null=("head_dim",))),
    "qwen4_exp_text": delta(lenient(40, 16, 2048, 2, 256), _linear, _every_fourth, indexer=_indexer, beside=_ngram_context),
}
