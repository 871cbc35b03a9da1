"""The options of `-e ollama`: a model's and a request's parameters, and the server's variables without their `OLLAMA_`."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from kvplan.domain.dtypes import lookup
from kvplan.engines.llama_cpp.memory import CACHE_TYPES
from kvplan.engines.ollama.environment import Environment
from kvplan.errors import OptionError

_BY_DTYPE: Final = {dtype: name for name, dtype in CACHE_TYPES.items()}
#: What a request may say (`api.Runner`).
REQUEST: Final = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "draft_num_predict")
_MOST: Final = 2**31


class OllamaOptions(Struct, frozen=True, kw_only=True):
    """Ollama's own words; None is what it does when nobody says.

    `num_ctx` (tokens of one slot), `num_batch`, `num_gpu` (layers on GPUs), `main_gpu`, `use_mmap` and `draft_num_predict` are
    parameters of a Modelfile or a request. `context_length`, `num_parallel`, `kv_cache_type`, `flash_attention`,
    `gpu_overhead`, `sched_spread` and (up to 0.24) `new_engine` are the server's variables: `OLLAMA_NUM_PARALLEL` is
    `num_parallel`, and both are taken.
    `kv_cache_type` auto: not set. `device_memory_bytes` of each of `gpus` cards, by which the default context goes, and
    their `compute_capability` (89 is sm_89).
    """

    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    use_mmap: bool | None = None
    draft_num_predict: int | None = None
    context_length: int = 0
    num_parallel: int | None = None
    kv_cache_type: str = "auto"
    flash_attention: bool | None = None
    gpu_overhead: int = 0
    sched_spread: bool = False
    new_engine: bool = False
    gpus: int = 1
    device_memory_bytes: int = 0
    compute_capability: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("num_ctx", 0), ("num_batch", 1), ("num_gpu", -1), ("main_gpu", 0), ("draft_num_predict", 0), ("context_length", 0),
            ("num_parallel", 0), ("gpus", 1), ("compute_capability", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not least <= value < _MOST:
                raise OptionError(f"ollama option {name} must be from {least} to 2**31 - 1, got {value}", option=name)
        for name in ("gpu_overhead", "device_memory_bytes"):
            if not 0 <= getattr(self, name) < 2**60:
                raise OptionError(f"ollama option {name}: bytes from 0 to 2**60 are needed", option=name)
        if self.gpus > 64:
            raise OptionError("ollama option gpus: at most 64 are read", option="gpus")
        if self.kv_cache_type != "auto" and self.kv_cache_type.lower() not in CACHE_TYPES:
            self._own_word(self.kv_cache_type)

    @staticmethod
    def _own_word(kv_dtype: str) -> str:
        """llama.cpp's word for a dtype of kvplan's.

        Raises:
            OptionError: its caches do not take it.
        """
        name = _BY_DTYPE.get(lookup(kv_dtype).name)
        if name is None:
            raise OptionError(
                f"Ollama passes `{kv_dtype[:40]}` on, and llama-server keeps no such cache",
                hint=f"its cache types: {', '.join(CACHE_TYPES)}",
                option="kv_cache_type",
            )
        return name

    @property
    def cache_type(self) -> str:
        """What the variable is set to; empty where it is not."""
        if self.kv_cache_type == "auto":
            return ""
        word = self.kv_cache_type.lower()
        return word if word in CACHE_TYPES else self._own_word(self.kv_cache_type)

    @property
    def environment(self) -> Environment:
        """The server's variables."""
        return Environment(
            context_length=self.context_length,
            num_parallel=1 if self.num_parallel is None else self.num_parallel,
            kv_cache_type=self.cache_type,
            flash_attention=self.flash_attention,
            gpu_overhead=self.gpu_overhead,
            sched_spread=self.sched_spread,
        )

    @property
    def request(self) -> dict[str, Any]:
        """The parameters that were given."""
        return {name: value for name in REQUEST if (value := getattr(self, name)) is not None}
