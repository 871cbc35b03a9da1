"""`kvplan.validate`: the prediction against real tensors of this process."""

from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from kvplan.api.given import Count, Source, answered, size, workload
from kvplan.api.given import options as given_options
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.errors import OptionError
from kvplan.loading import load
from kvplan.questions.estimate import predict
from kvplan.report.notebook import displayed

if TYPE_CHECKING:
    from kvplan.engines.kernel.engine import Engine
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
