"""`kvplan validate` through the real entry point."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvplan.cli.app import main
from kvplan.engines.ideal.engine import IdealOn
from kvplan.questions.validate import allocate

TOTAL = 4 * 2 * 4 * 64 * 2  # layers x (keys, values) x heads x head_dim x bytes: one token


def answer(capsys: pytest.CaptureFixture[str], *args: Any) -> tuple[int, str, str]:
    code = main(["validate", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


def test_json_has_every_figure_as_an_exact_integer(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = answer(capsys, config_file, "-s", 100, "-b", 2, "--device", "cpu", "-f", "json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["schema"] == 2
    (only,) = told["validations"]
    assert (only["device"], only["engine"], only["seq_len"], only["batch_size"]) == ("cpu", "ideal", 100, 2)
    assert only["predicted_bytes"] == 200 * TOTAL
    storage, resident = only["checks"]
    assert (storage["name"], storage["predicted_bytes"], storage["real_bytes"]) == ("tensor storage", 200 * TOTAL, 200 * TOTAL)
    assert (storage["equal"], storage["exact"], resident["exact"]) == (True, True, False)
    assert resident["name"] == "resident set size"
    assert [(b["name"], b["shape"], b["dtype"], b["equal"]) for b in only["buffers"]] == [
        ("keys", [2, 4, 100, 64], "bfloat16", True),
        ("values", [2, 4, 100, 64], "bfloat16", True),
    ]


def test_the_table_shows_whole_bytes_and_verdicts(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = answer(capsys, config_file, "-s", "1k", "--device", "cpu", "--kv-dtype", "q8_0")
    assert code == 0
    row = next(line.split() for line in out.splitlines() if line.strip().startswith("tensor storage"))
    bytes_in_all = f"{1024 * 4 * 2 * 8 * 34:,}"  # 4 heads of 64 are 8 blocks of 34 bytes
    assert row == ["tensor", "storage", bytes_in_all, bytes_in_all, "0", "equal"]
    assert "keys 1x1024x272 uint8" in out


def test_csv_and_markdown_say_the_same(config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = answer(capsys, config_file, "-s", 64, "--device", "cpu", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert [(r["what"], r["name"], r["equal"]) for r in rows if r["exact"] == "True"] == [
        ("check", "tensor storage", "True"), ("buffer", "keys", "True"), ("buffer", "values", "True"),
    ]  # fmt: skip
    assert int(rows[0]["predicted"]) == int(rows[0]["real"]) == 64 * TOTAL
    target = tmp_path / "report.md"
    assert answer(capsys, config_file, "-s", 64, "--device", "cpu", "-f", "markdown", "-o", target)[:2] == (0, "")
    assert f"| tensor storage |  | {64 * TOTAL:,} | {64 * TOTAL:,} | 0 | equal |" in target.read_text()


def test_a_wrong_prediction_exits_1_and_names_the_buffer(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from msgspec import structs

    right = IdealOn.tensors

    def wrong(self: IdealOn, at: Any) -> Any:
        first, *rest = right(self, at)
        return (structs.replace(first, padded=first.padded + 128), *rest)

    monkeypatch.setattr(IdealOn, "tensors", wrong)
    code, out, err = answer(capsys, config_file, "-s", 10, "--device", "cpu")
    assert code == 1
    assert "differs" in out
    assert err.splitlines()[0] == "error: layer 0, keys, shape (1, 4, 10, 64) of bfloat16: predicted 5,248 bytes, real 5,120"


def test_what_does_not_fit_exits_1_with_both_numbers(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = answer(capsys, config_file, "-s", "1M", "-b", "1M", "--device", "cpu")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: the cache needs {2**40 * TOTAL:,} bytes (4.00 PiB), and cpu has ")
    code, out, err = answer(capsys, config_file, "-s", 10, "--device", "cpu", "--limit", "10KiB")
    assert (code, out) == (1, "")
    assert "--limit allows 10,240 bytes (10.00 KiB)" in err


def test_probe_max_compares_the_largest_batch(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = answer(capsys, config_file, "-s", 100, "--device", "cpu", "--probe-max", "--limit", "10MB", "-f", "json")
    assert (code, err) == (0, "")
    (only,) = json.loads(out)["validations"]
    batch = only["checks"][0]
    assert (batch["name"], batch["predicted"], batch["real"], batch["equal"]) == ("largest batch", 24, 24, True)
    assert only["batch_size"] == 10**7 // (100 * TOTAL) == 24
    assert only["limit_bytes"] == 10**7
    assert {"batch_size": 25, "predicted_bytes": 2500 * TOTAL, "fits": False} in only["steps"]


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (("--device", "gpu"), 2, "error: --device: unknown device `gpu`"),
        (("--device", "cpu", "--probe-max"), 2, "error: --probe-max on the CPU needs a limit"),
        (("--device", "cpu", "--limit", "5"), 2, "error: --limit: expected a size with its unit, got `5`"),
        (("--device", "cpu", "-e", "idael"), 2, "error: unknown engine `idael`"),
        (("--device", "cpu", "--tp", "3"), 2, "error: tensor_parallel 3 neither divides 4 kv_heads nor is a multiple of them"),
    ],
)
def test_bad_requests_are_one_sentence(
    config_file: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], code: int, sentence: str
) -> None:
    found, out, err = answer(capsys, config_file, "-s", 10, *args)
    assert (found, out, err.splitlines()[0]) == (code, "", sentence)
    assert "hint: " in err


def test_without_torch_it_says_what_to_install(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    code, out, err = answer(capsys, config_file, "-s", 10)
    assert (code, out) == (3, "")
    assert err.startswith("error: torch is not installed\n\nhint: pip install 'kvplan-exact[torch]'")


def test_a_request_that_is_wrong_does_not_wait_for_torch(config_file: Path) -> None:
    script = (
        "import sys; from kvplan.cli.app import main; "
        f"code = main(['validate', {str(config_file)!r}, '--kv-dtype', 'fp9']); "
        "sys.exit(100 + code + 50 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 102, done.stderr


def test_ctrl_c_exits_130_and_writes_nothing(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(allocate, "_touch", interrupted)
    target = tmp_path / "out.json"
    code, out, _ = answer(capsys, config_file, "-s", 10, "--device", "cpu", "-o", target)
    assert (code, out) == (130, "")
    assert list(tmp_path.iterdir()) == [config_file]


def test_one_shard_of_a_tensor_parallel_model(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = answer(capsys, config_file, "-s", 10, "--device", "cpu", "--tp", 2, "-f", "json")
    assert code == 0
    assert json.loads(out)["validations"][0]["checks"][0]["real_bytes"] == 5 * TOTAL


def test_a_bar_shows_on_a_terminal_when_there_is_much_to_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    from kvplan.cli.validate import _touching
    from kvplan.questions.validate.ranks import Ranks
    from kvplan.units import GIB

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown(total_bytes: int, rank: int) -> str:
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setitem(os.environ, "TERM", "xterm")
        with _touching(Ranks(rank=rank, world_size=2), total_bytes) as watch:
            watch(total_bytes // 2)
        return stream.getvalue()

    assert "touching memory" in shown(4 * GIB, 0)
    assert shown(4 * GIB, 1) == ""
    assert shown(1024, 0) == ""
