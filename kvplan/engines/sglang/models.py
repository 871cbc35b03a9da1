"""A model as SGLang's `ModelConfig` sees it: the only module here that looks at the raw config.

SGLang asks a model's class name what to store, not what the model remembers: a latent, a sliding pool or states exist for the
classes that it lists (`classes`), and every other layer stores full keys and values, layers that share another's included.

Source: sglang 0.5.23, `srt/configs/model_config.py:ModelConfig`, `srt/utils/hf_transformers/common.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from kvplan.domain.model import Chunk, Compressed, Cross, Full, Index, Latent, Layer, Model, Recurrent, Softmax, State, Window
from kvplan.engines.sglang import classes, defaults
from kvplan.engines.sglang.config import (
    DTYPES,
    checkpoint_cache,
    derived_context,
    model_dtype,
    multimodal,
    nvfp4_experts,
    tower,
    whole,
)
from kvplan.engines.sglang.options import SglangOptions
from kvplan.engines.sglang.reading import Reading, Sparse

_LONGEST_NAME: Final = 100
#: Loops that a config class of SGLang's own assumes (`configs/nanbeige.py`).
_LOOPS: Final[Mapping[str, int]] = {"nanbeige": 2}


def read(model: Model, options: SglangOptions) -> Reading:
    """`model` through SGLang's eyes."""
    config, text = _config(model)
    arch = _architecture(model, config)
    loops, model = _loops(model, text), replace(model, layers=model.own_layers, loop=None)
    latent = _first(model, Latent) if _stores_latent(arch, model) else None
    splits = _has_sliding_pool(arch, text, options) and arch != classes.COMPRESSED
    sliding = _sliding(model, arch, text) if splits else ()
    state, state_layers = _states(model, text)
    return Reading(
        name=model.name,
        architecture=arch,
        text_type=model.text_type,
        hidden_layers=_hidden_layers(model, arch, text),
        layers=_stored_layers(model, arch, text, loops),
        loops=loops,
        heads=None if latent else _heads(model, arch, text, sliding),
        sliding_heads=_sliding_heads(model, sliding),
        sliding=sliding,
        splits=splits,
        sinks=_sinks(arch, text),
        latent=latent,
        index=_first(model, Index) if arch in classes.SPARSE_LATENT or (latent and not arch) else None,
        index_layers=tuple(layer.index for layer in model.layers if _has(layer, Index)),
        index_kpool=whole(config, "index_kpool") or whole(text, "index_kpool") or 1,
        attention=_attention(model, arch, text) if state else None,
        state=state,
        state_layers=state_layers,
        state_dtype=_state_dtype(model, config, text, options),
        hidden_size=whole(text, "hidden_size") or 0,
        sparse=_sparse(arch, config, text),
        ratios=_ratios(model) if arch == classes.COMPRESSED else (),
        ratio_entries=len(ratios) if isinstance(ratios := text.get("compress_ratios"), list) else len(model.layers),
        rope_dim=whole(text, "qk_rope_head_dim") or 64,
        window=_window(model, arch, text, sliding),
        encoder=_first(model, Cross) if arch in classes.ENCODERS else None,
        context=options.context_length or derived_context(model, text),
        derived_context=derived_context(model, text),
        dtype=model_dtype(model, arch, config, text, options),
        draft_layers=_draft_layers(model, text),
        multimodal=multimodal(model.model_type, arch, config, options),
        tower=tower(model.model_type, config),
        text_only=bool(config.get("language_model_only")),
        full_window_pattern=arch.startswith("Exaone") and text.get("sliding_window_pattern") is not None,
        checkpoint_cache=checkpoint_cache(config),
        nvfp4_experts=arch in classes.MINIMAX_SPARSE and nvfp4_experts(config),
        unknown=_unknown(model, arch, config),
    )


def longest_request(model: Model) -> int:
    """Tokens of the longest request that it takes unasked."""
    return derived_context(model, _config(model)[1])


def _config(model: Model) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The config as the file said it, and its text section: empty for a model that was described by hand."""
    return (model.origin.config, model.origin.text_config) if model.origin is not None else ({}, {})


def with_own_windows(model: Model, reading: Reading) -> Reading:
    """The reading with a pool for the model's own windows, which its class would not have."""
    sliding = _sliding(model, "", _config(model)[1])
    heads = _heads(model, "", {}, sliding)
    return replace(reading, sliding=sliding, splits=bool(sliding), sliding_heads=_sliding_heads(model, sliding), heads=heads)


def architecture(model: Model) -> str:
    """The class that SGLang would serve the model with, "" when neither the file nor its type names one."""
    return _architecture(model, _config(model)[0])


def _architecture(model: Model, config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    if isinstance(named, list | tuple) and named and isinstance(named[0], str) and len(named[0]) <= _LONGEST_NAME:
        return named[0]
    return classes.BY_TYPE.get(model.model_type) or classes.BY_TYPE.get(model.text_type, "")


def _has(layer: Layer, *kinds: type) -> bool:
    return any(isinstance(memory, kinds) for memory in layer.memories)


def _first(model: Model, kind: type[Any]) -> Any:
    return next((memory for layer in model.layers for memory in layer.memories if isinstance(memory, kind)), None)


def _stores_latent(arch: str, model: Model) -> bool:
    """By class; a model that names none is taken at its word."""
    return arch in classes.LATENT or not arch


def _hidden_layers(model: Model, arch: str, text: Mapping[str, Any]) -> int:
    """LongCat has two attentions a layer, which are two layers of the model here."""
    return len(model.layers) // 2 if arch == "LongcatFlashForCausalLM" else len(model.layers)


def _stored_layers(model: Model, arch: str, text: Mapping[str, Any], loops: int) -> int:
    """`ModelConfig.num_attention_layers` and loops: Whisper's encoder and cross-attention layers have rows too."""
    if arch == "WhisperForConditionalGeneration":
        return (whole(text, "encoder_layers") or 0) + 2 * (whole(text, "decoder_layers") or len(model.layers))
    return len(model.layers) * loops


def _loops(model: Model, text: Mapping[str, Any]) -> int:
    """`layer_setup.py:_get_loop_num`: the class has as many rows a layer, and looks neither at windows nor at loss weights."""
    loops = whole(text, "loop_num") or whole(text, "num_loops") or _LOOPS.get(model.text_type)
    return loops or (model.loop.passes if model.loop is not None and model.loop.kept == "each" else 1)


def _heads(model: Model, arch: str, text: Mapping[str, Any], sliding: tuple[int, ...]) -> Softmax | None:
    """Keys and values of a layer that keeps every token; latents of classes that SGLang does not know as such are expanded."""
    latent = _first(model, Latent)
    if latent is not None and _first(model, Softmax) is None:
        heads = whole(text, "num_attention_heads") or latent.heads
        key = (
            whole(text, "head_dim")
            or (whole(text, "hidden_size") or 0) // heads
            or latent.nope_dim + latent.rope_dim
            or latent.rank
        )
        value = whole(text, "v_head_dim") or key
        return Softmax(kv_heads=whole(text, "num_key_value_heads") or heads, key_dim=key, value_dim=value)
    found = [(layer.index, memory) for layer in model.layers for memory in layer.memories if isinstance(memory, Softmax)]
    everything = [memory for index, memory in found if index not in sliding and isinstance(memory.reach, Full)]
    chosen = next(iter(everything), None) or next((memory for _, memory in found), None)
    if chosen is None:
        return _cross_heads(model)
    return Softmax(kv_heads=chosen.kv_heads, key_dim=chosen.key_dim, value_dim=chosen.value_dim)


def _cross_heads(model: Model) -> Softmax | None:
    cross = _first(model, Cross)
    return None if cross is None else Softmax(kv_heads=cross.kv_heads, key_dim=cross.key_dim, value_dim=cross.value_dim)


def _has_sliding_pool(arch: str, text: Mapping[str, Any], options: SglangOptions) -> bool:
    """`is_hybrid_swa_model`."""
    listed = arch in classes.SLIDING_POOLS or bool(text.get("is_hybrid_swa"))
    if arch == "LagunaForCausalLM" and not text.get("sliding_window"):
        return False
    return listed and not options.disable_hybrid_swa_memory


def _sliding(model: Model, arch: str, text: Mapping[str, Any]) -> tuple[int, ...]:
    """`get_hybrid_layer_ids`: Llama 4 goes by the layer's number, the others by what the config says of it."""
    if arch == classes.LLAMA4:
        return tuple(layer.index for layer in model.layers if (layer.index + 1) % 4)
    types = text.get("layer_types")
    if isinstance(types, list) and len(types) >= len(model.layers) and "sliding_attention" in types:
        return tuple(i for i, kind in enumerate(types[: len(model.layers)]) if kind == "sliding_attention")
    return tuple(layer.index for layer in model.layers if any(isinstance(_reach(m), Window | Chunk) for m in layer.memories))


def _sinks(arch: str, text: Mapping[str, Any]) -> bool:
    """`ModelConfig.has_attention_sinks`."""
    if arch in classes.MIMO:
        return bool(text.get("add_swa_attention_sink_bias") or text.get("add_full_attention_sink_bias"))
    return arch in classes.SINKS or bool(text.get("learnable_sink"))


def _reach(memory: object) -> object:
    return getattr(memory, "reach", None)


def _sliding_heads(model: Model, sliding: tuple[int, ...]) -> Softmax | None:
    for index in sliding:
        for memory in model.layers[index].memories:
            if isinstance(memory, Softmax):
                return Softmax(kv_heads=memory.kv_heads, key_dim=memory.key_dim, value_dim=memory.value_dim)
    return None


def _window(model: Model, arch: str, text: Mapping[str, Any], sliding: tuple[int, ...]) -> int | None:
    """What `resolve_sliding_window_size` hands to the pools; classes with a method of their own leave the token itself out."""
    if arch == "EmbeddingGemma2Model":
        return 512
    sizes = [m.reach.size for i in sliding for m in model.layers[i].memories if isinstance(_reach(m), Window | Chunk)]  # type: ignore[union-attr]
    given = next((whole(text, key) for key in ("sliding_window_size", "sliding_window", "window_size") if whole(text, key)), None)
    size = given or (sizes[0] if sizes else None) or whole(text, "attention_chunk_size")
    return None if size is None else size - 1 if arch in classes.WINDOW_LESS_ONE else size


def _states(model: Model, text: Mapping[str, Any]) -> tuple[Recurrent | None, tuple[int, ...]]:
    """States, for the config classes that SGLang knows to have them; models without a config are taken at their word."""
    if model.origin is not None and model.text_type not in classes.STATEFUL:
        return None, ()
    layers = tuple(layer.index for layer in model.layers if _has(layer, Recurrent))
    if model.text_type == "zaya":
        layers = _attention(model, "", text)
    if not layers:
        return None, ()
    return _ling_state(text) if model.text_type == "bailing_hybrid" else _first(model, Recurrent), layers


def _ling_state(text: Mapping[str, Any]) -> Recurrent:
    """Ling's states are as wide as its attention heads here. Source: `configs/bailing_hybrid.py:BailingHybridConfig`."""
    heads = whole(text, "num_attention_heads") or 1
    width = whole(text, "head_dim") or (whole(text, "hidden_size") or heads) // heads
    matrix = State(name="delta", shape=(heads, width, width), dtype="float32")
    kernel = whole(text, "short_conv_kernel_size")
    if kernel is None:
        return Recurrent(kind="linear", states=(matrix,))
    return Recurrent(kind="kda", states=(State(name="conv", shape=(3 * heads * width,), kernel=kernel), matrix))


def folds_layers(model: Model) -> bool:
    """Whether a ZAYA config is in transformers' own form, each of whose layers is attention and experts.

    0.5.23 knows Zyphra's older form only, whose layers alternate, and reads this one as if it were that. Source: 0.5.23
    `configs/zaya.py:full_attention_layer_ids`, `models/zaya.py:load_weights`; later source has `checkpoint_format`.
    """
    if model.text_type != "zaya" or model.origin is None:
        return False
    text = model.origin.text_config
    older = any(text.get(key) for key in ("activation_func", "ffn_hidden_size", "zaya_layers"))
    return not older and any(text.get(key) for key in ("layer_types", "moe_intermediate_size"))


def _attention(model: Model, arch: str, text: Mapping[str, Any]) -> tuple[int, ...]:
    """`full_attention_layer_ids` of a hybrid's config class."""
    if model.text_type == "zaya":
        kinds = text.get("zaya_layers")
        if isinstance(kinds, list) and kinds:
            return tuple(i for i, kind in enumerate(kinds) if kind == "a")
        return tuple(range(0, len(model.layers), 2))
    return tuple(layer.index for layer in model.layers if _has(layer, Softmax, Latent))


def _state_dtype(model: Model, config: Mapping[str, Any], text: Mapping[str, Any], options: SglangOptions) -> str:
    """The recurrent part's dtype: the flag's, the config's where the class reads it, else float32.

    Source: `configs/mamba_utils.py:mamba2_state_dtype`. `mamba_ssm_cache_dtype` is a key that SGLang does not read.
    """
    if options.mamba_ssm_dtype:
        return options.mamba_ssm_dtype
    if model.text_type in classes.STATE_DTYPE_READ:
        named = DTYPES.get(str(text.get("mamba_ssm_dtype", config.get("mamba_ssm_dtype"))))
        if named:
            return named
    return "float32"


def _sparse(arch: str, config: Mapping[str, Any], text: Mapping[str, Any]) -> Sparse | None:
    """`get_minimax_sparse_attention_config`."""
    found = text.get("sparse_attention_config") or config.get("sparse_attention_config")
    if arch not in classes.MINIMAX_SPARSE or not isinstance(found, Mapping):
        return None
    flags, values = found.get("sparse_attention_freq"), found.get("sparse_disable_index_value")
    layers = tuple(i for i, flag in enumerate(flags) if flag) if isinstance(flags, list) else ()
    without = {i for i, flag in enumerate(values) if flag} if isinstance(values, list) else set()
    return Sparse(dim=whole(found, "sparse_index_dim") or 0, layers=layers, keys_only=tuple(i for i in layers if i in without))


def _ratios(model: Model) -> tuple[int, ...]:
    """DeepSeek V4: how many tokens one compressed entry of each layer stands for; 0 where there is only a window."""
    return tuple(
        max((m.reach.ratio for m in layer.memories if isinstance(m, Softmax) and isinstance(m.reach, Compressed)), default=0)
        for layer in model.layers
    )


def _draft_layers(model: Model, text: Mapping[str, Any]) -> int | None:
    """`num_nextn_predict_layers`, as the config class has it."""
    given = text.get("num_nextn_predict_layers", defaults.DRAFT_LAYERS.get(model.text_type))
    return given if isinstance(given, int) and not isinstance(given, bool) else None


def _unknown(model: Model, arch: str, config: Mapping[str, Any]) -> str:
    """Why kvplan cannot follow SGLang for this model, if so."""
    if "deepseek_v41" in {model.model_type, model.text_type}:
        return "DeepSeek-V4.1 has pools of its own, which kvplan does not know"
    if arch in classes.UNKNOWN or model.text_type in {"qwen4_exp", "qwen4_exp_text"}:
        return f"{arch or model.model_type} keeps more beside its cache than kvplan knows"
    if model.model_type == "vibevoice" and isinstance(config.get("decoder_config"), Mapping):
        return "SGLang does not read `decoder_config`: it would size another model"
    return ""
