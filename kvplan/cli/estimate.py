"""`kvplan estimate`: how many bytes, by kind of layer."""

from kvplan.cli import options as o


def estimate(
    models: o.ModelsArg,
    seq_len: o.SeqLen = "8k",
    batch_size: o.BatchSize = "1",
    engine: o.EngineOpt = "ideal",
    kv_dtype: o.KvDtype = "auto",
    tensor_parallel: o.TensorParallel = 1,
    encoder_len: o.EncoderLen = "0",
    settings: o.SetOpt = None,
    per_layer: o.PerLayer = False,
    unit: o.Unit = None,
    fmt: o.FormatOpt = o.Format.table,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """Print the bytes that one workload's cache takes, by kind of layer."""
    from kvplan.cli.output import checked_unit, emit, terminal_width, wants_color
    from kvplan.loading import load
    from kvplan.questions.estimate import plan
    from kvplan.report.answers.estimate import render

    workload = o.workload(seq_len, batch_size, encoder_len)
    chosen = o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel)
    answers = [plan(load(name, infer=infer), workload, engine, **chosen) for name in models]
    text = render(
        answers,
        fmt.value,
        per_layer=per_layer,
        unit=checked_unit(unit),
        width=terminal_width(),
        color=output is None and wants_color(),
    )
    emit(text, output)
