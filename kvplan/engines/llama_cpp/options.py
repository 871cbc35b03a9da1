"""The options of `-e llama.cpp`, by llama.cpp's own flag names, and the defaults of its four front ends.

Source: llama.cpp 0c1e57098, `src/llama-context.cpp` (`llama_context_default_params`), `common/common.h`
(`common_params`), `tools/server/server.cpp`; llama-cpp-python 0.3.36, `llama_cpp/llama.py` (`Llama.__init__`).
"""

from __future__ import annotations

from shlex import quote
from typing import Any, Final, Literal

from msgspec import Struct

from kvplan.domain.dtypes import lookup
from kvplan.domain.model import Model
from kvplan.domain.stored import SideFile
from kvplan.engines.kernel.releases import Release
from kvplan.engines.llama_cpp.builds import BATCH, FLASH, LATEST, SLOTS, STREAMS, build
from kvplan.engines.llama_cpp.memory import CACHE_TYPES
from kvplan.engines.llama_cpp.placement.patterns import overrides
from kvplan.engines.llama_cpp.placement.split import shares_of
from kvplan.errors import OptionError, nearest
from kvplan.gguf.ggml import GGML_TYPES

#: Stands for a drafter's file that nobody has named.
DRAFT_FILE: Final = "DRAFT.gguf"
CACHE_RAM_MIB: Final = 8192  # --cache-ram where nobody says
CHECKPOINTS: Final = 32  # --ctx-checkpoints: of each slot
AUTO: Final = -1  # `--parallel -1`: the front end chooses
Flash = Literal["on", "off", "auto"]


class FrontEnd(Struct, frozen=True, kw_only=True):
    """What a front end passes to `llama_init_from_model` when nothing is typed."""

    parallel: int = 1
    kv_unified: bool = False  # when the front end chose the number of sequences
    swa_full: bool = False
    flash_attn: Flash = "auto"
    batch: int = 2048
    ubatch_size: int = 512


class Settled(Struct, frozen=True, kw_only=True):
    """What a build makes of the options: flash attention, sequences (None: the workload's), one pool of cells, a batch."""

    flash: Flash
    sequences: int | None
    unified: bool
    batch: int


FRONT_ENDS: Final[dict[str, FrontEnd]] = {
    "server": FrontEnd(parallel=4, kv_unified=True),
    "cli": FrontEnd(),
    "library": FrontEnd(swa_full=True),
    "python": FrontEnd(swa_full=True, flash_attn="off", batch=512),
}
_FLASH: Final[dict[str, Flash]] = {
    "on": "on", "1": "on", "true": "on", "enabled": "on", "off": "off", "0": "off", "false": "off", "disabled": "off",
    "auto": "auto", "-1": "auto",
}  # fmt: skip
#: Builds from which the command line has `-fa on`, `--kv-unified` and `--no-kv-unified` (common/arg.cpp).
_FLASH_TAKES_A_VALUE, _UNIFIES, _DIVIDES = 6325, 5913, 7856
_BY_DTYPE: Final = {dtype: name for name, dtype in CACHE_TYPES.items()}
_TYPE_IDS: Final = {name: number for number, (name, _, _) in GGML_TYPES.items()}


#: Counts, and their least value.
_LEAST: Final = {
    "ctx_size": 0, "parallel": AUTO, "batch": 1, "ubatch_size": 0, "n_rs_seq": 0, "cache_ram": -1, "ctx_checkpoints": 0,
    "image_min_tokens": 1, "image_max_tokens": 1,
}  # fmt: skip


class LlamaCppOptions(Struct, frozen=True, kw_only=True):
    """llama.cpp's flags; None is the front end's default.

    `frontend`: `server` (llama-server, Ollama, LM Studio), `cli`, `library` (the C API) or `python` (llama_cpp.Llama).
    `ctx_size`: cells in all (`-c`); None: enough for every sequence of the workload; 0: the model's context length.
    `parallel`: sequences (`-np`); None: the workload's batch; -1: what the front end chooses (server: 4, unified).
    `kv_dtype` sets both cache types. `offload_kqv` moves the cache, and never changes its size.
    Where things lie: `n_gpu_layers` (`-ngl`; -1: what `--fit` chooses, or all), `split_mode`, `tensor_split` (`-ts 3,1`),
    `main_gpu`, `device` (`-dev CUDA1,CUDA0`), `n_cpu_moe`, `cpu_moe`, `override_tensor`, `mmap`,
    `fit` (False: `-fit off`, it changes nothing by itself).
    Beside the model: `draft` (`-md`, a model) with `n_gpu_layers_draft`, `spec_type` (`draft-mtp`: a context of the NextN layers
    on the same weights), `mmproj` (a projector's file), `lora` (an adapter's).
    """

    frontend: str = "server"
    ctx_size: int | None = None
    parallel: int | None = None
    batch: int | None = None
    ubatch_size: int | None = None
    kv_dtype: str = "auto"
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    flash_attn: str | None = None
    swa_full: bool | None = None
    kv_unified: bool | None = None
    n_rs_seq: int = 0
    ctx_type: str = "default"
    embeddings: bool = False
    offload_kqv: bool = True
    cache_ram: int = CACHE_RAM_MIB  # MiB of host memory for prompts; -1: no limit, 0: none
    ctx_checkpoints: int = CHECKPOINTS  # of each slot
    image_min_tokens: int | None = None  # of projectors with a limit
    image_max_tokens: int | None = None
    n_gpu_layers: int = AUTO
    split_mode: str = "layer"
    tensor_split: str | None = None
    main_gpu: int = 0
    device: str | None = None
    n_cpu_moe: int = 0
    cpu_moe: bool = False
    override_tensor: str | None = None
    mmap: bool = True
    fit: bool = True
    spec_type: str | None = None
    draft: Model | None = None
    n_gpu_layers_draft: int = AUTO
    mmproj: SideFile | None = None
    lora: SideFile | None = None

    def __post_init__(self) -> None:
        _one_of("split_mode", self.split_mode, ("layer", "none", "row"))
        if self.spec_type is not None:
            _one_of("spec_type", self.spec_type, ("draft-mtp", "none"))
        if self.tensor_split is not None:
            shares_of(self.tensor_split)
        overrides(self.override_tensor)
        for name, minimum, maximum in (
            ("n_gpu_layers", -2, 2**31), ("n_gpu_layers_draft", -2, 2**31), ("main_gpu", -1, 256), ("n_cpu_moe", 0, 1024),
        ):  # fmt: skip
            if not minimum <= getattr(self, name) < maximum:
                got = getattr(self, name)
                raise OptionError(f"llama.cpp option {name} must be from {minimum} to {maximum - 1:,}, got {got}", option=name)
        _one_of("frontend", self.frontend, FRONT_ENDS)
        _one_of("ctx_type", self.ctx_type, ("default", "mtp"))
        if self.flash_attn is not None:
            _one_of("flash_attn", self.flash_attn.lower(), _FLASH)
        for name in ("cache_type_k", "cache_type_v"):
            if getattr(self, name) is not None:
                _one_of(name, getattr(self, name), CACHE_TYPES)
        if self.kv_dtype != "auto":
            _cache_type(self.kv_dtype)
        for name, minimum in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not minimum <= value < 2**31:
                raise OptionError(f"llama.cpp option {name} must be from {minimum} to 2**31 - 1, got {value}", option=name)

    @property
    def front(self) -> FrontEnd:
        """The front end's defaults."""
        return FRONT_ENDS[self.frontend]

    @property
    def n_batch(self) -> int:
        """Tokens of a logical batch."""
        return self.front.batch if self.batch is None else self.batch

    @property
    def n_ubatch(self) -> int:
        """Tokens of a physical batch; 0 means a logical batch."""
        return self.front.ubatch_size if self.ubatch_size is None else self.ubatch_size

    @property
    def type_k(self) -> str:
        """ggml's name of the key type."""
        return self.cache_type_k or ("f16" if self.kv_dtype == "auto" else _cache_type(self.kv_dtype))

    @property
    def type_v(self) -> str:
        """ggml's name of the value type."""
        return self.cache_type_v or ("f16" if self.kv_dtype == "auto" else _cache_type(self.kv_dtype))

    def settled(self, release: Release) -> Settled:
        """What a build makes of what nobody typed, and of what it has no words for."""
        chosen = self.frontend == "server" and self.parallel == AUTO
        slots = SLOTS.at(release) if chosen else 0
        default = FLASH.at(release) if self.flash_attn is None and self.front.flash_attn == "auto" else self.flash
        return Settled(
            flash=default,
            sequences=slots or self.sequences,
            unified=(self.unified and slots != 1) or not STREAMS.at(release),
            batch=min(self.n_batch, BATCH.at(release)) if self.batch is None else self.n_batch,
        )

    @property
    def flash(self) -> Flash:
        """Flash attention: on, off, or auto (which counts as on for sizes)."""
        return self.front.flash_attn if self.flash_attn is None else _FLASH[self.flash_attn.lower()]

    @property
    def keeps_all(self) -> bool:
        """Whether sliding layers keep every token (`--swa-full`)."""
        return self.front.swa_full if self.swa_full is None else self.swa_full

    @property
    def sequences(self) -> int | None:
        """`n_seq_max`, or None for the workload's batch."""
        if self.frontend == "python" and self.parallel is None:
            return min(self.n_batch, 256) if self.embeddings else 1
        return self.front.parallel if self.parallel == AUTO else self.parallel

    @property
    def unified(self) -> bool:
        """Whether all sequences share one pool of cells."""
        if self.kv_unified is not None:
            return self.kv_unified
        if self.frontend == "python":
            return self.embeddings and self.parallel is None
        return self.parallel == AUTO and self.front.kv_unified

    @property
    def placed(self) -> str:
        """What to type for the places of things; empty where nothing was said of them."""
        words = [f"-ngl {'all' if self.n_gpu_layers == -2 else self.n_gpu_layers}"] if self.n_gpu_layers != AUTO else []
        words += [f"-sm {self.split_mode}"] if self.split_mode != "layer" else []
        words += [f"-ts {self.tensor_split.replace(' ', '')}"] if self.tensor_split is not None else []
        words += [f"-mg {self.main_gpu}"] if self.main_gpu else []
        words += [f"-dev {quote(self.device)}"] if self.device is not None else []
        words += ["--cpu-moe"] if self.cpu_moe else []
        words += [f"--n-cpu-moe {self.n_cpu_moe}"] if self.n_cpu_moe else []
        words += [f"-ot {quote(self.override_tensor)}"] if self.override_tensor else []
        words += ["--no-mmap"] if not self.mmap else []
        words += ["-fit off"] if not self.fit else []
        words += [f"--spec-type {self.spec_type}"] if self.spec_type not in {None, "none"} else []
        words += [f"-md {quote(self.draft.gguf or DRAFT_FILE)}"] if self.draft is not None else []
        words += [f"-ngld {self.n_gpu_layers_draft}"] if self.n_gpu_layers_draft != AUTO else []
        words += [f"--mmproj {quote(self.mmproj.typed)}"] if self.mmproj is not None else []
        words += [f"--lora {quote(self.lora.typed)}"] if self.lora is not None else []
        return " ".join(words)

    def flags(self, n_ctx: int, n_seq_max: int, release: Release = LATEST) -> str:
        """What to type to get this cache."""
        if self.frontend == "python":
            return self._python(n_ctx)
        return self._fields(n_ctx, n_seq_max) if self.frontend == "library" else self._command(n_ctx, n_seq_max, release)

    def _command(self, n_ctx: int, n_seq_max: int, release: Release) -> str:
        words = ["llama-server" if self.frontend == "server" else "llama-cli", f"-c {n_ctx}"]
        if self.parallel != AUTO:
            words.append(f"-np {n_seq_max}")
        if (self.type_k, self.type_v) != ("f16", "f16"):
            words += [f"-ctk {self.type_k}", f"-ctv {self.type_v}"]
        words += [f"-b {self.batch}"] if self.batch is not None else []
        words += [f"-ub {self.ubatch_size}"] if self.ubatch_size is not None else []
        if release < build(_FLASH_TAKES_A_VALUE):
            words += ["-fa"] if self.flash == "on" else []
        else:
            words += [f"-fa {self.flash}"] if self.flash_attn is not None else []
        words += ["--swa-full"] if self.keeps_all else []
        if self.kv_unified is not None and release >= build(_UNIFIES if self.kv_unified else _DIVIDES):
            words.append("--kv-unified" if self.kv_unified else "--no-kv-unified")
        words += [f"--cache-ram {self.cache_ram}"] if self.cache_ram != CACHE_RAM_MIB else []
        words += [f"--ctx-checkpoints {self.ctx_checkpoints}"] if self.ctx_checkpoints != CHECKPOINTS else []
        words += ["--embedding"] if self.embeddings else []
        words += ["--no-kv-offload"] if not self.offload_kqv else []
        words += [f"--image-min-tokens {self.image_min_tokens}"] if self.image_min_tokens is not None else []
        words += [f"--image-max-tokens {self.image_max_tokens}"] if self.image_max_tokens is not None else []
        words += [self.placed] if self.placed else []
        return " ".join(words)

    def _fields(self, n_ctx: int, n_seq_max: int) -> str:
        """Fields of `llama_context_params`, those at their default left out."""
        named: dict[str, Any] = {"n_ctx": n_ctx, "n_seq_max": n_seq_max}
        if (self.type_k, self.type_v) != ("f16", "f16"):
            named |= {"type_k": f"GGML_TYPE_{self.type_k.upper()}", "type_v": f"GGML_TYPE_{self.type_v.upper()}"}
        named |= {"n_batch": self.batch} if self.batch is not None else {}
        named |= {"n_ubatch": self.ubatch_size} if self.ubatch_size is not None else {}
        named |= {"swa_full": "false"} if not self.keeps_all else {}
        named |= {"kv_unified": "true"} if self.unified else {}
        return ", ".join(f"{name} = {value}" for name, value in named.items())

    def _python(self, n_ctx: int) -> str:
        named: dict[str, Any] = {"n_ctx": n_ctx}
        if (self.type_k, self.type_v) != ("f16", "f16"):
            named |= {"type_k": _TYPE_IDS[self.type_k], "type_v": _TYPE_IDS[self.type_v]}
        named |= {"n_batch": self.batch} if self.batch is not None else {}
        named |= {"n_ubatch": self.ubatch_size} if self.ubatch_size is not None else {}
        named |= {"flash_attn": self.flash == "on"} if self.flash_attn is not None else {}
        named |= {"swa_full": self.swa_full} if self.swa_full is not None else {}
        named |= {"embedding": True} if self.embeddings else {}
        return f"Llama({', '.join(f'{name}={value}' for name, value in named.items())})"


def _one_of(name: str, value: str, known: Any) -> None:
    if value not in known:
        near = nearest(value, known)
        raise OptionError(
            f"llama.cpp option {name}: there is no `{value[:40]}`",
            hint=f"did you mean `{near}`?" if near else f"one of {', '.join(known)}",
            option=name,
        )


def _cache_type(kv_dtype: str) -> str:
    """ggml's name of a cache dtype.

    Raises:
        OptionError: llama.cpp's caches do not take it.
    """
    name = _BY_DTYPE.get(lookup(kv_dtype).name)
    if name is None:
        raise OptionError(
            f"llama.cpp keeps no cache in {kv_dtype[:40]}", hint=f"its cache types: {', '.join(CACHE_TYPES)}", option="kv_dtype"
        )
    return name
