"""`kvplan.capacity`: what one server holds, for programs that ask; and a table of models, GPUs and contexts."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, overload

from kvplan.api.capacity_table import capacity_table
from kvplan.api.given import Counts, Source
from kvplan.api.receipt import receipt
from kvplan.domain.gpus import counted
from kvplan.engines import about, command_readers, engine_name
from kvplan.errors import OptionError, printable
from kvplan.questions.fit.capacity import CapacityTable
from kvplan.questions.oracle import Capacity, capacity_of
from kvplan.report.notebook import displayed

displayed(Capacity, "kvplan.report.answers.oracle:of_capacity", several=False)

#: An engine's flags as they are typed, in one text or in words, or its options by name.
Flags = str | Sequence[str] | Mapping[str, Any]


@overload
def capacity(model: Source, engine: str, gpu: str, flags: Flags = (), **more: Any) -> Capacity: ...
@overload
def capacity(models: Any, gpu: str, *, context: Counts | None = None, mix: str | None = None, **more: Any) -> CapacityTable: ...
def capacity(*args: Any, **kwargs: Any) -> Any:
    """What one server holds: `capacity(model, engine, gpu, flags)`, a value for schedulers, operators and simulators.

    It is the server as `kvplan receipt` starts it. The value is frozen (share it between threads), JSON-able (`to_dict`,
    `Capacity.from_dict`, with a `schema`), and fails closed: what kvplan cannot tell is an error, and `admits` counts with the
    fewest blocks that the server may come up with.

    With `context` or `mix` it is the table of `kvplan fit`: `capacity(models, gpu, context="8k,32k")`; see `capacity_table`.

    Args:
        model: anything that `kvplan.load` takes.
        engine: `NAME` or `NAME@VERSION` of a server.
        gpu: a card of the catalogue, `h100:2` for two that split the model.
        flags: the engine's own, as they are typed (`"--max-model-len 32k -tp 2"`), in words, or by name.
        more: `weights`, `weights_dtype`, `reserve`, `memory`, `utilization`, `free`, `machine` as `kvplan.fit` takes them.

    Returns:
        A `Capacity`: `.num_blocks`, `.num_tokens`, `.blocks_of(tokens)`, `.admits(tokens, running)`, `.requests_of(tokens)`,
        `.servers_for(requests)`, `.to_dict()`.

    Raises:
        Refused: the server does not surely start, or kvplan cannot tell.
        OptionError: a bad value, an unknown GPU or engine, a flag that the release does not have.

    >>> held = capacity("llama-3.1-8b", "vllm", "h100-80gb", "--max-model-len 32768")
    >>> held.num_blocks * 16 == held.num_tokens, held.blocks_of(100), held.admits(8192, running=[32768] * 4)
    (True, 7, True)
    """
    if {"context", "mix"} & kwargs.keys():
        return capacity_table(*args, **kwargs)
    names = ("model", "engine", "gpu", "flags")
    given = dict(zip(names, args, strict=False)) | kwargs
    missing = [name for name in names[:3] if name not in given]
    if missing or len(args) > len(names) or set(names[: len(args)]) & kwargs.keys():
        raise OptionError(
            "capacity(model, engine, gpu, flags) is what one server holds; a table of capacities needs lengths",
            hint="«context 8k,32k,128k», or «mix TEXT»",
        )
    return _one(given.pop("model"), given.pop("engine"), given.pop("gpu"), given.pop("flags", ()), given)


def _one(model: Source, engine: str, gpu: str, flags: Flags, more: Mapping[str, Any]) -> Capacity:
    options = dict(flags) if isinstance(flags, Mapping) else _typed(engine, flags)
    name, number = counted(gpu)
    own = {key: value for key, value in options.items() if key not in more}
    if (
        number is not None
        and "tensor_parallel" not in more
        and not {"tensor_parallel", about(engine).roles.get("tensor_parallel")} & own.keys()
    ):
        own["tensor_parallel"] = number
    return capacity_of(receipt(model, name, engine=engine, **own, **more))


def _typed(engine: str, flags: str | Sequence[str]) -> dict[str, Any]:
    """Flags as the engine's own parser reads them.

    Raises:
        OptionError: a word that the release does not have, or a value that it refuses.
    """
    from kvplan.engines.kernel.commandline.words import Call, Word, words

    try:
        typed = shlex.split(flags) if isinstance(flags, str) else list(flags)
    except ValueError as problem:
        raise OptionError(f"flags: {problem}", hint="close every quote") from problem
    if not typed:
        return {}
    reader = next((one for one in command_readers() if one.name == engine_name(engine)), None)
    if reader is None:
        raise OptionError(f"flags of {engine} are not read", hint="give its options by name, in a mapping")
    line = (*reader.serving(Word("MODEL")), *words(*typed))
    call = Call(words=line)
    begun = reader.begins(line, call)
    told = reader.read(line[:begun], line[begun:], call, engine.partition("@")[2])
    wrong = [*(f"{engine} has no {printable(name, 60)}" for name in (*told.unknown, *told.gone)), *told.refused]
    if wrong:
        raise OptionError(f"flags: {wrong[0]}", hint="`kvplan check` says what it reads of a command line")
    told.options.pop("model", None)
    return told.options
