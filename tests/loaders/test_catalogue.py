"""The catalogue: every entry is its real config, every paper row is exact, and names find what they should."""

import csv
import json
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan import architectures
from kvplan.engines import ENGINES
from kvplan.loaders.catalogue import candidates, find, folder, load_entry, names
from kvplan.model import Model

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
INDEX = list(
    csv.DictReader(
        (TESTS / "configs" / "INDEX.tsv").read_text(encoding="utf-8").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE
    )
)


def test_hub_ids_and_tuned_variants_find_their_model(text: str, name: str) -> None:
    path = find(text)
    assert path is not None
    assert path.relative_to(folder()).with_suffix("").as_posix() == name


@pytest.mark.parametrize(
    "text",
    [
        "acme/gpt2", "acme/llama-3.1-8b", "mistralai/Mistral-7B-Instruct-v0.2", "llama", "../llama-3.1-8b", "/llama-3.1-8b",
        "llama-3.1-8b/", "model_specs/llama-3.1-8b", "a/b/c", "", "..", "instruct", "hf", "\u0130", "google/gemma-3-27b-it/x",
    ],
)  # fmt: skip
def test_strangers_and_paths_find_nothing(text: str) -> None:
    assert find(text) is None


def test_words_are_dropped_in_order_and_never_all_of_them() -> None:
    assert list(candidates("Qwen3-4B-Instruct-2507-FP8")) == [
        "qwen3-4b-instruct-2507-fp8", "qwen3-4b-instruct-2507", "qwen3-4b-2507", "qwen3-4b",
    ]  # fmt: skip
    assert list(candidates("instruct")) == ["instruct"]
    assert list(candidates("Llama-3_3-Nemotron")) == ["llama-3.3-nemotron"]


def test_resolving_a_hub_id_parses_no_spec() -> None:
    script = (
        "import sys; from kvplan.loaders.catalogue import find; "
        "print(find('meta-llama/Llama-3.1-8B-Instruct') is not None, 'yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout == "True False\n"


def test_a_spec_is_read_in_a_few_milliseconds_of_cpu() -> None:
    paths = [folder() / f"{name}.yaml" for name in PUBLISHED]
    for path in paths:
        load_entry(path)  # families are imported once
    start = time.process_time()
    for path in paths:
        load_entry(path)
    assert (time.process_time() - start) / len(paths) < 0.005


def test_the_specs_are_what_the_tool_makes() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "make_catalogue.py"), "--check"], check=False, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout
