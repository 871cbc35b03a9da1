"""The steps that were gone through, one by one or as leaps, until the meter counts them many at a time."""

from __future__ import annotations

from array import array
from typing import Final

import numpy as np

from kvplan.domain.traffic import Meter

_FEW: Final = 2  # steps of a leap that are written down one by one
_LEAPS: Final = 10_000  # leaps, and as many steps, that are kept before they are counted
_STEPS: Final = 250_000


class Tally:
    """Steps of one server whose blocks hold `size` tokens."""

    def __init__(self, meter: Meter, size: int) -> None:
        self.meter, self.size = meter, size
        self.rows: tuple[array[int], array[int], array[int]] = (array("q"), array("q"), array("q"))  # time, blocks held, lasts
        self.leap_rows = array("q")
        self.leap_steps = 0

    def step(self, now: int, held: int, lasts: int) -> None:
        """One step."""
        times, used, lasted = self.rows
        times.append(now)
        used.append(held)
        lasted.append(lasts)

    def leap(self, now: int, used: int, step: int, steps: int, least: int, phases: list[int]) -> int:
        """Steps from `step` on that last `least` each and take `phases[-step % size]` blocks; how many they take in all."""
        size = self.size
        if steps <= _FEW:
            taken = 0
            for i in range(steps):
                taken += phases[-(step + i) % size]
                self.step(now + i * least, used + taken, least)
            return taken
        whole, rest = divmod(steps, size)
        first = -step % size  # phases are gone through downwards
        last = first - rest + 1
        taken = whole * sum(phases) + (
            sum(phases[last : first + 1]) if last >= 0 else sum(phases[: first + 1]) + sum(phases[last:])
        )
        self.leap_rows.extend((now, used, step, steps, least))
        self.leap_rows.extend(phases)
        self.leap_steps += steps
        if self.leap_steps > _STEPS or len(self.leap_rows) > _LEAPS * size:
            self.flush()
        return taken

    def flush_if_many(self) -> None:
        """Count what there is, if there is much."""
        if len(self.rows[0]) > _STEPS:
            self.flush()

    def flush(self) -> None:
        """Count what there is."""
        self.meter.add(*(np.array(values, dtype=np.int64) for values in self.rows))
        for values in self.rows:
            del values[:]
        if not self.leap_rows:
            return
        rows = np.array(self.leap_rows, dtype=np.int64).reshape(-1, 5 + self.size)
        del self.leap_rows[:]
        self.leap_steps = 0
        time, used, step, steps, lasts = rows[:, :5].T
        leap = np.repeat(np.arange(len(rows)), steps)
        starts = np.cumsum(steps) - steps
        place = np.arange(len(leap)) - starts[leap]
        taken = rows[leap, 5 + (-(step[leap] + place)) % self.size]
        total = np.cumsum(taken)
        before = total[starts] - taken[starts]
        self.meter.add(time[leap] + place * lasts[leap], (used - before)[leap] + total, lasts[leap])
