"""`kvplan conformance`: the questions, answers judged, and files that are none."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from golden import GOLDEN, ROOT, cases

from kvplan import Score, conformance, conformance_cases
from kvplan.api.conformance import lines
from kvplan.cli.app import main
from kvplan.errors import InputError
from kvplan.questions.audit.conformance import TOTALS

sys.path.insert(0, str(ROOT / "tools"))
made: Any = pytest.importorskip("make_conformance")
calculators: Any = pytest.importorskip("calculators")

ITEMS = conformance_cases()


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["conformance", *args])
    return code, *capsys.readouterr()


def test_every_case_is_a_recorded_total_under_an_id_of_its_own() -> None:
    assert len({item.id for item in ITEMS}) == len(ITEMS) > 6_000
    assert {item.fact for item in ITEMS} == set(TOTALS)
    recorded = {case["id"]: case["expected"] for name in ("mlx_lm", "transformers_524") for case in cases(name)}
    shared = [item for item in ITEMS if item.id in recorded]
    assert len(shared) > 1_500
    assert all(item.expected == recorded[item.id]["total_bytes"] for item in shared)


def test_from_python_a_score_is_right_only_where_every_answer_is() -> None:
    right = conformance({item.id: item.expected for item in ITEMS})
    assert isinstance(right, Score)
    assert right.right
    assert repr(right) == f"<Score {len(ITEMS):,} of {len(ITEMS):,} cases right>"
    near = conformance({item.id: item.expected + (item is ITEMS[-1]) for item in ITEMS})
    assert not near.right
    assert near.total("right") == len(ITEMS) - 1


def test_what_is_shipped_is_what_the_records_hold() -> None:
    """Of two files, asked again; `tools/make_conformance.py --check` asks all."""
    again = conformance_cases(GOLDEN / f"{name}.jsonl" for name in ("papers", "sglang"))
    asked = {item.id for item in again}
    assert len(asked) == 40
    shipped = tuple(item for item in ITEMS if item.id in asked)
    assert {*[*lines(shipped)][1:]} == {*[*lines(again)][1:]}


def test_export_says_whose_it_is_and_is_json_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cases.jsonl"
    assert run(capsys, "export", str(GOLDEN / "papers.jsonl"), "-o", str(file))[0] == 0
    first, *rest = (json.loads(line, parse_constant=pytest.fail) for line in file.read_text(encoding="utf-8").splitlines())
    assert (first["conformance"], first["cases"]) == (1, len(rest))
    assert "Apache-2.0" in first["licence"]
    assert "tensors" in first["sources"]
    assert all(row["source"] and isinstance(row["expected"], int) for row in rest)


def test_answers_are_counted_by_engine_and_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    papers = [item for item in ITEMS if item.engine == "paper"]
    given: list[int | None] = [item.expected for item in papers]
    given[:4] = [papers[0].expected + 1, papers[1].expected * 2, papers[2].expected // 2, None]
    file = tmp_path / "answers.jsonl"
    rows = [{"id": item.id, "bytes": value} for item, value in zip(papers, given, strict=True)] + [{"id": "nobody's", "bytes": 1}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:-2] + rows[-1:]), encoding="utf-8")
    code, out, _ = run(capsys, "score", str(file), "--cases", str(GOLDEN / "papers.jsonl"), "-f", "json")
    found = json.loads(out)["conformance"][0]
    sums = {
        key: sum(line[key] for line in found["lines"]) for key in ("cases", "right", "near", "too_much", "too_little", "none")
    }
    assert code == 1
    assert found["strangers"] == 1
    assert sums == {"cases": 25, "right": 20, "near": 1, "too_much": 1, "too_little": 1, "none": 2}
    assert {line["kind"] for line in found["lines"]} > {"MQA", "MQA CLA"}


def test_all_right_is_exit_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    file = tmp_path / "answers.jsonl"
    rows = [{"id": item.id, "bytes": item.expected} for item in ITEMS if item.engine == "paper"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, out, _ = run(capsys, "score", str(file), "--cases", str(GOLDEN / "papers.jsonl"))
    assert code == 0
    assert "answers against what engines did" in out
    assert max(map(len, out.splitlines())) <= 80
    table = list(csv.DictReader(io.StringIO(run(capsys, "score", str(file), "-f", "csv")[1])))
    assert sum(int(row["right"]) for row in table) == len(rows)
    assert sum(int(row["none"]) for row in table) == len(ITEMS) - len(rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no answer"),
        ("not json\n", "answers.jsonl:1: not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"id": "a", "bytes": 1.5}\n', "whole number or null"),
        ('{"id": "a", "bytes": true}\n', "whole number or null"),
        ('{"id": "a", "bytes": -1}\n', "whole number or null"),
        (f'{{"id": "a", "bytes": {10**400}}}\n', "whole number or null"),
        ('{"id": 7, "bytes": 1}\n', "an answer has an `id`"),
        ("[1]\n", "an answer has an `id`"),
        ('{"id": "a"}\n{"id": "a"}\n', "answers.jsonl:2: a second answer to `a`"),
    ],
)
def test_a_bad_line_of_answers_is_one_sentence(text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(text, encoding="utf-8")
    code, out, err = run(capsys, "score", str(file))
    assert (code, out) == (2, "")
    assert words in err
    with pytest.raises(InputError):
        conformance(file)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("judge",), "has no `judge`"),
        (("score",), "one file of answers"),
        (("score", "no-such-file.jsonl"), "cannot read"),
        (("export", "no-such-file.jsonl"), "cannot read"),
        (("export", "-f", "csv"), "JSON lines"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(args: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert words in err


def test_the_page_of_calculators_says_what_the_formulas_answer() -> None:
    page = calculators.PAGE.read_text(encoding="utf-8")
    items = calculators.asked()
    for name, formula in calculators.FORMULAS.items():
        assert calculators.row(name, calculators.score(items, calculators.answers(formula, items))) in page
    own = next(line for line in page.splitlines() if line.startswith("| `kvplan estimate -e ENGINE`"))
    assert own.count("100.0%") >= 5
