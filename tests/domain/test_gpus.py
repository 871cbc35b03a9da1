"""The catalogue of GPUs: read strictly, and found by as much of a name as means one."""

import pytest
import yaml
from each import each

from kvplan.api.fit import fit
from kvplan.domain import gpu_totals
from kvplan.domain.gpus import DATA, counted, gpu, gpus, more_gpus, read_gpus
from kvplan.errors import InputError, OptionError
from kvplan.units import GIB, MIB


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


@each(
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


@each("text", [b"", b"[", b"gpus: 5", b"gpus: [5]", yaml.safe_dump({"gpus": [ENTRY, ENTRY]}).encode()])
def test_what_is_no_catalogue_is_refused(text: bytes) -> None:
    with pytest.raises(InputError):
        read_gpus(text, "gpus.yaml")


def test_mebibytes_alone_are_enough() -> None:
    (entry,) = read_gpus(yaml.safe_dump({"gpus": [{**ENTRY, "reported_mib": 8188}]}).encode(), "gpus.yaml")
    assert entry.reported_bytes == 8188 * MIB


def test_every_card_answers_to_its_id_and_to_what_its_driver_prints() -> None:
    for entry in (*gpus(), *more_gpus()):
        assert gpu(entry.id).id == gpu(entry.id.upper()).id == entry.id
    for card, found in gpu_totals.every().items():
        for name in found.names:
            read = _read(name)
            assert card in read or name in gpu_totals.every()[read].names, name


def _read(name: str) -> str:
    """The card's id, or the hint with the cards of which each is called so."""
    try:
        return gpu(name).id
    except OptionError as problem:
        return problem.hint


@each(
    ("name", "card", "count"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb", None),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb", None),
        ("NVIDIA GeForce RTX 4090", "rtx-4090-24gb", None),
        ("Tesla T4", "t4-16gb", None),
        ("rtx4090", "rtx-4090-24gb", None),
        ("4090d", "rtx-4090-d-24gb", None),
        ("RTX 4070 Ti Super", "rtx-4070-ti-super-16gb", None),
        ("3060", "rtx-3060-12gb", None),
        ("3060 8GB", "rtx-3060-8gb", None),
        ("A100-80G", "a100-sxm-80gb", None),
        ("h100sxm5", "h100-sxm-80gb", None),
        ("7900xtx", "rx-7900-xtx-24gb", None),
        ("AMD Instinct MI300X", "mi300x-192gb", None),
        ("Apple M4 Max 64GB", "apple-m4-max-64gb", None),
        ("m2ultra 192 GB", "apple-m2-ultra-192gb", None),
        ("h100x8", "h100-sxm-80gb", 8),
        ("8xh100", "h100-sxm-80gb", 8),
        ("8 x NVIDIA H100 80GB HBM3", "h100-sxm-80gb", 8),
        ("2X4090", "rtx-4090-24gb", 2),
        ("a100-80gbx2", "a100-sxm-80gb", 2),
        ("rx 7900 xt x2", "rx-7900-xt-20gb", 2),
        ("mi300x8", "mi300x-192gb", 8),
        ("h100:8", "h100-sxm-80gb", 8),
        ("24 GiB", "24gib", None),
        ("2x24GB", "24gb", 2),
    ],
)
def test_names_as_people_and_drivers_write_them(name: str, card: str, count: int | None) -> None:
    read, number = counted(name)
    assert (gpu(read).id, number) == (card, count)


@each(
    ("name", "hint"),
    [
        ("mi300", "one of mi300x-192gb, mi300a-128gb?"),
        ("4060 ti", "one of rtx-4060-ti-8gb, rtx-4060-ti-16gb"),
        ("rtx-4090-48gb", "did you mean `rtx-4090-24gb`?"),
        ("m4 max 65gb", "lists the sizes"),
        ("mac", "m4-max-64gb"),
        ("rtx 6000", "rtx-pro-6000-max-q-96gb"),
    ],
)
def test_what_means_no_card_is_told_of_its_family(name: str, hint: str) -> None:
    with pytest.raises(OptionError) as caught:
        gpu(name)
    assert hint in caught.value.hint


@each("name", ["gtx 1080", "rtx-9090", "h1000", "pro", "x", "8x", "xh100", "0xh100", "24", "nvidia", "x" * 9000])
def test_no_suggestion_is_better_than_another_brand(name: str) -> None:
    with pytest.raises(OptionError) as caught:
        gpu(name)
    assert "did you mean" not in caught.value.hint


def test_a_size_alone_is_any_card() -> None:
    assert gpu("24GiB").reported_bytes == 24 * GIB
    assert fit("llama-3.1-8b", memory="24GiB", engine="ideal").budget.memory.bytes == 24 * GIB
    with pytest.raises(OptionError, match="say what it is to run on"):
        fit("llama-3.1-8b")


def test_under_windows_a_card_has_another_total() -> None:
    """35 cards have a print: nvidia-smi's total less half a MiB or less, which is more than Linux programs see."""
    shown = {card.id: card for card in (*gpus(), *more_gpus()) if card.windows_total_bytes}
    assert len(shown) == 35
    assert shown["rtx-4090-24gb"].to_dict()["windows_total_bytes"] == 25_756_696_576
    for card in shown.values():
        assert (
            card.reported_by != "nvidia-smi memory total" or 0 <= (card.reported_bytes or 0) - card.windows_total_bytes <= MIB
        ), card.id  # type: ignore[operator]
        assert card.cuda_total_bytes is None or card.cuda_total_bytes <= card.windows_total_bytes, card.id  # type: ignore[operator]
    assert gpu("h100").windows_total_bytes is None
