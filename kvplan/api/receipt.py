"""`kvplan.receipt`: a server's start-up, line by line, before it starts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kvplan.api.given import Count, Source, size
from kvplan.api.given import options as given_options
from kvplan.api.memory import free_bytes, known_weights
from kvplan.domain.gpus import gpu as device
from kvplan.domain.machine import NOTHING
from kvplan.domain.media.asked import parse_media
from kvplan.domain.workload import Workload
from kvplan.engines import USUAL_SERVER, about
from kvplan.engines.kernel.about import Role
from kvplan.engines.kernel.options import given_twice
from kvplan.loading import load
from kvplan.loading.machine import read_machine
from kvplan.loading.processor_files import processor_files
from kvplan.questions.fit.budget import utilization_from
from kvplan.questions.fit.question import Question
from kvplan.questions.media import used_or_refused
from kvplan.questions.receipt import Receipt
from kvplan.questions.receipt import receipt as asked
from kvplan.report.notebook import displayed
from kvplan.units import parse_count

displayed(Receipt, "kvplan.report.answers.receipt:ReceiptAnswer")


def receipt(
    model: Source,
    gpu: str,
    *,
    engine: str = USUAL_SERVER,
    kv_dtype: str = "auto",
    tensor_parallel: Count | None = None,
    weights: Count | None = None,
    weights_dtype: str | None = None,
    reserve: Count | None = None,
    memory: Count | None = None,
    utilization: float | str | None = None,
    free: Count | Sequence[Count] | None = None,
    machine: str | Path | None = None,
    images: str | None = None,
    video: str | None = None,
    audio: str | None = None,
    infer: bool = False,
    holding: Workload | None = None,
    **options: Any,
) -> Receipt:
    """Every line of one worker's memory, what the server prints of it, and whether it comes up.

    Args:
        model: anything that `kvplan.load` takes.
        gpu: a card of the catalogue.
        engine: `NAME` or `NAME@VERSION` of a server.
        kv_dtype, tensor_parallel: as `kvplan.estimate` takes them.
        weights, weights_dtype, reserve, memory, utilization, free, machine: as `kvplan.fit` takes them.
        images, video, audio: of a request, as `kvplan.fit` takes them; what they are is `.media`.
        infer: read an unknown architecture by shape.
        holding: what a process holds that is told neither requests nor their length; a server says itself what it makes room for.
        options: any option of the engine by its own name.

    Returns:
        A `Receipt`: `.starts`, `.budget.ledger`, `.pool`, `.lines`, `.refused`, `.to_dict()`.

    Raises:
        OptionError: a bad value, or an unknown GPU or engine.
    """
    loaded = load(model, infer=infer)
    options = given_options(options, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel)
    split = split_of(engine, options)
    base: dict[str, Any] = {"model": loaded, "gpu": device(gpu), "engine": engine, "tensor_parallel": split, "options": options}
    weights_line = known_weights(model, loaded, weights, weights_dtype)
    stages = Question(**base, weights=weights_line).pipeline
    media = parse_media(images, video, audio)
    files = processor_files(model) if media else {}
    question = Question(
        media=used_or_refused(loaded, media, engine, options, files) if media else None,
        processor_files=files,
        **base,
        weights=weights_line,
        weights_given=weights is not None or weights_dtype is not None,
        gpus=split * stages,
        reserve_bytes=None if reserve is None else size(reserve, "«reserve»", minimum=0),
        memory_bytes=None if memory is None else size(memory, "«memory»"),
        utilization=None if utilization is None else utilization_from(utilization),
        **_held(engine, holding),
        free=free_bytes(free),
        learned=NOTHING if machine is None else read_machine(machine),
    )
    return asked(question)


def _held(engine: str, holding: Workload | None) -> dict[str, Any]:
    """The question's workload, of an engine that is not told what to make room for."""
    if holding is None or {"context", "sequences"} & about(engine).roles.keys():
        return {}
    return {"context": holding.seq_len, "batch_size": holding.batch_size, "encoder_len": holding.encoder_len}


def split_of(engine: str, options: dict[str, Any]) -> int:
    """Devices that share the heads, taken out of the options: by kvplan's word or the engine's own."""
    word: Role = "tensor_parallel"
    own = about(engine).roles.get(word, word)
    if own != word and {word, own} <= options.keys():
        raise given_twice(engine, word, own)
    return parse_count(str(options.pop(word, options.pop(own, 1))), what=f"«{word}»")
