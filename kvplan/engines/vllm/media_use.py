"""What the media of a request are in vLLM: its own count, the encoder's cache and compute budget, and what makes them smaller."""

import json
from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any, Final

from kvplan.domain.dtypes import lookup
from kvplan.domain.media import images, tiles
from kvplan.domain.media.asked import Media
from kvplan.domain.media.cost import NotTaken
from kvplan.domain.media.processor import Processor
from kvplan.domain.media.use import Held, Saving, Use
from kvplan.domain.model import Model
from kvplan.engines.vllm.engine import Vllm
from kvplan.engines.vllm.media import DEFAULT_LIMIT, READ, Budget, Scheduling, budget, largest_image, largest_video, own
from kvplan.engines.vllm.models import decoder_width, media_config
from kvplan.errors import KvplanError, Refused

#: Pixels and tiles that people limit images to.
_PIXELS: Final = 1_003_520
_TILES: Final = 4


def used(engine: Vllm, model: Model, processor: Processor, media: Media) -> Use:
    """What the media of a request are, and the encoder's budget.

    Raises:
        NotTaken: the class refuses one, or more of them than a prompt may have.
        Refused: the model takes no such media.
        ConfigError: a value of `mm_processor_kwargs` is out of range.
    """
    config = media_config(model).data
    kwargs = engine.options.processor_kwargs
    rules, limits = own(processor, config, kwargs), engine.options.media_limits
    _within(media, limits)
    cost, plain = rules.cost(media, sampled=False), processor.cost(media)
    notes = []
    if media.videos:
        notes.append("frames are those that reach the model: the server picks them from a file first (--media-io-kwargs)")
    if processor.family not in READ:
        notes.append(f"counted as the model's own processor does: vLLM's own count of {processor.family} was not read")
    found = _budget(engine, model, rules, limits) if processor.family in READ else None
    held: tuple[Held, ...] = ()
    if found is not None and found.cache:
        largest = ", ".join(f"{kind} {tokens:,}" for kind, tokens in found.largest.items())
        held = (
            Held(
                name="encoder cache",
                count=found.cache,
                bytes=found.cache * _row_bytes(model),
                note=f"rows: the largest item ({largest}), or max_num_batched_tokens; "
                f"{_each(found.per_batch)} a batch, {_each(found.per_prompt)} a prompt at most",
            ),
        )
    return Use(
        media=media,
        engine=engine.name,
        cost=cost,
        source=f"vllm {engine.version}: ProcessingInfo of the class; {processor.source}",
        own=plain if plain.tokens != cost.tokens else None,
        read=processor.family in READ,
        held=held,
        savings=tuple(_savings(engine, model, processor, media, cost.tokens, found)),
        notes=tuple(notes),
    )


def _each(counts: Mapping[str, int]) -> str:
    return " and ".join(f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items())


def _within(media: Media, limits: Mapping[str, int]) -> None:
    """`multimodal/processing.py: validate_num_items`.

    Raises:
        NotTaken: more items than a prompt may have.
    """
    for kind, items in (("image", media.images), ("video", media.videos), ("audio", media.sounds)):
        most = limits.get(kind, DEFAULT_LIMIT)
        if len(items) > most:
            raise NotTaken(
                f"At most {most} {kind}(s) may be provided in one prompt, and there are {len(items):,}",
                see=f"--limit-mm-per-prompt '{{\"{kind}\": {len(items)}}}'",
            )


def _row_bytes(model: Model) -> int:
    """One row of the encoder's cache: the decoder's width, and a layer more for each that is stacked (Qwen3-VL)."""
    deep = media_config(model).section("vision_config").items("deepstack_visual_indexes", most=100)
    return lookup(model.dtype).row_bytes(1, decoder_width(model)) * (1 + len(deep))


def _budget(engine: Vllm, model: Model, rules: Processor, limits: Mapping[str, int]) -> Budget | None:
    """The encoder's budget; None where the largest item of a modality that is not switched off is not known."""
    try:
        scheduling = engine.on(model).plan.scheduling
    except (Refused, KvplanError):
        return None
    length = engine.options.max_model_len or model.max_tokens or 8192
    length = length if length > 0 else model.max_tokens or 8192
    largest: dict[str, int] = {}
    if rules.image is not None:
        largest["image"] = largest_image(rules.image)
    for kind, rule in (("video", rules.video), ("audio", rules.audio)):
        if rule is None or not limits.get(kind, DEFAULT_LIMIT):
            continue
        size = largest_video(rules, length) if kind == "video" else None
        if size is None:
            return None
        largest[kind] = size
    return budget(
        largest,
        limits,
        Scheduling(
            max_model_len=length,
            max_num_batched_tokens=scheduling.batch_tokens,
            max_num_seqs=scheduling.max_num_seqs,
            chunked_prefill=engine.options.enable_chunked_prefill,
            disable_chunked_mm_input=engine.options.disable_chunked_mm_input,
        ),
    )


def _savings(
    engine: Vllm, model: Model, processor: Processor, media: Media, tokens: int, found: Budget | None
) -> Iterator[Saving]:
    kwargs: Mapping[str, Any] | None = None
    if media.images and isinstance(processor.image, images.PixelRange):
        kwargs = {"max_pixels": _PIXELS}
    elif media.images and isinstance(processor.image, tiles.Tiles) and "min_dynamic_patch" in media_config(model).data:
        kwargs = {"max_dynamic_patch": _TILES}
    if kwargs is not None:
        told, smaller = {**engine.options.processor_kwargs, **kwargs}, None
        try:
            limited = own(processor, media_config(model).data, told)
            fewer = limited.cost(media, sampled=False).tokens
            smaller = _budget(engine, model, limited, engine.options.media_limits) if found is not None else None
        except KvplanError:
            fewer = tokens
        if fewer < tokens:
            text = json.dumps(told)
            rows = smaller.cache if smaller is not None and found is not None and smaller.cache < found.cache else None
            flag = f"--mm-processor-kwargs {quote(text)}"
            yield Saving(flag=flag, options={"mm_processor_kwargs": text}, tokens=fewer, rows=rows)
    if found is None or not found.largest:
        return
    wanted = {"image": len(media.images), "video": len(media.videos), "audio": len(media.sounds)}
    limits: dict[str, int] = {kind: wanted[kind] for kind in processor.kinds}
    rules = own(processor, media_config(model).data, engine.options.processor_kwargs)
    fewer_rows = _budget(engine, model, rules, limits)
    if fewer_rows is not None and fewer_rows.cache < found.cache:
        text = json.dumps(limits)
        yield Saving(flag=f"--limit-mm-per-prompt {quote(text)}", options={"limit_mm_per_prompt": text}, rows=fewer_rows.cache)
