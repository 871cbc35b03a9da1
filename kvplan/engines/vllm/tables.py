"""What an estimate shows beside the layers when the engine is vLLM: its groups, and where the bytes beyond `ideal` go."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kvplan.domain.allocation import Allocation
from kvplan.domain.beyond import Beyond, Part
from kvplan.domain.pool import Pool
from kvplan.domain.tables import Cell, Column, Table
from kvplan.domain.words import layer_list
from kvplan.engines.vllm.facts import VllmFacts
from kvplan.units import human_bytes

#: Part of the waste -> what causes it, in words.
CAUSES: Final = {
    "block_rounding": "blocks that are not full",
    "page_padding": "pages enlarged to be equal",
    "group_padding": "groups narrower than a block",
    "replication": "held alike by several devices or layers",
    "retention": "tokens in flight, copies of states, drafters",
    "precision": "scales and formats, less what they save",
}
#: Part of the waste -> its name, where that is not its key.
_NAMES: Final = {"retention": "in flight", "precision": "number format"}
_ALIKE: Final = ("kind", "block_size", "page_bytes", "content_bytes", "request_blocks")


def tables(a: Allocation) -> tuple[Table, ...]:
    """The groups of one request, and the split of what it takes; nothing of an encoder, which has no groups."""
    facts: VllmFacts = a.facts
    groups = [group.to_dict() for group in facts.cache_groups]
    if not groups:
        return (waste_table(a),) if any(facts.waste.values()) else ()
    shown = group_table(groups, facts.block_bytes, notes=_notes(facts))
    return (shown, waste_table(a)) if any(facts.waste.values()) else (shown,)


def pool_tables(pool: Pool) -> tuple[Table, ...]:
    """The groups of a pool, for one request of its longest."""
    return (group_table(pool.groups, pool.block_bytes),) if pool.groups else ()


def _notes(f: VllmFacts) -> tuple[str, ...]:
    at_most = human_bytes(f.bytes_one_request_at_max_model_len)
    state = f", states for {f.mamba_block_size:,}" if f.mamba_block_size else ""
    return (
        f"blocks of {f.block_size:,} tokens{state}; a block of all layers is {f.block_bytes:,} bytes",
        f"one request of {f.max_model_len:,} tokens (max_model_len) may take {at_most}; "
        f"{f.max_in_flight_tokens:,} tokens may be in flight (max_num_batched_tokens {f.max_num_batched_tokens:,})",
    )


def group_table(groups: Sequence[Mapping[str, Any]], block_bytes: int, *, notes: tuple[str, ...] = ()) -> Table:
    """One row a run of equal groups: caches, tokens a block, a page with and without padding, and the blocks of one request."""
    padded = any(group["content_bytes"] != group["page_bytes"] for group in groups)
    columns = (
        Column(title="groups", key="group", kind="name"),
        Column(title="kind", key="kind", kind="name"),
        Column(title="caches", key="caches", kind="count"),
        Column(title="tokens/block", key="block_size", kind="count"),
        Column(title="B/page", key="page_bytes", kind="count"),
        *([Column(title="of it used", key="content_bytes", kind="count")] if padded else []),
        Column(title="blocks/request", key="request_blocks", kind="count"),
        Column(title="cache", key="bytes", kind="bytes"),
    )
    rows: list[tuple[Cell, ...]] = []
    for alike in _runs(groups):
        first, blocks = groups[alike[0]], sum(groups[i]["request_blocks"] for i in alike)
        caches = sum(groups[i]["caches"] for i in alike)
        sizes = (first["block_size"], first["page_bytes"], *([first["content_bytes"]] if padded else []))
        rows.append((layer_list(alike), first["kind"], caches, *sizes, blocks, blocks * block_bytes))
    blocks = sum(g["request_blocks"] for g in groups)
    total: tuple[Cell, ...] = (
        "total",
        None,
        sum(g["caches"] for g in groups),
        None,
        None,
        *([None] if padded else []),
        blocks,
        blocks * block_bytes,
    )
    return Table(title="groups of one request", columns=columns, rows=tuple(rows), total=total, notes=notes)


def _runs(groups: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Neighbors that differ in nothing but their layers, together."""
    runs: list[list[int]] = []
    for i, group in enumerate(groups):
        if runs and all(groups[runs[-1][0]][key] == group[key] for key in _ALIKE):
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def parts(ideal_bytes: int, waste: Mapping[str, int]) -> Beyond:
    """The split in words, without the causes that take nothing."""
    named = ((_NAMES.get(part, part.replace("_", " ")), CAUSES[part], size) for part, size in waste.items() if size)
    return Beyond(ideal_bytes=ideal_bytes, parts=tuple(Part(name=name, cause=cause, bytes=size) for name, cause, size in named))


def waste_table(a: Allocation) -> Table:
    """From `ideal`'s fair share of one device to what vLLM takes."""
    waste, ideal = a.facts.waste, a.facts.ideal_bytes
    columns = (
        Column(title="part", key="part", kind="name"),
        Column(title="cause", key="cause", quiet=True),
        Column(title="cache", key="cache_bytes", kind="bytes"),
        Column(title="bytes", key="bytes", kind="count", drop=1, instead=""),
        Column(title="vs ideal", key="ratio", kind="ratio"),
    )
    rows: list[tuple[Cell, ...]] = [("ideal", "what must be remembered, once", ideal, ideal, 1.0)]
    rows += [(part.name, part.cause, part.bytes, part.bytes, _ratio(part.bytes, ideal)) for part in parts(ideal, waste).parts]
    total: tuple[Cell, ...] = ("total", None, a.total_bytes, a.total_bytes, _ratio(a.total_bytes, ideal))
    title = "why it is more than `ideal`" if a.total_bytes > ideal else "against `ideal`"
    return Table(
        title=title, columns=columns, rows=tuple(rows), total=total, notes=_worst_case(a.total_bytes, waste["retention"])
    )


def _worst_case(total: int, in_flight: int) -> tuple[str, ...]:
    """Admission counts with what a prompt needs while it is read; requests that only decode hold less."""
    if in_flight <= 0:
        return ()
    return (
        f"the total is the worst case, which admission counts with; without what is in flight it is "
        f"{human_bytes(total - in_flight)}, {total - in_flight:,} bytes",
    )


def _ratio(amount: int, ideal: int) -> float | None:
    return amount / ideal if ideal else None
