"""From a request to llama-server's command line: context, slots, batch, flash attention, GPUs, and the step down.

Source: ollama 0.32.15 (fb3076099), `server/routes.go` (`Serve`, `modelOptions`), `server/sched.go` (`getRunner`, `load`,
`automaticGenerationBatch`, `selectLlamaServerPlacement`, `reduceAutoNumCtxForLoadOOM`), `llm/server.go` (`NewLlamaServer`),
`llm/llama_server.go` (`startLlamaServer`), `ml/device.go` (`FlashAttentionSupported`). Golden: `tests/golden/ollama.jsonl`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from kvplan.engines.ollama.environment import Environment
from kvplan.engines.ollama.metadata import Metadata
from kvplan.errors import OptionError, shown
from kvplan.units import GIB, MIB

Flash = Literal["auto", "on", "off"]
#: Memory of all GPUs -> the context that the server then gives when nobody says.
TIERS: Final = ((47 * GIB, 262_144), (23 * GIB, 32_768), (0, 4_096))
#: Families of the config blob whose models are given one slot (`server/sched.go:load`).
ONE_SLOT: Final = frozenset(
    {
        "mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe",
        "nemotron_h_omni",
    }
)  # fmt: skip
_QWEN_VISION: Final = frozenset({"qwen2vl", "qwen25vl", "qwen3vl", "qwen3vlmoe"})
_SMALL, _DEFAULT, _MEDIUM, _LARGE = 256, 512, 1024, 2048
#: Batch -> (percent of free memory that the model may take, bytes that the batch is said to take more).
_BATCHES: Final = {_LARGE: (60, 2 * GIB), _MEDIUM: (75, 768 * MIB), _DEFAULT: (100, 0)}
_WHOLE: Final = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict", "num_keep")


class Device(Struct, frozen=True, kw_only=True):
    """A GPU as Ollama finds it; `total` and `free` are bytes, the rest as its library says."""

    library: str = "CUDA"
    name: str = "CUDA0"
    total: int = 0
    free: int = 0
    major: int = 0
    minor: int = 0
    driver_major: int = 0
    integrated: bool = False

    @property
    def usable(self) -> int:
        """Free memory, or all of it where that is less or nothing is known of what is free."""
        return self.total if self.free == 0 or 0 < self.total < self.free else self.free

    @property
    def flash(self) -> bool:
        """Whether flash attention is left to llama.cpp on it."""
        if self.library in {"cpu", "Metal", "ROCm", "Vulkan"} or self.name == "Metal":
            return True
        if self.library != "CUDA" or self.major < 6 or (self.major, self.minor) == (7, 2):
            return False
        return self.driver_major == 0 or self.driver_major >= 7


class System(Struct, frozen=True, kw_only=True):
    """The host: bytes in all and free, and whether it is Windows."""

    total: int = 0
    free: int = 0
    windows: bool = False


class Subject(Struct, frozen=True, kw_only=True):
    """A model as Ollama holds it: its GGUF keys, its file's bytes, and what manifest and config blob say of it.

    `options` are the Modelfile's parameters, `draft` the architecture of a draft layer (None: there is none).
    """

    keys: Mapping[str, Any]
    file_bytes: int = 0
    family: str = ""
    families: tuple[str, ...] = ()
    capabilities: frozenset[str] = frozenset({"completion"})
    options: Mapping[str, Any] = field(default_factory=dict)
    draft: str | None = None

    @property
    def metadata(self) -> Metadata:
        """Its keys, as Ollama reads them."""
        return Metadata(self.keys)


class Runner(Struct, frozen=True, kw_only=True):
    """Options of one load (`api.Runner`); None: not said."""

    num_ctx: int = 0
    num_batch: int = _DEFAULT
    num_gpu: int = -1
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int = 0
    draft_num_predict: int = 4
    num_keep: int = 4


class Launch(Struct, frozen=True, kw_only=True):
    """One start of llama-server, by what it is told.

    `num_ctx` are the tokens of one slot, which the model's own length caps; `parallel` slots have as many each.
    """

    num_ctx: int
    parallel: int
    batch: int
    cache_type: str
    flash: Flash
    runner: Runner
    devices: tuple[Device, ...]
    load_mode: str = ""
    draft: str = ""  # --spec-type
    embedding: bool = False
    context_shift: bool = True
    image_tokens: bool = False
    predicted_vram: int = 0
    batch_auto: bool = False

    def arguments(self, model: str, draft_model: str = "", port: str = "<port>") -> list[str]:
        """The command line after the program's name."""
        words = ["--model", model, "--port", port, "--host", "127.0.0.1", "--no-webui", "--offline"]
        words += ["-c", str(self.num_ctx * self.parallel), "-np", str(self.parallel)]
        words += ["--log-verbosity", "4", "--no-log-prefix", "--no-log-timestamps"]
        words += self._draft(draft_model)
        words += ["--image-min-tokens", "1024"] if self.image_tokens else []
        words += ["--load-mode", self.load_mode] if self.load_mode else []
        words += ["--cache-type-k", self.cache_type, "--cache-type-v", self.cache_type] if self.cache_type else []
        words += ["--flash-attn", self.flash]
        words += ["--embedding"] if self.embedding else []
        words += ["-b", str(self.batch), "-ub", str(self.batch)] if self.batch > 0 else []
        words += ["-ngl", str(self.runner.num_gpu)] if self.runner.num_gpu >= 0 else []
        words += ["-t", str(self.runner.num_thread)] if self.runner.num_thread > 0 else []
        words += [] if self.runner.main_gpu is None else ["--split-mode", "none", "--main-gpu", str(self.runner.main_gpu)]
        if self.context_shift:
            words += ["--context-shift", *(["--keep", str(self.runner.num_keep)] if self.runner.num_keep > 0 else [])]
        return words

    def _draft(self, draft_model: str) -> list[str]:
        if not self.draft or self.runner.draft_num_predict <= 0:
            return []
        words = ["--spec-type", self.draft, "--spec-draft-n-max", str(self.runner.draft_num_predict)]
        words += ["--spec-draft-backend-sampling"] if self.draft == "draft-mtp" else []
        return [*words, "--spec-draft-model", draft_model] if draft_model else words


class Started(Struct, frozen=True, kw_only=True):
    """What the server made of a request: each start, and what led to it.

    `total_vram` is the memory by which the tier is chosen, `default_num_ctx` the tier's context, `options_num_ctx` what
    request, model, environment and tier leave, `num_ctx_auto` whether none but the tier said it, `scheduled_num_ctx` after
    the floors.
    """

    total_vram: int
    default_num_ctx: int
    options_num_ctx: int
    num_ctx_auto: bool
    scheduled_num_ctx: int
    launches: tuple[Launch, ...]

    @property
    def retries(self) -> int:
        """Starts after the first."""
        return len(self.launches) - 1


def tier(devices: Sequence[Device], overhead: int = 0) -> tuple[int, int]:
    """(memory of all GPUs, the context that it stands for)."""
    total = sum(device.total - overhead for device in devices) % 2**64  # unsigned in Go: an overhead beyond the total wraps
    return total, next(tokens for least, tokens in TIERS if total >= least)


def start(
    subject: Subject,
    environment: Environment,
    devices: Sequence[Device],
    request: Mapping[str, Any],
    system: System,
    *,
    default_num_ctx: int | None = None,
    runs_out: bool = False,
) -> Started:
    """What the server does with a request for a model that is not loaded, on GPUs that hold no other.

    Args:
        request: its options by Ollama's names.
        default_num_ctx: the tier's context, where it is not to follow from the devices.
        runs_out: the first start runs out of memory.

    Raises:
        OptionError: an option that is no number, as the server refuses it.
    """
    total_vram, by_tier = tier(devices, environment.gpu_overhead)
    by_tier = by_tier if default_num_ctx is None else default_num_ctx
    runner = options_of(subject, environment, request, by_tier)
    auto = "num_ctx" not in request and "num_ctx" not in subject.options and environment.context_length == 0
    batch_auto = "num_batch" not in request and "num_batch" not in subject.options and not _embeds(subject)
    least = 2048 if "vision" in subject.capabilities else 4
    scheduled = replace(runner, num_ctx=max(runner.num_ctx, least))
    first = launch(subject, environment, devices, scheduled, system, batch_auto=batch_auto)
    launches = [first]
    lower = stepped_down(scheduled.num_ctx, subject.metadata.context_length) if runs_out and auto else None
    if lower is not None:
        again = replace(scheduled, num_ctx=lower, num_batch=first.runner.num_batch, use_mmap=first.runner.use_mmap)
        launches.append(launch(subject, environment, devices, again, system, batch_auto=batch_auto))
    return Started(
        total_vram=total_vram,
        default_num_ctx=by_tier,
        options_num_ctx=runner.num_ctx,
        num_ctx_auto=auto,
        scheduled_num_ctx=scheduled.num_ctx,
        launches=tuple(launches),
    )


def options_of(subject: Subject, environment: Environment, request: Mapping[str, Any], by_tier: int) -> Runner:
    """Request before Modelfile before environment before tier.

    Raises:
        OptionError: one that is no number.
    """
    length = environment.context_length
    length = length - 2**64 if length >= 2**63 else length  # int(uint64) in Go
    values: dict[str, Any] = {"num_ctx": length or by_tier}
    for given in (subject.options, request):
        for name in (*_WHOLE, "use_mmap"):
            if given.get(name) is not None:
                values[name] = _typed(name, given[name])
    if _embeds(subject) and "num_batch" not in request and "num_batch" not in subject.options:
        values["num_batch"] = min(_LARGE, values["num_ctx"]) if values["num_ctx"] > 0 else _LARGE
    if subject.draft is None and "draft_num_predict" not in request and "draft_num_predict" not in subject.options:
        values["draft_num_predict"] = 0
    return Runner(**values)


def _typed(name: str, value: Any) -> int | bool:
    if name == "use_mmap":
        if isinstance(value, bool):
            return value
        raise OptionError(f'option "{name}" must be of type boolean', hint=f"got {shown(value)}", option=name)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= 2**63:
        raise OptionError(f'option "{name}" must be of type integer', hint=f"got {shown(value)}", option=name)
    return int(value)


def _embeds(subject: Subject) -> bool:
    return "embedding" in subject.capabilities


def slots(subject: Subject, environment: Environment) -> int:
    """Requests at once that a model is started for."""
    if "completion" not in subject.capabilities or subject.family in ONE_SLOT:
        return 1
    return max(environment.num_parallel, 1) if environment.num_parallel < 2**63 else 1


def launch(
    subject: Subject, environment: Environment, devices: Sequence[Device], runner: Runner, system: System, *, batch_auto: bool
) -> Launch:
    """One load of a model (`Scheduler.load`)."""
    keys, parallel = subject.metadata, slots(subject, environment)
    trained = keys.context_length
    capped = min(runner.num_ctx, trained) if trained else runner.num_ctx
    tokens = capped * parallel
    predicted = keys.predicted_vram(subject.file_bytes, tokens)
    chosen, told = _placed(devices, predicted, runner, system, spread=environment.sched_spread)
    available = _available(chosen, told, system)
    flash = flash_attention(environment, chosen)
    if "completion" in subject.capabilities and batch_auto:
        told = replace(told, num_batch=_batch(tokens, predicted, available, flash, chosen))
    load_mode, told = _load_mode(subject, told, chosen, system, predicted, available)
    embedding = keys.has("pooling_type")
    batch = told.num_batch
    if embedding and batch > 0 and capped > 0:
        batch = min(batch, tokens)
    return Launch(
        num_ctx=capped,
        parallel=parallel,
        batch=batch,
        cache_type=environment.kv_cache_type.lower(),
        flash=flash,
        runner=told,
        devices=tuple(chosen),
        load_mode=load_mode,
        draft=_draft_type(subject, keys),
        embedding=embedding,
        context_shift="deepseek2" not in {subject.family, *subject.families},
        image_tokens=keys.architecture in _QWEN_VISION,
        predicted_vram=predicted,
        batch_auto=batch_auto,
    )


def _draft_type(subject: Subject, keys: Metadata) -> str:
    if subject.draft is not None:
        return "draft-dflash" if subject.draft == "dflash" else "draft-mtp"
    return "draft-mtp" if keys.number("nextn_predict_layers") > 0 else ""


def flash_attention(environment: Environment, devices: Sequence[Device]) -> Flash:
    """What llama-server is told: the environment's word, else off where a GPU cannot, else left to it."""
    if environment.flash_attention is not None:
        return "on" if environment.flash_attention else "off"
    return "auto" if all(device.flash for device in devices) else "off"


def stepped_down(num_ctx: int, trained: int) -> int | None:
    """The context of the one retry after a start that ran out of memory; None: there is none.

    >>> stepped_down(262_144, 131_072), stepped_down(32_768, 0), stepped_down(4_096, 0)
    (32768, 4096, None)
    """
    effective = min(num_ctx, trained) if trained else num_ctx
    lower = 32_768 if effective > 32_768 else 4_096 if effective > 4_096 else None
    return lower if lower is not None and lower < num_ctx else None


def _batch(tokens: int, predicted: int, available: int, flash: Flash, devices: Sequence[Device]) -> int:
    """Tokens of a batch, which is micro-batch too (`automaticGenerationBatch`)."""
    cuda = [device for device in devices if device.library == "CUDA"]
    if flash == "off" and cuda:
        tight = tokens > 4096 and any(0 < device.usable <= 8 * GIB for device in cuda)
        return _SMALL if tight else _DEFAULT
    sizes = (_LARGE, _MEDIUM, _DEFAULT) if tokens > 32_768 else (_MEDIUM, _DEFAULT) if tokens > 4096 else (_DEFAULT,)
    return next((size for size in sizes[:-1] if _fits(size, predicted, available)), _DEFAULT)


def _fits(batch: int, predicted: int, available: int) -> bool:
    if not predicted or not available:
        return True
    percent, more = _BATCHES[batch]
    most = available * 80 // 100
    return predicted <= most and predicted <= available * percent // 100 and more <= most - predicted


def _placed(
    devices: Sequence[Device], predicted: int, runner: Runner, system: System, *, spread: bool
) -> tuple[Sequence[Device], Runner]:
    """The GPUs that a model is started on (`selectLlamaServerPlacement`)."""
    if len(devices) <= 1 or runner.num_gpu == 0:
        return devices, runner
    groups = list({device.library: [d for d in devices if d.library == device.library] for device in devices}.values())
    if runner.main_gpu is not None:
        index = runner.main_gpu
        one = _best([group[index] for group in groups if 0 <= index < len(group)], system)
    else:
        fitting = [d for group in groups for d in group if predicted <= _free(d, system) * 80 // 100]
        one = None if spread or predicted <= 0 else _best(fitting, system)
    if one is not None:
        return [one], replace(runner, main_gpu=0)
    best = groups[0]
    for group in groups[1:]:
        mine, other = (any(not d.integrated for d in g) for g in (group, best))
        if (mine and not other) or (mine == other and _available_of(group, system) > _available_of(best, system)):
            best = group
    return best, runner


def _best(candidates: Sequence[Device], system: System) -> Device | None:
    """Discrete before integrated, then most free memory; the first of equals."""
    return max(candidates, key=lambda device: (not device.integrated, _free(device, system)), default=None)


def _free(device: Device, system: System) -> int:
    return system.free if device.integrated and 0 < system.free < device.free else device.free


def _available(devices: Sequence[Device], runner: Runner, system: System) -> int:
    if runner.main_gpu is not None and 0 <= runner.main_gpu < len(devices):
        return _free(devices[runner.main_gpu], system)
    return _available_of(devices, system)


def _available_of(devices: Sequence[Device], system: System) -> int:
    shared = sum(device.free for device in devices if device.integrated)
    own = sum(device.free for device in devices if not device.integrated)
    return own + system.free if 0 < system.free < shared else own + shared


def _load_mode(
    subject: Subject, runner: Runner, devices: Sequence[Device], system: System, predicted: int, available: int
) -> tuple[str, Runner]:
    """How weights are loaded (`applyLlamaServerMmapDefaults`, `appendLoadModeArgs`): mapped where nothing is said."""
    if runner.use_mmap is None and _unmapped(subject, runner, devices, system, predicted, available):
        runner = replace(runner, use_mmap=False)
    direct = not system.windows and any(d.integrated and d.library.lower() in {"cuda", "rocm"} for d in devices)
    return "dio" if direct else "none" if runner.use_mmap is False else "", runner


def _unmapped(
    subject: Subject, runner: Runner, devices: Sequence[Device], system: System, predicted: int, available: int
) -> bool:
    libraries = {device.library.lower() for device in devices}
    if runner.num_gpu == 0 or libraries <= {"cpu"}:
        return True
    if system.windows and "cuda" in libraries:
        return True
    if "metal" in libraries:
        some = 0 < runner.num_gpu <= subject.metadata.layers
        if some or (runner.num_gpu < 0 and 0 < available < predicted):
            return True
    placed = [devices[runner.main_gpu]] if runner.main_gpu is not None and 0 <= runner.main_gpu < len(devices) else devices
    if system.windows or not subject.file_bytes or not system.free or any(device.integrated for device in placed):
        return False
    if not predicted or not available or predicted > available * 80 // 100:
        return False
    headroom = max(8 * 10**9, system.total // 10) if system.total else 8 * 10**9
    return system.free < subject.file_bytes + headroom
