"""The tensors that the installed library holds, for types and layer maps that no recorded case covers.

Each model is built small, most on the meta device, and run once; its cache must hold what the memories say. Both are
read from the config as a person would write it, so that defaults are compared too.
"""

import importlib
import warnings
from functools import cache
from typing import Any

import pytest
from each import each
from library_tensors import Tensors, held_tensors, state_tensors

from kvplan.architectures import read

TOKENS = 24
TINY = {
    "hidden_size": 64, "vocab_size": 128, "moe_intermediate_size": 32, "num_hidden_layers": 4, "num_experts_per_tok": 2,
}  # fmt: skip
#: A model type and what its config says.
ON_META: list[tuple[str, dict[str, Any]]] = [
    ("youtu", {"num_hidden_layers": 2}),
    ("mistral4", {"num_hidden_layers": 2}),
    ("glm4_moe_lite", {"num_hidden_layers": 2}),
    ("glm_moe_dsa", {"num_hidden_layers": 9, "index_topk_freq": 4, "index_skip_topk_offset": 3}),
    ("glm_moe_dsa", {"num_hidden_layers": 4, "index_topk_pattern": "FSFS", "index_head_dim": 64}),
    ("hy_v4", {"num_hidden_layers": 6}),
    ("mistral_large4_text", {"num_hidden_layers": 8}),
    ("mistral_large4_text", {"num_hidden_layers": 8, "kv_source_layers": [0, 1, 2, 3, 0, 1, 2, 3], "index_topk_freq": 2}),
    ("minicpm3", {"num_hidden_layers": 2, "v_head_dim": 96}),
    ("bamba", {"num_hidden_layers": 4, "attn_layer_indices": [2], "num_key_value_heads": None}),
    ("granitemoehybrid", {"num_hidden_layers": 3, "layer_types": ["mamba", "attention", "mamba"], "num_key_value_heads": 4}),
    ("falcon_h1", {"num_hidden_layers": 2, "mamba_d_ssm": None, "mamba_n_groups": 2}),
    ("jamba", {"num_hidden_layers": 4, "attn_layer_period": 4, "attn_layer_offset": 1}),
    ("zamba", {"num_hidden_layers": 10, "attn_layer_period": 3, "attn_layer_offset": 2}),
    ("zamba2", {"n_mamba_heads": 16, "mamba_ngroups": 2}),
    ("nemotron_h", {"hybrid_override_pattern": "MM-*E", "mamba_n_groups": 4}),
    ("olmo_hybrid", {"num_hidden_layers": 3, "num_key_value_heads": 10}),
    ("qwen3_next", {"num_hidden_layers": 5, "full_attention_interval": 2, "linear_conv_kernel_dim": 3, "head_dim": 64}),
    ("qwen3_5_moe_text", {"num_hidden_layers": 4, "linear_num_key_heads": 8}),
    (
        "kimi_linear",
        {
            "num_hidden_layers": 4,
            "linear_attn_config": {
                "full_attn_layers": [4], "kda_layers": [1, 2, 3], "head_dim": 64, "num_heads": 16, "short_conv_kernel_size": 3,
            },
        },
    ),
    ("bailing_hybrid", {"num_hidden_layers": 7, "head_dim": 64, "short_conv_kernel_size": 3, "layer_group_size": 3}),
    ("lfm2", {"num_hidden_layers": 4, "full_attn_idxs": [1, 2]}),
    ("lfm3", {"num_hidden_layers": 7, "sliding_window": 16, "conv_L_cache": 4}),
    ("inkling_text", {"num_hidden_layers": 3, "local_layer_ids": [1], "sliding_window_size": 16}),
    ("inkling2_text", {"num_hidden_layers": 6, "sliding_window_size": 16}),
    ("minimax_m3_vl_text", {"num_hidden_layers": 2, "layer_types": ["full_attention", "minimax_m3_sparse"]}),
    ("zaya", {"num_hidden_layers": 2, "layer_types": ["hybrid", "hybrid_sliding"], "sliding_window": 16, "cca_time0": 3}),
]  # fmt: skip
ON_CPU: list[tuple[str, dict[str, Any]]] = [
    (
        "qwen4_exp_text",
        {
            **TINY, "num_experts": 4, "shared_expert_intermediate_size": 32, "hc_lowrank": 8, "indexer_n_heads": 4,
            "indexer_kv_heads": 1, "indexer_head_dim": 256, "indexer_budget": 64, "indexer_compress_ratio": 4,
            "ple_layer_ids": [1, 3], "ngram_vocab_size_base": 50, "eos_token_id": 2, "ple_embed_dim": 64, "split_ngram_parts": 1,
            "linear_num_key_heads": 2, "linear_num_value_heads": 2,
        },
    ),
    (
        "glm5_next_text",
        {
            **TINY, "n_routed_experts": 4, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4,
            "q_lora_rank": 32, "pad_token_id": 0, "index_kpool": 4, "index_topk": 64, "linear_num_heads": 2,
        },
    ),
]  # fmt: skip
#: Where the library's auto classes do not know a text part of its own.
CLASSES = {
    "mistral4": "mistral4.modeling_mistral4.Mistral4ForCausalLM",
    "mistral_large4_text": "mistral_large4.modeling_mistral_large4.MistralLarge4TextModel",
    "glm5_next_text": "glm5_next.modeling_glm5_next.Glm5NextTextModel",
    "qwen4_exp_text": "qwen4_exp.modeling_qwen4_exp.Qwen4ExpTextModel",
}


@cache
def library() -> Any:
    reason = "transformers is not installed (dependency group `oracle`), so its caches cannot be looked at"
    transformers = pytest.importorskip("transformers", reason=reason)
    if transformers.__version__ != "5.24.0":
        pytest.skip(f"transformers is {transformers.__version__}, and the memories were written from 5.24.0")
    transformers.logging.set_verbosity_error()
    return transformers


def built(model_type: str, config: Any) -> Any:
    """The model, in bfloat16, with the first attention implementation that its class takes."""
    import torch

    for implementation in ("sdpa", "eager"):
        try:
            config._attn_implementation = implementation
            if model_type in CLASSES:
                module, _, name = CLASSES[model_type].rpartition(".")
                model_class = getattr(importlib.import_module(f"transformers.models.{module}"), name)
                return model_class._from_config(config, dtype=torch.bfloat16).eval()
            return (
                library()
                .AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=implementation)
                .eval()
            )
        except ValueError as error:
            if "attention implementation" not in str(error):
                raise
    raise AssertionError(f"no attention implementation for {model_type}")


def cached_layers(model_type: str, values: dict[str, Any], device: str) -> list[tuple[str, Tensors]]:
    """Every layer's class and tensors, after one pass over `TOKENS` tokens."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = library()
        import torch

        config = transformers.AutoConfig.for_model(model_type, **values)
        with torch.device(device), torch.no_grad():
            model = built(model_type, config)
            cache_object = transformers.DynamicCache(config=config)
            model(input_ids=torch.zeros((1, TOKENS), dtype=torch.long), past_key_values=cache_object, use_cache=True)
    return [(type(layer).__name__, tensors_of(layer)) for layer in cache_object.layers]


def tensors_of(layer: Any) -> Tensors:
    found = {name: getattr(layer, name, None) for name in ("keys", "values", "indexer_keys", "idx_keys")}
    for name in ("conv_states", "recurrent_states"):
        states = getattr(layer, name, None) or {}
        pairs = states.items() if isinstance(states, dict) else enumerate(states)
        found |= {f"{name}.{i}": state for i, state in pairs}
    return {name: (tuple(t.shape[1:]), str(t.dtype).removeprefix("torch.")) for name, t in found.items() if t is not None}


def named(case: tuple[str, dict[str, Any]]) -> str:
    return f"{case[0]}-{len(case[1])}"


@each("case", ON_META, ids=named)
def test_the_library_holds_what_the_memories_say(case: tuple[str, dict[str, Any]]) -> None:
    model_type, values = case
    model = read({"model_type": model_type, "torch_dtype": "bfloat16", **values})
    layers = cached_layers(model_type, values, "meta")
    assert len(layers) == len(model.layers)
    for i, (kind, tensors) in enumerate(layers):
        assert held_tensors(model, i, kind, TOKENS) == tensors, i


def test_qwen4_exp_holds_its_ngram_context_as_further_convolutions() -> None:
    model_type, values = ON_CPU[0]
    model = read({"model_type": model_type, "torch_dtype": "bfloat16", **values})
    for i, (kind, tensors) in enumerate(cached_layers(model_type, values, "cpu")):
        memories = model.layers[i].memories
        if i + 1 not in values["ple_layer_ids"]:
            assert held_tensors(model, i, kind, TOKENS) == tensors, i
            continue
        delta, context = memories
        conv, ids = context.states
        further = {"conv_states.1": (conv.shape, model.dtype), "conv_states.2": (ids.shape, ids.dtype)}
        assert dict(state_tensors(delta.states, model.dtype)) | further == tensors, i


def test_glm_5_3_holds_its_index_keys_unpooled_with_gates_and_a_mask() -> None:
    model_type, values = ON_CPU[1]
    model = read({"model_type": model_type, "torch_dtype": "bfloat16", **values})
    for i, (kind, tensors) in enumerate(cached_layers(model_type, values, "cpu")):
        found = held_tensors(model, i, kind, TOKENS)
        if "compressed_kv.indexer" in found:
            (entries, dim), dtype = found.pop("compressed_kv.indexer")
            assert entries == TOKENS // values["index_kpool"]
            assert tensors.pop("indexer_keys") == ((TOKENS, 2 * dim + 1), dtype)
        assert found == tensors, i
