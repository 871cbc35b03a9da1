"""The capacity table: a cell says what the command for it alone says, whatever else stands beside it."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvplan
from kvplan.cli.app import main
from kvplan.domain.mix import Mix, parse_mix
from kvplan.errors import OptionError
from kvplan.questions.fit.capacity import COLUMNS, Cell

HEAD = ["model", "gpu", "gpus", "engine", "context", "requests", "pool_bytes", "verdict", "evidence"]
MODELS = ("llama-3.1-8b", "gemma-3-27b", "gpt-oss-20b", "deepseek-v2-lite", "qwen3-next-80b-a3b", "llama-3.3-70b")
CARDS = ("h100", "l4", "a100-80gb:2", "h200:4", "mi300x", "rtx-4090:2")
ENGINES = ("vllm", "vllm@0.11.0", "sglang", "llama.cpp", "transformers", "ideal")
#: A design of which nobody knows how large its weights are.
UNKNOWN = {"name": "nobody-knows", "layers": 4, "attention": {"attention_heads": 8, "kv_heads": 2, "head_dim": 64}}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(list(arguments))
    return code, capsys.readouterr().out


def alone(cell: Cell) -> dict[str, Any]:
    """What `kvplan fit` says of one cell."""
    where = f"{cell.gpu}:{cell.gpus}"
    return kvplan.fit(cell.model, where, engine=f"{cell.engine}@{cell.engine_version}", context=cell.context).to_dict()


@settings(deadline=None, max_examples=8)
@given(
    st.lists(st.sampled_from(MODELS), min_size=1, max_size=2, unique=True),
    st.lists(st.sampled_from(CARDS), min_size=1, max_size=2, unique=True),
    st.sampled_from(ENGINES),
    st.lists(st.sampled_from((1000, 4096, 32768, 131072)), min_size=1, max_size=3, unique=True),
    st.data(),
)
def test_a_cell_says_what_the_single_command_says(
    models: list[str], cards: list[str], engine: str, contexts: list[int], data: st.DataObject
) -> None:
    try:
        found = kvplan.capacity(models, ",".join(cards), engine=engine, context=contexts)
    except OptionError:  # an engine that splits no model, and nothing else was asked
        assert all(":" in card for card in cards)
        return
    assert len(found.cells) == len(models) * len(cards) * len(contexts)
    cell = data.draw(st.sampled_from(found.cells))
    if cell.reason.startswith("engine "):  # it splits no model
        with pytest.raises(OptionError) as refused:
            alone(cell)
        assert (cell.verdict, cell.reason) == ("not predicted", str(refused.value))
        return
    one = alone(cell)
    assert (cell.verdict == "not predicted") == bool(one["not_predicted"])
    assert cell.fits == one["fits"]
    assert (cell.verdict == "unsure") == one["unsure"]
    if one["limited_by"] != "nothing" and not one["not_predicted"]:
        assert cell.requests == one["batch_size"]
        assert [cell.requests_low, cell.requests_high] == (one["span"] or [cell.requests] * 2)
        assert cell.evidence == one["evidence"]
        if one["pool"] and not one["pool"]["refused"]:
            assert cell.pool_bytes >= one["pool"]["num_blocks"] * one["pool"]["block_bytes"]


def test_one_row_a_cell_in_every_format_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("fit", "llama-3.1-8b", "gemma-3-27b", "--gpu", "h100,l4:2", "--context", "8k,32k", "--mix", "90% 4k, 10% 16k")
    code, out = run(capsys, *asked, "-f", "json")
    cells = json.loads(out)["capacity"]
    assert code == 0
    assert len(cells) == 2 * 2 * 3
    _, out = run(capsys, *asked, "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == list(COLUMNS)
    assert list(rows[0])[: len(HEAD)] == HEAD
    assert [[row[name] for name in HEAD[:5]] for row in rows] == [[str(cell[name]) for name in HEAD[:5]] for cell in cells]
    target = tmp_path / "cells.parquet"
    run(capsys, *asked, "-o", str(target))
    assert pyarrow.parquet.read_table(target).column("requests").to_pylist() == [cell["requests"] for cell in cells]


def test_a_model_that_has_no_number_is_a_row_and_never_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    design = tmp_path / "nobody-knows.yaml"
    design.write_text(json.dumps(UNKNOWN))
    asked = ("fit", "llama-3.1-8b", str(design), "--gpu", "h100", "--context", "8k,32k")
    code, out = run(capsys, *asked, "-f", "json")
    cells = json.loads(out)["capacity"]
    assert code == 0
    assert [cell["verdict"] for cell in cells] == ["fits", "fits", "not known", "not known"]
    assert "the weights of nobody-knows are not known" in cells[2]["reason"]
    _, out = run(capsys, "fit", "llama-3.1-8b", str(design), "--gpu", "h100", "--context", "8k")
    assert "FITS on h100" in out
    assert "not predicted: the weights of nobody-knows are not known" in " ".join(out.split())
    _, out = run(capsys, *asked)
    assert "-: nobody-knows: the weights of nobody-knows are not known" in " ".join(out.split())
    code, out = run(
        capsys, "fit", "llama-3.1-8b", "deepseek-v3", "--gpu", "h100:3", "-e", "vllm", "--context", "1k,8k", "-f", "json"
    )
    verdicts = {cell["model"]: cell["verdict"] for cell in json.loads(out)["capacity"]}
    assert (code, verdicts) == (1, {"llama-3.1-8b": "not predicted", "deepseek-v3": "not predicted"})


def test_what_is_wrong_with_every_cell_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("fit", "llama-3.1-8b", "--gpu", "h100", "--context", "8k,32k")
    assert run(capsys, *asked, "--weights-dtype", "int77")[0] == 2
    assert run(capsys, *asked, "--set", "nonsense=1")[0] == 2
    assert run(capsys, *asked, "--batch", "4")[0] == 2
    assert run(capsys, *asked, "--target", "3 users at 4k")[0] == 2
    assert run(capsys, "fit", "llama-3.1-8b", "--gpu", "h100", "--table")[0] == 2
    assert run(capsys, "fit", "llama-3.1-8b", "--gpu", "all", "--context", "1:100000:1")[0] == 2


def test_rows_for_people_name_a_model_once_and_fold_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    _, out = run(capsys, "fit", "llama-3.3-70b", "gpt-oss-120b", "--gpu", "h100:2,h100:4,h200:8", "--context", "8k,32k,128k")
    lines = out.splitlines()
    assert sum("llama-3.3-70b" in line for line in lines) == 1
    assert max(map(len, lines)) <= 80
    assert {line.split()[-4] for line in lines if "h100-sxm-80gb:4" in line} == {"h100-sxm-80gb:4"}


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40000)), min_size=1, max_size=4))
def test_a_mix_is_read_as_it_is_written(parts: list[tuple[int, int]]) -> None:
    whole = sum(share for share, _ in parts)
    text = ", ".join(f"{share}% {tokens}" for share, tokens in [*parts, (100 - whole, 7)]) if whole <= 100 else ""
    if not text:
        return
    mix = parse_mix(text)
    assert sum(part.share for part in mix.parts) == 10_000
    assert parse_mix(mix.words) == mix
    assert mix.longest == max(tokens for _, tokens in [*parts, *([(0, 7)] if whole < 100 else [])])


@pytest.mark.parametrize("text", ["", "70% 4k", "70% 4k, 40% 8k", "4k, 8k", "100% 0", "-5% 4k, 105% 8k", "1e9% 4k", "100%4k,"])
def test_what_is_no_mix_is_refused_in_a_sentence(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "llama-3.1-8b", "--gpu", "h100", f"--mix={text}"]) == 2
    assert "--mix" in capsys.readouterr().err


def requests(mix: str, engine: str = "vllm", model: str = "llama-3.1-8b") -> int:
    (cell,) = kvplan.capacity(model, "h100", mix=mix, engine=engine).cells
    assert cell.requests is not None
    return cell.requests


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_mix_of_one_length_is_that_length_and_longer_ones_hold_fewer(engine: str) -> None:
    (one,) = kvplan.capacity("llama-3.1-8b", "h100", context="16k", engine=engine).cells
    assert one.requests == requests("100% 16k", engine)
    assert requests("90% 4k, 10% 16k", engine) > requests("50% 4k, 50% 16k", engine) > requests("100% 16k", engine)


def test_a_mix_is_the_pool_shared_out_by_the_blocks_of_each_length() -> None:
    fit = kvplan.fit("gemma-3-27b", "h100:2", mix="75% 4k, 25% 32k")
    assert fit.pool is not None
    sizes = [
        kvplan.estimate("gemma-3-27b", seq_len=n, engine="vllm", tensor_parallel=2, max_model_len=32768).total_bytes
        for n in (4096, 32768)
    ]
    assert fit.typical == 4 * fit.pool.usable_bytes // (3 * sizes[0] + sizes[1])
    assert f"--max-num-seqs {fit.typical}" in fit.flags  # not the worst case's, which would leave most of the pool idle


def test_a_mix_and_an_average_are_two_answers() -> None:
    with pytest.raises(OptionError, match="two answers"):
        kvplan.fit("llama-3.1-8b", "h100", mix="100% 4k", average="4k")
    with pytest.raises(OptionError, match="longer than"):
        kvplan.fit("llama-3.1-8b", "h100", mix="100% 4k", context="2k")
    assert Mix(parse_mix("60% 1k, 40% 2k").parts).average == 1434


def test_of_several_gpus_each_says_what_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("fit", "llama-3.1-8b", "--gpu", "l4,h100", "-e", "vllm")
    found = {cell.gpu: cell.requests for cell in kvplan.capacity("llama-3.1-8b", "l4,h100", engine="vllm", context="8k").cells}
    _, out = run(capsys, *asked, "--context", "8k")
    lines = [line.split() for line in out.splitlines()]
    assert {words[-6]: int(words[-2]) for words in lines if words[-6:-5] in (["l4-24gb"], ["h100-sxm-80gb"])} == found
    _, out = run(capsys, *asked, "--target", "2 users at 8k")
    assert "requests" not in next(line for line in out.splitlines() if " GPUs " in line)
