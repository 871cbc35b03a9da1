"""Every door attacked for a while; what once was found stays here, by its seed. `pytest -m attack` runs the minute."""

import os
import random
import subprocess
import sys

import pytest
from golden import ROOT

ATTACK = ROOT / "tools" / "attack.py"


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, str(ATTACK), *arguments], capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.attack
def test_a_minute_of_attacks_finds_nothing() -> None:
    done = _run("--seconds", "60", "--seed", os.environ.get("KVPLAN_ATTACK_SEED", str(random.randrange(10**6))))
    assert done.returncode == 0, done.stdout[-4000:]


def test_a_few_inputs_of_every_door_find_nothing() -> None:
    done = _run("--seconds", "4", "--seed", "20261127")
    assert done.returncode == 0, done.stdout[-4000:]


#: Found once: door, seed, input.
FOUND = (
    ("case", 11, 1192),  # gpu_memory_utilization as a text, in a recorded start
    ("config", 12, 71952),  # lmdeploy's `transformers` as a text that is no release
)


@pytest.mark.parametrize(("door", "seed", "number"), FOUND)
def test_what_was_found_stays_mended(door: str, seed: int, number: int) -> None:
    done = _run("--only", door, "--seed", str(seed), "--input", str(number))
    assert done.returncode == 0, done.stdout[-4000:]
