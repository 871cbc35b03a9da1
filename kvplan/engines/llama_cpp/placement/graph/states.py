"""The first half of a block that keeps a state: Mamba, Mamba-2, gated DeltaNet.

Source: llama.cpp 0c1e57098, `src/models/mamba-base.cpp` (`build_mamba_layer`, `build_mamba2_layer`), `src/models/qwen35.cpp`,
`src/models/delta-net-base.cpp` (`build_conv_state`, `build_recurrent_attn`, fused), `src/llama-graph.cpp` (`build_rs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from kvplan.engines.llama_cpp.placement.graph.heap import Node
from kvplan.engines.llama_cpp.placement.graph.sizes import Sizes
from kvplan.engines.llama_cpp.placement.graph.tape import Tape
from kvplan.engines.llama_cpp.placement.weights import Matrix


class States(Struct, frozen=True, kw_only=True):
    """The states that a block reads.

    Attributes:
        copied: which sequences' they are.
        rows: gathers the past inputs of the convolution.
        ahead: gathers those of the next block where that comes before the rest of this one; the device of what comes then.
    """

    copied: Node
    rows: Callable[[], Node]
    ahead: Callable[[], int]


def nothing_more(tape: Tape, copied: Node) -> None:
    """The states of sequences that the batch has none of: a tensor of no bytes, which is placed and freed like others."""
    tape.stored(tape.tensor(0, reads=(copied,)))


def _convolved(tape: Tape, s: Sizes, past: Node, mixed: Node, channels: int) -> Node:
    """The last inputs before the new ones, which are then convolved; the last of them are stored."""
    taps = max(s.h.conv_kernel, 1)
    each = mixed.shape[-1] // s.sequences
    joined = tape.tensor(taps - 1 + each, channels, s.sequences, reads=(past, mixed))
    tape.stored(tape.view(joined, taps - 1, channels, s.sequences, size=0))
    return joined


def mamba(tape: Tape, s: Sizes, current: Node, block: Mapping[str, Matrix], states: States) -> Node:
    """Selective scan of one step size a channel."""
    inner, state, rank = (s.number(f"ssm.{name}") for name in ("inner_size", "state_size", "time_step_rank"))
    past = states.rows()
    into = tape.over(tape.over(current))
    tokens = into.shape[-1]
    both = tape.tensor(2 * inner, tokens, reads=(into,))
    gate = tape.view(both, inner, tokens, size=4 * (2 * inner * (tokens - 1) + inner))
    joined = _convolved(tape, s, past, tape.view(both, inner, tokens, size=0), inner)
    x = tape.over(tape.over(tape.tensor(inner, tokens, reads=(joined,))))
    small = tape.tensor(rank + 2 * state, tokens, reads=(x,))
    step = tape.tensor(rank, tokens, reads=(tape.view(small, rank, tokens, size=0),))
    step = tape.over(tape.tensor(inner, tokens, reads=(step,)))
    sides: tuple[Node, ...] = (small,)
    if "ssm_b_norm" in block:
        sides = tuple(tape.tensor(state, tokens, reads=(tape.view(small, state, tokens, size=0),)) for _ in range(2))
    return _scanned(tape, s, x, x, (step, *sides, states.copied), gate, inner, state, states)


def mamba2(tape: Tape, s: Sizes, current: Node, block: Mapping[str, Matrix], states: States) -> Node:
    """Selective scan of one step size a head."""
    inner, state, count = (s.number(f"ssm.{name}") for name in ("inner_size", "state_size", "time_step_rank"))
    channels = inner + 2 * s.number("ssm.group_count") * state
    past = states.rows()
    into = tape.over(tape.over(current))
    tokens = into.shape[-1]
    whole = tape.tensor(inner + channels + count, tokens, reads=(into,))
    gate = tape.view(whole, inner, tokens, size=4 * ((inner + channels + count) * (tokens - 1) + inner))
    joined = _convolved(tape, s, past, tape.view(whole, channels, tokens, size=0), channels)
    mixed = tape.over(tape.over(tape.tensor(channels, tokens, reads=(joined,))))
    x = tape.view(mixed, inner, tokens, size=0)
    step = tape.over(tape.tensor(count, tokens, reads=(tape.view(whole, count, tokens, size=0),)))
    return _scanned(tape, s, x, mixed, (step, states.copied), gate, inner, state, states, grouped="ssm_norm" in block)


def _scanned(
    tape: Tape,
    s: Sizes,
    x: Node,
    mixed: Node,
    beside: tuple[Node, ...],
    gate: Node,
    inner: int,
    state: int,
    states: States,
    *,
    grouped: bool = False,
) -> Node:
    """The scan, whose result ends with the new states, the direct path beside it, and the gate.

    The states of the next block are gathered before the gate is copied, so that it is copied where that block lies.
    """
    tokens = x.shape[-1]
    kept = inner * state * s.sequences * (1 + s.snapshots)
    found = tape.tensor(inner * tokens + kept, reads=(x, mixed, *beside))
    nothing_more(tape, beside[-1])
    tape.stored(tape.view(found, kept, size=4 * kept))
    y = tape.view(found, inner, tokens, size=4 * inner * tokens)
    home = tape.device
    tape.device = states.ahead()
    gate = tape.tensor(inner, tokens, reads=(gate,))
    tape.device = home
    gate = tape.here(gate)
    direct = tape.tensor(inner, tokens, reads=(x,), in_place=True)
    y = tape.tensor(inner, tokens, reads=(y, direct), in_place=True)
    y = tape.tensor(inner, tokens, reads=(gate, y))
    if grouped:
        y = tape.over(tape.tensor(inner, tokens, reads=(tape.view(y, inner, tokens),)))
    return tape.tensor(s.h.n_embd, tokens, reads=(y,))


def delta(tape: Tape, s: Sizes, current: Node, block: Mapping[str, Matrix], states: States) -> Node:
    """Gated DeltaNet, fused."""
    del block
    inner, width, groups, count = (
        s.number(f"ssm.{name}") for name in ("inner_size", "state_size", "group_count", "time_step_rank")
    )
    into = tape.over(tape.over(current))
    tokens = into.shape[-1]
    channels = inner + 2 * groups * width
    past = states.rows()
    joined = _convolved(tape, s, past, tape.tensor(channels, tokens, reads=(into,)), channels)
    state = tape.tensor(s.h.s_elements, s.sequences, reads=(states.copied,))
    nothing_more(tape, states.copied)
    mixed = tape.over(tape.tensor(channels, tokens, reads=(joined,)))
    sides = []
    for _ in range(2):
        side = tape.tensor(width, groups, tokens, reads=(tape.view(mixed, width, groups, tokens, size=0),))
        if groups != count:
            side = tape.tensor(width, count, tokens, reads=(side,))
        sides.append(side)
    values = tape.view(mixed, inner, tokens, size=0)
    decay, beta = (tape.over(tape.tensor(count, tokens, reads=(into,))) for _ in range(2))
    kept = s.h.s_elements * s.sequences * (1 + s.snapshots)
    found = tape.tensor(inner * tokens + kept, reads=(*sides, values, decay, beta, state))
    tape.stored(tape.view(found, kept, size=4 * kept))
    out = tape.over(tape.over(tape.view(found, inner, tokens, size=4 * inner * tokens)))
    gate = tape.over(tape.tensor(inner, tokens, reads=(into,)))
    return tape.tensor(s.h.n_embd, tokens, reads=(tape.over(out, gate),))


SCANS: Final[dict[str, Callable[[Tape, Sizes, Node, Mapping[str, Matrix], States], Node]]] = {
    "mamba": mamba,
    "mamba2": mamba2,
    "delta": delta,
}


def kind_of(block: Mapping[str, Matrix]) -> str:
    """Mamba by the matrix of its step sizes, DeltaNet by that of its decay, Mamba-2 by having neither; empty: another one."""
    if "ssm_x" in block:
        return "mamba"
    if "attn_qkv" in block and "attn_gate" in block:
        return "delta"
    return "mamba2" if "ssm_in" in block and "ssm_out" in block else ""
