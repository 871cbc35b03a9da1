"""What macOS lends the GPU: a band by RAM and release, as machines printed it; and chips named with their size."""

import pytest
from each import each

import kvplan
from kvplan.domain.budget import gpu_memory, kept_free
from kvplan.domain.gpus import gpu
from kvplan.domain.unified import working_set
from kvplan.errors import OptionError
from kvplan.units import GIB, MIB

#: RAM in GB: MiB that older and newer releases printed (None: no print), as gpus_more.yaml names the machines.
PRINTED = {
    8: (5461, None), 16: (10922, 12124), 18: (None, 13639), 24: (16384, 18186), 32: (21845, 25559), 36: (27648, 28753),
    48: (36864, 38338), 64: (49152, 53084), 128: (98304, 110100), 192: (147456, None), 256: (None, 228065), 512: (None, 475136),
}  # fmt: skip


@each("size", PRINTED)
def test_the_band_has_what_machines_printed_at_its_ends(size: int) -> None:
    older, newer = PRINTED[size]
    band = working_set(size * GIB)
    assert older is None or band.low_bytes == older * MIB
    assert newer is None or band.high_bytes == newer * MIB
    assert band.low_bytes < band.high_bytes < band.ram_bytes
    assert band.setting == f"sudo sysctl iogpu.wired_limit_mb={size * 1024 * 7 // 8}"


def test_the_low_side_decides_and_the_setting_is_printed() -> None:
    asked = {"engine": "mlx-lm", "weights": "5GB", "context": "8k"}
    fit = kvplan.fit("llama-3.1-8b", "apple-m4-32gb", **asked)
    lines = {line.name: line.bytes for line in fit.budget.lines}
    assert lines["unified memory (apple-m4-32gb)"] == 32 * GIB
    assert lines["not lent to the GPU"] == -(32 * GIB - 21845 * MIB)
    assert any("sudo sysctl iogpu.wired_limit_mb=28672" in note for note in fit.notes)
    raised = kvplan.fit("llama-3.1-8b", "apple-m4-32gb", utilization=0.875, **asked)
    assert raised.batch_size > fit.batch_size
    assert not any("sysctl" in note for note in raised.notes)


def test_llama_cpp_is_told_the_same() -> None:
    fit = kvplan.fit("llama-3.1-8b", "apple-m4-32gb", engine="llama.cpp", weights="5GB", context="8k")
    assert any("iogpu.wired_limit_mb" in note for note in fit.notes)
    assert fit.budget.unused.bytes == 32 * GIB - 21845 * MIB


def test_a_fit_counts_what_a_prompt_takes_on_the_way() -> None:
    """Sliding layers hold a whole chunk of the prompt: at the end there is less, but that is too late."""
    fit = kvplan.fit("gemma-3-12b", "apple-m4-32gb", engine="mlx-lm", weights="7GB", context="32k")
    assert fit.allocation is not None
    assert fit.rows[[row.decisive for row in fit.rows].index(True)].cache_bytes > fit.allocation.allocated_bytes
    ends = kvplan.estimate("gemma-3-12b", seq_len=32_768, batch_size=fit.batch_size + 1, engine="mlx-lm")
    assert isinstance(ends, kvplan.Allocation)
    assert ends.allocated_bytes <= fit.budget.cache_bytes


def test_one_size_of_a_chip_has_a_name() -> None:
    chip = gpu("apple-m4-32gb")
    assert (chip.id, chip.marketed_gb, gpu_memory(chip).bytes) == ("apple-m4-32gb", (32,), 32 * GIB)
    assert gpu("m3-ultra-512gb").id == "apple-m3-ultra-512gb"
    assert gpu("rtx-4090-24gb") == gpu("rtx-4090")
    assert kept_free(gpu("rtx-4090"), gpu_memory(gpu("rtx-4090"))).bytes == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("apple-m4-48gb", "sold with 16/24/32 GB, not with 48 GB"),
        ("apple-m4-0gb", "not with 0 GB"),
        ("nothing-32gb", "unknown GPU"),
        ("apple-m4-99999gb", "unknown GPU"),
    ],
)
def test_a_size_that_is_not_sold_is_refused(name: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        gpu(name)
