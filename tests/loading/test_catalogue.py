"""The catalogue: every entry is its real config, every paper row is exact, and names find what they should."""

import csv
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from catalogue_keys import ORIGINALS, completed
from each import each
from golden import CONFIGS, ROOT, cases
from msgspec.structs import replace
from shipped import allocated_bytes

import kvplan
from kvplan import architectures
from kvplan.api import models
from kvplan.cli.app import main
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import PREDICTED, make_engine
from kvplan.engines.kernel.engine import Engine
from kvplan.engines.kernel.tensors import At
from kvplan.errors import Refused, UnknownModel
from kvplan.loading.catalogue import candidates, expanded, find, folder, load_entry, matching, names

#: A model's own repository -> the file that stands for it.
COPIES = {hub: stem for stem, hub in ORIGINALS.items()}
INDEX_LINES = (CONFIGS / "INDEX.tsv").read_text(encoding="utf-8").splitlines()
INDEX = list(csv.DictReader(INDEX_LINES, delimiter="\t", quoting=csv.QUOTE_NONE))
PUBLISHED = [name for name in names() if "/" not in name]
#: Hub ids whose copy in tests/configs/hf lacks a key that decides the cache (INDEX.tsv: only the dimensions are known):
#: the entry has the whole config.
INCOMPLETE = {"mistralai/Mistral-7B-v0.3", "tencent/Tencent-Hunyuan-Large"}
#: Hub ids whose copy lacks the null window of the shipped file (the entry says so in its source): the class default would slide.
WINDOWLESS = {
    "mistralai/Mistral-7B-Instruct-v0.2",
    "mistralai/Mistral-Large-Instruct-2407",
    "mistralai/Mistral-Large-Instruct-2411",
    "mistralai/Mistral-Small-24B-Instruct-2501",
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
}


@cache
def recorded() -> dict[str, dict[str, Any]]:
    """Case id -> config, of the recorded runs that entries are made from."""
    found: dict[str, dict[str, Any]] = {}
    for engine in ("transformers", "vllm"):
        found |= {case["id"]: case["config"] for case in cases(engine)}
    return found


def fact(model: Model, key: str) -> str:
    return next(fact.value for fact in model.provenance if fact.key == key)


def whole_config(entry: Model) -> dict[str, Any]:
    """The real config behind an entry: the file of its hub id, or the recorded case that its source names."""
    source = fact(entry, "source")
    if "tests/golden/" in source:
        return completed(entry.name, recorded()[source.partition(".jsonl, ")[2].removesuffix(")")])
    return file_config(fact(entry, "hub"))


def file_config(hub: str) -> dict[str, Any]:
    """The config of a hub id in tests/configs/hf, with its window and the keys of its weights where the copy lost them."""
    stem = COPIES.get(hub, hub.replace("/", "__"))
    config = json.loads((CONFIGS / "hf" / f"{stem}.json").read_text(encoding="utf-8"))
    if hub in WINDOWLESS:
        (config.get("text_config") or config)["sliding_window"] = None
    return completed(stem, config)


def test_the_catalogue_is_large_and_has_what_people_ask_for() -> None:
    assert len(PUBLISHED) >= 100
    wanted = "llama-3.1-8b llama-2-7b gemma-3-27b gpt-oss-20b deepseek-v3 hunyuan-large falcon-7b qwen2.5-7b gpt2"
    assert set(wanted.split()) <= set(PUBLISHED)


@each("name", PUBLISHED)
def test_an_entry_is_its_real_config_in_every_engine(name: str) -> None:
    entry = kvplan.load(name)
    real = replace(architectures.read(whole_config(entry), name=name), parameters=entry.parameters)
    assert entry == real
    for engine, made in made_engines().items():
        found, expected = ten_thousand_tokens(made, entry), ten_thousand_tokens(made, real)
        # when this fails, the engine reads a key that the trimmed config lacks: add it to KEEP in tools/make_catalogue.py
        assert found == expected, engine


@cache
def made_engines() -> dict[str, Engine]:
    return {engine: make_engine(engine, {}) for engine in PREDICTED}


def ten_thousand_tokens(engine: Engine, model: Model) -> tuple[int, int] | None:
    """What the cache and the bookkeeping beside it take; None where the engine refuses the model."""
    at = Workload(seq_len=10_000)
    try:
        prepared = engine.on(model)
        return allocated_bytes(prepared, at), prepared.bookkeeping(At(at.seq_len, at.batch_size))
    except Refused:
        return None


@each("row", INDEX, ids=lambda row: row["hub_id"])
def test_a_hub_id_never_finds_a_model_with_other_layers(row: dict[str, str]) -> None:
    path = find(row["hub_id"])
    assert path is not None
    real, entry = architectures.read(file_config(row["hub_id"])), load_entry(path)
    assert len(entry.layers) == len(real.layers)
    if row["hub_id"] not in INCOMPLETE:
        assert entry.layers == real.layers
        assert entry.dtype == real.dtype


PAPER_ROWS = {
    f"cla-paper/{case['id'].removeprefix('paper/cla-').replace('/', '-').lower()}": case
    for case in cases("papers")
    if case["id"].startswith("paper/cla-")
}


def test_every_row_of_the_paper_is_there_and_nothing_else() -> None:
    assert len(PAPER_ROWS) == 25
    assert PAPER_ROWS.keys() == set(names()) - set(PUBLISHED)


@each("name", PAPER_ROWS)
def test_a_row_of_the_paper_costs_what_the_paper_prints(name: str) -> None:
    case = PAPER_ROWS[name]
    estimate = kvplan.estimate(name)
    assert estimate.bytes_per_token == case["expected"]["bytes_per_token"]
    assert estimate.model.layers == architectures.read(case["config"]).layers
    assert len(estimate.model.layers) == case["config"]["num_hidden_layers"]


def test_a_pattern_is_every_name_that_matches_a_papers_in_the_papers_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expanded(["gpt2", "cla-paper/*", Path("*")]) == ["gpt2", *PAPER_ROWS, Path("*")]
    assert list(matching("cla-paper")) == list(PAPER_ROWS)
    assert list(matching()) == [*(n for n in names() if n < "cla-paper"), *PAPER_ROWS, *(n for n in names() if n > "cla-paper0")]
    Path("my*.yaml").write_text((folder() / "gpt2.yaml").read_text())
    assert expanded(["./my*.yaml"]) == ["./my*.yaml"]
    for pattern in ("cla-papr/*", "*" * 4000, "*\x1b[31m", "[*"):
        with pytest.raises(UnknownModel, match="no model of the catalogue matches") as problem:
            expanded([pattern])
        assert len(str(problem.value)) < 400
    assert [row.model.name for row in kvplan.compare("cla-paper/3b-*", seq_len=1).rows] == [n for n in PAPER_ROWS if "/3b" in n]
    for command in ("estimate", "compare", "sweep", "fit", "receipt", "reserve", "diff"):
        more = {"fit": ["--gpu", "h100"], "receipt": ["--gpu", "h100"], "reserve": ["--gpu", "h100"], "sweep": ["-s", "1k"]}
        found = {"diff": ["vllm@0.26", "vllm@0.33"]}.get(command, [])
        assert main([command, *found, "gpt2*", *more.get(command, [])]) in {0, 1}, command
        shown = capsys.readouterr().out
        assert "gpt2 " in shown or command == "diff"


def test_hunyuan_large_keeps_half_of_its_layers() -> None:
    assert kvplan.estimate("hunyuan-large").bytes_per_token == 131_072


FOUND = {
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "meta-llama/Meta-Llama-3.1-8B": "llama-3.1-8b",
    "llama-3.1-8b-instruct": "llama-3.1-8b",
    "Llama-3.1-8B": "llama-3.1-8b",
    "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit": "llama-3.1-8b",
    "Qwen/Qwen2.5-7B-Instruct": "qwen2.5-7b",
    "Qwen/Qwen3-4B-Instruct-2507": "qwen3-4b-2507",
    "Qwen/Qwen3-Next-80B-A3B-Thinking": "qwen3-next-80b-a3b",
    "openai/gpt-oss-20b": "gpt-oss-20b",
    "google/gemma-3-27b-it": "gemma-3-27b",
    "mistralai/Mistral-7B-Instruct-v0.3": "mistral-7b-v0.3",
    "mistralai/Mistral-7B-Instruct-v0.1": "mistral-7b-v0.1",
    "mistral-7b": "mistral-7b-v0.3",
    "tiiuae/falcon-7b": "falcon-7b",
    "tiiuae/falcon-7b-instruct": "falcon-7b",
    "openai-community/gpt2": "gpt2",
    "deepseek-ai/DeepSeek-V3-0324": "deepseek-v3",
    "CohereLabs/c4ai-command-r-v01": "command-r",
    "tencent/Tencent-Hunyuan-Large": "hunyuan-large",
    "cla-paper/1B-H128-MQA-CLA2": "cla-paper/1b-h128-mqa-cla2",
}


@each(("text", "name"), FOUND.items(), ids=FOUND)
def test_hub_ids_and_tuned_variants_find_their_model(text: str, name: str) -> None:
    path = find(text)
    assert path is not None
    assert path.relative_to(folder()).with_suffix("").as_posix() == name


STRANGERS = [
    "acme/gpt2", "acme/llama-3.1-8b", "llama", "../llama-3.1-8b", "/llama-3.1-8b", "",
    "llama-3.1-8b/", "model_specs/llama-3.1-8b", "a/b/c", "..", "hf", "instruct", "\u0130", "google/gemma-3-27b-it/x",
    "cla-paper", "a" * 4000, "a/" + "b-" * 2000,
]  # fmt: skip


@each("text", STRANGERS)
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
        "import sys; from kvplan.loading.catalogue import find; "
        "print(find('meta-llama/Llama-3.1-8B-Instruct') is not None, 'yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout == "True False\n"


def test_the_specs_are_what_the_tool_makes() -> None:
    command = [sys.executable, str(ROOT / "tools" / "make_catalogue.py"), "--check"]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr


def test_the_listing_is_current() -> None:
    command = [sys.executable, str(ROOT / "tools" / "make_listing.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_entry_that_the_listing_lacks_is_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = list(models.entries("llama-3.1-*"))
    monkeypatch.setattr(models, "listed", dict)
    assert list(models.entries("llama-3.1-*")) == kept
    assert kept[0].bytes_per_token > 0


@pytest.mark.parametrize("size", ["4b", "12b", "27b"])
def test_a_gemma_of_the_catalogue_takes_what_its_card_says(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The copy of its config is keyword arguments of another project, which say 163,840."""
    assert main(["estimate", f"gemma-3-{size}", "-s", "max", "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["estimates"][0]["seq_len"] == 131_072


@pytest.mark.parametrize("size", ["7b", "13b", "70b"])
def test_a_limit_of_a_shipped_config_that_the_model_exceeds_is_said(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", f"llama-2-{size}", "-s", "4k"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "model's own limit of 2,048" in out
    assert "the shipped config says 2,048 tokens; Llama 2 was trained for 4,096" in out
