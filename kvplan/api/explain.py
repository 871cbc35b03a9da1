"""`kvplan.explain`: what is kept, why, the sum with its numbers, and the sources."""

from typing import Any

from kvplan.api.given import Count, Source, answered, checked, workload
from kvplan.api.given import options as given_options
from kvplan.domain.media.asked import parse_media
from kvplan.loading import load
from kvplan.loading.processor_files import processor_files
from kvplan.questions.explain import Explanation
from kvplan.questions.explain import explain as explained
from kvplan.report.notebook import displayed

displayed(Explanation, "kvplan.report.answers.explain:ExplainAnswer", several=False)


def try_explain(
    model: Source,
    *,
    seq_len: Count = 8192,
    batch_size: Count = 1,
    kv_dtype: str = "auto",
    engine: str = "ideal",
    tensor_parallel: Count | None = None,
    encoder_len: Count = 0,
    images: str | None = None,
    video: str | None = None,
    audio: str | None = None,
    infer: bool = False,
    **options: Any,
) -> Explanation:
    """What a model's cache holds: why, in which layers, the sum with its numbers, the config keys and the sources.

    Where the engine refuses the model, `explain` raises `Refused`; `try_explain` returns what is known without it: `.answer` is
    `NotPredicted` and `.lines` are empty.

    Args:
        model, seq_len, batch_size, kv_dtype, engine, tensor_parallel, encoder_len, images, video, audio, infer, options: as
            `kvplan.estimate` takes them.

    Returns:
        An `Explanation`: `.rules`, `.layers`, `.lines` (which sum to `.total_bytes`), `.sources`, `.answer`, `.to_dict()`.

    Raises:
        KvplanError: a bad model, option or value; see `kvplan.errors`.

    >>> [line.bytes for line in try_explain("llama-3.1-8b").lines]
    [536870912, 536870912]
    """
    chosen = given_options(options, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel)
    loaded = load(model, infer=infer)
    asked, media = workload(seq_len, batch_size, encoder_len, loaded), parse_media(images, video, audio)
    return explained(loaded, asked, engine, media=media, files=processor_files(model) if media else None, **chosen)


def _answered(found: Explanation) -> Explanation:
    answered(found.answer)
    return found


explain = checked(try_explain, _answered, "explain")
