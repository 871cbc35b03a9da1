"""What `kvplan report` shows: the page itself as HTML; its grid for machines, and on a terminal what the page begins with."""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from msgspec import Struct

from kvplan.domain.tables import Cell, Column, Table
from kvplan.questions.page import Page
from kvplan.report.answers.engine_words import engine_words
from kvplan.report.blocks import Block, Notes, Rows, View
from kvplan.units import short_count

#: The columns of the CSV, one row a cell of the grid of caches (docs/reference/formats.md).
CSV_COLUMNS: Final = (
    "model", "engine", "engine_version", "kv_dtype", "stored", "batch_size", "seq_len", "total_bytes", "payload_bytes",
    "bookkeeping_bytes", "bytes_per_token", "ideal_bytes", "evidence", "not_predicted",
)  # fmt: skip


class PageAnswer(Struct, frozen=True):
    """One page."""

    key: ClassVar[str] = "page"
    shown: Page

    @property
    def page(self) -> str:
        """The HTML: not blocks under each other, but a page that answers to what is chosen on it."""
        from kvplan.report.page import html

        return html(self.shown)

    def dicts(self) -> dict[str, Any]:
        """One object: what can be chosen, and every cell."""
        return self.shown.to_dict()

    def rows(self) -> Rows:
        """One row a cell of the grid of caches."""
        return CSV_COLUMNS, self.shown.rows()

    def blocks(self, view: View) -> Iterator[Block]:
        """The caches of one sequence of the grid's shortest and longest lengths, a row a model and engine."""
        yield _table(self.shown)
        yield Notes(("with -o report.html this is a page to look at: a person changes every setting there",))


def _table(page: Page) -> Table:
    ends = sorted({0, len(page.seq_lens) - 1})
    columns = [
        Column(title="model", key="model", kind="name", once=True),
        Column(title="engine", key="engine", kind="name"),
        Column(title="kv dtype", key="kv_dtype", kind="name"),
        *(Column(title=f"at {short_count(page.seq_lens[i])}", key=f"{page.seq_lens[i]}", kind="bytes") for i in ends),
    ]
    rows: list[tuple[Cell, ...]] = []
    for cache in page.caches:
        if not cache.refused:
            first = [cache.cells[i][0] for i in ends]
            shown = [None if cell.refused else cell.total_bytes for cell in first]
            rows.append((page.models[cache.model].name, engine_words(cache.engine), cache.stored, *shown))
    title = f"cache of {page.batch_sizes[0]:,} at once, by tokens of each"
    return Table(title=title, columns=tuple(columns), rows=tuple(rows))
