"""What `kvplan replay` shows: whether the trace has room, what the cache held, and how that went over time."""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from msgspec import Struct

from kvplan.domain.tables import Cell, Column, Table
from kvplan.domain.traffic import SECOND
from kvplan.questions.replay import Replay
from kvplan.report.answers.engine_words import engine_words
from kvplan.report.blocks import Block, Notes, Rows, Verdict, View
from kvplan.report.figures import Axis, Curves, Line, Picture
from kvplan.units import human_bytes

#: The keys of the JSON that are no columns of the CSV.
_NO_COLUMNS: Final = frozenset({"columns", "timeline", "notes"})
#: Lines of the plot.
_LINES: Final = 24


class ReplayAnswer(Struct, frozen=True):
    """One trace on the servers of one model."""

    key: ClassVar[str] = "replay"
    replay: Replay

    def dicts(self) -> dict[str, Any]:
        """The whole answer."""
        return self.replay.to_dict()

    def rows(self) -> Rows:
        """One row: what the JSON has, without the timeline."""
        row = {key: value for key, value in self.replay.to_dict().items() if key not in _NO_COLUMNS}
        return tuple(row), [row]

    def blocks(self, view: View) -> Iterator[Block]:
        """The verdict, the figures, and the plot."""
        r = self.replay
        yield Verdict(verdict(r), yes=r.keeps_up)
        yield figures(r)
        yield plot(r)
        yield Notes(list(_notes(r)))

    def figures(self, view: View) -> list[Picture]:
        """The tokens held over time."""
        return [timeline(self.replay)]


def timeline(r: Replay) -> Curves:
    """What the caches held: the mean of all servers, the most of one, and what one can hold."""
    line = r.outcome.timeline
    minutes = tuple(i * line.width_us / SECOND / 60 for i in range(len(line.held) + 1))
    answer = r.to_dict()["timeline"]
    several = r.replicas > 1
    return Curves(
        name="timeline",
        title=f"{r.question.model.name} · {engine_words(r.question.engine)} · {r.trace}",
        x=Axis(title="Minutes since the first request"),
        y=Axis(title="Tokens held", kind="tokens"),
        lines=(
            Line(
                label=f"mean of {r.replicas} servers" if several else "mean",
                x=minutes,
                y=tuple(answer["mean_tokens"]),
                steps=True,
                filled=True,
            ),
            Line(label="most in one server" if several else "most", x=minutes, y=tuple(answer["peak_tokens"]), steps=True),
        ),
        levels=(("room in one server" if several else "room", r.pool.num_tokens),),
        notes=tuple(_notes(r)),
    )


def verdict(r: Replay) -> str:
    """The answer in one line."""
    where = f"{r.gpus} x {r.question.gpu.id}" if r.gpus > 1 else r.question.gpu.id
    share = 100 * r.peak // max(1, r.blocks)
    if r.keeps_up:
        return f"HAS ROOM on {where}: at most {r.tokens(r.peak):,} of {r.pool.num_tokens:,} tokens ({share} %) are held"
    needed = f"; {r.gpus_needed} GPUs would do" if r.gpus_needed is not None else ""
    return (
        f"SHORT OF ROOM on {where}: {r.outcome.waited:,} of {r.requests:,} requests wait, {r.outcome.preempted:,} are displaced"
        f"{needed}"
    )


def figures(r: Replay) -> Table:
    """What one server's cache held, and what became of the requests."""
    out, block = r.outcome, r.pool.block_bytes
    rows: list[tuple[Cell, ...]] = []

    def held(name: str, blocks: int, more: str = "") -> None:
        rows.append((name, f"{r.tokens(blocks):,} tokens", f"{human_bytes(blocks * block)}{more}"))

    low, high = r.capacity_span
    span = f", {low:,} to {high:,} tokens" if low != high else ""
    rows.append(("capacity", f"{r.pool.num_tokens:,} tokens", f"{human_bytes(r.blocks * block)}{span}"))
    held("peak", r.peak)
    held("99 % of the time at most", r.percentile(0.99))
    held("half of the time at most", r.percentile(0.5))
    rows.append(("above 90 %", f"{r.nearly_full_us / SECOND:,.1f} s", f"of {r.seconds:,.1f} s"))
    middle, late = r.wait_seconds
    rows.append(
        ("requests that wait", f"{out.waited:,}", f"of {r.requests:,}; half {middle:,.2f} s, one in 100 {late:,.2f} s or more")
    )
    rows.append(("requests displaced", f"{out.preempted:,}", f"{out.preemptions:,} times"))
    if out.refused:
        rows.append(("requests refused", f"{out.refused:,}", f"longer than {r.pool.max_model_len:,} tokens, or empty"))
    if r.media_tokens:
        rows.append(("tokens of media", f"{r.media_tokens:,}", f"in the prompts of {r.media_requests:,} requests"))
    rows.append(("prompt tokens found", f"{100 * r.hit_rate:.1f} %", f"{r.hit_tokens:,} of {out.asked_tokens:,}"))
    rows += _below(r)
    rows.append(("resident sessions", f"{r.resident:,}", "requests of mean length that the cache keeps at once"))
    rows.append(("GPUs needed", "not found" if r.gpus_needed is None else f"{r.gpus_needed:,}", r.needed_note))
    q = r.question
    title = f"{q.model.name} · {engine_words(q.engine)} · {r.trace}, {r.requests:,} requests"
    return Table(
        title=title + (f" on {r.replicas} servers" if r.replicas > 1 else ""),
        columns=(
            Column(title="of one server" if r.replicas > 1 else "what", key="what", kind="name"),
            Column(title="held", key="value", kind="count"),
            Column(title="", key="more", kind="text", quiet=True, room=24),
        ),
        rows=tuple(rows),
    )


def _below(r: Replay) -> Iterator[tuple[Cell, ...]]:
    """Where prompts were found, and what host memory held."""
    found = r.to_dict()
    if r.host is None:
        return
    yield "  on the device", f"{100 * found['device_hit_rate']:.1f} %", f"{found['device_hit_tokens']:,} tokens"
    yield "  in host memory", f"{100 * found['host_hit_rate']:.1f} %", f"{found['host_hit_tokens']:,} tokens"
    size = {name: human_bytes(found[f"host_{name}_bytes"]) for name in ("room", "peak", "mean", "stored", "loaded", "evicted")}
    yield "host memory", size["peak"], f"at most, of {size['room']}; {size['mean']} on average"
    yield "stored there", size["stored"], f"{size['evicted']} evicted, {size['loaded']} loaded"


def plot(r: Replay) -> Table:
    """Tokens held over time: the mean of each stretch as a bar of the capacity, and the most."""
    line = r.outcome.timeline
    each = max(1, -(-len(line.held) // _LINES))
    whole = max(1, r.blocks * r.replicas)
    rows: list[tuple[Cell, ...]] = []
    for first in range(0, len(line.held), each):
        held = sum(line.held[first : first + each])
        blocks = held / (line.width_us * min(each, len(line.held) - first))
        peak = max(line.peaks[first : first + each])
        share = blocks / whole
        rows.append((_clock(first * line.width_us), r.tokens(int(blocks)), r.tokens(peak), f"{100 * share:.0f} %", share))
    peaks = "peak of one" if r.replicas > 1 else "peak"
    return Table(
        title="tokens held over time, as parts of the capacity",
        columns=(
            Column(title="from", key="from", kind="count"),
            Column(title="mean", key="mean_tokens", kind="tokens"),
            Column(title=peaks, key="peak_tokens", kind="tokens", drop=1),
            Column(title="", key="percent", kind="count"),
            Column(title="", key="share", kind="bar"),
        ),
        rows=tuple(rows),
    )


def _clock(microseconds: int) -> str:
    """A time since the start: h:mm:ss.

    >>> _clock(3_661_000_000)
    '1:01:01'
    """
    seconds = microseconds // SECOND
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _notes(r: Replay) -> Iterator[str]:
    yield from r.notes
    said = f"a step lasts max(prefill tokens / {r.clock.prefill_rate:,.0f}, 1 / {r.clock.decode_rate:,.1f}) seconds"
    yield f"{said}; rates {r.rates}" if r.rates != "given" else said
