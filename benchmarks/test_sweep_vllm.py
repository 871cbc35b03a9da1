"""A million cells as vLLM holds them, against the same cells of `ideal` in the same run."""

import time

from kvplan.domain.model import Model
from kvplan.questions.sweep.grid import Sweep

LIMIT = 10  # times the time of `ideal`
CELLS = 1_000_000


def _best_seconds(model: Model, engine: str) -> float:
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        sweep = Sweep(models=[model], seq_lens=range(1, 10_001), batch_sizes=range(1, 101), engines=[engine])
        assert sum(len(block["batch_size"]) for block in sweep.batches()) == CELLS  # type: ignore[arg-type]
        spent.append(time.perf_counter() - start)
    return min(spent)


def test_blocks_and_groups_cost_less_than_ten_times_the_theory(sliding_and_full: Model) -> None:
    ideal, ours = _best_seconds(sliding_and_full, "ideal"), _best_seconds(sliding_and_full, "vllm")
    print(f"\nsweep -e vllm: {CELLS / ours / 1e6:.0f} million cells a second, {ours / ideal:.1f} times ideal")
    assert ours <= LIMIT * ideal
