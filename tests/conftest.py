"""Settings of the whole suite."""

import gc
import os
from collections.abc import Generator

import each
import pytest
from _pytest.doctest import DoctestModule
from hypothesis import settings

# One thread a worker, before anything loads torch or numpy: threads that wait for their share of a tiny tensor burn CPU.
for _library in ("OMP", "MKL", "OPENBLAS"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
# Goldens stay in memory, and to look through them for garbage again and again takes long.
gc.set_threshold(50_000, 20, 20)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--row", metavar="TEXT", help="of a test of many records (tests/each.py) only those whose id contains this")


def pytest_configure(config: pytest.Config) -> None:
    each.ONLY = config.getoption("--row")


#: Files of ten seconds and more, which go first: begun last, one of them leaves the other worker with nothing to do.
LONG = (
    "tests/test_docs.py",
    "tests/questions/validate/test_against_transformers.py",
    "tests/questions/sweep/test_sweep.py",
    "tests/questions/measure/test_strangers.py",
    "tests/engines/vllm/test_scheduler.py",
    "tests/architectures/test_states_live.py",
    "tests/engines/transformers/test_live.py",
    "tests/engines/test_theory.py",
    "tests/engines/test_recorded_combinations.py",
    "tests/questions/validate/test_distributed.py",
    "tests/questions/committee/test_committee.py",
    "tests/engines/llama_cpp/test_engine.py",
    "tests/hostile/test_ranks.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(LONG)))  # what is alike stays in order


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Examples in docstrings are kvplan's; to look for them in helpers of tests would import torch in every worker."""
    found = yield
    return [collector for collector in found if not isinstance(collector, DoctestModule)]


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


# The gate must say the same thing twice; a developer's run explores. Shared machines are slow at times, so no deadline.
# Fifty examples a law: the suite is to end in minutes. What needs more says so, and `tools/attack` goes on as long as it is told.
EXAMPLES = int(os.environ.get("KVPLAN_EXAMPLES", "50"))
settings.register_profile("developer", deadline=None, max_examples=EXAMPLES)
settings.register_profile("gate", deadline=None, max_examples=EXAMPLES, derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "developer")
