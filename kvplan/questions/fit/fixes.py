"""When it does not fit: the changes that make it fit, each tried before it is offered, with the command to type."""

from collections.abc import Iterator
from shlex import quote
from typing import Final

from msgspec.structs import replace

from kvplan.domain.budget import counted_weights, gpu_memory
from kvplan.domain.dtypes import DType, lookup
from kvplan.domain.gpus import gpus
from kvplan.engines import about, option_names
from kvplan.errors import KvplanError, OptionError
from kvplan.questions.fit.answer import answer, budget_of, room_of
from kvplan.questions.fit.question import Alternative, Fit, Fix, Question
from kvplan.units import BYTE_UNITS, MAX_COUNT

_SPLITS: Final = (2, 4, 8, 16)
_WEIGHTS: Final = ("fp8", "int4")


def with_fixes(fit: Fit) -> Fit:
    """The same answer, with cache dtypes to choose from and, when it does not fit, what would change that."""
    if fit.not_predicted:
        return fit
    fixes = () if fit.fits else tuple(_tried(fit.question))
    return replace(fit, alternatives=alternatives(fit.question), fixes=fixes)


def dtypes_of(engine: str) -> tuple[DType, ...]:
    """The cache dtypes that an engine has a flag for, the widest first."""
    rows = [lookup(name) for name in about(engine).cache_dtypes]
    return tuple(sorted(rows, key=lambda row: -row.row_bytes(1, 128)))


def alternatives(q: Question) -> tuple[Alternative, ...]:
    """The same question at every cache dtype that the engine has a flag for; those that it refuses are left out."""
    flags, found = about(q.engine).cache_dtypes, []
    for row in dtypes_of(q.engine):
        fit = _answer(replace(q, options=_with_dtype(q, row.name)))
        if fit is not None and fit.allocation is not None:
            found.append(
                Alternative(
                    kv_dtype=row.name,
                    context=fit.context,
                    batch_size=fit.batch_size,
                    fits=fit.fits,
                    flag=flags[row.name],
                )
            )
    return tuple(found)


def _with_dtype(q: Question, kv_dtype: str) -> dict[str, object]:
    known = about(q.engine)
    own = {known.roles.get("kv_dtype"), *known.also.get("kv_dtype", ())}
    return {**{key: value for key, value in q.options.items() if key not in own}, "kv_dtype": kv_dtype}


def _answer(q: Question) -> Fit | None:
    """The answer, or None when the engine refuses the question."""
    try:
        fit = answer(q, brief=True)
    except KvplanError:
        return None
    return None if fit.not_predicted else fit


def _tried(q: Question) -> Iterator[Fix]:
    """One fix of each kind, where one works."""
    for words, changed in _changes(q):
        fit = next((fit for question in changed if (fit := _answer(question)) is not None and fit.fits), None)
        if fit is not None:
            yield Fix(change=words.format(q=fit.question), result=served(fit), command=command(fit.question))


def _changes(q: Question) -> Iterator[tuple[str, Iterator[Question]]]:
    """(the change in words, the questions that make it, the mildest first)."""
    narrower = (row for row in dtypes_of(q.engine) if row.block_bytes < 2 * row.block)
    yield "a cache in {q.options[kv_dtype]}", (replace(q, options=_with_dtype(q, row.name)) for row in narrower)
    yield "fewer requests at once", _fewer(q)
    yield "a shorter context", _shorter(q)
    if "tensor_parallel" in option_names(q.engine):
        more = (n for n in _SPLITS if n > q.tensor_parallel)
        yield "{q.tensor_parallel} GPUs that split the model", (replace(q, gpus=n * q.pipeline, tensor_parallel=n) for n in more)
    yield "a larger GPU ({q.gpu.id})", _larger(q)
    parameters = q.model.parameters
    if parameters is not None and q.weights.basis == "derived":
        lighter = (dtype for dtype in _WEIGHTS if counted_weights(parameters, dtype).bytes < q.weights.bytes)
        yield (
            "weights quantised ({q.weights_flag})",
            (replace(q, weights=counted_weights(parameters, d), weights_flag=f"--weights-dtype {d}") for d in lighter),
        )


def _fewer(q: Question) -> Iterator[Question]:
    if q.batch_size is None:
        return
    room = room_of(q, budget_of(q))
    most = room.most_requests(q.context) if q.context is not None else 1
    if 0 < most < MAX_COUNT:
        yield replace(q, batch_size=most * q.replicas)


def _shorter(q: Question) -> Iterator[Question]:
    if q.context is None:
        return
    longest = room_of(q, budget_of(q)).longest_context(q.each or 1, min(q.context, q.ceiling))
    if longest:
        yield replace(q, context=longest)


def _larger(q: Question) -> Iterator[Question]:
    """The vendor's cards with more memory, the smallest first."""
    here = budget_of(q).memory.bytes
    sizes = []
    for gpu in gpus():
        try:
            size = gpu_memory(gpu).bytes
        except OptionError:  # sold in several sizes
            continue
        if gpu.vendor == q.gpu.vendor and size > here:
            sizes.append((size, gpu.id, gpu))
    yield from (replace(q, gpu=gpu, memory_bytes=None) for _, _, gpu in sorted(sizes, key=lambda entry: entry[:2]))


def served(fit: Fit) -> str:
    """What fits, in a few words."""
    return f"{fit.batch_size:,} x {fit.context:,} tokens"


def command(q: Question) -> str:
    """The command line that asks `q`."""
    words = ["kvplan fit", quote(q.source or q.model.name), "--gpu", q.gpu.id if q.gpus == 1 else f"{q.gpu.id}:{q.gpus}"]
    if q.tensor_parallel != q.gpus:
        words += ["--tp", str(q.tensor_parallel)]
    words += ["-e", q.engine]
    words += ["--context", count(q.context)] if q.context is not None else []
    words += ["--batch", str(q.batch_size)] if q.batch_size is not None else []
    words += ["--encoder-len", str(q.encoder_len)] if q.encoder_len else []
    words += ["--average", count(q.average)] if q.average is not None else []
    words += [q.weights_flag] if q.weights_flag else []
    words += ["--reserve", size(q.reserve_bytes)] if q.reserve_bytes is not None else []
    words += ["--memory", size(q.memory_bytes)] if q.memory_bytes is not None else []
    words += ["--utilization", f"{q.utilization:g}"] if q.utilization is not None else []
    for key, value in q.options.items():
        words += ["--kv-dtype", str(value)] if key == "kv_dtype" else ["--set", quote(f"{key}={value}")]
    return " ".join(words)


def count(amount: int) -> str:
    """A count as short as it can be typed exactly.

    >>> count(32768), count(32609)
    ('32k', '32609')
    """
    return f"{amount // 1024}k" if amount % 1024 == 0 and amount else str(amount)


def size(amount_bytes: int) -> str:
    """A size as short as it can be typed exactly.

    >>> size(2 * 2**30)
    '2GiB'
    """
    unit = max(
        (u for u, n in BYTE_UNITS.items() if amount_bytes % n == 0 and amount_bytes >= n), key=BYTE_UNITS.__getitem__, default="B"
    )
    return f"{amount_bytes // BYTE_UNITS[unit]}{unit}"
