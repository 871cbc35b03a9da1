"""The one question: how many bytes does this workload's cache take in this engine?"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.media.asked import Media
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import about, make_engine
from kvplan.engines.kernel.engine import Engine, footprint
from kvplan.errors import Refused
from kvplan.questions.media import asked_with, one_image, used_by


def plan(model: Model, workload: Workload, engine: str = "ideal", **options: Any) -> Allocation | NotPredicted:
    """Predict the cache of `workload`.

    Args:
        engine: `NAME` or `NAME@VERSION`.
        options: the engine's own options, or the shared `kv_dtype` and `tensor_parallel`.

    Returns:
        An `Allocation`, or `NotPredicted` with the reason.

    Raises:
        OptionError: unknown engine or option.
    """
    return predict(make_engine(engine, options), model, workload)


def usual_workload(model: Model, engine: str, options: Mapping[str, Any]) -> Workload:
    """What an engine makes room for when nobody says how much; one sequence of 8,192 tokens where it has no such number.

    Args:
        options: the engine's own.

    Raises:
        OptionError: unknown engine or option.
    """
    found = None
    if about(engine).behind:
        with suppress(Refused):  # said by whoever asks for the bytes
            found = make_engine(engine, options).on(model).usual_workload()
    return found or Workload(batch_size=1, seq_len=8192)


def plan_media(
    model: Model,
    workload: Workload,
    media: Media,
    engine: str = "ideal",
    *,
    files: Mapping[str, Any] | None = None,
    **options: Any,
) -> Allocation | NotPredicted:
    """As `plan`, of sequences that hold `media` beside the text that `workload` says; without any, a model that sees says what
    one image is.

    Args:
        files: sections of a processor's values, over what its family's row assumes.

    Raises:
        OptionError: unknown engine or option, or a text-only model.
        ConfigError: a value of the processor's files is out of range.
    """
    made = make_engine(engine, options)
    if not media:
        found = predict(made, model, workload)
        return found if isinstance(found, NotPredicted) else replace(found, notes=(*found.notes, *one_image(model, made)))
    try:
        use = used_by(made, model, media, files)
    except Refused as problem:
        return NotPredicted(
            reason=problem.reason, see=problem.see, model=model.name, engine=made.name, engine_version=made.version
        )
    answer, text = predict(made, model, asked_with(model, workload, use)), predict(made, model, workload)
    if isinstance(answer, NotPredicted) or isinstance(text, NotPredicted):
        return answer
    return replace(answer, media=use, media_bytes=answer.total_bytes - text.total_bytes)


def predict(engine: Engine, model: Model, workload: Workload) -> Allocation | NotPredicted:
    """As `plan`, for an engine that is at hand."""
    try:
        return footprint(engine.on(model), workload)
    except Refused as problem:
        return NotPredicted(
            reason=problem.reason, see=problem.see, model=model.name, engine=engine.name, engine_version=engine.version
        )
