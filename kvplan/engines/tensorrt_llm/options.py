"""TensorRT-LLM's options that decide how large the cache is, by the names of `trtllm-serve` and of its YAML.

Source: TensorRT-LLM 1.4.0rc4, `commands/serve.py`, `llmapi/llm_args.py:KvCacheConfig`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from msgspec import Struct

from kvplan.domain.model import Model
from kvplan.errors import OptionError

#: `kv_cache_config.dtype` as it is typed -> kvplan's word; empty: what the checkpoint says.
DTYPES: Final = {
    "auto": "", "fp8": "fp8_e4m3", "fp8_e4m3": "fp8_e4m3", "float8_e4m3fn": "fp8_e4m3", "nvfp4": "nvfp4", "int8": "int8",
    "bf16": "bfloat16", "bfloat16": "bfloat16", "fp16": "float16", "float16": "float16", "half": "float16",
    "fp32": "float32", "float32": "float32", "float": "float32",
}  # fmt: skip
_STATES: Final = {"auto": "", "bfloat16": "bfloat16", "float16": "float16", "float32": "float32"}
_LIST: Final = re.compile(r"\s*\[?\s*([\d.\s,]{0,4000})\]?\s*", re.ASCII)
_LIMIT: Final = 2**40


class TrtllmOptions(Struct, frozen=True, kw_only=True):
    """Options by TensorRT-LLM's own names; None is what it decides.

    The names of `kv_cache_config` stand for themselves, its dtype as `kv_cache_dtype`. `max_attention_window` and
    `window_size_shares` are lists: `1024,131072`.
    """

    backend: str = "auto"  # or pytorch, tensorrt: by release
    kv_cache_dtype: str = "auto"  # or fp8, nvfp4
    tp_size: int = 1
    pp_size: int = 1
    enable_attention_dp: bool = False
    max_seq_len: int | None = None  # tokens
    max_batch_size: int | None = None
    max_num_tokens: int = 8192
    kv_cache_free_gpu_memory_fraction: float = 0.9
    tokens_per_block: int | None = None
    max_attention_window: str = ""  # tokens of each layer, repeated
    window_size_shares: str = ""  # TRTLLM_WINDOW_SIZE_SHARES, the smallest window first
    max_tokens: int | None = None
    max_gpu_total_bytes: int = 0  # 0: the fraction alone
    host_cache_size: int = 0  # bytes
    cross_kv_cache_fraction: float | None = None
    use_kv_cache_manager_v2: bool | str = "auto"  # the model's own choice
    avg_seq_len: int | None = None
    enable_block_reuse: bool = True
    periodic_snapshot_interval: int | None = None  # tokens between states that are kept for reuse
    mamba_ssm_cache_dtype: str = "auto"
    num_nextn_predict_layers: int = 0  # MTP
    draft: Model | None = None  # a drafter's own model
    max_draft_len: int = 0  # tokens that such a drafter proposes
    disable_overlap_scheduler: bool = False
    compute_capability: int = 90

    def __post_init__(self) -> None:
        _one_of(self, "backend", ("auto", "pytorch", "tensorrt"))
        _one_of(self, "kv_cache_dtype", DTYPES)
        _one_of(self, "mamba_ssm_cache_dtype", _STATES)
        if isinstance(self.use_kv_cache_manager_v2, str):
            _one_of(self, "use_kv_cache_manager_v2", ("auto",))
        for name in ("tp_size", "pp_size", "max_num_tokens", "compute_capability"):
            _within(self, name, 1)
        for name in ("max_gpu_total_bytes", "host_cache_size", "num_nextn_predict_layers", "max_draft_len"):
            _within(self, name, 0)
        for name in (
            "max_seq_len", "max_batch_size", "tokens_per_block", "max_tokens", "avg_seq_len", "periodic_snapshot_interval",
        ):  # fmt: skip
            if getattr(self, name) is not None:
                _within(self, name, 1)
        if self.num_nextn_predict_layers > _MOST_DRAFTED or self.max_draft_len > _MOST_DRAFTED:
            raise OptionError(f"no drafter proposes more than {_MOST_DRAFTED} tokens", option="num_nextn_predict_layers")
        if not 0 < self.kv_cache_free_gpu_memory_fraction < 1:
            raise OptionError(
                f"kv_cache_free_gpu_memory_fraction must be above 0 and below 1, got {self.kv_cache_free_gpu_memory_fraction:g}",
                hint="it is a share of the memory that is free once weights and activations have theirs",
                option="kv_cache_free_gpu_memory_fraction",
            )
        if self.cross_kv_cache_fraction is not None and not 0 < self.cross_kv_cache_fraction < 1:
            raise OptionError(
                f"cross_kv_cache_fraction must be above 0 and below 1, got {self.cross_kv_cache_fraction:g}",
                option="cross_kv_cache_fraction",
            )
        if any(window < 1 or window > _LIMIT for window in self.windows):
            raise OptionError("max_attention_window must be numbers of tokens above 0", option="max_attention_window")
        if self.shares and (abs(sum(self.shares) - 1) > _NEAR or min(self.shares) <= 0):
            raise OptionError("window_size_shares must be above 0 and add up to 1", option="window_size_shares")

    @property
    def dtype(self) -> str:
        """The asked dtype in kvplan's words; empty: what the checkpoint says."""
        return DTYPES[self.kv_cache_dtype.strip().lower()]

    @property
    def state_dtype(self) -> str:
        """The asked dtype of states; empty: what the model says."""
        return _STATES[self.mamba_ssm_cache_dtype.strip().lower()]

    @property
    def second_manager(self) -> bool | None:
        """Whether the second manager is asked for; None: not said."""
        return self.use_kv_cache_manager_v2 if isinstance(self.use_kv_cache_manager_v2, bool) else None

    @property
    def windows(self) -> tuple[int, ...]:
        """`max_attention_window`, one entry a layer, repeated."""
        return tuple(int(part) for part in _parts(self, "max_attention_window", whole=True))

    @property
    def shares(self) -> tuple[float, ...]:
        """Each window's share of the pool, the smallest window first."""
        return tuple(float(part) for part in _parts(self, "window_size_shares", whole=False))

    @property
    def sequences(self) -> int:
        """Requests at once. Source: `llm_args.py`: max_batch_size 2048."""
        return self.max_batch_size or 2048

    @property
    def drafted(self) -> int:
        """Tokens that a drafter proposes a round."""
        return self.num_nextn_predict_layers or (self.max_draft_len if self.draft is not None else 0)


_MOST_DRAFTED: Final = 64
_NEAR: Final = 1e-6


def _parts(options: TrtllmOptions, name: str, *, whole: bool) -> list[str]:
    text = getattr(options, name)
    match = _LIST.fullmatch(text)
    parts = [part.strip() for part in match[1].split(",") if part.strip()] if match else []
    pattern = r"\d{1,15}" if whole else r"\d{0,15}(\.\d{1,15})?"
    if (match is None or len(parts) > _MOST_PARTS) or not all(re.fullmatch(pattern, part) for part in parts):
        raise OptionError(f"{name} must be numbers with commas between them, got `{text[:40]}`", option=name)
    return parts


_MOST_PARTS: Final = 512


def _one_of(options: TrtllmOptions, name: str, known: Collection[str]) -> None:
    value = getattr(options, name).strip().lower()
    if value not in known:
        raise OptionError(f"{name} must be one of {', '.join(known)}, got `{value[:40]}`", option=name)


def _within(options: TrtllmOptions, name: str, least: int) -> None:
    value = getattr(options, name)
    if not least <= value <= _LIMIT:
        raise OptionError(f"{name} must be a whole number of at least {least}, got {value}", option=name)
