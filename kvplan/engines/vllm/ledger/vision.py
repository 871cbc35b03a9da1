"""What a multimodal model's profile leaves alive: the encoder's outputs and the pixels that it was given.

The V1 runner encodes as many items of the largest size as the encoder's budget holds before the text model runs, of the
modality whose largest item has most tokens: of Qwen-VL that is the video, as long as `max_model_len` lets it be, unless
`--limit-mm-per-prompt` takes videos out. The V2 runner does so from 0.28 on. Audio is not followed.

Source: `v1/worker/gpu_model_runner.py:profile_run`, `multimodal/encoder_budget.py`.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from kvplan.domain.described import Described
from kvplan.domain.media import images, videos
from kvplan.engines.kernel.sections import count_in
from kvplan.engines.vllm.ledger import releases
from kvplan.engines.vllm.ledger.settings import Batch, Settings
from kvplan.engines.vllm.ledger.shape import Shape
from kvplan.engines.vllm.media import DEFAULT_LIMIT, READ, largest_cost, largest_video, own
from kvplan.errors import KvplanError

_ELEMENT_BYTES: Final = 2
_COLOURS: Final = 3
_MOST_STACKED: Final = 100
#: Tokens of the largest image where the processor decides (Qwen: 12,845,056 pixels in squares of 28).
_LLAMA4_TILES: Final = 17  # sixteen and the whole image, 144 tokens each
_LARGEST: Final = 16_384


class Item(Struct, frozen=True, kw_only=True):
    """The largest item of a modality: its placeholders, elements of the tensor that the encoder is given, and its patches.

    `known`: they are the same for every item of that size; else the sum is a band.
    """

    tokens: int
    elements: int
    patches: int
    known: bool


def held(shape: Shape, model: Described, settings: Settings, batch: Batch) -> tuple[int, int, int]:
    """Bytes that stay alive under the forward pass: best, smallest, largest. Zeros where no encoder runs."""
    found = profiled(shape, model, settings, batch)
    if found is None:
        return 0, 0, 0
    item, count = found
    best = count * (item.tokens * _row_elements(shape, model) * 2 + item.elements * _ELEMENT_BYTES)
    if item.known:
        return best, best, best
    return best, 0, 3 * best


def encoder_bytes(shape: Shape, model: Described, settings: Settings, batch: Batch) -> int:
    """About what the encoder's own pass holds at its widest, before the text model runs: 0 where it is less than that.

    Its feed-forward and four hidden states of every patch, in 16 bits. Of towers whose images have one size it was seen to be
    less than the text model's peak.
    """
    found = profiled(shape, model, settings, batch)
    vision = model.config.get("vision_config")
    if found is None or found[0].known or not isinstance(vision, Mapping):
        return 0
    item, count = found
    hidden = count_in(vision, "embed_dim", "hidden_size")
    inner = count_in(vision, "intermediate_size") or 4 * hidden
    return 2 * count * item.patches * (3 * inner // settings.tensor_parallel_size + 4 * hidden)


def profiled(shape: Shape, model: Described, settings: Settings, batch: Batch) -> tuple[Item, int] | None:
    """The item that the profile encodes, of the modality whose largest item has most tokens, and how many of them at once.

    Source: `multimodal/encoder_budget.py:get_modality_with_max_tokens`, `_get_max_items`; 0.11 to 0.33 alike.
    """
    runs = not batch.v2 or releases.V2_RUNS_ENCODER.at(settings.release)
    if not shape.multimodal or not runs or settings.language_model_only or settings.skip_mm_profiling:
        return None
    items = {"image": item_of(model, settings.processor_kwargs)}
    video = video_of(model, settings.processor_kwargs, settings.max_model_len)
    if video is not None:
        items["video"] = video
    active = {kind: item for kind, item in items.items() if settings.mm_limits.get(kind, DEFAULT_LIMIT)}
    if not active:
        return None
    kind, item = max(active.items(), key=lambda entry: (entry[1].tokens, entry[0]))
    budget = max(batch.tokens, item.tokens)
    a_prompt = max(1, min(settings.mm_limits.get(kind, DEFAULT_LIMIT), settings.max_model_len // item.tokens))
    requests = batch.seqs if settings.enable_chunked_prefill else min(batch.seqs, batch.tokens // item.tokens)
    return item, max(1, min(budget // item.tokens, requests * a_prompt))


def video_of(model: Described, kwargs: Mapping[str, Any], max_model_len: int) -> Item | None:
    """The largest video; None for a model that takes none, or whose class makes it by a rule that was not read."""
    processor = model.processor
    if processor is None or not isinstance(processor.video, videos.FrameGroups):
        return None
    try:
        rules = own(processor, model.config, kwargs)
        tokens = largest_video(rules, max_model_len)
    except (KvplanError, ArithmeticError, ValueError):
        return None
    if not tokens or not isinstance(rules.video, videos.FrameGroups):
        return None
    patches = tokens * rules.video.merge**2
    elements = patches * _COLOURS * rules.video.group * rules.video.patch**2
    return Item(tokens=tokens, elements=elements, patches=patches, known=False)


def _row_elements(shape: Shape, model: Described) -> int:
    """A row of the encoder's output: the decoder's width, and a layer more for each that is stacked (Qwen3-VL)."""
    vision = model.config.get("vision_config")
    deep = vision.get("deepstack_visual_indexes") if isinstance(vision, Mapping) else None
    return shape.hidden * (1 + (len(deep) if isinstance(deep, list) and len(deep) <= _MOST_STACKED else 0))


def item_of(model: Described, kwargs: Mapping[str, Any] | None = None) -> Item:
    """The largest image, by the class's own count where that was read (`media.py`), else by what the config says of the tower."""
    vision = model.config.get("vision_config")
    vision = vision if isinstance(vision, Mapping) else {}
    processor = model.processor
    if processor is None or processor.image is None:
        return _guessed(model.config, vision)
    if processor.family in READ:
        try:
            rule = own(processor, model.config, kwargs or {}).image or processor.image
            cost = largest_cost(rule)
        except (KvplanError, ArithmeticError, ValueError):  # numbers of which the class makes nothing
            return _guessed(model.config, vision)
        if cost.placeholders and cost.positions:
            known = isinstance(rule, images.PanAndScan | images.Edge)
            patch = count_in(vision, "patch_size") or 14
            twice = count_in(vision, "temporal_patch_size") or 1  # an image is a video of so many equal frames
            elements = _COLOURS * twice * cost.positions * patch**2
            return Item(tokens=cost.placeholders, elements=elements, patches=cost.positions, known=known)
    return _guessed(model.config, vision)


def _guessed(config: Mapping[str, Any], vision: Mapping[str, Any]) -> Item:
    """By the sizes of the tower."""
    patch = count_in(vision, "patch_size") or 14

    def item(tokens: int, pixels: int, *, known: bool) -> Item:
        return Item(tokens=tokens, elements=_COLOURS * pixels, patches=pixels // patch**2, known=known)

    side = count_in(vision, "image_size")
    fixed = count_in(config, "mm_tokens_per_image", "vision_soft_tokens_per_image")
    if fixed and side:
        return item(fixed, side**2, known=True)
    if str(vision.get("model_type")) == "llama4_vision_model" or config.get("model_type") == "llama4":
        side, tiles = side or 336, _LLAMA4_TILES
        return item(max(1, tiles * (side // patch) ** 2 // 4), int(side * tiles**0.5) ** 2, known=False)
    merge = count_in(config, "spatial_merge_size") or count_in(vision, "spatial_merge_size") or 1
    if side and str(vision.get("model_type")) in {"pixtral", "siglip_vision_model", "clip_vision_model"}:
        known = str(vision.get("model_type")) == "pixtral"
        return item(max(1, (side // patch // merge) ** 2), side**2, known=known)
    cells = _LARGEST
    return item(cells, int((cells * (patch * max(merge, 2)) ** 2) ** 0.5) ** 2, known=False)
