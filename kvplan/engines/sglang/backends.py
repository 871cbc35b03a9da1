"""Attention backends and page sizes: which kernel a card and a model class get, and the pages that it wants.

Source: sglang 0.5.23, `srt/arg_groups/model_override_base.py:get_default_attn_backend`, `srt/arg_groups/model_overrides/`,
`srt/arg_groups/overrides.py` (`_mla_backend_page_constraints`, `_fa4_page_constraint`, `_page_size_default`).
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.engines.sglang import classes
from kvplan.engines.sglang.options import SglangOptions, cache_dtype
from kvplan.engines.sglang.reading import Reading
from kvplan.errors import Refused

_PAGED_MLA: Final = {"trtllm_mla": (32, 64), "cutedsl_mla": (32, 64)}
_DSV4_PAGE: Final = 256
_DSA_PAGE: Final = 64


class Kernels(Struct, frozen=True, kw_only=True):
    """The attention backends of prefill and decode, and the page that they agreed on, in tokens."""

    prefill: str
    decode: str
    base: str  # what `--attention-backend` resolves to
    page_size: int
    declared_page: int | None  # the user's or the model class's, before the kernels had their say


class Card(Struct, frozen=True):
    """A card by its compute capability."""

    capability: int

    @property
    def generation(self) -> int:
        """10 for sm_100 and sm_103."""
        return self.capability // 10

    @property
    def sm90(self) -> bool:
        """Hopper."""
        return self.generation == 9

    @property
    def sm100(self) -> bool:
        """Blackwell of data centres."""
        return self.generation == 10

    @property
    def blackwell(self) -> bool:
        """Any Blackwell."""
        return self.generation in {10, 11, 12}


def kernels(reading: Reading, options: SglangOptions, algorithm: str) -> Kernels:
    """Backends and page size, in the order in which the server settles them.

    Args:
        reading: the model.
        options: the flags.
        algorithm: the speculative algorithm, "" for none.
    """
    card = Card(options.compute_capability)
    base, page = options.attention_backend, options.page_size
    prefill, decode = options.prefill_attention_backend, options.decode_attention_backend
    unset = not (base or prefill or decode)
    base, page = _by_class(reading, options, card, algorithm, unset=unset, page=page)
    declared = page
    base = base or options.attention_backend
    if large_hopper_pictures(reading, options):
        decode = decode or ("flashinfer" if not options.attention_backend else "")
    if cache_dtype(options.kv_cache_dtype) == "nvfp4":
        prefill, decode = _nvfp4(card, prefill or base), "trtllm_mha"
    if prefill and prefill == decode:
        base = prefill
    base = base or _default(reading, options, card, algorithm)
    page = _paged(page, base, prefill, decode)
    if base == "fa3" and cache_dtype(options.kv_cache_dtype) == "fp8_e5m2":
        base = "triton"
    if "fa4" in {base, prefill, decode} and not reading.latent and card.sm100 and (options.speculative_eagle_topk or 0) <= 1:
        page = 128
    return Kernels(prefill=prefill or base, decode=decode or base, base=base, page_size=page or 1, declared_page=declared)


def _nvfp4(card: Card, chosen: str) -> str:
    """What fills an nvfp4 cache; the decoding kernel is always the same. Source: `handle_nvfp4_prefill_kv_dequant_dtype`.

    Raises:
        Refused: a backend that cannot.
    """
    if chosen in {"", "flashinfer", "trtllm_mha"}:
        return chosen or ("trtllm_mha" if card.sm100 else "flashinfer")
    raise Refused(
        f"NVFP4 prefill supports an FP8 E4M3 workspace or native NVFP4, but backend '{chosen}' provides neither.",
        "choose another --kv-cache-dtype",
    )


def large_hopper_pictures(reading: Reading, options: SglangOptions) -> bool:
    """Qwen3-VL on a Hopper of 60 GiB or more, which has settings of its own. Source: `model_overrides/qwen3_vl.py`."""
    large = Card(options.compute_capability).sm90 and options.memory_mib >= 60 * 1024
    return large and reading.multimodal and reading.architecture in classes.QWEN3_VL


def _default(reading: Reading, options: SglangOptions, card: Card, algorithm: str) -> str:
    """`get_default_attn_backend`."""
    if reading.architecture == "WhisperForConditionalGeneration":
        return "flashinfer"
    if reading.latent:
        return "fa3" if card.sm90 else "flashinfer" if card.sm100 else "triton"
    topk = options.speculative_eagle_topk
    linear = topk is None or (topk == 1 and options.page_size in {None, 1})
    if card.sm90 and linear:
        return "fa3"
    if card.sm100 and linear and (not algorithm or topk is not None):
        return "fa4" if uneven(reading) else "trtllm_mha"
    return "triton" if reading.sinks else "flashinfer"


def uneven(reading: Reading) -> bool:
    """Keys and values of different width."""
    return any(heads.key_dim != heads.value_dim for heads in (reading.heads, reading.sliding_heads) if heads)


def _paged(page: int | None, base: str, prefill: str, decode: str) -> int | None:
    """`_mla_backend_page_constraints`."""
    if "flashmla" in {base, decode}:
        page = 64
    for name, allowed in _PAGED_MLA.items():
        used = {base, decode} | ({prefill} if name == "cutedsl_mla" else set())
        if name in used and page not in allowed:
            page = 64
    if "trtllm_mha" in {base, prefill, decode} and page not in {16, 32, 64, 128}:
        page = 64
    if "hpc_ops" in {base, prefill, decode}:
        page = 64
    return page


def _by_class(
    reading: Reading, options: SglangOptions, card: Card, algorithm: str, *, unset: bool, page: int | None
) -> tuple[str, int | None]:
    """What the model's class decides: a backend ("" leaves it open) and a page.

    `unset`: the user named no backend at all.
    """
    arch, base_unset = reading.architecture, not options.attention_backend
    if arch == classes.COMPRESSED:
        return "dsv4", _DSV4_PAGE
    if reading.index is not None and (arch in classes.DEEPSEEK or not arch):
        return ("dsa" if unset else ""), _DSA_PAGE * reading.index_kpool
    if arch in classes.DEEPSEEK:
        return ("trtllm_mla" if card.sm100 and unset else ""), page
    if arch in classes.MINIMAX_SPARSE:
        return _minimax(reading, options, card, unset=unset, page=page)
    if arch in classes.QWEN_HYBRIDS:
        return _qwen_hybrid(reading, options, card, algorithm, page)
    if arch in classes.NEMOTRON:
        return _nemotron(options, card, algorithm, unset=unset, page=page)
    if arch == "KimiK3ForConditionalGeneration" and card.sm100 and unset:
        return "trtllm_mla", page
    return (_plain(reading, card, unset=unset, base_unset=base_unset), page)


def _plain(reading: Reading, card: Card, *, unset: bool, base_unset: bool) -> str:
    """Classes that only choose a backend."""
    arch = reading.architecture
    fa3_from = "fa3" if card.capability >= 80 else "triton"
    if arch == "GptOssForCausalLM" and unset:
        return "trtllm_mha" if card.sm100 else "fa3" if card.sm90 else "triton"
    if arch in classes.GEMMA4 and base_unset:
        return "trtllm_mha" if card.sm100 and arch != "DiffusionGemmaForBlockDiffusion" else "triton"
    if arch in {classes.LLAMA4, "Llama4ForCausalLM"} and base_unset:
        return "trtllm_mha" if card.sm100 else "fa3" if card.sm90 else "triton"
    if (arch == "Olmo2ForCausalLM" or reading.full_window_pattern) and base_unset:
        return "trtllm_mha" if card.sm100 else fa3_from
    if arch in classes.STEP and unset:
        return "fa4" if card.blackwell else "fa3" if card.sm90 else ""
    if arch in classes.MIMO and card.sm100 and unset:
        return "fa4"
    if arch == "IQuestQ1ForCausalLM" and unset:
        return "fa3"
    if arch == "BeamForCausalLM" and unset and (card.sm90 or card.sm100 or card.generation == 12):
        return "trtllm_mha"
    if arch == "EmbeddingGemma2Model" and base_unset:
        return "triton"
    return _hybrid_on_sm100(reading) if card.sm100 and base_unset else ""


def _hybrid_on_sm100(reading: Reading) -> str:
    arch = reading.architecture
    if arch in {"FalconH1ForCausalLM", "JetNemotronForCausalLM", "JetVLMForConditionalGeneration"}:
        return "triton"
    if arch.startswith("MiniCPMV4_"):
        return "triton"
    if (arch == "GraniteMoeHybridForCausalLM" and reading.stateful) or arch in {"Lfm2ForCausalLM", "Lfm2MoeForCausalLM"}:
        return "flashinfer"
    return ""


def _minimax(reading: Reading, options: SglangOptions, card: Card, *, unset: bool, page: int | None) -> tuple[str, int | None]:
    """`model_overrides/minimax_m3.py`: the sparse kernels want pages of 128."""
    if reading.nvfp4_experts:
        return ("trtllm_mha" if card.blackwell else "fa3") if unset else "", 128
    fp8 = cache_dtype(options.kv_cache_dtype) == "fp8_e4m3"
    chosen = ("trtllm_mha" if fp8 else "fa4") if card.sm100 else "fa3" if card.sm90 else ""
    base = chosen if unset else ""
    if page is None and (base or options.attention_backend) in (
        {"fa4", "trtllm_mha"} if card.sm100 else {"fa3"} if card.sm90 else set()
    ):
        page = 128
    return base, page


def _qwen_hybrid(
    reading: Reading, options: SglangOptions, card: Card, algorithm: str, page: int | None
) -> tuple[str, int | None]:
    """`model_overrides/qwen3_5.py`: on sm_100 paging needs states that are tracked, speculation, or no radix cache."""
    if not card.sm100 or options.attention_backend:
        return "", page
    radix = not options.disable_radix_cache and options.disaggregation_mode != "decode"
    tracked = radix and options.mamba_radix_cache_strategy in {"extra_buffer", "extra_buffer_lazy"}
    paged = _default(reading, options, card, algorithm) == "trtllm_mha" and (tracked or not radix or bool(algorithm))
    return ("trtllm_mha", 64) if paged else ("triton", 1)


def _nemotron(options: SglangOptions, card: Card, algorithm: str, *, unset: bool, page: int | None) -> tuple[str, int | None]:
    """`model_overrides/nemotron_h.py`."""
    if not card.blackwell or not unset:
        return "", page
    if not algorithm:
        return ("trtllm_mha" if card.sm100 else ""), page
    if card.sm100 and options.speculative_eagle_topk in {None, 1}:
        return "trtllm_mha", page or 64
    return "triton", page
