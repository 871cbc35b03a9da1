"""`kvplan estimate`: how many bytes, by kind of layer."""

import typer

from kvplan.cli import options as o


def estimate(
    models: o.ModelsArg,
    seq_len: o.OwnSeqLens = "auto",
    batch_size: o.OwnBatchSizes = "auto",
    engine: o.EngineOpt = "ideal",
    kv_dtype: o.KvDtype = "auto",
    tensor_parallel: o.TensorParallel = 1,
    encoder_len: o.EncoderLen = "0",
    images: o.Images = None,
    video: o.Video = None,
    audio: o.Audio = None,
    settings: o.SetOpt = None,
    per_layer: o.PerLayer = False,
    unit: o.Unit = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """Bytes of one workload's cache, by kind of layer.

    Exit 1 when one is not predicted.
    """
    from kvplan.cli.output import show
    from kvplan.domain.allocation import NotPredicted
    from kvplan.domain.media.asked import parse_media
    from kvplan.domain.workload import AUTO
    from kvplan.loading import load
    from kvplan.loading.processor_files import processor_files
    from kvplan.questions.estimate import plan_media, usual_workload
    from kvplan.report.answers.estimate import EstimateAnswer

    chosen = o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel)
    loaded = [load(name, infer=infer) for name in models]
    asked = []
    for model in loaded:
        usual = usual_workload(model, engine, chosen) if AUTO in {seq_len, batch_size} else None
        lengths = str(usual.seq_len) if usual is not None and seq_len == AUTO else seq_len
        sizes = str(usual.batch_size) if usual is not None and batch_size == AUTO else batch_size
        asked.append((model, o.workloads(lengths, sizes, encoder_len, model)))
    media = parse_media(images, video, audio)
    answers = [
        plan_media(model, workload, media, engine, files=processor_files(name) if media else None, **chosen)
        for name, (model, workloads) in zip(models, asked, strict=True)
        for workload in workloads
    ]
    show(EstimateAnswer(answers, per_layer), fmt, output, unit)
    if any(isinstance(answer, NotPredicted) for answer in answers):
        raise typer.Exit(1)
