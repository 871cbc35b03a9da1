"""The largest config of the corpus and every catalogue spec, read in process, against the parsers' own time on the same files."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import yaml

import kvplan
from kvplan.domain.allocation import Allocation

#: Times what `json.loads` takes of the same text, where all of it is made into Python values; and what PyYAML's C parser takes.
CONFIG_LIMIT, SPEC_LIMIT = 1.0, 3.0
CONFIGS = Path(__file__).parent.parent / "tests" / "configs" / "hf"


def best_seconds(run: Callable[[], object], times: int = 15) -> float:
    """CPU time of the fastest run."""
    found = []
    for _ in range(times):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def test_the_largest_config_is_read_and_estimated_at_once() -> None:
    largest = max(CONFIGS.glob("*.json"), key=lambda path: path.stat().st_size)
    assert largest.stat().st_size > 2**20
    assert isinstance(kvplan.estimate(largest, seq_len=131_072), Allocation)
    base = best_seconds(lambda: json.loads(largest.read_bytes()))
    ours = best_seconds(lambda: kvplan.estimate(largest, seq_len=131_072))
    print(f"\n{largest.name} ({largest.stat().st_size / 2**20:.1f} MiB): {ours / base:.2f} x json.loads ({base * 1e3:.2f} ms)")
    assert ours <= CONFIG_LIMIT * base


def test_a_catalogue_spec_is_read_at_once() -> None:
    from kvplan.loading.catalogue import folder, load_entry, names

    paths = [folder() / f"{name}.yaml" for name in names()]
    texts = [path.read_bytes() for path in paths]
    for path in paths:
        load_entry(path)  # families are imported once
    base = best_seconds(lambda: [list(yaml.parse(text, Loader=yaml.CSafeLoader)) for text in texts], times=3)
    ours = best_seconds(lambda: [load_entry(path) for path in paths], times=3)
    print(f"\n{len(paths)} catalogue specs: {ours / base:.2f} x PyYAML's events ({base / len(paths) * 1e3:.2f} ms each)")
    assert ours <= SPEC_LIMIT * base
