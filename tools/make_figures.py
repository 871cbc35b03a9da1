"""Writes the figures of docs/concepts from kvplan's numbers: `python tools/make_figures.py`; `--check`: are they current?

A figure holds its numbers in words; the check compares those with what kvplan says now, and needs no matplotlib. The Cross-Layer
Attention paper's perplexities are the paper's own, as `tests/golden/papers.jsonl` records them.
"""

import json
import re
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import kvplan
from kvplan.domain.model import Model, Shared
from kvplan.errors import printable
from kvplan.loading.catalogue import matching
from kvplan.report.blocks import View
from kvplan.report.figures import Axis, Bar, Bars, Layers, Mark, Marks, Picture

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "concepts" / "figures"
PAPER = "arXiv 2405.12981"
BYTES = Axis(title="KV cache of a token", kind="bytes", log=True)


def short(name: str) -> str:
    """A row as the paper calls it."""
    words = {"mha": "MHA", "mqa": "MQA", "keepends": "KeepEnds", "densefront": "DenseFront", "denseback": "DenseBack"}
    _, _, row = name.partition("-h")
    return "-".join(words.get(word, word.upper()) for word in f"h{row}".split("-"))


def perplexities() -> dict[str, float]:
    """Catalogue name -> what the paper prints."""
    with (ROOT / "tests" / "golden" / "papers.jsonl").open(encoding="utf-8") as file:
        cases = [json.loads(line) for line in file]
    return {
        f"cla-paper/{case['id'].removeprefix('paper/cla-').replace('/', '-').lower()}": case["expected"][
            "validation_perplexity_printed"
        ]
        for case in cases
        if "validation_perplexity_printed" in case["expected"]
    }


def frontier(size: str, tables: str) -> Marks:
    """The paper's figure of perplexity over bytes."""
    printed = perplexities()
    names = [name for name in matching(f"cla-paper/{size}-*") if name in printed]
    alike = [name for name in names if not name.endswith(("keepends", "densefront", "denseback", "cla3", "cla4"))]
    groups = {
        "without CLA": [name for name in alike if "cla2" not in name],
        "with CLA2": [name for name in alike if "mqa-cla2" in name],
    }
    return Marks(
        name=f"cla-frontier-{size}",
        title=f"Perplexity over the KV cache, models of {size[0]} billion parameters",
        x=BYTES,
        y=Axis(title="Validation perplexity (the paper's)"),
        groups=tuple(
            (group, tuple(sorted((mark(name, printed) for name in found), key=lambda m: m.x))) for group, found in groups.items()
        ),
        notes=(f"bytes: kvplan, 16 bits an element; perplexity: {PAPER}, {tables}",),
    )


def mark(name: str, printed: dict[str, float]) -> Mark:
    """One model of the paper."""
    return Mark(label=short(name), x=kvplan.estimate(name, seq_len=1).bytes_per_token, y=printed[name])


def rows() -> Bars:
    """The last column but one of the paper's Table 1."""
    found = [(name, kvplan.estimate(name, seq_len=1).bytes_per_token) for name in matching("cla-paper/1b-*")]
    return Bars(
        name="cla-table-1",
        title="KV cache of a token, Table 1 of the paper",
        axis=Axis(title="KV cache of a token", kind="bytes"),
        bars=tuple(Bar(label=short(name), parts=(size,), text=f"{size:,} B") for name, size in found),
        notes=(f"kvplan, 16 bits an element; the order is the table's ({PAPER})",),
    )


def sharing() -> Layers:
    """The paper's drawing of who shares with whom."""
    names = ("mqa", "mqa-cla2", "mqa-cla3", "mqa-cla4", "mqa-cla2-keepends", "mqa-cla2-densefront", "mqa-cla2-denseback")
    found = [f"cla-paper/1b-h128-{name}" for name in names]
    return Layers(
        name="cla-sharing",
        title="Which layer's keys and values each of 20 layers reads",
        rows=tuple((short(name), sources(kvplan.load(name))) for name in found),
        notes=(f"as kvplan reads the rows of {PAPER}, Table 1",),
    )


def sources(model: Model) -> tuple[int | None, ...]:
    """The layer that each layer reads; its own where it owns."""
    found: list[int | None] = []
    for layer in model.layers:
        shared = next((memory.source for memory in layer.memories if isinstance(memory, Shared)), None)
        found.append(layer.index if shared is None and layer.memories else shared)
    return tuple(found)


def pictures() -> Iterator[Picture]:
    """Every figure of docs/concepts."""
    yield sharing()
    yield rows()
    yield frontier("1b", "Table 1")


def current(picture: Picture) -> bool:
    """Whether the figure that is there has these numbers."""
    path = FOLDER / f"{picture.name}.svg"
    found = re.search(r'<desc id="desc">(.*?)</desc>', path.read_text(encoding="utf-8"), re.DOTALL) if path.is_file() else None
    return found is not None and unescape(found[1]) == printable(picture.words(), 20_000)


def main(check: bool) -> int:
    """Write or check every figure; what is no longer made is removed."""
    made = list(pictures())
    extra = sorted({path.stem for path in FOLDER.glob("*.svg")} - {picture.name for picture in made})
    stale = [picture for picture in made if not current(picture)]
    if check:
        names = [picture.name for picture in stale] + extra
        print(*(f"docs/concepts/figures/{name}.svg is not current: python tools/make_figures.py" for name in names), sep="\n")
        return 1 if names else 0
    from kvplan.report.formats.figure import drawn_svg

    FOLDER.mkdir(exist_ok=True)
    for picture in made if "--all" in sys.argv else stale:
        (FOLDER / f"{picture.name}.svg").write_text(drawn_svg([picture], View(), outlines=False), encoding="utf-8")
    for name in extra:
        (FOLDER / f"{name}.svg").unlink()
    print(f"{len(made)} figures: {len(stale)} were not current, {len(extra)} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
