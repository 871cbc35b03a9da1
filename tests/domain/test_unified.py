"""What macOS lends the GPU: a band by RAM and release, as machines printed it; and chips named with their size."""

import pytest
from each import each

import kvplan
from kvplan.api.placement import place
from kvplan.domain.budget import gpu_memory, kept_free
from kvplan.domain.gpus import gpu
from kvplan.domain.unified import shared_memory, working_set
from kvplan.errors import OptionError
from kvplan.questions.placement.answer import Laid
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


#: Cards: GiB of the pool and of what the GPU may use there, least and most, and what the sentence says.
POOLS = {
    "apple-m4-max-64gb": ((64, 64), (48, 51.84), "sudo sysctl iogpu.wired_limit_mb=57344"),
    "gb10": ((119.55, 121.69), (99.15, 117.09), "echo 3 > /proc/sys/vm/drop_caches"),
    "strix-halo-128gb": ((124.93, 128), (62.46, 64), "ttm.pages_limit=28573696"),
    "jetson-orin-nano-8gb": ((7.16, 7.45), (5.37, 6.75), "no setting raises it"),
    "jetson-agx-orin-64gb": ((61.35, 61.37), (57.52, 60.67), "MemAvailable"),
}


@each("name", POOLS)
def test_a_pool_has_its_ceiling_its_system_and_a_command(name: str) -> None:
    pool, lent, words = POOLS[name]
    found = shared_memory(gpu(name))
    for line, (least, most) in ((found.total, pool), (found.lent, lent)):
        assert abs(line.low / GIB - least) < 0.02
        assert abs(line.high / GIB - most) < 0.02
    assert 0 < found.system.low < found.system.high <= found.total.low // 4
    assert found.room.high < found.total.high
    assert words in found.words


def test_what_the_processor_holds_is_of_the_same_pool() -> None:
    """`-ngl 0` frees nothing of it, and a mapped file's pages are there once; where nothing is mapped, copies count."""
    asked = {"engine": "llama.cpp", "weights_dtype": "q4_k_m", "context": "8k", "brief": True}
    on, off = (place("llama-3.1-8b", "m4-max-64gb", n_gpu_layers=n, **asked) for n in (99, 0))
    assert isinstance(on, Laid)
    assert isinstance(off, Laid)
    assert on.spread.pool is not None
    assert off.spread.pool is not None
    weights = [next(line.bytes for line in spread.pool.lines if line.name == "weights") for spread in (on.spread, off.spread)]
    assert weights[0] == weights[1]
    assert abs(on.spread.pool.needed.bytes - off.spread.pool.needed.bytes) < 512 * MIB
    spark = place("gemma-3-4b", "gb10", frontend="cli", **asked)  # the embedding is the output too: copied, not mapped
    assert isinstance(spark, Laid)
    assert spark.spread.pool is not None
    assert spark.spread.pool.needed.bytes == sum(each.needed.bytes for each in spark.spread.places)


def test_a_gpu_that_is_lent_too_little_is_lent_more() -> None:
    asked = {"engine": "llama.cpp", "weights_dtype": "q4_k_m", "context": "32k"}
    short = place("llama-3.1-70b", "m4-max-64gb", **asked)
    assert isinstance(short, Laid)
    assert (short.fits, short.may_fit) == (False, True)
    assert short.changes[0].command == "sudo sysctl iogpu.wired_limit_mb=57344"
    raised = place("llama-3.1-70b", "m4-max-64gb", free="57344MiB", brief=True, **asked)
    assert isinstance(raised, Laid)
    assert raised.fits
    most = place("llama-3.1-70b", "m4-max-64gb", free="200GiB", brief=True, **{**asked, "context": "70k"})
    assert isinstance(most, Laid)
    assert not most.fits  # whatever the driver lends, the pool holds no more
    assert most.spread.devices[0].fits


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
