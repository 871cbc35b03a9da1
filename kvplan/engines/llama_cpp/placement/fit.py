"""What llama.cpp's own `--fit` chooses: a context, a number of layers, a split, and experts that stay on the host.

It measures by loading the model without memory; here a function says what a load would need. Whole numbers throughout: a
quotient is C's, and truncates.

Source: llama.cpp 0c1e57098, `common/fit.cpp` (`common_params_fit_impl`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from kvplan.engines.llama_cpp.placement.devices import Device
from kvplan.engines.llama_cpp.placement.patterns import ALL_EXPERTS, Override, experts_of
from kvplan.units import MIB

MARGIN_MIB: Final = 1024  # `-fitt`: what each device keeps free
FLOOR: Final = 4096  # `-fitc`: tokens below which the context is not shortened
#: What leaves of the one block that is kept in part; `moe`: of all further ones.
Leaves = Literal["attn", "up", "gate", "moe"]
_PATTERNS: Final = {
    "attn": r"blk\.{}\.ffn_(gate|up|gate_up|down).*",
    "up": r"blk\.{}\.ffn_(gate|gate_up|down).*",
    "gate": r"blk\.{}\.ffn_down.*",
}


class Need(Struct, frozen=True):
    """What one load takes on one device, bytes."""

    model: int
    context: int
    compute: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.model + self.context + self.compute


class Given(Struct, frozen=True, kw_only=True):
    """The layers of one device: how many, how many of them without all they have, what leaves of the first such, and where to."""

    layers: int = 0
    part: int = 0
    leaves: Leaves = "moe"
    to: str = "CPU"

    @property
    def full(self) -> int:
        """Those that are whole."""
        return self.layers - self.part


class Trial(Struct, frozen=True, kw_only=True):
    """One load: the context asked for (0: the model's own), the layers of each device (None: as the command line says), and
    whether all experts stay on the host.
    """

    n_ctx: int
    given: tuple[Given, ...] | None = None
    cpu_moe: bool = False


class Subject(Struct, frozen=True, kw_only=True):
    """The model and command line as the fit sees them.

    Attributes:
        blocks: without NextN blocks, unless they are loaded.
        experts: whether the model has any.
        context_length: tokens.
        streams: sequences with a context of their own each.
        n_ctx: `-c`, 0 where unset.
        keeps_context: `-c 0` was typed: no reduction.
        floor: `-fitc`, tokens.
        layers_set, split_set, moved: whether `-ngl`, `-ts`, `-ot` (or its short forms) were typed.
    """

    blocks: int
    experts: bool
    context_length: int
    streams: int = 1
    n_ctx: int = 0
    n_gpu_layers: int = -1
    keeps_context: bool = False
    floor: int = FLOOR
    split_set: bool = False
    moved: bool = False
    rows: bool = False


class Choice(Struct, frozen=True, kw_only=True):
    """What the fit made of it: `n_gpu_layers` -1 and no split where nothing was changed; a refusal keeps the context that was
    found until then."""

    n_ctx: int
    n_gpu_layers: int = -1
    given: tuple[Given, ...] = ()
    moved: tuple[Override, ...] = ()
    refused: str = ""

    @property
    def tensor_split(self) -> tuple[int, ...]:
        """Layers of each device, where there are several."""
        return tuple(each.layers for each in self.given) if len(self.given) > 1 else ()


Measure = Callable[[Trial], Sequence[Need]]


def fitted(
    subject: Subject, devices: Sequence[Device], host_bytes: int, measure: Measure, margins_mib: Sequence[int] = (MARGIN_MIB,)
) -> Choice:
    """What the engine would run with.

    Args:
        subject: the model and the command line.
        devices: those that take part.
        host_bytes: the host's memory, which counts where there are no devices.
        measure: what a load needs on each device and, last, on the host.
        margins_mib: MiB that each device keeps free; one stands for all.
    """
    return _Fit(subject, devices, host_bytes, measure, margins_mib).run()


def moved_by(given: Sequence[Given], blocks: int) -> tuple[Override, ...]:
    """The overrides of a distribution: numbers of blocks count from the first one that is given away."""
    found, block = [], blocks + 1 - sum(each.layers for each in given)
    for each in given:
        block += each.full
        further = range(block, block + each.part)
        if each.part and (each.leaves != "moe" or each.to != "CPU"):
            first = experts_of([block]) if each.leaves == "moe" else _PATTERNS[each.leaves].format(block)
            found.append(Override(first, each.to))
            further = further[1:]
        if further:
            found.append(Override(experts_of(further), "CPU"))
        block += each.part
    return tuple(found)


class _Fit:
    """One run; `mem` is what the distribution that was kept last needs on each device."""

    def __init__(
        self, subject: Subject, devices: Sequence[Device], host_bytes: int, measure: Measure, margins_mib: Sequence[int]
    ) -> None:
        self.s = subject
        self.devices = devices
        self.count = len(devices)
        self.host_bytes = host_bytes
        self.measure = measure
        several = [*margins_mib, *[margins_mib[-1]] * max(self.count - len(margins_mib), 0)]
        self.margins = [each * MIB for each in several[: max(self.count, 1)]]
        self.n_ctx = subject.n_ctx

    def run(self) -> Choice:
        """Steps 1 to 4."""
        full = self.measure(Trial(n_ctx=self.n_ctx))
        if not self.n_ctx:
            self.n_ctx = self.s.context_length * self.s.streams
            if self.s.streams > 1:  # the first load had the model's length for all sequences together
                full = self.measure(Trial(n_ctx=self.n_ctx))
        if self._met(full):
            return Choice(n_ctx=self.n_ctx)
        if self._shorten(full) and self.count <= 1:
            return Choice(n_ctx=self.n_ctx)
        refused = self._refusal()
        if refused:
            return Choice(n_ctx=self.n_ctx, n_gpu_layers=self.s.n_gpu_layers, refused=refused)
        return self._layers()

    def _free(self, device: int) -> int:
        return self.devices[device].free_bytes

    def _met(self, needs: Sequence[Need]) -> bool:
        """Whether every device keeps its margin."""
        if not self.count:
            return self.host_bytes - needs[-1].total >= self.margins[0]
        return all(self._free(i) - needs[i].total >= self.margins[i] for i in range(self.count))

    def _sum(self, needs: Sequence[Need]) -> int:
        return needs[-1].total if not self.count else sum(need.total for need in needs[: self.count])

    def _shorten(self, full: Sequence[Need]) -> bool:
        """Shorten the context where all devices together are short; whether that is all that is needed."""
        free = sum(self._free(i) for i in range(self.count)) if self.count else self.host_bytes
        used, target = self._sum(full), free - sum(self.margins)
        if target - used >= 0 or self.s.n_ctx or self.s.keeps_context:
            return False
        largest, least = self.n_ctx, self.s.floor * self.s.streams
        if largest <= least:
            return False
        if self.count > 1:  # whole layers, or tensors of experts, go to a device: half of one is wasted on each
            model = sum(need.model for need in full[: self.count])
            given = self.s.blocks if self.s.n_gpu_layers < 0 else min(self.s.n_gpu_layers, self.s.blocks)
            target -= (self.count + 1) * _quotient(model, max(given, 1)) // (6 if self.s.experts else 2)
        self.n_ctx = least
        shortest = self._sum(self.measure(Trial(n_ctx=least)))
        if not (target > shortest and used > shortest):
            return False
        found = least + (largest - least) * (target - shortest) // (used - shortest)
        self.n_ctx = max(found - found % (256 * self.s.streams), least)
        return True

    def _refusal(self) -> str:
        if not self.count:
            return "was unable to fit model into system memory by reducing context, abort"
        if self.s.n_gpu_layers != -1:
            return f"n_gpu_layers already set by user to {self.s.n_gpu_layers}, abort"
        if self.count > 1 and self.s.split_set:
            return "model_params::tensor_split already set by user, abort"
        if self.count > 1 and self.s.rows:
            return "changing weight allocation for LLAMA_SPLIT_MODE_ROW not implemented, abort"
        if self.s.moved:
            return "model_params::tensor_buft_overrides already set by user, abort"
        return ""

    def _trial(self, given: Sequence[Given]) -> list[int]:
        needs = self.measure(Trial(n_ctx=self.n_ctx, given=tuple(given)))
        return [need.total for need in needs[: self.count]]

    def _layers(self) -> Choice:
        surplus = 0
        if self.s.experts:
            needs = self.measure(Trial(n_ctx=self.n_ctx, cpu_moe=True))
            surplus = sum(self._free(i) - needs[i].total - self.margins[i] for i in range(self.count))
        self.targets = [self._free(i) - self.margins[i] for i in range(self.count)]
        self.given = [Given() for _ in self.devices]
        self.mem = self._trial(self.given)
        for device in reversed(range(self.count)):
            self._fill(device)
        if self.s.experts and surplus > 0:
            self._whole_layers()
        return Choice(
            n_ctx=self.n_ctx,
            n_gpu_layers=sum(each.layers for each in self.given),
            given=tuple(self.given),
            moved=moved_by(self.given, self.s.blocks),
        )

    def _step(self, delta: int, device: int, high: Sequence[int]) -> int:
        """False position between what fits and what does not."""
        room = high[device] - self.mem[device]
        step = _quotient(delta * (self.targets[device] - self.mem[device]), room) % 2**32 if room > 0 else delta - 1
        return min(max(step, 1), delta - 1)

    def _fill(self, device: int) -> None:
        """As many layers as fit on `device`, of those that later ones left."""
        last = device == self.count - 1
        left = self.s.blocks + 1 - sum(each.layers for each in self.given[device + 1 :])
        if left <= 0:
            return
        high = list(self.given)
        high[device] = replace(high[device], layers=left, part=(left - last) if self.s.experts else high[device].part)
        mem_high = self._trial(high)
        if mem_high[device] <= self.targets[device]:
            self.given, self.mem = high, mem_high
            return
        while (delta := high[device].layers - self.given[device].layers) > 1:
            step = self._step(delta, device, mem_high)
            test, now = list(self.given), self.given[device]
            part = now.part
            if self.s.experts:  # the first layer is the output, which has no part
                part += step - 1 if last and not now.part else step
            test[device] = replace(now, layers=now.layers + step, part=part)
            mem = self._trial(test)
            if mem[device] <= self.targets[device]:
                self.given, self.mem = test, mem
            else:
                high, mem_high = test, mem

    def _whole_layers(self) -> None:
        """Turn layers without experts into whole ones, front to back."""
        start = next((i for i in range(self.count) if all(self.given[j].layers > 0 for j in range(i, self.count))), self.count)
        device = 0
        while device <= start < self.count:
            start = self._convert(device, start)
            start = self._one_more(device, start)
            device += 1

    def _convert(self, device: int, start: int) -> int:
        high = list(self.given)
        for other in range(start, self.count):
            moving = high[other].layers - (other == self.count - 1)
            high[device] = replace(high[device], layers=high[device].layers + moving)
            high[other] = replace(high[other], layers=high[other].layers - moving, part=0)
        mem_high = self._trial(high)
        if mem_high[device] <= self.targets[device]:
            self.given, self.mem = high, mem_high
            return self.count - 1
        while (delta := high[device].full - self.given[device].full) > 1:
            step, test, at, done = self._step(delta, device, mem_high), list(self.given), start, 0
            while at < self.count:
                some = min(step - done, test[at].part)
                test[at] = replace(test[at], layers=test[at].layers - some, part=test[at].part - some)
                test[device] = replace(test[device], layers=test[device].layers + some)
                done += some
                if test[at].part > 0:
                    break
                at += 1
            mem = self._trial(test)
            if mem[device] <= self.targets[device]:
                self.given, self.mem, start = test, mem, at
            else:
                high, mem_high = test, mem
        return start

    def _one_more(self, device: int, start: int) -> int:
        """Part of one more layer, where it fits strictly."""
        last = device == self.count - 1
        if start >= self.count or self.given[start].layers <= last:
            return start
        test, after = list(self.given), start
        test[start] = replace(test[start], layers=test[start].layers - 1, part=test[start].part - 1)
        test[device] = replace(test[device], layers=test[device].layers + 1, part=test[device].part + 1)
        after += test[start].part == 0
        to = "CPU" if last else self.devices[device + 1].name
        kept = False
        for leaves in ("up", "gate"):
            if self._keeps(device, test, leaves, to):
                kept = True
            elif not kept:
                kept = self._keeps(device, test, "attn", to)
                break
            else:
                break
        return after if kept else start

    def _keeps(self, device: int, test: Sequence[Given], leaves: Leaves, to: str) -> bool:
        trial = list(test)
        trial[device] = replace(trial[device], leaves=leaves, to=to)
        mem = self._trial(trial)
        fits = mem[device] < self.targets[device] and (device + 1 == self.count or mem[device + 1] < self.targets[device + 1])
        if fits:
            self.given, self.mem = trial, mem
        return fits


def all_experts() -> tuple[Override, ...]:
    """Every expert to the host."""
    return (Override(ALL_EXPERTS, "CPU"),)


def _quotient(a: int, b: int) -> int:
    """C's quotient, towards zero."""
    return a // b if (a >= 0) == (b > 0) else -(-a // b)
