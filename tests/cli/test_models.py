"""`kvplan models` through the real entry point."""

import csv
import io
import json

import pytest

import kvplan
from kvplan.cli.app import main
from kvplan.loading.catalogue import names


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_models_lists_the_whole_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "-f", "json")
    rows = json.loads(out)["models"]
    assert code == 0
    assert sorted(row["model"] for row in rows) == sorted(names())
    assert {word for row in rows for word in row["layout"]} >= {
        "MHA", "GQA", "MQA", "MLA", "CLA", "shared-KV", "sliding", "chunked", "compressed", "indexer", "state", "hybrid",
        "cross-attention", "vision",
    }  # fmt: skip


def test_a_row_has_the_numbers_that_estimate_prints(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "models", "llama-3.1-8b", "-f", "csv")
    assert list(csv.DictReader(io.StringIO(out))) == [
        {
            "model": "llama-3.1-8b",
            "layout": "GQA",
            "layers": "32",
            "bytes_per_token": str(kvplan.estimate("llama-3.1-8b").bytes_per_token),
            "max_tokens": "131072",
            "parameters": "8030261248",
            "weights_bytes": str(2 * 8030261248),
            "hub": "meta-llama/Llama-3.1-8B",
            "parameters_low": "8030261248",
            "parameters_high": "8030261248",
        }
    ]


@pytest.mark.parametrize(
    ("kind", "name", "other"),
    [
        ("MHA", "llama-2-7b", "llama-3.1-8b"),
        ("mqa", "falcon-7b", "llama-2-7b"),
        ("MLA", "deepseek-v3", "llama-2-7b"),
        ("cla", "hunyuan-large", "gemma-3n-e4b"),
        ("shared-kv", "gemma-3n-e4b", "hunyuan-large"),
        ("sliding", "gemma-3-27b", "llama-2-7b"),
        ("chunked", "llama-4-scout-17b-16e", "gemma-3-27b"),
        ("hybrid", "qwen3-next-80b-a3b", "mamba-2.8b"),
        ("state", "mamba-2.8b", "qwen3-next-80b-a3b"),
        ("encoder-decoder", "whisper-large-v3", "gpt2"),
        ("vlm", "gemma-3-27b", "gemma-3-1b"),
    ],
)
def test_a_kind_selects_by_layout(capsys: pytest.CaptureFixture[str], kind: str, name: str, other: str) -> None:
    _, out, _ = run(capsys, "models", "--kind", kind, "-f", "json")
    found = {row["model"] for row in json.loads(out)["models"]}
    assert name in found
    assert other not in found


def test_patterns_and_parts_of_names_select(capsys: pytest.CaptureFixture[str]) -> None:
    def found(pattern: str) -> set[str]:
        return {row["model"] for row in json.loads(run(capsys, "models", pattern, "-f", "json")[1])["models"]}

    assert "qwen3-next-80b-a3b" in found("Next")
    assert found("qwen3-next*") == {"qwen3-next-80b-a3b"}
    assert all(name.startswith("cla-paper/") for name in found("cla-paper"))


def test_the_table_and_markdown_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    _, table, _ = run(capsys, "models", "llama-3.1-8b")
    assert "131,072" in table
    assert "note: 1 model; B/token: each further token" in table
    assert "assumed" not in table
    assert "parameters and weights of 1 are assumed" in run(capsys, "models", "cla-paper/1b-h46-mqa")[1]
    assert run(capsys, "models", "llama-3.1-8b", "-f", "markdown")[1].count("| `llama-3.1-8b` | GQA | 32 | 131,072 |") == 1


def test_nothing_found_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "models", "nonesuch") == (
        2, "", "error: no model has a name like `nonesuch`\n\nhint: `kvplan models` lists all of them\n",
    )  # fmt: skip
    assert run(capsys, "models", "--kind", "slidng") == (
        2, "", "error: --kind: unknown layout `slidng`\n\nhint: did you mean `sliding`?\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said", "missing"),
    [
        (["engines", "lmdeploy"], "cache_max_entry_count", "gpu_memory_utilization"),
        (["engines"], "`kvplan engines NAME`", "cache_max_entry_count"),
        (["gpus", "h100"], "h100-sxm-80gb", "l40s"),
        (["dtypes", "fp8"], "fp8_e5m2", "nvfp4"),
        (["dtypes", "bf16"], "bfloat16", "float16,"),
    ],
)
def test_a_list_takes_a_name(words: list[str], said: str, missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert said in out
    assert missing not in out


@pytest.mark.parametrize("words", [["engines", "vlm"], ["gpus", "zzz"], ["dtypes", "fp99"]])
def test_a_list_of_nothing_is_one_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("error: ")
