"""What is typed is what is meant: numbers, sizes, spellings of options, and the words that newcomers type first."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from each import each

from kvplan import __version__
from kvplan.cli.app import COMMANDS, GROUPS, SUMMARY, main
from kvplan.cli.usage import SYNONYMS
from kvplan.engines import PREDICTED

Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def runs(line: str) -> tuple[int, str, str]:
        code = main(shlex.split(line))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return runs


def test_an_option_of_one_value_is_given_once(run: Run) -> None:
    """The library keeps the last of them: `--variant mqa --variant cla=2` was answered for one of the two."""
    for line, flag, hint in (
        ("compare gpt2 --variant mqa --variant cla=2", "--variant", "several with commas between: --variant A,B"),
        ("sweep gpt2 -s 1k -b 1 --context 2k", "--seq-len", "several with commas between: --seq-len A,B"),
        ("fit gpt2 --gpu h100 --memory 1GiB --memory=1GiB", "--memory", "give it once"),
        ("models llama -f csv --format json", "--format", "give it once"),
    ):
        code, out, err = run(line)
        assert (code, out) == (2, ""), line
        assert err == f"error: {flag} is given twice, and which of them is meant is not known\n\nhint: {hint}\n", line
    assert run("estimate gpt2 -e vllm --set block_size=32 --set max_num_seqs=8 --infer --infer")[0] == 0
    assert run("check --gpu h100 -- vllm serve gpt2 --port 1 --port 2")[0] == 0


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("estimate t5-small -s 4 --encoder-len 1,2", "--encoder-len"),
        ("explain llama-3.1-8b -s 4096,8192", "--seq-len"),
        ("explain llama-3.1-8b -s 1,5k", "--seq-len"),
        ("explain llama-3.1-8b -s 81,92", "--seq-len"),
        ("validate llama-3.1-8b --device cpu -b 1,2", "--batch-size"),
        ("fit llama-3.1-8b --gpu h100 --average 1,2", "--average"),
        ("fit llama-3.1-8b --gpu h100 --target '4,8 users at 8k'", "--target users"),
    ],
)
def test_a_list_is_no_number(line: str, flag: str, run: Run) -> None:
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {flag}: one number is meant here, got `")


@pytest.mark.parametrize(
    ("text", "number"), [("1,024", 1024), ("1,048,576", 2**20), ("1_024", 1024), ("1,024k", 2**20), ("8 k", 8192)]
)
def test_a_comma_groups_digits_by_thousands(text: str, number: int, run: Run) -> None:
    code, out, _ = run(f"fit gpt2 --gpu h100 -e ideal -s 16 -b '{text}' -f json")
    assert code in {0, 1}
    assert json.loads(out)["fits"][0]["batch_size"] == number


def test_where_a_list_is_taken_a_comma_parts_it(run: Run) -> None:
    code, out, err = run("sweep llama-3.1-8b -s 128,4096 -f csv")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3
    code, out, err = run("sweep llama-3.1-8b -s 8,192 -f csv")
    assert len(out.splitlines()) == 3
    assert "`8,192` is a list, 8 and 192; as one number it is `8192`" in err
    code, out, err = run("fit llama-3.1-8b --gpu h100 -e ideal --context 8,192 -f csv")
    assert len(out.splitlines()) == 3
    assert "`8,192` is a list" in err
    assert "as one number it is `1.5k`" in run("sweep llama-3.1-8b -s 1,5k -f csv")[2]
    for command in ("sweep", "estimate", "compare"):
        for text in ("4,096", "4,096k", "1,048,576"):
            code, out, err = run(f"{command} llama-3.1-8b -s {text}")
            assert (code, out) == (2, "")
            assert f"one number is written without commas: `{text.replace(',', '')}`" in err


@pytest.mark.parametrize("size", ["1,5GiB", "2,5GB", "1,024MiB", "16", "16g", "1.5e9B", "-1GiB", "GiB", "1 GiB 2"])
@pytest.mark.parametrize(
    "line",
    ["reserve llama-3.1-8b --memory", "fit llama-3.1-8b --gpu h100 --reserve", "validate gpt2 --device cpu -s 16 --limit"],
)
def test_a_size_that_is_none(line: str, size: str, run: Run) -> None:
    code, out, err = run(f"{line}='{size}'")
    assert (code, out) == (2, "")
    assert f"expected a size with its unit, got `{size}`" in err
    assert "," not in err.partition("hint: ")[2].replace("and no commas", "").replace(", and", "").replace("point,", "")


@pytest.mark.parametrize("size", ["64.38GiB", "64.38 gib", "64.38Gi"])
def test_a_size_as_a_log_prints_it(size: str, run: Run) -> None:
    for option in ("memory", "weights", "reserve"):
        code, out, err = run(f"fit llama-3.1-8b --gpu h100 --context 8k --{option} '{size}' -e ideal -f json")
        assert (code in {0, 1}, err) == (True, ""), err
        amounts = {abs(line["bytes"]) for line in json.loads(out)["fits"][0]["budget"]}
        assert 6438 * 2**30 // 100 in amounts


@pytest.mark.parametrize("name", sorted(SYNONYMS))
def test_synonyms_are_taken_wherever_their_option_is(name: str, run: Run) -> None:
    values = {"seq-len": "2k", "batch-size": "3", "kv-dtype": "fp8", "tensor-parallel": "2", "format": "json", "output": "-"}
    value = values.get(SYNONYMS[name])
    if value is None:
        assert run(f"reserve llama-3.1-8b --gpu h100 --{name} 0.5")[0] == 0
        return
    same = run(f"estimate llama-3.1-8b --{SYNONYMS[name]} {value}")
    assert same[0] == 0
    assert run(f"estimate llama-3.1-8b --{name} {value}") == same
    assert run(f"estimate llama-3.1-8b --{name.replace('-', '_')}={value}") == same


@pytest.mark.parametrize(("unit", "column"), [("gib", "GiB"), ("GB", "GB"), ("gb", "GB"), ("MIB", "MiB"), ("b", "B")])
def test_units_in_any_case(unit: str, column: str, run: Run) -> None:
    code, out, _ = run(f"compare llama-3.1-8b -s 8k --unit {unit}")
    assert code == 0
    assert f"cache {column}" in out
    assert ("1.07 " in out) == (column == "GB")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("estimate llama-3.1-8b --json", "-f json"),
        ("estimate llama-3.1-8b --max-model-len 8k", "-s TOKENS"),
        ("estimate llama-3.1-8b --dtype fp8", "--kv-dtype"),
        ("estimate llama-3.1-8b --model x", "argument"),
        ("estimate llama-3.1-8b --kv_dtpe fp8", "did you mean `--kv-dtype`?"),
        ("estimate llama-3.1-8b --zzz", "see `kvplan estimate --help`"),
        ("estimate", "see `kvplan estimate --help`"),
        ("estimate x --tp a", "see `kvplan estimate --help`"),
        ("calc", "did you mean `kvplan estimate`?"),
        ("llama-3.1-8b", "`kvplan estimate llama-3.1-8b` asks about a model"),
    ],
)
def test_hints_name_what_to_type(line: str, hint: str, run: Run) -> None:
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert hint in err.partition("hint: ")[2]


@pytest.mark.parametrize("line", ["version", "-V", "--version", "--debug version", "version --debug"])
def test_the_version_names_the_distribution(line: str, run: Run) -> None:
    assert run(line) == (0, f"kvplan-exact {__version__}\n", "")


@pytest.mark.parametrize("line", ["", "help", "-h", "--help"])
def test_a_newcomer_is_helped(line: str, run: Run) -> None:
    code, out, err = run(line)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: kvplan ")
    assert "kvplan fit llama-3.1-8b --gpu 4090" in out
    for group, commands in GROUPS.items():
        assert f"\n{group}:\n" in out
        for name in commands:
            summary = next(text for text in out.splitlines() if text.startswith(f"  {name} ")).split(None, 1)[1]
            assert 10 < len(summary) <= SUMMARY
            assert summary.endswith((".", "?"))
            assert "..." not in summary


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_shows_two_ways_to_type_it(name: str, run: Run) -> None:
    code, out, _ = run(f"help {name}")
    assert code == 0
    assert run(f"{name} -h")[1] == out
    assert "<" not in out
    for example in COMMANDS[name].examples:
        assert f"    kvplan {example}\n" in out
    assert len(COMMANDS[name].examples) == 2


def test_the_program_alone_is_a_process_that_helps() -> None:
    done = subprocess.run([sys.executable, "-m", "kvplan"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: kvplan ")


def test_max_is_each_models_own_limit(run: Run) -> None:
    code, out, _ = run("estimate llama-3.1-8b gpt2 -s max -f json")
    assert code == 0
    assert [found["seq_len"] for found in json.loads(out)["estimates"]] == [131_072, 1024]
    code, out, _ = run("fit llama-3.1-8b --gpu h100 -e ideal -s max -f json")
    assert json.loads(out)["fits"][0]["context"] == 131_072
    code, out, _ = run("sweep gpt2 -s 256:max:x2 -f csv")
    assert len(out.splitlines()) == 4
    for line, words in (("compare llama-3.1-8b gpt2", "different limits"), ("estimate xlstm-7b", "xlstm-7b says no limit")):
        code, out, err = run(f"{line} -s max")
        assert (code, out) == (2, "")
        assert words in err


@pytest.mark.parametrize(
    ("line", "said", "never"),
    [
        ("estimate gpt2 --kv-dtype float8", "`fp8` (e4m3) or `fp8_e5m2`", "`float`"),
        ("estimate gpt2 --kv-dtype 4bit", "`int4`, `q4_0` or `nvfp4`", "16-bit"),
        ("estimate gpt2 --kv-dtype q5", "`q5_0` or `q5_1`", "q4"),
        ("estimate gpt2 --kv-dtype int3", "see `kvplan dtypes`", "int8"),
        ("estimate gpt-4", "`kvplan models` lists", "gpt2"),
        ("estimate llama3", "`llama-3-8b`", "13b"),
        ("estimate bert-base-uncased", "`kvplan models` lists", "bart"),
        ("estimate lama-3.1-8b", "did you mean `llama-3.1-8b`?", "13b"),
        ("estimate gpt2 -e all", "`kvplan compare MODEL -e all`", "did you mean"),
        ("fit gpt2 --gpu mi300", "mi300x-192gb", "gb300"),
        ("committee", "kvplan committee --example", "Traceback"),
    ],
)
def test_hints_stay_in_the_family(line: str, said: str, never: str, run: Run) -> None:
    code, out, err = run(line)
    assert (code, out) == (2, "")
    hint = err.partition("hint: ")[2]
    assert said in hint
    assert never not in hint


def test_a_plan_to_begin_with_runs(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "plan.yaml"
    assert run(f"committee --example -o {path}")[0] == 0
    assert path.read_text() == run("committee --example")[1]
    code, out, _ = run(f"committee {path}")
    assert code == 0
    assert out.startswith("FITS on rtx-4090-24gb")


def test_an_encoder_is_started_for_one_pass_and_has_no_groups(tmp_path: Path, run: Run) -> None:
    """A BERT generates nothing: `model.generate(…)` would not run, and a table of its cache's groups has no row."""
    plan = tmp_path / "plan.yaml"
    members = ("bge-m3", "AutoModel"), ("bge-reranker-v2-m3", "AutoModelForSequenceClassification")
    rows = (f"  - {{name: {name}, model: {name}, engine: transformers, context: 512, users: 8}}\n" for name, _ in members)
    plan.write_text("gpu: h100-80gb\nmembers:\n" + "".join(rows), encoding="utf-8")
    code, out, err = run(f"committee {plan}")
    assert code == 0, err
    assert "generate(" not in out
    assert "CausalLM" not in out
    for name, loads in members:
        assert f"model = {loads}.from_pretrained('BAAI/{name}'); model(**inputs)  # at most 8 sequences" in out
    code, out, err = run("estimate bge-m3 -e vllm -s 512")
    assert code == 0, err
    assert "groups of one request" not in out
    assert "encoder only: keeps no cache" in out


def test_a_plan_and_a_description_name_each_others_command(tmp_path: Path, run: Run) -> None:
    plan, spec = tmp_path / "plan.yaml", tmp_path / "spec.yaml"
    run(f"committee --example -o {plan}")
    run(f"spec gpt2 -o {spec}")
    assert "this is a plan of several models: `kvplan committee FILE`" in run(f"estimate {plan}")[2]
    assert "this describes a model: `kvplan estimate FILE`" in run(f"committee {spec}")[2]


def test_lists_take_a_part_of_a_name(run: Run) -> None:
    for line, name in (
        ("models meta-llama", "llama-3.1-8b"),
        ("gpus 'NVIDIA H100 80GB HBM3'", "h100-sxm-80gb"), ("dtypes fp8_e4m3fn", "fp8_e4m3"),
        ("engines vllm", "max_model_len"),
    ):  # fmt: skip
        code, out, _ = run(f"{line} -f csv")
        assert code == 0
        assert name in out


def test_every_engine_is_compared(run: Run) -> None:
    code, out, _ = run("compare gpt2 -s 1k -e all -f csv")
    assert code == 0
    assert {line.split(",")[1] for line in out.splitlines()[1:]} == set(PREDICTED)


@each(
    ("line", "word"),
    [
        ("kvplan estimate qwen3-3", "qwen3-32b"),
        ("kvplan compare gpt2 -e ideal,v", "ideal,vllm"),
        ("kvplan fit gpt2 --gpu 409", "4090-24gb"),
        ("kvplan estimate gpt2 --kv-dtype fp8_e", "fp8_e4m3"),
        ("kvplan estimate gpt2 -e llama.cpp --set ctx", "ctx_size="),
        ("kvplan engines vl", "vllm"),
    ],
)
def test_the_shell_completes_things(line: str, word: str) -> None:
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_KVPLAN_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-m", "kvplan"], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert word in done.stdout.split()


@each("count", ["9007199254740993", "99999999999999999999", "9999999999999999999M"])
def test_a_count_that_is_too_large_says_the_most(count: str, run: Run) -> None:
    code, _, err = run(f"estimate llama-3.1-8b -s {count}")
    assert (code, err) == (2, f"error: --seq-len: expected a whole number from 1 to 2**53, got `{count}`\n")


def test_a_size_has_one_bound_wherever_it_is_typed(run: Run) -> None:
    for line in ("fit gpt2 --gpu h100 --memory 1048577TiB", "fit gpt2 --gpu h100 --weights 1048577TiB"):
        code, _, err = run(line)
        assert (code, "1,048,576 TiB" in err) == (2, True), err
    assert run("fit gpt2 --gpu h100 --reserve 1048576TiB")[0] == 1


def test_an_encoder_reserves_nothing_that_is_worth_a_note(run: Run) -> None:
    _, out, _ = run("fit bge-m3 --gpu h100 --context 512 -e vllm")
    assert "encoder only" in out
    assert "reserves" not in out


def test_what_all_can_hold_at_once_is_called_the_worst_case(run: Run) -> None:
    told = "the worst case"
    line = "fit llama-3.1-8b --gpu h100 --context 8k -e vllm"
    assert told in run(line)[1]
    assert told not in run(f"{line} --average 2k")[1]
    assert told not in run("fit llama-3.1-8b --gpu h100 --target '8 users at 8k' -e vllm")[1]  # what was asked, and no more


def test_a_grid_shows_whose_limit_is_passed(run: Run) -> None:
    _, out, _ = run("sweep llama-3.1-8b gpt2 -s 64k,256k")
    assert "max tokens" in out
    assert "note: llama-3.1-8b: 262,144 tokens are more than the model's own limit of 131,072" in " ".join(out.split())
    assert "max tokens" not in run("sweep llama-3.1-8b qwen3-8b -s 1k,2k")[1]


def test_in_theory_it_is_said_who_takes_a_dtype_and_in_an_engine_what_to_type(run: Run) -> None:
    assert "taken by" in (theory := run("compare llama-3.1-8b --kv-dtype all -e ideal")[1])
    assert "--kv-cache-dtype" not in theory
    assert "--kv-cache-dtype fp8_e5m2" in run("compare llama-3.1-8b --kv-dtype all -e vllm")[1]
