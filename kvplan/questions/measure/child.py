"""The process that runs a stranger's class: what to run comes on stdin, what was seen goes to stdout, all else to nowhere."""

import os
import sys
from typing import Any

import msgspec
from msgspec import Struct

from kvplan.errors import EnvironmentMissing, KvplanError
from kvplan.questions.measure.observed import Observation


class Asked(Struct, frozen=True, kw_only=True):
    """What to run, and within which bounds."""

    file: str
    name: str
    config: dict[str, Any]
    seconds: float
    memory_bytes: int


class Answered(Struct, frozen=True, kw_only=True):
    """What was seen, or why nothing was."""

    seen: Observation | None = None
    problem: str = ""
    hint: str = ""
    missing: bool = False  # something of the environment


def main() -> None:
    """Run one class. Whatever its code prints is not heard; the answer goes where stdout was."""
    answer_to = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    answer = answered(asked)
    with os.fdopen(answer_to, "wb") as file:
        file.write(msgspec.json.encode(answer))
    sys.stdout.flush()


def answered(asked: Asked) -> Answered:
    """What was seen of the class; every failure as words."""
    _bound(asked)
    try:
        from kvplan.questions.measure.stack import observe_class
        from kvplan.questions.measure.strange import Stranger
        from kvplan.questions.validate.devices import import_torch

        stranger = Stranger(asked.file, asked.name)
        import_torch().set_num_threads(1)  # small tensors: more threads would wait for each other
        return Answered(seen=observe_class(stranger, asked.config, asked.seconds))
    except KvplanError as problem:
        return Answered(problem=str(problem), hint=problem.hint, missing=isinstance(problem, EnvironmentMissing))
    except MemoryError:
        return Answered(problem=too_much(asked.memory_bytes), hint="give it more with «memory», or a smaller config")


def too_much(memory_bytes: int) -> str:
    """The sentence for a class that wants more memory than it may take."""
    return f"the class needs more than the {memory_bytes:,} bytes of memory that it may take"


def _bound(asked: Asked) -> None:
    """Memory of this process, and processor time should nobody be left to end it."""
    try:
        import resource
    except ImportError:  # not on this platform: the parent's clock remains
        return
    seconds = int(asked.seconds) + 60
    for name, most in (("RLIMIT_DATA", asked.memory_bytes), ("RLIMIT_CPU", seconds), ("RLIMIT_CORE", 0)):
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        _, hard = resource.getrlimit(kind)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (limit, hard))


if __name__ == "__main__":
    main()
