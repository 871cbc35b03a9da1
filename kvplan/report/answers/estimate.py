"""What `kvplan estimate` shows: bytes by kind of layer, or by layer."""

from collections.abc import Sequence
from typing import Any

from kvplan.domain.allocation import COLUMNS, Allocation, NotPredicted
from kvplan.domain.tables import Column, Table
from kvplan.domain.words import layer_range
from kvplan.engines import ABOUTS, located

LAYER_COLUMNS = ("model", "engine", "kv_dtype", "batch_size", "seq_len", "layer", "kind", "bytes")


def title(a: Allocation) -> str:
    """Model, engine, dtype and workload in one line, every number exact."""
    device = f", 1 of {a.tensor_parallel} devices" if a.tensor_parallel > 1 else ""
    encoder = f" + {a.workload.encoder_len:,} encoder tokens" if a.workload.encoder_len else ""
    return (
        f"{a.model.name} · {a.engine} · {a.kv_dtype} · {a.workload.batch_size:,} x {a.workload.seq_len:,} tokens{encoder}{device}"
    )


def estimate_table(a: Allocation, *, per_layer: bool = False) -> Table:
    """One row a kind of layer (or a layer), and the total."""
    per_token = f"{a.bytes_per_token:,} B a token"
    summary = f"{a.total_bytes:,} bytes; the next token of one sequence costs {per_token}; evidence: {a.evidence}"
    notes = (summary, *_engine_words(a), *a.notes)
    if per_layer:
        columns: tuple[Column, ...] = (
            Column(title="layer", key="layer", kind="count"),
            Column(title="kind", key="kind"),
            Column(title="cache", key="cache_bytes", kind="bytes"),
            Column(title="bytes", key="bytes", kind="count"),
        )
        rows: tuple[tuple[Any, ...], ...] = tuple((x.index, x.kind, x.bytes, x.bytes) for x in a.layers)
        return Table(title=title(a), columns=columns, rows=rows, total=("total", None, a.total_bytes, a.total_bytes), notes=notes)
    columns = (
        Column(title="kind of layer", key="kind"),
        Column(title="layers", key="count", kind="count"),
        Column(title="which", key="layers", optional=True),
        Column(title="cache", key="cache_bytes", kind="bytes"),
        Column(title="bytes", key="bytes", kind="count"),
    )
    rows = tuple((g.kind, g.count, layer_range(g.layers), g.bytes, g.bytes) for g in a.groups)
    return Table(
        title=title(a),
        columns=columns,
        rows=rows,
        total=("total", len(a.kinds), None, a.total_bytes, a.total_bytes),
        notes=notes,
    )


def _engine_words(a: Allocation) -> tuple[str, ...]:
    """The engine's own log lines, and what to type, where it gives them."""
    return (*a.log, *((f"to type: {a.typed}",) if a.typed else ()))


def render(
    answers: Sequence[Allocation | NotPredicted],
    fmt: str,
    *,
    per_layer: bool = False,
    unit: str | None = None,
    width: int = 80,
    color: bool = False,
) -> str:
    """Several estimates in one of the formats: `table`, `json`, `csv`, `markdown`."""
    if fmt == "json":
        from kvplan.report.formats.json import to_json

        return to_json("estimates", [_as_dict(a, per_layer=per_layer) for a in answers])
    if fmt == "csv":
        from kvplan.report.formats.csv import to_csv

        dicts = [_as_dict(a, per_layer=per_layer) for a in answers]
        if not per_layer:
            return to_csv(dicts, COLUMNS)
        rows = [{**d, "layer": x["index"], "kind": x["kind"], "bytes": x["bytes"]} for d in dicts for x in d.get("layers", [])]
        return to_csv(rows, LAYER_COLUMNS)
    texts = []
    for answer in answers:
        if isinstance(answer, NotPredicted):
            texts.append(f"not predicted: {answer.reason}\n")
            continue
        tables = (estimate_table(answer, per_layer=per_layer), *engine_tables(answer))
        if fmt == "markdown":
            from kvplan.report.formats.markdown import to_markdown

            texts += [to_markdown(table, unit=unit) for table in tables]
        else:
            from kvplan.report.formats.table import to_text

            texts += [to_text(table, unit=unit, width=width, color=color) for table in tables]
    return "\n".join(texts)


def engine_tables(a: Allocation) -> tuple[Table, ...]:
    """What one engine alone can say, from the allocation's details."""
    where = ABOUTS[a.engine].tables
    found: tuple[Table, ...] = located(where).tables(a) if where else ()
    return found


def _as_dict(answer: Allocation | NotPredicted, *, per_layer: bool) -> dict[str, Any]:
    if isinstance(answer, NotPredicted):
        return {"not_predicted": answer.reason, "see": answer.see}
    return answer.to_dict(per_layer=per_layer)
