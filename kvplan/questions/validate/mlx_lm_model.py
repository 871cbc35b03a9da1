"""mlx-lm's own model and generation loop from a config, without computing anything: arrays know their shape, dtype and bytes.

mlx evaluates lazily. While `mx.eval` does nothing, the library's generation code runs on the model that it builds from the
full config, and every array in its prompt cache has the size that mlx gave it, although no memory was taken.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final

from kvplan.errors import EnvironmentMissing, InputError

#: Fields that a config may leave out and that never reach a cache: what the library is given for them.
NEUTRAL: Final[Mapping[str, Any]] = {
    "activation_sparsity_pattern": None, "add_full_attention_sink_bias": False, "add_swa_attention_sink_bias": False,
    "altup_active_idx": 0, "altup_coef_clip": 120.0, "altup_correct_scale": True, "altup_num_inputs": 4,
    "attention_bias": False, "attention_method": "MLA", "attention_multiplier": 1.0, "attn_logit_softcapping": 50.0,
    "block_auto_adjust_ff_dim": True, "block_ffn_dim_multiplier": 1.0, "block_multiple_of": 256,
    "conv_bias": False, "decoder_sparse_step": 1, "dim_model_base": 256, "embedding_multiplier": 1.0,
    "expert_ffn_hidden_size": 256, "expert_layer_offset": 1, "expert_layer_period": 2, "ffn_hidden_size": 256,
    "final_logit_softcapping": 30.0, "first_k_dense_replace": 1, "full_attn_idxs": None, "group_norm_size": 1,
    "head_dim": None, "hidden_act": "silu", "hidden_size_per_layer_input": 256, "hybrid_override_pattern": None,
    "index_n_heads": 8, "index_topk": 64, "interleave_moe_layer_step": 1, "intermediate_size": 256,
    "intermediate_size_mlp": 256, "laurel_rank": 8, "layer_norm_eps": 1e-5, "layer_norm_epsilon": 1e-5,
    "layernorm_epsilon": 1e-5, "linear_allow_neg_eigval": False, "logits_scaling": 1.0, "logits_soft_cap": 30.0,
    "mamba_proj_bias": False, "max_position_embeddings": 131_072, "mla_scale_kv_lora": True, "mla_scale_q_lora": True,
    "mlp_bias": False, "mlp_only_layers": [], "moe_intermediate_size": 256, "moe_k": 2, "moe_layer_freq": 1,
    "moe_num_experts": 8, "moe_router_activation_func": "sigmoid", "moe_topk": 2, "n_group": 1, "n_inner": 256,
    "n_routed_experts": 8, "n_shared_experts": 1, "no_rope_layer_interval": 4, "norm_eps": 1e-5, "norm_epsilon": 1e-5,
    "norm_topk_prob": True, "norm_type": "rmsnorm", "num_experts": 8, "num_experts_per_tok": 1, "num_local_experts": 8,
    "num_shared_expert": 1, "num_shared_experts": 1, "partial_rotary_factor": 1.0, "post_norm": False, "q_lora_rank": 256,
    "qk_norm": True, "query_pre_attn_scalar": 256.0, "residual_multiplier": 1.0, "rms_norm": True, "rms_norm_eps": 1e-5,
    "rope_freq_constant": 10_000.0, "rope_local_base_freq": 10_000.0, "rope_scaling": None, "rope_theta": 10_000.0,
    "rope_traditional": False, "rotary_dim": 64, "rotary_emb_base": 10_000.0, "rotary_pct": 0.25,
    "routed_scaling_factor": 1.0, "scale_depth": 1.4, "scale_emb": 12, "scoring_func": "sigmoid",
    "shared_expert_intermediate_size": 256, "shared_experts": 1, "shared_intermediate_size": 256, "swa_rope_theta": 10_000.0,
    "tie_word_embeddings": True, "time_step_limit": [0.0, float("inf")], "time_step_max": 0.1, "time_step_min": 0.001,
    "time_step_rank": 128, "topk_group": 1, "topk_method": "noaux_tc", "use_bias": False, "use_cache": True,
    "use_conv_bias": True, "use_mixed_mlp_moe": True, "use_qk_norm": True, "use_qkv_bias": False, "use_rope": True,
    "vocab_size": 1024, "vocab_size_per_layer_input": 1024, "zero_expert_num": 1, "zero_expert_type": "identity",
    "ffn_config": {"ffn_hidden_size": 256, "moe_num_experts": 4, "moe_top_k": 2},
    "rope_parameters": {"rope_theta": 10_000.0, "rope_type": "default"},
}  # fmt: skip
#: Errors that name a field in other words.
_SAID: Final = {"rope_theta is missing": "rope_theta", "either 'block_ff_dim' or 'intermediate_size'": "intermediate_size"}
_TRIES: Final = 16


def library() -> Any:
    """The modules that a run needs: `core` (mlx), `generate` and `utils` (mlx-lm), `versions` in words.

    Raises:
        EnvironmentMissing: one of them is not installed.
    """
    from importlib.metadata import version

    try:
        core, generate = import_module("mlx.core"), import_module("mlx_lm.generate")
        utils, cache = import_module("mlx_lm.utils"), import_module("mlx_lm.models.cache")
    except ImportError as problem:
        raise EnvironmentMissing(
            "mlx-lm is not installed, so its caches were not compared",
            hint="pip install mlx-lm on a Mac; on Linux also 'mlx[cpu]'",
        ) from problem
    return SimpleNamespace(core=core, generate=generate, utils=utils, cache=cache, version=version("mlx-lm"), mlx=version("mlx"))


@contextmanager
def unevaluated(core: Any) -> Iterator[None]:
    """Nothing is computed inside."""
    kept = core.eval, core.async_eval
    core.eval = core.async_eval = lambda *arrays, **named: None
    try:
        yield
    finally:
        core.eval, core.async_eval = kept


def built(lib: Any, config: Mapping[str, Any], dtype: str) -> Any:
    """The library's model, its weights cast as `mlx_lm.convert` casts them.

    Raises:
        InputError: the library cannot build it; its own words are in the message.
    """
    given = deepcopy(dict(config))
    for _ in range(_TRIES):
        try:
            model_class, arguments = lib.utils._get_classes(given)
            model = model_class(arguments.from_dict(given))
        except (Exception, SystemExit) as problem:  # whatever the library's classes raise about a config; OLMo's exits
            if not _filled(given, str(problem)):
                raise InputError(f"mlx-lm cannot build this model: {str(problem)[:200]}") from problem
        else:
            return _cast(lib.core, model, dtype)
    raise InputError("mlx-lm cannot build this model: too many fields of its config are missing")


def _filled(config: dict[str, Any], problem: str) -> bool:
    """Whether fields that the library misses could be given; they go where the text part is, if there is one."""
    missing = re.findall(r"'(\w+)'", problem.split("argument", 1)[1]) if "missing" in problem and "argument" in problem else []
    for word, name in _SAID.items():
        missing = [name] if word in problem else missing
    text = config.get("text_config")
    target = text if isinstance(text, dict) and ("Text" in problem or all(name in config for name in missing)) else config
    known = {**NEUTRAL, "block_dim": target.get("hidden_size")}  # LFM2's MLP is as wide as the model
    new = {name: known[name] for name in missing if name in known and name not in target}
    if not missing or set(missing) - new.keys():
        return False
    target |= new
    return True


def _cast(core: Any, model: Any, dtype: str) -> Any:
    from_tree = import_module("mlx.utils").tree_map_with_path
    allowed, wanted = getattr(model, "cast_predicate", lambda _: True), getattr(core, dtype)

    def cast(path: str, value: Any) -> Any:
        floating = isinstance(value, core.array) and core.issubdtype(value.dtype, core.floating)
        return value.astype(wanted) if floating and allowed(path) else value

    model.update(from_tree(cast, model.parameters()))
    model.eval()
    return model


def prompt_cache(lib: Any, model: Any, prompt: int, generated: int, sequences: int, options: Mapping[str, Any]) -> list[Any]:
    """The prompt cache after `prompt` tokens and `generated` more of each sequence.

    Args:
        options: `generate_step`'s, or the batch generator's for several sequences.

    Raises:
        InputError: the library fails; its own words are in the message.
    """
    try:
        if sequences == 1:
            return _generated(lib, model, prompt, generated, options)
        return _batched(lib, model, prompt, generated, sequences, options)
    except Exception as problem:  # whatever the library's code raises about this model or these options
        raise InputError(f"mlx-lm cannot run this: {type(problem).__name__}: {str(problem)[:200]}") from problem


def _first_token(core: Any) -> Any:
    """A sampler that needs no value."""
    return lambda logprobs: core.zeros(logprobs.shape[:-1], dtype=core.uint32)


def _generated(lib: Any, model: Any, prompt: int, generated: int, options: Mapping[str, Any]) -> list[Any]:
    cache: list[Any] = lib.cache.make_prompt_cache(model, options.get("max_kv_size"))
    named = {key: value for key, value in options.items() if key != "max_kv_size"}
    tokens = lib.core.zeros((prompt,), dtype=lib.core.int32)
    steps = lib.generate.generate_step(
        tokens, model, max_tokens=generated, sampler=_first_token(lib.core), prompt_cache=cache, **named
    )
    for _ in steps:
        pass
    return cache


def _batched(lib: Any, model: Any, prompt: int, generated: int, sequences: int, options: Mapping[str, Any]) -> list[Any]:
    known = {key: options[key] for key in ("prefill_step_size", "max_kv_size") if key in options}
    batch = lib.generate.BatchGenerator(
        model, max_tokens=generated + 2, sampler=_first_token(lib.core), prefill_batch_size=sequences, **known
    )
    batch.insert([[0] * prompt for _ in range(sequences)])
    rounds = -1
    while rounds < generated:
        batch.next()
        if len(batch._generation_batch) == sequences:
            rounds += 1
    cache: list[Any] = batch._generation_batch.prompt_cache
    return cache


def entry_arrays(lib: Any, entry: Any) -> list[Any]:
    """Every array that one entry of a prompt cache holds."""
    core = lib.core
    if isinstance(entry, core.array):
        return [entry]
    if isinstance(entry, list | tuple):
        return [array for part in entry for array in entry_arrays(lib, part)]
    for name in ("caches", "cache"):  # a CacheList, an ArraysCache
        if hasattr(entry, name):
            return entry_arrays(lib, getattr(entry, name))
    held = ("keys", "values", "window", "compress_kv", "index_k", "pending_kv", "pending_gate")
    return [array for name in held if getattr(entry, name, None) is not None for array in entry_arrays(lib, getattr(entry, name))]
