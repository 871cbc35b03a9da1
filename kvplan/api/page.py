"""`kvplan.page`: everything that one page shows of several models."""

from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from shlex import quote
from typing import Any, Final

from kvplan.api.cards import named_gpus
from kvplan.api.fit import questions_of
from kvplan.api.given import Count, Counts, Names, Source, counts, names, sources
from kvplan.api.given import options as given_options
from kvplan.api.memory import flag_of_weights, known_weights
from kvplan.api.workers import installed
from kvplan.domain.ledger import Line
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload, with_longest
from kvplan.errors import InputError, OptionError
from kvplan.limits import CELLS, PAGE_CELLS
from kvplan.loading import load
from kvplan.questions.compare import options_by_engine
from kvplan.questions.explain import Explanation, explain
from kvplan.questions.page import Cache, Page, Shown, Starts
from kvplan.questions.page.caches import cache
from kvplan.questions.page.starts import starts
from kvplan.report.notebook import displayed

displayed(Page, "kvplan.report.answers.page:PageAnswer", several=False)

ENGINES: Final = "vllm,llama.cpp,transformers,ideal"
KV_DTYPES: Final = "auto,fp8,q8_0,q4_0"
SEQ_LENS: Final = "2k:128k:x2"
BATCH_SIZES: Final = "1:64:x2"
GPUS: Final = "rtx-4090,h100-80gb,h200,h200:8"


def page(
    models: Source | Iterable[Source],
    gpu: str = GPUS,
    *,
    seq_len: Counts = SEQ_LENS,
    batch_size: Counts = BATCH_SIZES,
    kv_dtype: Names = KV_DTYPES,
    engine: Names = ENGINES,
    weights: Count | None = None,
    weights_dtype: str | None = None,
    infer: bool = False,
    advance: Callable[[int, int], None] = lambda done, of: None,
    **options: Any,
) -> Page:
    """Everything that one page shows of several models: what a reader chooses between there, and every answer to it.

    `kvplan.report.page.html` makes the page of it, as `kvplan report … -o report.html` does; in a notebook the value shows it.

    Args:
        models: one or several of what `kvplan.load` takes.
        gpu: the cards to choose between, as `fit` takes them; empty for none.
        seq_len: lengths, tokens per sequence.
        batch_size: sequences held at once.
        kv_dtype: cache dtypes; `auto` is each model's own. One that an engine does not have is a setting that says so.
        engine: each `NAME` or `NAME@VERSION`.
        weights, weights_dtype: of the models, as `fit` takes them.
        infer: read unknown architectures by shape.
        advance: told how many more cells are done, and how many there are.
        options: engine options by their own names; one that only some of the engines have is given to those.

    Returns:
        A `Page`: `.caches`, `.starts`, `.models`, `.to_dict()`.

    Raises:
        KvplanError: a bad model, option or value, or more cells than one page holds.

    >>> made = page("llama-3.1-8b", "h100-80gb", engine="ideal", kv_dtype="auto", seq_len="8k", batch_size="4")
    >>> made.caches[0].cells[0][0].total_bytes, made.starts[0].starts[0].cell.requests
    (4294967296, 63)
    """
    listed = sources(models)
    read = [load(source, infer=infer) for source in listed]
    lengths = counts(with_longest(seq_len, read, "«seq_len»") if isinstance(seq_len, str) else seq_len, "«seq_len»")
    sizes, dtypes, engines = counts(batch_size, "«batch_size»"), names(kv_dtype, "«kv_dtype»"), names(engine, "«engine»")
    given = options_by_engine(engines, given_options(options))
    cards = tuple(dict.fromkeys(_label(machine.gpu.id, number) for machine, number in named_gpus(gpu, ()))) if gpu else ()
    settings = len(read) * len(engines) * len(dtypes) * len(lengths)
    for what, cells, most in (("settings", settings * len(sizes), PAGE_CELLS), ("cells of GPUs", settings * len(cards), CELLS)):
        if cells > most:
            hint = f"at most {most:,}: fewer models, engines, cache dtypes, lengths or GPUs"
            raise OptionError(f"{cells:,} {what} are too many for one page", hint=hint)
    of = settings * (len(sizes) + len(cards))
    caches: list[Cache] = []
    found: list[Starts] = []
    for index, (source, model) in enumerate(zip(listed, read, strict=True)):
        line, unknown = _weights(source, model, weights, weights_dtype)
        for spec in engines:
            for dtype in dtypes:
                made = cache(index, model, spec, dtype, lengths, sizes, given[spec])
                caches.append(made)
                advance(len(lengths) * len(sizes), of)
                for card in cards:
                    asked = questions_of(
                        source, model, line, card, weights_flag=flag_of_weights(weights, weights_dtype), engine=spec,
                        kv_dtype=dtype, options=given[spec],
                    )  # fmt: skip
                    each = starts(asked[0], lengths, made.refused, unknown)
                    found.append(Starts(model=index, engine=spec, kv_dtype=dtype, card=card, starts=each))
                    advance(len(lengths), of)
    if all(one.refused for one in caches):
        raise OptionError(caches[0].refused, hint=caches[0].see)
    return Page(
        models=tuple(
            Shown(source=_typed(source, model), model=model, why=_why(model)) for source, model in zip(listed, read, strict=True)
        ),
        engines=engines,
        kv_dtypes=dtypes,
        seq_lens=lengths,
        batch_sizes=sizes,
        cards=cards,
        caches=tuple(caches),
        starts=tuple(found),
        engine_flags=tuple(_flags(given[spec], infer=infer) for spec in engines),
        weights_flag=flag_of_weights(weights, weights_dtype),
        version=installed(),
    )


def _flags(options: Mapping[str, Any], *, infer: bool) -> str:
    """What is typed for an engine's options, as far as they are words."""
    told = [f"--set {quote(f'{name}={value}')}" for name, value in options.items() if isinstance(value, str | int | float)]
    return " ".join([*told, *(["--infer"] if infer else [])])


def _label(name: str, number: int | None) -> str:
    return f"{name}:{number}" if number is not None and number > 1 else name


def _typed(source: Source, model: Model) -> str:
    return str(source) if isinstance(source, str | PathLike) else model.name


def _why(model: Model) -> Explanation:
    """What is kept of one sequence of 8,192 tokens in theory."""
    return explain(model, Workload(seq_len=8192, batch_size=1))


def _weights(source: Source, model: Model, weights: Count | None, dtype: str | None) -> tuple[Line, InputError | None]:
    """The weights, or why nobody knows them."""
    try:
        return known_weights(source, model, weights, dtype), None
    except InputError as problem:
        return Line(name="weights", bytes=0, basis="assumed", source="not known"), problem
