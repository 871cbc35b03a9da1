"""The largest config of the corpus, read and estimated in process."""

import time
from pathlib import Path

import kvplan
from kvplan.domain.allocation import Allocation

LIMIT = 0.005
CONFIGS = Path(__file__).parent.parent / "tests" / "configs" / "hf"


def test_the_largest_config_is_read_and_estimated_at_once() -> None:
    largest = max(CONFIGS.glob("*.json"), key=lambda path: path.stat().st_size)
    assert largest.stat().st_size > 2**20
    spent = []
    for _ in range(20):
        start = time.perf_counter()
        answer = kvplan.estimate(largest, seq_len=131_072)
        spent.append(time.perf_counter() - start)
        assert isinstance(answer, Allocation)
    size = largest.stat().st_size / 2**20
    print(f"\n{largest.name} ({size:.1f} MiB): first {spent[0] * 1e3:.1f} ms with imports, then {min(spent) * 1e3:.2f} ms")
    assert sorted(spent)[len(spent) // 2] <= LIMIT


def test_a_catalogue_spec_is_read_at_once() -> None:
    from kvplan.loading.catalogue import folder, load_entry, names

    paths = [folder() / f"{name}.yaml" for name in names()]
    for path in paths:
        load_entry(path)  # families are imported once
    start = time.process_time()
    for path in paths:
        load_entry(path)
    each = (time.process_time() - start) / len(paths)
    print(f"\na catalogue spec: {each * 1e3:.2f} ms of CPU, mean of {len(paths)}")
    assert each <= LIMIT
