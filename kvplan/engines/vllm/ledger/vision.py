"""What a multimodal model's profile leaves alive: the encoder's outputs and the pixels that it was given.

The V1 runner encodes as many items of the largest size as the encoder's budget holds before the text model runs; the V2
runner does so from 0.28 on. Source: `v1/worker/gpu_model_runner.py:profile_run`, `multimodal/encoder_budget.py`.
"""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.described import Described
from kvplan.engines.vllm.ledger import releases
from kvplan.engines.vllm.ledger.settings import Batch, Settings
from kvplan.engines.vllm.ledger.shape import Shape
from kvplan.errors import KvplanError

_PIXEL_BYTES: Final = 2
#: Tokens of the largest image where the processor decides (Qwen: 12,845,056 pixels in squares of 28).
_LLAMA4_TILES: Final = 17  # sixteen and the whole image, 144 tokens each
_LARGEST: Final = 16_384


def held(shape: Shape, model: Described, settings: Settings, batch: Batch) -> tuple[int, int, int]:
    """Bytes that stay alive under the forward pass: best, smallest, largest. Zeros where no encoder runs."""
    runs = not batch.v2 or releases.V2_RUNS_ENCODER.at(settings.release)
    if not shape.multimodal or not runs or settings.language_model_only or settings.mm_limit == 0:
        return 0, 0, 0
    tokens, pixels, known = item_of(model, settings.processor_kwargs)
    budget = max(batch.tokens, tokens)
    items = max(1, budget // tokens)
    if settings.mm_limit is not None:
        items = min(items, settings.mm_limit * batch.seqs)
    best = items * (tokens * shape.hidden * 2 + 3 * pixels * _PIXEL_BYTES)
    if known:
        return best, best, best
    return best, 0, 3 * best


def item_of(model: Described, kwargs: Mapping[str, Any] | None = None) -> tuple[int, int, bool]:
    """The largest image: its tokens, its pixels, and whether they are the same for every image of that size.

    By the class's own count where that was read (`media.py`), else by what the config says of the tower.
    """
    vision = model.config.get("vision_config")
    vision = vision if isinstance(vision, Mapping) else {}
    processor = model.processor
    if processor is None or processor.image is None:
        return _guessed(model.config, vision)
    from kvplan.domain.media import images
    from kvplan.engines.vllm.media import READ, largest_cost, own

    if processor.family in READ:
        try:
            rule = own(processor, model.config, kwargs or {}).image or processor.image
            cost = largest_cost(rule)
        except (KvplanError, ArithmeticError, ValueError):  # numbers of which the class makes nothing
            return _guessed(model.config, vision)
        if cost.placeholders and cost.positions:
            known = isinstance(rule, images.PanAndScan | images.Edge)
            return cost.placeholders, cost.positions * (_integer(vision, "patch_size") or 14) ** 2, known
    return _guessed(model.config, vision)


def _guessed(config: Mapping[str, Any], vision: Mapping[str, Any]) -> tuple[int, int, bool]:
    """By the sizes of the tower."""
    side, patch = _integer(vision, "image_size"), _integer(vision, "patch_size") or 14
    fixed = _integer(config, "mm_tokens_per_image", "vision_soft_tokens_per_image")
    if fixed and side:
        return fixed, side**2, True
    if str(vision.get("model_type")) == "llama4_vision_model" or config.get("model_type") == "llama4":
        side, tiles = side or 336, _LLAMA4_TILES
        return tiles * (side // patch) ** 2 // 4, int(side * tiles**0.5) ** 2, False
    merge = _integer(config, "spatial_merge_size") or _integer(vision, "spatial_merge_size") or 1
    if side and str(vision.get("model_type")) in {"pixtral", "siglip_vision_model", "clip_vision_model"}:
        return max(1, (side // patch // merge) ** 2), side**2, str(vision.get("model_type")) == "pixtral"
    cells = _LARGEST
    return cells, int((cells * (patch * max(merge, 2)) ** 2) ** 0.5) ** 2, False


def _integer(section: Mapping[str, Any], *keys: str) -> int:
    for key in keys:
        value = section.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0
