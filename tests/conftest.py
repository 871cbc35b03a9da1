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


#: Files of four seconds and more, which go first, the longest before others: begun last, one of them leaves the other worker with
#: nothing to do.
LONG = (
    "tests/test_docs.py",
    "tests/questions/sweep/test_sweep.py",
    "tests/questions/validate/test_against_transformers.py",
    "tests/questions/measure/test_strangers.py",
    "tests/architectures/test_states_live.py",
    "tests/questions/committee/test_committee.py",
    "tests/loading/test_catalogue.py",
    "tests/engines/vllm/test_scheduler.py",
    "tests/hostile/test_surroundings.py",
    "tests/engines/transformers/test_live.py",
    "tests/hostile/test_plans.py",
    "tests/engines/test_recorded_combinations.py",
    "tests/questions/validate/test_distributed.py",
    "tests/architectures/test_class_defaults.py",
    "tests/engines/llama_cpp/test_engine.py",
    "tests/questions/measure/test_apart.py",
    "tests/hostile/test_outputs.py",
    "tests/hostile/test_ranks.py",
    "tests/hostile/test_hub.py",
    "tests/architectures/test_states_refused.py",
    "tests/test_hostile_input.py",
    "tests/test_imports.py",
    "tests/loading/test_yaml_spec_write.py",
    "tests/hostile/test_commands_to_paste.py",
    "tests/architectures/test_parameters.py",
    "tests/architectures/test_bad_configs.py",
    "tests/questions/validate/test_session.py",
    "tests/loading/test_gguf.py",
    "tests/engines/test_theory.py",
    "tests/test_attack.py",
    "tests/hostile/test_audit_bounds.py",
    "tests/hostile/test_checkpoints.py",
    "tests/engines/test_abouts.py",
    "tests/engines/transformers/test_recorded.py",
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
