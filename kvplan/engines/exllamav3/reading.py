"""ExLlamaV3's own reading of a config: the layers that each architecture's classes build, and their prediction layers.

The engine goes by the class that a config names and by its own defaults, where other libraries go by the model type and theirs.
A config that lacks what a class insists on cannot be read so, and the model's layers are taken as they are.

Source: exllamav3 1.6.5, `architecture/*.py`; the class is named at each reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kvplan.domain.model import Index, Memory, ModelError, Softmax, Window
from kvplan.engines.exllamav3 import attention, recurrent
from kvplan.engines.exllamav3.keys import MAX_LAYERS, Keys, Rows, Unreadable, heads_of, latent, softmax


def own_layers(name: str, text_type: str, config: Mapping[str, Any]) -> Rows | None:
    """Each layer's memories as the class of architecture `name` reads the config; None where it lacks a key that is needed.

    Raises:
        Refused: a layer map that the class itself finds wrong.
    """
    reader = _READERS.get(name, attention.plain)
    if text_type == "mistral4":
        reader = attention.mla
    try:
        return reader(Keys(config))
    except (Unreadable, ModelError, ZeroDivisionError):
        return None


def own_drafts(name: str, config: Mapping[str, Any]) -> Rows | None:
    """The prediction layers that the class builds for drafting; None where the config cannot be read."""
    reader = _DRAFTS.get(name)
    try:
        return list(reader(Keys(config))) if reader else []
    except (Unreadable, ModelError, ZeroDivisionError):
        return None


_READERS: Final[dict[str, Callable[[Keys], Rows]]] = {
    "AfmoeForCausalLM": attention.sliding,
    "BailingMoeV3ForCausalLM": recurrent.ling,
    "DFlash2DraftModel": attention.maybe_sliding,
    "DFlashDraftModel": attention.maybe_sliding,
    "DeciLMForCausalLM": attention.decilm,
    "DeepseekV3ForCausalLM": attention.mla,
    "DeepseekV4ForCausalLM": attention.deepseek_v4,
    "Gemma3ForCausalLM": attention.gemma3,
    "Gemma3ForConditionalGeneration": attention.gemma3,
    "Gemma4ForConditionalGeneration": attention.gemma4,
    "Gemma4UnifiedForConditionalGeneration": attention.gemma4,
    "Glm4MoeLiteForCausalLM": attention.mla,
    "Glm5NextForConditionalGeneration": recurrent.glm5_next,
    "GlmMoeDsaForCausalLM": attention.indexed_mla,
    "GptOssForCausalLM": attention.sliding,
    "KimiLinearForCausalLM": recurrent.kimi_linear,
    "LagunaForCausalLM": attention.sliding,
    "Lfm2ForCausalLM": recurrent.lfm2,
    "Lfm2MoeForCausalLM": recurrent.lfm2,
    "Lfm2VlForConditionalGeneration": recurrent.lfm2,
    "MiMoV2ForCausalLM": attention.mimo_v2,
    "MuseGlimmerAssistantModel": attention.maybe_sliding,
    "MuseGlimmerForConditionalGeneration": attention.sliding,
    "NemotronHForCausalLM": recurrent.nemotron,
    "NemotronH_Omni_Reasoning_V3": recurrent.nemotron,
    "OlmoHybridForCausalLM": recurrent.qwen3_5,
    "Qwen3NextForCausalLM": recurrent.qwen3_next,
    "Qwen3_5ForCausalLM": recurrent.qwen3_5,
    "Qwen3_5ForConditionalGeneration": recurrent.qwen3_5,
    "Qwen3_5MoeForCausalLM": recurrent.qwen3_5,
    "Qwen3_5MoeForConditionalGeneration": recurrent.qwen3_5,
    "Qwen4ExpForConditionalGeneration": recurrent.qwen4,
    "Spark2_5ForCausalLM": attention.maybe_sliding,
    "Step3p5ForCausalLM": attention.step,
    "Step3p7ForConditionalGeneration": attention.step,
}


def _drafts_of(key: str, layer: Callable[[Keys], tuple[Memory, ...]]) -> Callable[[Keys], Iterator[Any]]:
    """As many layers as the key says, all alike."""

    def read(c: Keys) -> Iterator[tuple[Memory, ...]]:
        for _ in range(min(c.number(key, 0), MAX_LAYERS)):
            yield layer(c)

    return read


def _nemotron_drafts(c: Keys) -> Iterator[tuple[Memory, ...]]:
    if c.number("num_nextn_predict_layers", 0):
        pattern = c.text("mtp_hybrid_override_pattern") or recurrent.pattern_of(c, "mtp_layers_block_type", "")
        for letter in pattern:
            yield (softmax(*heads_of(c)),) if letter == "*" else ()


def _deepseek_v4_drafts(c: Keys) -> Iterator[tuple[Memory, ...]]:
    extra = len(c.items("compress_ratios") or ()) - c.layers()
    ring = Softmax(kv_heads=1, key_dim=c.number("head_dim", 512), value_dim=0, reach=Window(c.number("sliding_window", 128)))
    for _ in range(extra):
        yield (ring,)


def _mimo_v2_draft(c: Keys) -> tuple[Memory, ...]:
    kv_heads, dim = heads_of(c)
    own = c.number("swa_num_key_value_heads", kv_heads)
    return (softmax(own, dim, c.number("sliding_window", 0), c.number("v_head_dim", dim)),)


_NEXTN: Final = "num_nextn_predict_layers"
_DRAFTS: Final[dict[str, Callable[[Keys], Iterator[Any]]]] = {
    "BailingMoeV3ForCausalLM": _drafts_of(_NEXTN, lambda c: (latent(c),)),
    "DeepseekV4ForCausalLM": _deepseek_v4_drafts,
    "Glm4MoeLiteForCausalLM": _drafts_of(_NEXTN, lambda c: (latent(c),)),
    "Glm5NextForConditionalGeneration": _drafts_of(_NEXTN, lambda c: (latent(c, 0), recurrent.pooled_index(c))),
    "GlmMoeDsaForCausalLM": _drafts_of(_NEXTN, lambda c: (latent(c), Index(dim=c.number("index_head_dim")))),
    "HYV3ForCausalLM": _drafts_of(_NEXTN, lambda c: (softmax(*heads_of(c)),)),
    "MiMoV2ForCausalLM": _drafts_of(_NEXTN, _mimo_v2_draft),
    "NemotronHForCausalLM": _nemotron_drafts,
    "NemotronH_Omni_Reasoning_V3": _nemotron_drafts,
    "Qwen3_5ForConditionalGeneration": _drafts_of("mtp_num_hidden_layers", lambda c: (softmax(*heads_of(c)),)),
    "Qwen3_5MoeForConditionalGeneration": _drafts_of("mtp_num_hidden_layers", lambda c: (softmax(*heads_of(c)),)),
    "Qwen4ExpForConditionalGeneration": _drafts_of(
        "mtp_num_hidden_layers", lambda c: (softmax(*heads_of(c)), Index(dim=c.number("indexer_head_dim")))
    ),
}
