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
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("models", [("llama-3.1-8b",), ("gemma-3-27b",), ("deepseek-v3",)], ids=" ".join)
def test_an_estimate_costs_little_more_than_its_imports(models: tuple[str, ...]) -> None:
    command = (sys.executable, "-m", "kvplan", "estimate", *models)
    cpu_seconds(BASELINE), cpu_seconds(command)  # bytecode and file caches
    pairs = [(cpu_seconds(BASELINE), cpu_seconds(command)) for _ in range(RUNS)]
    base, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"\nestimate {' '.join(models)}: {ours * 1e3:.1f} ms of CPU, {ours / base:.2f} x the imports ({base * 1e3:.1f} ms)")
    assert ours <= LIMIT * base
