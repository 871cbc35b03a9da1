"""SGLang's own flags and their defaults, and what the machine is.

None and "auto" are what the server decides, in `kvplan.engines.sglang.arguments`.

Source: sglang 0.5.23, `srt/arg_groups/fields/*.py`, `srt/server_args.py:ServerArgs`.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from kvplan.domain.gpus import gpus
from kvplan.domain.model import Model
from kvplan.errors import OptionError

#: What `--kv-cache-dtype` takes, and the dtype that kvplan calls it; "auto" is the model's.
CACHE_DTYPES: Final = {
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp8_e4m3": "fp8_e4m3",
    "fp8_e5m2": "fp8_e5m2",
    "mxfp8": "mxfp8",
    "nvfp4": "nvfp4",
    "fp4_mx_block16": "fp4_mx_block16",
}
#: kvplan's words for the same; fp8 without more is e4m3 here.
_SPELLINGS: Final = {
    "fp8": "fp8_e4m3", "fp8e4m3": "fp8_e4m3", "float8_e4m3fn": "fp8_e4m3", "fp8e5m2": "fp8_e5m2", "float8_e5m2": "fp8_e5m2",
    "fp4": "nvfp4", "fp4_e2m1": "fp4_mx_block16",
}  # fmt: skip
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "dtype": ("auto", "half", "float16", "bfloat16", "float", "float32"),
    "mamba_ssm_dtype": ("", "float32", "bfloat16", "float16"),
    "mamba_radix_cache_strategy": ("auto", "no_buffer", "extra_buffer", "extra_buffer_lazy"),
    "disaggregation_mode": ("null", "prefill", "decode"),
    "mm_feature_transport": ("", "cpu", "cuda_ipc", "cuda_vmm"),
    "dsv4_compress_state_dtype": ("float32", "fp32", "bfloat16", "bf16"),
}
_POSITIVE: Final = (
    "tp_size", "dp_size", "attn_dp_size", "pp_size", "dcp_size", "ep_size", "nnodes", "page_size", "context_length",
    "max_running_requests", "max_total_tokens", "max_mamba_cache_size", "cuda_graph_max_bs_decode", "cuda_graph_max_bs_prefill",
    "max_prefill_tokens", "speculative_num_steps", "speculative_eagle_topk", "speculative_num_draft_tokens",
    "speculative_ngram_max_bfs_breadth", "swa_eviction_interval",
)  # fmt: skip
_MOST: Final = 2**40


class SglangOptions(Struct, frozen=True, kw_only=True):
    """Flags by SGLang's own names (`--tp-size` is `tp_size`); the machine and the environment stand below the lines.

    `speculative_draft_model_path` is given as the model itself, `draft`; a target that holds its own draft needs none.
    """

    kv_cache_dtype: str = "auto"
    dtype: str = "auto"
    tp_size: int = 1
    pp_size: int = 1
    dp_size: int = 1
    attn_dp_size: int = 1
    enable_dp_attention: bool = False  # dp_size then counts attention groups
    dcp_size: int = 1
    ep_size: int = 1  # spreads experts; the cache does not change
    nnodes: int = 1
    page_size: int | None = None  # tokens
    context_length: int | None = None  # tokens
    mem_fraction_static: float | None = None
    chunked_prefill_size: int | None = None  # tokens; -1: off
    max_prefill_tokens: int = 16384
    schedule_conservativeness: float = 1.0  # times what admission keeps free of output
    max_running_requests: int | None = None
    max_total_tokens: int | None = None
    swa_full_tokens_ratio: float | None = None
    swa_prefix_tails: int | None = None
    disable_hybrid_swa_memory: bool = False
    disable_radix_cache: bool = False
    disable_overlap_schedule: bool = False
    disable_cuda_graph: bool = False
    disable_decode_cuda_graph: bool = False
    disable_prefill_cuda_graph: bool = False
    cuda_graph_max_bs_decode: int | None = None
    cuda_graph_max_bs_prefill: int | None = None
    attention_backend: str = ""
    prefill_attention_backend: str = ""
    decode_attention_backend: str = ""
    dsa_prefill_backend: str = ""
    dsa_decode_backend: str = ""
    mamba_full_memory_ratio: float | None = None
    max_mamba_cache_size: int | None = None
    mamba_ssm_dtype: str = ""
    mamba_radix_cache_strategy: str = "auto"
    speculative_algorithm: str = ""
    speculative_num_steps: int | None = None
    speculative_eagle_topk: int | None = None
    speculative_num_draft_tokens: int | None = None
    speculative_ngram_max_bfs_breadth: int = 10
    draft: Model | None = None
    disaggregation_mode: str = "null"
    disaggregation_decode_extra_slots: int | None = None
    moe_a2a_backend: str = "none"
    enable_multimodal: bool | None = None
    language_only: bool = False
    language_model_only: bool = False
    mm_feature_transport: str = ""
    enable_hierarchical_cache: bool = False
    hicache_size: int = 0  # GB (10**9) of host memory, of each rank; 0: by ratio
    hicache_ratio: float | None = None  # of the GPU's pools; None: 2, or what the host has room for
    hicache_host_memory_fraction: float = 0.8
    hicache_mem_layout: str = "page_first"
    # the environment
    vlm_cache_size_mb: int | None = None  # SGLANG_VLM_CACHE_SIZE_MB
    mm_feature_cache_mb: int | None = None  # SGLANG_MM_FEATURE_CACHE_MB
    swa_eviction_interval: int = 128  # SGLANG_SWA_EVICTION_INTERVAL
    dsv4_compress_state_dtype: str = "float32"  # SGLANG_DSV4_COMPRESS_STATE_DTYPE
    post_capture_kv_sizing: bool = False  # SGLANG_ENABLE_POST_CAPTURE_KV_SIZING
    # the machine
    device_name: str = "NVIDIA H100 80GB HBM3"
    device_memory_bytes: int = 81559 * 2**20  # what nvidia-smi calls the total
    compute_capability: int = 90  # 90 is sm_90
    host_free_bytes: int | None = None  # what the host has free, for HiCache; None: not looked at

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            _within(name, getattr(self, name))
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                shown = ", ".join(f"`{k}`" for k in known if k)
                raise OptionError(f"{name}: unknown value `{getattr(self, name)[:40]}`", hint=f"one of {shown}", option=name)
        if not 0 <= self.hicache_size < _MOST or not 0 <= (self.hicache_ratio or 0) < _MOST:
            raise OptionError("hicache_size and hicache_ratio must be 0 or more", option="hicache_size")
        if not 0 < self.hicache_host_memory_fraction <= 1:
            raise OptionError("hicache_host_memory_fraction must be above 0 and at most 1", option="hicache_host_memory_fraction")
        if self.host_free_bytes is not None:
            _within("host_free_bytes", self.host_free_bytes)
        self._check_numbers()
        cache_dtype(self.kv_cache_dtype)
        if self.attention_groups > 1 and self.tp_size % self.attention_groups:
            raise OptionError(
                f"tp_size {self.tp_size} is not a multiple of the {self.attention_groups} attention data-parallel groups",
                option="tp_size",
            )

    def _check_numbers(self) -> None:
        fraction = self.mem_fraction_static
        if fraction is not None and not 0 < fraction <= 1:
            raise OptionError(f"mem_fraction_static must be above 0 and at most 1, got {fraction}", option="mem_fraction_static")
        ratio = self.swa_full_tokens_ratio
        if ratio is not None and not 0 < ratio <= 1:
            raise OptionError(f"swa_full_tokens_ratio must be above 0 and at most 1, got {ratio}", option="swa_full_tokens_ratio")
        share = self.mamba_full_memory_ratio
        if share is not None and not 0 < share <= 1e6:
            raise OptionError(f"mamba_full_memory_ratio must be above 0, got {share}", option="mamba_full_memory_ratio")
        if not 0 < self.schedule_conservativeness <= 1000:
            raise OptionError(
                f"schedule_conservativeness must be above 0 and at most 1000, got {self.schedule_conservativeness}",
                option="schedule_conservativeness",
            )
        chunk = self.chunked_prefill_size
        if chunk is not None and not -1 <= chunk <= _MOST:
            raise OptionError(
                f"chunked_prefill_size must be a number of tokens, or -1 for no chunks, got {chunk}",
                option="chunked_prefill_size",
            )
        for name in ("vlm_cache_size_mb", "mm_feature_cache_mb", "swa_prefix_tails", "disaggregation_decode_extra_slots"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= _MOST:
                raise OptionError(f"{name} must not be negative, got {value}", option=name)
        if self.device_memory_bytes < 2**20 or not 50 <= self.compute_capability <= 999:
            raise OptionError("device_memory_bytes must be at least 1 MiB, and compute_capability like 90 for sm_90")

    @property
    def attention_groups(self) -> int:
        """Data-parallel groups of attention. Source: `arg_groups/parallel_hook.py:handle_deprecated_dp_attention`."""
        if self.attn_dp_size > 1:
            return self.attn_dp_size
        return self.dp_size if self.enable_dp_attention else 1

    @property
    def attention_tp(self) -> int:
        """Devices that share the heads of one attention group. Source: `runtime_context.py:derive_attn_tp_size`."""
        return self.tp_size // self.attention_groups

    @property
    def memory_mib(self) -> float:
        """The device's memory as `nvidia-smi` says it, in MiB: what the defaults are chosen by.

        A card by its name in the catalogue may have been given with what CUDA calls its total, which is less.
        """
        told = self.device_memory_bytes
        if self.device_name.islower():
            card = next((card for card in gpus() if card.id == self.device_name), None)
            if card is not None and card.reported_bytes is not None and told == card.cuda_total_bytes:
                told = card.reported_bytes
        return told / 2**20


def cache_dtype(text: str) -> str:
    """`--kv-cache-dtype` as SGLang spells it, from its spellings and kvplan's.

    >>> cache_dtype("fp8"), cache_dtype("bfloat16")
    ('fp8_e4m3', 'bfloat16')

    Raises:
        OptionError: SGLang has no such cache dtype.
    """
    key = text.strip().lower().removeprefix("torch.")
    key = _SPELLINGS.get(key, key)
    if key == "auto" or key in CACHE_DTYPES:
        return key
    raise OptionError(
        f"kv_cache_dtype: SGLang has no cache dtype `{text[:40]}`",
        hint=f"one of auto, {', '.join(CACHE_DTYPES)}",
        option="kv_cache_dtype",
    )


def _within(name: str, value: Any) -> None:
    if value is not None and not 1 <= value <= _MOST:
        raise OptionError(f"{name} must be from 1 to {_MOST:,}, got {value}", option=name)
