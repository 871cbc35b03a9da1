"""Figures: their numbers are the answer's, they are safe, and print well. What draws is the extra `plot`."""

import io
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import make_figures
import pytest
from msgspec.structs import replace

import kvplan
from kvplan.cli.app import main
from kvplan.domain.workload import Workload
from kvplan.errors import OptionError
from kvplan.questions.compare import Comparison, compare
from kvplan.questions.sweep.grid import Sweep
from kvplan.report.answers.compare import CompareAnswer
from kvplan.report.answers.sweep import SweepAnswer
from kvplan.report.blocks import View
from kvplan.report.figures import Axis, Bar, Bars, Curves
from kvplan.report.formats import FIGURES, render
from kvplan.report.formats import figure as drawing

HOSTILE = "=$\\frac{<script>&\x1b[31m\u202e`]]>-->"


def hostile_models() -> Comparison:
    model = kvplan.load("gpt2")
    named = type(model)(**{**{f: getattr(model, f) for f in model.__struct_fields__}, "name": HOSTILE})
    return compare([named, kvplan.load("gemma-3-27b")], Workload(batch_size=1, seq_len=5000), engines=["ideal", "vllm", "mlx-lm"])


def test_a_figure_has_the_answers_numbers() -> None:
    found = compare(
        [kvplan.load("llama-3.1-8b"), kvplan.load("gemma-3-27b")], Workload(batch_size=2, seq_len=5000), engines=["vllm"]
    )
    cache, token = CompareAnswer(found).figures(View())
    assert isinstance(cache, Bars)
    assert isinstance(token, Bars)
    assert [sum(bar.parts) for bar in cache.bars] == [row.total_bytes for row in found.rows]
    assert [bar.parts[0] for bar in cache.bars] == [row.answer.to_dict()["payload_bytes"] for row in found.rows]
    assert [bar.parts[0] for bar in token.bars] == [row.answer.to_dict()["bytes_per_token"] for row in found.rows]
    assert all(f"{bar.parts[0]:,}" in cache.words() for bar in cache.bars)

    grid = Sweep(models=[kvplan.load("gemma-3-27b")], seq_lens=range(1, 5001), batch_sizes=[1, 4], engines=["ideal", "vllm"])
    cells = {(c["engine"], c["batch_size"], c["seq_len"]): c["total_bytes"] for c in SweepAnswer(grid).dicts()}
    curves, *_ = SweepAnswer(grid).figures(View())
    assert isinstance(curves, Curves)
    assert "512 of 5,000 lengths are drawn" in curves.notes
    assert [line.label for line in curves.lines] == [
        f"{e} · batch {b}" for e in ("ideal", curves.lines[2].label.partition(" ·")[0]) for b in (1, 4)
    ]
    for line, (engine, batch) in zip(curves.lines, [(e, b) for e in ("ideal", "vllm") for b in (1, 4)], strict=True):
        assert (line.x[0], line.x[-1], len(line.x)) == (1, 5000, 512)
        assert list(line.y) == [cells[engine, batch, x] for x in line.x]


def test_many_curves_get_a_figure_a_batch_size_and_one_length_is_drawn_over_batch_sizes() -> None:
    models = [kvplan.load(name) for name in ("llama-3.1-8b", "gemma-3-27b", "gpt2", "jamba")]
    grid = SweepAnswer(Sweep(models=models, seq_lens=[1024, 2048, 65536], batch_sizes=[1, 2, 4, 8]))
    names = [(figure.name, figure.more) for figure in grid.figures(View())]
    assert names == [*((f"cache-batch-{n}", False) for n in (1, 2, 4, 8)), ("per-token", True)]
    (over,) = SweepAnswer(Sweep(models=models[:1], seq_lens=[1024], batch_sizes=[1, 2, 4])).figures(View())
    assert isinstance(over, Curves)
    assert over.lines[0].x == (1, 2, 4)
    with pytest.raises(OptionError, match="nothing is predicted"):
        SweepAnswer(Sweep(models=models[2:3], seq_lens=[64], engines=["vllm"], kv_dtypes=["nvfp4"])).figures(View())


def test_without_the_extra_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    trace = Path(__file__).resolve().parents[3] / "docs" / "guides" / "monday.csv"
    for command in (
        ("compare", "gpt2", "-o", str(tmp_path / "bars.svg")),
        ("sweep", "gpt2", "-s", "1k", "-f", "pdf"),
        ("sweep", "gpt2", "-s", "1k", "--plots", str(tmp_path / "figures")),
        ("replay", str(trace), "--model", "gpt2", "--gpu", "h100", "--plot", str(tmp_path / "day.png")),
    ):
        assert main(list(command)) == 3
        assert "pip install 'kvplan-exact[plot]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_figure_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for fmt in FIGURES:
        assert main(["estimate", "gpt2", "-f", fmt]) == 2
        assert "this answer has no figure" in capsys.readouterr().err


def test_curves_differ_in_dashes_and_marks_as_well_as_in_colour() -> None:
    seen = [
        (str(drawing._DASHES[n % len(drawing._DASHES)]), drawing._MARKS[n % len(drawing._MARKS)]) for n in range(drawing._MOST)
    ]
    assert len(set(seen)) == len({mark for _, mark in seen}) == drawing._MOST


def test_svg_is_safe_says_its_numbers_and_is_the_same_each_time() -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed: pip install matplotlib")
    answer = CompareAnswer(hostile_models())
    text = render(answer, "svg", View())
    assert isinstance(text, str)
    with matplotlib.rc_context({"text.usetex": True, "font.size": 40, "axes.grid": False}):  # a person's own settings
        assert render(answer, "svg", View()) == text
    root = ElementTree.fromstring(text)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "title", "desc", "defs", "style", "g", "path", "use", "clipPath", "rect", "pattern"}
    links = {value for element in root.iter() for name, value in element.attrib.items() if name.endswith("href")}
    assert all(link.startswith("#") for link in links)
    said = str(root[1].text)
    amounts = [part for figure in answer.figures(View()) if not figure.more for bar in figure.bars for part in bar.parts]  # type: ignore[union-attr]
    assert len(amounts) > 8
    assert all(f"{amount:,}" in said for amount in amounts)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert root.attrib["role"] == "img"


def test_the_figures_of_the_pages_have_the_numbers_of_today(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_figures.main(check=True) == 0, capsys.readouterr().out
    picture = make_figures.frontier("1b", "Table 1")
    assert make_figures.current(picture)
    assert not make_figures.current(replace(picture, title="another"))


def test_pdf_and_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed: pip install matplotlib")
    grid = SweepAnswer(Sweep(models=[kvplan.load("gpt2")], seq_lens=[1024, 2048, 4096, 65536], batch_sizes=[1, 2]))
    data: Any = render(grid, "pdf", View())
    assert data.startswith(b"%PDF")
    assert b"/FontFile2" in data  # embedded, as TrueType; many journals refuse type 3
    assert b"/Type3" not in data
    assert data == render(grid, "pdf", View())
    picture: Any = render(grid, "png", View(unit="MiB"))
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        assert image.size[0] == 1260  # 6.3 inches
        assert "MiB" not in image.info["Title"]
        assert image.info["Description"].startswith("KV cache · gpt2")


def test_plots_are_a_file_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed: pip install matplotlib")
    folder = tmp_path / "a" / "figures"
    assert main(["compare", "gpt2", "jamba", "--plots", str(folder), "-f", "pdf"]) == 0
    shown = capsys.readouterr()
    assert "gpt2" in shown.out
    assert shown.err == f"wrote {folder}/cache.pdf\nwrote {folder}/cache-per-token.pdf\n"
    assert main(["sweep", "gpt2", "-s", "1k,2k", "--plots", str(folder), "-f", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["cache-per-token.pdf", "cache.pdf", "cache.svg", "per-token.svg"]
    (tmp_path / "file").write_text("")
    assert main(["compare", "gpt2", "--plots", str(tmp_path / "file")]) == 2
    assert "--plots FOLDER" in capsys.readouterr().err
    bars = Bars(name="many", title="many", axis=Axis(title="bytes"), bars=(Bar(label="a", parts=(1,)),) * 61)
    with pytest.raises(OptionError, match="61 bars are too many for one figure"):
        drawing.drawn_svg([bars], View())
