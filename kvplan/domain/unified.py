"""Memory that CPU and GPU share: how much of it the GPU may use, what raises that, and what the system keeps for itself.

Apple: Metal recommends a working set by the size of RAM and by the macOS release, not by the chip. Older releases lend 2/3 of up
to 32 GB and 3/4 of more; newer ones 0.74 of 16 to 24 GB, 0.78 of 32 to 48, 0.81 of 64, 0.84 of 128, 0.87 of 256 and 0.906 of
512 GB. Which release changed it is not known, so the answer is a band, and its low side decides. What goes beyond it fails
at the first large command buffer.

Others (`shared_memory`): on GB10 and Jetson CUDA's total is the kernel's MemTotal, and what is free is what the system leaves;
Linux lends Strix Halo's GPU half of the memory (GTT) beside the BIOS's carve-out, which a kernel parameter raises.

Source: recommendedMaxWorkingSetSize as llama.cpp, Ollama and MLX print it on 30 machines; `iogpu.wired_limit_mb` is MiB and
becomes the working set exactly (public logs; kvplan/domain/gpus.yaml names the first of them). GTT: Linux f7ba887f606b; what
systems keep: the threads that the bands below name.
"""

from fractions import Fraction
from typing import Final

from msgspec import Struct

from kvplan.domain.gpu_totals import totals
from kvplan.domain.gpus import Gpu
from kvplan.domain.ledger import Line, band, exact
from kvplan.units import GIB, MIB

#: RAM up to which older releases lend two thirds; three quarters above.
_SMALL: Final = 34 * GIB
#: RAM up to so many GiB -> the share that newer releases lend. 96 and 192 GB were not printed: the next size's share.
_NEWER: Final = (
    (24, Fraction(74, 100)),
    (48, Fraction(78, 100)),
    (64, Fraction(81, 100)),
    (128, Fraction(84, 100)),
    (256, Fraction(87, 100)),
)
_LARGEST: Final = Fraction(29, 32)
#: What owners set: 28672 of 32 GB, 57344 of 64, 114688 of 128.
_RAISED: Final = Fraction(7, 8)


class WorkingSet(Struct, frozen=True, kw_only=True):
    """What the GPU may use of `ram_bytes` by default: between `low_bytes` and `high_bytes`, by macOS release."""

    ram_bytes: int
    low_bytes: int
    high_bytes: int
    raised_mib: int

    @property
    def setting(self) -> str:
        """The command that raises it until the next start."""
        return f"sudo sysctl iogpu.wired_limit_mb={self.raised_mib}"

    @property
    def sentence(self) -> str:
        """The band, and how to leave it, for people."""
        low, high, ram = (amount // MIB for amount in (self.low_bytes, self.high_bytes, self.ram_bytes))
        return (
            f"macOS lends the GPU {low:,} to {high:,} MiB of {ram:,} by its release, and the low side decides; to raise it "
            f"until the next start: {self.setting}, then ask with a utilization of {float(_RAISED):g}"
        )


def working_set(ram_bytes: int) -> WorkingSet:
    """The band of one machine.

    >>> band = working_set(32 * GIB)
    >>> band.low_bytes // MIB, band.high_bytes // MIB, band.setting
    (21845, 25559, 'sudo sysctl iogpu.wired_limit_mb=28672')
    """
    mebibytes = ram_bytes // MIB
    older = Fraction(2, 3) if ram_bytes <= _SMALL else Fraction(3, 4)
    newer = next((share for size, share in _NEWER if ram_bytes <= (size + size // 16) * GIB), _LARGEST)
    return WorkingSet(
        ram_bytes=ram_bytes,
        low_bytes=int(mebibytes * older) * MIB,
        high_bytes=int(mebibytes * newer) * MIB,
        raised_mib=int(mebibytes * _RAISED),
    )


class Shared(Struct, frozen=True, kw_only=True):
    """One pool of memory for the CPU and the GPU.

    Attributes:
        total: what the system has in all.
        system: what it keeps for itself before anything is loaded.
        lent: the most that the GPU may use; where it may use all, what the system leaves.
        raised_bytes: what the GPU may use after `setting`, a command; 0 and empty where nothing raises it.
        words: all of that for people, with the command that tells the truth of one machine.
    """

    total: Line
    system: Line
    lent: Line
    words: str
    raised_bytes: int = 0
    setting: str = ""

    @property
    def room(self) -> Line:
        """What processes may have, those of the CPU and of the GPU together."""
        low, high = self.total.low - self.system.high, self.total.high - self.system.low
        best = self.total.bytes - self.system.bytes
        return band("shared memory", best, low, high, self.words, "derived")


#: What a system keeps, GiB: usual, least, most, and who saw it.
_MACOS: Final = (
    4,
    3,
    5,
    "3.5 of 32 GB (AlexsJones/llmfit#570), 4 of 64 (jundot/omlx#1533), 4.9 of 24 (apple-silicon-llm-bench#7)",
)
_SPARK: Final = (
    12,
    Fraction("4.6"),
    Fraction("20.4"),
    "101.3 to 117 of 121.69 GiB free at boot (GLM-5.3-Flash-EXL3-2x-DGX-Sparks#47)",
)
_JETSON: Final = (
    Fraction("1.5"),
    Fraction("0.7"),
    Fraction("2.2"),
    "6.6 of 7.3 GiB available headless (jetson-containers#342), 5.2 of 7.4 with a desktop",
)
_HALO: Final = (4, 2, 8, "a vLLM image keeps 8 GiB (amd-strix-halo-vllm-toolboxes#81); the least is a guess")
_OTHER: Final = (8, 2, 16, "nobody measured it: a wide guess")
#: MemTotal of a Strix Halo of 128 GB with the least carve-out: 2 x 63968 MiB of GTT (antirez/ds4#475).
_HALO_TOTAL: Final = Fraction(2 * 63968, 128 * 1024)
_LOOK: Final = "`grep MemAvailable /proc/meminfo` says what it leaves now (then: --free SIZE)"


def shared_memory(gpu: Gpu, given_bytes: int | None = None) -> Shared:
    """The pool of a machine whose CPU and GPU share memory.

    Args:
        gpu: of the catalogue, whose memory is unified; in one size, unless that is given.
        given_bytes: what the system says that it has in all, where somebody looked.
    """
    if gpu.vendor == "apple":
        return _apple(given_bytes or gpu.marketed_gb[0] * GIB)
    total = _total(gpu, given_bytes)
    if gpu.arch == "rdna3.5":
        return _halo(total)
    spark = gpu.id.startswith("gb10")
    kept = _SPARK if spark else _JETSON if gpu.id.startswith("jetson") else _OTHER
    system = _kept(kept, total.low, grows=not spark)
    lent = band(
        "GPU memory", total.bytes - system.bytes, total.low - system.high, total.high - system.low, total.source, "derived"
    )
    words = (
        f"CPU and GPU share {_gib(total)} GiB, and the GPU may use all that the system leaves: it keeps {_gib(system)} GiB "
        f"({system.source}); {_LOOK}; no setting raises it. "
    )
    if spark:
        words += "For CUDA page cache counts as used: sudo sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'"
    else:
        words += "A start without a desktop leaves more: sudo systemctl set-default multi-user.target"
    return Shared(total=total, system=system, lent=lent, words=words)


def _apple(ram_bytes: int) -> Shared:
    found = working_set(ram_bytes)
    total = exact("shared memory", ram_bytes, "RAM", "derived")
    low, high = (f"{amount / ram_bytes:.3g}" for amount in (found.low_bytes, found.high_bytes))
    source = f"macOS lends {low} to {high} by its release; the low side decides"
    lent = band("GPU memory", found.low_bytes, found.low_bytes, found.high_bytes, source, "assumed")
    raised = found.raised_mib * MIB
    words = (
        f"CPU and GPU share {_gib(total)} GiB, of which macOS lends the GPU {_gib(lent)} by its release "
        f"(`llama-server --list-devices` says it); to raise it until the next start: {found.setting}, "
        f"then --free {found.raised_mib}MiB"
    )
    system = _kept(_MACOS, ram_bytes, grows=False)
    return Shared(total=total, system=system, lent=lent, words=words, raised_bytes=raised, setting=found.setting)


def _halo(total: Line) -> Shared:
    """Strix Halo under Linux: half of the memory is lent (`amdgpu_ttm_init`), at least 3 GiB; a page is 4,096 bytes."""
    lent = band("GPU memory", total.low // 2, total.low // 2, total.high // 2, "GTT: half of the system's memory", "derived")
    raised = int(total.low * _RAISED) // GIB * GIB
    pages = raised // 4096
    words = (
        f"CPU and GPU share {_gib(total)} GiB, of which Linux lends the GPU half, {_gib(lent)}, beside what the BIOS sets aside "
        "(`cat /sys/class/drm/card*/device/mem_info_gtt_total` says it; Vulkan shows less); to raise it: "
        f"ttm.pages_limit={pages} on the kernel's command line, or sudo amd-ttm --set {raised // GIB}, and a restart "
        f"(amdgpu.gttsize is deprecated), then --free {raised // GIB}GiB"
    )
    setting = f"sudo amd-ttm --set {raised // GIB}"
    system = _kept(_HALO, total.low, grows=False)
    return Shared(total=total, system=system, lent=lent, words=words, raised_bytes=raised, setting=setting)


def _total(gpu: Gpu, given_bytes: int | None) -> Line:
    """What the kernel calls its memory in all: as it was printed, else from what the box says."""
    if given_bytes is not None:
        return exact("shared memory", given_bytes, "--memory", "given")
    box = gpu.marketed_gb[0] * GIB
    if gpu.arch == "rdna3.5":
        least = int(box * _HALO_TOTAL)
        return band("shared memory", least, least, box, "128 GB show as 124.9 GiB with the least carve-out", "derived")
    seen = totals(gpu.id)
    if seen is not None and seen.low and seen.high:
        return band("shared memory", gpu.cuda_total_bytes or seen.low, seen.low, seen.high, "MemTotal as it was printed")
    return band("shared memory", box * 95 // 100, box * 93 // 100, box, f"{gpu.marketed_gb[0]} GB on the box", "assumed")


def _kept(kept: tuple[Fraction | int, Fraction | int, Fraction | int, str], total_bytes: int, *, grows: bool) -> Line:
    """What the system keeps: never more than a quarter; of larger machines than those that were seen up to a sixteenth."""
    best, low, high = (int(amount * GIB) for amount in kept[:3])
    high = max(high, total_bytes // 16) if grows else high
    best, low, high = (min(amount, total_bytes // 4) for amount in (best, low, high))
    return band("kept by the system", best, low, high, kept[3], "assumed")


def _gib(line: Line) -> str:
    low, high = (f"{end / GIB:.4g}" for end in (line.low, line.high))
    return low if low == high else f"{low} to {high}"
