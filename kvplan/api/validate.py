"""`kvplan.validate`: the prediction against real tensors of this process."""

from collections.abc import Mapping, Sequence
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from kvplan.api.given import Count, Source, answered, size, workload
from kvplan.api.given import options as given_options
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import about, make_engine
from kvplan.engines.kernel.about import Role
from kvplan.errors import OptionError
from kvplan.loading import load
from kvplan.questions.estimate import predict
from kvplan.report.notebook import displayed

if TYPE_CHECKING:
    from kvplan.engines.kernel.engine import Engine
    from kvplan.questions.validate.allocate import Watch
    from kvplan.questions.validate.compare import Validation
    from kvplan.questions.validate.devices import Device


class Library(str, Enum):
    """Libraries whose own code can be run."""

    transformers = "transformers"
    mlx_lm = "mlx-lm"
    exllamav3 = "exllamav3"


#: Libraries whose caches are tensors on a device -> the module that runs each, and its function.
ON_A_DEVICE: Final = {
    Library.transformers: ("against_transformers", "validate_against_library"),
    Library.exllamav3: ("against_exllamav3", "validate_against_exllamav3"),
}


def validate(
    model: Source,
    *,
    seq_len: Count = 4096,
    batch_size: Count = 1,
    device: str = "auto",
    kv_dtype: str = "auto",
    engine: str = "ideal",
    tensor_parallel: Count | None = None,
    encoder_len: Count = 0,
    limit: Count | None = None,
    probe_max: bool = False,
    against: Library | str | None = None,
    infer: bool = False,
    **options: Any,
) -> "Validation":
    """Allocate every predicted tensor on a device, compare the bytes to the prediction, and free them.

    Args:
        model, seq_len, batch_size, kv_dtype, engine, tensor_parallel, encoder_len, infer, options: as `kvplan.estimate`
            takes them.
        device: `auto`, `cpu`, `cuda`, `cuda:0`, `mps` or `xpu`.
        limit: take at most this much, an int or a text with its unit.
        probe_max: find the largest batch that really fits under `limit`.
        against: compare with what the installed library's own cache holds after a run: `transformers` or another `Library`.

    Returns:
        A `Validation`: `.passed`, `.failure()`, `.checks`, `.buffers`, `.to_dict()`.

    Raises:
        Refused: nothing is predicted for the model.
        DoesNotFit: the device has less than that.
        EnvironmentMissing: torch, the library or the device is not there.
        KvplanError: a bad model, option or value; see `kvplan.errors`.
    """
    from kvplan.questions.validate import compare as _compare

    displayed(_compare.Validation, "kvplan.report.answers.validate:ValidateAnswer")
    library = None if against is None else _library(against)
    named = library.value if library and engine == "ideal" else engine
    made = make_engine(named, given_options(options, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel))
    loaded = load(model, infer=infer)
    asked = workload(seq_len, batch_size, encoder_len, loaded)
    ceiling = None if limit is None else size(limit, "limit")
    if library is Library.mlx_lm:  # computes nothing, so no device is opened
        from kvplan.questions.validate.against_mlx_lm import validate_against_mlx_lm

        return validate_against_mlx_lm(loaded, asked, made)
    allocation = answered(predict(made, loaded, asked)) if library is None and not probe_max else None
    from kvplan.questions.validate.choosing import open_device
    from kvplan.questions.validate.probe import chosen_limit, probe_largest_batch
    from kvplan.questions.validate.ranks import Ranks
    from kvplan.questions.validate.session import validate as measured

    place = open_device(device, Ranks())
    if library is not None:
        return run_library(library, loaded, asked, made, place)
    if allocation is None:
        return probe_largest_batch(made, loaded, asked, place, chosen_limit(place, ceiling))
    return measured(allocation, place, limit_bytes=ceiling)


def validate_parts(
    model: Source,
    gpu: str,
    *,
    seq_len: Count = 4096,
    batch_size: Count = 1,
    device: str = "auto",
    kv_dtype: str = "auto",
    engine: str,
    free: Count | Sequence[Count] | None = None,
    limit: Count | None = None,
    where: Mapping[Role, Any] | None = None,
    infer: bool = False,
    watch: "Watch | None" = None,
    **options: Any,
) -> "list[Validation]":
    """Allocate what one process keeps on each of its cards and on the host, part by part, each freed before the next.

    Args:
        model, seq_len, batch_size, kv_dtype, engine, infer, options: as `kvplan.estimate` takes them, of an engine that deals
            layers out to unequal devices.
        gpu: the cards side by side, `rtx-4090,rtx-3090`; `free` is what others leave of each, `where` places in kvplan's words.
        device: what holds the parts: `auto`, `cpu`, or `cuda`, each GPU its own where there are as many.
        limit: no part takes more.
        watch: called with the bytes touched, as they are.

    Returns:
        A `Validation` a device, `.part` its name.

    Raises:
        KvplanError: a bad value, a part that does not fit, or no torch; see `kvplan.errors`.
    """
    from kvplan.api.placement import place

    loaded = load(model, infer=infer)
    asked = workload(seq_len, batch_size, 0, loaded)
    told: dict[str, Any] = {"context": asked.seq_len, "batch_size": asked.batch_size, "kv_dtype": kv_dtype, "brief": True}
    laid = answered(place(model, gpu, engine=engine, free=free, where=where, infer=infer, **told, **options))
    own = {about(engine).roles[role]: value for role, value in (where or {}).items()}
    made = make_engine(engine, given_options({**options, **own}, kv_dtype=kv_dtype, tensor_parallel=None))
    allocation = answered(predict(made, loaded, asked))
    from kvplan.questions.validate.allocate import unwatched
    from kvplan.questions.validate.parts import validate_parts as measured

    ceiling = None if limit is None else size(limit, "limit")
    return measured(allocation, laid.spread, device, limit_bytes=ceiling, watch=watch or unwatched)


def _library(name: str) -> Library:
    try:
        return Library(name)
    except ValueError:
        raise OptionError(f"against: no library `{str(name)[:40]}`", hint=f"one of {', '.join(Library)}") from None


def run_library(library: Library, model: Model, workload: Workload, engine: "Engine", device: "Device") -> "Validation":
    """One of `ON_A_DEVICE`, with its own model and cache.

    Raises:
        KvplanError: the library or the model is not there, or it cannot run what is asked.
    """
    module, function = ON_A_DEVICE[library]
    ran: Validation = getattr(import_module(f"kvplan.questions.validate.{module}"), function)(model, workload, engine, device)
    return ran
