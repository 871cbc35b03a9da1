"""`kvplan reserve`, and what `kvplan estimate -e vllm` shows beside the layers."""

import json

import pytest

import kvplan
from kvplan.cli.app import main
from kvplan.domain.pool import Pool
from kvplan.errors import OptionError


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # a line that vLLM prints is looked for whole


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_pool_is_shown_with_the_lines_that_vllm_prints(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "reserve", "llama-3.1-8b", "--memory", "20GiB")
    assert code == 0
    assert "GPU KV cache size: 163,840 tokens, Maximum concurrency for 131,072 tokens per request: 1.25x" in out
    assert "groups of one request" in out


def test_an_older_release_prints_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "reserve", "llama-3.1-8b", "-e", "vllm@0.11.0", "--memory", "20GiB", "-f", "json")
    assert json.loads(out)["pools"][0]["lines"] == [
        "GPU KV cache size: 163,840 tokens",
        "Maximum concurrency for 131,072 tokens per request: 1.25x",
    ]


def test_a_refusal_is_the_answer_no_in_vllms_words(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "reserve", "llama-3.1-8b", "--memory", "16GiB", "-f", "json")
    pool = json.loads(out)["pools"][0]
    assert code == 1
    assert pool["estimated_max_model_len"] == 131_056
    assert pool["refused"].startswith("To serve at least one request with the model's max seq len (131072), (16.0 GiB KV cache")
    assert (pool["num_blocks"], pool["num_tokens"]) == (0, 0)


def test_a_model_that_vllm_does_not_serve_is_the_answer_no(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "reserve", "llama-3.1-8b", "--memory", "20GiB", "--kv-dtype", "nvfp4")
    assert code == 1
    assert out.startswith(
        "llama-3.1-8b · vllm 0.33.0\nnot predicted: vLLM 0.33.0 refuses llama-3.1-8b: no attention backend takes"
    )


def test_a_gpu_gives_the_budget_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--gpu", "h100-sxm-80gb", "--weights", "16GB", "--reserve", "2GiB", "-f", "json")
    code, out, _ = run(capsys, "reserve", "llama-3.1-8b", *arguments)
    pool = json.loads(out)["pools"][0]
    assert code == 0
    assert sum(line["bytes"] for line in pool["budget"]) == pool["budget_bytes"]
    assert pool["num_blocks"] == pool["budget_bytes"] // pool["block_bytes"]
    assert {line["basis"] for line in pool["budget"]} >= {"given", "measured"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what memory there is"),
        (("--memory", "16"), "expected a size with its unit"),
        (("--memory", "16GiB", "--gpu", "h100-sxm-80gb"), "say what memory there is"),
        (("--memory", "16GiB", "--weights", "16GB"), "go with --gpu"),
        (("--memory", "16GiB", "-e", "vlm"), "did you mean `vllm`"),
        (("--memory", "16GiB", "--set", "block_sise=16"), "did you mean `block_size`"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_a_hint(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = run(capsys, "reserve", "llama-3.1-8b", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert "hint:" in err or "go with" in err


def test_an_engine_that_reserves_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "reserve", "llama-3.1-8b", "-e", "transformers", "--memory", "16GiB")
    assert code == 1
    assert "reserves no pool" in out


def test_the_csv_has_raw_integers(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "reserve", "llama-3.1-8b", "--memory", "20GiB", "-f", "csv")
    header, row = out.splitlines()
    values = dict(zip(header.split(","), row.split(","), strict=True))
    assert (values["num_blocks"], values["num_tokens"], values["concurrency"]) == ("10240", "163840", "1.25")


def test_the_python_call_gives_the_same_pool() -> None:
    pool = kvplan.reserve("llama-3.1-8b", memory="20GiB", tensor_parallel=2)
    assert isinstance(pool, Pool)
    assert (pool.num_blocks, pool.block_bytes) == (20_480, 2**20)
    with pytest.raises(OptionError):
        kvplan.reserve("llama-3.1-8b")


def test_an_estimate_shows_groups_and_where_the_bytes_beyond_ideal_go(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "estimate", "gemma-3-27b", "-e", "vllm", "-s", "32k", "-b", "8", "--tp", "2")
    assert code == 0
    for words in (
        "groups of one request",
        "0-5     sliding",
        "why it is more than `ideal`",
        "group padding",
        "in flight",
        "3.60x",
    ):
        assert words in out
    assert "worst case" in out
    assert "without what is in flight it is 15.91 GiB, 17,078,812,672 bytes" in " ".join(out.split())
    _, out, _ = run(capsys, "estimate", "gemma-3-27b", "-e", "vllm", "-s", "32k", "-b", "8", "--tp", "2", "-f", "json")
    found = json.loads(out)["estimates"][0]
    assert found["details"]["ideal_bytes"] + sum(found["details"]["waste"].values()) == found["total_bytes"]
    assert found["details"]["request_blocks"] == 6 * 1089 + 2048


def test_markdown_has_the_tables_too(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "estimate", "gemma-3-27b", "-e", "vllm", "-f", "markdown")
    assert out.count("| --- |") >= 3
    _, out, _ = run(capsys, "reserve", "gemma-3-27b", "--memory", "40GiB", "--set", "max_model_len=32k", "-f", "markdown")
    assert "| blocks |" in out


def test_a_drafter_is_named_as_any_model_is(capsys: pytest.CaptureFixture[str]) -> None:
    speculative = 'speculative_config={"method": "draft_model", "num_speculative_tokens": 3}'
    arguments = ("--memory", "80GiB", "--set", speculative, "--set", "draft=llama-3.2-1b", "-f", "json")
    _, out, _ = run(capsys, "reserve", "llama-3.1-70b", *arguments)
    (group,) = json.loads(out)["pools"][0]["groups"]
    assert (group["caches"], group["drafter_caches"]) == (96, 16)
    code, _, err = run(capsys, "reserve", "llama-3.1-70b", "--memory", "80GiB", "--set", "draft=nobody-knows-this-one")
    assert code == 2
    assert "nobody-knows-this-one" in err
