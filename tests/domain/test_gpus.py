"""The catalogue of GPUs: read strictly, and found by as much of a name as means one."""

import pytest
import yaml

from kvplan.domain.gpus import DATA, gpu, gpus, read_gpus
from kvplan.errors import InputError, OptionError
from kvplan.units import MIB


def test_the_catalogue_is_what_the_file_says() -> None:
    data = {entry["id"]: entry for entry in yaml.safe_load(DATA.read_text(encoding="utf-8"))["gpus"]}
    assert {entry.id for entry in gpus()} == set(data)
    for entry in gpus():
        said = data[entry.id]
        mebibytes = said.get("reported_mib")  # enough alone
        assert entry.reported_bytes == said.get("reported_bytes", mebibytes and mebibytes * MIB)
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
