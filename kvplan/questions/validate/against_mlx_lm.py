"""The prediction against mlx-lm itself: its model, its generation loop and its cache objects, entry by entry.

The true config runs with every layer, on any machine: nothing is computed (see `mlx_lm_model`), so a model of any size is
compared in seconds. Nothing is downloaded.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.engine import Engine
from kvplan.engines.kernel.tensors import At
from kvplan.engines.mlx_lm.engine import MlxLm, MlxLmOn
from kvplan.engines.mlx_lm.layers import Entry, pieces
from kvplan.errors import InputError
from kvplan.questions.estimate import predict
from kvplan.questions.validate.against import asked, same_release
from kvplan.questions.validate.compare import BufferCheck, Check, Difference, Validation
from kvplan.questions.validate.mlx_lm_model import built, entry_arrays, library, prompt_cache, unevaluated


def validate_against_mlx_lm(model: Model, workload: Workload, engine: Engine) -> Validation:
    """Run the library and compare each entry of its prompt cache with the prediction.

    Args:
        model: read from a config.json; an explicit layer list names no class of the library.
        workload: what goes through the model; several sequences are a batch of the library's, prefilled together.
        engine: the `mlx-lm` engine, of the installed release.

    Raises:
        EnvironmentMissing: the library is not installed.
        InputError: no config, another engine or release, or a model that the library cannot run.
    """
    lib = library()
    told, config = asked(engine, MlxLm, model)
    same_release(told, lib.version)
    prompt = _prompt_len(workload, told)
    told = MlxLm(replace(told.options, prompt_len=prompt), told.version)
    answer = predict(told, model, workload)
    if isinstance(answer, NotPredicted):
        raise InputError(f"not predicted: {answer.reason}", hint=answer.see)
    with unevaluated(lib.core):
        network = built(lib, config, told.options.dtype_for(model.dtype))
        found = prompt_cache(lib, network, prompt, workload.seq_len - prompt, workload.batch_size, _library_options(told))
        sizes = [[(array.shape, str(array.dtype), array.nbytes) for array in entry_arrays(lib, entry)] for entry in found]
        names = [type(entry).__name__ for entry in found]
    return _compared(answer, told.on(model), lib, names, sizes)


def _prompt_len(workload: Workload, engine: MlxLm) -> int:
    """The prompt: as asked, else all tokens."""
    asked = engine.options.prompt_len or workload.seq_len
    if workload.seq_len < 1:
        raise InputError("the library needs a prompt of one token or more", hint="ask for -s 1 or more")
    return min(asked, workload.seq_len)


def _library_options(engine: MlxLm) -> dict[str, Any]:
    options = engine.options
    given = {
        "max_kv_size": options.max_kv_size,
        "kv_bits": options.kv_bits,
        "kv_group_size": options.kv_group_size,
        "quantized_kv_start": options.quantized_kv_start,
        "prefill_step_size": options.prefill_step_size,
    }
    return {key: value for key, value in given.items() if value is not None}


def _compared(
    answer: Allocation, on: MlxLmOn, lib: Any, names: Sequence[str], sizes: Sequence[Sequence[tuple[Any, str, int]]]
) -> Validation:
    real = [sum(size for _, _, size in arrays) for arrays in sizes]
    moment = on.moment(At(answer.workload.seq_len, answer.workload.batch_size))
    entries = on.reading.entries
    expected = [sum(p.padded * p.count for p in pieces((entry,), on.storage, moment)) for entry in entries]
    checks = (
        Check(name="entries of the prompt cache", predicted=len(entries), real=len(names), exact=True, unit="entries"),
        Check(name="bytes of all arrays", predicted=answer.allocated_bytes, real=sum(real), exact=True),
    )
    return Validation(
        allocation=answer,
        device="shapes and types only",
        device_name=f"mlx-lm {lib.version}, mlx {lib.mlx}",
        torch_version="",
        checks=checks,
        buffers=tuple(_rows(entries, names, sizes, expected, real)),
    )


def _rows(
    entries: Sequence[Entry],
    names: Sequence[str],
    sizes: Sequence[Sequence[tuple[Any, str, int]]],
    expected: Sequence[int],
    real: Sequence[int],
) -> Iterator[BufferCheck]:
    """One row for each run of equal entries; a run ends where a class or a figure changes."""
    alike = [
        (name, wanted, found, tuple(m.kind for m in entry.members))
        for entry, name, wanted, found in zip(entries, names, expected, real, strict=False)
    ]
    groups: dict[Any, list[int]] = {}
    for position, key in enumerate(alike):
        groups.setdefault(key, []).append(position)
    for (name, wanted, found, kinds), members in groups.items():
        layers = tuple(entries[i].layers[0] for i in members)
        shape, dtype, _ = sizes[members[0]][0] if sizes[members[0]] else ((), "", 0)
        yield BufferCheck(
            name=name,
            kind=" + ".join(dict.fromkeys(kinds)),
            layers=layers,
            shape=tuple(shape),
            dtype=dtype.removeprefix("mlx.core."),
            predicted_bytes=wanted * len(members),
            real_bytes=found * len(members),
            difference=None if wanted == found else Difference(layer=layers[0], predicted_bytes=wanted, real_bytes=found),
        )
