"""`kvplan estimate`: how many bytes, by kind of layer."""

from pathlib import Path
from typing import Any

import typer

from kvplan.cli import options as o
from kvplan.errors import OptionError


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
    gpu: o.SideBySide = None,
    free: o.Free = None,
    weights_dtype: o.WeightsDtype = None,
    gpu_layers: o.GpuLayers = None,
    tensor_split: o.LayerSplit = None,
    n_cpu_moe: o.CpuMoe = None,
    override_tensor: o.Overrides = None,
    no_kv_offload: o.NoKvOffload = False,
    model_draft: o.Drafter = None,
    mmproj: o.Projector = None,
    settings: o.SetOpt = None,
    per_layer: o.PerLayer = False,
    unit: o.Unit = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """Bytes of one workload's cache, by layer or device.

    Exit 1 when one is not predicted.
    """
    from kvplan.cli.output import show
    from kvplan.domain.allocation import NotPredicted
    from kvplan.domain.media.asked import parse_media
    from kvplan.domain.workload import AUTO
    from kvplan.engines import about
    from kvplan.loading import load
    from kvplan.loading.processor_files import processor_files
    from kvplan.questions.estimate import plan_media, usual_workload
    from kvplan.report.answers.estimate import EstimateAnswer

    chosen = o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel)
    where = o.placing(
        gpu_layers=gpu_layers,
        tensor_split=tensor_split,
        n_cpu_moe=n_cpu_moe,
        override_tensor=override_tensor,
        no_kv_offload=no_kv_offload,
        model_draft=model_draft,
        mmproj=mmproj,
    )
    media = parse_media(images, video, audio)
    beside = where.pop("projector", None) if gpu is None and media else None  # decides what images are
    role = about(engine).roles.get("projector")
    if beside is not None and role is None:
        raise OptionError(f"«mmproj»: {engine} has no projector of its own", hint="leave it out, or -e llama.cpp")
    if beside is not None:
        chosen[str(role)] = beside
    if gpu is None and (where or free or weights_dtype):
        raise OptionError("where things lie needs cards: «gpu NAME»", hint="such as «gpu rtx-4090:2»")
    if gpu is not None:
        seen = {"images": images, "video": video, "audio": audio}
        told = {"free": free, "weights_dtype": weights_dtype, "infer": infer, "where": where, **seen, **chosen}
        _by_device(models, gpu, engine, seq_len, batch_size, told, (fmt, output, unit))
        return
    loaded = [load(name, infer=infer) for name in models]
    asked = []
    for model in loaded:
        usual = usual_workload(model, engine, chosen) if AUTO in {seq_len, batch_size} else None
        lengths = str(usual.seq_len) if usual is not None and seq_len == AUTO else seq_len
        sizes = str(usual.batch_size) if usual is not None and batch_size == AUTO else batch_size
        asked.append((model, o.workloads(lengths, sizes, encoder_len, model)))
    answers = [
        plan_media(model, workload, media, engine, files=processor_files(name) if media else None, **chosen)
        for name, (model, workloads) in zip(models, asked, strict=True)
        for workload in workloads
    ]
    show(EstimateAnswer(answers, per_layer), fmt, output, unit)
    if any(isinstance(answer, NotPredicted) for answer in answers):
        raise typer.Exit(1)


def _by_device(
    models: list[str],
    gpu: str,
    engine: str,
    seq_len: str,
    batch_size: str,
    told: dict[str, Any],
    shown: tuple[str | None, Path | None, str | None],
) -> None:
    """Everything on each device, whether it fits or not."""
    from kvplan.api.placement import place
    from kvplan.cli.output import show
    from kvplan.domain.allocation import NotPredicted
    from kvplan.domain.workload import AUTO
    from kvplan.report.answers.placement import LaidAnswer

    length = "8k" if seq_len == AUTO else seq_len
    requests = "1" if batch_size == AUTO else batch_size
    answers = [place(name, gpu, engine=engine, context=length, batch_size=requests, brief=True, **told) for name in models]
    show(LaidAnswer(answers, verdicts=False), *shown)
    if any(isinstance(answer, NotPredicted) for answer in answers):
        raise typer.Exit(1)
