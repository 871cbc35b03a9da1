"""What moves tensors by name: `-ot PATTERN=BUFFER`, `--cpu-moe`, `--n-cpu-moe N`.

Source: llama.cpp 0c1e57098, `common/arg.cpp` (`parse_tensor_buffer_overrides`), `common/common.h` (`llm_ffn_exps_*`),
`src/llama-model-loader.cpp` (`std::regex_search`: the first pattern that is found in a name decides).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from msgspec import Struct

from kvplan.errors import OptionError

_EXPERTS: Final = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
_LONGEST: Final = 512  # characters of all patterns together
_UNBOUNDED: Final = 4  # repeats of one pattern
ALL_EXPERTS: Final = rf"blk\.\d+{_EXPERTS}"


class Override(Struct, frozen=True):
    """Tensors whose name `pattern` is found in go to `buffer` (`CPU`, `CUDA0`)."""

    pattern: str
    buffer: str

    def moves(self, name: str) -> bool:
        """Whether a tensor of that name is moved."""
        return re.search(self.pattern, name) is not None


def experts_of(blocks: Iterable[int]) -> str:
    """The pattern of some blocks' experts: the engine writes one a block, which finds the same names."""
    return rf"blk\.({'|'.join(map(str, blocks))}){_EXPERTS}"


def overrides(text: str | None, *, cpu_moe: bool = False, n_cpu_moe: int = 0) -> tuple[Override, ...]:
    """The patterns of a command line, in the order in which they are tried.

    Args:
        text: `-ot`'s words: `pattern=buffer`, several with `;` or `,` between.
        cpu_moe: all experts to the host.
        n_cpu_moe: those of the first blocks.

    Raises:
        OptionError: a pattern that cannot be read, or that would take too long to match.
    """
    found = list(_typed(text or ""))
    if cpu_moe:
        found.append(Override(ALL_EXPERTS, "CPU"))
    if n_cpu_moe:
        found.append(Override(experts_of(range(n_cpu_moe)), "CPU"))
    return tuple(found)


def _typed(text: str) -> Iterator[Override]:
    if len(text) > _LONGEST:
        raise OptionError(f"override_tensor: more than {_LONGEST} characters of patterns", option="override_tensor")
    for word in text.split(";" if ";" in text else ",") if text else ():
        pattern, equals, buffer = word.rpartition("=")
        if not equals or not pattern or not buffer:
            raise OptionError(
                f"override_tensor: `{word[:60]}` is no PATTERN=BUFFER",
                hint=r"as in `\.ffn_.*_exps\.=CPU`",
                option="override_tensor",
            )
        _check(pattern)
        yield Override(pattern, buffer.strip())


def _check(pattern: str) -> None:
    """A pattern must be a regular expression that is matched in little time: no repeat of a repeat or of alternatives."""
    from re import _parser as parser  # type: ignore[attr-defined]

    def refuse(why: str) -> OptionError:
        words = f"override_tensor: the pattern `{pattern[:60]}` {why}"
        return OptionError(words, hint="write it simpler", option="override_tensor")

    try:
        re.compile(pattern)
        tree = parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as problem:
        raise refuse(f"is no regular expression: {str(problem)[:60]}") from problem
    repeats = 0
    todo: list[tuple[Any, bool]] = [(tree, False)]
    while todo:
        node, inside = todo.pop()
        for kind, value in node:
            name = str(kind)
            if name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
                least, most, body = value
                if inside:
                    raise refuse("repeats a repeat")
                repeats += most != least
                todo.append((body, most > 1))
            elif name == "BRANCH":
                if inside:
                    raise refuse("repeats alternatives")
                todo += [(branch, inside) for branch in value[1]]
            elif name == "SUBPATTERN":
                todo.append((value[-1], inside))
            elif name in {"ASSERT", "ASSERT_NOT", "GROUPREF", "GROUPREF_EXISTS", "ATOMIC_GROUP"}:
                raise refuse("looks around or back, which is not read here")
    if repeats > _UNBOUNDED:
        raise refuse(f"has more than {_UNBOUNDED} repeats")
