"""Small random configs for real model types: what the library builds and runs in a fraction of a second on a CPU.

`configs(model_type)` is a hypothesis strategy. Each row says what may vary: KV heads, head sizes, windows, layer
patterns, latent and state sizes. Sizes that no cache depends on are fixed and small.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Config = dict[str, Any]
Draw = Any

SMALL: Config = {
    "vocab_size": 64,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
KINDS = ("sliding_attention", "full_attention")


def one_of(draw: Draw, *values: Any) -> Any:
    return draw(st.sampled_from(values))


def grouped(draw: Draw, *, head_dim: bool = True, layers: int | None = None) -> Config:
    """Query heads, KV heads that divide them, and a head size of its own."""
    kv_heads = one_of(draw, 1, 2, 3)
    heads = kv_heads * one_of(draw, 1, 2, 4)
    dim = one_of(draw, 8, 16, 24)
    config = {
        **SMALL,
        "num_hidden_layers": layers or one_of(draw, 1, 2, 3, 5),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_size": heads * dim if not head_dim else heads * one_of(draw, 8, 16),
        "intermediate_size": 32,
    }
    return config | ({"head_dim": dim} if head_dim else {})


def divided(draw: Draw) -> Config:
    """The hidden size divided by the heads; no key for the head size."""
    return grouped(draw, head_dim=False)


def with_window(draw: Draw, config: Config) -> Config:
    """One window in every layer, or none."""
    return config | {"sliding_window": one_of(draw, None, 2, 3, 7, 16, 600)}


def with_types(draw: Draw, config: Config, kinds: tuple[str, ...] = KINDS) -> Config:
    """A window, and which layers slide."""
    types = [one_of(draw, *kinds) for _ in range(config["num_hidden_layers"])]
    return config | {"sliding_window": one_of(draw, 2, 5, 8, 16, 600), "layer_types": types}


def experts(config: Config) -> Config:
    sizes = {
        "num_local_experts": 4,
        "num_experts": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
    }
    return config | sizes


def latent(draw: Draw) -> Config:
    """Multi-head latent attention."""
    sizes = {
        "kv_lora_rank": one_of(draw, 8, 12, 32),
        "q_lora_rank": 16,
        "qk_rope_head_dim": one_of(draw, 4, 8),
        "v_head_dim": one_of(draw, 8, 12),
        "qk_nope_head_dim": one_of(draw, 8, 16),
        "n_group": 1,
        "topk_group": 1,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
    }
    config = experts(grouped(draw, head_dim=False)) | sizes
    return config | {"num_key_value_heads": config["num_attention_heads"]}


def gpt(draw: Draw) -> Config:
    """The keys of GPT-2's time; one KV head for each query head."""
    heads = one_of(draw, 1, 2, 4)
    return {**SMALL, "n_layer": one_of(draw, 1, 2, 3), "n_head": heads, "n_embd": heads * one_of(draw, 8, 16), "n_positions": 512}


def mha(draw: Draw) -> Config:
    config = grouped(draw, head_dim=False)
    del config["num_key_value_heads"]
    return config


def gemma2(draw: Draw) -> Config:
    config = with_types(draw, grouped(draw))
    return config | {"query_pre_attn_scalar": 16}


def gemma4(draw: Draw) -> Config:
    config = gemma2(draw)
    config["layer_types"][-1] = "full_attention"
    layers, types = config["num_hidden_layers"], config["layer_types"]
    shared = one_of(draw, 0, *(n for n in range(1, layers) if {*types[: layers - n]} == {*types}))
    sizes = {"global_head_dim": one_of(draw, 8, 32), "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64}
    return config | sizes | {"num_kv_shared_layers": shared}


def gemma3n(draw: Draw) -> Config:
    config = gemma4(draw)
    del config["global_head_dim"]
    return config | {
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.0] * config["num_hidden_layers"],
        "altup_num_inputs": 2,
        "query_pre_attn_scalar": 16,
    }


def llama4(draw: Draw) -> Config:
    config = experts(grouped(draw))
    types = [one_of(draw, "chunked_attention", "full_attention") for _ in range(config["num_hidden_layers"])]
    return config | {
        "layer_types": types,
        "attention_chunk_size": one_of(draw, 4, 8, 600),
        "intermediate_size_mlp": 32,
        "num_experts_per_tok": 1,
    }


def qwen2(draw: Draw) -> Config:
    config = grouped(draw, head_dim=False)
    gate = one_of(draw, True, False)
    return config | {
        "use_sliding_window": gate,
        "sliding_window": one_of(draw, 3, 16),
        "max_window_layers": one_of(draw, 0, 1, 2),
    }


def falcon(draw: Draw) -> Config:
    kv_heads = one_of(draw, 1, 2)
    heads = kv_heads * one_of(draw, 2, 4)
    flags = one_of(draw, (True, True), (False, True), (False, False))
    kv_heads = heads if flags == (False, False) else kv_heads
    return {
        **SMALL,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "hidden_size": heads * 8,
        "num_kv_heads": kv_heads,
        "new_decoder_architecture": flags[0],
        "multi_query": flags[1],
        "alibi": False,
    }


def gpt_neo(draw: Draw) -> Config:
    heads = one_of(draw, 2, 4)
    return {
        **SMALL,
        "num_layers": 4,
        "attention_types": [[["global", "local"], 2]],
        "num_heads": heads,
        "hidden_size": heads * 8,
        "window_size": one_of(draw, 2, 16),
        "intermediate_size": 32,
    }


def mimo(draw: Draw) -> Config:
    config = experts(grouped(draw))
    config["num_attention_heads"] = 4 * config["num_key_value_heads"]
    types = [one_of(draw, *KINDS) for _ in range(config["num_hidden_layers"])]
    return config | {
        "layer_types": types,
        "sliding_window_size": one_of(draw, 3, 9),
        "v_head_dim": one_of(draw, 8, 12),
        "n_group": 1,
        "topk_group": 1,
        "swa_num_key_value_heads": config["num_key_value_heads"],
        "swa_num_attention_heads": config["num_attention_heads"],
        "swa_head_dim": config["head_dim"],
        "swa_v_head_dim": 8,
    }


def modernbert(draw: Draw) -> Config:
    config = mha(draw)
    config["hidden_size"] = config["num_attention_heads"] * 16
    return config | {"local_attention": one_of(draw, 8, 16, 64), "global_attn_every_n_layers": one_of(draw, 2, 3)}


def mamba(draw: Draw) -> Config:
    return {
        **SMALL,
        "num_hidden_layers": one_of(draw, 1, 3),
        "hidden_size": 16,
        "expand": one_of(draw, 1, 2, 3),
        "state_size": one_of(draw, 4, 8),
        "conv_kernel": one_of(draw, 2, 4),
        "time_step_rank": 4,
    }


def mamba2(draw: Draw) -> Config:
    heads, dim = one_of(draw, 2, 4), one_of(draw, 4, 8)
    return {
        **SMALL,
        "num_hidden_layers": 2,
        "hidden_size": heads * dim // 2,
        "expand": 2,
        "num_heads": heads,
        "head_dim": dim,
        "state_size": one_of(draw, 4, 8),
        "n_groups": one_of(draw, 1, 2),
        "conv_kernel": one_of(draw, 2, 4),
        "chunk_size": 8,
    }


def named_mamba(draw: Draw, config: Config) -> Config:
    config["hidden_size"] = 48
    config["num_attention_heads"] = one_of(draw, 2, 4, 6)
    config["num_key_value_heads"] = 2
    config.pop("head_dim", None)
    return config | {
        "mamba_expand": 2,
        "mamba_n_heads": 12,
        "mamba_d_head": 8,
        "mamba_d_state": one_of(draw, 4, 8),
        "mamba_d_conv": one_of(draw, 2, 4),
        "mamba_n_groups": one_of(draw, 1, 2),
        "mamba_chunk_size": 8,
        "mamba_dt_rank": 4,
    }


def jamba(draw: Draw) -> Config:
    config = named_mamba(draw, experts(grouped(draw)))
    period = one_of(draw, 2, 3)
    return config | {
        "attn_layer_period": period,
        "attn_layer_offset": one_of(draw, 0, 1),
        "num_hidden_layers": 4,
        "use_mamba_kernels": False,
    }


def bamba(draw: Draw) -> Config:
    config = named_mamba(draw, grouped(draw))
    return config | {"num_hidden_layers": 3, "attn_layer_indices": one_of(draw, [0], [1], [0, 2])}


def falcon_h1(draw: Draw) -> Config:
    return named_mamba(draw, grouped(draw)) | {"mamba_d_ssm": 96, "num_hidden_layers": 2}


def granite_hybrid(draw: Draw) -> Config:
    config = named_mamba(draw, experts(grouped(draw)))
    return config | {
        "num_hidden_layers": 3,
        "layer_types": ["mamba", "attention", one_of(draw, "mamba", "attention")],
        "shared_intermediate_size": 16,
    }


def delta(draw: Draw) -> Config:
    config = experts(grouped(draw))
    types = [one_of(draw, "linear_attention", "full_attention") for _ in range(config["num_hidden_layers"] - 1)]
    types.append("full_attention")  # the library's masks need one
    key_heads = one_of(draw, 1, 2)
    return config | {
        "layer_types": types,
        "linear_num_key_heads": key_heads,
        "linear_num_value_heads": key_heads * one_of(draw, 1, 2),
        "linear_key_head_dim": one_of(draw, 4, 8),
        "linear_value_head_dim": one_of(draw, 4, 12),
        "linear_conv_kernel_dim": one_of(draw, 2, 4),
        "shared_expert_intermediate_size": 16,
    }


def lfm2(draw: Draw) -> Config:
    config = divided(draw)
    types = [one_of(draw, "conv", "full_attention") for _ in range(config["num_hidden_layers"] - 1)]
    return config | {"layer_types": [*types, "full_attention"], "conv_L_cache": one_of(draw, 2, 3, 5)}


def recurrent_gemma(draw: Draw) -> Config:
    config = divided(draw) | {"num_hidden_layers": 3}
    return config | {"attention_window_size": one_of(draw, 2, 5, 16), "conv1d_width": one_of(draw, 2, 4)}


def minimax(draw: Draw) -> Config:
    config = experts(grouped(draw))
    types = [one_of(draw, "linear_attention", "full_attention") for _ in range(config["num_hidden_layers"])]
    return config | {"layer_types": types, "block_size": 16}


def t5(draw: Draw) -> Config:
    layers = one_of(draw, 1, 2, 3)
    return {
        **SMALL,
        "d_model": 32,
        "d_ff": 32,
        "num_layers": layers,
        "num_decoder_layers": one_of(draw, *range(1, layers + 1)),
        "num_heads": one_of(draw, 1, 2, 4),
        "d_kv": one_of(draw, 4, 8),
        "decoder_start_token_id": 1,
    }


def bart(draw: Draw) -> Config:
    heads = one_of(draw, 1, 2, 4)
    return {
        **SMALL,
        "d_model": heads * one_of(draw, 8, 16),
        "encoder_layers": one_of(draw, 1, 2),
        "decoder_layers": one_of(draw, 1, 3),
        "encoder_attention_heads": 1,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "decoder_start_token_id": 1,
    }


def whisper(draw: Draw) -> Config:
    return bart(draw) | {"max_target_positions": 512, "max_source_positions": 32, "num_mel_bins": 8}


def helium(draw: Draw) -> Config:
    config = grouped(draw)
    return config | {"hidden_size": config["num_attention_heads"] * config["head_dim"]}


def gpt_oss(draw: Draw) -> Config:
    return with_types(draw, experts(grouped(draw)))


def deepseek_v32(draw: Draw) -> Config:
    return latent(draw) | {"index_head_dim": one_of(draw, 16, 32), "index_n_heads": 2, "index_topk": 64}


def opt(draw: Draw) -> Config:
    config = mha(draw)
    return config | {"word_embed_proj_dim": config["hidden_size"], "ffn_dim": 32}


def bloom(draw: Draw) -> Config:
    heads = one_of(draw, 1, 2, 4)
    return {**SMALL, "n_layer": 2, "n_head": heads, "hidden_size": heads * 8}


def starcoder2(draw: Draw) -> Config:
    return with_window(draw, divided(draw))


def mistral(draw: Draw) -> Config:
    return with_window(draw, grouped(draw))


def phi3(draw: Draw) -> Config:
    return with_window(draw, divided(draw))


def cohere2(draw: Draw) -> Config:
    return with_types(draw, grouped(draw))


def olmo3(draw: Draw) -> Config:
    return with_types(draw, divided(draw))


def dory(draw: Draw) -> Config:
    """Layers before, in and after a section that runs several times; blocks counted with or without their MLPs."""
    config = with_types(draw, grouped(draw, layers=one_of(draw, 3, 4, 6)))
    before, after = one_of(draw, 0, 1), one_of(draw, 0, 1)
    recurrent = config["num_hidden_layers"] - before - after
    counts = {"num_hidden_layers": config["num_hidden_layers"], "n_input_layers": before, "n_output_layers": after}
    counts |= {"n_recurrent_layers": recurrent} if draw(st.booleans()) else {}
    if draw(st.booleans()):
        config["layer_types"] = [kind for each in config["layer_types"] for kind in (each, "mlp")]
        counts = {key: 2 * count for key, count in counts.items()}
    mode = one_of(draw, "per_loop", "per_loop", "last_loop")
    return config | counts | {"n_recurrent_loops": one_of(draw, 1, 2, 3), "recurrent_kv_cache_mode": mode}


def inkling2_loop(draw: Draw) -> Config:
    """Layers 2 to 3, or 2 to 5, of six or eight run once, twice or three times, convolutions and all."""
    config = experts(grouped(draw, layers=one_of(draw, 6, 8)))
    del config["intermediate_size"]  # a second name of moe_intermediate_size
    types = [one_of(draw, "hybrid", "hybrid_sliding") for _ in range(config["num_hidden_layers"])]
    types[0], types[-1] = "hybrid", "hybrid_sliding"  # the library's masks need one of each
    near = one_of(draw, 1, 2)
    return config | {
        "layer_types": types,
        "sliding_window_size": one_of(draw, 4, 8, 64),
        "swa_num_attention_heads": near * 2,
        "swa_num_key_value_heads": near,
        "swa_head_dim": one_of(draw, 8, 16),
        "conv_kernel_size": one_of(draw, 2, 4),
        "n_layers_per_attn_res_block": 2,
        "loop_layer_index_start": 2,
        "loop_layer_index_end": one_of(draw, 4, 6),
        "loop_num_passes": one_of(draw, 1, 2, 3),
        "loop_gate_rank": 8,
        "d_rel": 4,
        "rel_extent": 16,
        "unpadded_vocab_size": 64,
    }


def lara(draw: Draw) -> Config:
    config = delta(draw)
    types = [one_of(draw, "linear_attention", *KINDS) for _ in range(config["num_hidden_layers"] - 1)]
    return config | {"layer_types": [*types, "full_attention"], "sliding_window": one_of(draw, 4, 8, 64)}


def hy_v4_vl(draw: Draw) -> Config:
    config = latent(draw) | {"index_n_heads": 2, "index_topk": 8, "index_head_dim": one_of(draw, 12, 16), "qk_rope_head_dim": 8}
    third = config["qk_rope_head_dim"] // 2
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [third - 2, 1, 1]}
    kinds = ["full", *[one_of(draw, "full", "shared") for _ in range(config["num_hidden_layers"] - 1)]]
    return config | {"rope_parameters": rope, "indexer_types": kinds}


ROWS: dict[str, Callable[[Draw], Config]] = {
    "apertus": grouped,
    "apertus1p5_text": grouped,
    "arcee": grouped,
    "bamba": bamba,
    "bart": bart,
    "bloom": bloom,
    "cohere": divided,
    "cohere2": cohere2,
    "deepseek_v3": latent,
    "deepseek_v32": deepseek_v32,
    "dory": dory,
    "ernie4_5": grouped,
    "exaone": grouped,
    "exaone4": cohere2,
    "falcon": falcon,
    "falcon_h1": falcon_h1,
    "gemma": grouped,
    "gemma2": gemma2,
    "gemma3_text": gemma2,
    "gemma3n_text": gemma3n,
    "gemma4_text": gemma4,
    "glm4": grouped,
    "gpt2": gpt,
    "gpt_bigcode": gpt,
    "gpt_neo": gpt_neo,
    "gpt_neox": mha,
    "gpt_oss": gpt_oss,
    "granite": divided,
    "granitemoehybrid": granite_hybrid,
    "helium": helium,
    "jamba": jamba,
    "lfm2": lfm2,
    "llama": grouped,
    "llama4_text": llama4,
    "mamba": mamba,
    "mamba2": mamba2,
    "mimo_v2_flash": mimo,
    "hy_v4_vl_text": hy_v4_vl,
    "inkling2_loop_text": inkling2_loop,
    "lara_mini": lara,
    "minicpm3": latent,
    "minimax": minimax,
    "mistral": mistral,
    "mixtral": lambda d: experts(mistral(d)),
    "modernbert-decoder": modernbert,
    "nemotron": grouped,
    "olmo2": divided,
    "olmo3": olmo3,
    "opt": opt,
    "phi": divided,
    "phi3": phi3,
    "qwen2": qwen2,
    "qwen3": grouped,
    "qwen3_5_text": delta,
    "qwen3_moe": lambda d: experts(grouped(d)),
    "qwen3_next": delta,
    "recurrent_gemma": recurrent_gemma,
    "sarvam_mla": latent,
    "sarvam_moe": lambda d: experts(grouped(d)),
    "seed_oss": grouped,
    "smollm3": divided,
    "stablelm": divided,
    "starcoder2": starcoder2,
    "t5": t5,
    "whisper": whisper,
}


@st.composite
def configs(draw: Draw, model_type: str) -> Config:
    """A config of `model_type` with random cache-relevant sizes."""
    return {"model_type": model_type, "torch_dtype": "bfloat16", **ROWS[model_type](draw)}
