"""The first half of a block that attends.

Source: llama.cpp 0c1e57098, `src/llama-graph.cpp` (`build_qkv`, `build_attn`, `build_attn_mha`), `src/models/deepseek2.cpp`.
"""

from __future__ import annotations

from kvplan.engines.llama_cpp.placement.graph.heap import Node
from kvplan.engines.llama_cpp.placement.graph.sizes import Sizes
from kvplan.engines.llama_cpp.placement.graph.tape import Tape


def heads(tape: Tape, s: Sizes, into: Node, layer: int, position: Node, mask: Node, rows: tuple[Node, Node]) -> Node:
    """Queries, keys and values of heads, with flash attention."""
    h, tokens = s.h, into.shape[-1]
    sliding = h.sliding[layer]
    width = h.key_length_swa if sliding else h.key_length
    queries, keys = h.head_count[layer], h.head_count_kv[layer]
    q = _turned(tape, into, position, width, queries)
    v = tape.view(tape.tensor(h.n_embd_v(layer), tokens, reads=(into,)), width, keys, tokens)
    k = _turned(tape, into, position, width, keys)
    tape.stored(k, rows[0])
    tape.stored(v, rows[1])
    value = (h.value_length_swa if sliding else h.value_length) * queries
    found = tape.tensor(value, tokens, reads=(tape.view(q, width, tokens, queries), mask))
    return tape.tensor(h.n_embd, tokens, reads=(tape.view(found, value, tokens),))


def _turned(tape: Tape, into: Node, position: Node, width: int, heads: int) -> Node:
    tokens = into.shape[-1]
    return tape.over(tape.view(tape.tensor(width * heads, tokens, reads=(into,)), width, heads, tokens), position)


def latent(tape: Tape, s: Sizes, into: Node, layer: int, position: Node, mask: Node, rows: tuple[Node, Node]) -> Node:
    """MLA: queries multiplied into the latent space, one key of all heads, values taken out of it again."""
    h, tokens = s.h, into.shape[-1]
    count, rotary = h.head_count[layer], s.number("rope.dimension_count")
    rank, whole = s.number("attention.kv_lora_rank"), s.number("attention.key_length_mla")
    value = s.number("attention.value_length_mla")
    compressed = s.number("attention.q_lora_rank")
    source = tape.over(tape.over(tape.tensor(compressed, tokens, reads=(into,)))) if compressed else into
    q = tape.view(tape.tensor(count * whole, tokens, reads=(source,)), whole, count, tokens)
    plain = tape.view(q, whole - rotary, tokens, count)
    absorbed = tape.tensor(rank, tokens, count, reads=(plain,))
    turned = tape.tensor(rotary, count, tokens, reads=(tape.view(q, rotary, count, tokens, size=0), position), in_place=True)
    q = tape.tensor(rank + rotary, count, tokens, reads=(tape.view(absorbed, rank, count, tokens), turned))
    both = tape.tensor(rank + rotary, tokens, reads=(into,))
    low = tape.tensor(rank, tokens, reads=(tape.view(both, rank, tokens, size=0),), in_place=True)
    low = tape.over(low)
    key = tape.tensor(rotary, 1, tokens, reads=(tape.view(both, rotary, 1, tokens, size=0), position), in_place=True)
    k = tape.tensor(rank + rotary, 1, tokens, reads=(tape.view(low, rank, 1, tokens), key))
    tape.stored(k, rows[0])
    found = tape.tensor(rank, count, tokens, reads=(tape.view(q, rank + rotary, tokens, count), mask))
    out = tape.tensor(value, tokens, count, reads=(tape.view(found, rank, tokens, count),))
    out = tape.tensor(value * count, tokens, reads=(tape.view(out, value, count, tokens),))
    return tape.tensor(h.n_embd, tokens, reads=(out,))
