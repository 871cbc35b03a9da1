"""HOSTILE.md 13 (plans, includes, descriptions without a bound) and 14 (users that are none).

Elsewhere: what a plan may not say in tests/questions/committee; a description's mistakes in
tests/loading/test_yaml_spec_errors.py.
"""

import os
from pathlib import Path

import pytest
from doors import answered, forked, here, refused, steady

from kvplan.engines import PREDICTED

PLAN = "gpu: rtx-4090\nmembers: [{name: a, weights: 1GB}]\n"


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(PLAN)


@pytest.mark.parametrize("scale", ["1e9999999999", "1e9", "0", "-1", "1/0", "nan", "9" * 21, "9" * 5000, "1/3/4", "", "\x1b[31m"])
def test_a_factor_is_a_short_number(scale: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(here(capsys, "committee", "p.yaml", "--scale", scale, most=1), words="--scale")


def test_files_of_a_plan_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(f"gpu: rtx-4090\ninclude: [{','.join(['b.yaml'] * 1000)}]\n")
    (tmp_path / "b.yaml").write_text(f"include: [{','.join(['c.yaml'] * 1000)}]\n")
    (tmp_path / "c.yaml").write_text("notes: x\n")
    refused(here(capsys, "committee", "a.yaml", most=2), words="more than 64 files")


def test_a_large_file_is_read_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(PLAN + f"include: [{','.join(['b.yaml'] * 64)}]\n")
    (tmp_path / "b.yaml").write_text("notes: " + "x" * 900_000 + "\n")
    steady(here(capsys, "committee", "a.yaml", most=3))


@pytest.mark.parametrize("members", [16, 64])
def test_many_members_are_answered_in_time(members: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"- {{name: m{i}, model: llama-3.1-8b, engine: vllm, context: 8k, users: 9}}" for i in range(members)]
    (tmp_path / "m.yaml").write_text("gpu: rtx-4090:8\nmembers:\n" + "\n".join(rows) + "\n")
    answered(here(capsys, "committee", "m.yaml"), (1,))


def test_too_many_members_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"- {{name: m{i}, weights: 1GB}}" for i in range(65)]
    (tmp_path / "m.yaml").write_text("gpu: rtx-4090:8\nmembers:\n" + "\n".join(rows) + "\n")
    refused(here(capsys, "committee", "m.yaml"), words="at most 64")


def test_pinned_members_and_wide_ones_are_placed_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"- {{name: m{i}, weights: 1GB, cache: 1GB, engine: vllm, cards: [{i}]}}" for i in range(62)]
    rows += [f"- {{name: w{i}, weights: 900GB, cache: 9GB, engine: vllm, tensor_parallel: 8}}" for i in range(2)]
    (tmp_path / "m.yaml").write_text("gpu: h100-80gb:62\nmembers:\n" + "\n".join(rows) + "\n")
    answered(here(capsys, "committee", "m.yaml"))


def test_a_model_of_ten_thousand_layers_is_planned_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ten.yaml").write_text("layers: 10000\nattention: {kv_heads: 1, head_dim: 1}\n")
    rows = [f"- {{name: m{i}, model: ten.yaml, engine: vllm, weights: 1MB, context: 1k, users: 1}}" for i in range(32)]
    (tmp_path / "m.yaml").write_text("gpu: h100-80gb:8\nmembers:\n" + "\n".join(rows) + "\n")
    answered(here(capsys, "committee", "m.yaml"))


def test_a_pipe_is_no_plan(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "q.yaml")
    for command in (("validate", "q.yaml", "--device", "cpu"), ("committee", "q.yaml"), ("estimate", "q.yaml")):
        refused(forked(*command, cwd=tmp_path), words="not a regular file")


@pytest.mark.parametrize("memory", ["\udcff", "\x00", "\u202e", "1e999GB", "9" * 5000 + "GB", "a: b", "- x"])
def test_a_memory_is_a_size(memory: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(here(capsys, "committee", "p.yaml", "--memory", memory))


@pytest.mark.parametrize(
    "include",
    ["l.yaml", '"b\\0.yaml"', '""', ".", "i.yaml", "../p.yaml", "/etc/passwd", "/dev/zero", "out.yaml", "q.yaml", "5", "{}"],
)
def test_an_include_is_a_file_beside_the_plan(include: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "l.yaml").symlink_to("l.yaml")
    (tmp_path / "out.yaml").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "q.yaml")
    (tmp_path / "i.yaml").write_text(f"gpu: rtx-4090\ninclude: {include}\n")
    end = here(capsys, "committee", "i.yaml")
    refused(end)
    assert "cannot write" not in end.err


def test_nine_files_deep_is_too_deep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(10):
        (tmp_path / f"f{i}.yaml").write_text(f"{'gpu: rtx-4090' if not i else 'notes: x'}\ninclude: f{i + 1}.yaml\n")
    (tmp_path / "f10.yaml").write_text("members: [{name: a, weights: 1GB}]\n")
    refused(here(capsys, "committee", "f0.yaml"), words="nested too deeply")


@pytest.mark.parametrize("engine", PREDICTED)
def test_thousands_of_unlike_layers_are_answered_in_time(engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three thousand of HOSTILE.md's 9,900: a quadratic reading takes longer than this already."""
    rows = [f"- {{type: softmax, kv_heads: 1, head_dim: {i}}}" for i in range(1, 3001)]
    (tmp_path / "u.yaml").write_text("layers:\n" + "\n".join(rows) + "\n")
    steady(here(capsys, "estimate", "u.yaml", "-e", engine, "-f", "csv", most=6))


COMMANDS = (
    ("estimate", "~nosuchuser/x"),
    ("compare", "~nosuchuser/x"),
    ("sweep", "~nosuchuser/x", "-s", "1k"),
    ("explain", "~nosuchuser/x"),
    ("fit", "~nosuchuser/x", "--gpu", "h100-80gb"),
    ("committee", "~nosuchuser/x"),
    ("reserve", "~nosuchuser/x", "--memory", "9GB"),
    ("receipt", "~nosuchuser/x", "--gpu", "h100-80gb"),
    ("validate", "~nosuchuser/x", "--device", "cpu"),
    ("audit", "~nosuchuser/x"),
    ("spec", "~nosuchuser/x"),
    ("models", "-o", "~nosuchuser/x"),
    ("engines", "-o", "~nosuchuser/x"),
    ("estimate", "gpt2", "-o", "~nosuchuser/x"),
    ("sweep", "gpt2", "-s", "1k", "-o", "~nosuchuser/x"),
    ("receipt", "llama-3.1-8b", "-e", "vllm", "--gpu", "h100-80gb", "--machine", "~nosuchuser/x"),
    ("audit", "g.log", "--model", "~nosuchuser/x"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_user_that_is_none_is_said(command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "g.log").write_text("Initializing a V1 LLM engine (v0.11.0) with config: max_seq_len=16\n")
    end = here(capsys, *command)
    assert end.code == 2
    assert "no such user: `~nosuchuser/x`" in end.err
    steady(end)
