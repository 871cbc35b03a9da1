"""What an estimate and a pool show beside the layers when the engine is SGLang."""

from __future__ import annotations

from typing import Any

from kvplan.domain.allocation import Allocation
from kvplan.domain.pool import Pool
from kvplan.domain.tables import Cell, Column, Table
from kvplan.engines.sglang.facts import SglangFacts


def tables(a: Allocation) -> tuple[Table, ...]:
    """What the flags became."""
    facts: SglangFacts = a.facts
    columns = (Column(title="setting", key="setting"), Column(title="value", key="value"))
    return (Table(title="what SGLang makes of its flags", columns=columns, rows=tuple(_settings(facts))),)


def _settings(facts: SglangFacts) -> list[tuple[Cell, ...]]:
    rows: list[tuple[str, Any]] = [
        ("page", f"{facts.page_size:,} token{'s' if facts.page_size > 1 else ''}"),
        ("a token costs the budget", f"{facts.cell_bytes:,.10g} bytes"),
        ("--mem-fraction-static", f"{facts.mem_fraction_static:g}"),
        ("--chunked-prefill-size", f"{facts.chunked_prefill_size:,}"),
        ("attention backends (prefill, decode)", ", ".join(facts.attention_backends)),
    ]
    if facts.swa_full_tokens_ratio is not None and facts.sliding_rows is not None:
        rows += [
            ("--swa-full-tokens-ratio", f"{facts.swa_full_tokens_ratio:g}"),
            ("a request holds of the sliding pool", f"at most {facts.sliding_rows:,} rows"),
        ]
    if facts.state_slots_per_request is not None:
        rows += [("a running request needs", f"{facts.state_slots_per_request} state slots of {facts.state_slot_bytes:,} bytes")]
    if facts.draft_layers:
        rows += [("the drafter is charged as", f"{facts.draft_layers} layers of the model")]
    rows += [("a request's row in req_to_token", f"{facts.req_to_token_row_bytes:,} bytes, not charged to the budget")]
    return [(name, value) for name, value in rows]


def pool_tables(pool: Pool) -> tuple[Table, ...]:
    """The pools of one device, one row each."""
    if not pool.groups:
        return ()
    columns = (
        Column(title="pool", key="pool"),
        Column(title="layers", key="layers", kind="count"),
        Column(title="slots", key="slots", kind="count"),
        Column(title="a slot of a layer", key="slot_bytes", kind="count", drop=1),
        Column(title="size", key="bytes", kind="bytes"),
    )
    rows = tuple((g["pool"], g["layers"], g["slots"], g["slot_bytes"], g["bytes"]) for g in pool.groups)
    total: tuple[Cell, ...] = ("total", None, None, None, sum(g["bytes"] for g in pool.groups))
    notes = ("slots hold one page more than the server hands out; tables beside the pools are not charged to the budget",)
    return (Table(title="pools", columns=columns, rows=rows, total=total, notes=notes),)
