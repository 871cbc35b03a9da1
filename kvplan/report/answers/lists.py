"""What `kvplan dtypes`, `engines` and `gpus` show: a table for people, rows of plain values for machines."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from kvplan.domain.dtypes import ALIASES, DType
from kvplan.domain.gpus import Gpu
from kvplan.domain.tables import Cell, Column, Table
from kvplan.engines import ABOUTS, engine_class
from kvplan.engines.kernel.about import SHARED, About
from kvplan.engines.kernel.evidence import records
from kvplan.engines.kernel.options import described
from kvplan.report.blocks import Block, Rows, View

#: kvplan's shared option -> what to type for it.
_FLAGS: Final = {"kv_dtype": "--kv-dtype", "tensor_parallel": "--tp"}


class Listing(Struct, frozen=True):
    """A catalogue: its name, its table for people, and its entries for machines."""

    key: str
    table: Table
    entries: Sequence[Mapping[str, Any]]

    def dicts(self) -> Sequence[Mapping[str, Any]]:
        """One object an entry."""
        return self.entries

    def rows(self) -> Rows:
        """One row an entry, of plain values."""
        return tuple(self.entries[0]), ({key: _flat(value) for key, value in entry.items()} for entry in self.entries)

    def blocks(self, view: View) -> list[Block]:
        """One table."""
        return [self.table]


def dtype_listing(dtypes: Sequence[DType]) -> Listing:
    """Every cache dtype: block, bits an element, scales, what to type."""
    rows = [
        {
            **d.to_dict(),
            "flags": {name: found.cache_dtypes[d.name] for name, found in ABOUTS.items() if d.name in found.cache_dtypes},
            "aliases": sorted(alias for alias, name in ALIASES.items() if name == d.name),
        }
        for d in dtypes
    ]
    columns = (
        Column(title="kv dtype", key="name", kind="name"),
        Column(title="block", key="block", kind="count"),
        Column(title="bytes", key="block_bytes", kind="count"),
        Column(title="bits", key="bits", kind="count"),
        Column(title="engine", key="engine", kind="name"),
        Column(title="what to type", key="flags"),
        Column(title="scales", key="scales", drop=2, quiet=True),
        Column(title="also", key="aliases", drop=1, quiet=True),
    )
    cells: list[tuple[Cell, ...]] = []
    for r in rows:
        own = (
            r["name"],
            r["block_elements"],
            r["block_bytes"],
            f"{r['bits_per_element']:g}" + ("*" if r["head_scale_bytes"] else ""),
        )
        (engine, flag), *others = r["flags"].items() or [("", "")]
        cells.append((*own, engine, flag, r["scales"], ", ".join(r["aliases"])))
        cells += [("", None, None, "", *other, "", "") for other in others]  # one line an engine, under the dtype's first
    notes = (
        "`block` elements take `bytes` bytes, scales in the block included; `bits` is a bare element's share",
        "* and 4 bytes for each head and token, beside each of K and V",
    )
    return Listing("dtypes", Table(title="cache dtypes", columns=columns, rows=tuple(cells), notes=notes), rows)


def engine_listing(wanted: Sequence[About] = tuple(ABOUTS.values()), *, options: bool = False) -> Listing:
    """Engines: the version whose rules are current and what recorded cases cover; every option where `options` are asked."""
    rows: list[dict[str, Any]] = []
    for found in wanted:
        shared = {own: role for role, own in found.roles.items() if role in SHARED}
        every = described(engine_class(found.name).Options) if found.predicted else ()
        rows.append(
            {
                "name": found.name,
                "version": found.latest,
                "predicted": found.predicted,
                "options": [{**option._asdict(), "shared": shared.get(option.name, "")} for option in every],
                "recorded": sorted(records(ABOUTS[found.behind] if found.behind else found).kinds),
            }
        )
    table = _options_table(rows) if options else _engines_table(rows)
    return Listing("engines", table, rows)


def _engines_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column(title="engine", key="name", kind="name"),
        Column(title="rules of", key="version"),
        Column(title="options", key="options", kind="count"),
        Column(title="recorded cases cover", key="recorded"),
    )
    cells = tuple(
        (r["name"], r["version"], len(r["options"]), ", ".join(_kinds(r["recorded"])))
        if r["predicted"]
        else (r["name"], "", None, "not predicted by this release")
        for r in rows
    )
    notes = ("`kvplan engines NAME` lists an engine's options with their defaults; NAME@VERSION asks for a release's rules",)
    return Table(title="engines", columns=columns, rows=cells, notes=notes)


def _kinds(recorded: Sequence[str]) -> list[str]:
    """Kinds of memory without their sub-kinds."""
    return sorted({kind.partition("/")[0] for kind in recorded})


def _options_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    several = len(rows) > 1  # one engine's name is the title, and leaves its width to the options
    columns = (
        *([Column(title="engine", key="name", kind="name")] if several else []),
        Column(title="option (--set)", key="option", kind="name"),
        Column(title="type", key="type"),
        Column(title="default", key="default"),
        Column(title="also as", key="shared"),
    )
    cells: list[tuple[str, ...]] = []
    for r in rows:
        if not r["predicted"]:
            cells.append((r["name"], "not predicted by this release", "", "", ""))
        for i, option in enumerate(r["options"]):
            name, flag = r["name"] if i == 0 else "", _FLAGS.get(option["shared"], "")
            cells.append((name, option["name"], option["type"], _default(option["default"]), flag))
    notes = tuple(
        f"{r['name']}: the rules of {r['version']}; recorded cases cover {', '.join(r['recorded']) or 'nothing'}"
        for r in rows
        if r["predicted"]
    )
    title = "options" if several else rows[0]["name"]
    return Table(title=title, columns=columns, rows=tuple(cells if several else (row[1:] for row in cells)), notes=notes)


def _default(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def gpu_listing(entries: Sequence[Gpu]) -> Listing:
    """Every GPU: memory on the box, memory as the driver reports it, and who says so."""
    rows = [entry.to_dict() for entry in entries]
    columns = (
        Column(title="gpu", key="id", kind="name"),
        Column(title="marketed", key="marketed"),
        Column(title="reported", key="reported", kind="bytes"),
        Column(title="CUDA", key="cuda_total_bytes", kind="bytes"),
        Column(title="Windows", key="windows_total_bytes", kind="bytes"),
        Column(title="bytes", key="reported_bytes", kind="count", drop=3, instead=""),
        Column(title="reported by", key="reported_by", drop=2, quiet=True),
        Column(title="source", key="source", drop=1, quiet=True),
    )
    cells = tuple(
        (
            *(g.id, g.sizes, g.reported_bytes, g.cuda_total_bytes, g.windows_total_bytes),
            *(g.reported_bytes, g.reported_by, g.sources[0]),
        )
        for g in entries
    )
    notes = (
        "`CUDA` is the smallest total that programs printed under Linux, `Windows` the one under Windows and WSL, of which a "
        "process is lent 80 to 95 % (WDDM)",
        "`reported` is the driver's total, where a source shows it; a process gets less (the driver and each context keep some)",
        "`-f json` has every source, bandwidth and note",
    )
    return Listing("gpus", Table(title="GPUs", columns=columns, rows=cells, notes=notes, one_unit=True), rows)


def _flat(value: Any) -> Any:
    """A cell: several values are joined by `; `."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {item}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(f"{v['name']}={_default(v['default'])}" if isinstance(v, Mapping) else str(v) for v in value)
    return value
