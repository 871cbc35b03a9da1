"""`kvplan.fit`: from what people type or pass to the questions that are answered."""

import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final, NamedTuple

from kvplan.api.cards import any_card, named, named_gpus
from kvplan.api.given import Count, Source, checked, count, size
from kvplan.api.memory import flag_of_weights, free_bytes, known_weights
from kvplan.domain.gpus import counted
from kvplan.domain.ledger import Line
from kvplan.domain.machine import NOTHING, Learned, Machine
from kvplan.domain.media.asked import NO_MEDIA, Media, parse_media
from kvplan.domain.model import Model
from kvplan.domain.tiers import TierAsk
from kvplan.domain.workload import with_longest
from kvplan.engines import about, data_ranks, default_engine, option_names, pipeline_stages
from kvplan.errors import OptionError, Refused, written
from kvplan.loading import load
from kvplan.loading.processor_files import processor_files
from kvplan.questions.fit.answer import answer, smallest, with_text_alone
from kvplan.questions.fit.budget import utilization_from
from kvplan.questions.fit.fixes import with_fixes
from kvplan.questions.fit.question import Fit, Question
from kvplan.questions.media import encoder_len as encoder_len_of
from kvplan.questions.media import used_or_refused
from kvplan.report.notebook import displayed
from kvplan.units import parse_count, short_count

displayed(Fit, "kvplan.report.answers.fit:FitAnswer")

_TARGET: Final = r"\s*([\d_,.]+[kKmM]?)\s*(?:users?|requests?|sequences?)?\s*(?:at|x|@)\s*([\d_,.]+[kKmM]?)\s*(?:tokens)?\s*"
_SPLITS: Final = (1, 2, 4, 8)


def try_fit(
    model: Source,
    gpu: str | None = None,
    *,
    engine: str | None = None,
    context: Count | None = None,
    batch_size: Count | None = None,
    target: str | None = None,
    gpus: Count | None = None,
    tensor_parallel: Count | None = None,
    data_parallel: Count | None = None,
    expert_parallel: bool = False,
    kv_dtype: str = "auto",
    weights: Count | None = None,
    weights_dtype: str | None = None,
    reserve: Count | None = None,
    memory: Count | None = None,
    utilization: float | str | None = None,
    encoder_len: Count = 0,
    images: str | None = None,
    video: str | None = None,
    audio: str | None = None,
    average: Count | None = None,
    mix: str | None = None,
    max_seqs: bool = False,
    free: Count | Sequence[Count] | None = None,
    machine: str | Path | None = None,
    host: Count | None = None,
    disk: Count | None = None,
    sessions: str | None = None,
    infer: bool = False,
    **options: Any,
) -> Fit:
    """What a GPU can serve: the largest batch at a context, the longest context of a batch, or whether a target fits.

    Where the engine refuses the model, `fit` raises `Refused` and `try_fit` returns a `Fit` that says so: `.not_predicted`.

    Args:
        model: anything that `kvplan.load` takes.
        gpu: a name of the catalogue or as drivers print it (`h100-80gb`, `rtx-4090`, `NVIDIA L40S`, `h100:2` or `2xh100` for
            two), a size alone (`24GiB`: any card), several separated by commas, `all`, or `local` for this machine's. Of
            several, the smallest that serves is the answer. None: any card that has `memory`.
        engine: `NAME` or `NAME@VERSION`; `vllm` unless the model is a GGUF file, which means `llama.cpp`.
        context: tokens of a request, prompt and output together (`max`: the model's limit); without it, the longest is found.
        batch_size: requests held at once, by all replicas together; without it, the most are found.
        target: both in words: `32 users at 32k`.
        gpus: devices; `tensor_parallel` of them split one model (all, where the engine can), the rest are replicas.
        data_parallel: data ranks, each with a cache and requests of its own, that share one model's experts; `all`: one a
            device. `expert_parallel` deals the experts out whole instead of cutting each.
        kv_dtype: cache dtype.
        weights: bytes of the weights, an int or a text with its unit; else they must be known (`kvplan.loading.weights.find`).
        weights_dtype: the weights in this format, tensor by tensor (`bf16`, `fp8`, `awq`, `nvfp4`, `bnb-4bit`, `q4_k_m` …).
        reserve: bytes on each device for activations and runtime, instead of kvplan's assumption.
        memory: bytes of each device, instead of the catalogue's.
        utilization: the share of the memory that may be used; the engine's own default otherwise.
        encoder_len: encoder output (or image) tokens of a request.
        images, video, audio: of each request, beside the tokens that `context` says of its text: `4x1024x1024` (count x
            height x width), `60s@1fps@720x1280`, `30s`; a context that is found counts them.
        average: tokens that a request really holds on average; a server with a shared pool then holds more (`.typical`).
        mix: or how many requests hold how many: `70% 4k, 25% 32k, 5% 128k`; without `context`, the longest is the limit.
        max_seqs: also find the most requests at once that the server can be told and starts (`.seqs`).
        free: bytes that other tenants leave on each device, one value or one a rank.
        machine: a file that `kvplan audit LOG --save` wrote: what only that machine knows.
        host, disk: bytes of host memory and of disk below the GPUs, of one server: how many tokens and sessions each of the
            engine's tiers holds then (`.tiers`).
        sessions: conversations that come back, and how long they are: `200 at 60k`.
        infer: read an unknown architecture by shape.
        options: any option of the engine by its own name.

    Returns:
        A `Fit`: `.fits`, `.batch_size`, `.context`, `.budget.lines`, `.rows`, `.flags`, `.fixes`, `.to_dict()`.

    Raises:
        OptionError: a bad value, an unknown GPU or engine, or weights that nobody knows.
        KvplanError: a model that cannot be read; see `kvplan.errors`.

    >>> try_fit("llama-3.1-8b", "h100-80gb", engine="ideal", context="32k").batch_size
    15
    """
    if target is not None:
        if context is not None or batch_size is not None:
            raise OptionError("«target» says both the requests and the context", hint="leave out «context» and «batch_size»")
        batch_size, context = parse_target(target)
    below: TierAsk | None = None
    if host is not None or disk is not None or sessions is not None:
        from kvplan.api.tiers import tiers_asked

        below = tiers_asked(host, disk, sessions)
    if below is not None and below.tokens and context is None and batch_size is None and mix is None:
        context = below.tokens
    if gpu is None:
        gpu, memory = any_card(memory), None
    loaded = load(model, infer=infer)
    asked = questions_of(
        model,
        loaded,
        known_weights(model, loaded, weights, weights_dtype),
        gpu,
        weights_flag=flag_of_weights(weights, weights_dtype),
        engine=engine,
        context=context,
        batch_size=batch_size,
        gpus=gpus,
        tensor_parallel=tensor_parallel,
        data_parallel=data_parallel,
        expert_parallel=expert_parallel,
        kv_dtype=kv_dtype,
        reserve=reserve,
        memory=memory,
        utilization=utilization,
        encoder_len=encoder_len,
        media=parse_media(images, video, audio),
        average=average,
        mix=mix,
        max_seqs=max_seqs,
        free=free,
        machine=machine,
        below=below,
        options=options,
    )
    found = with_fixes(answer(asked[0]) if len(asked) == 1 else smallest(asked))
    return found if found.question.media is None or found.not_predicted else with_text_alone(found)


def questions_of(
    source: Source,
    loaded: Model,
    weights: Line,
    gpu: str,
    *,
    weights_flag: str = "",
    engine: str | None = None,
    context: Count | None = None,
    batch_size: Count | None = None,
    gpus: Count | None = None,
    tensor_parallel: Count | None = None,
    data_parallel: Count | None = None,
    expert_parallel: bool = False,
    kv_dtype: str = "auto",
    reserve: Count | None = None,
    memory: Count | None = None,
    utilization: float | str | None = None,
    encoder_len: Count = 0,
    media: Media = NO_MEDIA,
    average: Count | None = None,
    mix: str | None = None,
    max_seqs: bool = False,
    free: Count | Sequence[Count] | None = None,
    machine: str | Path | None = None,
    below: TierAsk | None = None,
    options: Mapping[str, Any],
) -> list[Question]:
    """What was typed or passed, as questions: one for each GPU of the list and each way to split the model left open.

    Raises:
        OptionError: a bad value, an unknown GPU or engine.
    """
    mixed = None
    if mix is not None:
        from kvplan.domain.mix import parse_mix

        mixed = parse_mix(mix)
    if mixed is not None and average is not None:
        raise OptionError("«mix» and «average» are two answers to one question", hint="give one of them")
    tokens = mixed.longest if mixed else None
    if context is not None:
        tokens = count(with_longest(written(context, 400), [loaded], "«context»"), "«context»")
    if mixed is not None and tokens is not None and mixed.longest > tokens:
        raise OptionError(
            f"«mix»: requests of {mixed.longest:,} tokens are longer than «context {short_count(tokens)}»", hint="leave out one"
        )
    if below is not None and tokens is not None and below.tokens > tokens:
        raise OptionError(
            f"«sessions»: {below.tokens:,} tokens are more than «context {short_count(tokens)}»", hint="leave out «context»"
        )
    makers = {entry.vendor for name in gpu.split(",") for entry in named(counted(name)[0])}
    maker = makers.pop() if len(makers) == 1 else ""
    typed = str(source) if isinstance(source, str | PathLike) else ""
    chosen = engine or default_engine(typed, gguf=bool(loaded.gguf), maker=maker)
    base = {
        "model": loaded,
        "weights": weights,
        "weights_given": bool(weights_flag),
        "free": free_bytes(free),
        "learned": NOTHING if machine is None else _learned(machine),
        "engine": chosen,
        "context": tokens,
        "batch_size": None if batch_size is None else count(batch_size, "«batch_size»"),
        "encoder_len": count(encoder_len, "«encoder_len»", minimum=0),
        "average": None if average is None else count(average, "«average»"),
        "mix": mixed,
        "max_seqs": bool(max_seqs),
        "memory_bytes": None if memory is None else size(memory, "«memory»"),
        "reserve_bytes": None if reserve is None else size(reserve, "«reserve»", minimum=0),
        "utilization": None if utilization is None else utilization_from(utilization),
        "options": {**({} if kv_dtype == "auto" else {"kv_dtype": kv_dtype}), **options},
        "source": typed,
        "weights_flag": weights_flag,
        "machine": "" if machine is None else str(machine),
        "below": below,
    }
    if media:
        if mixed is not None:
            raise OptionError("«mix» says whole requests, media included", hint="count the images' tokens in its lengths")
        base |= _with_media(base, media, processor_files(source))
    given = ((gpus, "«gpus»"), (tensor_parallel, "«tensor_parallel»"))
    ranks = data_parallel if data_parallel in {None, "all"} else count(data_parallel or 0, "«data_parallel»")
    if isinstance(ranks, int):
        _positive(ranks, "«data_parallel»")
    cards, split = (None if n is None else count(n, what) for n, what in given)
    return list(_questions(base, gpu, cards, split, Wanted(ranks, expert_parallel)))


def _with_media(base: Mapping[str, Any], media: Media, files: Mapping[str, Any]) -> dict[str, Any]:
    """What images, video and audio make of a question: longer requests, and keys of cross-attention.

    Raises:
        OptionError: the model takes none, or its processor refuses these.
    """
    model: Model = base["model"]
    use = used_or_refused(model, media, base["engine"], base["options"], files)
    return {
        "media": use,
        "processor_files": files,
        "context": None if base["context"] is None else base["context"] + use.tokens,
        "average": None if base["average"] is None else base["average"] + use.tokens,
        "encoder_len": encoder_len_of(model, use, base["encoder_len"]),
    }


def _served(found: Fit) -> Fit:
    """An answer that is one.

    Raises:
        Refused: the engine does not serve the model, or kvplan cannot tell.
    """
    if found.not_predicted:
        raise Refused(found.not_predicted, "; ".join(f"{fix.change}: {fix.command}" for fix in found.fixes[:1]))
    return found


fit = checked(try_fit, _served, "fit")


def parse_target(text: str) -> tuple[int, int]:
    """(requests, tokens) of `32 users at 32k`.

    Raises:
        OptionError: not in that form.

    >>> parse_target("32 users at 32k")
    (32, 32768)
    """
    match = re.fullmatch(_TARGET, text)
    if match is None:
        raise OptionError(f"«target»: expected something like `32 users at 32k`, got `{text[:60]}`")
    return parse_count(match[1], what="«target» users"), parse_count(match[2], what="«target» context")


class Wanted(NamedTuple):
    """Data ranks as asked for: how many (`all`: one a device), and whether experts are dealt out."""

    ranks: Count | None
    experts: bool


def _questions(
    base: dict[str, Any], names: str, count: int | None, tensor_parallel: int | None, wanted: Wanted
) -> Iterator[Question]:
    """One question for each GPU of the list and each way to split the model that is left open."""
    listed = named_gpus(names, about(base["engine"]).makers)
    splits = "tensor_parallel" in option_names(base["engine"])
    spread = wanted.ranks is not None or wanted.experts
    search = (
        len(listed) > 1
        and about(base["engine"]).roles.get("stages") not in base["options"]
        and base["batch_size"] is not None
        and base["context"] is not None
        and splits
        and not spread
        and data_ranks(base["engine"], base["options"]) == 1
    )
    for machine, own_count in listed:
        device = machine.gpu
        known = base | _measured(machine, base)
        if own_count is not None and count is not None and own_count != count:
            raise OptionError(f"«gpu {device.id}:{own_count}» and «gpus {count}» differ", hint="give one of them")
        number = own_count or count
        if number is None and tensor_parallel is None and search and device.memory_kind == "discrete":
            yield from (Question(**known, gpu=device, gpus=n, tensor_parallel=n) for n in _SPLITS)
            continue
        if number is not None:
            _positive(number, "«gpus»")
        if spread:
            known["options"] = _spread(base, wanted, number, tensor_parallel)
        one = Question(**known, gpu=device)
        outside = one.pipeline * (one.ranks // one.inside)  # what the devices of tensor parallelism are multiplied by
        number = number or max(tensor_parallel or 1, one.inside) * outside
        share = tensor_parallel or (max(1, number // outside) if splits else 1)
        _positive(number, "«gpus»")
        _positive(share, "«tensor_parallel»")
        yield Question(**known, gpu=device, gpus=number, tensor_parallel=share)


def _spread(base: Mapping[str, Any], wanted: Wanted, number: int | None, tensor_parallel: int | None) -> dict[str, Any]:
    """The engine's options, told of data ranks and of experts that are dealt out.

    Raises:
        OptionError: an engine without data ranks, or told so twice.
    """
    engine, options = base["engine"], base["options"]
    how = about(engine).data_ranks
    if how is None:
        raise OptionError(f"engine {engine} has no data ranks here", hint="leave out «data_parallel» and «expert_parallel»")
    stages = pipeline_stages(engine, options)
    devices = max(1, (number or tensor_parallel or 1) // stages)  # of one copy, where all of them hold one
    ranks = how.ranks(options) if wanted.ranks is None else wanted.ranks
    if ranks == "all":
        ranks = devices if how.inside else max(1, devices // (tensor_parallel or 1))
    told = how.told(int(ranks), devices if number else max(devices, int(ranks)), wanted.experts)
    if wanted.ranks is None:  # experts alone; ranks as the options have them
        told = {key: value for key, value in told.items() if key not in how.told(1, devices, False)}
    twice = next((key for key in told if key in options), None)
    if twice is not None:
        raise OptionError(f"`{twice}` is given twice, as an option and as data ranks", hint="give one of them")
    return {**options, **told}


def _learned(machine: str | Path) -> Learned:
    """What a machine file says."""
    from kvplan.loading.machine import read_machine

    return read_machine(machine)


def _measured(machine: Machine, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the machine itself says, where nobody has said otherwise."""
    found: dict[str, Any] = {}
    if machine.free and not given["free"]:
        found["free"] = machine.free
    if machine.learned != NOTHING and given["learned"] == NOTHING:
        found["learned"] = machine.learned
    return found


def _positive(amount: int, what: str) -> None:
    if not 1 <= amount <= 65_536:
        raise OptionError(f"{what} must be from 1 to 65,536, got {amount}")
