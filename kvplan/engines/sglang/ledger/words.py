"""What a server prints while it starts, as far as memory goes, in its own words; "GB" is GiB. Times are left out.

Source: sglang 0.5.23, `model_executor/model_runner.py:load_model`, `mem_cache/kv_cache_configurator.py`,
`distributed/bootstrap.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvplan.domain.described import Described
from kvplan.domain.ledger import Ledger
from kvplan.domain.machine import Machine
from kvplan.domain.pool import Pool
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.ledger.build import CONTEXT, DRAFTER, GONE, TABLES, WEIGHTS
from kvplan.engines.sglang.states import GIB

_BALANCED = 0.9
_FIELDS = ("bits", "quant_algo", "fmt", "requantization_method")


def startup(args: Arguments, found: Ledger, tensors: Described, pool: Pool) -> Iterator[str]:
    """The lines in their order; a refusal ends them."""
    free = found.total.bytes - _of(found, GONE) - _of(found, CONTEXT)
    yield f"Load weight begin. avail mem={_gb(free)}"
    after = free - _of(found, WEIGHTS)
    name = args.reading.architecture or "the model"
    yield (f"Load weight end. type={name}, {_quantised(tensors)}avail mem={_gb(after)}, mem usage={_gb(_of(found, WEIGHTS))}.")
    drafter = _of(found, DRAFTER)
    if drafter:
        yield f"Load weight begin. avail mem={_gb(after)}"
        after -= drafter
        yield f"Load weight end. avail mem={_gb(after)}, mem usage={_gb(drafter)}."
    if pool.refused:
        yield f"ValueError: {pool.refused}"
        return
    yield from pool.log
    yield f"Memory pool end. avail mem={_gb(after - pool.allocated_bytes - _of(found, TABLES))}"


def too_little_free(args: Arguments, machine: Machine) -> str:
    """The refusal of ranks whose cards are not equally free. Source: `distributed/bootstrap.py:_check_tp_memory_balance`."""
    if args.options.tp_size == 1 or not machine.free or min(machine.free) >= max(machine.free) * _BALANCED:
        return ""
    least, most = (amount / GIB for amount in (min(machine.free), max(machine.free)))
    return (
        "The memory capacity is unbalanced. Some GPUs may be occupied by other processes. "
        f"pre_model_load_memory={least:.2f}, local_gpu_memory={most:.2f}, local_gpu_memory * 0.9={most * _BALANCED:.2f}"
    )


def _quantised(tensors: Described) -> str:
    """Source: `configs/model_config.py:get_quantization_config_log_str`."""
    quant = tensors.config.get("quantization_config") or tensors.text.get("quantization_config")
    if not isinstance(quant, dict) or not quant:
        return ""
    words = [f"quant={quant.get('quant_method', 'quantized')}", *(f"{key}={quant[key]}" for key in _FIELDS if key in quant)]
    return ", ".join(words) + ", "


def _of(found: Ledger, name: str) -> int:
    line = found.line(name)
    return line.bytes if line is not None else 0


def _gb(amount: int) -> str:
    return f"{amount / GIB:.2f} GB"
