"""Which module of mlx-lm reads a model, and what kind of cache it makes.

This is the one file that looks at the config behind a model. A model without one (written by hand) gets the general rule:
full layers grow, sliding ones rotate, chunks are cut, latents stay latent.

Source: mlx_lm/utils.py:_get_classes, mlx_lm/models/cache.py:make_prompt_cache, mlx_lm/models/*.py:Model.make_cache; 0.32.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from kvplan.domain.model import Full, Latent, Model, Softmax
from kvplan.domain.origin import NO_SETTINGS, Settings
from kvplan.engines.mlx_lm.entries import Traits, entries
from kvplan.engines.mlx_lm.layers import Entry
from kvplan.engines.mlx_lm.readings import ASSUMED, CHANGES, Layers, assumed, divided

#: Model types that are read by another type's module: `utils.py:MODEL_REMAPPING`.
REMAPPING: Final[Mapping[str, str]] = {
    "mistral": "llama",
    "llava": "mistral3",
    "phi-msft": "phixtral",
    "falcon_mamba": "mamba",
    "joyai_llm_flash": "deepseek_v3",
    "kimi_k2": "deepseek_v3",
    "qwen2_5_vl": "qwen2_vl",
    "minimax_m2": "minimax",
    "iquestcoder": "llama",
    "xverse": "llama",
    "gemma4_unified": "gemma4",
    "deepseek_v41_text": "deepseek_v41",
}
# fmt: off
#: The class that makes a Ling 3: `utils.py:MODEL_ARCHITECTURE_REMAPPING`.
_V3: Final = "BailingMoeV3ForCausalLM"
#: Modules whose model has no `make_cache`: every layer a `KVCache`, or with `max_kv_size` a `RotatingKVCache`.
PLAIN: Final = frozenset({
    "Klear", "apertus", "bailing_moe", "bitnet", "cohere", "dbrx", "deepseek", "deepseek_v2", "deepseek_v3", "dots1",
    "ernie4_5", "ernie4_5_moe", "exaone", "gemma", "gemma2", "glm", "glm4", "glm4_moe", "glm4_moe_lite", "gpt2",
    "gpt_bigcode", "gpt_neox", "gptj", "granite", "granitemoe", "helium", "hunyuan", "hunyuan_v1_dense", "internlm2",
    "internlm3", "kimi_k25", "kimi_vl", "lille-130m", "llama4_text", "mimo", "minicpm", "minicpm3", "minimax", "mistral3",
    "mistral4", "mixtral", "nanochat", "nemotron", "olmo", "olmo2", "olmoe", "openelm", "phi", "phi3", "phi3small", "phimoe",
    "phixtral", "pixtral", "plamo", "qwen", "qwen2", "qwen2_moe", "qwen2_vl", "qwen3", "qwen3_moe", "qwen3_vl", "qwen3_vl_moe",
    "seed_oss", "smollm3", "solar_open", "stablelm", "starcoder2", "talkie", "telechat3", "youtu_llm",
})
#: Modules whose model makes its own cache, and so ignores `max_kv_size`.
OWN: Final = frozenset({
    "afm7", "afmoe", "baichuan_m1", "bailing_hybrid", "bailing_moe_linear", "bailing_moe_v3", "cohere2", "deepseek_v32",
    "deepseek_v41", "exaone4", "exaone_moe", "falcon_h1", "gear", "gemma3", "gemma3_text", "gemma3n", "gemma4", "gemma4_text",
    "glm_moe_dsa", "gpt_oss", "granitemoehybrid", "iquestloopcoder", "jamba", "kimi_k3", "kimi_linear", "laguna", "lfm2-vl",
    "lfm2", "lfm2_moe", "llama", "llama4", "longcat_flash", "longcat_flash_ngram", "mamba", "mamba2", "mellum",
    "mimo_v2_flash", "minimax_m3_vl", "ministral3", "muse_glimmer", "muse_spark", "nanbeige", "nemotron-nas", "nemotron_h",
    "olmo3", "olmo_hybrid", "plamo2", "plamo3", "prism_hadamard_qwen35", "qwen3_5", "qwen3_5_moe", "qwen3_next",
    "recurrent_gemma", "rwkv7", "spark2_5", "step3p5",
})
#: Modules whose sliding layers rotate; the others keep every token of a sliding layer.
ROTATES: Final = frozenset({
    "afmoe", "baichuan_m1", "cohere2", "exaone4", "exaone_moe", "gear", "gemma3", "gemma3_text", "gemma3n", "gemma4",
    "gemma4_text", "gpt_oss", "iquestloopcoder", "laguna", "llama", "mellum", "mimo_v2_flash", "ministral3", "muse_glimmer",
    "muse_spark", "olmo3", "plamo3", "recurrent_gemma", "spark2_5", "step3p5",
})
#: Modules that keep keys and values of every head, not the latent.
EXPANDED: Final = frozenset({"deepseek_v2", "minicpm3", "youtu_llm"})
#: Modules whose entries are lists of caches, never quantised.
LISTED: Final = frozenset({
    "baichuan_m1", "deepseek_v32", "falcon_h1", "glm_moe_dsa", "longcat_flash", "longcat_flash_ngram", "minimax_m3_vl",
})
#: Modules whose heads are as wide as the hidden size over the heads, whatever `head_dim` says.
DIVIDED: Final = frozenset({
    "apertus", "bailing_moe", "cohere", "deepseek", "gpt_neox", "granite", "granitemoe", "granitemoehybrid", "helium",
    "hunyuan", "internlm2", "internlm3", "jamba", "Klear", "lfm2", "lfm2-vl", "lfm2_moe", "mimo", "minicpm", "mixtral",
    "nanochat", "nemotron-nas", "phi", "phi3", "phi3small", "phimoe", "plamo", "qwen", "qwen2", "qwen2_moe", "qwen2_vl",
    "recurrent_gemma", "stablelm", "starcoder2",
})
#: Modules that keep every state in the activations' dtype, whatever the reference implementation does.
STATES_AS_MODEL: Final = frozenset({"bailing_moe_linear", "jamba", "mamba", "recurrent_gemma", "rwkv7"})
#: Modules whose dynamic rotary scaling computes with the offset as a number.
DYNAMIC: Final = frozenset({"internlm2", "minicpm"})
# fmt: on


class Reading(Struct, frozen=True, kw_only=True):
    """A model as mlx-lm reads it: the module (empty: the general rule), its layers, the prompt cache's entries in order."""

    module: str
    traits: Traits
    layers: Layers
    entries: tuple[Entry, ...]


def module_of(model: Model) -> str:
    """The module of `mlx_lm.models` that reads a model type; empty when the library has none."""
    name = REMAPPING.get(model.model_type, model.model_type)
    if name == "bailing_hybrid" and model.origin is not None and _V3 in model.origin.outer.names("architectures"):
        return "bailing_moe_v3"
    return name if name in PLAIN or name in OWN else ""


def traits_of(module: str, model: Model, setting: Settings) -> Traits:
    """What is known of a module; without one, what the layers themselves say."""
    if not module:
        plain = all(isinstance(m, Softmax | Latent) and m.reach == Full() for layer in model.layers for m in layer.memories)
        return Traits(plain=plain, rotates=True, chunks=True)
    return Traits(
        plain=module in PLAIN,
        rotates=module in ROTATES,
        chunks=module == "llama4",
        expands=module in EXPANDED,
        listed=module in LISTED,
        paired=module.startswith("longcat_flash"),
        states_as_model=module in STATES_AS_MODEL,
        empty_index_values=module == "minimax_m3_vl",
        compresses=module == "deepseek_v41",
        one_offset=module in DYNAMIC and setting.section("rope_scaling").data.get("type") == "dynamic",
    )


def read(model: Model, max_kv_size: int | None) -> Reading | None:
    """The prompt cache of a model; None when the library has no module for its type."""
    module = module_of(model)
    if not module and model.origin is not None:
        return None
    setting = model.origin.text if model.origin is not None else NO_SETTINGS
    change = CHANGES.get(module)
    layers = change(model.layers, setting) if change else model.layers
    if setting.data and module in ASSUMED:
        layers = assumed(layers, setting, *ASSUMED[module])
    if module in DIVIDED:
        layers = divided(layers, setting)
    traits = traits_of(module, model, setting)
    context = setting.whole("emb_neighbor_num", 4, least=1, most=1024) - 1 if module == "longcat_flash_ngram" else 0
    kept = entries(layers, traits, model.attention_heads, max_kv_size if traits.plain else None, context)
    return Reading(module=module, traits=traits, layers=layers, entries=kept)


def text_of(model: Model) -> Settings:
    """The text part of the model's config; nothing for a model without one."""
    return NO_SETTINGS if model.origin is None else model.origin.text
