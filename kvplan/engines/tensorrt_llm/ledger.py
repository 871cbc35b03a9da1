"""Every line of one rank, from the card's total to what the pools get a share of.

TensorRT-LLM loads weights, runs its largest pass once beside a cache of that length, and takes a share of what the driver
says is left, that first cache added back: `(total - peak + temporary) x fraction`.

Source: TensorRT-LLM 1.4.0rc4 `_torch/pyexecutor/_util.py:KvCacheCreator.configure_kv_cache_capacity`.
"""

from __future__ import annotations

from typing import Final

from kvplan.domain.described import Described
from kvplan.domain.ledger import Ledger, Line, band, exact
from kvplan.domain.machine import Learned, Machine
from kvplan.domain.origin import Settings
from kvplan.domain.parameters import Parameter, in_order, on_rank
from kvplan.domain.storage.formats import plain
from kvplan.domain.storage.schemes import Scheme, scheme_of
from kvplan.engines.kernel.totals import total_line
from kvplan.engines.tensorrt_llm.layers import stage_layers
from kvplan.engines.tensorrt_llm.settle import Settled
from kvplan.units import GIB, MIB

CONTEXT: Final = "context"
WEIGHTS: Final = "weights"
DRAFTER: Final = "drafter"
ACTIVATIONS: Final = "activations"
GRAPHS: Final = "graphs"
_MEASURED: Final = "_torch/pyexecutor/_util.py:configure_kv_cache_capacity"
_LOADER: Final = "_torch/pyexecutor/model_loader.py"
#: GiB of the context and its libraries: best, smallest, largest; several ranks have NCCL and workspaces of all-reduce.
_CONTEXT: Final = {False: (0.7, 0.4, 1.5), True: (1.8, 0.8, 4.0)}
#: Elements of 16 bits that a pass keeps of a token, in hidden sizes: best, smallest, largest; and bytes beside them.
_PASS: Final = ((12, 2, 48), (MIB * 512, MIB * 64, GIB * 6))
_GRAPHS: Final = (0.5, 0.0, 3.0)  # GiB: captured after the cache is allocated
_PLAIN, _LAYOUT, _LEFT = 0.01, 0.05, 768 * MIB
_OUTER: Final = frozenset({"vision", "audio", "encoder"})
_ATTENTION: Final = frozenset({"attention", "mixer", *_OUTER})


def ledger(settled: Settled, machine: Machine, tensors: Described) -> Ledger:
    """The lines of the rank that leaves least.

    Raises:
        ConfigError: weights of a format whose storage is not known.
    """
    options = settled.options
    several = options.tp_size * options.pp_size > 1
    known = machine.learned
    if known.tensor_parallel not in {None, options.tp_size}:  # only the total is true of any number
        known = Learned(total=known.total, source=known.source, basis=known.basis)
    total = total_line(machine, known)
    lines = [_context(machine, known, total, several=several), *_loaded(settled, tensors), _activations(settled, tensors)]
    best, low, high = (int(amount * GIB) for amount in _GRAPHS)
    return Ledger(
        total=total,
        requested=Line(
            name="requested", bytes=total.bytes, low=total.low, high=total.high, basis=total.basis,
            source=f"all of it: the fraction is of what is left ({_MEASURED})",
        ),
        lines=tuple(lines),
        beside=(band(GRAPHS, best, low, high, "captured after the cache, in what the fraction leaves", "assumed"),),
    )  # fmt: skip


def _context(machine: Machine, known: Learned, total: Line, *, several: bool) -> Line:
    """The process's context and libraries, and what other tenants hold."""
    others = max(0, total.bytes - min(machine.free)) if machine.free else 0
    if known.context is not None:
        return exact(CONTEXT, known.context + others, known.source, known.basis)
    best, low, high = (int(amount * GIB) + others for amount in _CONTEXT[several])
    source = "context, libraries and workspaces" + (", and what other tenants hold" if others else "")
    return band(CONTEXT, best, low, high, source, "assumed")


def _loaded(settled: Settled, tensors: Described) -> list[Line]:
    options = settled.options
    scheme = scheme_of(Settings(data=tensors.config), Settings(data=tensors.text))
    size = max(_stage_bytes(settled, tensors, rank, scheme) for rank in range(options.pp_size))
    spread = _PLAIN if scheme is None else _LAYOUT
    found = [band(WEIGHTS, size, int(size * (1 - spread)), int(size * (1 + spread)) + _LEFT, _LOADER, "derived")]
    held = [p for p in tensors.drafter if p.component != "draft"] if options.draft is not None else []
    if not held and options.num_nextn_predict_layers:
        held = [p for p in tensors.parameters if p.component == "draft"]
    drafter = sum(_one(p, settled, None if options.draft is not None else scheme, layer) for p, layer in in_order(held))
    if drafter:
        found.append(band(DRAFTER, drafter, int(drafter * 0.95), int(drafter * 1.1) + _LEFT // 2, _LOADER, "derived"))
    return found


def _stage_bytes(settled: Settled, tensors: Described, rank: int, scheme: Scheme | None) -> int:
    """Weights of one device of a pipeline rank, as they are stored."""
    pipeline = settled.options.pp_size
    stage = stage_layers(len(settled.model.layers), pipeline, rank)
    total = 0
    for p, layer in in_order([p for p in tensors.parameters if p.component != "draft"]):
        if p.component not in _OUTER and layer is not None:
            here = layer in stage
        else:
            here = rank == (pipeline - 1 if p.component in {"head", "norm"} else 0)
        total += _one(p, settled, scheme, layer) if here else 0
    return total


def _one(p: Parameter, settled: Settled, scheme: Scheme | None, layer: int | None) -> int:
    """Bytes of one parameter in one layer on one device, all experts of it."""
    options = settled.options
    ranks = 1 if options.enable_attention_dp and (p.component in _ATTENTION or not p.experts) else options.tp_size
    shape = on_rank(p, ranks)
    item = 4 if p.dtype == "float32" else 2
    form = scheme.format_of(p, layer) if scheme is not None else None
    return (p.experts or 1) * (plain(shape, item) if form is None else form.stored(shape)).bytes


def _activations(settled: Settled, tensors: Described) -> Line:
    """What the largest pass takes while it is measured: by the tokens of a pass and the width of the model."""
    width = tensors.text.get("hidden_size")
    wide = width if isinstance(width, int) and not isinstance(width, bool) and 0 < width < 2**20 else 4096
    tokens = settled.options.max_num_tokens
    best, low, high = (2 * wide * tokens * times + beside for times, beside in zip(*_PASS, strict=True))
    return band(ACTIVATIONS, best, low, high, f"a pass of max_num_tokens {tokens:,}, measured at start", "assumed")
