"""Ten million CSV rows: speed against pandas, and the memory of a process that writes them."""

import subprocess
import sys
import time
from pathlib import Path

from kvplan.domain.model import Model
from kvplan.questions.sweep.grid import Sweep

FASTER = 5
LARGEST_MB = 400
ROWS, PANDAS_ROWS = 10_000_000, 1_000_000


def _grid(model: Model, lengths: int) -> Sweep:
    return Sweep(models=[model], seq_lens=range(1, lengths + 1), batch_sizes=range(1, 101))


def test_csv_is_streamed_faster_than_pandas_writes_it(sliding_and_full: Model, tmp_path: Path) -> None:
    frame = _grid(sliding_and_full, PANDAS_ROWS // 100).to_frame()
    start = time.perf_counter()
    frame.to_csv(tmp_path / "pandas.csv", index=False)
    base = (time.perf_counter() - start) * ROWS / PANDAS_ROWS
    start = time.perf_counter()
    _grid(sliding_and_full, ROWS // 100).write_csv(tmp_path / "ours.csv")
    ours = time.perf_counter() - start
    with (tmp_path / "ours.csv").open() as one, (tmp_path / "pandas.csv").open() as other:
        for line in other:
            assert next(one) == line
    print(f"\ncsv: {ROWS / ours / 1e6:.1f} million rows a second, {base / ours:.1f} x the speed of pandas")
    assert base / ours >= FASTER


#: Run by a small process: a child's peak counts the memory of the one that forked it.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_ten_million_rows_take_bounded_memory(tmp_path: Path) -> None:
    target = tmp_path / "report.csv"
    grid = ("gemma-3-27b", "-s", "1:100000:1", "-b", "1:100:1", "-o", str(target))
    command = (sys.executable, "-c", MEASURE, sys.executable, "-m", "kvplan", "sweep", *grid)
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    megabytes = peak * (1 if sys.platform == "darwin" else 1024) / 10**6
    print(f"\ncsv: {megabytes:.0f} MB resident at most, for a file of {target.stat().st_size / 10**6:.0f} MB")
    assert megabytes < LARGEST_MB
