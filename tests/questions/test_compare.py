"""`kvplan compare`: rows, baselines, savings, refusals, and the table at three widths."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from strategies import models

from kvplan.cli.app import main
from kvplan.domain.allocation import Allocation
from kvplan.domain.dtypes import DTYPES, lookup
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import ABOUTS
from kvplan.engines.ideal.engine import Ideal, IdealOn
from kvplan.errors import OptionError, Refused
from kvplan.loading import load
from kvplan.questions.compare import compare
from kvplan.questions.estimate import plan
from kvplan.report.answers.compare import CSV_COLUMNS

CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "llama").mkdir()
    path = tmp_path / "llama" / "config.json"
    path.write_text(json.dumps(CONFIG), encoding="utf-8")
    return str(path)


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["compare", *args]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["compare", *args]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_variants_stand_beside_the_original(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, llama, "--variant", "mha,gqa=4,mqa,cla=2,mqa+cla=2", "-s", "128k") == snapshot("""\
ideal · bfloat16 · 1 x 131,072 tokens

model              cache GiB           bytes  B/token  relative
────────────────────────────────────────────────────────────────────────────────
llama                  16.00  17,179,869,184  131,072     1.00x  ███▊
llama [mha]            64.00  68,719,476,736  524,288     4.00x  ███████████████
llama [gqa=4]           8.00   8,589,934,592   65,536       1/2  █▉
llama [mqa]             2.00   2,147,483,648   16,384       1/8  ▌
llama [cla=2]           8.00   8,589,934,592   65,536       1/2  █▉
llama [mqa+cla=2]       1.00   1,073,741,824    8,192      1/16  ▎

note: 1.00x is llama
note: evidence: theory
""")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(
    llama: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    plain = shown(capsys, llama, "--variant", "mha,mqa+cla=2", "-s", "128k")
    savings = shown(capsys, llama, "--kv-dtype", "all", "-s", "128k")
    assert max(map(len, (plain + savings).splitlines())) <= width
    assert "█" in plain
    assert ("68,719,476,736" in plain) == (width >= 80)  # exact bytes go before anything else does


def test_the_savings_table_is_legible_at_80_columns(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, llama, "--kv-dtype", "all", "-s", "128k")
    assert [line for line in out.splitlines() if line.startswith(("q8_0", "bfloat16"))] == snapshot(
        [
            "bfloat16                 16.00         0.0%  llama.cpp, transformers, vllm,",
            "q8_0                      8.50        46.9%  llama.cpp, exllamav3, ollama",
        ]
    )
    first_words = [line.split()[0] for line in out.splitlines() if line and line[0] not in " ─"]
    assert set(DTYPES) <= set(first_words)


def test_savings_give_bytes_scales_and_flags_to_machines(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(shown(capsys, llama, "--kv-dtype", "all", "-s", "8k", "-f", "json"))["comparison"]
    assert [row["kv_dtype"] for row in rows] == ["bfloat16", *(name for name in DTYPES if name != "bfloat16")]
    for row in rows:
        d = lookup(row["kv_dtype"])
        assert row["total_bytes"] == 32 * 2 * 8192 * d.row_bytes(8, 128)
        assert row["flags"] == {x.name: x.cache_dtypes[d.name] for x in ABOUTS.values() if d.name in x.cache_dtypes}
        assert row["scales"] == d.scales
    by_name = {row["kv_dtype"]: row for row in rows}
    assert by_name["int8"]["flags"] == {}
    assert by_name["nvfp4"]["flags"]["tensorrt-llm"] == "kv_cache_config.dtype: nvfp4"
    assert set(by_name["bfloat16"]["flags"]) == {
        "vllm", "sglang", "tensorrt-llm", "llama.cpp", "transformers", "mlx-lm", "lmdeploy", "ollama",
    }  # fmt: skip
    assert by_name["q8_0"]["relative"] == 34 / 64


def test_models_engines_and_dtypes_multiply(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = json.loads(shown(capsys, llama, "--variant", "mqa", "--kv-dtype", "bf16,fp8,bfloat16", "-f", "json"))
    assert out["schema"] == 2
    assert [(row["model"], row["kv_dtype"], row["relative"]) for row in out["comparison"]] == [
        ("llama", "bfloat16", 1.0),
        ("llama", "fp8_e4m3", 0.5),
        ("llama [mqa]", "bfloat16", 0.125),
        ("llama [mqa]", "fp8_e4m3", 0.0625),
    ]


@pytest.mark.parametrize("baseline", ["2", "mqa", "llama [mqa]", "LLAMA [MQA]"])
def test_the_baseline_is_a_number_or_a_name(llama: str, capsys: pytest.CaptureFixture[str], baseline: str) -> None:
    out = json.loads(shown(capsys, llama, "--variant", "mqa,cla=2", "--baseline", baseline, "-f", "json"))
    assert [row["relative"] for row in out["comparison"]] == [8.0, 1.0, 4.0]


def test_csv_has_the_documented_columns(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, llama, "--variant", "mqa", "-f", "csv").splitlines()
    assert lines[0] == ",".join(CSV_COLUMNS)
    assert lines[1].startswith("llama,ideal,1,bfloat16,1,1,8192,0,1073741824,")


def test_markdown_is_a_table(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, llama, "--variant", "mqa", "-f", "markdown")
    assert "| **`llama`** | **1.00** |" in out
    assert "| `llama [mqa]` | 0.125 | 134,217,728 | 16,384 | 1/8 |" in out
    assert "\\" not in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--variant", "mq"], "did you mean `mqa`?"),
        (["--variant", "mqa,,cla=2"], "--variant: `mqa,,cla=2` has an empty part"),
        (["--baseline", "3"], "--baseline: there is no row 3"),
        (["--baseline", "lama"], "did you mean `llama`?"),
        (["--kv-dtype", "bf17"], "see `kvplan dtypes` for all of them"),
        (["--kv-dtype", "all,bf16"], "`all` stands alone"),
        (["-e", "ideel"], "did you mean `ideal`?"),
        (["--set", "block_size=16"], "engine ideal has no option `block_size`"),
        (["-s", "0"], "--seq-len: expected a whole number of at least 1"),
        (["--tp", "3"], "tensor_parallel 3 neither divides 8 kv_heads"),
    ],
)
def test_bad_input_is_one_sentence_and_a_hint(
    llama: str, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    err = refused(capsys, llama, *args)
    assert message in err
    assert err.count("error: ") == 1


def test_a_row_that_is_not_predicted_says_why(
    llama: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = Ideal.on

    def on(self: Ideal, model: Model) -> IdealOn:
        if "mqa" in model.name:
            raise Refused("its rotary cache is a riddle")
        return answered(self, model)

    monkeypatch.setattr(Ideal, "on", on)
    out = shown(capsys, llama, "--variant", "mqa,cla=2")
    assert "not predicted" in next(line for line in out.splitlines() if "[mqa]" in line)
    assert "llama [mqa], ideal: not predicted: its rotary cache is a riddle" in " ".join(out.split())
    row = json.loads(shown(capsys, llama, "--variant", "mqa", "-f", "json"))["comparison"][1]
    assert row["not_predicted"] == "its rotary cache is a riddle"
    assert "is not predicted" in refused(capsys, llama, "--variant", "mqa", "--baseline", "2")


def test_what_fits_only_some_rows_is_a_row_too(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, llama, "--variant", "gqa=4,gqa=2", "--tp", "8", "--set", "kv_dtype=fp8")
    assert out.count("not predicted") == 0  # eight devices replicate four heads
    rows = json.loads(shown(capsys, llama, "--variant", "gqa=4", "--tp", "8", "-f", "json"))["comparison"]
    assert [row["total_bytes"] for row in rows] == [134217728, 134217728]


@given(st.lists(models, min_size=1, max_size=3), st.integers(1, 10**6))
def test_every_row_is_the_planners_answer(some: list[Model], seq_len: int) -> None:
    workload = Workload(batch_size=3, seq_len=seq_len)
    found = compare(some, workload, kv_dtypes=("auto", "q8_0"))
    wanted = [plan(m, workload, kv_dtype=d).total_bytes for m in some for d in ("auto", "q8_0")]
    assert [row.answer.total_bytes for row in found.rows if isinstance(row.answer, Allocation)] == wanted
    base = wanted[0]
    assert [row.relative for row in found.rows] == [w / base if base else None for w in wanted]


def test_a_baseline_beside_every_dtype_is_refused() -> None:
    with pytest.raises(OptionError, match="measures each dtype against the model's own"):
        compare([load("gpt2")], Workload(seq_len=1), kv_dtypes=("all",), baseline="1")
