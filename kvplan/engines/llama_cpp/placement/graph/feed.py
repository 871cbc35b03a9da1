"""The second half of a block: a feed-forward, or experts.

Source: llama.cpp 0c1e57098, `src/llama-graph.cpp` (`build_ffn`, `build_moe_ffn`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from kvplan.engines.llama_cpp.placement.graph.heap import Node
from kvplan.engines.llama_cpp.placement.graph.sizes import Sizes
from kvplan.engines.llama_cpp.placement.graph.tape import Tape
from kvplan.engines.llama_cpp.placement.weights import Matrix

#: Architectures whose experts' weights are not divided by their sum.
_UNSCALED: Final = frozenset({"deepseek", "jamba", "llada-moe", "llama4", "olmoe", "qwen2moe"})


class Following(Struct, frozen=True, kw_only=True):
    """What of the next block comes before this one ends.

    Attributes:
        gather: its states.
        inputs: copies of the batch's inputs that it reads, where it lies on the same device.
    """

    gather: Callable[[], int]
    inputs: Callable[[], None]


def dense(tape: Tape, into: Node, up: Matrix, *, gated: bool, rows: int) -> Node:
    """Up, gate, their product, down; without a gate, up and down."""
    tokens = into.shape[-1]
    sides = [tape.tensor(up.rows, tokens, reads=(into,)) for _ in range(1 + gated)]
    first = tape.tensor(up.rows, tokens, reads=tuple(sides), in_place=not gated)
    return tape.tensor(rows, tokens, reads=(first,))


def experts(tape: Tape, s: Sizes, into: Node, block: Mapping[str, Matrix], next_block: Following) -> Node:
    """Routed experts, and the shared one beside them, before which the next block's states are gathered."""
    wide, tokens = into.shape
    home = tape.device
    up, gate, both, down = (block.get(f"ffn_{name}_exps") for name in ("up", "gate", "gate_up", "down"))
    first = up or both
    if first is None or down is None:
        raise KeyError("ffn_up_exps")
    used, count = s.number("expert_used_count"), first.depth
    logits = tape.tensor(count, tokens, reads=(into,))
    probabilities = tape.over(logits)
    order = tape.tensor(count, tokens, reads=(probabilities,))
    chosen = tape.view(order, used, tokens, size=4 * (count * (tokens - 1) + used))
    weights = tape.tensor(1, used, tokens, reads=(tape.view(probabilities, 1, count, tokens), chosen))
    if s.h.arch == "gpt-oss":
        weights = tape.view(tape.over(tape.view(weights, used, tokens)), 1, used, tokens)
    elif s.h.arch not in _UNSCALED:
        flat = tape.view(weights, used, tokens)
        total = tape.tensor(1, tokens, reads=(flat,))
        weights = tape.view(tape.tensor(used, tokens, reads=(flat, tape.over(total)), in_place=True), 1, used, tokens)
    single = tape.view(into, wide, 1, tokens)
    if first.host or down.host:  # operations with weights on the host go to the first device that takes them
        tape.device = 0 if s.offloads else s.host
    inner = down.columns
    if both is not None:
        joined = _multiplied(tape, both, single, chosen, used, s.host)
        size = joined.bytes - 4 * inner
        sides = [tape.view(joined, inner, used, tokens, size=size) for _ in range(2)]
        hidden = tape.tensor(inner, used, tokens, reads=(sides[0], sides[1]))
    else:
        sides = [_multiplied(tape, each, single, chosen, used, s.host) for each in (gate, up) if each is not None]
        hidden = tape.tensor(inner, used, tokens, reads=tuple(sides), in_place=len(sides) == 1)
    found = _multiplied(tape, down, hidden, chosen, used, s.host, next_block.inputs)
    if tape.device == s.host:
        tape.device = home
    found = tape.over(tape.here(found), weights)  # what follows without weights of its own stays on a device
    each = [tape.view(found, wide, tokens, size=4 * (used * wide * (tokens - 1) + wide)) for _ in range(used)]
    out = each[0]
    for one in each[1:]:
        out = tape.tensor(wide, tokens, reads=(out, one), in_place=True)
    if used == 1:
        out = tape.tensor(wide, tokens, reads=(out,))
    tape.device = next_block.gather()
    shared = block.get("ffn_up_shexp")
    if shared is not None:
        tape.device = home
        out = tape.over(tape.here(out), dense(tape, into, shared, gated="ffn_gate_shexp" in block, rows=wide))
    return out


def _multiplied(
    tape: Tape, by: Matrix, into: Node, chosen: Node, used: int, host: int, beside: Callable[[], None] | None = None
) -> Node:
    """A multiplication by the matrices of the chosen experts, which are copied first where they lie elsewhere.

    Args:
        beside: copies what else this split reads.
    """
    copies: tuple[Node, ...] = ()
    if by.host and tape.device != host:
        copies = (tape.weight(by.host),)
        if beside is not None:
            beside()
    return tape.tensor(by.rows, used, into.shape[-1], reads=(*copies, into, chosen))
