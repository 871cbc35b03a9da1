"""Recorded counts of images and videos, and recorded encoder budgets."""

from collections.abc import Mapping
from typing import Any

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.media.cost import Cost, NotTaken, total
from kvplan.domain.media.processor import Processor
from kvplan.engines.kernel.cases import Case, InvalidCase, Read
from kvplan.engines.kernel.media_cases import asked_media, facts, refusal
from kvplan.engines.kernel.media_cases import recorded as recorded_counts
from kvplan.engines.vllm.media import DEFAULT_LIMIT, Scheduling, budget, largest_image, largest_video, own

_KINDS = ("image", "video", "audio")


def recorded(expected: Mapping[str, Any]) -> dict[str, Any]:
    """Counts, or a budget flattened: `max_items_per_prompt.image`."""
    found = recorded_counts(expected)
    found |= {name: expected[name] for name in ("encoder_compute_budget", "encoder_cache_size") if name in expected}
    for name in ("max_tokens_per_item", "max_items_per_prompt", "max_items_per_batch"):
        if isinstance(expected.get(name), Mapping):
            found |= {f"{name}.{kind}": value for kind, value in expected[name].items()}
    return found


def predict(case: Case, read: Read) -> Mapping[str, Any] | NotPredicted:
    """The facts of a recorded case.

    Raises:
        InvalidCase: an option or a size that is none.
    """
    family = str(case.more["family"])
    said = case.more.get("preprocessor")
    files = dict(said) if isinstance(said, Mapping) else {}
    scan = files.get("pan_and_scan")
    if isinstance(scan, Mapping):  # as its record spells them
        files["image_processor"] = {f"pan_and_scan_{key}": value for key, value in scan.items()}
    processor = read.processor(family, case.config, files)
    if processor is None:
        return NotPredicted(reason=f"no rule of the family `{family[:60]}` was read")
    kwargs = case.options.get("mm_processor_kwargs", {})
    if not isinstance(kwargs, Mapping):
        raise InvalidCase("`options.mm_processor_kwargs` must be an object")
    processor = own(processor, case.config, kwargs)
    try:
        return _budget(case, processor) if case.workload.get("budget") else facts(_cost(case, processor))
    except NotTaken as problem:
        return refusal(problem)


def _cost(case: Case, processor: Processor) -> Cost:
    media = asked_media(case)
    costs = []
    if media.images and processor.image is not None:
        costs.append(processor.image.of([(size.height, size.width) for size in media.images]))
    if processor.video is not None:  # vLLM counts the frames that it is handed
        costs += [processor.video.counted(video.frames, video.height, video.width) for video in media.videos]
    return total(costs)


def _budget(case: Case, processor: Processor) -> dict[str, Any] | NotPredicted:
    limits = case.options.get("limit_mm_per_prompt", {})
    if not isinstance(limits, Mapping):
        raise InvalidCase("`options.limit_mm_per_prompt` must be an object")
    counts = {kind: _limit(limits.get(kind)) for kind in _KINDS}
    length = case.option("max_model_len", minimum=1)
    largest: dict[str, int] = {}
    if processor.image is not None and counts["image"]:
        largest["image"] = largest_image(processor.image)
    if processor.video is not None and counts["video"]:
        video = largest_video(processor, length)
        if video is None:
            return NotPredicted(reason=f"the largest video of {processor.family} in vLLM was not read")
        largest["video"] = video
    if processor.audio is not None and counts["audio"]:
        return NotPredicted(reason=f"the largest clip of {processor.family} in vLLM was not read")
    found = budget(
        largest,
        counts,
        Scheduling(
            max_model_len=length,
            max_num_batched_tokens=case.option("max_num_batched_tokens", minimum=1),
            max_num_seqs=case.option("max_num_seqs", minimum=1),
            chunked_prefill=case.options.get("enable_chunked_prefill") is not False,
            disable_chunked_mm_input=case.options.get("disable_chunked_mm_input") is True,
        ),
    )
    named = {"encoder_compute_budget": found.compute, "encoder_cache_size": found.cache}
    by_kind = (
        ("max_tokens_per_item", found.largest),
        ("max_items_per_prompt", found.per_prompt),
        ("max_items_per_batch", found.per_batch),
    )
    return named | {f"{name}.{kind}": value for name, values in by_kind for kind, value in values.items()}


def _limit(value: object) -> int:
    if value is None:
        return DEFAULT_LIMIT
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise InvalidCase("`options.limit_mm_per_prompt` must hold whole numbers")
    return value
