"""`kvplan audit`: what it says about good, wrong, unknown and broken records, and its exit codes."""

import json
from pathlib import Path

import pytest
from each import each
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_snapshot import snapshot

import kvplan
from kvplan.cli.app import main
from kvplan.engines import ABOUTS
from kvplan.engines.kernel import cases
from kvplan.engines.kernel.cases import record_from
from kvplan.questions.audit import auditor
from kvplan.questions.audit.judge import judge

CONFIG = {"num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
GOOD = {"id": "good", "engine": "paper", "config": CONFIG, "expected": {"bytes_per_token": 1024}}
WRONG = {**GOOD, "id": "wrong", "expected": {"bytes_per_token": 1000}}
UNKNOWN = {**GOOD, "id": "unknown", "engine": "abacus"}


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def written(folder: Path, *records: object) -> str:
    path = folder / "cases.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n", encoding="utf-8")
    return str(path)


def test_all_exact_is_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", written(tmp_path, GOOD, GOOD)]) == 0
    assert capsys.readouterr().out == snapshot("""\
recorded cases against predictions

engine  cases  exact  differing  not predicted  invalid
───────────────────────────────────────────────────────
paper       2      2          0              0        0
""")


def test_the_rest_is_no_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", written(tmp_path, GOOD, WRONG, UNKNOWN, "{broken")]) == 1
    out, err = capsys.readouterr()
    assert err == "3 of 4 cases are not exact\n"
    assert out == snapshot("""\
recorded cases against predictions

engine  cases  exact  differing  not predicted  invalid
───────────────────────────────────────────────────────
paper       2      1          1              0        0
abacus      1      0          0              1        0
(none)      1      0          0              0        1

total       4      1          1              1        1

differing

case   fact             predicted  recorded  difference
───────────────────────────────────────────────────────
wrong  bytes_per_token  1,024      1,000     +24

remarks

status         cases  first          reason
────────────────────────────────────────────────────────────────────────────────
not predicted      1  unknown        kvplan predicts no facts of engine `abacus`
invalid            1  cases.jsonl:4  not valid JSON: expecting property name
                                     enclosed in double quotes at column 2
""")


def test_machines_get_every_fact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "-q", "-f", "json", written(tmp_path, WRONG, UNKNOWN)]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "schema": 2,
        "results": [
            {
                "id": "wrong",
                "engine": "paper",
                "status": "differs",
                "facts": [{"name": "bytes_per_token", "predicted": 1024, "recorded": 1000}],
            },
            {
                "id": "unknown",
                "engine": "abacus",
                "status": "not_predicted",
                "facts": [],
                "reason": "kvplan predicts no facts of engine `abacus`",
            },
        ],
    }
    assert main(["audit", "-q", "-f", "csv", written(tmp_path, WRONG)]) == 1
    assert capsys.readouterr().out == snapshot("""\
id,engine,status,name,predicted,recorded,reason
wrong,paper,differs,bytes_per_token,1024,1000,
""")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('"x"', "not a JSON object"),
        ('{"id": "x"}', "`engine` is missing"),
        ('{"id": "x", "engine": 5}', "`engine` must be a text"),
        ('{"id": "x", "engine": "paper"}', "`expected` is missing or empty"),
        ('{"id": "x", "engine": "paper", "expected": {}}', "`expected` is missing or empty"),
        ('{"id": "x", "engine": "paper", "expected": [1]}', "`expected` must be an object"),
        ('{"id": "x", "engine": "paper", "config": 7, "expected": {"a": 1}}', "`config` must be an object"),
        ('{"id": "x", "engine": "paper", "workload": 7, "expected": {"a": 1}}', "`workload` must be an object"),
        ('{"id": "x", "engine": "paper", "how": 7, "expected": {"bytes_per_token": 1}}', "`how` must be a text"),
        ('{"id": "x", "engine": "paper", "expected": {"bytes_per_token": 1}}', "`config` is missing or empty"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "too long to read"),
        ('{"id": "\\ud800', "not valid JSON"),
    ],
)
def test_a_malformed_record_is_invalid_with_one_reason(tmp_path: Path, line: str, reason: str) -> None:
    bad, good = kvplan.audit(written(tmp_path, line, GOOD)).results
    assert (bad.status, good.status) == ("invalid", "exact")
    assert reason in bad.reason


def test_facts_of_other_forms_are_invalid() -> None:
    for expected in (
        {"bytes_per_token_printed": []},
        {"kv_gb_printed": {"many": 1}},
        {"formula_bytes_per_token": 5},
        {"total_printed": "1 GB"},
    ):
        assert judge(record_from({**GOOD, "expected": expected}, where="x")).status == "invalid"


def test_a_line_that_is_too_long_is_skipped_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "AUDIT_LINE_BYTES", 500)
    long = json.dumps({**GOOD, "how": "x" * 5000})
    statuses = [result.status for result in kvplan.audit(written(tmp_path, GOOD, long, GOOD)).results]
    assert statuses == ["exact", "invalid", "exact"]


def test_a_line_that_is_not_utf8_is_invalid(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"id": "\xff\xfe\xfa"}\n' + json.dumps(GOOD).encode() + b"\n")
    assert [r.status for r in kvplan.audit(path).results] == ["invalid", "exact"]


@pytest.mark.parametrize(
    ("name", "message"), [("missing", "cannot read"), ("folder", "not a regular file"), ("empty", "holds no case")]
)
def test_a_file_without_cases_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_text("\n \n")
    assert main(["audit", str(tmp_path / name)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "hint: " in err


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400)
@given(
    st.sampled_from(["config", "workload", "options", "expected", "how", "source", "id", "model", "engine"]),
    st.sampled_from(["bytes_per_token", "kv_gb_printed", "total_printed", "kv_dtype", "batch", "seq_len", "cla_share_factor"]),
    json_values,
)
def test_no_record_raises(section: str, key: str, value: object) -> None:
    record = dict(GOOD)
    inside = record.get(section)
    record[section] = {**inside, key: value} if isinstance(inside, dict) else value
    assert judge(record_from(record, where="x")).status in {"exact", "differs", "not_predicted", "invalid"}


def test_dicts_are_cases_too() -> None:
    found = kvplan.audit([GOOD, WRONG])
    assert [r.status for r in found.results] == ["exact", "differs"]
    assert not found.exact
    assert kvplan.audit(GOOD).exact


@each("engine", ["fieldlog", "paper", *(found.name for found in ABOUTS.values() if found.audit)])
def test_every_engine_module_keeps_the_seam(engine: str) -> None:
    module = auditor(engine)
    assert callable(module.recorded)
    assert callable(module.predict)


def test_a_recorded_fact_without_a_prediction_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    module = auditor("paper")
    monkeypatch.setattr(module, "predict", lambda case, asked, read: {})
    result = judge(record_from(GOOD, where="x"))
    assert (result.status, result.facts[0].predicted) == ("differs", None)
