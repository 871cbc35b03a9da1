"""`kvplan estimate`: how many bytes, by kind of layer."""

import typer

from kvplan.cli import options as o


def estimate(
    models: o.ModelsArg,
    seq_len: o.SeqLens = "8k",
    batch_size: o.BatchSizes = "1",
    engine: o.EngineOpt = "ideal",
    kv_dtype: o.KvDtype = "auto",
    tensor_parallel: o.TensorParallel = 1,
    encoder_len: o.EncoderLen = "0",
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
    from kvplan.loading import load
    from kvplan.questions.estimate import plan
    from kvplan.report.answers.estimate import EstimateAnswer

    chosen = o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel)
    loaded = [load(name, infer=infer) for name in models]
    asked = [(model, o.workloads(seq_len, batch_size, encoder_len, model)) for model in loaded]
    answers = [plan(model, workload, engine, **chosen) for model, workloads in asked for workload in workloads]
    show(EstimateAnswer(answers, per_layer), fmt, output, unit)
    if any(isinstance(answer, NotPredicted) for answer in answers):
        raise typer.Exit(1)
