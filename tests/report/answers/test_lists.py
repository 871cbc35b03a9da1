"""`kvplan dtypes`, `engines` and `gpus`."""

import csv
import io
import json

import pytest

from kvplan.cli.app import main
from kvplan.domain.dtypes import DTYPES
from kvplan.engines import PREDICTED


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("command", ["dtypes", "engines", "gpus"])
def test_a_list_prints_in_every_format(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert main([command, "-f", "markdown"]) == 0
    assert "| --- |" in capsys.readouterr().out
    assert main([command, "-f", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == 2
    assert main([command, "-f", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == len(data[command])
    assert list(rows[0]) == list(data[command][0])


def test_every_dtype_is_listed_with_its_block(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dtypes", "-f", "json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["dtypes"]}
    assert set(rows) == set(DTYPES)
    assert (rows["q8_0"]["block_elements"], rows["q8_0"]["block_bytes"], rows["q8_0"]["bits_per_element"]) == (32, 34, 8.5)
    assert rows["int8_per_token_head"]["head_scale_bytes"] == 4


def test_every_engine_is_listed_with_its_own_option_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", "-f", "json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["engines"]}
    assert set(PREDICTED) == {name for name, row in rows.items() if row["predicted"]}
    assert rows["ideal"]["options"][0] == {"name": "kv_dtype", "default": "auto", "type": "str", "shared": "kv_dtype"}
