"""The graph of one prompt batch over devices and host, and what its heaps take.

Source: llama.cpp 0c1e57098, `src/models/`: blocks of one kind of attention or state, each followed by a feed-forward or experts
(`qwen3moe.cpp`, `openai-moe.cpp`, `deepseek2.cpp`, `jamba.cpp`, `granite-hybrid.cpp`, `falcon-h1.cpp`, `nemotron-h.cpp`,
`qwen3next.cpp`, `mamba.cpp`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from kvplan.engines.llama_cpp.context import Context
from kvplan.engines.llama_cpp.placement.devices import HOST_ALIGNMENT
from kvplan.engines.llama_cpp.placement.graph.attention import heads, latent
from kvplan.engines.llama_cpp.placement.graph.feed import Following, dense, experts
from kvplan.engines.llama_cpp.placement.graph.heap import Extent, Node, peaks
from kvplan.engines.llama_cpp.placement.graph.sizes import Sizes
from kvplan.engines.llama_cpp.placement.graph.states import SCANS, States, kind_of, nothing_more
from kvplan.engines.llama_cpp.placement.graph.tape import Tape
from kvplan.engines.llama_cpp.placement.place import Placed
from kvplan.engines.llama_cpp.placement.split import HOST_LAYER
from kvplan.engines.llama_cpp.placement.weights import Matrix
from kvplan.gguf.hparams import Hparams

Blocks = Mapping[int, Mapping[str, Matrix]]

#: Architectures that write the input of a block first where they add to it.
_RESIDUAL_FIRST: Final = frozenset({"jamba", "openelm", "phi3", "phimoe"})


def extents(h: Hparams, context: Context[int], placed: Placed, blocks: Blocks, *, outputs: int) -> list[Extent]:
    """The heap of each device and, last, of the host.

    Args:
        h: the model.
        context: its context.
        placed: where its blocks lie.
        blocks: the weights of each by name.
        outputs: tokens of a batch whose logits are computed; 0: all.
    """
    graph = _Graph(h, context, placed, blocks, outputs)
    graph.build()
    alignments = [*(device.backend.alignment for device in placed.devices), HOST_ALIGNMENT]
    return peaks(graph.tape.nodes, alignments, graph.tape.leaves)


#: How often a pair of neighbouring blocks is built: more often moves no tensor that lies there long.
_REPEATED: Final = 2
#: Tokens of a batch from which operations are moved to a device (`ggml_backend_cuda_device_offload_op`).
MOVES: Final = 32


class _Graph:
    """Builds the tape block by block."""

    def __init__(self, h: Hparams, context: Context[int], placed: Placed, blocks: Blocks, outputs: int) -> None:
        tokens = int(context.n_ubatch)
        self.h = h
        self.placed = placed
        self.blocks = blocks
        self.tape = tape = Tape(placed.copies)
        tape.device = len(placed.devices)
        self.sizes = Sizes(
            h=h,
            tokens=tokens,
            outputs=min(tokens, outputs or tokens),
            sequences=max(int(context.n_seq_max), 1),
            host=len(placed.devices),
            offloads=tokens >= MOVES and bool(placed.devices) and placed.devices[0].backend.offloads,
            snapshots=context.n_rs_seq,
        )
        self.cache_of = {t.layer: part.name for part in context.parts for t in part.tensors if t.role == "k"}
        self.gathered: dict[int, Node] = {}
        self.copied = tape.tensor(self.sizes.sequences)
        self.position = tape.tensor(tokens)
        self.rows = tape.tensor(tokens, element=8), tape.tensor(tokens, element=8)
        self.masks = {
            part.name: tape.tensor(int(part.cells), tokens, element=2 if context.flash_attn else 4)
            for part in context.parts
            if part.name in set(self.cache_of.values())
        }
        self.chosen = tape.tensor(self.sizes.outputs)
        self.current = tape.tensor(h.n_embd, tokens)

    def build(self) -> None:
        """All blocks and the logits."""
        for layer in self._differing():
            self._block(layer)
        tape, host = self.tape, len(self.placed.devices)
        tape.device = host if self.placed.output == HOST_LAYER else self.placed.output
        if self.current.shape[-1] != self.sizes.outputs:
            self.current = tape.tensor(self.h.n_embd, self.sizes.outputs, reads=(self.current, self.chosen))
        normed = tape.over(tape.over(tape.here(self.current)))
        tape.tensor(self.h.n_vocab, self.sizes.outputs, reads=(normed,), kept=True)

    def _differing(self) -> list[int]:
        """Blocks that may make a difference: a pair of neighbours that was built often enough moves nothing any more.

        All, where copies of experts come between blocks of two kinds: what lies there long wanders on from block to block.
        """
        count, blocks = self.h.n_layer, self.blocks
        experts = [
            tuple(matrix.host for name, matrix in blocks[layer].items() if name.endswith("_exps")) for layer in range(count)
        ]
        if any(self.h.recurrent) and any(map(any, experts)):
            return list(range(count))
        ends = {layer for layer in range(count - 1) if self._device(layer) != self._device(layer + 1)} | {count - 1}
        near = {layer + shift for layer in ends for shift in (-2, -1, 0, 1, 2)}
        seen: dict[tuple[object, object], int] = {}
        kept: list[int] = []
        before: object = None
        for layer in range(count):
            kind = (self._device(layer), self.cache_of.get(layer), experts[layer], tuple(blocks[layer]), self.h.recurrent[layer])
            seen[before, kind] = seen.get((before, kind), 0) + 1
            if seen[before, kind] <= _REPEATED or layer in near:
                kept.append(layer)
            before = kind
        return kept

    def _block(self, layer: int) -> None:
        h, tape, block = self.h, self.tape, self.blocks[layer]
        attends = h.head_count_kv[layer] > 0 and layer in self.cache_of
        scans = h.recurrent[layer]
        tape.device = self._device(layer)
        if scans and not attends:
            tape.here(self.copied)
        current = tape.here(self.current)
        self._inputs(layer)
        found: Node | None = None
        if attends:
            attend = latent if h.is_mla else heads
            found = attend(
                tape, self.sizes, tape.over(tape.over(current)), layer, self.position, self.masks[self.cache_of[layer]], self.rows
            )
        if scans:
            states = States(
                copied=self.copied,
                rows=partial(self._rows, layer),
                ahead=partial(self._ahead, layer + 1, fed="ffn_down_exps" in block),
            )
            other = SCANS[kind_of(block)](tape, self.sizes, current, block, states)
            found = other if found is None else tape.over(found, other)
        feeds = "ffn_down" in block or "ffn_down_exps" in block
        if found is None:
            self.current = self._sum(self._fed(layer, tape.over(tape.over(current)), block), current)
            return
        if layer == h.n_layer - 1 and feeds:
            found, current = (tape.tensor(h.n_embd, self.sizes.outputs, reads=(each, self.chosen)) for each in (found, current))
        current = self._sum(found, current)
        self.current = self._sum(self._fed(layer, tape.over(tape.over(current)), block), current) if feeds else current

    def _sum(self, found: Node, residual: Node) -> Node:
        """What a block adds to its input, over the place of the one that stands first."""
        first, second = (residual, found) if self.h.arch in _RESIDUAL_FIRST else (found, residual)
        return self.tape.over(first, second)

    def _inputs(self, first: int) -> None:
        """Copies of the inputs that the blocks of one split read, from `first` on, where they are computed on this device."""
        tape = self.tape
        for layer in range(first, self.h.n_layer):
            if self._device(layer) != tape.device:
                return
            if self.h.recurrent[layer]:
                tape.here(self.copied)
            if layer in self.cache_of:
                for each in (self.position, *self.rows, self.masks[self.cache_of[layer]]):
                    tape.here(each)
            if any(matrix.host for matrix in self.blocks[layer].values()):
                return
        tape.here(self.chosen)

    def _rows(self, layer: int) -> Node:
        """The past inputs of a block's convolution, gathered once."""
        if layer not in self.gathered:
            self.gathered[layer] = self.tape.tensor(self.h.r_elements, self.sizes.sequences, reads=(self.copied,))
            nothing_more(self.tape, self.copied)
        return self.gathered[layer]

    def _ahead(self, layer: int, *, fed: bool = False) -> int:
        """Gather the states of the block that asks for the graph next, where one does; the device on which that leaves off."""
        home = self.tape.device
        following = None if fed else self._asking(layer)  # experts of the same block ask first
        if following is None:
            return home
        self.tape.device = self._device(following)
        self._rows(following)
        there, self.tape.device = self.tape.device, home
        return there

    def _asking(self, layer: int) -> int | None:
        """The first block from `layer` on that asks for what was built, if it does so for its states."""
        for following in range(layer, self.h.n_layer):
            if following in self.cache_of:
                return None
            if self.h.recurrent[following]:
                return following
            if "ffn_down_exps" in self.blocks[following]:
                return None
        return None

    def _device(self, layer: int) -> int:
        place = self.placed.layers[layer]
        return len(self.placed.devices) if place == HOST_LAYER else place

    def _fed(self, layer: int, into: Node, block: Mapping[str, Matrix]) -> Node:
        if "ffn_down_exps" in block:
            return experts(
                self.tape,
                self.sizes,
                into,
                block,
                Following(gather=partial(self._ahead, layer + 1), inputs=partial(self._inputs, layer + 1)),
            )
        return dense(self.tape, into, block["ffn_up"], gated="ffn_gate" in block, rows=self.h.n_embd)
