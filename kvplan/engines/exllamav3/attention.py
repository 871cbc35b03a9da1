"""Architectures of attention alone, as ExLlamaV3's classes read their configs; the class is named at each reader.

Source: exllamav3 1.6.5, `architecture/*.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.model import Compressed, Index, Softmax, Window
from kvplan.engines.exllamav3.keys import Keys, Rows, Unreadable, heads_of, latent, layer_kinds, softmax
from kvplan.errors import Refused


def plain(c: Keys) -> Rows:
    """LlamaConfig and the many like it: every layer alike; a window only masks."""
    return [(softmax(*heads_of(c)),)] * c.layers()


def gemma3(c: Keys) -> Rows:
    """Gemma3Config, with defaults of its own."""
    heads, dim = c.number("num_attention_heads", 8), c.number("head_dim", 256)
    return [(softmax(c.number("num_key_value_heads", 4), dim or c.number("hidden_size", 2304) // heads),)] * c.layers()


def sliding(c: Keys) -> Rows:
    """GptOssConfig, AfmoeConfig, MuseGlimmerConfig, LagunaConfig: `layer_types` and one width for all."""
    window, heads = c.number("sliding_window"), heads_of(c)
    return [(softmax(*heads, window if kind == "sliding_attention" else 0),) for kind in layer_kinds(c, c.layers())]


def maybe_sliding(c: Keys) -> Rows:
    """Spark2_5Config, DFlashConfig: full layers where the config lists no types."""
    return plain(c) if c.items("layer_types") is None else sliding(c)


def gemma4(c: Keys) -> Rows:
    """Gemma4Config: full layers have heads and a width of their own."""
    kv_heads, dim = c.number("num_key_value_heads", c.number("num_attention_heads")), c.number("head_dim")
    full = c.number("num_global_key_value_heads", kv_heads), c.number("global_head_dim", dim)
    window = c.number("sliding_window", 0)
    return [
        (softmax(*full) if kind == "full_attention" else softmax(kv_heads, dim, window),) for kind in layer_kinds(c, c.layers())
    ]


def mimo_v2(c: Keys) -> Rows:
    """MiMoV2Config: a pattern of ones and zeros."""
    kv_heads, dim = heads_of(c)
    value_dim, own = c.number("v_head_dim", dim), c.number("swa_num_key_value_heads", kv_heads)
    count = c.layers()
    pattern = c.items("hybrid_layer_pattern") or [0] * count
    skipped = set(c.items("skip_attention") or ())
    if len(pattern) != count:
        raise Refused("MiMoV2: hybrid_layer_pattern must name every layer")
    window = c.number("sliding_window") if 1 in pattern else 0
    rows: Rows = []
    for i, sliding in enumerate(pattern):
        memory = softmax(own, dim, window, value_dim) if sliding == 1 else softmax(kv_heads, dim, 0, value_dim)
        rows.append(() if i in skipped else (memory,))
    return rows


def step(c: Keys) -> Rows:
    """Step3_5Config: sliding layers have heads of their own, and the others' width."""
    dim = c.number("head_dim", 0) or c.number("hidden_size") // c.number("num_attention_heads")
    other = c.section("attention_other_setting").number("num_attention_groups")
    full, window = c.number("num_attention_groups"), c.number("sliding_window")
    return [
        (softmax(other, dim, window) if kind == "sliding_attention" else softmax(full, dim),)
        for kind in layer_kinds(c, c.layers())
    ]


def decilm(c: Keys) -> Rows:
    """DeciLMConfig: attention by block, or none."""
    heads = c.number("num_attention_heads")
    dim = c.number("head_dim", 0) or c.number("hidden_size") // heads
    rows: Rows = []
    for block in c.items("block_configs") or ():
        attention = block.get("attention") if isinstance(block, Mapping) else None
        if not isinstance(attention, Mapping):
            raise Unreadable("block_configs")
        _refuse_block(attention, block.get("ffn"))
        group = 0 if attention.get("no_op") else Keys(attention).number("n_heads_in_group")
        rows.append((softmax(heads // group, dim),) if group else ())
    if len(rows) != c.layers():
        raise Refused("Number of hidden layers does not match length of block_configs list")
    return rows


_NOT_IN_ATTENTION: Final = (
    "num_sink_tokens", "replace_with_linear", "sparsify", "unshifted_sink", "use_prefill_window_in_sink_attention",
)  # fmt: skip
_NOT_IN_FFN: Final = ("replace_with_linear", "sparsify")


def _refuse_block(attention: Mapping[str, Any], ffn: Any) -> None:
    """What DeciLM's blocks may say and the engine does not build."""
    for section, names in ((attention, _NOT_IN_ATTENTION), (ffn, _NOT_IN_FFN)):
        if isinstance(section, Mapping) and not section.get("no_op"):
            found = next((name for name in names if section.get(name)), None)
            if found:
                raise Refused(f"DeciLM: {found} not supported")


def mla(c: Keys) -> Rows:
    """DeepseekV3Config, Glm4MoeLiteConfig, mistral4_init_config."""
    return [(latent(c),)] * c.layers()


def indexed_mla(c: Keys) -> Rows:
    """GlmMoeDsaConfig: layers named "full" have an indexer of their own."""
    count, kinds = c.layers(), c.items("indexer_types")
    if kinds is None or len(kinds) < count:
        raise Unreadable("indexer_types")
    index = Index(dim=c.number("index_head_dim"))
    return [(latent(c), index) if kind == "full" else (latent(c),) for kind in kinds[:count]]


def deepseek_v4(c: Keys) -> Rows:
    """DeepseekV4Config: 0, 4 and 128 tokens an entry; without a list two wide ones, then both in turn."""
    count, ratios = c.layers(), c.items("compress_ratios")
    if ratios is None:
        ratios = [128] * min(count, 2) + [4 if i % 2 else 128 for i in range(max(count - 2, 0))]
    dim, index = c.number("head_dim", 512), c.number("index_head_dim", 128)
    ring = Softmax(kv_heads=1, key_dim=dim, value_dim=0, reach=Window(c.number("sliding_window", 128)))
    rows: Rows = []
    for ratio in ratios[:count]:
        if ratio == 4:
            reach = Compressed(c.number("compress_rate_csa", 4), overlap=True)
            entries = Softmax(kv_heads=1, key_dim=dim, value_dim=0, reach=reach)
            rows.append((ring, entries, Index(dim=index, reach=reach)))
        elif ratio:
            reach = Compressed(c.number("compress_rate_hca", 128))
            rows.append((ring, Softmax(kv_heads=1, key_dim=dim, value_dim=0, reach=reach)))
        else:
            rows.append((ring,))
    if len(rows) != count:
        raise Unreadable("compress_ratios")
    return rows
