"""Which runs are made: lengths and batch sizes to fit, more where two laws would part, and some that only check."""

import time
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from kvplan.errors import KvplanError
from kvplan.questions.measure.laws import parting
from kvplan.questions.measure.observed import MOST_POINTS, Facts, NotMeasured, Observation, Point
from kvplan.questions.measure.series import together
from kvplan.questions.measure.subjects import Subject, words_of

#: Tokens of the first runs; each further one is three times as long.
_FIRST: Final = (3, 4, 8)
_BATCH: Final = 2
#: Lengths that a run reaches where nothing says more, in tokens.
_USUAL: Final = 5000
_MOST: Final = 2**18
#: Keys of a config that say how far back something looks.
_REACHING: Final = ("window", "chunk", "local", "compress", "stride", "segment", "memory", "mem_len", "ratio", "rate")
_ENCODERS: Final = (7, 12)
#: Share of the time that the lengths may take.
_SHARE: Final = 0.7
#: Weights of a model that is run with numbers, and bytes of attention scores.
_SMALL: Final = 2**24
_SCORES: Final = 2**25


class Clock:
    """Seconds of work since it was made: processor time, or half of what passed where that is more (a busy machine)."""

    def __init__(self) -> None:
        self._work, self._wall = time.process_time(), time.monotonic()

    def __call__(self) -> float:
        """Seconds so far."""
        return max(time.process_time() - self._work, (time.monotonic() - self._wall) / 2)


def observe(subject: Subject, seconds: float = 60.0) -> Observation:
    """Run a model at lengths and batch sizes: with numbers where that is cheap, else on torch's meta device.

    Args:
        subject: the model, which stays as it is.
        seconds: about how much processor time; the lengths end where it does.

    Raises:
        NotMeasured: the code fails at the shortest length, or nothing lives on.
    """
    runs = _Runs(subject, seconds)
    runs.lengths()
    runs.batches()
    runs.parted()
    runs.checks()
    return Observation(
        facts=replace(runs.facts, device=" and ".join(sorted(runs.devices))),
        points=tuple(runs.points),
        remarks=tuple(runs.remarks),
        seconds=runs.clock(),
    )


def run_again(subject: Subject, points: Sequence[Point]) -> list[Point]:
    """The same runs of another model.

    Raises:
        NotMeasured: the code fails.
    """
    runs = _Runs(subject, 0.0)
    for point in points:
        runs.add(point.seq_len, point.batch_size, encoder=point.encoder_len, prompt=point.prompt_len, check=point.check)
    return runs.points


class _Runs:
    """The runs so far."""

    def __init__(self, subject: Subject, seconds: float) -> None:
        self.near, self.deadline, self.clock = subject, seconds, Clock()
        self.facts: Facts = subject.facts()
        self.points: list[Point] = []
        self.remarks: list[str] = []
        self.devices: set[str] = set()
        self.encoder = _ENCODERS[0] if self.facts.encoder else 0
        self.took = 0.0
        self.meta = str(subject.device) == "meta"
        self.most = self._affordable()
        self._far: Subject | None = None
        self._first: Point | None = None  # the first run, where it was made to see whether it can be

    def _affordable(self) -> int:
        """Tokens of the longest run with numbers: of a small model, and as far as the scores of its attention stay small."""
        if self.meta:
            return 0
        if sum(weight.numel() for weight in self.near.network.parameters()) > _SMALL:
            return 0
        return int((_SCORES / (_BATCH * (self.facts.attention_heads or 8) * 8)) ** 0.5)

    def far(self) -> Subject:
        """The model on the meta device; with numbers after all where its code does not do without."""
        if self._far is None:
            moved = self.near
            try:
                moved = self.near if self.meta else self.near.on_meta()
                self._first = moved.run(_BATCH, _FIRST[0], _FIRST[0] - 1, self.encoder)
            except Exception as problem:  # whatever the code raises without numbers to work on
                moved = self.near.with_numbers() if self.meta and self.near.with_numbers else self.near
                if str(moved.device) != "meta":
                    self.remarks.append(f"with numbers, since torch's meta device does not do: {words_of(problem)[:160]}")
            self._far = moved
        return self._far

    def lengths(self) -> None:
        """From a few tokens to beyond every length that the config names, as far as the time goes.

        Where a longer prompt takes no longer (nothing is computed on the meta device), the longest comes first.
        """
        wanted, most = _longest(self.facts)
        end = self.clock() + _SHARE * (self.deadline - self.clock())
        waiting = list(_ladder(wanted, most))
        took: list[float] = []
        while waiting:
            flat = len(took) >= len(_FIRST) and took[-1] < 2 * min(took) and waiting[0] > self.most
            length = waiting.pop(-1 if flat else 0)
            left = end - self.clock()
            if len(self.points) > len(_FIRST) and (left < 0 or (1 if flat else 4) * self.took > left):
                self.remarks.append(f"no longer than {self.reached:,} tokens, for want of time")
                break
            try:
                self.add(length)
            except NotMeasured as problem:
                if len(self.points) < len(_FIRST):
                    raise
                self.remarks.append(f"not {length:,} tokens: {str(problem)[:160]}")
                waiting = [shorter for shorter in waiting if shorter < length]
            took.append(self.took)
        if self.reached < wanted:
            named = sorted(size for size in _named(self.facts) if size > self.reached)
            if named:
                said = ", ".join(f"{size:,}" for size in named[:4])
                self.remarks.append(f"its config names lengths that no run reached ({said} tokens): beyond, nothing was measured")
        if not any(held.storage_bytes for point in self.points for held in point.held):
            raise NotMeasured(
                f"{self.facts.name} keeps no tensor from one step to the next",
                hint="hand the cache back (`return logits, past`), or keep it on the module",
            )

    @property
    def reached(self) -> int:
        """Tokens of the longest run."""
        return max((point.seq_len for point in self.points), default=0)

    def batches(self) -> None:
        """Another batch size, and another length of the encoder's output."""
        self.add(_FIRST[-1], batch_size=_BATCH + 1)
        if self.encoder:
            self.encoder = _ENCODERS[1]
            self.add(_FIRST[-1])
            self.encoder = _ENCODERS[0]

    def parted(self) -> None:
        """More lengths, where two laws fit that would part there."""
        most = max(point.seq_len for point in self.points)
        for _ in range(8):
            taken = [point.seq_len for point in self.points]
            lengths = (parting(series.laws, taken, most) for series in together(self.points, self.facts))
            found = next((length for length in lengths if length is not None), None)
            if found is None or self.clock() > self.deadline:
                return
            self.add(found)

    def checks(self) -> None:
        """Lengths and a batch size that no law has seen, several tokens decoded one by one."""
        taken = sorted({point.seq_len for point in self.points})
        longest = taken[-1]
        between = next(length for length in range(longest * 2 // 3, longest + 9) if length not in taken)
        short = next(length for length in range(11, 99) if length not in taken)
        encoder = self.encoder and sum(_ENCODERS)
        self.add(short, 1, encoder=encoder, prompt=short - 3, check=True)
        self.add(between, 1, encoder=encoder, check=True)

    def add(
        self, seq_len: int, batch_size: int = _BATCH, *, encoder: int | None = None, prompt: int = 0, check: bool = False
    ) -> None:
        """One run; all but the last token at once unless a `prompt` is given."""
        if len(self.points) >= MOST_POINTS:
            return
        start = self.clock()
        subject = self.near if seq_len <= self.most else self.far()
        made, self._first = self._first, None
        try:
            found = made if made is not None and seq_len == _FIRST[0] and batch_size == _BATCH else None
            found = found or subject.run(
                batch_size, seq_len, prompt or seq_len - 1, self.encoder if encoder is None else encoder, check=check
            )
        except (KvplanError, MemoryError):
            raise
        except Exception as problem:  # whatever the code raises is its answer
            raise failed(problem, self.facts, f"on {seq_len:,} tokens") from problem
        self.points.append(found)
        self.devices.add(str(subject.device))
        self.took = self.clock() - start


def failed(problem: Exception, facts: Facts, what: str) -> NotMeasured:
    """The error for code that raises: its last line in the file that was given, and its words."""
    where = line_in(problem, facts.source.partition(":")[0]) if facts.source else ""
    return NotMeasured(
        f"{where or facts.name}: {facts.name} does not run {what}: {words_of(problem)}", hint="mend the code, or another config"
    )


def line_in(problem: BaseException, file: str) -> str:
    """`FILE:LINE` of the innermost frame in a file; empty where none is."""
    import traceback
    from pathlib import Path

    lines = [
        frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if Path(frame.filename).name == Path(file).name
    ]
    if isinstance(problem, SyntaxError) and problem.lineno:
        lines.append(problem.lineno)
    return f"{file}:{lines[-1]}" if lines else ""


def _named(facts: Facts) -> list[int]:
    """Lengths that the config names: windows, chunks, and the like, in tokens."""
    return [size for key, size in facts.numbers.items() if any(word in key.lower() for word in _REACHING) and size <= _MOST]


def _longest(facts: Facts) -> tuple[int, int]:
    """Tokens that a run should reach, and those that it can."""
    most = min(facts.max_tokens or _MOST, _MOST)
    return min(max([_USUAL, *(size + size // 3 + 2 for size in _named(facts))]), most), most


def _ladder(wanted: int, most: int) -> Iterator[int]:
    """Lengths, each three times as long, the last of them beyond what is wanted as far as that can be."""
    length = 0
    for length in _FIRST:
        if length <= most:
            yield length
    while length < wanted:
        length = min(3 * length + 1, most)
        yield length
        if length == most:
            return
