"""Option types that several commands share, defined once, so that `-s` means the same everywhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from kvplan.errors import OptionError
from kvplan.report.formats import FORMATS, named

if TYPE_CHECKING:
    from kvplan.domain.model import Model
    from kvplan.domain.workload import Workload


def _format(text: str) -> str:
    return named(text).name


MODEL_HELP = (
    "Catalogue name, YAML spec, GGUF file, config.json or its folder, hub id (owner/name), or Ollama's name of a pulled model"
)
ModelArg = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)]


def with_patterns(texts: list[str] | None) -> list[str]:
    """MODEL… with each pattern as the names that it stands for."""
    if not texts or not any("*" in text for text in texts):
        return texts or []
    from kvplan.loading.catalogue import expanded

    return expanded(texts)


ModelsArg = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...", help=f"{MODEL_HELP}; 'qwen3-*' is all that match", show_default=False, callback=with_patterns
    ),
]
SeqLen = Annotated[
    str, typer.Option("-s", "--seq-len", "--context", metavar="TOKENS", help="Tokens of a sequence: 8192, 8k, 1M, max")
]
SeqLens = Annotated[
    str,
    typer.Option("-s", "--seq-len", "--context", metavar="TOKENS[,…]", help="Tokens per sequence: 8192, 8k, 1M, max, or several"),
]
BatchSizes = Annotated[
    str, typer.Option("-b", "--batch-size", "--batch", metavar="N[,…]", help="Sequences held at once, or several numbers")
]
OwnSeqLens = Annotated[
    str,
    typer.Option(
        "-s",
        "--seq-len",
        "--context",
        metavar="TOKENS[,…]",
        help="Tokens per sequence: 8192, 8k, 1M, max, or several; auto: 8k, or the engine's own",
    ),
]
OwnBatchSizes = Annotated[
    str,
    typer.Option(
        "-b",
        "--batch-size",
        "--batch",
        metavar="N[,…]",
        help="Sequences held at once, or several numbers; auto: 1, or the engine's own",
    ),
]
BatchSize = Annotated[str, typer.Option("-b", "--batch-size", "--batch", metavar="N", help="Sequences held at once")]
EncoderLen = Annotated[str, typer.Option("--encoder-len", metavar="TOKENS", help="Encoder or image tokens, for cross-attention")]
Images = Annotated[
    str | None,
    typer.Option("--images", metavar="[N x]H x W", help="Images of each request: 4x1024x1024 (count x height x width)"),
]
Video = Annotated[
    str | None, typer.Option("--video", metavar="S@FPS@HxW", help="A video of each request: 60s@1fps@720x1280 (height x width)")
]
Audio = Annotated[str | None, typer.Option("--audio", metavar="[N x]S", help="A clip of each request: 30s")]
EngineOpt = Annotated[
    str, typer.Option("-e", "--engine", metavar="NAME[@VERSION]", help="Whose allocation; see `kvplan engines`")
]
KvDtype = Annotated[str, typer.Option("--kv-dtype", metavar="DTYPE", help="Cache dtype (auto: the model's); see `kvplan dtypes`")]
TensorParallel = Annotated[
    int, typer.Option("--tensor-parallel", "--tp", min=1, metavar="N", help="Devices that split the KV heads")
]
SetOpt = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any option of the engine by its own name")]
FormatOpt = Annotated[
    str | None,
    typer.Option(
        "-f",
        "--format",
        parser=_format,
        metavar="FORMAT",
        help=f"{', '.join(row.short or row.name for row in FORMATS)} (default: what FILE's name says, else a table)",
    ),
]
Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the report to FILE")]
Plots = Annotated[
    Path | None,
    typer.Option("--plots", metavar="FOLDER", help="Also every figure, a file each: SVG, or as -f pdf or -f png says"),
]
Unit = Annotated[str | None, typer.Option("--unit", metavar="UNIT", help="One unit for all bytes: MiB, GiB, GB (10**9) …")]
Infer = Annotated[bool, typer.Option("--infer", help="Read an unknown architecture by shape; the result is marked inferred")]
PerLayer = Annotated[bool, typer.Option("--per-layer", help="One row a layer")]
ServerOpt = Annotated[str, typer.Option("-e", "--engine", metavar="NAME[@VERSION]", help="The server; see `kvplan engines`")]
Memory = Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Memory of each GPU, if you know better")]
Weights = Annotated[str | None, typer.Option("--weights", metavar="SIZE", help="Bytes of the weights: 16GB, 15GiB")]
WeightsDtype = Annotated[
    str | None,
    typer.Option("--weights-dtype", metavar="DTYPE", help="The weights in another format: bf16, fp8, awq, nvfp4, q4_k_m …"),
]
Reserve = Annotated[str | None, typer.Option("--reserve", metavar="SIZE", help="For activations and runtime, on each GPU")]
Utilization = Annotated[str | None, typer.Option("--utilization", metavar="SHARE", help="Share of the memory to use: 0.9")]
Free = Annotated[
    str | None, typer.Option("--free", metavar="SIZE[,…]", help="What other tenants leave of each device: 22.1GiB, one a rank")
]
Machine = Annotated[
    Path | None, typer.Option("--machine", metavar="FILE", help="What only your machine knows (`kvplan audit LOG --save FILE`)")
]
Offline = Annotated[bool, typer.Option("--offline", help="Used in a program (vLLM's LLM class), not as a server")]
Host = Annotated[
    str | None, typer.Option("--host", metavar="SIZE", help="Host memory below the GPUs: how many tokens each of its tiers holds")
]
Disk = Annotated[str | None, typer.Option("--disk", metavar="SIZE", help="And disk: 2TB")]
Sessions = Annotated[
    str | None, typer.Option("--sessions", metavar="TEXT", help='Conversations that come back: "200 at 60k"; how many stay?')
]
_PLACES: Final = "Where things lie (engines that deal layers out to cards and host)"
_AT: Final[dict[str, Any]] = {"rich_help_panel": _PLACES}
SideBySide = Annotated[
    str | None, typer.Option("--gpu", metavar="NAME[:N][,…]", help="Cards side by side: everything by device", **_AT)
]
GpuLayers = Annotated[
    str | None,
    typer.Option("-ngl", "--gpu-layers", metavar="N", help="Layers on the cards, the last ones", **_AT),
]
LayerSplit = Annotated[str | None, typer.Option("-ts", "--tensor-split", metavar="A,B", help="Shares of the cards", **_AT)]
CpuMoe = Annotated[
    int | None,
    typer.Option(
        "-ncmoe", "--n-cpu-moe", min=1, metavar="N", help="Experts of the first N layers on the host", rich_help_panel=_PLACES
    ),
]
Overrides = Annotated[
    str | None,
    typer.Option("-ot", "--override-tensor", metavar="PATTERN=BUFFER", help="Tensors by name elsewhere", **_AT),
]
NoKvOffload = Annotated[bool, typer.Option("--no-kv-offload", "-nkvo", help="The cache in host memory", **_AT)]
Drafter = Annotated[str | None, typer.Option("-md", "--model-draft", metavar="MODEL", help="A drafter beside the model", **_AT)]
Projector = Annotated[str | None, typer.Option("--mmproj", metavar="FILE", help="A projector (GGUF) beside the model", **_AT)]
Workers = Annotated[str, typer.Option("--workers", metavar="N", help="Processes of this machine that compute it")]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Dask's scheduler, whose workers compute it instead")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No remarks on stderr")]


#: Parameter of the Python API -> its flag, where that is not the name with dashes.
_FLAGS: Final = {
    "batch_size": "--batch",
    "data_parallel": "--dp",
    "expert_parallel": "--ep",
    "engine": "-e",
    "kv_dtypes": "--kv-dtype",
    "overrides": "--set",
    "tensor_parallel": "--tp",
}


def flag(name: str, value: str = "") -> str:
    """A parameter of the Python API, as the command line takes it: the one place where names become flags.

    >>> flag("weights_dtype"), flag("weights", "16GB")
    ('--weights-dtype', '--weights 16GB')
    """
    return " ".join(filter(None, (_FLAGS.get(name) or f"--{name.replace('_', '-')}", value)))


def engine_options(settings: list[str] | None, *, kv_dtype: str, tensor_parallel: int) -> dict[str, Any]:
    """The options for an engine: `--set` pairs over the shared ones.

    Raises:
        OptionError: a `--set` without `=`, or given twice.
        KvplanError: a drafter that cannot be loaded.
    """
    options: dict[str, Any] = {}
    if kv_dtype != "auto":
        options["kv_dtype"] = kv_dtype
    if tensor_parallel != 1:
        options["tensor_parallel"] = tensor_parallel
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise OptionError(f"--set: expected KEY=VALUE, got `{setting[:60]}`")
        if key in options:
            raise OptionError(f"--set: `{key[:60]}` is given twice")
        options[key] = value
    return _loaded(options)


def _loaded(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with what they name beside the model loaded."""
    if isinstance(options.get("draft"), str):  # a drafter is named as any MODEL is
        from kvplan.loading import load

        options["draft"] = load(options["draft"])
    for name in ("mmproj", "lora"):
        if isinstance(options.get(name), str):
            options[name] = _beside(options[name])
    return options


def _beside(name: str) -> Any:
    from kvplan.files import expanded
    from kvplan.loading.gguf_file import load_side_file

    return load_side_file(expanded(name))


def placing(
    *,
    gpu_layers: str | None = None,
    tensor_split: str | None = None,
    n_cpu_moe: int | None = None,
    override_tensor: str | None = None,
    no_kv_offload: bool = False,
    model_draft: str | None = None,
    mmproj: str | None = None,
) -> dict[str, Any]:
    """Where things lie, in kvplan's own words."""
    from kvplan.loading import load

    given = {
        "layers": {None: None, "all": "-2", "auto": "-1"}.get(gpu_layers, gpu_layers),
        "shares": tensor_split,
        "cpu_experts": n_cpu_moe,
        "elsewhere": override_tensor,
        "cache_on_cards": False if no_kv_offload else None,
        "drafter": None if model_draft is None else load(model_draft),
        "projector": None if mmproj is None else _beside(mmproj),
    }
    return {word: value for word, value in given.items() if value is not None}


def with_offline(options: dict[str, Any], offline: bool) -> dict[str, Any]:
    """The options, told that the engine is used in a program instead of as a server, in kvplan's own word for it."""
    return {**options, "offline": True} if offline else options


def listed(text: str, what: str) -> list[str]:
    """The parts of a comma-separated option, each once.

    Raises:
        OptionError: an empty part.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise OptionError(f"{what}: `{text[:60]}` has an empty part", hint="separate values with single commas")
    return list(dict.fromkeys(parts))


def listed_engines(text: str) -> list[str]:
    """Engines with commas between; `all` is every one that is predicted.

    Raises:
        OptionError: an empty part.
    """
    if text.strip().lower() != "all":
        return listed(text, "--engine")
    from kvplan.engines import PREDICTED

    return list(PREDICTED)


def remark_on_lists(*texts: str) -> None:
    """Say on stderr how a list was read that could also be one number, such as `8,192`."""
    from kvplan.cli.output import remark
    from kvplan.units import as_one_number

    for text in texts:
        number = as_one_number(text)
        if number:
            remark(f"note: `{text}` is a list, {text.replace(',', ' and ')}; as one number it is `{number}`")


def workload(seq_len: str, batch_size: str, encoder_len: str, *models: "Model") -> "Workload":
    """The workload that the shared options ask for, of models that are asked about together.

    Raises:
        OptionError: a count that is not one.
    """
    from kvplan.domain.workload import Workload, with_longest
    from kvplan.units import parse_count

    return Workload(
        batch_size=parse_count(batch_size, what="--batch-size"),
        seq_len=parse_count(with_longest(seq_len, models, "--seq-len"), what="--seq-len"),
        encoder_len=parse_count(encoder_len, what="--encoder-len", minimum=0),
    )


def workloads(seq_len: str, batch_size: str, encoder_len: str, *models: "Model") -> list["Workload"]:
    """The workloads of lists of lengths and batch sizes, the lengths outermost.

    Raises:
        OptionError: a count that is not one, or too many of them.
    """
    from kvplan.domain.workload import Workload, with_longest
    from kvplan.limits import WORKLOADS
    from kvplan.units import parse_count, parse_counts

    lengths = ",".join(with_longest(part, models, "--seq-len") for part in seq_len.split(","))
    found = [
        parse_counts(text, what=what, most=WORKLOADS) for text, what in ((lengths, "--seq-len"), (batch_size, "--batch-size"))
    ]
    if len(found[0]) * len(found[1]) > WORKLOADS:
        raise OptionError(
            f"{len(found[0]) * len(found[1]):,} lengths and batch sizes are too many here", hint="`kvplan sweep` takes grids"
        )
    encoder = parse_count(encoder_len, what="--encoder-len", minimum=0)
    remark_on_lists(seq_len, batch_size)
    return [Workload(batch_size=n, seq_len=tokens, encoder_len=encoder) for tokens in found[0] for n in found[1]]
