"""What vLLM's classes keep beside the checkpoint's tensors, of one model on one rank."""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.caching_allocator import MIN_BLOCK_BYTES
from kvplan.domain.described import Described
from kvplan.engines.vllm.ledger import releases
from kvplan.engines.vllm.ledger.loading import Beside
from kvplan.engines.vllm.ledger.quantised import Quantised, converts
from kvplan.engines.vllm.ledger.rotary import Rotary, layer_types
from kvplan.engines.vllm.ledger.settings import Batch, Card, Settings
from kvplan.engines.vllm.ledger.shape import Shape
from kvplan.engines.vllm.ledger.tensors import Rank

_QWEN_TOWERS: Final = ("qwen2_vl", "qwen2_5_vl", "qwen2_5_omni", "qwen3_vl", "qwen3_5", "exaone4_5", "qwen3_omni")


def beside_of(
    model: Described,
    shape: Shape,
    settings: Settings,
    card: Card,
    batch: Batch,
    rank: Rank,
    quantised: Quantised | None,
    rotary: Mapping[str, Rotary],
) -> Beside:
    """All of it."""
    item = rank.item_bytes
    return Beside(
        text_type=model.text_type,
        rotary=rotary,
        layer_types=layer_types(model.text, shape.layers),
        latent_copy=_latent_copy(model, shape, settings, rank, quantised),
        index_buffer=_index_buffer(model, batch),
        index_table=_index_table(model),
        deep_gemm=_deep_gemm(shape, settings, card, quantised),
        tower_table=_tower_table(model, item),
        buffers=_buffers(model, shape, batch, item),
        mixer_buffers=_mixer_buffers(model.text_type, shape, item),
        untied=_untied(model),
        scalars=1 if model.text_type.startswith("gemma") else 0,
        scalars_a_layer=1 if _alibi(model.text) else 2 if model.text_type == "apertus" else 0,
    )


def _tower_table(model: Described, item: int) -> Rotary | None:
    """The rotary table of a tower that is written like Qwen's: 8,192 positions, half a head wide.

    Source: `models/qwen2_5_vl.py:Qwen2_5_VisionTransformer.__init__`.
    """
    section = model.config.get("vision_config")
    if not str(model.config.get("model_type", "")).startswith(_QWEN_TOWERS):
        return None
    vision: Mapping[str, Any] = section if isinstance(section, Mapping) else {}
    queries = next((p for p in model.parameters if p.component == "vision" and p.role in {"qkv", "q", "o"}), None)
    heads = vision.get("num_heads", 16)
    if queries is None or not isinstance(heads, int) or heads < 1:
        return None
    return Rotary(positions=8192, dim=queries.shape[-1] // heads // 2, item_bytes=item, key="vision")


def _buffers(model: Described, shape: Shape, batch: Batch, item: int) -> list[int]:
    """Tensors that single classes keep: Qwen3-VL's deep features of a whole batch, SigLIP's positions.

    Source: `models/qwen3_vl.py:deepstack_input_embeds`; `models/siglip.py:position_ids`.
    """
    section = model.config.get("vision_config")
    vision: Mapping[str, Any] = section if isinstance(section, Mapping) else {}
    found: list[int] = []
    if str(model.config.get("model_type", "")).startswith("qwen3_vl"):
        deep = vision.get("deepstack_visual_indexes", [8, 16, 24])
        found += [batch.tokens * shape.hidden * item] * (len(deep) if isinstance(deep, list) else 3)
    positions = next((p for p in model.parameters if p.component == "vision" and p.role == "positions"), None)
    if positions is not None and str(model.config.get("model_type")) == "gemma3":
        found.append(positions.shape[0] * 8)
    return found


def _mixer_buffers(text_type: str, shape: Shape, item: int) -> tuple[int, ...]:
    """What each recurrent layer keeps beside its parameters: the ones of three norms without weights, a vector of factors.

    Source: `layers/mamba/mamba_mixer.py:dt_layernorm`; `models/falcon_h1.py:_init_mup_vector`.
    """
    if text_type == "falcon_mamba":
        return (MIN_BLOCK_BYTES, MIN_BLOCK_BYTES, MIN_BLOCK_BYTES)
    return (shape.mixer_in * item,) if text_type == "falcon_h1" else ()


def _untied(model: Described) -> bool:
    """Whether the text part says that its head is its own: the engine builds a wrapper's text model from that part alone.

    Source: `models/utils.py:init_vllm_registered_model`.
    """
    text = model.config.get("text_config")
    return isinstance(text, Mapping) and text.get("tie_word_embeddings") is False


def _alibi(text: Mapping[str, Any]) -> bool:
    attention = text.get("attn_config")
    return text.get("alibi") is True or (isinstance(attention, Mapping) and attention.get("alibi") is True)


def _index_buffer(model: Described, batch: Batch) -> int:
    """The positions that sparse attention picks for every token of a batch, an int32 each. Source: `models/deepseek_v2.py`."""
    top = model.text.get("index_topk")
    indexed = any(p.role == "index" for p in model.parameters)
    return batch.tokens * top * 4 if indexed and isinstance(top, int) else 0


def _index_table(model: Described) -> bool:
    """Whether indexers rotate another way than attention, by a table of their own."""
    return any(p.role == "index" for p in model.parameters) and not model.text.get("indexer_rope_interleave")


def _latent_copy(model: Described, shape: Shape, settings: Settings, rank: Rank, quantised: Quantised | None) -> int:
    """A layer's plain copy of kv_b where kv_b is quantised; else both halves are views of it.

    Source: `layers/attention/mla_attention.py:process_weights_after_loading`.
    """
    latent = shape.latent
    if latent is None:
        return 0
    up = next((p for p in model.parameters if p.role == "kv_b"), None)
    converted = quantised is not None and up is not None and converts(up, quantised, up.layers[0] if up.layers else 0)
    if not converted:
        return 0
    heads = -(-shape.heads // settings.tensor_parallel_size)
    return heads * (latent.nope + latent.value) * latent.rank * rank.item_bytes


def _deep_gemm(shape: Shape, settings: Settings, card: Card, quantised: Quantised | None) -> bool:
    """Whether DeepGEMM is initialised while loading: an fp8 cache, latent attention, block-quantised fp8; on Hopper."""
    if settings.deep_gemm is not None:
        return settings.deep_gemm
    if not card.hopper:
        return False
    if not releases.DEEP_GEMM_AT_LOAD.at(settings.release):
        return shape.latent is not None and releases.DEEP_GEMM_WITH_LATENTS.at(settings.release)
    fp8_cache = settings.kv_dtype.startswith(("fp8", "float8"))
    blocks = quantised is not None and quantised.bits == 8 and quantised.blocks > 0
    return fp8_cache or shape.latent is not None or blocks
