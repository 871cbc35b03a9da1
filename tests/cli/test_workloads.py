"""`estimate` and `compare` of several lengths and batch sizes: each row what the command says for it alone."""

import csv
import io
import json

import pytest

from kvplan.cli.app import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(arguments))
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize("command", ["estimate", "compare"])
@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_list_is_what_its_parts_are_alone(command: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = "estimates" if command == "estimate" else "comparison"

    def rows(*asked: str) -> list[dict[str, object]]:
        code, out, _ = run(capsys, command, "llama-3.1-8b", "gemma-3-27b", *asked, "-e", "vllm", "-f", form)
        assert code == 0
        return list(csv.DictReader(io.StringIO(out))) if form == "csv" else json.loads(out)[key]

    together = rows("-s", "1k:4k:x2", "-b", "1,8")
    assert len(together) == 2 * 3 * 2
    for length in ("1k", "2k", "4k"):
        for batch in ("1", "8"):
            for row in rows("-s", length, "-b", batch):
                assert row in together


def test_people_get_one_table_a_model_with_a_row_a_workload(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "estimate", "llama-3.1-8b", "gemma-3-27b", "-s", "4k,max", "-b", "1,8")
    lines = out.splitlines()
    assert sum(line.split()[:2] == ["tokens", "requests"] for line in lines) == 2
    assert [line.split()[:2] for line in lines if line.split()[1:2] in (["1"], ["8"])] == [
        ["4,096", "1"], ["4,096", "8"], ["131,072", "1"], ["131,072", "8"],
        ["4,096", "1"], ["4,096", "8"], ["131,072", "1"], ["131,072", "8"],
    ]  # fmt: skip


def test_what_no_workload_gets_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "estimate", "llama-3.1-8b", "-s", "4k,8k", "-e", "vllm", "--tp", "3")
    assert code == 1
    assert out.count("not predicted") == 1


def test_a_list_that_reads_like_a_number_is_remarked_on_and_a_grid_is_the_sweeps(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "estimate", "llama-3.1-8b", "-s", "8,192")
    assert code == 0
    assert "is a list" in err
    for asked in (("-s", "1:100000:1"), ("-s", "1k:100k:1k", "-b", "1:100:1"), ("-s", "4,096"), ("-b", "1,,2"), ("-b", "x")):
        assert run(capsys, "compare", "llama-3.1-8b", *asked)[0] == 2
