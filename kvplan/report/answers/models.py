"""What `kvplan models` lists: one row a catalogue entry, with its layout in words."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

from msgspec import Struct
from msgspec.structs import asdict

from kvplan.domain.allocation import Allocation
from kvplan.domain.model import Chunk, Compressed, Cross, Index, Latent, Memory, Model, Recurrent, Shared, Softmax, Window
from kvplan.domain.tables import Column, Table
from kvplan.domain.words import head_words
from kvplan.report.blocks import Block, Rows, View

#: The columns of the CSV and the keys of the JSON, in order.
MODEL_COLUMNS: Final = (
    "model", "layout", "layers", "bytes_per_token", "max_tokens", "parameters", "weights_bytes", "hub", "parameters_low",
    "parameters_high",
)  # fmt: skip
#: What the table for people shows of them.
SHOWN: Final = MODEL_COLUMNS[:8]
#: Every word that `layout_words` may use, in its order.
LAYOUT_WORDS: Final = (
    "MHA", "GQA", "MQA", "MLA", "CLA", "shared-KV", "sliding", "chunked", "compressed", "indexer",
    "state", "hybrid", "cross-attention", "vision", "audio",
)  # fmt: skip


class Entry(Struct, frozen=True, kw_only=True):
    """One row: a model, what it costs, and where it is published; the fields are in the columns' order."""

    model: str
    layout: tuple[str, ...]
    layers: int
    bytes_per_token: int
    max_tokens: int | None
    parameters: int | None = None
    weights_bytes: int | None = None  # as its checkpoint stores them
    hub: str | None = None
    parameters_low: int | None = None  # unlike `parameters` only where nobody published a count
    parameters_high: int | None = None

    @classmethod
    def of(cls, allocation: Allocation, hub: str, weights_bytes: int | None = None) -> "Entry":
        """The row of a model whose theoretical cache is known."""
        model = allocation.model
        return cls(
            model=model.name,
            layout=layout_words(model),
            layers=len(model.layers),
            bytes_per_token=allocation.bytes_per_token,
            max_tokens=model.max_tokens,
            parameters=model.parameters,
            weights_bytes=weights_bytes,
            hub=hub or None,
            parameters_low=model.assumed.low if model.assumed else model.parameters,
            parameters_high=model.assumed.high if model.assumed else model.parameters,
        )

    def __repr__(self) -> str:
        return f"<Entry {self.model} · {' '.join(self.layout)} · {self.layers} layers>"

    def to_dict(self) -> dict[str, Any]:
        """The row for machines; `layout` is a list of words."""
        return asdict(self) | {"layout": list(self.layout)}


def layout_words(model: Model) -> tuple[str, ...]:
    """A model's layout in the field's words, for people and for `--kind`."""
    kept = model.collapsed()
    memories = {memory for group in kept for memory in group}
    found = {word for memory in memories for word in _words(memory, model)}
    if any(isinstance(memory, Shared) for memory in memories):
        found.add("CLA" if _shares_neighbors(model) else "shared-KV")
    if "state" in found and any(isinstance(memory, Softmax | Latent) for memory in memories):
        found.remove("state")
        found.add("hybrid")
    config = model.origin.config if model.origin is not None else {}
    found |= {word for word, key in (("vision", "vision_config"), ("audio", "audio_config")) if key in config}
    return tuple(word for word in LAYOUT_WORDS if word in found)


def _words(memory: Memory, model: Model) -> Iterator[str]:
    match memory:
        case Softmax():
            yield head_words(memory.kv_heads, model.attention_heads)
        case Latent():
            yield "MLA"
        case Index():
            yield "indexer"
        case Recurrent():
            yield "state"
        case Cross():
            yield "cross-attention"
        case Shared():
            return
    if isinstance(memory, Softmax | Latent | Index):
        reach = memory.reach
        if isinstance(reach, Window | Chunk | Compressed):
            yield {Window: "sliding", Chunk: "chunked", Compressed: "compressed"}[type(reach)]


def _shares_neighbors(model: Model) -> bool:
    """Whether each sharing layer reads the group that it stands in, as in the Cross-Layer Attention paper."""
    source = -1
    for layer in model.layers:
        shared = next((memory.source for memory in layer.memories if isinstance(memory, Shared)), layer.index)
        if shared not in {source, layer.index}:
            return False
        source = shared
    return True


class ModelsAnswer(Struct, frozen=True):
    """The catalogue, or the part of it that was asked for."""

    key: ClassVar[str] = "models"
    entries: Sequence[Entry]

    def dicts(self) -> list[dict[str, Any]]:
        """One object a model."""
        return [entry.to_dict() for entry in self.entries]

    def rows(self) -> Rows:
        """One row a model; the layout's words with spaces between."""
        return MODEL_COLUMNS, ({**row, "layout": " ".join(row["layout"])} for row in self.dicts())

    def blocks(self, view: View) -> list[Block]:
        """One table."""
        return [models_table(self.entries)]


def models_table(entries: Sequence[Entry]) -> Table:
    """The list for people."""
    rows = [entry.to_dict() for entry in entries]
    note = (
        f"{len(rows):,} model{'s' * (len(rows) != 1)}; B/token: each further token of a sequence after 8,192, at the model's "
        "own dtype; weights: as the checkpoint stores them"
    )
    assumed = sum(row["parameters_low"] != row["parameters_high"] for row in rows)
    guessed = f"parameters and weights of {assumed:,} are assumed: `kvplan spec MODEL` says from what to what, and why"
    return Table(
        title="",
        columns=(
            Column(title="model", key="model", kind="name"),
            Column(title="layout", key="layout"),
            Column(title="layers", key="layers", kind="count"),
            Column(title="B/token", key="bytes_per_token", kind="count"),
            Column(title="max tokens", key="max_tokens", kind="tokens", drop=4),
            Column(title="parameters", key="parameters", kind="count", drop=2),
            Column(title="weights", key="weights_bytes", kind="bytes", drop=3),
            Column(title="hub id", key="hub", kind="name", drop=1, quiet=True),
        ),
        rows=tuple((*(", ".join(row[k]) if k == "layout" else row[k] for k in SHOWN),) for row in rows),
        notes=(note, guessed) if assumed else (note,),
    )
