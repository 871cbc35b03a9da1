"""HOSTILE.md 11 (facts that no format can hold) and 12 (work without a bound).

Elsewhere: what a mutated record may not do is in tests/questions/audit.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from doors import End, forked, here, refused, steady

import kvplan
from kvplan.limits import AUDIT_CASES, AUDIT_STARTS
from kvplan.report.formats import FIGURES, FORMATS

CASE: dict[str, Any] = {
    "id": "x",
    "engine": "transformers",
    "config": {"model_type": "gpt2"},
    "workload": {"prefill": 1, "seq_len": 2, "batch": 1},
}


@pytest.mark.parametrize(
    "fact", ["NaN", "-Infinity", "1e999", "-" + "9" * 4300, "1" + "0" * 400, "9" * 5000, "0.5", '"=1+1"', '"\\u001b[31m"']
)
def test_a_fact_that_is_none_is_invalid_in_every_format(fact: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    text = json.dumps({**CASE, "expected": {"total_bytes": 0}})
    path.write_text(text.replace('"total_bytes": 0', f'"total_bytes": {fact}'))
    for fmt in (row.name for row in FORMATS if row.name not in {"parquet", *FIGURES}):
        end = here(capsys, "audit", str(path), "-f", fmt)
        assert end.code == 1
        assert max(map(len, end.out.splitlines()), default=0) < 3000
        steady(end)
        assert not any(cell.startswith(("=", "-i", "+", "@")) for line in end.out.splitlines() for cell in line.split(","))
        if fmt == "json":
            found = json.loads(end.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
            assert found["results"][0]["status"] in {"invalid", "differs", "differing", "not_predicted"}


def test_nan_beside_a_good_fact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id":"x","engine":"llama.cpp","config":{"general.architecture":"llama"},"expected":{"ok":NaN,"total_bytes":-Infinity}}'
    )
    end = here(capsys, "audit", str(path), "-f", "json")
    assert json.loads(end.out)["results"][0]["status"] == "invalid"


def audited(folder: Path, *arguments: str) -> End:
    """An audit in a process of its own, within the bounds of any file."""
    end = forked("audit", *arguments, cwd=folder)
    assert end.code in {0, 1, 2}
    steady(end)
    return end


def test_bad_lines_are_counted_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"1\n" * (AUDIT_CASES * 4))
    end = audited(tmp_path, "a.jsonl", "-f", "json")
    assert len(json.loads(end.out)["results"]) <= AUDIT_CASES + 1


def test_ranges_of_layers_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(
        json.dumps({**CASE, "expected": {"per_layer": [{"layers": [0, 9999], "bytes": 1}] * 100_000}})
    )
    assert audited(tmp_path, "b.jsonl").seconds < 5


def test_starts_of_a_log_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("layers: 1\nattention: {kv_heads: 1, head_dim: 1}\nmax_tokens: 16\n")
    start = (
        "Initializing a V1 LLM engine (v0.11.0) with config: max_seq_len=16\nAvailable KV cache memory: 99999999.99 GiB\n"
        "GPU KV cache size: 999,999,999,999 tokens\n"
    )
    (tmp_path / "c.log").write_text(start * (2 * AUDIT_STARTS))
    end = audited(tmp_path, "c.log", "--model", "m.yaml", "-f", "json")
    assert len(json.loads(end.out)["results"]) <= AUDIT_STARTS + 1


def test_lines_that_nearly_match_cost_no_more_than_others(tmp_path: Path) -> None:
    """A quarter of HOSTILE.md's 32 MiB, against as many bytes that match nothing: a pattern that goes back takes minutes."""
    (tmp_path / "d.log").write_text("llama_context:\n" + ("llama_kv_cache" * 292 + "\n") * 2000)
    (tmp_path / "e.log").write_text("KV cache size:\n" + ("config: " + "method='a'" * 1600 + "\n") * 500)
    (tmp_path / "f.log").write_text("llama_context:\n" + ("nothing at all" * 292 + "\n") * 2000)
    plain = audited(tmp_path, "f.log").seconds
    assert audited(tmp_path, "d.log").seconds < 4 * plain + 1
    assert audited(tmp_path, "e.log", "--model", "gpt2").seconds < 4 * plain + 1


def test_what_held_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = "[" * 950 + "]" * 950
    for name, raw in {
        "blank": b" \n" * 100_000,
        "wide": json.dumps(CASE).encode("utf-16"),
        "deep": json.dumps({**CASE, "expected": {"total_bytes": 0}}).replace("0}", deep + "}").encode(),
        "layers": json.dumps(
            {**CASE, "config": {"model_type": "gpt2", "n_layer": 10**9}, "expected": {"total_bytes": 1}}
        ).encode(),
        "line": b'{"id": "' + b"x" * (5 * 2**20) + b'"}',
    }.items():
        (tmp_path / f"{name}.jsonl").write_bytes(raw)
        end = here(capsys, "audit", str(tmp_path / f"{name}.jsonl"), most=4)
        assert end.code in {1, 2}
        steady(end)
    for place in ("/dev/zero", str(tmp_path), "~nosuchuser/x", str(tmp_path / "missing")):
        refused(here(capsys, "audit", place))


def test_an_audit_from_python_is_the_same() -> None:
    found = kvplan.audit({**CASE, "expected": {"total_bytes": 10**5000}})
    assert json.dumps(found.to_dict(), allow_nan=False)
