"""Every answer in every format; and a new format is one file and one row."""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from each import each
from golden import ROOT

import kvplan
from kvplan.api.check import parsed
from kvplan.api.conformance import conformance
from kvplan.api.placement import place
from kvplan.cli.app import main
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.dtypes import DTYPES
from kvplan.domain.gpus import gpus
from kvplan.domain.tables import Column, Table
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.verdicts import Audit, ComparedFact, Result
from kvplan.errors import OptionError
from kvplan.loading.servers.read import servers_of
from kvplan.questions.compare import compare
from kvplan.questions.estimate import plan
from kvplan.questions.explain import explain
from kvplan.questions.sweep.grid import Sweep
from kvplan.report import formats
from kvplan.report.answers.audit import AuditAnswer
from kvplan.report.answers.capacity import CapacityAnswer
from kvplan.report.answers.check import CheckAnswer
from kvplan.report.answers.committee import CommitteeAnswer
from kvplan.report.answers.compare import CompareAnswer
from kvplan.report.answers.conformance import ScoreAnswer
from kvplan.report.answers.diff import DiffAnswer
from kvplan.report.answers.estimate import EstimateAnswer
from kvplan.report.answers.explain import ExplainAnswer
from kvplan.report.answers.fit import FitAnswer
from kvplan.report.answers.lists import dtype_listing, engine_listing, gpu_listing
from kvplan.report.answers.models import Entry, ModelsAnswer
from kvplan.report.answers.page import PageAnswer
from kvplan.report.answers.placement import LaidAnswer
from kvplan.report.answers.receipt import ReceiptAnswer
from kvplan.report.answers.replay import ReplayAnswer
from kvplan.report.answers.reserve import ReserveAnswer
from kvplan.report.answers.servers import ServersAnswer
from kvplan.report.answers.sweep import SweepAnswer
from kvplan.report.blocks import (
    Answer,
    Block,
    Command,
    Fix,
    Fixes,
    Heading,
    Notes,
    Paragraph,
    Rows,
    Section,
    Steps,
    Text,
    Verdict,
    View,
)
from kvplan.report.formats import FORMATS, Format, by_ending, named, render

HOSTILE = "=a<b>&\x1b[31m|`*\n_"
GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"


def answers() -> Iterator[Answer]:
    """One of each kind, of a model whose name is hostile, with what is not predicted among them."""
    model = kvplan.load({**json.loads(CONFIG), "_name_or_path": "x"})
    model = type(model)(**{**{f: getattr(model, f) for f in model.__struct_fields__}, "name": HOSTILE})
    at = Workload(batch_size=2, seq_len=4096)
    refused = plan(model, at, "vllm", kv_dtype="nvfp4")
    assert isinstance(refused, NotPredicted)
    yield EstimateAnswer([plan(model, at), plan(model, at, "vllm"), refused])
    yield EstimateAnswer([plan(model, at), refused], per_layer=True)
    yield CompareAnswer(compare([model], at, engines=["ideal", "vllm"], kv_dtypes=["bf16", "nvfp4"]))
    yield CompareAnswer(compare([model], at, kv_dtypes=["all"]))
    yield SweepAnswer(Sweep(models=[model], seq_lens=[1024, 2048], batch_sizes=[1, 2]))
    for engine in ("vllm", "llama.cpp", "ideal"):
        for context in ("2k", "9M"):
            yield FitAnswer([kvplan.try_fit(model, "rtx-4090", engine=engine, context=context, weights="16GB")])
    yield FitAnswer([kvplan.fit(model, "l4,h100-80gb", target="8 users at 32k", weights="16GB")])
    yield CapacityAnswer(kvplan.capacity([model, "gpt-oss-20b"], "rtx-4090,h100-80gb", context=["2k", "8k"]))
    yield ReserveAnswer([kvplan.try_reserve(model, memory="20GiB"), kvplan.try_reserve(model, memory="20GiB", kv_dtype="nvfp4")])
    releases = ("vllm@0.26", "vllm@0.8")
    yield ReceiptAnswer([kvplan.receipt(model, "h200", engine=engine, max_model_len=8192) for engine in releases])
    yield ReceiptAnswer([kvplan.receipt(model, "h200", kv_dtype="nvfp4"), kvplan.receipt(model, "l4", free="1GiB")])
    yield CommitteeAnswer(kvplan.committee(GUIDES / "desk.yaml"))
    yield CommitteeAnswer(kvplan.committee(GUIDES / "desk.yaml", scale=30))
    yield ExplainAnswer(explain(model, at))
    yield ExplainAnswer(explain(model, at, "vllm", kv_dtype="nvfp4"))
    yield ModelsAnswer([Entry.of(kvplan.estimate(model), HOSTILE)])  # type: ignore[arg-type]
    served = f"vllm serve {{}} --max-model-len 8192  # {HOSTILE}\nollama serve\n"
    yield ServersAnswer(parsed(text=served.format("x/$(y)")))
    yield CheckAnswer(kvplan.check(text=served.format("gpt2"), gpu="l4"))
    yield DiffAnswer(kvplan.diff("vllm@0.26", "vllm@0.33", ["jamba", model]))
    asked = {"engine": "ideal,vllm", "kv_dtype": "auto,q8_0", "seq_len": "2k,8k", "batch_size": "1,2", "weights": "1GB"}
    yield PageAnswer(kvplan.page([model, "gpt2"], "rtx-4090", **asked))
    yield ScoreAnswer(conformance({HOSTILE: 1}))
    yield LaidAnswer([place("qwen3-8b", "rtx-4090:2", engine="llama.cpp", context=4096), refused])
    requests = {"arrival_s": [0.0, 1.0, 2.0], "input_tokens": [100] * 3, "output_tokens": [4] * 3}
    yield ReplayAnswer(kvplan.replay(requests, "llama-3.1-8b", "h100", search=False))
    fact = ComparedFact(name=HOSTILE, predicted=[1, HOSTILE], recorded=2)
    yield AuditAnswer(Audit(results=(Result(id=HOSTILE, engine=HOSTILE, status="differs", facts=(fact,), reason=HOSTILE),)))
    lines = f"vllm serve Qwen/Qwen3-8B --max-model-len 8k\nvllm serve '{HOSTILE}' --dtype '{HOSTILE}' --{HOSTILE[3]} 1\n"
    yield ServersAnswer([servers_of(lines, f"{HOSTILE}.sh")])
    yield CheckAnswer(kvplan.check(text=lines, gpu="rtx-4090"))
    yield from (dtype_listing(list(DTYPES.values())), engine_listing(), gpu_listing(gpus()))


CONFIG = json.dumps(
    {
        "model_type": "llama", "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 512,
        "max_position_embeddings": 131072, "vocab_size": 100, "intermediate_size": 1024, "torch_dtype": "bfloat16",
    }
)  # fmt: skip


@cache
def everything() -> list[Any]:
    return [pytest.param(answer, id=f"{type(answer).__name__}-{number}") for number, answer in enumerate(answers())]


VIEWS = [View(), View(width=40, unit="MiB"), View(width=140, color=True)]


def test_every_kind_of_answer_is_here() -> None:
    written = {
        name
        for path in (Path(formats.__file__).parent.parent / "answers").glob("*.py")
        for name in re.findall(r"^class (\w+Answer|Listing)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(written) >= 12
    need_torch = {"ValidateAnswer", "TogetherAnswer", "MeasureAnswer"}
    assert {type(row.values[0]).__name__ for row in everything()} == written - need_torch


@each("answer", everything)
def test_json_holds_the_dicts_under_the_key(answer: Answer) -> None:
    shown = json.loads(render(answer, "json", View()))
    assert shown.pop("schema") == 2
    assert next(iter(shown)) == answer.key
    assert shown[answer.key] == json.loads(json.dumps(answer.dicts()))


def _has_rows(answer: Answer) -> bool:
    return not isinstance(answer, ExplainAnswer)


@each("answer", everything)
def test_csv_and_parquet_hold_the_same_rows(answer: Answer) -> None:
    if not _has_rows(answer):
        for fmt in ("csv", "parquet"):
            with pytest.raises(OptionError, match="no CSV form"):
                render(answer, fmt, View())
        return
    columns, rows = answer.rows()
    count = len(list(rows))
    assert count
    text, data = render(answer, "csv", View()), render(answer, "parquet", View())
    assert isinstance(text, str)
    assert isinstance(data, bytes)
    found = list(csv.DictReader(io.StringIO(text)))
    stored = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
    assert len(found) == len(stored) == count
    for line, row in zip(found, stored, strict=True):
        assert list(line) == list(row) == list(columns)
        assert any(line.values())
        for name, cell in line.items():
            assert cell == ("" if row[name] is None else str(row[name])) or isinstance(row[name], float)
    assert "\x1b" not in text


@each("view", VIEWS, ids=str)
@each("answer", everything)
def test_what_people_read_is_safe_and_in_every_format(answer: Answer, view: View) -> None:
    blocks = list(answer.blocks(view))
    assert blocks
    for fmt in ("table", "markdown", "html"):
        text = render(answer, fmt, view)
        assert isinstance(text, str)
        assert text.endswith("\n")
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text) if view.color and fmt == "table" else text
        assert all(c.isprintable() or c == "\n" for c in plain)
        assert "<b>" not in text or fmt != "html"


class _Balanced(HTMLParser):
    """Every tag that opens closes, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@each("answer", everything)
def test_html_is_one_page(answer: Answer) -> None:
    page = str(render(answer, "html", View()))
    assert page.startswith("<!doctype html>\n")
    parser = _Balanced()
    parser.feed(page)
    assert parser.open == []


def test_a_printer_shows_every_kind_of_block_and_every_word_of_it() -> None:
    table = Table(title="a title", columns=(Column(title="head", key="h"),), rows=(("a cell",),), notes=("a note",))
    refused = NotPredicted(reason="its reason", see="a place", model="a model", engine="an engine", engine_version="1.2.3")
    inner: list[Block] = [Verdict("the verdict"), table, Command("a command"), Steps(("step one", "step two")),
                          Fixes([Fix("a change", "a result", "fix command")]), Notes(("the note",)),
                          Text(("line one",))]  # fmt: skip
    every: list[Block] = [Heading("a heading"), Paragraph("word", "prose"), refused, table, *inner, Section(blocks=inner)]
    words = (
        "a title", "head", "a cell", "a note", "its reason", "a place", "a model", "an engine", "1.2.3", "the verdict",
        "a command", "step one", "step two", "a change", "a result", "fix command", "the note", "line one", "a heading", "prose",
    )  # fmt: skip

    class All:
        key = "all"

        def dicts(self) -> Any:
            return {}

        def rows(self) -> Rows:
            return (), ()

        def blocks(self, view: View) -> list[Block]:
            return every

    assert {type(block) for block in every} == set(Block.__args__)  # type: ignore[attr-defined]
    for fmt in ("table", "markdown", "html"):
        text = str(render(All(), fmt, View()))
        assert [word for word in words if word not in text] == []


def test_lists_of_a_section_stand_apart_only_where_it_says_so() -> None:
    class One:
        key = "one"

        def __init__(self, apart: bool) -> None:
            self.apart = apart

        def dicts(self) -> Any:
            return {}

        def rows(self) -> Rows:
            return (), ()

        def blocks(self, view: View) -> list[Block]:
            return [Section(blocks=[Verdict("v"), Steps(("a", "b")), Notes(("c",))], apart=self.apart)]

    assert render(One(False), "markdown", View()) == "**v**\n\n- a\n- b\n- c\n"
    assert render(One(True), "markdown", View()) == "**v**\n\n- a\n\n- b\n\n- c\n"
    assert render(One(True), "table", View()) == "v\n\na\nb\n\nnote: c\n"


def test_every_row_of_the_formats_leads_to_a_printer_and_no_two_share_a_name() -> None:
    spellings = [word for row in FORMATS for word in (row.name, row.short, *row.endings) if word]
    assert len(spellings) == len(set(spellings))
    for row in FORMATS:
        module, _, name = row.printer.partition(":")
        assert module.startswith("kvplan.report.formats.")
        assert callable(getattr(import_module(module), name))
        assert named(row.name) == row
        assert all(by_ending(Path(f"Report{ending.upper()}")) == row for ending in row.endings)
    assert named("md") == named("markdown")
    assert by_ending(Path("report")) is by_ending(Path("report.xlsx")) is None
    with pytest.raises(OptionError, match="unknown format `markdwon`") as caught:
        named("markdwon")
    assert caught.value.hint.startswith("did you mean `markdown`? one of table, json")


COMMANDS = (
    ("estimate", "llama-3.1-8b"), ("compare", "llama-3.1-8b"), ("sweep", "llama-3.1-8b", "-s", "1k,2k"),
    ("explain", "llama-3.1-8b"), ("fit", "llama-3.1-8b", "--gpu", "h100-80gb", "--context", "8k"),
    ("committee", str(GUIDES / "desk.yaml")), ("receipt", "llama-3.1-8b", "--gpu", "h100-80gb"),
    ("reserve", "llama-3.1-8b", "--memory", "20GiB"), ("models", "llama-3.1-8b"), ("engines",), ("dtypes",), ("gpus",),
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_new_format_is_one_file_and_one_row(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shouted.py").write_text(
        "def loud(answer, view):\n    return f'{answer.key}: {len(list(answer.blocks(view)))} BLOCKS\\n'.upper()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, Format("shout", "shouted:loud", endings=(".shout",), short="s")))
    assert main([*command, "-f", "shout"]) == main([*command, "-f", "s"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert re.fullmatch(r"[A-Z]+: [1-9] BLOCKS", first)
    assert main([*command, "-o", str(tmp_path / "out.shout")]) == 0
    assert (tmp_path / "out.shout").read_text() == f"{first}\n"
    sys.modules.pop("shouted", None)


def test_every_format_has_a_line_in_its_page() -> None:
    """docs/reference/formats.md is written by hand."""
    page = (ROOT / "docs" / "reference" / "formats.md").read_text(encoding="utf-8")
    for row in FORMATS:
        lines = re.findall(rf"^\| `{row.name}`.*$", page, re.MULTILINE)
        assert len(lines) == 1, f"docs/reference/formats.md has no line for `{row.name}`"
        assert all(f"`{ending}`" in lines[0] for ending in row.endings)
