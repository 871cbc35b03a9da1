"""A whole `kvplan estimate` against the imports that it cannot do without."""

import os
import statistics
import subprocess
import sys

import pytest

LIMIT = 1.3
RUNS = 15
BASELINE = (sys.executable, "-c", "import typer, rich.table, yaml")


def cpu_seconds(command: tuple[str, ...]) -> float:
    """User and system time of one process, as the operating system counts it."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in {0, 1}  # 1: an answer, and it is no
    return usage.ru_utime + usage.ru_stime


MODELS = ("llama-3.3-70b", "deepseek-v3", "gpt-oss-120b")
CARDS = "h100:2,h100:4,h100:8,h200:2,h200:4,h200:8,b200:2,b200:4,b200:8,a100-80gb:4,a100-80gb:8,l40s:8"
#: Other commands -> how many times the imports they may cost.
COMMANDS = {
    ("fit", "llama-3.1-8b", "--gpu", "h100", "--context", "8k"): 1.7,
    ("fit", "gemma-3-27b", "--gpu", "h100", "--context", "32k"): 2.2,
    ("fit", "llama-3.1-8b", "--gpu", "rtx-4090", "-e", "llama.cpp"): 3.0,
    ("fit", "llama-3.3-70b", "--gpu", "all", "--target", "8 users at 32k"): 8.0,
    ("models",): 2.5,
    ("fit", *MODELS, "--gpu", CARDS, "--context", "4k,8k,16k,32k,64k,128k"): 12.0,  # 3 models x 12 GPUs x 6 contexts
}


@pytest.mark.parametrize(
    ("words", "limit"), COMMANDS.items(), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_a_command_costs_few_times_its_imports(words: tuple[str, ...], limit: float) -> None:
    command = (sys.executable, "-m", "kvplan", *words)
    cpu_seconds(BASELINE), cpu_seconds(command)
    ratio = statistics.median(cpu_seconds(command) / cpu_seconds(BASELINE) for _ in range(7))
    print(f"\n{' '.join(words)}: {ratio:.2f} x the imports")
    assert ratio <= limit


@pytest.mark.parametrize("models", [("llama-3.1-8b",), ("gemma-3-27b",), ("deepseek-v3",)], ids=" ".join)
def test_an_estimate_costs_little_more_than_its_imports(models: tuple[str, ...]) -> None:
    command = (sys.executable, "-m", "kvplan", "estimate", *models)
    cpu_seconds(BASELINE), cpu_seconds(command)  # bytecode and file caches
    pairs = [(cpu_seconds(BASELINE), cpu_seconds(command)) for _ in range(RUNS)]
    base, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"\nestimate {' '.join(models)}: {ours * 1e3:.1f} ms of CPU, {ours / base:.2f} x the imports ({base * 1e3:.1f} ms)")
    assert ours <= LIMIT * base
