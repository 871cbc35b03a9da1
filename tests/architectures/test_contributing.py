"""The worked examples of docs/contributing.md, an architecture and an engine, followed to the letter in a copy of the tree."""

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from golden import ROOT

PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## A new architecture\n")[2].partition("\n## ")[0]
ENGINE = PAGE.partition("## A new engine\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and the tool, with the example's file, after `make index`."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "kvplan", copy / "kvplan", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tools", copy / "tools")
    (path,) = re.findall(r"here `(kvplan/\S+\.py)`", SECTION)
    (text,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    (copy / path).write_text(text, encoding="utf-8")
    done = run(copy, "tools/make_index.py")
    assert done.returncode == 0, done.stderr
    engine(copy)
    return copy


def engine(copy: Path) -> None:
    """The example's engine, and the index of engines."""
    paths = re.findall(r"in `(kvplan/engines/acme/\w+\.py)`", ENGINE)
    texts = re.findall(r"```python\n(.*?)```", ENGINE, re.DOTALL)
    (export,) = re.findall(r"^`(from kvplan\.engines\.acme\.about import .*?)`", ENGINE, re.MULTILINE)
    (copy / paths[0]).parent.mkdir()
    (copy / paths[0]).with_name("__init__.py").write_text(f'"""Acme Serve."""\n\n{export}\n', encoding="utf-8")
    for path, text in zip(paths, texts, strict=True):
        (copy / path).write_text(text, encoding="utf-8")
    done = run(copy, "tools/make_index.py")
    assert done.returncode == 0, done.stderr


def run(tree: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    return subprocess.run([sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True, check=False)


def per_token(tree: Path, config: dict[str, object], tmp_path: Path) -> int:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    done = run(tree, "-m", "kvplan", "estimate", str(path), "-s", "100000", "-f", "json")
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["estimates"][0]["bytes_per_token"])


def test_the_index_gains_one_line(tree: Path) -> None:
    index = Path("kvplan", "architectures", "index.py")
    before, after = ((root / index).read_text(encoding="utf-8").splitlines() for root in (ROOT, tree))
    changed = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    assert changed == ['+     "acme": ("acme", "acme_moon",),']


def test_the_rows_read_as_the_page_says(tree: Path, tmp_path: Path) -> None:
    a_head = 2 * 128 * 2  # keys and values in bfloat16
    assert per_token(tree, {"model_type": "acme"}, tmp_path) == 32 // 4 * 4 * a_head
    moon = {"model_type": "acme_moon", "num_key_value_heads": 4}
    assert per_token(tree, moon, tmp_path) == 32 * 4 * 2 * 256 * 2
    assert per_token(tree, {**moon, "moon_layers": [0, 31]}, tmp_path) == (32 * 4 + 2) * 2 * 256 * 2


def test_every_reader_and_row_of_the_table_is_there() -> None:
    from importlib import import_module

    from kvplan.architectures import reader_of

    table = re.findall(r"^\| `(\w+)` \|.*\| `(\w+)`, `(\w+)` \|$", SECTION, re.MULTILINE)
    assert len(table) == 8
    for name, *rows in table:
        made = getattr(import_module(f"kvplan.architectures.kit.{name}"), name)
        for model_type in rows:
            assert reader_of(model_type).function.__name__ == name
        assert callable(made)


def test_the_engine_stores_and_serves_as_the_page_says(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 2, "num_key_value_heads": 4}))
    done = run(tree, "-m", "kvplan", "estimate", str(path), "-e", "acme", "-s", "33", "-b", "3", "-f", "json")
    assert done.returncode == 0, done.stderr
    a_block = 32 * 2 * 4 * 128 * 2  # keys and values in bfloat16
    assert json.loads(done.stdout)["estimates"][0]["allocated_bytes"] == 2 * (3 * 2) * a_block
    card = ("--gpu", "h100", "--weights", "1GiB")
    done = run(tree, "-m", "kvplan", "fit", str(path), "-e", "acme", *card, "-s", "64", "-f", "json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["fits"]
    assert found["batch_size"] == found["budget_bytes"] // (2 * a_block) // 2 > 1000
