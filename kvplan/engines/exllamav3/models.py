"""What ExLlamaV3 makes of a model: the only file here that looks at a model's config.

Source: exllamav3 1.6.5, `model/config.py`, `architecture/*.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from kvplan.engines.exllamav3.architectures import ARCHITECTURES, BY_TYPE, GENERAL, Architecture
from kvplan.engines.exllamav3.reading import own_drafts, own_layers
from kvplan.engines.exllamav3.refusals import Refused
from kvplan.model import Compressed, Index, Latent, Layer, Memory, Model, Recurrent, Softmax, Window


def named(model: Model) -> tuple[str, bool]:
    """The engine's name for the model's architecture, and whether its config gives that name itself.

    Raises:
        Refused: the config names another class, several, or no model type that the engine has a class for.
    """
    config = model.config
    if config is None:
        return BY_TYPE.get(model.model_type) or BY_TYPE.get(model.text_type) or "", False
    names = config.get("architectures")
    if names:
        if not isinstance(names, list | tuple) or len(names) != 1:
            raise Refused("Multiple architectures defined in config.json")
        if names[0] not in ARCHITECTURES:
            raise Refused(f"Unknown architecture {str(names[0])[:60]} in config.json")
        return str(names[0]), True
    found = BY_TYPE.get(model.model_type) or BY_TYPE.get(model.text_type)
    if found is None:
        raise Refused(f"Unknown architecture: no class of ExLlamaV3 reads model type {model.model_type[:60]}")
    return found, False


def architecture(model: Model) -> Architecture:
    """The row for a model.

    Raises:
        Refused: as `named`.
    """
    name, _ = named(model)
    row = ARCHITECTURES[name] if name else GENERAL
    if model.text_type == "mistral4":  # the same class, another text model
        return msgspec.structs.replace(row, splits=False, grouped=True)
    return row


def key(model: Model, name: str, default: Any = None) -> Any:
    """A key of the text section, or of the whole config, or `default`; null counts as absent, as the engine has it."""
    for section in (model.text_config, model.config):
        if section is not None and section.get(name) is not None:
            return section[name]
    return default


def refuse(model: Model) -> None:
    """Raise what the engine's config class would.

    Raises:
        Refused: an unknown architecture, a key that is missing or has a value that the class does not take.
    """
    name, sure = named(model)
    if not name or model.config is None:
        return
    row = architecture(model)
    if sure:
        for wanted in row.needs:
            if key(model, wanted) is None:
                raise Refused(f"Missing any of the following keys: ['{wanted}']")
    for wanted, value in row.expects.items():
        found = key(model, wanted)
        if found is not None and found != value:
            raise Refused(f"Key {wanted} expected to have value {value} but was {str(found)[:60]}")
    listed = key(model, "layer_types")
    if row.kinds and listed:
        _refuse_kinds(list(listed) if isinstance(listed, list | tuple) else [], row.kinds, key(model, "num_hidden_layers"))
    if row.grouped:
        groups, top = key(model, row.groups_key, 1), key(model, "topk_group", 1)
        if groups != 1 or top != 1:
            raise Refused(f"Group-limited expert routing (n_group = {groups}, topk_group = {top}) is not supported")
    _refuse_by_name(model, name)


def _refuse_kinds(listed: list[Any], kinds: tuple[str, ...], layers: Any) -> None:
    if len(listed) != layers:
        raise Refused("Length of layer_types key doesn't match number of hidden layers")
    other = [kind for kind in listed if kind not in kinds]
    if other:
        raise Refused(f"Unknown layer type in layer_types: {str(other[0])[:40]}")


def _refuse_by_name(model: Model, name: str) -> None:
    match name:
        case "Gemma4ForConditionalGeneration" | "Gemma4UnifiedForConditionalGeneration":
            if key(model, "hidden_size_per_layer_input", 0):
                raise Refused("Gemma4 per-layer inputs are not implemented yet")
        case "MiMoV2ForCausalLM":
            dims = key(model, "head_dim"), key(model, "v_head_dim", key(model, "head_dim"))
            own = key(model, "swa_head_dim", dims[0]), key(model, "swa_v_head_dim", dims[1])
            if own[0] != dims[0]:
                raise Refused("MiMoV2: differing GA/SWA Q/K head dims are not supported (one cache geometry per model)")
            if dims[0] and dims[1] and dims[1] > dims[0]:
                raise Refused("Attn: v_head_dim > head_dim is not supported")
            if own[1] != dims[1]:
                raise Refused("MiMoV2: differing GA/SWA V head dims are not supported")
            heads = key(model, "num_attention_heads")
            if key(model, "swa_num_attention_heads", heads) != heads:
                raise Refused("MiMoV2: differing GA/SWA query head counts are not supported")
            if 1 in key(model, "hybrid_layer_pattern", ()) and not key(model, "sliding_window"):
                raise Refused("MiMoV2: sliding_window must be set when the layer pattern uses SWA")
            if key(model, "n_shared_experts", 0):
                raise Refused("MiMoV2: shared experts are not present in any published checkpoint")
        case "Qwen2_5_VLForConditionalGeneration":
            if model.config is not None and model.config.get("hidden_size") is None:
                raise Refused("Missing any of the following keys: ['hidden_size']")
        case "Mistral3ForConditionalGeneration" if model.text_type == "mistral4":
            scale = key(model, "routed_scaling_factor", 1.0)
            if scale != 1.0:
                raise Refused(f"routed_scaling_factor {scale} != 1.0 is not supported with softmax routing")
        case "GlmMoeDsaForCausalLM":
            kinds = key(model, "indexer_types") or []
            count = key(model, "num_hidden_layers", 0)
            if kinds and (len(kinds) < count or set(kinds) - {"full", "shared"} or kinds[0] != "full"):
                raise Refused(f"Unexpected indexer_types: {str(kinds)[:60]}")
        case "DeepseekV4ForCausalLM":
            ratios = key(model, "compress_ratios")
            if isinstance(ratios, list) and set(ratios) - {0, 4, 128}:
                raise Refused(f"compress_ratios must be 0, 4 or 128, not {sorted(set(ratios) - {0, 4, 128})[:4]}")
        case "SmolLM3ForCausalLM":
            if set(key(model, "layer_types", ())) - {"full_attention"}:
                raise Refused("SmolLM3: layers of another type than full_attention are not supported")
        case "Exaone4ForCausalLM":
            sliding = "sliding_attention" in key(model, "layer_types", ()) or key(model, "sliding_window_pattern")
            if sliding and key(model, "sliding_window", -1) < 0:
                raise Refused("layer_types requests sliding_attention but sliding_window is disabled")
        case "NemotronHForCausalLM" | "NemotronH_Omni_Reasoning_V3" if key(
            model, "n_routed_experts", key(model, "num_experts", 0)
        ):
            for wanted, value in (("n_group", 1), ("topk_group", 1), ("norm_topk_prob", True)):
                if key(model, wanted, value) != value:
                    raise Refused(f"Key {wanted} expected to have value {value} but was {str(key(model, wanted))[:60]}")
        case "Qwen3_5MoeForConditionalGeneration" | "Qwen4ExpForConditionalGeneration":
            if key(model, "mtp_use_dedicated_embeddings", False):
                raise Refused("MTP dedicated embeddings not currently supported")


def as_read(model: Model) -> Model:
    """The model as the engine's config class reads it; layers that are stored the same stay as they were read.

    Raises:
        Refused: as `named`.
    """
    name, _ = named(model)
    if not name or model.config is None:
        return model
    keys = _keys(model)
    layers, ahead = own_layers(name, model.text_type, keys), own_drafts(name, keys)
    if layers is not None and [*map(_stored, layers)] != [_stored(layer.memories) for layer in model.layers]:
        model = replace(model, layers=_numbered(layers))
    if layers is not None and ahead is not None:
        model = replace(model, drafts=_numbered(ahead))
    return model


def _keys(model: Model) -> dict[str, Any]:
    """The text section's keys over those around it; null is absent."""
    return {
        name: value
        for section in (model.config, model.text_config)
        for name, value in (section or {}).items()
        if value is not None
    }


def _numbered(rows: list[tuple[Memory, ...]]) -> tuple[Layer, ...]:
    return tuple(Layer(index=i, memories=memories) for i, memories in enumerate(rows))


def _stored(memories: tuple[Memory, ...]) -> tuple[object, ...]:
    """What decides a layer's storage; a window stays, because some architectures keep rings."""
    found: list[object] = []
    for memory in memories:
        match memory:
            case Softmax(reach=reach):
                found.append(
                    (memory.kv_heads, memory.key_dim, memory.value_dim, reach if isinstance(reach, Compressed) else None)
                )
                found.append(reach.size if isinstance(reach, Window) else 0)
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
    return row.draft_tokens or int(key(model, "dspark_block_size", 0))


def default_draft(model: Model) -> int:
    """Tokens that a drafter of its own drafts at a time: a block less one for DFlash, TabbyAPI's 4 for any other model."""
    name, _ = named(model)
    if not name.startswith(("DFlash", "MuseGlimmerAssistant")):
        return 4
    section = key(model, "dflash_config", {})
    block = key(model, "block_size") or (section.get("block_size") if isinstance(section, Mapping) else None)
    return max(int(block or 1) - 1, 0)


def trained_tokens(model: Model) -> int | None:
    """`max_position_embeddings` as TabbyAPI reads it. Source: tabby `common/transformers_utils.py`."""
    if model.config is None:
        return model.max_tokens
    found = key(model, "max_position_embeddings")
    return int(found) if isinstance(found, int | float) else None


def rotary_part(model: Model) -> int:
    """Elements of a DeepSeek-V4 entry that carry the position. Source: `architecture/deepseek_v4.py`."""
    return int(key(model, "qk_rope_head_dim", 64))


def entry_ratio(model: Model, ratio: int, *, indexed: bool) -> int:
    """Tokens that an entry of DeepSeek-V4 stands for: the class's own keys, not the list's number."""
    if model.config is None:
        return ratio
    return int(key(model, "compress_rate_csa", 4) if indexed else key(model, "compress_rate_hca", 128))


def index_ratio(model: Model) -> int:
    """Tokens that one pooled index key stands for (QSA)."""
    return int(key(model, "indexer_compress_ratio", 4))


def from_config(config: Mapping[str, Any], name: str) -> Model | None:
    """A model by the engine's own reading alone, for a config that no other reader takes; None where it cannot be read.

    A drafter names sliding layers under the model type of another family; an architecture may be new to the rest of kvplan.

    Raises:
        Refused: the engine's class does not take the config.
    """
    text = next((config[key] for key in _TEXT_SECTIONS if isinstance(config.get(key), Mapping)), config)
    text_type = str(text.get("model_type") or "")
    model_type = str(config.get("model_type") or text_type)
    unread = Model(
        name=name or model_type,
        model_type=model_type,
        layers=(Layer(index=0),),
        config=config,
        text_type=text_type,
        text_config=text,
    )
    refuse(unread)
    layers = own_layers(named(unread)[0], text_type, _keys(unread))
    return replace(unread, layers=_numbered(layers)) if layers else None


_TEXT_SECTIONS: Final = ("text_config", "llm_config")
