"""`kvplan explain`: what is kept, why, the sum with its numbers, and the sources."""

from typing import Annotated

import typer

from kvplan.cli import options as o

GpuOpt = Annotated[
    str | None, typer.Option("--gpu", metavar="NAME", help="And where the rest of that card goes, when a server starts on it")
]


def explain(
    model: o.ModelArg,
    seq_len: o.SeqLen = "8k",
    batch_size: o.BatchSize = "1",
    engine: o.EngineOpt = "ideal",
    gpu: GpuOpt = None,
    kv_dtype: o.KvDtype = "auto",
    tensor_parallel: o.TensorParallel = 1,
    encoder_len: o.EncoderLen = "0",
    images: o.Images = None,
    video: o.Video = None,
    audio: o.Audio = None,
    settings: o.SetOpt = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """What a cache holds and why, with the sum and sources.

    In which layers, the sum with its numbers, the config keys that it rests on, and the papers.
    """
    from kvplan.cli.output import show
    from kvplan.domain.media.asked import parse_media
    from kvplan.loading import load
    from kvplan.loading.processor_files import processor_files
    from kvplan.questions.explain import explain as explained
    from kvplan.report.answers.explain import ExplainAnswer

    loaded = load(model, infer=infer)
    workload = o.workload(seq_len, batch_size, encoder_len, loaded)
    chosen = o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel)
    media = parse_media(images, video, audio)
    explanation = explained(loaded, workload, engine, media=media, files=processor_files(model) if media else None, **chosen)
    card = None
    if gpu is not None:
        from kvplan.api.receipt import receipt

        card = receipt(model, gpu, engine=engine, infer=infer, holding=workload, **chosen)
    show(ExplainAnswer(explanation, card), fmt, output)
