"""`kvplan.compare`: models, what-if variants, engines and cache dtypes side by side."""

from collections.abc import Iterable
from typing import Any

from kvplan.api.given import Count, Names, Source, names, sources, workload
from kvplan.api.given import options as given_options
from kvplan.domain.media.asked import parse_media
from kvplan.domain.variants import variant
from kvplan.errors import OptionError
from kvplan.loading import load
from kvplan.loading.processor_files import processor_files
from kvplan.questions.compare import Comparison, Row, designs
from kvplan.questions.compare import compare as compared
from kvplan.report.notebook import displayed

displayed(Comparison, "kvplan.report.answers.compare:CompareAnswer", several=False)
displayed(Row, "kvplan.report.answers.compare:of_row", several=False)


def compare(
    models: Source | Iterable[Source],
    *,
    variant: Names = (),
    budget: str | None = None,
    seq_len: Count = 8192,
    batch_size: Count = 1,
    kv_dtype: Names = "auto",
    engine: Names = "ideal",
    tensor_parallel: Count | None = None,
    encoder_len: Count = 0,
    images: str | None = None,
    video: str | None = None,
    audio: str | None = None,
    baseline: Count | None = None,
    infer: bool = False,
    **options: Any,
) -> Comparison:
    """Every combination beside each other, each against a baseline.

    Args:
        models: one or several of what `kvplan.load` takes.
        variant: each model also rewritten: `mha`, `gqa=4`, `mqa`, `mla=512+64`, `window=4096:5/6`, `full`,
            `state:3/4`, `index=128`, `cla=2`, `loop=2`, `mqa+cla=2`.
        budget: search: the mildest designs of one model that keep at most this of its cache (`25%`, `1/4`, `2GiB`) in one engine
            and dtype; each row's `.sees` says what a token can still see.
        seq_len, batch_size, tensor_parallel, encoder_len, infer: as `kvplan.estimate` takes them.
        images, video, audio: of each sequence, beside the tokens of its text, as `kvplan.estimate` takes them; what they are in
            an engine is `.media` of each row's answer.
        kv_dtype: cache dtypes; `all` shows what each one saves.
        engine: each `NAME` or `NAME@VERSION`.
        baseline: the row that is 1.00x: a model's name or a row's number; the first that is predicted when None.
        options: engine options by their own names; one that only some of the engines have is given to those.

    Returns:
        A `Comparison`: `.rows`, each with `.model`, `.engine`, `.kv_dtype`, `.relative` and `.answer`, which is an
        `Allocation`, or `NotPredicted` with the reason (then `.total_bytes` of the row is None); `.to_dict()`.

    Raises:
        KvplanError: a bad model, option, value or baseline, or no combination is possible.

    >>> [row.total_bytes for row in compare("llama-3.1-8b", variant="mqa+cla=2").rows]
    [1073741824, 67108864]
    """
    given, media = sources(models), parse_media(images, video, audio)
    originals = [load(source, infer=infer) for source in given]
    if budget is not None:
        several = len(originals) > 1 or len(names(engine, "engine")) > 1 or "," in str(kv_dtype)
        if several or variant or baseline is not None or media:
            raise OptionError("«budget» searches designs of one model in one engine and cache dtype", hint="leave out the others")
        return designs(
            originals[0],
            workload(seq_len, batch_size, encoder_len, *originals),
            str(budget),
            engine=names(engine, "engine")[0],
            kv_dtype=names(kv_dtype, "kv_dtype")[0],
            options=given_options(options, tensor_parallel=tensor_parallel),
        )
    rewrites = names(variant, "variant") if variant else ()
    return compared(
        [model for original in originals for model in (original, *(_rewritten(original, text) for text in rewrites))],
        workload(seq_len, batch_size, encoder_len, *originals),
        engines=names(engine, "engine"),
        kv_dtypes=names(kv_dtype, "kv_dtype"),
        options=given_options(options, tensor_parallel=tensor_parallel),
        baseline=None if baseline is None else str(baseline),
        media=media,
        files={model.name: processor_files(source) for source, model in zip(given, originals, strict=True)} if media else {},
    )


_rewritten = variant
