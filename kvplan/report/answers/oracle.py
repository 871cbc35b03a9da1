"""What a `Capacity` shows of itself: one server, a fact a row."""

from kvplan.domain.tables import Column, Table
from kvplan.questions.oracle import Capacity
from kvplan.report.answers.lists import Listing


def of_capacity(found: Capacity) -> Listing:
    """Its fields in words, bytes among them."""
    where = found.gpu if found.gpus == 1 else f"{found.gpus} x {found.gpu}"
    blocks = f"{found.num_blocks:,}"
    if found.low_blocks != found.high_blocks:
        blocks += f" ({found.low_blocks:,} to {found.high_blocks:,})"
    rows = [
        ("blocks of the pool", blocks),
        ("bytes of a block, on each card", f"{found.block_bytes:,}"),
        ("blocks that requests surely have", f"{found.usable_blocks:,}"),
        ("tokens that the pool holds", f"{found.num_tokens:,}"),
        ("tokens of a request at most", f"{found.max_model_len:,}"),
        *([("requests that run at once at most", f"{found.max_num_seqs:,}")] if found.max_num_seqs is not None else []),
    ]
    columns = (Column(title="one server", key="what"), Column(title="", key="value", kind="count"))
    title = f"{found.model} · {found.engine} {found.engine_version} · {where}"
    notes = (f"evidence: {found.evidence}",) if found.evidence else ()
    return Listing("capacity", Table(title=title, columns=columns, rows=tuple(rows), notes=notes), [found.to_dict()])
