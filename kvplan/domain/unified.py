"""Apple's unified memory: how much of it the GPU may use, and the setting that raises that.

Metal recommends a working set by the size of RAM and by the macOS release, not by the chip. Older releases lend 2/3 of up to
32 GB and 3/4 of more; newer ones 0.74 of 16 to 24 GB, 0.78 of 32 to 48, 0.81 of 64, 0.84 of 128, 0.87 of 256 and 0.906 of
512 GB. Which release changed it is not known, so the answer is a band, and its low side decides. What goes beyond it fails
at the first large command buffer.

Source: recommendedMaxWorkingSetSize as llama.cpp, Ollama and MLX print it on 30 machines; `iogpu.wired_limit_mb` is MiB and
becomes the working set exactly (public logs; kvplan/domain/gpus.yaml names the first of them).
"""

from fractions import Fraction
from typing import Final

from msgspec import Struct

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
