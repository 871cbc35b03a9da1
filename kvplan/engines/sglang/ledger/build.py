"""Every line of one rank, from the card's total to what the pools get."""

from __future__ import annotations

from typing import Final

from kvplan.domain.described import Described
from kvplan.domain.ledger import Ledger, Line, band, exact
from kvplan.domain.machine import Learned, Machine
from kvplan.engines.kernel.totals import total_line
from kvplan.engines.sglang.arguments import Arguments, allowance
from kvplan.engines.sglang.fraction import pre_capture_reserve
from kvplan.engines.sglang.ledger.weights import draft_bytes, loaded_bytes, stored_scheme, table_bytes
from kvplan.engines.sglang.pool import Reserved, share_out
from kvplan.engines.sglang.requests import NoRoom
from kvplan.engines.sglang.states import GIB
from kvplan.units import MIB

CONTEXT: Final = "context"
GONE: Final = "gone before loading"
WEIGHTS: Final = "weights"
DRAFTER: Final = "drafter"
PICTURES: Final = "pictures"
TABLES: Final = "request tables"
ALLOWED: Final = "activations and graphs"
_LOADER: Final = "model_executor/model_runner.py, through the caching allocator"
_CONFIGURATOR: Final = "kv_cache_configurator.py"
_PROFILE: Final = "_profile_available_bytes"
_HOOK: Final = "memory_hook.py:handle_gpu_memory_settings"

#: GiB gone of the free memory before weights are loaded, in published starts: best, smallest, largest; several ranks have NCCL.
_CONTEXT: Final = {False: (0.55, 0.3, 1.1), True: (1.2, 0.5, 2.7)}
#: What published starts use more or less than the tensors: loaders that keep buffers, layouts of quantised kernels, towers.
_NEAR: Final = 0.98  # of what the rule leaves: a card's total is less than what the rule goes by
_PLAIN, _LAYOUT, _LEFT = 0.01, 0.03, 768 * MIB


def ledger(args: Arguments, machine: Machine, tensors: Described) -> Ledger:
    """The lines of the rank that leaves least for the pools: every rank goes by it.

    Raises:
        ConfigError: weights of a format whose storage is not known.
    """
    fraction = args.mem_fraction_static
    known = _fitting(machine.learned, args)
    total, gone = total_line(machine, known), _gone(machine, known, args)
    given = args.options.mem_fraction_static is not None
    requested = Line(
        name="requested",
        bytes=int(total.bytes * fraction),
        low=int(total.low * fraction),
        high=int(total.high * fraction),
        basis="given" if given else "rule",
        source=f"mem_fraction_static {fraction:g}" + ("" if given else f": {_HOOK}"),
    )
    lines = [_part(gone, fraction, f"{fraction:g} of what is gone: {_PROFILE}"), *_loaded(args, tensors)]
    if args.reserved_gib:
        lines.append(
            exact(PICTURES, int(args.reserved_gib * GIB), "mem_cache/kv_cache_configurator.py:mm_runtime_reservation_gb")
        )
    lines += _before_capture(args, total)
    available = Ledger(total=total, requested=requested, lines=tuple(lines)).available
    rest = _part(gone, 1 - fraction, "the rest of what is gone", CONTEXT)
    own = allowance(args)
    allowed = band(ALLOWED, own, own // 10, own, f"what SGLang's own rule leaves them: {_HOOK}", "derived")
    return Ledger(
        total=total,
        requested=requested,
        lines=tuple(lines),
        beside=(rest, *_tables(args, available), allowed),
        notes=_notes(args, total, own),
    )


def _fitting(learned: Learned, args: Arguments) -> Learned:
    """What a machine file says of this many processes: only the total is true of any number."""
    if learned.tensor_parallel in {None, args.options.tp_size}:
        return learned
    return Learned(total=learned.total, source=learned.source, basis=learned.basis)


def _gone(machine: Machine, known: Learned, args: Arguments) -> Line:
    """What is not free any more when SGLang first measures: context, communication, and other tenants."""
    if known.context is not None:
        found = exact(CONTEXT, known.context, known.source, known.basis)
    else:
        best, low, high = (int(amount * GIB) for amount in _CONTEXT[args.options.tp_size * args.options.pp_size > 1])
        found = band(CONTEXT, best, low, high, "smallest to largest of published starts", "assumed")
    if not machine.free:
        return found
    others = max(0, total_line(machine, known).bytes - min(machine.free))
    return Line(
        name=found.name, bytes=found.bytes + others, low=found.low + others, high=found.high + others, basis=found.basis,
        source=f"{found.source}, and what other tenants hold",
    )  # fmt: skip


def _part(whole: Line, share: float, source: str, name: str = GONE) -> Line:
    best, low, high = (int(amount * share) for amount in (whole.bytes, whole.low, whole.high))
    return Line(name=name, bytes=best, low=low, high=high, basis=whole.basis, source=f"{source}; {whole.source}")


def _loaded(args: Arguments, tensors: Described) -> list[Line]:
    """Weights of the largest pipeline stage, and the drafter's, which is loaded before the pools are sized."""
    lines = [weight_line(args, tensors)]
    drafter = draft_bytes(tensors, args, stored_scheme(tensors))
    if drafter:
        lines.append(band(DRAFTER, drafter, int(drafter * 0.98), int(drafter * 1.1) + _LEFT // 2, _LOADER, "rule"))
    return lines


def weight_line(args: Arguments, tensors: Described) -> Line:
    """The weights of the largest pipeline stage, and the table of rotations.

    Raises:
        ConfigError: a format whose storage is not known.
    """
    scheme = stored_scheme(tensors)
    size = max(loaded_bytes(tensors, args, rank, scheme) for rank in range(args.options.pp_size))
    spread = _PLAIN if scheme is None and not args.reading.multimodal else _LAYOUT
    best = size + table_bytes(tensors, args)
    return band(WEIGHTS, best, int(size * (1 - spread)), int(best * (1 + spread)) + _LEFT, _LOADER, "rule")


def _before_capture(args: Arguments, total: Line) -> list[Line]:
    """States are allocated before graphs are captured, so sizing after the capture keeps the usual slack for them."""
    if args.reading.state is None or not args.post_capture:
        return []
    slack = total.bytes * (1 - args.mem_fraction_static)
    kept = pre_capture_reserve(args.options, args.chunked_prefill_size, args.decode_graph_max_bs) * MIB
    return [exact("kept until the capture", int(kept - slack), _PROFILE)] if kept > slack else []


def _tables(args: Arguments, available: Line) -> list[Line]:
    """`req_to_token` and the map of sliding rows: allocated with the pools, charged to nothing."""
    sizes = []
    for amount in (available.bytes, available.low, available.high):
        try:
            sizes.append(max(map(_beside, share_out(args, max(0, amount)))))
        except NoRoom:
            sizes.append(0)
    if not sizes[0]:
        return []
    return [band(TABLES, sizes[0], min(sizes), max(sizes), "mem_cache/memory_pool.py:ReqToTokenPool", "rule")]


def _beside(found: Reserved) -> int:
    return found.req_to_token_bytes + found.mapping_bytes


def _notes(args: Arguments, total: Line, own: int) -> tuple[str, ...]:
    if args.options.mem_fraction_static is None:
        return ()
    left = total.bytes - int(total.bytes * args.mem_fraction_static)
    if left >= own * _NEAR:
        return ()
    return (
        f"mem_fraction_static {args.mem_fraction_static:g} leaves {left / GIB:.2f} GiB for activations and graphs, where "
        f"SGLang's own rule leaves {own / GIB:.2f} GiB: it may run out of memory later",
    )
