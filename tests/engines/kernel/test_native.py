"""Functions as machine code give what they give in Python; what is not translated is said."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from kvplan.engines.kernel import native

SIDES = (-7, -3, -1, 1, 2, 8)
WIDE = 5


class State(NamedTuple):
    out: Any
    table: Any
    cube: Any


def arithmetic(s: State, a: int, b: int) -> int:
    s.out[0], s.out[1] = a // b, a % b
    s.out[2] = (a * 3 - b) ^ 5 | 2 & a
    s.out[3] = (a << 2) + (b >> 1)
    s.out[4] = min(a, b, 3) + max(a, -b)
    s.out[5] = -a if a < b else int(a == b)
    s.out[6] = 1 if -4 < a <= b != 8 else 0
    s.out[7] = bool(a) + (not b)
    return a


def loops(s: State, a: int, b: int) -> None:
    found, rest = 0, s.out
    for i in range(a, b, 2):
        if i == 4:
            continue
        i += 1
        if found > 60 or (a < 0 and i > 3):
            break
        found += i
    for i in range(b, a, -1):
        found = found * 2 + i
    while True:
        found -= 1
        if found % WIDE == 0:
            break
    rest[8] = found
    for _ in range(3):
        rest[9] += len(s.table) + s.table.shape[1]


def arrays(s: State, a: int, b: int) -> int:
    row = s.cube[1, 2]
    first = total = 0
    for i in range(len(row)):
        row[i] += i * a
        total += s.cube[1, 2, i] + s.table[i, 1]
    at = 10
    if at < len(s.out) and s.out[at] == 0:  # what stands behind an `and` is not looked at where it would lie outside
        s.out[at] = total + first
    at = 1000
    if at < len(s.out) and s.out[at] == 0:
        s.out[11] = 1
    s.table[1, 1], s.table[0, 0] = b, s.table[1, 1]
    return total


def all_of_it(s: State) -> int:
    total = 0
    for i in range(len(s.table)):
        a, b = s.table[i, 0], s.table[i, 1]
        total = total * 31 + arithmetic(s, a, b) + arrays(s, a, b)
        loops(s, a, b)
        for j in range(len(s.out)):
            total = (total * 7 + s.out[j]) % 1_000_003
    return total


def state() -> State:
    pairs = [(a, b) for a in SIDES for b in SIDES]
    return State(np.zeros(12, np.int64), np.array(pairs, np.int32), np.arange(2 * 3 * 4, dtype=np.int64).reshape(2, 3, 4))


def test_machine_code_gives_what_python_gives() -> None:
    if not native.available():
        pytest.skip("llvmlite is not installed")
    ours, pythons = state(), state()
    assert native.function(all_of_it, ours)() == all_of_it(pythons)
    for mine, theirs in zip(ours, pythons, strict=True):
        assert mine.tolist() == theirs.tolist()


def slices(s: State) -> int:
    s.out[1:2] = 0
    return 0


def floats(s: State) -> int:
    return int(s.out[0] / 2)


def unknown(s: State) -> int:
    return undefined(s)  # type: ignore[name-defined,no-any-return] # noqa: F821


def test_what_is_translated_and_what_is_not() -> None:
    fields = native.fields_of(state())
    assert fields == (("out", 1, 64), ("table", 2, 32), ("cube", 3, 64))
    text = native.translated(all_of_it, fields)
    assert [f"@{native.symbol(f)}" in text for f in (all_of_it, arithmetic, arrays, loops)] == [True] * 4
    for function in (slices, floats, unknown):
        with pytest.raises(native.Untranslatable, match=f"{function.__name__}.*is not translated"):
            native.translated(function, fields)
    wrong = State(np.zeros(3), np.zeros((2, 2), np.int64), np.zeros((1, 1, 1), np.int64))
    with pytest.raises(native.Untranslatable, match="out is no array of whole numbers"):
        native.function(all_of_it, wrong)
