"""What `kvplan receipt` shows: whether the server starts, every line of its memory, and its own words."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

from msgspec import Struct

from kvplan.domain.tables import Table
from kvplan.questions.receipt import Receipt
from kvplan.report.answers import tiers
from kvplan.report.answers.engine_words import engine_words
from kvplan.report.answers.lines import line_row, lines_table
from kvplan.report.answers.media import media_table, savings
from kvplan.report.blocks import Block, Fixes, Notes, Rows, Section, Steps, Verdict, View
from kvplan.units import human_bytes

#: The columns of the CSV, one row a line (docs/reference/formats.md).
CSV_COLUMNS: Final = (
    "model", "engine", "engine_version", "gpu", "starts", "section", "name", "bytes", "low", "high", "basis", "source", "refused",
)  # fmt: skip


class ReceiptAnswer(Struct, frozen=True):
    """Start-ups of several models."""

    key: ClassVar[str] = "receipts"
    receipts: Sequence[Receipt]

    def dicts(self) -> list[dict[str, Any]]:
        """One object a model."""
        return [one.to_dict() for one in self.receipts]

    def rows(self) -> Rows:
        """One row a line of a ledger."""
        return CSV_COLUMNS, (row for one in self.receipts for row in _csv_rows(one))

    def blocks(self, view: View) -> Iterator[Block]:
        """The verdict, the lines, and what the server prints."""
        for one in self.receipts:
            blocks: list[Block] = [Verdict(verdict(one), yes=answer(one))]
            if one.pool is not None:
                beside = beside_table(one)
                blocks += [ledger_table(one), *([beside] if beside is not None else [])]
            media = one.question.media
            if media is not None:
                found = list(savings(media))
                blocks += [media_table(media), *([Fixes(found)] if found else [])]
            if one.lines:
                blocks.append(Steps(("the server prints:", *(f"  {line}" for line in one.lines))))
            if one.notes:
                blocks.append(Notes(one.notes))
            blocks += tiers.blocks(one.tiers) if one.tiers is not None else []
            yield Section(blocks=blocks, apart=True)


def answer(r: Receipt) -> bool | None:
    """Whether the server starts; None where that is not sure."""
    return None if r.not_predicted or r.may_start else r.starts and r.pool is not None


def verdict(r: Receipt) -> str:
    """The answer in one line."""
    q = r.question
    where = f"{q.gpus} x {q.gpu.id}" if q.gpus > 1 else q.gpu.id
    if r.not_predicted:
        return f"NOT PREDICTED on {where}: {r.not_predicted}"
    band = r.budget.cache
    left = human_bytes(band.bytes)
    if band.low != band.high:
        left += f" ({human_bytes(band.low)} to {human_bytes(band.high)})"
    if r.may_start:
        return f"MAY START on {where}: {left} for the cache, and the smaller end is not enough"
    if not r.starts or r.pool is None:
        return f"DOES NOT START on {where}: {r.refused or f'{left} for the cache'}"
    if not r.pool.num_tokens:
        return f"STARTS on {where}: {left} for a cache, and the model keeps none"
    return (
        f"STARTS on {where}: {left} for the cache, {r.pool.num_tokens:,} tokens, "
        f"{r.pool.concurrency:.2f} requests of {r.pool.max_model_len:,} tokens"
    )


def ledger_table(r: Receipt) -> Table:
    """Every line, those that are taken with negative bytes, and what is left."""
    rows = [line_row(line) for line in r.budget.lines if line.bytes or line.low or line.high]
    rows.append(line_row(r.budget.cache, "for the cache", "" if r.budget.told is not None else "what is left"))
    q = r.question
    title = " · ".join(
        [q.model.name, engine_words(q.engine), q.gpu.id, *([f"one of {q.devices} processes"] if q.devices > 1 else [])]
    )
    return lines_table(title, "where the memory goes", rows, decisive="for the cache")


def beside_table(r: Receipt) -> Table | None:
    """What the process takes outside that sum: before its snapshot, after its cache, inside memory that it released."""
    found = r.budget.ledger
    lines = [line for line in found.beside if line.high] if found is not None else []
    return lines_table("", "not in that sum", [line_row(line) for line in lines]) if lines else None


def _csv_rows(r: Receipt) -> Iterator[dict[str, Any]]:
    q = r.question
    shared = {
        "model": q.model.name, "engine": q.engine.partition("@")[0], "engine_version": r.engine_version, "gpu": q.gpu.id,
        "starts": r.starts, "refused": r.refused or r.not_predicted,
    }  # fmt: skip
    sections = [("lines", r.budget.lines), ("cache", (r.budget.cache,))]
    if r.budget.ledger is not None:
        sections.append(("beside", r.budget.ledger.beside))
    for section, lines in sections:
        for line in lines:
            yield {**shared, "section": section, **line.to_dict()}
