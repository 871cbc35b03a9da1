"""Delta-rule linear attention beside full attention: Qwen3-Next, Qwen3.5, Qwen4-Exp, OLMo-Hybrid.

Most layers keep a float32 matrix a value head and the last inputs of one short convolution over queries, keys and
values; every fourth layer is ordinary attention. Qwen4-Exp's attention layers may own an indexer (`indexer_*`), whose
raw keys its reference keeps for every token, and its first layers may hold n-gram context (`ple_layer_ids`).
Sources: transformers 5.23 `modeling_qwen3_next.py`, `_qwen3_5.py`, `_qwen4_exp.py`, `_olmo_hybrid.py` (`GatedDeltaNet`).
"""

from typing import Final, NamedTuple

from kvplan.architectures.families.indexed import INDEXED_NAMES
from kvplan.architectures.families.latent import draft_count
from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.shapes import (
    FULL_NAMES,
    Decoder,
    attention,
    grouped_heads,
    head_size,
    layer_count,
    pattern,
    query_heads,
)
from kvplan.architectures.kit.states import LINEAR_NAMES, gated_delta, state_dtype, taps, width
from kvplan.domain.model import Index, Memory, Recurrent, State


class Defaults(NamedTuple):
    """What a config class assumes when a key is absent."""

    layers: int
    heads: int
    kv_heads: int | None
    head_dim: int | None  # None: hidden size / heads
    hidden: int
    drafts: int = 0


_QWEN35: Final = Defaults(32, 16, 4, 256, 4096, drafts=1)
_QWEN35_MOE: Final = Defaults(40, 16, 2, 256, 2048, drafts=1)
_QWEN4: Final = Defaults(40, 16, 2, 256, 2048)
ROWS: Final[dict[str, Defaults]] = {
    "qwen3_next": Defaults(48, 16, 2, 256, 2048, drafts=1),  # the config has no key for its prediction layer
    "qwen3_5_text": _QWEN35,
    "qwen3_5_moe_text": _QWEN35_MOE,
    "qwen4_exp_text": _QWEN4,
    "olmo_hybrid": Defaults(32, 30, None, None, 3840),
}


def read(c: Config, model_type: str) -> Decoder:
    """Linear layers and, as `layer_types` or the interval says, attention."""
    row = ROWS[model_type]
    layers = layer_count(c, default=row.layers)
    heads = query_heads(c, default=row.heads)
    kv_heads = grouped_heads(c, heads, default=row.kv_heads)
    head_dim = head_size(c, heads, hidden_default=row.hidden, default=row.head_dim)
    full: tuple[Memory, ...] = (attention(kv_heads, head_dim),)
    if model_type == "qwen4_exp_text" and c.has("indexer_head_dim"):
        full = (*full, Index(dim=width(c, "indexer_head_dim"), heads=width(c, "indexer_kv_heads", default=1)))
    linear = _olmo_linear(c, heads, row.hidden) if model_type == "olmo_hybrid" else _qwen_linear(c)
    kinds = _kinds(c, model_type, layers)
    rows: list[tuple[Memory, ...]] = [(linear,) if kind in LINEAR_NAMES else full for kind in kinds]
    if model_type == "qwen4_exp_text":
        _add_ngram_context(c, row, kinds, rows)
    drafts = draft_count(c, "mtp_num_hidden_layers", "num_nextn_predict_layers", default=row.drafts)
    return Decoder(layers=rows, heads=heads, drafts=[full] * drafts)


def _kinds(c: Config, model_type: str, layers: int) -> list[str]:
    if model_type == "olmo_hybrid":
        implied = ["full_attention" if i % 4 == 3 else "linear_attention" for i in range(layers)]
        if "full_attention" not in implied:  # short models still end in attention
            implied[-1] = "full_attention"
    else:
        interval = c.integer("full_attention_interval", default=4)
        implied = ["linear_attention" if (i + 1) % interval else "full_attention" for i in range(layers)]
    return pattern(c, layers, lambda i: implied[i], allowed=LINEAR_NAMES | FULL_NAMES | INDEXED_NAMES)


def _qwen_linear(c: Config) -> Recurrent:
    return gated_delta(
        key_heads=width(c, "linear_num_key_heads", default=16),
        key_dim=width(c, "linear_key_head_dim", default=128),
        value_heads=width(c, "linear_num_value_heads", default=32),
        value_dim=width(c, "linear_value_head_dim", default=128),
        kernel=taps(c, "linear_conv_kernel_dim", default=4),
        dtype=state_dtype(c, "mamba_ssm_dtype"),
    )


def _olmo_linear(c: Config, heads: int, hidden_default: int) -> Recurrent:
    """OLMo-Hybrid derives what its config leaves out (`OlmoHybridConfig.__post_init__`)."""
    key_heads = width(c, "linear_num_key_heads", default=heads)
    hidden = width(c, "hidden_size", default=hidden_default)
    key_dim = width(c, "linear_key_head_dim", default=max(hidden * 3 // (4 * key_heads), 1))
    return gated_delta(
        key_heads=key_heads,
        key_dim=key_dim,
        value_heads=width(c, "linear_num_value_heads", default=heads),
        value_dim=width(c, "linear_value_head_dim", default=2 * key_dim),
        kernel=taps(c, "linear_conv_kernel_dim", default=4),
    )


def _add_ngram_context(c: Config, row: Defaults, kinds: list[str], rows: list[tuple[Memory, ...]]) -> None:
    """Per-layer embeddings: a dilated convolution over the residual streams, and the last tokens' ids.

    Source: transformers 5.23 `Qwen4ExpTextPLELayer._short_conv`, `Qwen4ExpTextNGramEmbedding.forward`.
    """
    listed = c.integers("ple_layer_ids", minimum=1, maximum=len(rows))
    if not listed:
        return
    ngram = c.integer("ngram_size", default=3, minimum=2, maximum=4096)
    columns = (taps(c, "ple_conv_kernel_size", default=4) - 1) * ngram
    channels = width(c, "hidden_size", default=row.hidden) * c.integer("hc_count", default=4, maximum=4096)
    context = State(name="ngram_ids", shape=(ngram - 1,), dtype="int64", shard=False)
    states = (State(name="ple_conv", shape=(channels, columns)), context) if columns else (context,)
    for layer in {number - 1 for number in listed}:
        if kinds[layer] not in LINEAR_NAMES:
            c.refuse("ple_layer_ids", f"names layer {layer + 1}, which is not a linear layer")
        rows[layer] = (*rows[layer], Recurrent(kind="state", states=states))
