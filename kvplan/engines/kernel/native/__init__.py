"""Functions over arrays of whole numbers as machine code: a small part of Python, translated for LLVM (llvmlite, extra `replay`).

What is translated: functions of whole numbers, and of one tuple of arrays (`State`) whose elements are read and written; `if`,
`while`, `for … in range(…)`, calls of each other, `min`, `max`, `int`, `bool`, `len`. Every value is an int64, a truth 0 or 1,
and an index is never negative. The same functions run as they are where llvmlite is not installed.

Why not numba: it takes 100 seconds for what takes LLVM two, nearly all of them to find out types, and here there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import CFUNCTYPE, c_int64, c_void_p
from functools import cache
from importlib.util import find_spec
from types import FunctionType
from typing import Any, Final

import numpy as np

from kvplan.engines.kernel.native.translation import translated
from kvplan.engines.kernel.native.values import WORDS, Field, Untranslatable, symbol

__all__ = ["Untranslatable", "available", "fields_of", "function", "symbol", "translated"]

#: Up to this measure of LLVM's, functions stand where they are called; its own, 225, costs twice the time for as quick code.
_INLINED: Final = 20


def available() -> bool:
    """Whether llvmlite is installed."""
    return find_spec("llvmlite") is not None


@cache
def _compiled(entry: FunctionType, fields: tuple[Field, ...]) -> tuple[Any, Any]:
    """Machine code, and what keeps it in memory."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=2, jit=True
    )
    module = binding.parse_assembly(translated(entry, fields))
    module.verify()
    tuning = binding.create_pipeline_tuning_options(speed_level=2)
    tuning.inlining_threshold, tuning.loop_unrolling = _INLINED, False
    passes = binding.create_pass_builder(target, tuning)
    passes.getModulePassManager().run(module, passes)
    engine = binding.create_mcjit_compiler(module, target)
    engine.finalize_object()
    return CFUNCTYPE(c_int64, c_void_p)(engine.get_function_address("main")), engine


def fields_of(state: Any) -> tuple[Field, ...]:
    """The arrays of a named tuple.

    Raises:
        Untranslatable: one that is not of whole numbers, or not in one piece.
    """
    for name, array in zip(state._fields, state, strict=True):
        if not array.flags.c_contiguous or array.dtype.kind != "i":
            raise Untranslatable(f"{name} is no array of whole numbers in one piece")
    return tuple((name, array.ndim, 8 * array.itemsize) for name, array in zip(state._fields, state, strict=True))


def function(entry: Callable[[Any], int], state: Any) -> Callable[[], int]:
    """What calls `entry` with a named tuple of arrays, as machine code; it lets go of Python's lock.

    Raises:
        Untranslatable: something that is not translated.
    """
    if not isinstance(entry, FunctionType):
        raise Untranslatable(f"{entry} is no function")
    run, _ = _compiled(entry, fields_of(state))
    table = np.zeros(WORDS * len(state), dtype=np.int64)
    for at, array in zip(range(0, len(table), WORDS), state, strict=True):
        table[at], table[at + 1 : at + 1 + array.ndim] = array.ctypes.data, array.shape
    return lambda: int(run(table.ctypes.data))
