"""Model classes as strangers hand them over: transformers' own code, as files of another name whose classes nobody knows.

Each row is a small config of a real model type. `stranger` copies the type's two files out of the installed library under other
names, so that nothing of kvplan can know them by theirs; what kvplan says of the real type is then an independent answer.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

COMMON: dict[str, Any] = {
    "torch_dtype": "bfloat16", "vocab_size": 40, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
GROUPED: dict[str, Any] = {
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32, "intermediate_size": 32,
    "head_dim": 12,
}  # fmt: skip
DIVIDED: dict[str, Any] = {**GROUPED, "hidden_size": 48}
del DIVIDED["head_dim"]
EXPERTS: dict[str, Any] = {
    "num_local_experts": 4, "num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
}  # fmt: skip
FULL, SLIDES, LINEAR = "full_attention", "sliding_attention", "linear_attention"
MIXED: dict[str, Any] = {**GROUPED, "sliding_window": 7, "layer_types": [SLIDES, FULL, SLIDES], "query_pre_attn_scalar": 16}
LATENT: dict[str, Any] = {
    **DIVIDED, **EXPERTS, "num_key_value_heads": 4, "kv_lora_rank": 20, "q_lora_rank": 16, "qk_rope_head_dim": 4, "v_head_dim": 6,
    "qk_nope_head_dim": 10, "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1,
}  # fmt: skip
MAMBA: dict[str, Any] = {
    **DIVIDED, "mamba_expand": 2, "mamba_n_heads": 12, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_d_conv": 3,
    "mamba_n_groups": 1, "mamba_chunk_size": 8,
}  # fmt: skip
SHARING: dict[str, Any] = {
    **MIXED, "num_hidden_layers": 5, "layer_types": [SLIDES, FULL, SLIDES, SLIDES, FULL], "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 40,
}  # fmt: skip
BART: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 2, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "decoder_start_token_id": 1,
}  # fmt: skip


class Row(NamedTuple):
    """A class, and a config of its type; `names` are what the library calls it, in files and in code."""

    kind: str
    names: tuple[str, str]
    cls: str
    config: dict[str, Any]


ROWS: dict[str, Row] = {
    "llama": Row("plain", ("llama", "Llama"), "ForCausalLM", GROUPED),
    "gpt2": Row("plain", ("gpt2", "GPT2"), "LMHeadModel", {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 64}),
    "mistral": Row("windowed", ("mistral", "Mistral"), "ForCausalLM", {**GROUPED, "sliding_window": 9}),
    "gemma3_text": Row("windowed", ("gemma3", "Gemma3"), "ForCausalLM", MIXED),
    "gpt_oss": Row("windowed", ("gpt_oss", "GptOss"), "ForCausalLM", {**MIXED, **EXPERTS}),
    "llama4_text": Row("windowed", ("llama4", "Llama4"), "ForCausalLM", {
        **GROUPED, **EXPERTS, "num_experts_per_tok": 1, "attention_chunk_size": 8, "intermediate_size_mlp": 32,
        "layer_types": ["chunked_attention", FULL, "chunked_attention"],
    }),
    "deepseek_v3": Row("MLA", ("deepseek_v3", "DeepseekV3"), "ForCausalLM", LATENT),
    "minicpm3": Row("MLA", ("minicpm3", "MiniCPM3"), "ForCausalLM", LATENT),
    "deepseek_v32": Row("MLA", ("deepseek_v32", "DeepseekV32"), "ForCausalLM", {
        **LATENT, "index_head_dim": 16, "index_n_heads": 2, "index_topk": 64,
    }),
    "mamba": Row("hybrid", ("mamba", "Mamba"), "ForCausalLM", {
        "num_hidden_layers": 2, "hidden_size": 16, "expand": 2, "state_size": 4, "conv_kernel": 3, "time_step_rank": 4,
    }),
    "falcon_h1": Row("hybrid", ("falcon_h1", "FalconH1"), "ForCausalLM", {**MAMBA, "mamba_d_ssm": 96}),
    "jamba": Row("hybrid", ("jamba", "Jamba"), "ForCausalLM", {
        **MAMBA, **EXPERTS, "mamba_dt_rank": 4, "attn_layer_period": 3, "attn_layer_offset": 1, "use_mamba_kernels": False,
    }),
    "qwen3_next": Row("hybrid", ("qwen3_next", "Qwen3Next"), "ForCausalLM", {
        **GROUPED, **EXPERTS, "layer_types": [LINEAR, LINEAR, FULL], "linear_num_key_heads": 1, "linear_num_value_heads": 2,
        "linear_key_head_dim": 8, "linear_value_head_dim": 12, "linear_conv_kernel_dim": 4, "shared_expert_intermediate_size": 16,
    }),
    "lfm2": Row("hybrid", ("lfm2", "Lfm2"), "ForCausalLM", {**DIVIDED, "layer_types": ["conv", FULL, "conv"], "conv_L_cache": 3}),
    "recurrent_gemma": Row("hybrid", ("recurrent_gemma", "RecurrentGemma"), "ForCausalLM", {
        **DIVIDED, "attention_window_size": 6, "conv1d_width": 3,
    }),
    "bart": Row("cross", ("bart", "Bart"), "ForConditionalGeneration", BART),
    "t5": Row("cross", ("t5", "T5"), "ForConditionalGeneration", {
        "d_model": 32, "d_ff": 32, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4, "d_kv": 6,
        "decoder_start_token_id": 1,
    }),
    "gemma3n_text": Row("shared", ("gemma3n", "Gemma3n"), "ForCausalLM", {
        **SHARING, "laurel_rank": 4, "activation_sparsity_pattern": [0.0] * 5, "altup_num_inputs": 2,
    }),
    "gemma4_text": Row("shared", ("gemma4", "Gemma4"), "ForCausalLM", {**SHARING, "global_head_dim": 16}),
    "dory": Row("looped", ("dory", "Dory"), "ForCausalLM", {
        **MIXED, "num_hidden_layers": 4, "layer_types": [FULL, SLIDES, FULL, SLIDES], "n_input_layers": 1, "n_output_layers": 1,
        "n_recurrent_layers": 2, "n_recurrent_loops": 3, "recurrent_kv_cache_mode": "per_loop",
    }),
}  # fmt: skip
_NAME = ("zorb", "Zorb")


#: Types that are measured with eight times the layers, of which a few are run.
DEEP = (
    "llama", "gpt2", "mistral", "gpt_oss", "deepseek_v3", "deepseek_v32", "mamba", "qwen3_next", "lfm2",
    "recurrent_gemma", "bart",
)  # fmt: skip


def config_of(model_type: str) -> dict[str, Any]:
    """The config under the type's real name, as kvplan reads it."""
    config = {"model_type": model_type, **COMMON, **ROWS[model_type].config}
    for key in ("num_hidden_layers", "n_layer", "decoder_layers", "layer_types") if model_type in DEEP else ():
        if key in config:
            config[key] = config[key] * 8
    return config


def stranger(folder: Path, model_type: str) -> tuple[Path, str]:
    """(file, class): the library's code for a type under names that are nobody's."""
    found = find_spec("transformers")
    assert found is not None
    assert found.origin is not None
    files, code = ROWS[model_type].names
    for part in ("configuration", "modeling"):
        source = Path(found.origin).parent / "models" / files / f"{part}_{files}.py"
        text = source.read_text(encoding="utf-8").replace(code, _NAME[1])
        text = text.replace(f"from transformers.models.{files}.", "from .")
        text = re.sub(rf"(?<![A-Za-z0-9]){files}(?![a-z0-9])", _NAME[0], text)
        (folder / f"{part}_{_NAME[0]}.py").write_text(text, encoding="utf-8")
    return folder / f"modeling_{_NAME[0]}.py", f"{_NAME[1]}{ROWS[model_type].cls}"
