"""Configs of others, as the hub's keys: Mistral's and Meta's params.json, TensorRT-LLM's; and files that are no config.

Sources: mistral-inference `args.py`, vllm `transformers_utils/configs/mistral.py`, llama `model.py:FeedForward`, TensorRT-LLM
`models/modeling_utils.py:PretrainedConfig`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from kvplan.domain.origin import Settings
from kvplan.errors import ConfigError, UnknownModel, printable
from kvplan.files import is_hub_id
from kvplan.limits import LAYERS

#: Mistral's key -> the hub's, of its experts where attention is latent.
_EXPERTS: Final = {
    "first_k_dense_replace": "first_k_dense_replace", "num_experts_per_tok": "num_experts_per_tok",
    "num_experts": "n_routed_experts", "expert_hidden_dim": "moe_intermediate_size", "num_shared_experts": "n_shared_experts",
    "num_expert_groups": "n_group", "num_expert_groups_per_tok": "topk_group",
}  # fmt: skip
_LATENT: Final = ("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
#: TensorRT-LLM's class -> the model type, of families whose configs have the same keys on the hub.
_TENSORRT: Final = {
    "LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral", "MixtralForCausalLM": "mixtral", "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma2", "PhiForCausalLM": "phi", "Phi3ForCausalLM": "phi3", "GPTNeoXForCausalLM": "gpt_neox",
    "DeepseekV2ForCausalLM": "deepseek_v2", "DeepseekV3ForCausalLM": "deepseek_v3", "DeepseekForCausalLM": "deepseek",
}  # fmt: skip
_OWN: Final = frozenset({"architecture", "quantization", "mapping", "head_size", "dtype"})
_OTHER_FILES: Final = {
    ".safetensors": "weights without a config", ".bin": "a PyTorch checkpoint, which kvplan does not open",
    ".pt": "a PyTorch checkpoint, which kvplan does not open", ".pth": "a PyTorch checkpoint, which kvplan does not open",
    ".ckpt": "a checkpoint, which kvplan does not open", ".nemo": "a NeMo archive", ".onnx": "an ONNX graph",
    ".engine": "a TensorRT engine", ".plan": "a TensorRT engine", ".mlmodel": "a Core ML model", ".tflite": "a TFLite model",
    ".h5": "a Keras model", ".msgpack": "a Flax checkpoint",
}  # fmt: skip


def as_hub_config(data: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """A config with the hub's keys: as it is, or translated.

    Raises:
        UnknownModel: it is the config of something else, and the message says of what.
        ConfigError: a key is missing or of the wrong type.
    """
    if data.get("model_type") not in (None, "", "transformer"):
        return data
    if isinstance(data.get("pretrained_config"), Mapping):
        return _tensorrt(Settings(data, source).section("pretrained_config"))
    if isinstance(data.get("architecture"), str) and "num_hidden_layers" in data:
        return _tensorrt(Settings(data, source))
    if {"dim", "n_layers", "n_heads"} <= data.keys():
        return _params(Settings(data, source))
    _refuse_others(data, source)
    return data


def refuse_file(path: Path) -> None:
    """Say what a file is that no config is in.

    Raises:
        UnknownModel: its ending says so.
    """
    what = _OTHER_FILES.get(path.suffix.lower())
    if what is not None:
        there = (path.parent / "config.json").is_file()
        hint = f"give its folder, `{path.parent}`" if there else "give the model's config.json, or its folder"
        raise UnknownModel(f"`{path}` is {what}", hint=hint)


def _refuse_others(data: Mapping[str, Any], source: str) -> None:
    if "peft_type" in data:
        raise adapter(data, source)
    if "_diffusers_version" in data:
        kind = data.get("_class_name")
        named = f" ({printable(kind, 60)})" if isinstance(kind, str) else ""
        raise UnknownModel(
            f"{source}: part of a diffusers pipeline{named}, which keeps no KV cache",
            hint="kvplan counts the caches of language models",
        )
    if "weight_map" in data:
        raise UnknownModel(f"{source}: the index of a checkpoint's tensors, not a config", hint="give the config.json beside it")
    if "tokenizer_class" in data and "architectures" not in data:
        raise UnknownModel(f"{source}: a tokenizer's config, not a model's", hint="give the config.json beside it")


def adapter(data: Mapping[str, Any], source: str) -> UnknownModel:
    """The error about an adapter, to be raised: it names the model that it adapts."""
    base, kind = data.get("base_model_name_or_path"), data.get("peft_type")
    what = f"a {printable(kind, 20)} adapter" if isinstance(kind, str) and kind.isalnum() else "an adapter"
    if not isinstance(base, str) or not base:
        return UnknownModel(f"{source}: {what}, which has no cache of its own", hint="name the model that it adapts")
    hint = f"`kvplan estimate {base}`" if is_hub_id(base) else "name that model; the adapter adds nothing to its cache"
    return UnknownModel(f"{source}: {what} of `{printable(base, 120)}`, which is the model that has the cache", hint=hint)


def _params(c: Settings) -> dict[str, Any]:
    """params.json: Mistral's writes the width of its feed-forward layers, Meta's what it is made from."""
    hidden = c.whole("dim", least=1)
    heads = c.whole("n_heads", least=1)
    found: dict[str, Any] = {
        "hidden_size": hidden,
        "num_hidden_layers": c.whole("n_layers", least=1, most=LAYERS),
        "num_attention_heads": heads,
        "num_key_value_heads": c.whole("n_kv_heads", heads, least=1),
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": c.flag("tied_embeddings"),
    }
    if c.has("head_dim"):
        found["head_dim"] = c.whole("head_dim", least=1)
    vocabulary = c.data.get("vocab_size")
    if isinstance(vocabulary, int) and vocabulary > 0:
        found["vocab_size"] = c.whole("vocab_size")
    elif vocabulary == -1:  # Llama 1 and 2: the tokenizer's
        found["vocab_size"] = 32_000
    if "hidden_dim" not in c.data:
        return {"model_type": "llama", **found, "intermediate_size": _metas_width(c, hidden)}
    found["intermediate_size"] = c.whole("hidden_dim", least=1)
    length = c.whole("max_seq_len", 0) or c.whole("max_position_embeddings", 0)
    if length:
        found["max_position_embeddings"] = length
    if c.section("quantization").text("qformat_weight").startswith("fp8"):
        found["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "static"}
    return _mistral(c, found)


def _metas_width(c: Settings, hidden: int) -> int:
    """Two thirds of four times the hidden size, times a multiplier, up to a multiple (`FeedForward.__init__`)."""
    width = int(2 * (4 * hidden) / 3)
    if c.has("ffn_dim_multiplier"):
        width = int(c.number("ffn_dim_multiplier") * width)
    step = c.whole("multiple_of", 256, least=1)
    return -(-width // step) * step


def _mistral(c: Settings, found: dict[str, Any]) -> dict[str, Any]:
    experts, windows = c.section("moe"), c.data.get("sliding_window")
    if c.has("kv_lora_rank"):
        renamed = {hub: experts.data[own] for own, hub in _EXPERTS.items() if own in experts.data}
        return {"model_type": "deepseek_v3", **found, **{key: c.data[key] for key in _LATENT if key in c.data}, **renamed}
    if experts.data:
        number = experts.whole("num_experts", least=1)
        chosen = experts.whole("num_experts_per_tok", 2, least=1)
        return {"model_type": "mixtral", **found, "num_local_experts": number, "num_experts_per_tok": chosen}
    if isinstance(windows, list) and 0 < len(windows) <= LAYERS:  # one of each layer in turn; null looks at everything
        kinds = ["full_attention" if size is None else "sliding_attention" for size in windows]
        layers = found["num_hidden_layers"]
        size = next((value for value in windows if value is not None), None)
        return {"model_type": "ministral", **found, "layer_types": (kinds * layers)[:layers], "sliding_window": size}
    return {"model_type": "mistral", **found, "sliding_window": windows}


def _tensorrt(c: Settings) -> dict[str, Any]:
    """TensorRT-LLM's checkpoint or engine config: the hub's keys but for the size of a head and the class's name."""
    name = c.text("architecture")
    model_type = _TENSORRT.get(name) or (c.text("qwen_type") if name.startswith(("Qwen", "QWen")) else "")
    if not model_type:
        raise ConfigError(
            f"{c.source}: TensorRT-LLM's `{printable(name, 60)}` is not one whose config kvplan reads",
            hint="give the config.json of the checkpoint that it was built from",
        )
    kept = {key: value for key, value in c.data.items() if key not in _OWN}
    if c.has("head_size"):
        kept["head_dim"] = c.whole("head_size", least=1)
    quant = c.section("quantization")
    cache = quant.text("kv_cache_quant_algo")
    if quant.text("quant_algo") or cache:
        algorithm = quant.text("quant_algo")
        kept["quantization_config"] = {"quant_method": "modelopt", "quant_algo": algorithm, "kv_cache_quant_algo": cache}
    return {**kept, "model_type": model_type, "torch_dtype": c.text("dtype", "bfloat16")}
