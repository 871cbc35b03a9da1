"""Choosing a device, and what the GPU backends are asked; there is no GPU here, so their torch is a stand-in."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from each import each

from kvplan.errors import EnvironmentMissing, OptionError
from kvplan.questions.validate import devices
from kvplan.questions.validate.choosing import open_device, parse_device
from kvplan.questions.validate.devices import Cpu, Cuda, Mps, Xpu, import_torch
from kvplan.questions.validate.ranks import Ranks, ranks_from
from kvplan.units import MIB

ALONE = Ranks()


def stand_in(*, cuda: int = 0, xpu: int = 0, mps: bool = False, backend: str = "native", **figures: Any) -> Any:
    """A torch with as many devices and with fixed figures."""
    calls: list[str] = []

    def card(kind: str, count: int) -> SimpleNamespace:
        return SimpleNamespace(
            is_available=lambda: count > 0,
            device_count=lambda: count,
            get_allocator_backend=lambda: backend,
            get_device_name=lambda index: f"{kind} card {index}",
            mem_get_info=lambda index: (figures["free"], figures["free"] * 2),
            memory_allocated=lambda index: figures["allocated"],
            memory_reserved=lambda index: figures["reserved"],
            synchronize=lambda index: calls.append("synchronize"),
            empty_cache=lambda: calls.append("empty_cache"),
        )

    return SimpleNamespace(
        __version__="2.99",
        calls=calls,
        cuda=card("cuda", cuda),
        xpu=card("xpu", xpu),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
        mps=SimpleNamespace(
            recommended_max_memory=lambda: 10 * MIB,
            driver_allocated_memory=lambda: 3 * MIB,
            current_allocated_memory=lambda: 2 * MIB,
            synchronize=lambda: calls.append("synchronize"),
            empty_cache=lambda: calls.append("empty_cache"),
        ),
    )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    def having(**devices_there: Any) -> Any:
        found = stand_in(**devices_there)
        monkeypatch.setattr("kvplan.questions.validate.choosing.import_torch", lambda: found)
        return found

    return having


@pytest.fixture(autouse=True)
def default_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING"):
        monkeypatch.delenv(name, raising=False)


@each(
    ("text", "expected"),
    [("auto", ("auto", None)), ("cpu", ("cpu", None)), ("CUDA:1", ("cuda", 1)), ("cuda", ("cuda", None)), ("xpu:0", ("xpu", 0))],
)
def test_devices_are_written_as_torch_writes_them(text: str, expected: tuple[str, int | None]) -> None:
    assert parse_device(text) == expected


@each(
    ("text", "near"), [("gpu", "cuda"), ("cudo:0", "cuda"), ("cpu:1", "cpu"), ("mps:0", "mps"), ("", None), ("cuda:-1", "cuda")]
)
def test_unknown_devices_are_refused_with_the_nearest(text: str, near: str | None) -> None:
    with pytest.raises(OptionError, match="unknown device") as caught:
        parse_device(text)
    assert ("did you mean" in caught.value.hint) is (near is not None)
    assert near is None or f"`{near}`" in caught.value.hint


@pytest.mark.parametrize(
    ("there", "name"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"xpu": 1, "mps": True}, "xpu:0"), ({"cuda": 1, "xpu": 1, "mps": True}, "cuda:0")],
)
def test_auto_takes_the_best_that_is_there(machine: Any, there: dict[str, Any], name: str) -> None:
    machine(**there)
    assert open_device("auto", ALONE).name == name


def test_under_torchrun_each_rank_has_the_card_of_its_local_rank(machine: Any) -> None:
    machine(cuda=2)
    ranks = Ranks(rank=3, world_size=4, local_rank=1, local_world_size=2)
    assert open_device("auto", ranks).name == "cuda:1"
    assert open_device("cuda", ranks).name == "cuda:1"
    with pytest.raises(OptionError, match="cannot share one GPU"):
        open_device("cuda:0", ranks)


def test_more_ranks_than_cards_take_the_cpu_or_are_refused(machine: Any) -> None:
    machine(cuda=1)
    ranks = Ranks(rank=0, world_size=2, local_rank=0, local_world_size=2)
    device = open_device("auto", ranks)
    assert (device.name, device.sharers) == ("cpu", 2)
    with pytest.raises(EnvironmentMissing, match="2 ranks need as many cuda devices, and this machine has 1"):
        open_device("cuda", ranks)


def test_a_missing_card_is_named(machine: Any) -> None:
    machine(cuda=2)
    with pytest.raises(EnvironmentMissing, match="device='cuda:2': this machine has 2 cuda devices"):
        open_device("cuda:2", ALONE)
    with pytest.raises(EnvironmentMissing, match=r"no xpu device is available \(torch 2.99\)"):
        open_device("xpu", ALONE)


def test_this_torch_without_cuda_says_so() -> None:
    if torch.cuda.is_available():
        assert isinstance(open_device("cuda", ALONE), Cuda)
    else:
        with pytest.raises(EnvironmentMissing, match="no cuda device is available"):
            open_device("cuda", ALONE)
    assert isinstance(open_device("cpu", ALONE), Cpu)


def test_cuda_figures_are_required_to_the_byte() -> None:
    device = Cuda(stand_in(cuda=1), 0)
    before = {"allocated": 0, "reserved": 0, "free": 100 * MIB}
    after = {"allocated": 3 * MIB + 512, "reserved": 22 * MIB, "free": 78 * MIB}
    allocated, reserved, free = device.checks(before, after, [3 * MIB, 100])
    assert (allocated.name, allocated.predicted, allocated.real) == ("torch.cuda.memory_allocated", 3 * MIB + 512, 3 * MIB + 512)
    assert (reserved.name, reserved.predicted, reserved.real) == ("torch.cuda.memory_reserved", 22 * MIB, 22 * MIB)
    assert allocated.exact
    assert reserved.exact
    assert (free.real, free.exact, free.remark) == (22 * MIB, False, "104,857,600 before, 81,788,928 after")
    wrong = device.checks(before, {**after, "reserved": 24 * MIB}, [3 * MIB, 100])[1]
    assert not wrong.passed


def test_cuda_figures_are_information_when_the_cache_was_not_empty() -> None:
    device = Cuda(stand_in(cuda=1), 0)
    before = {"allocated": 512, "reserved": 2 * MIB, "free": 0}
    rows = device.checks(before, {"allocated": 1024, "reserved": 2 * MIB, "free": 0}, [100])
    assert [row.exact for row in rows] == [False, False, False]
    assert rows[1].remark == "the cache was not empty: 2,097,152 bytes reserved before"


@pytest.mark.parametrize("backend", ["native", "cudaMallocAsync"])
def test_cuda_figures_are_not_predicted_under_other_settings(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    device = Cuda(stand_in(cuda=1, backend=backend), 0)
    if backend == "native":
        monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    empty = {"allocated": 0, "reserved": 0, "free": 0}
    rows = device.checks(empty, {"allocated": 512, "reserved": 2 * MIB, "free": 0}, [100])
    assert [(row.predicted, row.exact, row.passed) for row in rows] == [(None, False, True)] * 3
    assert rows[0].remark.startswith("not predicted ")
    assert ("expandable_segments:True" if backend == "native" else "cudaMallocAsync") in rows[0].remark
    assert device.needed_bytes([100]) == 100
    assert device.taken_bytes(empty, 77) == 77


def test_cuda_needs_and_takes_whole_segments() -> None:
    device = Cuda(stand_in(cuda=1, allocated=512, reserved=6 * MIB, free=9 * MIB), 0)
    assert device.needed_bytes([100]) == 2 * MIB
    assert device.taken_bytes({"reserved": 2 * MIB}, 100) == 4 * MIB
    assert device.snapshot() == {"allocated": 512, "reserved": 6 * MIB, "free": 9 * MIB}
    assert device.description == "cuda card 0"


def test_what_stays_allocated_after_freeing_is_a_failure() -> None:
    device = Cuda(stand_in(cuda=1), 0)
    before = {"allocated": 1024, "reserved": 0, "free": 0}
    assert device.freed_checks(before, before)[0].passed
    assert not device.freed_checks(before, {**before, "allocated": 1536})[0].passed


@pytest.mark.parametrize("kind", [Cuda, Xpu])
def test_settling_waits_and_then_empties_the_cache(kind: Any) -> None:
    found = stand_in(cuda=1, xpu=1)
    kind(found, 0).settle()
    assert found.calls == ["synchronize", "empty_cache"]


def test_xpu_and_mps_figures_are_information(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {"allocated": 0, "reserved": 0, "free": 9 * MIB}
    after = {"allocated": MIB, "reserved": 2 * MIB, "free": 7 * MIB}
    xpu = Xpu(stand_in(xpu=1, allocated=0, reserved=0, free=9 * MIB), 0)
    assert xpu.snapshot() == before
    assert [(row.predicted, row.real, row.exact) for row in xpu.checks(before, after, [MIB])] == [
        (MIB, MIB, False), (2 * MIB, 2 * MIB, False), (2 * MIB, 2 * MIB, False),
    ]  # fmt: skip
    monkeypatch.setattr(devices, "available_bytes", lambda: 100 * MIB)
    mps = Mps(stand_in(mps=True))
    assert mps.snapshot() == {"allocated": 2 * MIB, "reserved": 3 * MIB, "free": 7 * MIB}
    assert [(row.predicted, row.real, row.exact) for row in mps.checks(before, after, [MIB])] == [
        (MIB, MIB, False), (None, 2 * MIB, False), (None, 2 * MIB, False),
    ]  # fmt: skip
    monkeypatch.setattr(devices, "available_bytes", lambda: MIB)
    assert mps.free_bytes() == MIB


def test_without_torch_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EnvironmentMissing) as caught:
        import_torch()
    assert "pip install 'kvplan-exact[torch]'" in caught.value.hint
    assert "https://download.pytorch.org/whl/cpu" in caught.value.hint


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}


def test_the_environment_of_torchrun_gives_the_place() -> None:
    assert ranks_from(TORCHRUN) == Ranks(rank=1, world_size=4, local_rank=1, local_world_size=2)
    assert ranks_from({"RANK": "1", "WORLD_SIZE": "4"}) == ALONE


@each("change", [{"RANK": "-1"}, {"RANK": "4"}, {"WORLD_SIZE": "x"}, {"LOCAL_RANK": "2"}, {"LOCAL_WORLD_SIZE": "5"}])
def test_an_environment_that_contradicts_itself_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(OptionError):
        ranks_from({**TORCHRUN, **change})
