"""What people see: at 80 columns, in a pipe, on a terminal; the words of the field, and nothing that says nothing."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from kvplan.cli.app import main

ROOT = Path(__file__).resolve().parents[2]
HEADLINE = ("compare", "llama-3.1-8b", "gemma-3-27b", "deepseek-v3", "-e", "ideal,transformers,vllm,llama.cpp", "-s", "32k")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main([*arguments]) == code
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def on_terminal(columns: int, *arguments: str, streams: str = "oe", **environment: str) -> tuple[str, str]:
    """(what stdout got, what the terminal got) of a command, some of whose streams are a terminal of so many columns."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "NO_COLOR"}}
    env |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "kvplan", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=terminal if "o" in streams else subprocess.PIPE,
        stderr=terminal if "e" in streams else subprocess.DEVNULL,
        env=env,
    )
    os.close(terminal)
    out = b""
    if process.stdout is not None:
        with process.stdout:
            out = process.stdout.read()
    screen = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux says EIO when the last writer is gone
            break
        if not part:
            break
        screen += part
    os.close(master)
    assert process.wait() == 0
    return out.decode(), screen.decode().replace("\r\n", "\n")


def test_the_first_command_of_the_readme_fits_80_columns_with_every_name_whole(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, *HEADLINE).splitlines()
    assert max(map(len, lines)) <= 80
    rows = lines[4:16]
    assert [row.split()[0] for row in rows if row[0] != " "] == ["llama-3.1-8b", "gemma-3-27b", "deepseek-v3"]
    assert [row[14:].split()[0] for row in rows] == ["ideal", "transformers", "vllm", "llama.cpp"] * 3
    assert lines[2].split() == ["model", "engine", "kv", "dtype", "cache", "GiB", "B/token", "relative", "evidence"]


@pytest.mark.parametrize("width", ["56", "66"])
def test_what_a_narrow_comparison_leaves_out_is_said(
    width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    out = shown(capsys, *HEADLINE)
    flat = " ".join(out.split())
    assert max(map(len, out.splitlines())) <= int(width)
    assert "note: evidence: recorded; theory for llama-3.1-8b · ideal" in flat
    assert ("note: kv dtype: bfloat16; float16 for llama-3.1-8b · llama.cpp" in flat) == (width == "56")
    assert "gemma-3-27b " in out


def test_no_table_drops_its_answer_at_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    fit = shown(capsys, "fit", "llama-3.1-8b", "--gpu", "h100-80gb", "--context", "8k")
    assert re.search(r"^fp8_per_token_head .* --kv-cache-dtype fp8_per_token_head", fit, re.MULTILINE)
    plan = shown(capsys, "committee", str(ROOT / "docs" / "guides" / "assistant.yaml"))
    assert re.search(r"^member +(engine +)?users +context +weights +reserve +cache", plan, re.MULTILINE)
    assert max(len(line) for line in (fit + plan).splitlines() if "vllm serve" not in line and "model = " not in line) <= 80


def test_units_do_not_hide_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    grid = ("sweep", "llama-3.1-8b", "-s", "1k:1M:x2", "-b", "1,2,4,8")
    assert not re.search(r"\b0\.00\b", shown(capsys, *grid))
    several = shown(capsys, "sweep", "llama-3.1-8b", "gemma-3-27b", *grid[2:], "--kv-dtype", "bf16,fp8")
    assert not re.search(r"\b0\.00\b", several)
    layers = shown(capsys, "estimate", "gemma-3-27b", "--per-layer")
    assert layers.count(" 8.00 ") == 52
    ratios = shown(capsys, "compare", "llama-3.1-8b", "--variant", "mqa,mqa+cla=2")
    ratios += shown(capsys, "compare", "llama-3.1-8b", "mamba-2.8b")
    assert {"1/8", "1/16", "0.0214x"} <= set(ratios.split())
    assert not re.search(r"\b0\.0[0-9]x", ratios)


def test_words_are_those_of_the_field(capsys: pytest.CaptureFixture[str]) -> None:
    full = shown(capsys, "estimate", "gemma-3-27b", "-e", "vllm", "-s", "32k", "--tp", "2")
    for words in (
        "tokens/block",
        "blocks/request",
        "5, 11, … 59",
        "· per device, of 2",
        "in flight",
        "each further token of a sequence: ",
    ):
        assert words in full
    assert "0 B a token" not in full
    sum_of = shown(capsys, "explain", "gemma-3-27b", "-e", "vllm", "-s", "32k")
    assert "52 layers x 1,089 blocks x 131,072 B" in sum_of
    assert "more tokens cost nothing" in shown(capsys, "estimate", "mamba-2.8b")
    refused = shown(capsys, "estimate", "llama-3.1-8b", "-e", "vllm", "--tp", "3", code=1)
    assert "refuses llama-3.1-8b: 32 attention heads do not divide by tensor_parallel_size 3; use 1, 2, 4, 8" in " ".join(
        refused.split()
    )
    assert "not used by vllm (8%)" in shown(capsys, "fit", "llama-3.1-8b", "--gpu", "h100-80gb", "--context", "8k")
    assert "its log will say: GPU KV cache size: " in shown(capsys, "committee", str(ROOT / "docs" / "guides" / "assistant.yaml"))
    pool = shown(capsys, "reserve", "llama-3.1-8b", "--memory", "20GiB")
    assert re.search(r"^memory for the cache +21,474,836,480 B  = 20\.00 GiB$", pool, re.MULTILINE)


def test_what_an_engine_does_not_have_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, "compare", "llama-3.1-8b", "-e", "vllm", "--kv-dtype", "all")
    assert out.count("--kv-cache-dtype") >= 6
    assert "has no kv_cache_dtype" not in out
    assert "-100.0%" not in out
    assert "mxfp4" not in out
    nothing = shown(capsys, "fit", "llama-3.3-70b", "--gpu", "h100-80gb:2", "--target", "8 users at 32k", code=1)
    assert "cache dtypes fits" in nothing
    assert len(re.findall(r" no$", nothing, re.MULTILINE)) == 1
    design = str(ROOT / "docs" / "guides" / "my-cla.yaml")
    assert "no released" not in shown(capsys, "estimate", design)
    assert " ".join(shown(capsys, "estimate", design, "-e", "vllm").split()).count("no released engine") == 1


def test_a_pipe_is_as_wide_as_the_terminal_and_has_no_colours() -> None:
    wide, _ = on_terminal(140, "gpus", "h100", streams="e")
    narrow, _ = on_terminal(60, "gpus", "h100", streams="e")
    assert 100 < max(map(len, wide.splitlines())) <= 140
    assert max(map(len, narrow.splitlines())) <= 60
    assert "\x1b" not in wide + narrow


def test_colours_are_on_a_terminal_alone() -> None:
    command = ("fit", "llama-3.1-8b", "--gpu", "h100-80gb", "--context", "8k")
    _, screen = on_terminal(100, *command)
    assert screen.startswith("\x1b[1;32mFITS\x1b[0m")
    assert re.search(r"->.*\x1b\[1m +8,192|->\S* .*8,192", screen)
    assert "\x1b[2mnote: " in screen
    _, plain = on_terminal(100, *command, NO_COLOR="1")
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", screen) == plain


def test_what_takes_a_while_says_so_on_a_terminal() -> None:
    out, screen = on_terminal(100, "fit", "llama-3.1-8b", "--gpu", "h100-80gb,h200", "--target", "8 users at 8k", streams="e")
    assert out.startswith("FITS")
    assert "trying the GPUs of `h100-80gb,h200`" in screen


def test_markdown_has_headings_and_code_spans_and_no_needless_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    fit = shown(capsys, "fit", "llama-3.1-8b", "--gpu", "h100-80gb", "--context", "8k", "-f", "md")
    assert fit.startswith("**FITS on h100-sxm-80gb**: ")
    assert "\n### llama-3.1-8b · vllm" in fit
    assert "| `fp8_per_token_head` |" in fit
    assert "| **8,192** |" in fit
    assert "|  |" not in fit.split("\n| context")[1].splitlines()[0]
    assert "\\" not in fit
