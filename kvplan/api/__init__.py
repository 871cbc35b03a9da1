"""The Python API: the same questions as the command line, the same answers."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kvplan.api.given import Count, Counts, Names, Source, answered, checked, count, counts, names, sources, workload
from kvplan.api.given import options as given_options
from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.media.asked import parse_media
from kvplan.domain.workload import AUTO, with_longest
from kvplan.loading import load
from kvplan.loading.processor_files import processor_files
from kvplan.questions.estimate import plan_media, usual_workload
from kvplan.report.notebook import displayed

if TYPE_CHECKING:
    from kvplan.questions.sweep.grid import Sweep

displayed(Allocation, "kvplan.report.answers.estimate:EstimateAnswer")


def try_estimate(
    model: Source,
    *,
    seq_len: Count = AUTO,
    batch_size: Count = AUTO,
    kv_dtype: str = "auto",
    engine: str = "ideal",
    tensor_parallel: Count | None = None,
    encoder_len: Count = 0,
    images: str | None = None,
    video: str | None = None,
    audio: str | None = None,
    infer: bool = False,
    **options: Any,
) -> Allocation | NotPredicted:
    """The bytes of one workload's cache.

    Where the engine refuses the model, or kvplan cannot tell, `estimate` raises `Refused` and `try_estimate` returns
    `NotPredicted` with its `reason`.

    Args:
        model: anything that `kvplan.load` takes.
        seq_len: tokens per sequence, prompt and output together; counts are whole numbers of any kind, or `"32k"`. `auto`:
            8,192, or what an engine makes room for that has a number of its own (Ollama's num_ctx).
        batch_size: sequences held at once; `auto`: one, or the engine's own.
        kv_dtype: cache dtype (`bf16`, `fp8`, `q8_0` …); `auto` is what the checkpoint asks for, else the model's own.
        engine: `NAME` or `NAME@VERSION`.
        tensor_parallel: devices that split the heads; the answer is one device's.
        encoder_len: encoder output (or image) tokens, for cross-attention.
        images, video, audio: of each sequence, beside the tokens of its text: `"4x1024x1024"` (count x height x width),
            `"60s@1fps@720x1280"`, `"30s"`; what they are is `.media`.
        infer: read an unknown architecture by shape.
        options: any option of the engine by its own name.

    Returns:
        An `Allocation`: `.total_bytes`, `.bytes_per_token`, `.layers`, `.groups`, `.to_dict()`.

    Raises:
        KvplanError: a bad model, option or value; see `kvplan.errors`.

    >>> try_estimate("llama-3.1-8b", seq_len="8k", batch_size=4).total_bytes
    4294967296
    >>> try_estimate("qwen2.5-vl-7b", engine="vllm", seq_len=1024, images="1x1080x1920").media.tokens
    2693
    >>> try_estimate("bloom-560m", engine="llama.cpp", seq_len=1024).total_bytes
    100663296
    """
    loaded = load(model, infer=infer)
    chosen = given_options(options, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel)
    own = [isinstance(value, str) and value == AUTO for value in (seq_len, batch_size)]
    usual = usual_workload(loaded, engine, chosen) if any(own) else None
    tokens = usual.seq_len if usual is not None and own[0] else seq_len
    held = usual.batch_size if usual is not None and own[1] else batch_size
    asked, media = workload(tokens, held, encoder_len, loaded), parse_media(images, video, audio)
    return plan_media(loaded, asked, media, engine, files=processor_files(model) if media else None, **chosen)


def _allocation(found: Allocation | NotPredicted) -> Allocation:
    return answered(found)


estimate = checked(try_estimate, _allocation, "estimate")


def sweep(
    models: Source | Iterable[Source],
    *,
    seq_len: Counts = "1k:128k:x2",
    batch_size: Counts = 1,
    kv_dtype: Names = "auto",
    engine: Names = "ideal",
    tensor_parallel: Counts = 1,
    encoder_len: Count = 0,
    images: str | None = None,
    video: str | None = None,
    audio: str | None = None,
    infer: bool = False,
    workers: Count = 1,
    scheduler: str | None = None,
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
        images, video, audio: of each sequence, beside the tokens of its text that `seq_len` says, as `estimate` takes them; the
            column `seq_len` counts both.
        infer: read unknown architectures by shape.
        workers: processes of this machine that compute the rows that are written. They are the same.
        scheduler: the address of a Dask scheduler whose workers do (the extra `replay`).
        options: options of the engines by their own names.

    Returns:
        A `Sweep`: `.to_frame()` is a pandas DataFrame, `.write_csv(path)` and `.write_parquet(path)` stream it.

    Raises:
        KvplanError: a bad model, option or value, or a cell that does not fit 64 bits.
    """
    from kvplan.api.workers import runner
    from kvplan.questions.sweep.grid import Sweep

    displayed(Sweep, "kvplan.report.answers.sweep:SweepAnswer", several=False)
    given, media = sources(models), parse_media(images, video, audio)
    loaded = tuple(load(source, infer=infer) for source in given)
    return Sweep(
        models=loaded,
        seq_lens=counts(with_longest(seq_len, loaded, "seq_len") if isinstance(seq_len, str) else seq_len, "seq_len"),
        batch_sizes=counts(batch_size, "batch_size"),
        kv_dtypes=names(kv_dtype, "kv_dtype"),
        engines=names(engine, "engine"),
        tensor_parallels=counts(tensor_parallel, "tensor_parallel"),
        encoder_len=count(encoder_len, "encoder_len", 0),
        options=given_options(options),
        media=media,
        files={model.name: processor_files(source) for source, model in zip(given, loaded, strict=True)} if media else {},
        run=runner(workers, scheduler),
    )
