"""`kvplan dtypes`, `engines`, `gpus`, and the GPU catalogue behind the last."""

import csv
import io
import json

import pytest
import yaml

from kvplan.cli.app import main
from kvplan.domain.dtypes import DTYPES
from kvplan.domain.gpus import DATA, gpu, gpus, read_gpus
from kvplan.engines import ENGINES
from kvplan.errors import InputError, OptionError
from kvplan.units import MIB


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
    assert data["schema"] == 1
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
    assert set(ENGINES) == {name for name, row in rows.items() if row["predicted"]}
    assert rows["ideal"]["options"][0] == {"name": "kv_dtype", "default": "auto", "type": "str", "shared": "kv_dtype"}


def test_the_catalogue_is_what_the_file_says() -> None:
    data = {entry["id"]: entry for entry in yaml.safe_load(DATA.read_text(encoding="utf-8"))["gpus"]}
    assert {entry.id for entry in gpus()} == set(data)
    for entry in gpus():
        assert entry.reported_bytes == data[entry.id].get("reported_bytes", None)
        assert list(entry.sources) == data[entry.id]["sources"]
    assert gpu("h100-sxm-80gb").reported_bytes == 81559 * MIB


def test_enough_of_a_name_means_one_gpu() -> None:
    assert gpu("h200").id == "h200-sxm-141gb"
    assert gpu("RTX 4090").id == "rtx-4090-24gb"
    assert gpu("h100-80gb").id == "h100-sxm-80gb"  # sold as a module and as a PCIe card: the module is meant
    with pytest.raises(OptionError) as several:
        gpu("a100")
    assert "a100-sxm-80gb" in several.value.hint
    with pytest.raises(OptionError) as none:
        gpu("h200-sxm-140gb")
    assert "did you mean `h200-sxm-141gb`?" in none.value.hint


ENTRY = {"id": "x", "vendor": "v", "arch": "a", "memory_kind": "discrete", "marketed_gb": 8, "sources": ["box"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"markted_gb": 8}, "unknown key `markted_gb`"),
        ({"marketed_gb": "8"}, "gpus[0].marketed_gb: `8` is not what this key holds"),
        ({"marketed_gb": []}, "gpus[0].marketed_gb"),
        ({"reported_mib": 0}, "gpus[0].reported_mib"),
        ({"reported_mib": 8, "reported_bytes": 9}, "`reported_mib` and `reported_bytes` differ"),
        ({"bandwidth_gb_s": float("nan")}, "gpus[0].bandwidth_gb_s"),
        ({"sources": []}, "`sources` is missing"),
        ({"sources": "box"}, "gpus[0].sources"),
        ({"id": None}, "gpus[0].id"),
    ],
)
def test_a_catalogue_is_read_strictly(change: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_gpus(yaml.safe_dump({"gpus": [{**ENTRY, **change}]}).encode(), "gpus.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[", b"gpus: 5", b"gpus: [5]", yaml.safe_dump({"gpus": [ENTRY, ENTRY]}).encode()])
def test_what_is_no_catalogue_is_refused(text: bytes) -> None:
    with pytest.raises(InputError):
        read_gpus(text, "gpus.yaml")


def test_mebibytes_alone_are_enough() -> None:
    (entry,) = read_gpus(yaml.safe_dump({"gpus": [{**ENTRY, "reported_mib": 8188}]}).encode(), "gpus.yaml")
    assert entry.reported_bytes == 8188 * MIB
