"""Configs of latent and recurrent families that contradict themselves are refused with the key's name, never a traceback."""

import pytest
from each import each
from hypothesis import given, settings
from hypothesis import strategies as st
from model_types import OTHER_MEMORIES

from kvplan.architectures import read
from kvplan.errors import ConfigError, InputError

LINEAR = "linear_attention"

REFUSED = {
    "a rank below one": ({"model_type": "deepseek_v3", "kv_lora_rank": 0}, "kv_lora_rank"),
    "a rank that is true": ({"model_type": "kimi_k2", "kv_lora_rank": True}, "kv_lora_rank"),
    "a huge rank": ({"model_type": "axk1", "kv_lora_rank": 10**400}, "kv_lora_rank"),
    "a negative rotary width": ({"model_type": "youtu", "qk_rope_head_dim": -1}, "qk_rope_head_dim"),
    "value heads that do not divide": ({"model_type": "minicpm3", "hidden_size": 2561}, "hidden_size"),
    "an odd number of blocks": ({"model_type": "longcat_flash", "num_hidden_layers": 57}, "num_hidden_layers"),
    "a billion layers": ({"model_type": "deepseek_v2", "num_hidden_layers": 10**9}, "num_hidden_layers"),
    "a billion prediction layers": ({"model_type": "deepseek_v3", "num_nextn_predict_layers": 10**9}, "num_nextn_predict_layers"),
    "too few layer types": ({"model_type": "glm_moe_dsa", "layer_types": ["indexed_attention"]}, "layer_types"),
    "an unknown layer type": ({"model_type": "axk2", "num_hidden_layers": 1, "layer_types": ["dense"]}, "layer_types[0]"),
    "an unknown indexer": ({"model_type": "hy_v4", "num_hidden_layers": 1, "indexer_types": ["half"]}, "indexer_types[0]"),
    "an unknown letter": (
        {"model_type": "glm_moe_dsa", "num_hidden_layers": 2, "index_topk_pattern": "FX"},
        "index_topk_pattern",
    ),
    "a short pattern": ({"model_type": "glm_moe_dsa", "index_topk_pattern": "FS"}, "index_topk_pattern"),
    "a later source": (
        {"model_type": "mistral_large4_text", "num_hidden_layers": 2, "kv_source_layers": [1, 1]},
        "kv_source_layers[0]",
    ),
    "a source that owns nothing": (
        {"model_type": "mistral_large4_text", "num_hidden_layers": 3, "kv_source_layers": [0, 0, 1]},
        "kv_source_layers[2]",
    ),
    "sliding sizes that are no object": ({"model_type": "dots3_note_text", "per_layer_config": [1]}, "per_layer_config"),
    "a zero rank in one layer": (
        {"model_type": "dots3_note_text", "per_layer_config": {"2": {"kv_lora_rank": 0}}},
        "per_layer_config.kv_lora_rank",
    ),
    "an unknown ratio": ({"model_type": "deepseek_v4", "compress_ratios": [7] * 43}, "compress_ratios[0]"),
    "too few ratios": ({"model_type": "deepseek_v4", "compress_ratios": [4]}, "compress_ratios"),
    "rates that are no object": ({"model_type": "deepseek_v4", "compress_rates": 4}, "compress_rates"),
    "overlapping layer lists": (
        {
            "model_type": "kimi_linear",
            "num_hidden_layers": 2,
            "linear_attn_config": {"full_attn_layers": [1, 2], "kda_layers": [1]},
        },
        "linear_attn_config.full_attn_layers",
    ),
    "a layer from zero": (
        {"model_type": "kimi_linear", "num_hidden_layers": 2, "linear_attn_config": {"full_attn_layers": [0], "kda_layers": [1]}},
        "linear_attn_config.full_attn_layers[0]",
    ),
    "pools of nothing": ({"model_type": "glm5_next_text", "index_kpool": 0}, "index_kpool"),
    "an interval of zero": ({"model_type": "qwen3_next", "full_attention_interval": 0}, "full_attention_interval"),
    "a state of integers": ({"model_type": "qwen3_5_text", "mamba_ssm_dtype": "int8"}, "mamba_ssm_dtype"),
    "context on an attention layer": ({"model_type": "qwen4_exp_text", "ple_layer_ids": [4]}, "ple_layer_ids"),
    "a state wider than anything": (
        {"model_type": "qwen3_next", "linear_num_key_heads": 2**24, "linear_key_head_dim": 2**24},
        "conv",
    ),
    "linear marks in M2": ({"model_type": "minimax_m2", "attn_type_list": [1, 0] * 31}, "attn_type_list"),
    "too few marks": ({"model_type": "minimax_text_01", "attn_type_list": [1, 0]}, "attn_type_list"),
    "sparse marks that are no list": (
        {"model_type": "minimax_m3", "sparse_attention_config": {"sparse_attention_freq": 1}},
        "sparse_attention_config.sparse_attention_freq",
    ),
    "mamba2 heads that do not fill": ({"model_type": "mamba2", "num_heads": 100}, "num_heads"),
    "bamba heads that do not divide": ({"model_type": "bamba", "mamba_n_heads": 3}, "mamba_n_heads"),
    "bamba heads that do not fill": ({"model_type": "bamba", "mamba_d_head": 32}, "mamba_d_head"),
    "an attention layer out of range": ({"model_type": "bamba", "attn_layer_indices": [32]}, "attn_layer_indices[0]"),
    "an offset past the period": ({"model_type": "jamba", "attn_layer_offset": 8}, "attn_layer_offset"),
    "zamba heads that do not divide": ({"model_type": "zamba", "n_mamba_heads": 3}, "n_mamba_heads"),
    "zamba2 without a map": ({"model_type": "zamba2", "num_hidden_layers": 12}, "layers_block_type"),
    "a zamba layer of attention alone": (
        {"model_type": "zamba", "num_hidden_layers": 1, "layers_block_type": ["attention"]},
        "layers_block_type[0]",
    ),
    "an unknown nemotron letter": ({"model_type": "nemotron_h", "hybrid_override_pattern": "M*Q"}, "hybrid_override_pattern"),
    "a nemotron count that differs": (
        {"model_type": "nemotron_h", "hybrid_override_pattern": "M*E", "num_hidden_layers": 4},
        "num_hidden_layers",
    ),
    "too many nemotron drafts": (
        {"model_type": "nemotron_h", "mtp_hybrid_override_pattern": "*E" * 50, "num_nextn_predict_layers": 200},
        "num_nextn_predict_layers",
    ),
    "half a cross-decoder": ({"model_type": "phi4flash", "num_hidden_layers": 30}, "num_hidden_layers"),
    "another SambaY map": ({"model_type": "phi4flash", "mb_per_layer": 3}, "mb_per_layer"),
    "a convolution without taps": ({"model_type": "lfm2", "conv_L_cache": 0}, "conv_L_cache"),
    "LFM2-MoE without a map": ({"model_type": "lfm2_moe"}, "layer_types"),
    "a ZAYA window without a size": (
        {"model_type": "zaya", "num_hidden_layers": 1, "layer_types": ["hybrid_sliding"]},
        "sliding_window",
    ),
    "a local layer out of range": ({"model_type": "inkling_text", "local_layer_ids": [66]}, "local_layer_ids[0]"),
    "an unknown block": ({"model_type": "recurrent_gemma", "block_types": ["lstm"]}, "block_types[0]"),
    "RWKV heads that do not divide": ({"model_type": "rwkv5", "num_hidden_layers": 1, "hidden_size": 100}, "head_size"),
    "RWKV without a width": ({"model_type": "rwkv7", "num_hidden_layers": 1}, "hidden_size"),
    "a factor that is no number": ({"model_type": "xlstm", "qk_dim_factor": "half"}, "qk_dim_factor"),
    "a factor that is not a number": ({"model_type": "xlstm", "v_dim_factor": float("nan")}, "v_dim_factor"),
}


@each(("config", "key"), REFUSED.values(), ids=REFUSED.keys())
def test_it_names_the_key(config, key):
    with pytest.raises(ConfigError) as caught:
        read(config, source="bad.json")
    assert str(caught.value).startswith("bad.json: ")
    assert key in str(caught.value)
    assert caught.value.hint


KEYS = st.sampled_from(
    [
        "num_hidden_layers", "num_layers", "num_attention_heads", "num_key_value_heads", "hidden_size", "head_dim",
        "kv_lora_rank", "qk_rope_head_dim", "v_head_dim", "index_head_dim", "indexer_types", "index_topk_pattern",
        "index_topk_freq", "layer_types", "kv_source_layers", "per_layer_config", "compress_ratios", "compress_rates",
        "linear_attn_config", "full_attention_interval", "linear_num_key_heads", "ple_layer_ids", "attn_type_list",
        "sparse_attention_config", "expand", "n_groups", "state_size", "mamba_d_head", "mamba_n_heads",
        "mamba_expand", "attn_layer_indices", "attn_layer_period", "layers_block_type", "hybrid_override_pattern",
        "num_nextn_predict_layers", "sliding_window", "conv_L_cache", "conv_kernel", "full_attn_idxs",
        "local_layer_ids", "block_types", "lru_width", "head_size", "qk_dim_factor", "cca_time0", "mb_per_layer",
        "index_kpool",
    ]
)  # fmt: skip
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 200),
    st.sampled_from(
        [2**31, 10**400, 1.5, float("nan"), "auto", "M*E-", "FS", "", [], {}, [1], [0, 1], ["mamba"], {"2": 3}, {"num_heads": 0}]
    ),
)


@each("model_type", sorted(OTHER_MEMORIES))
@settings(max_examples=40, deadline=None)
@given(data=st.dictionaries(KEYS, VALUES, max_size=4))
def test_a_strange_config_is_read_or_refused(model_type, data):
    try:
        model = read({"model_type": model_type, **data})
    except InputError:
        return
    assert 1 <= len(model.layers) <= 10_000
