"""One `generate()` process on one device, line by line, while it holds so many sequences of so many tokens.

Nothing is reserved when it starts: every line but the pass is the same for all requests, and the pass grows with them. The
pass is the larger of two moments: the whole prompts going through at once, and a token's step at the end.

Source: `generation/utils.py:_prefill`, `cache_utils.py:DynamicLayer.update` of transformers 5.24; `ledger` for the moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from kvplan.domain.described import Described
from kvplan.domain.dtypes import lookup
from kvplan.domain.ledger import Basis, Ledger, Line, band, exact
from kvplan.domain.machine import Machine
from kvplan.domain.model import Latent, Memory, Model, Recurrent, Softmax
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.tensors import At, Totals
from kvplan.engines.kernel.totals import total_line
from kvplan.engines.transformers import ledger
from kvplan.engines.transformers.ledger import Widths
from kvplan.units import GIB, MIB

CONTEXT: Final = "context"
LIBRARIES: Final = "libraries"
OTHERS: Final = "other processes"
FRAGMENTS: Final = "kept by PyTorch"
#: Maker -> GiB of a process's context: best, smallest, largest. NVIDIA's as starts of servers on H100, H200 and other cards
#: leave it; the others' as public logs of llama.cpp print free memory beside the total.
_CONTEXTS: Final = {"nvidia": (0.51, 0.2, 1.1), "amd": (0.3, 0.1, 1.1), "intel": (0.3, 0.1, 1.1), "apple": (0.0, 0.0, 0.1)}
_ANY: Final = (0.51, 0.0, 1.1)
#: GiB of kernels, handles and workspaces that the first products load: as starts of vLLM on one card leave it, and cuBLAS.
_LIBRARIES: Final = (0.26, 0.02, 0.55)
#: Of a pass's largest moment: what the allocator needs beside tensors on a card that is just large enough: median, most. Passes
#: of transformers' own code by the allocator's rules, tests/golden/transformers_fragments.jsonl.
_FRAGMENTS: Final = (0.18, 0.3)
_FUSED_SINCE: Final = 80  # sm_80: the least that PyTorch's flash attention takes
_SAMPLED: Final = (4, 16)  # bytes a logit of the last token beside the model's dtype: one copy in float32, or several
_WIDE: Final = 2


class OnModel(Protocol):
    """What a process asks of `kvplan.engines.transformers.engine.TransformersOn`, which imports this module."""

    engine: Any
    read: Model
    built: str

    @property
    def kv_dtype(self) -> str:
        """The dtype of what the cache holds."""

    @property
    def rows(self) -> int:
        """Sequences that one request becomes."""

    def totals(self, at: At[int]) -> Totals[int]:
        """The sums of the cache."""

    def pass_of(self, widths: Widths, at: Workload, *, attention: str = "", searched: bool = False) -> Line:
        """The widest moment of the prompts' pass."""

    def prompt_cache(self, at: Workload) -> int:
        """Bytes of the cache once the prompts went through."""

    def held_blocks(self, at: Workload) -> tuple[int, int]:
        """Bytes of the cache at the end, and of the layer that grows last."""


class Process:
    """What one process takes of one device."""

    def __init__(self, on: OnModel, machine: Machine, tensors: Described | None) -> None:
        """`tensors` is None for a model whose widths are not known: its pass is then a wide band."""
        self._on = on
        self._item = lookup(on.kv_dtype).block_bytes
        known = tensors is not None and bool(tensors.parameters)
        self._widths = ledger.widths(tensors, self._item) if tensors is not None and known else _guessed(on.read, self._item)
        self._total = total_line(machine, machine.learned)
        loaded = [_weights(on, tensors, self._item)] if tensors is not None and known else []
        self._lines = (*loaded, *_others(machine, self._total), _context(machine), _libraries(machine))
        self._fused = machine.gpu.vendor in {"", "nvidia", "amd"} and machine.gpu.capability not in range(1, _FUSED_SINCE)

    def ledger(self, at: Workload) -> Ledger:
        """Every line while it holds `at`."""
        held = self._on.totals(At(at.seq_len, at.batch_size, at.encoder_len)).allocated
        prompt = self._pass(at)
        step = self._step(at)
        widest = prompt if prompt.bytes >= step.bytes else step
        low, high = (max(getattr(prompt, side), getattr(step, side)) for side in ("low", "high"))
        kept, most = (int(share * amount) for share, amount in zip(_FRAGMENTS, (widest.bytes, high), strict=True))
        lines = (
            *self._lines,
            band(widest.name, widest.bytes - held, low - held, high - held, widest.source, prompt.basis),
            band(
                FRAGMENTS, kept, 0, most,
                "blocks that no tensor uses, in passes by the allocator's rules on a card that is just large enough",
            ),
        )  # fmt: skip
        everything = Line(
            name="requested", bytes=self._total.bytes, low=self._total.low, high=self._total.high, basis=self._total.basis,
            source="all of it: torch takes what it needs",
        )  # fmt: skip
        return Ledger(total=self._total, requested=everything, lines=lines)

    def _pass(self, at: Workload) -> Line:
        """Prompts going through at once, with their cache: a wide band for what the rules do not say."""
        found = self._on.pass_of(self._widths, at, searched=True)
        low, high, why = found.low, found.high, list[str]()
        if not self._fused:
            high = max(high, self._on.pass_of(self._widths, at, attention="eager", searched=True).high)
            why.append("attention without a fused kernel at most")
        if at.encoder_len:
            longer = Workload(batch_size=at.batch_size, seq_len=at.seq_len + at.encoder_len)
            high = max(high, _WIDE * self._on.pass_of(self._widths, longer, searched=True).high)
            why.append("its encoder's pass is not followed")
        if self._on.built != "dynamic":
            high = max(high, self._on.prompt_cache(at) + _WIDE * (high - self._on.prompt_cache(at)))
            why.append(f"with a {self._on.built} cache it was not followed")
        if self._on.engine.release < (5,):
            low, high = found.low // _WIDE, _WIDE * high
            why.append("releases before 5.0 were not followed")
        if not why:
            return found
        return band(found.name, found.bytes, low, high, "; ".join((found.source, *why)), "assumed")

    def _step(self, at: Workload) -> Line:
        """A token's step at the end: the growing layer is copied, and the last token's logits are compared in float32."""
        held, last = self._on.held_blocks(at)
        logits = at.batch_size * self._on.rows * self._widths.vocab
        low, high = (held + last + logits * (self._item + each) for each in _SAMPLED)
        return band("a token's step", low, held, high, "cache_utils.py: torch.cat; generation/utils.py: _sample", "rule")


def _weights(on: OnModel, tensors: Described, item: int) -> Line:
    return ledger.weights_line(tensors, item, stored="quantization_config" in tensors.config)


def _context(machine: Machine) -> Line:
    """The process's context."""
    known = machine.learned
    if known.context is not None:
        return exact(CONTEXT, known.context, known.source, known.basis)
    best, low, high = (int(amount * GIB) for amount in _CONTEXTS.get(machine.gpu.vendor, _ANY))
    return band(CONTEXT, best, low, high, "as other processes leave it on such cards", "assumed")


def _others(machine: Machine, total: Line) -> list[Line]:
    """What other processes hold, where it is known what they leave."""
    taken = max(0, total.bytes - min(machine.free)) if machine.free else 0
    basis: Basis = "measured" if machine.learned.basis == "measured" else "given"
    return [exact(OTHERS, taken, "the total less what is free", basis)] if taken else []


def _libraries(machine: Machine) -> Line:
    """Kernels, handles, and the workspace of matrix products."""
    if machine.gpu.vendor == "apple":
        return band(LIBRARIES, 0, 0, 64 * MIB, "Metal's pipelines", "assumed")
    best, low, high = (int(amount * GIB) for amount in _LIBRARIES)
    return band(LIBRARIES, best, low, high, "kernels and handles as other processes leave them, cuBLAS's workspace", "assumed")


def _guessed(model: Model, item: int) -> Widths:
    """Widths of a model that was described by its heads alone: a hidden state as wide as its queries, a feed-forward of four."""
    memories: Sequence[Memory] = [memory for layer in model.layers for memory in layer.memories]
    keys = max((m.kv_heads * m.key_dim for m in memories if isinstance(m, Softmax)), default=0)
    values = max((m.kv_heads * m.value_dim for m in memories if isinstance(m, Softmax)), default=0)
    head_dim = max((m.key_dim for m in memories if isinstance(m, Softmax)), default=0)
    latent = max((m.heads * (m.nope_dim + m.value_dim) for m in memories if isinstance(m, Latent)), default=0)
    heads = model.attention_heads or (keys // head_dim if head_dim else 0)
    queries = max(heads * head_dim, keys, latent, 1024)
    return Widths(
        text_type="", item=item, vocab=2**17, heads=heads, head_dim=head_dim or 128, gated=True, activation="",
        sizes={"H": queries, "I": 4 * queries, "Q": queries, "K": keys, "V": values, **dict.fromkeys("OLPEXkRS", 0)},
        dense=True, experts=False, shared=False, normed=False, window=0, tables=1, indexer=(0, 0), scan=(0, 0, 0),
        recurrent=any(isinstance(m, Recurrent) for m in memories),
    )  # fmt: skip
