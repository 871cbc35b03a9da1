"""HOSTILE.md, "What held": what stood up to the attacks keeps standing.

Elsewhere: files, pipes and signals in test_outputs.py and test_surroundings.py; the hub in test_hub.py; headers in
test_headers.py and test_checkpoints.py; includes in test_plans.py; audits in test_audit_bounds.py; cgroup files in
tests/questions/validate/test_host_memory.py; out of memory in the middle in tests/questions/validate/test_session.py;
scalar against vector in tests/questions/sweep; formulas in CSV in tests/report and tests/questions/sweep.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doors import SMALL, answered, config, here, refused, steady
from each import each

from kvplan.errors import KvplanError
from kvplan.loading.yaml_spec.read import parse_spec

YAML = {
    "anchor": "layers: &a 2\nattention: {kv_heads: *a, head_dim: 1}",
    "alias bomb": "a: &a [x, x]\nb: &b [*a, *a]\nlayers: *b",
    "tag": "layers: !!python/object/apply:os.system [true]",
    "levels": "layers: " + "[" * 200_000,
    "maps": "layers: " + "{a: " * 2000,
    "keys": "layers: {" + ",".join(f"k{i}: 1" for i in range(90_000)) + "}",
    "large": "#" + "x" * 2**20,
    "long": "name: " + "x" * 900_000 + "\nlayers: 1\nattention: {kv_heads: 1, head_dim: 1}",
    "twice": "layers: 1\nlayers: 2\nattention: {kv_heads: 1, head_dim: 1}",
    "directives": "".join(f"%TAG !{i}! tag:x\n" for i in range(2000)) + "---\nlayers: 1",
    "two": "layers: 1\n---\nlayers: 2",
    "digits": "layers: " + "9" * 5000,
    "hex": "layers: 0x" + "f" * 100_000,
    "nan": "layers: .nan",
    "escape": 'layers: "\\e[31m"',
    "merge": "<<: {layers: 1}",
    "bytes": "layers: \ufeff\x85",
}


@pytest.mark.parametrize("name", YAML)
def test_a_description_that_is_none_is_refused_at_once(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(YAML[name])
    refused(here(capsys, "estimate", str(path), most=2))


@each("raw", [b"\xff\xfe", "layers: 1".encode("utf-16"), b"\0", b"", b" \n\t", b"\xed\xa0\x80"])
def test_bytes_that_are_no_text_are_refused(raw: bytes) -> None:
    with pytest.raises(KvplanError):
        parse_spec(raw, "x.yaml")


def test_ten_thousand_layers_and_all_numbers_at_their_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.yaml"
    most = 2**40
    path.write_text(f"layers: 10000\nattention: {{kv_heads: {most}, head_dim: {most}}}\n")
    for engine in ("ideal", "vllm", "transformers"):
        steady(here(capsys, "estimate", str(path), "-e", engine, "-s", str(2**53), "-b", str(2**53), most=5))


@pytest.mark.parametrize("share", ["NaN", "5e-324", "0", "-1", "1e999", "true", '"\\0"', '"\\e[31m"', "0x1", "[]"])
def test_a_share_is_a_share(share: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"gpu: h100-80gb\nmembers: [{{name: a, weights: 1GB, cache: 1GB, engine: sglang, share: {share}}}]\n")
    end = here(capsys, "committee", str(path))
    assert end.code in {0, 1, 2}
    steady(end)


@pytest.mark.parametrize("name", ["\\0", "\\e[31m", "\\u202e", "=1+1", "<b>", "[a](b)"])
def test_a_members_name_is_text_everywhere(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f'gpu: h100-80gb\nmembers: [{{name: "{name}", weights: 1GB, cache: 1GB}}]\n')
    for fmt in ("table", "json", "csv", "markdown", "html"):
        end = here(capsys, "committee", str(path), "-f", fmt)
        steady(end)
        if fmt == "csv":
            assert not any(cell.startswith("=") for line in end.out.splitlines() for cell in line.split(","))
        if fmt == "html":
            assert "<b>" not in end.out
        if fmt == "markdown":
            assert not re.search(r"(?<!\\)\[a", re.sub(r"`[^`\n]*`", "", end.out))  # in a code span it is text


@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "/dev/zero", "/dev/tty"])
@pytest.mark.parametrize("ending", ["gguf", "json", "yaml", "bin"])
def test_what_is_no_file_is_not_read(kind: str, ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import os

    path = tmp_path / f"x.{ending}"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path.name)
        case _:
            path.symlink_to(kind)
    refused(here(capsys, "estimate", str(path), most=1))


CONFIGS = {
    "levels": '{"model_type": ' + "[" * 5000 + "]" * 5000 + "}",
    "digits": '{"model_type": "llama", "num_hidden_layers": ' + "9" * 5000 + "}",
    "nan": json.dumps({**SMALL, "hidden_size": float("nan")}),
    "half": '{"model_type": "\\ud800"}',
    "list": "[1]",
    "cut": '{"model_type": "lla',
    "nul": '{"model_type": "a\0"}',
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_is_none_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.json"
    path.write_text(CONFIGS[name], encoding="utf-8", errors="surrogatepass")
    refused(here(capsys, "estimate", str(path), most=2))


def test_two_writers_of_one_file_leave_one_whole_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kvplan", "sweep", "gpt2", "-s", "1:20000:1", "-o", "o.csv", "-q"]
    both = [subprocess.Popen(command, cwd=tmp_path) for _ in range(2)]
    assert [running.wait(timeout=60) for running in both] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["o.csv"]
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 20_001


@pytest.mark.parametrize("limit", ["8TiB", str(2**83), "9" * 38])
def test_more_memory_than_there_is_is_refused_before_it_is_taken(
    limit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    path = config(tmp_path / "config.json", num_hidden_layers=100, hidden_size=4096)
    end = here(capsys, "validate", path, "-s", str(2**40), "-b", "1000", "--device", "cpu", "--limit", limit)
    refused(end, (1, 2, 3))


@pytest.mark.parametrize("device", ["cuda:99", "cpu:7", "\x1b[31m", "meta", "CPU", "cuda:-1", "cuda:1e3", "", "x" * 500])
def test_devices_of_every_spelling(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    end = here(capsys, "validate", config(tmp_path / "config.json"), "-s", "16", "--device", device)
    assert end.code in {0, 1, 2, 3}
    steady(end)


def test_a_good_input_is_still_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The helper that these tests share must tell an answer from a refusal."""
    end = here(capsys, "estimate", config(tmp_path / "config.json"))
    answered(end, (0,))
    with pytest.raises(AssertionError):
        refused(end)
