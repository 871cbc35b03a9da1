"""LMDeploy's options that decide how large the cache is, by the names of its engine configs.

Source: lmdeploy 0.18.0 `messages.py:PytorchEngineConfig`, `TurbomindEngineConfig`, `utils.py:get_max_batch_size`,
`cli/utils.py` (spellings of `--quant-policy`).
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from kvplan.errors import OptionError, Refused

_RELEASE: Final = re.compile(r"\d{1,4}(\.\w{1,20}){0,4}", re.ASCII)

#: `quant_policy` by number, and as the command line spells it.
POLICIES: Final = {0: "none", 4: "int4", 8: "int8", 16: "fp8", 17: "fp8_e5m2", 42: "turbo_quant"}
_SPELLINGS: Final = {
    **{name: number for number, name in POLICIES.items()},
    **{str(number): number for number in POLICIES},
    "fp8_e4m3": 16,
    "int8_per_token_head": 8,
    "int4_per_token_head": 4,
    "auto": 0,
    "16-bit": 0,
    "turboquant": 42,
    # the 16-bit types: which of them, the model's dtype says
    "bf16": 0, "bfloat16": 0, "fp16": 0, "float16": 0, "half": 0,
}  # fmt: skip
#: Jobs at once by the card's name, the first that the name holds.
_BATCH_BY_CARD: Final = (("a100", 384), ("a800", 384), ("h100", 1024), ("h800", 1024), ("l20y", 1024), ("h200", 1024))
_OTHER_CARDS: Final = 128
_AMPERE: Final = 80
_HOPPER: Final = 90
BACKENDS: Final = ("pytorch", "turbomind")
_LIMIT: Final = 2**40


class LmdeployOptions(Struct, frozen=True, kw_only=True):
    """Options by LMDeploy's own names; None is what it decides. Those below the line say what the machine is.

    `quant_policy` is a number or its name (`8` or `int8`). `cache_block_seq_len` is TurboMind's `block_size`, and the command
    line's name for both.
    """

    backend: str = "pytorch"  # or turbomind
    dtype: str = "auto"  # or float16, bfloat16
    tp: int = 1
    session_len: int | None = None  # tokens
    max_batch_size: int | None = None
    cache_max_entry_count: float = 0.8  # of the memory that is free once the weights are loaded
    block_size: int = 64  # tokens
    kernel_block_size: int = -1  # tokens; -1: block_size
    cache_block_seq_len: int = 64  # tokens; TurboMind
    num_gpu_blocks: int = 0  # 0: from memory
    max_prefill_token_num: int = 8192
    quant_policy: int | str = 0
    enable_prefix_caching: bool = False
    prefix_cache_state_budget: int = 0
    speculative_algorithm: str = ""
    speculative_num_draft_tokens: int = 1
    # the machine, and environment variables
    device_name: str = "NVIDIA H100 80GB HBM3"
    compute_capability: int = 90
    flash_mla: bool = True  # the package is installed; cards before 9.0 do not use it
    bf16: bool | None = None  # the card computes in bfloat16; None: from 8.0 on
    transformers: str = "5.23.0"  # the release beside it
    fp32_mamba_ssm_dtype: bool = False  # LMDEPLOY_FP32_MAMBA_SSM_DTYPE
    dsa_indexer_max_logits_mb: int = 512  # LMDEPLOY_DSA_INDEXER_MAX_LOGITS_MB

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise OptionError(f"backend must be pytorch or turbomind, got `{self.backend[:40]}`", option="backend")
        if self.dtype not in {"auto", "float16", "bfloat16"}:
            raise OptionError(f"dtype must be auto, float16 or bfloat16, got `{self.dtype[:40]}`", option="dtype")
        if not _RELEASE.fullmatch(self.transformers):
            raise OptionError(
                f"transformers must be a release like 5.23.0, got `{self.transformers[:40]}`", option="transformers"
            )
        _within(self, "tp", 1)
        _within(self, "compute_capability", 1)
        _within(self, "cache_block_seq_len", 1)
        _within(self, "dsa_indexer_max_logits_mb", 1)
        for name in ("num_gpu_blocks", "max_prefill_token_num", "prefix_cache_state_budget", "speculative_num_draft_tokens"):
            _within(self, name, 0)
        for name in ("session_len", "max_batch_size"):
            if getattr(self, name) is not None:
                _within(self, name, 1)
        if not 0 < self.cache_max_entry_count < 1:
            raise OptionError(
                f"cache_max_entry_count must be above 0 and below 1, got {self.cache_max_entry_count:g}",
                hint="it is a share of the memory that is free once the weights are loaded",
                option="cache_max_entry_count",
            )
        _within(self, "block_size", 1)
        if self.kernel_block_size != -1:
            _within(self, "kernel_block_size", 1)
        _ = self.policy

    @property
    def policy(self) -> int:
        """`quant_policy` as the engine's number."""
        text = str(self.quant_policy).strip().lower()
        if text not in _SPELLINGS:
            shown = ", ".join(f"{number} ({name})" for number, name in POLICIES.items())
            raise OptionError(f"{text[:40]} is not a valid quant_policy", hint=f"one of {shown}", option="quant_policy")
        return _SPELLINGS[text]

    @property
    def uses_flash_mla(self) -> bool:
        """Whether latents are read by that package. Source: `configurations/utils.py:flash_mla_available`."""
        return self.flash_mla and self.compute_capability >= _HOPPER

    @property
    def computes_bf16(self) -> bool:
        """Whether a bfloat16 model stays one. Source: `utils.py:is_bf16_supported`."""
        return self.compute_capability >= _AMPERE if self.bf16 is None else self.bf16

    @property
    def kernel_block(self) -> int:
        """Tokens of the block that a kernel reads.

        Raises:
            Refused: a size that the engine's config class does not take.
        """
        kernel = self.block_size if self.kernel_block_size == -1 else self.kernel_block_size
        if kernel < 16 or kernel & (kernel - 1):
            raise Refused(f"kernel_block_size must be >= 16 and a power of 2, but got {kernel}")
        if self.block_size < kernel or self.block_size % kernel:
            raise Refused(
                f"block_size must be >= kernel_block_size and an integer multiple of kernel_block_size, but got block_size "
                f"{self.block_size} and kernel_block_size {kernel}"
            )
        return kernel

    @property
    def default_batch(self) -> int:
        """`max_batch_size` where nobody says one. Source: `utils.py:get_max_batch_size`."""
        name = self.device_name.lower()
        return next((size for part, size in _BATCH_BY_CARD if part in name), _OTHER_CARDS)

    @property
    def drafted(self) -> int:
        """Tokens drafted a round, 0 without a drafter."""
        return self.speculative_num_draft_tokens if self.speculative_algorithm else 0


def _within(options: LmdeployOptions, name: str, least: int) -> None:
    value = getattr(options, name)
    if not least <= value <= _LIMIT:
        raise OptionError(f"{name} must be a whole number of at least {least}, got {value}", option=name)
