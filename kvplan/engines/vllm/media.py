"""Images and video in vLLM: what it counts for itself, the largest item that it reserves for, and the encoder's budget.

Most families are counted as their processors do; `own` says what is otherwise. Source: vllm 0.33,
`model_executor/models/<family>.py: get_num_image_tokens`, `v1/core/encoder_cache_manager.py:compute_mm_encoder_budget`,
`multimodal/encoder_budget.py`.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.media import images, tiles, videos
from kvplan.domain.media.cost import Cost, NotTaken
from kvplan.domain.media.grids import grids
from kvplan.domain.media.images import Size
from kvplan.domain.media.processor import Processor
from kvplan.domain.media.sizes import RATIO
from kvplan.domain.origin import Settings

#: Items of a modality in one prompt where nothing is said (`config/multimodal.py`).
DEFAULT_LIMIT: Final = 999
#: Frames of the largest video of Qwen2-VL and 2.5-VL (`qwen2_vl.py:_MAX_FRAMES_PER_VIDEO`).
_QWEN_FRAMES: Final = 14
#: The size that fills most features of LLaVA-OneVision's resolutions (`llava_onevision.py`, a constant).
_ONEVISION: Final = (944, 1153)
#: Larger than any image (`glm4_1v.py:get_image_size_with_most_features`).
_HUGE: Final = 9_999_999
_PIXELS: Final = 2**40
#: Families whose own count was read and is recorded; others are taken to be counted as their processors do.
READ: Final = frozenset(
    {
        "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "llava_next", "llava_onevision", "internvl", "deepseek_vl2", "kimi_vl",
        "mistral3", "pixtral", "idefics3", "smolvlm", "phi4_multimodal", "glm4v", "gemma3",
    }
)  # fmt: skip


class Edge(images.Edge, frozen=True, kw_only=True):
    """Pixtral and Mistral 3 count nothing where transformers refuses."""

    def one(self, height: int, width: int) -> Cost:
        """Rows and columns of tokens, also none."""
        ratio = max(height / self.edge, width / self.edge)
        high, wide = (math.floor(side / ratio) if ratio > 1 else side for side in (height, width))
        return self.counted(height, width, high, wide)


def own(processor: Processor, config: Mapping[str, Any], kwargs: Mapping[str, Any]) -> Processor:
    """The rules as vLLM counts, with `mm_processor_kwargs`.

    Raises:
        ConfigError: a value of `mm_processor_kwargs` is out of range.
    """
    said, image, video = Settings(kwargs, "mm_processor_kwargs"), processor.image, processor.video
    if isinstance(image, images.PixelRange):
        size = said.section("size")
        least = said.whole("min_pixels", size.whole("shortest_edge", image.least, 1, _PIXELS), 1, _PIXELS)
        most = said.whole("max_pixels", size.whole("longest_edge", image.most, 1, _PIXELS), 1, _PIXELS)
        if image.how == "frames":  # the lower limit is the function's own (`glm4_1v.py`)
            return replace(processor, image=replace(image, least=12_544, most=most))
        image = replace(image, least=least, most=most)
        if isinstance(video, videos.FrameGroups):  # given, the range is the video's too; else Qwen2-VL's is the image's
            given = bool(size.data) or said.has("min_pixels") or said.has("max_pixels")
            if given or not video.over_frames:
                video = replace(video, least=least, most=most)
        return replace(processor, image=image, video=video)
    if isinstance(image, images.Edge):
        return replace(processor, image=Edge(edge=image.edge, patch=image.patch, merge=image.merge))
    if isinstance(image, tiles.DynamicCrops):
        return replace(processor, image=replace(image, refuses=False, most=said.whole("dynamic_hd", image.most, 1, 256)))
    if isinstance(image, images.PanAndScan):
        return replace(processor, image=replace(image, crops=said.flag("do_pan_and_scan", image.crops)))
    if isinstance(image, tiles.Tiles) and "min_dynamic_patch" in config:
        # of the original format only InternVL 2.5 and later with a video token take video; what that costs was not recorded
        return replace(processor, image=_internvl(image, Settings(config), said), video=None)
    return processor


def _internvl(image: tiles.Tiles, config: Settings, said: Settings) -> tiles.Tiles:
    """InternVL by the keys of its original config (`transformers_utils/processors/internvl.py`)."""
    dynamic = said.flag("dynamic_image_size", config.flag("dynamic_image_size", True))
    least = said.whole("min_dynamic_patch", config.whole("min_dynamic_patch", 1, 1, 256), 1, 256)
    most = said.whole("max_dynamic_patch", config.whole("max_dynamic_patch", 12, 1, 256), 1, 256)
    ratio = config.number("downsample_ratio", 0.5)
    vision = config.section("vision_config")
    patches = (image.tile // vision.whole("patch_size", 14, 1, 2**16)) ** 2
    return replace(
        image,
        least=least if dynamic else 1,
        most=most if dynamic else 1,
        per_tile=int(patches * ratio**2),
        thumbnail=config.flag("use_thumbnail", True),
        marks=2,
    )


def largest_image(rule: images.ImageRule) -> int:
    """Placeholders of the largest image, as its dummy input makes it."""
    return largest_cost(rule).placeholders


def largest_cost(rule: images.ImageRule) -> Cost:
    """What the image of most placeholders costs, as its dummy input makes it."""
    return max((rule.one(height, width) for height, width in _largest_sizes(rule)), key=lambda cost: cost.placeholders)


def _largest_sizes(rule: images.ImageRule) -> Sequence[Size]:
    match rule:
        case images.PixelRange(how="frames"):
            return [(_HUGE, _HUGE)]
        case images.PixelRange():
            return [_most_features(rule.most, rule.factor)]
        case tiles.Pinpoints(most=None):
            return rule.candidates
        case tiles.Pinpoints():
            return [_ONEVISION]
        case tiles.Candidates():
            return rule.candidates
        case images.Capped():
            side = math.isqrt(rule.patches) * rule.patch
            return [(side, side)]
        case tiles.Tiles():
            return [(rows * rule.tile, columns * rule.tile) for columns, rows in grids(1, rule.most)]
        case images.Edge():
            return [(rule.edge, rule.edge)]
        case tiles.DynamicCrops():
            return [(rule.crop * rule.most, rule.crop)]
        case images.PanAndScan():
            return [(rule.least_side * 2 * rule.most_crops, rule.least_side * 2)]
        case tiles.EdgeTiles():
            return [(rule.edge, rule.edge)]
        case _:
            return [(1024, 1024)]


@lru_cache(maxsize=256)
def _most_features(pixels: int, factor: int) -> Size:
    """The most square pair of sides whose product is the largest count within `pixels` (`qwen2_vl.py`)."""
    for count in range(max(1, pixels // factor**2), 0, -1):
        short = next(d for d in range(math.isqrt(count), 0, -1) if count % d == 0)
        if count // short <= RATIO * short:
            return short * factor, count // short * factor
    return factor, factor


def largest_video(processor: Processor, max_model_len: int) -> int | None:
    """Placeholders of the largest video, None where no rule for it was read."""
    rule, image = processor.video, processor.image
    if not isinstance(rule, videos.FrameGroups) or not isinstance(image, images.PixelRange) or image.how == "frames":
        return None
    if rule.over_frames:
        return rule.counted(2, *_most_features(rule.most // 2, rule.patch * rule.merge)).placeholders
    size = _most_features(image.most, image.factor)
    frames = 1
    while frames < _QWEN_FRAMES and rule.counted(frames + 1, *size).placeholders <= max_model_len:
        frames += 1
    return rule.counted(frames, *size).placeholders


class Budget(Struct, frozen=True, kw_only=True):
    """What vLLM sets aside for the encoder: by modality the largest item's tokens, and how many items a prompt and a batch take.

    `compute` tokens a step may go through the encoder, `cache` rows of the decoder's width are kept of its output.
    """

    largest: Mapping[str, int]
    compute: int
    cache: int
    per_prompt: Mapping[str, int]
    per_batch: Mapping[str, int]


class Scheduling(Struct, frozen=True, kw_only=True):
    """The engine's options that decide the budget."""

    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int
    chunked_prefill: bool = True
    disable_chunked_mm_input: bool = False


def budget(largest: Mapping[str, int], limits: Mapping[str, int], at: Scheduling) -> Budget:
    """The encoder's budget (`compute_mm_encoder_budget`, `multimodal/encoder_budget.py`).

    Raises:
        NotTaken: the largest item does not fit into a batch, and must.
    """
    active = {kind: tokens for kind, tokens in largest.items() if limits.get(kind, DEFAULT_LIMIT) and tokens}
    most = max(active.values(), default=0)
    if at.disable_chunked_mm_input and most > at.max_num_batched_tokens:
        raise NotTaken(
            f"Chunked MM input disabled but max_tokens_per_mm_item ({most}) is larger than max_num_batched_tokens "
            f"({at.max_num_batched_tokens}). Please increase max_num_batched_tokens."
        )
    size = max(at.max_num_batched_tokens, most) if active else 0
    prompts, batches = {}, {}
    for kind, tokens in active.items():
        prompts[kind] = max(1, min(limits.get(kind, DEFAULT_LIMIT), at.max_model_len // tokens))
        requests = at.max_num_seqs if at.chunked_prefill else min(at.max_num_seqs, at.max_num_batched_tokens // tokens)
        batches[kind] = max(1, min(size // tokens, requests * prompts[kind]))
    return Budget(largest=active, compute=size, cache=size, per_prompt=prompts, per_batch=batches)
