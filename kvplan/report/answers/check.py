"""What `kvplan check` shows: of each server whether it starts, what was read, and its engine's ledger."""

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from msgspec import Struct

from kvplan.errors import printable
from kvplan.questions.check import Check, Checked
from kvplan.report.answers import tiers
from kvplan.report.answers.fit import budget_table
from kvplan.report.answers.placement import device_table
from kvplan.report.answers.receipt import beside_table, ledger_table
from kvplan.report.answers.servers import cards, heading
from kvplan.report.blocks import Block, Notes, Rows, Section, Verdict, View

COLUMNS: Final = (
    "file", "line", "place", "engine", "version", "model", "status", "reason", "taken_bytes", "tokens", "longest", "options",
    "gpus", "unknown", "gone", "notes",
)  # fmt: skip
_SAYS: Final = {
    "starts": "STARTS", "may start": "MAY START", "does not start": "DOES NOT START", "not decided": "NOT DECIDED",
}  # fmt: skip


class CheckAnswer(Struct, frozen=True):
    """The servers of the inputs with their outcomes."""

    key: ClassVar[str] = "checks"
    check: Check

    def dicts(self) -> list[dict[str, Any]]:
        """One object a server."""
        return [one.to_dict() for one in self.check.servers]

    @property
    def beside(self) -> dict[str, Any]:
        """The worst of all."""
        return {"starts": self.check.starts, "status": self.check.status}

    def rows(self) -> Rows:
        """One row a server."""
        return COLUMNS, (_row(one) for one in self.check.servers)

    def blocks(self, view: View) -> Iterator[Block]:
        """The verdict of each, its ledger, and what was not counted."""
        for one in self.check.servers:
            yield Section(blocks=list(_blocks(one)), apart=True)
        if self.check.others:
            yield Notes([f"takes a card and is no server that kvplan knows: {', '.join(map(printable, self.check.others[:20]))}"])
        if not self.check.servers:
            yield Notes(["no server is started here"])


def said(one: Checked) -> str:
    """The outcome of one server in a sentence that begins with its word in capitals."""
    found = one.outcome
    words = f"{_SAYS[found.status]}: {heading(one.server)}"
    if found.reason:
        words += f": {printable(found.reason, 600)}"  # a refusal of vLLM's is some 400 long
    elif found.receipt is not None and found.receipt.pool is not None:
        pool = found.receipt.pool
        held = f"{pool.num_tokens:,} tokens, {pool.concurrency:.2f} requests of {pool.max_model_len:,} tokens"
        words += f": {held}" if pool.num_tokens else ": its model keeps no cache"
    elif found.fit is not None:
        words += f": {found.fit.batch_size:,} x {found.fit.context:,} tokens"
    elif found.laid is not None:
        words += f": {found.laid.requests:,} x {found.laid.context:,} tokens, {found.laid.spread.offloaded} layers on the cards"
    return words


def helps(one: Checked) -> list[str]:
    """What would make it start, where that is known."""
    found = one.outcome
    said = [f"with requests of at most {found.longest:,} tokens it would start"] if found.longest else []
    return [*said, *([f"with {found.share:g} of each card it would start"] if found.share else [])]


def _blocks(one: Checked) -> Iterator[Block]:
    found = one.outcome
    yield Verdict(said(one), yes=None if found.status in {"not decided", "may start"} else found.status == "starts")
    if found.receipt is not None and found.receipt.pool is not None:
        yield ledger_table(found.receipt)
        beside = beside_table(found.receipt)
        if beside is not None:
            yield beside
    elif found.fit is not None and not found.fit.not_predicted:
        yield budget_table(found.fit)
    elif found.laid is not None:
        yield device_table(found.laid)
    if found.tiers is not None:
        yield from tiers.blocks(found.tiers)
    notes = [*helps(one), *one.notes, *found.notes]
    if one.beside:
        notes.insert(0, f"starts after {', '.join(map(printable, one.beside))} on the same cards")
    given = cards(one.server)
    if given:
        notes.append(f"cards: {printable(given)}")
    if notes:
        yield Notes([printable(note, 400) for note in notes])


def _row(one: Checked) -> dict[str, Any]:
    server, found = one.server, one.outcome
    return {
        "file": server.file,
        "line": server.line,
        "place": server.place,
        "engine": server.engine,
        "version": server.version,
        "model": server.model,
        "status": found.status,
        "reason": found.reason,
        "taken_bytes": found.taken_bytes,
        "tokens": found.tokens,
        "longest": found.longest,
        "options": json.dumps(dict(server.options)),
        "gpus": json.dumps(server.gpus),
        "unknown": " ".join(server.unknown),
        "gone": " ".join(server.gone),
        "notes": "; ".join([*one.notes, *found.notes]),
    }
