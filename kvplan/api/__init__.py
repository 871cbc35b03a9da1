"""The Python API: the same questions as the command line, the same answers."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload, with_longest
from kvplan.loading import load
from kvplan.questions.estimate import plan
from kvplan.report import notebook as _displays  # noqa: F401  (puts them on)

if TYPE_CHECKING:
    from kvplan.questions.sweep.grid import Sweep

Source = str | Path | Mapping[str, Any] | Model
Counts = int | str | Iterable[int]
Names = str | Iterable[str]


def estimate(
    model: Source,
    *,
    seq_len: int = 8192,
    batch_size: int = 1,
    kv_dtype: str = "auto",
    engine: str = "ideal",
    encoder_len: int = 0,
    infer: bool = False,
    **options: Any,
) -> Allocation | NotPredicted:
    """The bytes of one workload's cache.

    Args:
        model: anything that `kvplan.load` takes.
        seq_len: tokens per sequence, prompt and output together.
        batch_size: sequences held at once.
        kv_dtype: cache dtype (`bf16`, `fp8`, `q8_0` …); `auto` is the model's own.
        engine: `NAME` or `NAME@VERSION`.
        encoder_len: encoder output (or image) tokens, for cross-attention.
        infer: read an unknown architecture by shape.
        options: `tensor_parallel`, or any option of the engine by its own name.

    Returns:
        An `Allocation`: `.total_bytes`, `.bytes_per_token`, `.layers`, `.groups`, `.to_dict()`;
        or `NotPredicted` with the reason.

    Raises:
        KvplanError: a bad model, option or value; see `kvplan.errors`.

    >>> estimate("llama-3.1-8b", seq_len=8192, batch_size=4).total_bytes
    4294967296
    """
    workload = Workload(batch_size=batch_size, seq_len=seq_len, encoder_len=encoder_len)
    shared = {} if kv_dtype == "auto" else {"kv_dtype": kv_dtype}  # an engine's own word for it may be among the options
    return plan(load(model, infer=infer), workload, engine, **shared, **options)


def sweep(
    models: Source | Iterable[Source],
    *,
    seq_len: Counts = "1k:128k:x2",
    batch_size: Counts = 1,
    kv_dtype: Names = "auto",
    engine: Names = "ideal",
    tensor_parallel: Counts = 1,
    encoder_len: int = 0,
    infer: bool = False,
    **options: Any,
) -> "Sweep":
    """A grid of estimates: models x engines x cache dtypes x devices x lengths x batch sizes, evaluated with numpy.

    The names are those of `estimate`; each takes one value or several, and counts also take the command
    line's spelling (`"1k:1M:x2"`).

    Args:
        models: one or several of what `kvplan.load` takes.
        seq_len: tokens per sequence.
        batch_size: sequences held at once.
        kv_dtype: cache dtypes; `auto` is each model's own.
        engine: each `NAME` or `NAME@VERSION`.
        tensor_parallel: devices that split the heads.
        encoder_len: encoder output (or image) tokens, for cross-attention.
        infer: read unknown architectures by shape.
        options: options of the engines by their own names.

    Returns:
        A `Sweep`: `.to_frame()` is a pandas DataFrame, `.write_csv(path)` and `.write_parquet(path)` stream it.

    Raises:
        KvplanError: a bad model, option or value, or a cell that does not fit 64 bits.
    """
    from kvplan.questions.sweep.grid import Sweep
    from kvplan.report.notebook import show_sweeps

    show_sweeps()
    sources = [models] if isinstance(models, str | Path | Mapping | Model) else list(models)
    loaded = tuple(load(source, infer=infer) for source in sources)
    return Sweep(
        models=loaded,
        seq_lens=_counts(with_longest(seq_len, loaded, "seq_len") if isinstance(seq_len, str) else seq_len, "seq_len"),
        batch_sizes=_counts(batch_size, "batch_size"),
        kv_dtypes=_names(kv_dtype),
        engines=_names(engine),
        tensor_parallels=_counts(tensor_parallel, "tensor_parallel"),
        encoder_len=encoder_len,
        options=dict(options),
    )


def _counts(given: Counts, what: str) -> tuple[int, ...]:
    """One count, several, or the command line's spelling of them."""
    from kvplan.units import parse_counts

    if isinstance(given, str):
        return parse_counts(given, what=what)
    return tuple(given) if isinstance(given, Iterable) else (given,)


def _names(given: Names) -> tuple[str, ...]:
    """One name, several, or several with commas between."""
    return tuple(part.strip() for part in given.split(",")) if isinstance(given, str) else tuple(given)
