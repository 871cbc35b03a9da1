"""The Python API: the same questions as the command line, the same answers."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvplan.allocation import Allocation, NotPredicted
from kvplan.loaders import load
from kvplan.model import Model
from kvplan.planner import plan
from kvplan.workload import Workload

if TYPE_CHECKING:
    from kvplan.grid import Sweep

Source = str | Path | Mapping[str, Any] | Model


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
    return plan(load(model, infer=infer), workload, engine, kv_dtype=kv_dtype, **options)


def sweep(
    models: Source | Iterable[Source],
    *,
    seq_lens: Iterable[int] = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072),
    batch_sizes: Iterable[int] = (1,),
    kv_dtypes: Iterable[str] = ("auto",),
    engines: Iterable[str] = ("ideal",),
    tensor_parallels: Iterable[int] = (1,),
    encoder_len: int = 0,
    infer: bool = False,
    **options: Any,
) -> "Sweep":
    """A grid of estimates: models x engines x cache dtypes x devices x lengths x batch sizes, evaluated with numpy.

    Args:
        models: one or several of what `kvplan.load` takes.
        seq_lens: tokens per sequence.
        batch_sizes: sequences held at once.
        kv_dtypes: cache dtypes; `auto` is each model's own.
        engines: each `NAME` or `NAME@VERSION`.
        tensor_parallels: devices that split the heads.
        encoder_len: encoder output (or image) tokens, for cross-attention.
        infer: read unknown architectures by shape.
        options: options of the engines by their own names.

    Returns:
        A `Sweep`: `.to_frame()` is a pandas DataFrame, `.write_csv(path)` and `.write_parquet(path)` stream it.

    Raises:
        KvplanError: a bad model, option or value, or a cell that does not fit 64 bits.
    """
    from kvplan.grid import Sweep

    sources = [models] if isinstance(models, str | Path | Mapping | Model) else list(models)
    return Sweep(
        models=tuple(load(source, infer=infer) for source in sources),
        seq_lens=tuple(seq_lens),
        batch_sizes=tuple(batch_sizes),
        kv_dtypes=tuple(kv_dtypes),
        engines=tuple(engines),
        tensor_parallels=tuple(tensor_parallels),
        encoder_len=encoder_len,
        options=dict(options),
    )
