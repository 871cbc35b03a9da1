"""`kvplan.diff`: what changes between two releases of an engine, two cache dtypes, or two files of a model."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

from kvplan.api.given import Count, Names, Source, names, size, sources, workload
from kvplan.api.given import options as given_options
from kvplan.domain.model import Model
from kvplan.errors import OptionError, shown
from kvplan.loading import catalogue, load
from kvplan.questions.diff import BUDGET_BYTES, KINDS, Diff, of_dtypes, of_engines, of_models
from kvplan.report.notebook import displayed

displayed(Diff, "kvplan.report.answers.diff:DiffAnswer", several=False)


def diff(
    before: Source,
    after: Source,
    models: Source | Iterable[Source] = (),
    *,
    of: Literal["engine", "kv-dtype", "model"] = "engine",
    engine: Names | None = None,
    seq_len: Count = 8192,
    batch_size: Count = 1,
    kv_dtype: str = "auto",
    tensor_parallel: Count | None = None,
    encoder_len: Count = 0,
    budget: Count = BUDGET_BYTES,
    infer: bool = False,
    advance: Callable[[int], None] = lambda done: None,
    **options: Any,
) -> Diff:
    """Whose capacity changes, by how much, and by which rule.

    Args:
        before: `NAME@VERSION` of an engine; of `kv-dtype` a cache dtype; of `model` what `kvplan.load` takes.
        after: the same of the other.
        models: whose answers are compared: one or several of what `kvplan.load` takes, the whole catalogue when none.
        of: what the two are.
        engine: of `kv-dtype` the engine that is told the dtype, of `model` one or several (`ideal` when None).
        seq_len, batch_size, kv_dtype, tensor_parallel, encoder_len, infer: as `kvplan.estimate` takes them.
        budget: bytes on each device that requests share (an int, or a text with its unit).
        advance: told of each model that is done.
        options: of the engine by their own names, for both.

    Returns:
        A `Diff`: `.changed`, `.changes` (each with `.model`, `.before`, `.after` and `.causes`: the rule, its source, and the
        answer without it), `.same`, `.rules`, `.to_dict()`.

    Raises:
        KvplanError: a bad model, engine, dtype or option; two engines; an engine of which one release's rules are known.

    >>> [(c.model.name, c.before.total_bytes, c.after.total_bytes) for c in diff("vllm@0.26", "vllm@0.33", "qwen3.5-9b").changes]
    [('qwen3.5-9b', 380633088, 452984832)]
    """
    if of not in KINDS:
        raise OptionError(f"«of» must be one of {', '.join(KINDS)}, got {shown(of)}", hint=f"one of {', '.join(KINDS)}")
    budget_bytes = size(budget, "«budget»")
    told = given_options(options, tensor_parallel=tensor_parallel)
    if of != "kv-dtype" and kv_dtype != "auto":
        told["kv_dtype"] = kv_dtype
    if of == "model":
        if _listed(models):
            raise OptionError("of two files of a model, no other models are compared", hint="give two files and no more")
        old, new = load(before, infer=infer), load(after, infer=infer)
        asked = workload(seq_len, batch_size, encoder_len, old, new)
        return of_models(old, new, asked, engines=names(engine or "ideal", "engine"), budget_bytes=budget_bytes, options=told)
    first, second = _text(before, of), _text(after, of)
    if of == "engine" and engine is not None:
        raise OptionError("«engine»: the two that are compared are engines already", hint="leave «engine» out")
    given = _listed(models)
    read: Iterable[Model] = [load(source, infer=infer) for source in given] if given else _catalogue()
    listed = [*read] if given else ()
    asked = workload(seq_len, batch_size, encoder_len, *listed)
    counted = _counted(read, advance)
    if of == "engine":
        return of_engines(first, second, counted, asked, budget_bytes=budget_bytes, options=told)
    if engine is None:
        raise OptionError("two cache dtypes are compared in an engine", hint="say which, as in «engine vllm»")
    (one,) = names(engine, "engine")[:1]
    return of_dtypes(first, second, counted, asked, engine=one, budget_bytes=budget_bytes, options=told)


def _listed(models: Source | Iterable[Source]) -> list[Source]:
    return sources(models) if not (isinstance(models, list | tuple) and not models) else []


def _text(value: Source, of: str) -> str:
    if not isinstance(value, str):
        raise OptionError(f"two of «of {of}» are names, got {shown(value)}", hint="two names, as in `vllm@0.26` `vllm@0.33`")
    return value


def _catalogue() -> Iterable[Model]:
    """Every model that kvplan knows by name."""
    return (catalogue.load(name)[0] for name in catalogue.names())


def _counted(models: Iterable[Model], advance: Callable[[int], None]) -> Iterable[Model]:
    for model in models:
        yield model
        advance(1)
