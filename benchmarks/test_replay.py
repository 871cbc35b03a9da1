"""A million requests, and a hundred thousand with prefix hashes: processor time against reading the file, and memory."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

MOST_TIMES, MOST_TIMES_HASHED, LARGEST_MB = 30, 60, 500

#: Run by a small process: a child's peak counts the memory of the one that forked it.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def cost(*command: str) -> tuple[float, float]:
    """(seconds of processor time, megabytes at most) of a fresh process."""
    done = subprocess.run((sys.executable, "-c", MEASURE, sys.executable, *command), check=True, capture_output=True, text=True)
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak * (1 if sys.platform == "darwin" else 1024) / 10**6


def million(path: Path) -> Path:
    """Requests as Azure's conversations have them: 5.5 a second, a thousand tokens and two hundred."""
    r, time, lines = random.Random(1), 0.0, ["arrival_s,input_tokens,output_tokens\n"]
    for _ in range(1_000_000):
        time += r.expovariate(5.5)
        lines.append(f"{time:.6f},{1 + int(r.lognormvariate(6.6, 0.9)) % 14_000},{7 + int(r.lognormvariate(5, 0.8)) % 993}\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def hashed(path: Path) -> Path:
    """Conversations as Mooncake's: a common first block, turns that begin with the one before, 12,000 tokens."""
    r, time, fresh, lines = random.Random(2), 0, 1, []
    sessions: list[list[int]] = []
    for _ in range(100_000):
        time += r.choice((0, 0, 0, 3000)) // 3
        names = [0]
        if sessions and r.random() < 0.5:
            names = sessions.pop(r.randrange(len(sessions)))
        more = r.randint(1, 24)
        names = [*names, *range(fresh, fresh + more)][:200]
        fresh += more
        sessions = [*sessions[-500:], names]
        tokens = len(names) * 512 - r.randint(0, 511)
        lines.append(
            f'{{"timestamp": {time}, "input_length": {tokens}, "output_length": {r.randint(1, 600)}, "hash_ids": {names}}}\n'
        )
    path.write_text("".join(lines), encoding="utf-8")
    return path


#: Whose layers see everything, a window, or keep states. (gemma-3-27b, with seven groups of blocks, is not within the limit.)
ROWS = [
    (million, "t.csv", MOST_TIMES, "llama-3.1-8b"),
    (million, "t.csv", MOST_TIMES, "gpt-oss-20b"),
    (million, "t.csv", MOST_TIMES, "qwen3-next-80b-a3b --tp 4"),
    (hashed, "t.jsonl", MOST_TIMES_HASHED, "llama-3.1-8b"),
]


@pytest.mark.parametrize(("make", "name", "most", "model"), ROWS)
def test_a_replay_costs_so_many_times_the_reading(make: object, name: str, most: int, model: str, tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    path = make(tmp_path / name)  # type: ignore[operator]
    read = f"import pandas; pandas.read_csv({str(path)!r}, sep={',' if name.endswith('csv') else chr(1)!r})"
    command = ("-m", "kvplan", "replay", str(path), "--model", *model.split(), "--gpu", "h100", "--no-search", "-f", "json")
    cost(*command[:2], "--version")  # compiled once
    before = cost("-c", read)[0]
    seconds, megabytes = cost(*command)
    base = (before + cost("-c", read)[0]) / 2
    print(f"\nreplay of {path.name}, {model}: {seconds:.1f} s, {seconds / base:.1f} x the reading, {megabytes:.0f} MB at most")
    assert seconds <= most * base
    assert megabytes < LARGEST_MB
