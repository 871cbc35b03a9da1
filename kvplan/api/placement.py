"""Several devices and the host, for engines that deal layers out to them: from what people type to the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from kvplan.api.cards import any_card, named_gpus
from kvplan.api.given import Count, Source, count, size
from kvplan.api.memory import free_bytes, known_weights
from kvplan.api.places import places, usual_engine
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.gpus import Gpu
from kvplan.domain.ledger import Line
from kvplan.domain.media.asked import parse_media
from kvplan.domain.model import Model
from kvplan.domain.spread import Card
from kvplan.domain.workload import with_longest
from kvplan.engines import ABOUTS, about, make_engine
from kvplan.engines.kernel.about import Role
from kvplan.errors import OptionError, Refused, written
from kvplan.loading import load
from kvplan.loading.processor_files import processor_files
from kvplan.questions.media import one_image, used_or_refused
from kvplan.questions.placement.answer import Laid, answer, started
from kvplan.questions.placement.making import card_of, projector_words, spread_over, with_tensors
from kvplan.report.notebook import displayed

displayed(Laid, "kvplan.report.answers.placement:LaidAnswer")

_MOST: Final = 16


def cards_of(
    gpu: str,
    makers: tuple[str, ...],
    *,
    gpus: Count | None = None,
    memory: Count | None = None,
    free: Count | Sequence[Count] | None = None,
) -> tuple[Card, ...]:
    """The cards that a text names, side by side.

    Raises:
        OptionError: none, too many, or free memory of another number of them.
    """
    found: list[Gpu] = []
    left: list[int] = []
    for machine, number in named_gpus(gpu, makers):
        times = number or (count(gpus, "«gpus»") if gpus is not None else 1)
        if times > _MOST:
            raise OptionError(f"at most {_MOST} devices are spread over, got {times:,}", hint="«gpu NAME:2»")
        found += [machine.gpu] * times
        left += list(machine.free)
    if len(found) > _MOST:
        raise OptionError(f"at most {_MOST} devices are spread over, got {len(found):,}", hint="name them one by one")
    amounts = free_bytes(free) or tuple(left)
    if len(amounts) not in {0, 1, len(found)}:
        raise OptionError(f"«free» names {len(amounts)} sizes for {len(found)} devices", hint="one for all, or one a device")
    given = None if memory is None else size(memory, "«memory»")
    return tuple(
        card_of(entry, given, amounts[index if len(amounts) > 1 else 0] if amounts else None) for index, entry in enumerate(found)
    )


def place(
    model: Source,
    gpu: str | None = None,
    *,
    engine: str | None = None,
    context: Count | None = None,
    batch_size: Count | None = None,
    gpus: Count | None = None,
    kv_dtype: str = "auto",
    weights: Count | None = None,
    weights_dtype: str | None = None,
    memory: Count | None = None,
    free: Count | Sequence[Count] | None = None,
    infer: bool = False,
    images: str | None = None,
    video: str | None = None,
    audio: str | None = None,
    brief: bool = False,
    where: Mapping[Role, Any] | None = None,
    **options: Any,
) -> Laid | NotPredicted:
    """Where everything lies on several cards and the host, for an engine that deals layers out (llama.cpp).

    Args:
        model: anything that `kvplan.load` takes.
        gpu: the cards side by side: `rtx-4090:2`, `rtx-4090,rtx-3090`, `local`; None: any card of `memory`.
        engine: `NAME` or `NAME@VERSION`.
        context: tokens of a request; without it, the longest that fits.
        batch_size: requests at once; one where nobody says, and beside a `context` `.at_once` says how many fit.
        gpus: as many of the card.
        kv_dtype: cache dtype.
        weights, weights_dtype: bytes or format of the weights, where the model is no GGUF file.
        memory: bytes of each device.
        free: bytes that others leave, one value or one a device.
        infer: read an unknown architecture by shape.
        images, video, audio: of each request, as `kvplan.fit` takes them: beside the text that `context` says, or within the
            longest.
        brief: without other types of the cache and without changes.
        where: places in kvplan's words (`PLACES` of `engines/kernel/about.py`).
        options: any option of the engine by its own name.

    Returns:
        A `Laid`: `.fits`, `.longest`, `.spread.places`, `.changes`, `.to_dict()`.

    Raises:
        OptionError: a bad value, or cards that nobody knows.
        KvplanError: a model that cannot be read.
    """
    if gpu is None:
        gpu, memory = any_card(memory), None
    loaded = load(model, infer=infer)
    chosen = engine or usual_engine(model, loaded, gpu)
    if not places(chosen):
        able = next((name for name, known in ABOUTS.items() if known.spread), "")
        raise OptionError(f"engine {chosen} deals no layers out to unequal devices here", hint=f"-e {able} does")
    untold = next((role for role in where or {} if role not in about(chosen).roles), None)
    if untold is not None:
        word = untold.replace("_", " ")
        raise OptionError(f"engine {chosen} is told nothing of {word} so", hint="its own options are given with «set»")
    own = {about(chosen).roles[role]: value for role, value in (where or {}).items()}
    twice = next((name for name in own if name in options), None)
    if twice is not None:
        raise OptionError(f"`{twice}` is given twice", hint="as a flag or with «set», not both")
    cards = cards_of(gpu, about(chosen).makers, gpus=gpus, memory=memory, free=free)
    media = parse_media(images, video, audio)
    use = used_or_refused(loaded, media, chosen, {**options, **own}, processor_files(model)) if media else None
    text = None if context is None else count(with_longest(written(context, 400), [loaded], "«context»"), "«context»")
    found = laid(
        loaded,
        known_weights(model, loaded, weights, weights_dtype),
        weights_dtype,
        cards,
        chosen,
        {**({} if kv_dtype == "auto" else {"kv_dtype": kv_dtype}), **options, **own},
        context=text if text is None or use is None else text + use.tokens,
        requests=None if batch_size is None else count(batch_size, "«batch_size»"),
        brief=brief,
    )
    if isinstance(found, NotPredicted):
        return found
    if use is None:
        made = make_engine(chosen, {**options, **own})
        told = (*one_image(loaded, made), *projector_words(loaded, chosen, {**options, **own}))
        return replace(found, notes=(*found.notes, *told)) if told else found
    beside = f"beside {text:,} tokens of text" if text is not None else "within these tokens"
    return replace(found, notes=(f"in each request {use.words}, {beside}", *use.notes, *found.notes))


def laid(
    model: Model,
    weights: Line,
    weights_dtype: str | None,
    cards: tuple[Card, ...],
    engine: str,
    options: Mapping[str, Any],
    *,
    context: int | None,
    requests: int | None,
    brief: bool = False,
    typed: bool | None = None,
) -> Laid | NotPredicted:
    """The question, asked, as `answer` has it; `typed` of a server that is started: whether its context was said."""
    made = make_engine(engine, with_tensors(engine, options, weights_dtype))
    try:
        spreading = spread_over(model, made, cards, weights, weights_dtype)
        kv_dtype = made.on(model).kv_dtype
    except Refused as problem:
        return NotPredicted(reason=problem.reason, see=problem.see, model=model.name, engine=engine)
    if typed is not None and context is not None:
        return started(spreading, made.name, made.version, kv_dtype, context=context, requests=requests or 1, typed=typed)
    return answer(spreading, made.name, made.version, kv_dtype, context=context, requests=requests, brief=brief)
