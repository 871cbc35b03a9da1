"""What ExLlamaV3 makes of a model: the only file here that looks at a model's config.

Source: exllamav3 1.6.5, `model/config.py`, `architecture/*.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from kvplan.domain.model import Compressed, Index, Latent, Layer, Memory, Model, Recurrent, Softmax, Window
from kvplan.domain.origin import NO_SETTINGS, Origin, Settings
from kvplan.engines.exllamav3.architectures import ARCHITECTURES, BY_TYPE, GENERAL, Architecture
from kvplan.engines.exllamav3.reading import own_drafts, own_layers
from kvplan.errors import Refused

#: Where wrappers keep their text part, for a config that no other reader takes.
_TEXT_SECTIONS: Final = ("text_config", "llm_config")
_DEEPSTACK: Final = ("Qwen3VL", "Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration")
_EMBEDDING: Final = 160  # elements of a row of an n-gram embedding
_DEFAULT_DRAFT: Final = 4  # tokens; tabby create_cache, where a drafter names no size of its own


def described_by_hand(model: Model) -> bool:
    """Whether no config says what the layers are."""
    return model.origin is None


def named(model: Model) -> tuple[str, bool]:
    """The engine's name for the model's architecture, and whether its config gives that name itself.

    Raises:
        Refused: the config names another class, several, or no model type that the engine has a class for.
    """
    text_type = model.origin.text_type if model.origin else ""
    by_type = BY_TYPE.get(model.model_type) or BY_TYPE.get(text_type) or ""
    if model.origin is None:
        return by_type, False
    names = model.origin.outer.names("architectures")
    if len(names) > 1:
        raise Refused("Multiple architectures defined in config.json")
    if names and names[0] not in ARCHITECTURES:
        raise Refused(f"Unknown architecture {names[0][:60]} in config.json")
    if not names and not by_type:
        raise Refused(f"Unknown architecture: no class of ExLlamaV3 reads model type {model.model_type[:60]}")
    return (names[0], True) if names else (by_type, False)


def architecture(model: Model) -> Architecture:
    """The row for a model.

    Raises:
        Refused: as `named`.
    """
    name, _ = named(model)
    row = ARCHITECTURES[name] if name else GENERAL
    if model.origin is not None and model.origin.text_type == "mistral4":  # the same class, another text model
        return msgspec.structs.replace(row, splits=False, grouped=True)
    return row


def _keys(model: Model) -> Settings:
    """The text section's keys over those around it; null is absent."""
    if model.origin is None:
        return NO_SETTINGS
    sections = (model.origin.config, model.origin.text_config)
    data = {name: value for section in sections for name, value in section.items() if value is not None}
    return Settings(data, model.origin.source)


def refuse(model: Model) -> None:
    """Raise what the engine's config class would.

    Raises:
        Refused: an unknown architecture, a key that is missing or has a value that the class does not take.
        ConfigError: a key of another type than any class takes.
    """
    name, sure = named(model)
    if not name or model.origin is None:
        return
    row, keys = architecture(model), _keys(model)
    if sure:
        for wanted in row.needs:
            if not keys.has(wanted):
                raise Refused(f"Missing any of the following keys: ['{wanted}']")
    for wanted, value in row.expects.items():
        _refuse_value(keys, wanted, value)
    listed = keys.items("layer_types")
    if row.kinds and listed:
        _refuse_kinds(listed, row.kinds, keys.whole("num_hidden_layers"))
    if row.grouped:
        groups, top = keys.whole(row.groups_key, 1), keys.whole("topk_group", 1)
        if groups != 1 or top != 1:
            raise Refused(f"Group-limited expert routing (n_group = {groups}, topk_group = {top}) is not supported")
    _refuse_by_name(model, name, keys)


def _refuse_value(keys: Settings, name: str, value: Any) -> None:
    found = keys.data.get(name)
    if found is not None and found != value:
        raise Refused(f"Key {name} expected to have value {value} but was {str(found)[:60]}")


def _refuse_kinds(listed: tuple[Any, ...], kinds: tuple[str, ...], layers: int) -> None:
    if len(listed) != layers:
        raise Refused("Length of layer_types key doesn't match number of hidden layers")
    other = [kind for kind in listed if kind not in kinds]
    if other:
        raise Refused(f"Unknown layer type in layer_types: {str(other[0])[:40]}")


def _refuse_by_name(model: Model, name: str, keys: Settings) -> None:
    match name:
        case "Gemma4ForConditionalGeneration" | "Gemma4UnifiedForConditionalGeneration":
            if keys.whole("hidden_size_per_layer_input"):
                raise Refused("Gemma4 per-layer inputs are not implemented yet")
        case "MiMoV2ForCausalLM":
            _refuse_mimo(keys)
        case "Qwen2_5_VLForConditionalGeneration":
            if model.origin is not None and not model.origin.outer.has("hidden_size"):
                raise Refused("Missing any of the following keys: ['hidden_size']")
        case "Mistral3ForConditionalGeneration" if model.origin is not None and model.origin.text_type == "mistral4":
            scale = keys.number("routed_scaling_factor", 1.0)
            if scale != 1.0:
                raise Refused(f"routed_scaling_factor {scale} != 1.0 is not supported with softmax routing")
        case "GlmMoeDsaForCausalLM":
            kinds = keys.items("indexer_types")
            if kinds and (len(kinds) < keys.whole("num_hidden_layers") or {*kinds} - {"full", "shared"} or kinds[0] != "full"):
                raise Refused(f"Unexpected indexer_types: {str(kinds)[:60]}")
        case "DeepseekV4ForCausalLM":
            other = [ratio for ratio in keys.items("compress_ratios") if ratio not in (0, 4, 128)]
            if other:
                raise Refused(f"compress_ratios must be 0, 4 or 128, not {str(other[0])[:20]}")
        case "SmolLM3ForCausalLM":
            if any(kind != "full_attention" for kind in keys.items("layer_types")):
                raise Refused("SmolLM3: layers of another type than full_attention are not supported")
        case "Exaone4ForCausalLM":
            sliding = "sliding_attention" in keys.items("layer_types") or keys.has("sliding_window_pattern")
            if sliding and not keys.has("sliding_window"):
                raise Refused("layer_types requests sliding_attention but sliding_window is disabled")
        case "NemotronHForCausalLM" | "NemotronH_Omni_Reasoning_V3":
            if keys.whole("n_routed_experts", keys.whole("num_experts")):
                for wanted, value in (("n_group", 1), ("topk_group", 1), ("norm_topk_prob", True)):
                    _refuse_value(keys, wanted, value)
        case "Qwen3_5MoeForConditionalGeneration" | "Qwen4ExpForConditionalGeneration":
            if keys.flag("mtp_use_dedicated_embeddings"):
                raise Refused("MTP dedicated embeddings not currently supported")


def _refuse_mimo(keys: Settings) -> None:
    key_dim, heads = keys.whole("head_dim"), keys.whole("num_attention_heads")
    value_dim = keys.whole("v_head_dim", key_dim)
    if keys.whole("swa_head_dim", key_dim) != key_dim:
        raise Refused("MiMoV2: differing GA/SWA Q/K head dims are not supported (one cache geometry per model)")
    if value_dim > key_dim:
        raise Refused("Attn: v_head_dim > head_dim is not supported")
    if keys.whole("swa_v_head_dim", value_dim) != value_dim:
        raise Refused("MiMoV2: differing GA/SWA V head dims are not supported")
    if keys.whole("swa_num_attention_heads", heads) != heads:
        raise Refused("MiMoV2: differing GA/SWA query head counts are not supported")
    if 1 in keys.items("hybrid_layer_pattern") and not keys.whole("sliding_window"):
        raise Refused("MiMoV2: sliding_window must be set when the layer pattern uses SWA")
    if keys.whole("n_shared_experts"):
        raise Refused("MiMoV2: shared experts are not present in any published checkpoint")


def as_read(model: Model) -> Model:
    """The model as the engine's config class reads it; layers that are stored the same stay as they were read.

    Raises:
        Refused: as `named`, or a layer map that the class itself finds wrong.
    """
    name, _ = named(model)
    if not name or model.origin is None:
        return model
    keys = _keys(model).data
    layers, ahead = own_layers(name, model.origin.text_type, keys), own_drafts(name, keys)
    if layers is not None and [*map(_stored, layers)] != [_stored(layer.memories) for layer in model.layers]:
        model = replace(model, layers=_numbered(layers))
    if layers is not None and ahead is not None:
        model = replace(model, drafts=_numbered(ahead))
    return model


def _numbered(rows: list[tuple[Memory, ...]]) -> tuple[Layer, ...]:
    return tuple(Layer(index=i, memories=memories) for i, memories in enumerate(rows))


def _stored(memories: tuple[Memory, ...]) -> tuple[object, ...]:
    """What decides a layer's storage; a window stays, because some architectures keep rings."""
    found: list[object] = []
    for memory in memories:
        match memory:
            case Softmax(reach=reach):
                kept = reach.size if isinstance(reach, Window) else reach if isinstance(reach, Compressed) else None
                found.append((memory.kv_heads, memory.key_dim, memory.value_dim, kept))
            case Latent():
                found.append((memory.rank, memory.rope_dim))
            case Index(reach=reach):
                found.append((memory.dim * memory.heads, reach if isinstance(reach, Compressed) else None))
            case Recurrent():
                found.append((memory.kind, [(state.shape, state.kernel) for state in memory.states]))
            case _:
                found.append(memory)
    return tuple(found)


def draft_tokens(model: Model) -> int | None:
    """Tokens that the model's own prediction layers draft at a time; None where the engine has no such component for it."""
    row = architecture(model)
    if row.draft_tokens is None or not model.drafts:
        return None
    if row.draft_tokens == -1:  # one after the other: as many as there are layers
        return len(model.drafts)
    return row.draft_tokens or _keys(model).whole("dspark_block_size")


def default_draft(model: Model) -> int:
    """Tokens that a drafter of its own drafts at a time: a block less one for DFlash, TabbyAPI's 4 for any other model."""
    name, _ = named(model)
    if not name.startswith(("DFlash", "MuseGlimmerAssistant")):
        return _DEFAULT_DRAFT
    keys = _keys(model)
    block = keys.whole("block_size", keys.section("dflash_config").whole("block_size", 1))
    return max(block - 1, 0)


def interrupted(model: Model) -> bool:
    """Whether image features join between the first layers, so that no layer map is taken. Source: `architecture/qwen3.py`."""
    if model.origin is None or len(model.layers) < 2 or not named(model)[0].startswith(_DEEPSTACK):
        return False
    return bool(model.origin.outer.section("vision_config").items("deepstack_visual_indexes"))


def refuse_embedding(model: Model) -> None:
    """Raise for n-gram embeddings of another width than the kernels have. Source: `modules/ngram_embedding.py`.

    Raises:
        Refused: another width.
    """
    keys = _keys(model)
    heads = (keys.whole("ngram_size", 3) - 1) * keys.whole("heads_per_ngram", 8)
    width = keys.whole("ple_embed_dim", _EMBEDDING * heads) // max(heads, 1)
    if width != _EMBEDDING and model.origin is not None:
        raise Refused(f"expected {_EMBEDDING}-D embedding rows, got {width}")


def trained_tokens(model: Model) -> int | None:
    """`max_position_embeddings` as TabbyAPI reads it. Source: tabby `common/transformers_utils.py`."""
    if model.origin is None:
        return model.max_tokens
    return _keys(model).whole("max_position_embeddings") or None


def rotary_part(model: Model) -> int:
    """Elements of a DeepSeek-V4 entry that carry the position. Source: `architecture/deepseek_v4.py`."""
    return _keys(model).whole("qk_rope_head_dim", 64)


def entry_ratio(model: Model, ratio: int, *, indexed: bool) -> int:
    """Tokens that an entry of DeepSeek-V4 stands for: the class's own keys, not the list's number."""
    if model.origin is None:
        return ratio
    keys = _keys(model)
    return keys.whole("compress_rate_csa", 4) if indexed else keys.whole("compress_rate_hca", 128)


def index_ratio(model: Model) -> int:
    """Tokens that one pooled index key stands for (QSA)."""
    return _keys(model).whole("indexer_compress_ratio", 4)


def from_config(config: Mapping[str, Any], name: str) -> Model | None:
    """A model by the engine's own reading alone, for a config that no other reader takes; None where it cannot be read.

    A drafter names sliding layers under the model type of another family; an architecture may be new to the rest of kvplan.

    Raises:
        Refused: the engine's class does not take the config.
    """
    text = next((config[key] for key in _TEXT_SECTIONS if isinstance(config.get(key), Mapping)), config)
    text_type = str(text.get("model_type") or "")
    model_type = str(config.get("model_type") or text_type)
    origin = Origin(config=config, text_config=text, text_type=text_type)
    unread = Model(name=name or model_type, model_type=model_type, layers=(Layer(index=0),), origin=origin)
    refuse(unread)
    layers = own_layers(named(unread)[0], text_type, _keys(unread).data)
    return replace(unread, layers=_numbered(layers)) if layers else None
