"""What `kvplan estimate` shows: bytes by kind of layer, or by layer."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

from msgspec import Struct

from kvplan.domain.allocation import COLUMNS, Allocation, NotPredicted
from kvplan.domain.model import Chunk, Window
from kvplan.domain.tables import Column, Table
from kvplan.domain.words import layer_list
from kvplan.engines import ABOUTS, located
from kvplan.report.answers.engine_words import engine_words
from kvplan.report.answers.media import media_table, savings
from kvplan.report.blocks import Block, Fixes, Rows, View, not_predicted_dict

#: The columns of the CSV, one row an estimate, or one a layer; docs/reference/formats.md says what each means.
CSV_COLUMNS: Final = (*COLUMNS, "not_predicted")
LAYER_COLUMNS: Final = ("model", "engine", "kv_dtype", "batch_size", "seq_len", "layer", "kind", "bytes", "not_predicted")


class EstimateAnswer(Struct, frozen=True):
    """Several estimates."""

    key: ClassVar[str] = "estimates"
    answers: Sequence[Allocation | NotPredicted]
    per_layer: bool = False

    def dicts(self) -> list[dict[str, Any]]:
        """One object a model."""
        return [
            not_predicted_dict(a) if isinstance(a, NotPredicted) else a.to_dict(per_layer=self.per_layer) for a in self.answers
        ]

    def rows(self) -> Rows:
        """One row a model, or a layer."""
        if not self.per_layer:
            return CSV_COLUMNS, self.dicts()
        return LAYER_COLUMNS, [row for d in self.dicts() for row in _layer_rows(d)]

    def blocks(self, view: View) -> Iterator[Block]:
        """A table a model, and what its engine alone can say."""
        for alike in _by_model(self.answers):
            if len(alike) > 1 and not self.per_layer:
                yield workloads_table(alike)
                continue
            for a in alike:
                yield estimate_table(a, per_layer=self.per_layer) if isinstance(a, Allocation) else a
                if not isinstance(a, Allocation):
                    continue
                yield from engine_tables(a)
                if a.media is not None:
                    yield media_table(a.media, a.media_bytes)
                    found = list(savings(a.media))
                    if found:
                        yield Fixes(found)


def _by_model(answers: Sequence[Allocation | NotPredicted]) -> Iterator[list[Allocation | NotPredicted]]:
    """Answers of one model in one engine and dtype that stand behind each other: its workloads."""
    alike: list[Allocation | NotPredicted] = []
    for a in answers:
        if isinstance(a, NotPredicted) and alike == [a]:
            continue  # of another workload, for the same reason
        if alike and not _same(a, alike[0]):
            yield alike
            alike = []
        alike.append(a)
    yield alike


def _same(a: Allocation | NotPredicted, b: Allocation | NotPredicted) -> bool:
    """Whether two predicted answers are of one model, at workloads that differ."""
    if isinstance(a, NotPredicted) or isinstance(b, NotPredicted):
        return False
    return (a.model, a.engine, a.kv_dtype) == (b.model, b.engine, b.kv_dtype) and a.workload != b.workload


def workloads_table(alike: Sequence[Allocation | NotPredicted]) -> Table:
    """One model at several lengths and batch sizes: a row each."""
    found = [a for a in alike if isinstance(a, Allocation)]
    first = found[0]
    columns = (
        Column(title="tokens", key="seq_len", kind="tokens"),
        Column(title="requests", key="batch_size", kind="count"),
        Column(title="cache", key="cache_bytes", kind="bytes"),
        Column(title="bytes", key="bytes", kind="count", drop=1, instead=""),
        Column(title="B/token", key="bytes_per_token", kind="count"),
    )
    rows = tuple((a.workload.seq_len, a.workload.batch_size, a.total_bytes, a.total_bytes, a.bytes_per_token) for a in found)
    device = f" · per device, of {first.tensor_parallel}" if first.tensor_parallel > 1 else ""
    notes = (f"evidence: {first.evidence}", *dict.fromkeys(note for a in found for note in a.notes))
    title = f"{first.model.name} · {first.engine} · {first.kv_dtype}{device}"
    return Table(title=title, columns=columns, rows=rows, notes=notes, one_unit=True)


def _layer_rows(estimate: dict[str, Any]) -> list[dict[str, Any]]:
    layers = [{"layer": x["index"], "kind": x["kind"], "bytes": x["bytes"]} for x in estimate.get("layers", ())]
    return [{**estimate, **layer} for layer in layers] or [estimate]


def title(a: Allocation) -> str:
    """Model, engine, dtype and workload in one line, every number exact."""
    device = f" · per device, of {a.tensor_parallel}" if a.tensor_parallel > 1 else ""
    encoder = f" + {a.workload.encoder_len:,} encoder tokens" if a.workload.encoder_len else ""
    held = f"{a.workload.batch_size:,} x {a.workload.seq_len:,} tokens{encoder}{device}"
    return " · ".join((a.model.name, engine_words(a.engine, a.engine_version), a.kv_dtype, held))


def estimate_table(a: Allocation, *, per_layer: bool = False) -> Table:
    """One row a kind of layer (or a layer), and the total."""
    summary = f"{a.total_bytes:,} bytes; {further_tokens(a)}; evidence: {a.evidence}"
    notes = (summary, *_engine_words(a), *a.notes)
    if per_layer:
        columns: tuple[Column, ...] = (
            Column(title="layer", key="layer", kind="count"),
            Column(title="kind", key="kind"),
            Column(title="cache", key="cache_bytes", kind="bytes"),
            Column(title="bytes", key="bytes", kind="count", drop=1, instead=""),
        )
        rows: tuple[tuple[Any, ...], ...] = tuple((x.index, x.kind, x.bytes, x.bytes) for x in a.layers)
        return Table(title=title(a), columns=columns, rows=rows, total=("total", None, a.total_bytes, a.total_bytes), notes=notes)
    columns = (
        Column(title="kind of layer", key="kind"),
        Column(title="layers", key="count", kind="count"),
        Column(title="which", key="layers"),
        Column(title="cache", key="cache_bytes", kind="bytes"),
        Column(title="bytes", key="bytes", kind="count", drop=1, instead=""),
    )
    rows = tuple((g.kind, g.count, layer_list(g.layers), g.bytes, g.bytes) for g in a.groups)
    return Table(
        title=title(a),
        columns=columns,
        rows=rows,
        total=("total", len(a.kinds), None, a.total_bytes, a.total_bytes),
        notes=notes,
    )


def further_tokens(a: Allocation) -> str:
    """What longer sequences cost."""
    if a.bytes_per_token:
        return f"each further token of a sequence: {a.bytes_per_token:,} B"
    reaches = {type(getattr(memory, "reach", None)) for memories in a.model.collapsed() for memory in memories}
    why = "the window is full" if reaches & {Window, Chunk} else "the cache has its full size"
    return f"{why}: more tokens cost nothing"


def _engine_words(a: Allocation) -> tuple[str, ...]:
    """The engine's own log lines, and what to type, where it gives them."""
    return (*a.log, *((f"to type: {a.typed}", *a.needs) if a.typed else ()))


def engine_tables(a: Allocation) -> tuple[Table, ...]:
    """What one engine alone can say, from the allocation's details."""
    where = ABOUTS[a.engine].tables
    found: tuple[Table, ...] = located(where).tables(a) if where else ()
    return found
