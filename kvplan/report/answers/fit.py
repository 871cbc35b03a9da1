"""What `kvplan fit` shows: the verdict, the budget line by line, the trade-off with the decisive row marked, what to type."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from msgspec import Struct

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.ledger import Line
from kvplan.domain.tables import Column, Table, without
from kvplan.questions.fit.fixes import served
from kvplan.questions.fit.question import Fit, Limit
from kvplan.report.answers.engine_words import engine_words
from kvplan.report.answers.lines import line_row, lines_table
from kvplan.report.blocks import Block, Command, Fix, Fixes, Notes, Rows, Section, Verdict, View, not_predicted_dict
from kvplan.units import human_bytes

#: The columns of the CSV: one row for each point of the trade-off, or for each GPU that was tried.
CSV_COLUMNS = (
    "model", "engine", "engine_version", "kv_dtype", "gpu", "gpus", "tensor_parallel", "asked", "context", "batch_size", "fits",
    "decisive", "limited_by", "cache_bytes", "memory_bytes", "unused_bytes", "weights_bytes", "reserve_bytes", "budget_bytes",
    "budget_low_bytes", "budget_high_bytes", "context_bytes", "evidence", "flags", "not_predicted",
)  # fmt: skip
_MOST_TRIED = 16  # rows; more are in the JSON
_LIMITS: dict[Limit, str] = {
    "memory": "one more does not fit",
    "model": "that is the model's own limit",
    "engine": "the engine takes no more",
    "nothing": "its cache does not grow",
}


class FitAnswer(Struct, frozen=True):
    """What a GPU can serve, of several models."""

    key: ClassVar[str] = "fits"
    fits: Sequence[Fit | NotPredicted]

    def dicts(self) -> list[dict[str, Any]]:
        """One object a model."""
        return [not_predicted_dict(fit) if isinstance(fit, NotPredicted) else fit.to_dict() for fit in self.fits]

    def rows(self) -> Rows:
        """One row a point of the trade-off, or a GPU that was tried; where memory below the device was asked about, a tier."""
        asked = [fit for fit in self.fits if isinstance(fit, Fit) and fit.tiers is not None]
        if asked:
            from kvplan.report.answers import tiers

            rows = ({**_shared(fit), **row} for fit in asked for row in tiers.csv_rows(fit.tiers))
            return (*CSV_COLUMNS[:7], *tiers.CSV_COLUMNS), rows
        return CSV_COLUMNS, (row for fit in self.fits for row in _csv_rows(fit))

    def blocks(self, view: View) -> Iterator[Block]:
        """The verdict, the budget, the trade-off, what to type or what would make it fit."""
        for fit in self.fits:
            if isinstance(fit, NotPredicted):
                yield fit
                continue
            blocks: list[Block] = [
                Verdict(verdict(fit), yes=None if fit.unsure or fit.not_predicted else fit.fits),
                *_tables(fit),
            ]
            if fit.question.media is not None:
                from kvplan.report.answers.media import media_table, savings

                blocks.append(media_table(fit.question.media))
            if fit.flags:
                blocks.append(Command(fit.flags, fit.needs))
            if fit.question.media is not None and not fit.fixes:
                saved = list(savings(fit.question.media))
                blocks += [Fixes(saved)] if saved else []
            if fit.fixes:
                blocks.append(Fixes([Fix(x.change, x.result, x.command) for x in fit.fixes]))
            notes = tuple(_notes(fit))
            blocks += [Notes(notes)] if notes else []
            if fit.tiers is not None:
                from kvplan.report.answers import tiers

                blocks += tiers.blocks(fit.tiers)
            yield Section(blocks=blocks, apart=True)


def verdict(fit: Fit) -> str:
    """The answer in one line."""
    q = fit.question
    where = f"{q.gpus} x {q.gpu.id}" if q.gpus > 1 else q.gpu.id
    if fit.not_predicted:
        return f"NOT PREDICTED on {where}: {fit.not_predicted}"
    if fit.budget.refused:
        return f"DOES NOT START on {where}: {fit.budget.refused}"
    if fit.unsure:
        band = fit.budget.cache
        needs = human_bytes(fit.cache_bytes)
        least = f"{max(1, fit.batch_size):,} x {max(1, fit.context):,} tokens"
        who = "the server" if fit.pool is not None else q.engine.partition("@")[0]
        word, only = ("FITS", "if") if fit.cache_bytes <= band.bytes else ("DOES NOT FIT", "unless")
        return (
            f"{word} on {where} {only} {who} leaves {needs} for its cache: {least} take that, and it leaves "
            f"{human_bytes(band.bytes)} ({human_bytes(band.low)} to {human_bytes(band.high)})"
        )
    if fit.limited_by == "nothing" and fit.fits:
        grows = "requests" if q.asked != "context" else "tokens"
        return f"FITS on {where}: the cache does not grow with the {grows}, so memory sets no limit"
    if fit.fits:
        if q.asked == "target":
            return f"FITS on {where}: {served(fit)} take {human_bytes(fit.cache_bytes)} of {_left(fit)}"
        return f"FITS on {where}: {served(fit)}{_span(fit)}; {_LIMITS[fit.limited_by]}"
    if fit.budget.cache_bytes <= 0:
        return f"DOES NOT FIT on {where}: weights and reserve leave no memory for a cache ({_left(fit)})"
    if q.asked == "target":
        return f"DOES NOT FIT on {where}: {served(fit)} need {human_bytes(fit.cache_bytes)} of cache, and there are {_left(fit)}"
    wanted = f"one request of {fit.context:,} tokens" if q.asked != "context" else f"{fit.batch_size:,} requests of any length"
    return f"DOES NOT FIT on {where}: not even {wanted} in {_left(fit)}"


def _span(fit: Fit) -> str:
    """How far the answer may be off: fewest and most over what the engine may leave for the cache."""
    if fit.span is None:
        return ""
    low, high = fit.span
    band = fit.budget.cache
    what = "tokens" if fit.question.context is None else "requests"
    return f" ({low:,} to {high:,} {what} for {human_bytes(band.low)} to {human_bytes(band.high)} of cache)"


def _left(fit: Fit) -> str:
    band = fit.budget.cache
    if band.low == band.high:
        return human_bytes(band.bytes)
    return f"{human_bytes(band.bytes)} ({human_bytes(band.low)} to {human_bytes(band.high)})"


def budget_table(fit: Fit) -> Table:
    """Where one device's memory goes."""
    lines = (line for line in fit.budget.lines if line.bytes or line.low or line.high)
    rows = [line_row(line) for line in lines]
    cache, told = fit.budget.cache, fit.budget.told
    sure = ("derived", "what is left") if told is None else (told.basis, told.source)
    rows.append(("for the cache", cache.bytes, *line_row(cache)[2:4], *sure))
    if fit.allocation is not None and fit.limited_by != "nothing":
        about = f"{fit.allocation.engine} {fit.allocation.engine_version}, {fit.allocation.kv_dtype}"
        at = fit.allocation.workload
        rows.append((f"cache of {at.batch_size:,} x {at.seq_len:,} tokens", -fit.cache_bytes, None, None, fit.evidence, about))
    rows += [line_row(line, f"{line.name}, not in that sum") for line in fit.budget.beside if _from_machine(fit, line)]
    return lines_table(_identity(fit), "where the memory goes", rows, decisive="for the cache")


def _from_machine(fit: Fit, line: Line) -> bool:
    """Whether it is what this machine was measured to take, or what its machine file says."""
    return line.basis == fit.question.learned.basis and line.source == fit.question.learned.source


def _identity(fit: Fit) -> str:
    q, a = fit.question, fit.allocation
    parts = [q.model.name, engine_words(q.engine), *([a.kv_dtype] if a else []), q.gpu.id]
    if q.gpus > 1:
        split = f"{q.tensor_parallel} GPUs split the model" if q.tensor_parallel > 1 else ""
        stages = f"{q.pipeline} stages" if q.pipeline > 1 else ""
        parts += [
            *([split] if split else []),
            *([stages] if stages else []),
            *([f"{q.ranks} data ranks"] if q.ranks > 1 else []),
            *([f"{q.replicas} replicas"] if q.replicas > 1 else []),
            "figures of one GPU",
        ]
    return " · ".join(parts)


def rows_table(fit: Fit) -> Table:
    """The trade-off: how many requests at which context; `->` is the row that was asked for."""
    columns = (
        Column(title="", key="mark", kind="mark"),
        Column(title="context", key="context", kind="count"),
        Column(title="requests", key="batch_size", kind="count"),
        Column(title="cache", key="cache_bytes", kind="bytes"),
        Column(title="bytes", key="bytes", kind="count", drop=1, instead=""),
        Column(title="fits", key="fits", kind="verdict"),
    )
    rows = tuple(
        ("->" if row.decisive else "", row.context, row.batch_size, row.cache_bytes, row.cache_bytes, "yes" if row.fits else "no")
        for row in fit.rows
    )
    table = Table(title="", columns=columns, rows=rows)
    return without(table, "fits") if all(row.fits for row in fit.rows) else table


def tried_table(fit: Fit) -> Table:
    """The GPUs that were compared, least memory first, and what each serves; `->` is the smallest that does."""
    q = fit.question
    served_columns: dict[str, Column] = {
        "batch": Column(title="requests", key="batch_size", kind="count"),
        "context": Column(title="tokens", key="context", kind="count"),
    }
    found = served_columns.get(q.asked)  # of a target it is the same in every row
    columns = (
        Column(title="", key="mark", kind="mark"),
        Column(title="gpu", key="gpu", kind="name"),
        Column(title="GPUs", key="gpus", kind="count"),
        Column(title="memory of all", key="memory", kind="bytes"),
        Column(title="for the cache", key="budget", kind="bytes"),
        *([found] if found else []),
        Column(title="serves", key="fits", kind="verdict"),
    )

    def is_best(other: Fit) -> bool:
        return (other.question.gpu, other.question.gpus) == (q.gpu, q.gpus)

    place = next((i for i, other in enumerate(fit.tried) if is_best(other)), 0)
    start = max(0, min(place - _MOST_TRIED // 2, len(fit.tried) - _MOST_TRIED))
    shown = fit.tried[start : start + _MOST_TRIED]
    rows = tuple(
        (
            "->" if is_best(other) else "",
            other.question.gpu.id,
            other.question.gpus,
            other.budget.memory.bytes * other.question.gpus,
            other.budget.cache_bytes * other.question.gpus,
            *([None if other.not_predicted else getattr(other, found.key)] if found else []),
            "yes" if other.fits else "not predicted" if other.not_predicted else "no",
        )
        for other in shown
    )
    hidden = len(fit.tried) - len(shown)
    notes = (f"{hidden:,} more were tried; --format json lists them",) if hidden else ()
    return Table(title="", columns=columns, rows=rows, notes=notes)


def alternatives_table(fit: Fit) -> Table:
    """The same question at each cache dtype, with the engine's flag."""
    columns = (
        Column(title="cache dtype", key="kv_dtype", kind="name"),
        Column(title="context", key="context", kind="count"),
        Column(title="requests", key="batch_size", kind="count"),
        Column(title="fits", key="fits", kind="verdict"),
        Column(title="what to type", key="flag", room=36),
        Column(title="evidence", key="evidence", drop=1, instead="", quiet=True),
    )
    rows = tuple((o.kv_dtype, o.context, o.batch_size, "yes" if o.fits else "no", o.flag, o.evidence) for o in fit.alternatives)
    table = Table(title="", columns=columns, rows=rows)
    return without(table, "fits") if all(o.fits for o in fit.alternatives) else table


def _tables(fit: Fit) -> Iterator[Table]:
    yield budget_table(fit)
    if fit.tried:
        yield tried_table(fit)
    if fit.rows and fit.limited_by != "nothing":
        yield rows_table(fit)
    if any(o.fits for o in fit.alternatives) and fit.limited_by != "nothing":
        yield alternatives_table(fit)


def _seqs_words(fit: Fit) -> Iterator[str]:
    found = fit.seqs
    if found is None:
        return
    if not found.most:
        yield f"no {found.option} is small enough to start at {fit.context:,} tokens"
    elif not found.stops:
        yield f"no {found.option} up to {found.most:,} keeps {fit.question.engine} from starting, by the rules known of it"
    else:
        span = f" ({found.low:,} to {found.high:,} over what may be left for the cache)" if found.low != found.high else ""
        where = f"requests of up to {fit.context:,} tokens"
        yield f"the largest {found.option} that starts for {where} is {found.most:,}{span}"
        yield f"with one more {fit.question.engine} would say: {found.stops}"


def _media_words(fit: Fit) -> Iterator[str]:
    """What the media of each request are, and what they change."""
    q, alone = fit.question, fit.text_alone
    if q.media is None:
        return
    counted = f", beside {q.text:,} tokens of text" if q.text is not None else "; the context counts them"
    yield f"in each request {q.media.words}{counted}"
    if alone is not None and not alone.not_predicted:
        kind = "FITS" if alone.fits else "DOES NOT FIT"
        same = alone.fits == fit.fits and q.asked == "target"
        yield f"without them: {served(alone)}, {'the same verdict' if same else kind}"


def _local_words(fit: Fit) -> Iterator[str]:
    """What is free on this machine's own GPU, where it is asked, and what its driver does not say."""
    q, learned = fit.question, fit.question.learned
    if q.gpu.id != "local" or learned.basis != "measured" or learned.total is None:
        return
    if q.free:
        yield f"measured now: {human_bytes(q.free[0])} are free before this process"
    if learned.context is None:
        yield "no driver says what a context takes"


def _notes(fit: Fit) -> Iterator[str]:
    yield from _local_words(fit)
    yield from _media_words(fit)
    yield from _seqs_words(fit)
    pool, q = fit.pool, fit.question
    if pool is not None and not pool.refused and pool.block_bytes:
        yield (
            f"{pool.engine} reserves {pool.num_blocks:,} blocks of {pool.block_bytes:,} bytes: {pool.num_tokens:,} tokens, "
            f"{pool.concurrency:.2f}x at {pool.max_model_len:,} tokens"
        )
        if fit.typical is not None:
            yield f"{_typical_words(fit)}: {fit.typical:,} at once, as the pool is shared"
        elif fit.fits and q.asked != "target":
            yield "the requests are the worst case, each as long as the context; --average TOKENS says what they usually hold"
    elif pool is not None and pool.refused:
        yield f"{pool.engine} would say: {pool.refused}"
    if (q.average is not None or q.mix is not None) and pool is None and not fit.not_predicted:
        yield f"--{'average' if q.mix is None else 'mix'} says nothing here: {q.engine} shares no pool between requests"
    if len(fit.alternatives) > 1 and not any(o.fits for o in fit.alternatives):
        yield f"none of {fit.question.engine}'s {len(fit.alternatives)} cache dtypes fits"
    yield from fit.notes
    if any(line.basis == "assumed" for line in fit.budget.lines):
        yield "assumed lines are kvplan's guesses: override them with --reserve, --utilization, --memory or --weights"


def _typical_words(fit: Fit) -> str:
    q = fit.question
    return f"requests that hold {q.average:,} tokens on average" if q.mix is None else f"requests of which {q.mix.words}"


def _csv_rows(fit: Fit | NotPredicted) -> Iterator[dict[str, Any]]:
    if isinstance(fit, NotPredicted):
        yield not_predicted_dict(fit)
        return
    for other in fit.tried:
        yield {**_shared(other), "decisive": other.question == fit.question}
    if fit.tried:
        return
    if not fit.rows:
        yield {**_shared(fit), "decisive": True}
    for row in fit.rows:
        flags = fit.flags if row.decisive else ""
        yield {**_shared(fit), **row.to_dict(), "flags": flags}


def _shared(fit: Fit) -> dict[str, Any]:
    lines = {
        "memory_bytes": fit.budget.memory.bytes,
        "unused_bytes": fit.budget.unused.bytes,
        "weights_bytes": fit.budget.weights.bytes,
        "reserve_bytes": fit.budget.reserve.bytes,
    }
    return {**fit.to_dict(), **lines}
