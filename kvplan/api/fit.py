"""`kvplan.fit`: from what people type or pass to the questions that `serving` answers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kvplan.domain.budget import gpu_memory
from kvplan.domain.gpus import Gpu, gpu, gpus
from kvplan.domain.ledger import Line
from kvplan.domain.machine import NOTHING, Machine
from kvplan.domain.model import Model
from kvplan.engines import about, default_engine, option_names
from kvplan.errors import OptionError, shown, written
from kvplan.loading import load
from kvplan.loading.machine import read_machine
from kvplan.loading.weights.find import find_weights
from kvplan.questions.fit.answer import answer, smallest
from kvplan.questions.fit.budget import utilization_from
from kvplan.questions.fit.fixes import with_fixes
from kvplan.questions.fit.question import Fit, Question
from kvplan.units import parse_count, parse_rounded_size, parse_size

Source = str | Path | Mapping[str, Any] | Model
Count = int | str
_TARGET: Final = re.compile(
    r"\s*([\d_,.]+[kKmM]?)\s*(?:users?|requests?|sequences?)?\s*(?:at|x|@)\s*([\d_,.]+[kKmM]?)\s*(?:tokens)?\s*"
)
_SPLITS: Final = (1, 2, 4, 8)


def fit(
    model: Source,
    gpu: str,
    *,
    engine: str | None = None,
    context: Count | None = None,
    batch_size: Count | None = None,
    target: str | None = None,
    gpus: int | None = None,
    tensor_parallel: int | None = None,
    kv_dtype: str = "auto",
    weights: Count | None = None,
    weights_dtype: str | None = None,
    reserve: Count | None = None,
    memory: Count | None = None,
    utilization: float | str | None = None,
    encoder_len: Count = 0,
    average: Count | None = None,
    free: Count | Sequence[Count] | None = None,
    machine: str | Path | None = None,
    infer: bool = False,
    **options: Any,
) -> Fit:
    """What a GPU can serve: the largest batch at a context, the longest context of a batch, or whether a target fits.

    Args:
        model: anything that `kvplan.load` takes.
        gpu: a name of the catalogue (`h100-80gb`, `rtx-4090`, `h100-80gb:2` for two), several separated by commas, `all`, or
            `local` for this machine's. Of several, the smallest that serves is the answer.
        engine: `NAME` or `NAME@VERSION`; `vllm` unless the model is a GGUF file, which means `llama.cpp`.
        context: tokens of a request, prompt and output together; without it, the longest is found.
        batch_size: requests held at once, by all replicas together; without it, the most are found.
        target: both in words: `32 users at 32k`.
        gpus: devices; `tensor_parallel` of them split one model (all, where the engine can), the rest are replicas.
        kv_dtype: cache dtype.
        weights: bytes of the weights, an int or a text with its unit; else they must be known (`kvplan.loading.weights.find`).
        weights_dtype: the weights in this format, tensor by tensor (`bf16`, `fp8`, `awq`, `nvfp4`, `bnb-4bit`, `q4_k_m` …).
        reserve: bytes on each device for activations and runtime, instead of kvplan's assumption.
        memory: bytes of each device, instead of the catalogue's.
        utilization: the share of the memory that may be used; the engine's own default otherwise.
        encoder_len: encoder output (or image) tokens of a request.
        average: tokens that a request really holds on average; a server with a shared pool then holds more (`.typical`).
        free: bytes that other tenants leave on each device, one value or one a rank.
        machine: a file that `kvplan audit LOG --save` wrote: what only that machine knows.
        infer: read an unknown architecture by shape.
        options: any option of the engine by its own name.

    Returns:
        A `Fit`: `.fits`, `.batch_size`, `.context`, `.budget.lines`, `.rows`, `.flags`, `.fixes`, `.to_dict()`.

    Raises:
        OptionError: a bad value, an unknown GPU or engine, or weights that nobody knows.
        KvplanError: a model that cannot be read; see `kvplan.errors`.

    >>> fit("llama-3.1-8b", "h100-80gb", engine="ideal", context="32k").batch_size
    15
    """
    if target is not None:
        if context is not None or batch_size is not None:
            raise OptionError("«target» says both the requests and the context", hint="leave out «context» and «batch_size»")
        batch_size, context = parse_target(target)
    loaded = load(model, infer=infer)
    chosen = engine or default_engine(str(model))
    base = {
        "model": loaded,
        "weights": known_weights(model, loaded, weights, weights_dtype),
        "weights_given": weights is not None or weights_dtype is not None,
        "free": free_bytes(free),
        "learned": NOTHING if machine is None else read_machine(machine),
        "engine": chosen,
        "context": None if context is None else _count(context, "«context»"),
        "batch_size": None if batch_size is None else _count(batch_size, "«batch_size»"),
        "encoder_len": _count(encoder_len, "«encoder_len»", minimum=0),
        "average": None if average is None else _count(average, "«average»"),
        "memory_bytes": None if memory is None else size_of(memory, "«memory»"),
        "reserve_bytes": None if reserve is None else size_of(reserve, "«reserve»", minimum=0),
        "utilization": None if utilization is None else utilization_from(utilization),
        "options": {**({} if kv_dtype == "auto" else {"kv_dtype": kv_dtype}), **options},
        "source": "" if isinstance(model, Model | Mapping) else str(model),
        "weights_flag": _weights_flag(weights, weights_dtype),
    }
    asked = list(_questions(base, gpu, gpus, tensor_parallel))
    return with_fixes(answer(asked[0]) if len(asked) == 1 else smallest(asked))


def known_weights(source: Source, loaded: Model, given: Count | None, dtype: str | None) -> Line:
    """The weights: as given, as found beside the model, or counted from its config.

    Raises:
        OptionError: nobody knows them.
    """
    return find_weights(source, loaded, given_bytes=None if given is None else size_of(given, "«weights»"), dtype=dtype)


def free_bytes(value: Count | Sequence[Count] | None) -> tuple[int, ...]:
    """`--free`: one size, or one a rank with commas.

    Raises:
        OptionError: not sizes.
    """
    if value is None:
        return ()
    parts = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else list(value)
    return tuple(part if isinstance(part, int) else parse_rounded_size(str(part).strip(), what="«free»") for part in parts)


def parse_target(text: str) -> tuple[int, int]:
    """(requests, tokens) of `32 users at 32k`.

    Raises:
        OptionError: not in that form.

    >>> parse_target("32 users at 32k")
    (32, 32768)
    """
    match = _TARGET.fullmatch(text)
    if match is None:
        raise OptionError(f"«target»: expected something like `32 users at 32k`, got `{text[:60]}`")
    return parse_count(match[1], what="«target» users"), parse_count(match[2], what="«target» context")


def _questions(base: dict[str, Any], names: str, count: int | None, tensor_parallel: int | None) -> Iterator[Question]:
    """One question for each GPU of the list and each way to split the model that is left open."""
    listed = _gpus(names)
    splits = "tensor_parallel" in option_names(base["engine"])
    search = (
        len(listed) > 1
        and about(base["engine"]).roles.get("stages") not in base["options"]
        and base["batch_size"] is not None
        and base["context"] is not None
        and splits
    )
    for machine, own_count in listed:
        device = machine.gpu
        known = base | _measured(machine, base)
        if own_count is not None and count is not None and own_count != count:
            raise OptionError(f"«gpu {device.id}:{own_count}» and «gpus {count}» differ", hint="give one of them")
        number = own_count or count
        if number is None and tensor_parallel is None and search and device.memory_kind == "discrete":
            yield from (Question(**known, gpu=device, gpus=n, tensor_parallel=n) for n in _SPLITS)
            continue
        stages = Question(**known, gpu=device).pipeline
        number = number or (tensor_parallel or 1) * stages
        share = tensor_parallel or (max(1, number // stages) if splits else 1)
        _positive(number, "«gpus»")
        _positive(share, "«tensor_parallel»")
        yield Question(**known, gpu=device, gpus=number, tensor_parallel=share)


def _measured(machine: Machine, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the machine itself says, where nobody has said otherwise."""
    found: dict[str, Any] = {}
    if machine.free and not given["free"]:
        found["free"] = machine.free
    if machine.learned != NOTHING and given["learned"] == NOTHING:
        found["learned"] = machine.learned
    return found


def _positive(amount: int, what: str) -> None:
    if not 1 <= amount <= 65_536:
        raise OptionError(f"{what} must be from 1 to 65,536, got {amount}")


def _gpus(names: str) -> list[tuple[Machine, int | None]]:
    """The GPUs that a text names, each with its `:N`; `all` leaves out those that are sold in several sizes."""
    found: list[tuple[Machine, int | None]] = []
    for part in names.split(","):
        name, colon, number = part.strip().partition(":")
        count = parse_count(number, what="«gpu NAME:N»") if colon else None
        if name == "all":
            found += [(Machine(gpu=entry), count) for entry in gpus() if _sized(entry)]
        elif name == "local":
            from kvplan.questions.validate.local import local_machine

            found.append((local_machine(), count))
        elif name:
            found.append((Machine(gpu=gpu(name)), count))
    if not found:
        raise OptionError("no GPU was named", hint="«gpu NAME», «gpu A,B,C» or «gpu all»; `kvplan gpus` lists them")
    return found


def _sized(entry: Gpu) -> bool:
    try:
        gpu_memory(entry)
    except OptionError:
        return False
    return True


def _count(value: Count, what: str, minimum: int = 1) -> int:
    return parse_count(written(value, 400), what=what, minimum=minimum)


def size_of(value: Count, what: str, minimum: int = 1) -> int:
    """Bytes: a text with its unit, or an int."""
    amount = value if isinstance(value, int) and not isinstance(value, bool) else parse_size(written(value, 400), what=what)
    if not minimum <= amount <= 2**60:
        raise OptionError(f"{what}: {shown(amount)} bytes cannot be", hint="sizes are above 0 and below 2**60 bytes")
    return amount


def _weights_flag(weights: Count | None, dtype: str | None) -> str:
    if weights is not None:
        return f"--weights {weights}B" if isinstance(weights, int) else f"--weights {weights.replace(' ', '')}"
    return f"--weights-dtype {dtype}" if dtype else ""
