"""What a server makes of its flags before it looks at memory: defaults by the card, the static fraction, pages, dtypes, states.

The steps are those of `srt/arg_groups/pipeline.py` (sglang 0.5.23) as far as they decide sizes.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.domain.model import Model
from kvplan.engines.sglang import classes
from kvplan.engines.sglang.backends import Card, Kernels, kernels, large_hopper_pictures
from kvplan.engines.sglang.fraction import capacity, may_size_later, prefill_graphs, static_fraction
from kvplan.engines.sglang.models import read
from kvplan.engines.sglang.options import CACHE_DTYPES, SglangOptions, cache_dtype
from kvplan.engines.sglang.reading import Reading
from kvplan.engines.sglang.speculation import Speculation, speculate
from kvplan.units import MIB

_VLM_CACHE_MB: Final = 100
_FEATURE_CACHE_MB: Final = 1024
_SPECULATIVE_REQUESTS: Final = 48
_V4_REQUESTS: Final = 256
_SLIDING_RATIO: Final = 0.8
_V4_SLIDING_RATIO: Final = 0.1
_STATE_SHARE: Final = 0.9


class Arguments(Struct, frozen=True, kw_only=True):
    """Everything that the flags, the model and the card settle before memory is measured."""

    options: SglangOptions
    reading: Reading
    kernels: Kernels
    speculation: Speculation
    page_size: int
    chunked_prefill_size: int  # tokens of one attention group; below 1: off
    max_running_requests: int | None
    mem_fraction_static: float
    swa_full_tokens_ratio: float
    ratio_explicit: bool
    mamba_full_memory_ratio: float
    cache: str  # a dtype, "auto" resolved
    overlap: bool
    radix: bool
    extra_buffer: bool
    lazy: bool
    dsa_prefill: str
    dsa_decode: str
    prefill_graph: bool
    decode_graph_max_bs: int
    post_capture: bool
    reserved_gib: float  # for pictures, out of the budget
    extra_slots: int  # request rows of a decode server for requests on their way

    @property
    def groups(self) -> int:
        """Data-parallel attention groups."""
        return self.options.attention_groups

    @property
    def requests(self) -> int | None:
        """`max_running_requests` of one group, if there is one."""
        return None if self.max_running_requests is None else max(1, self.max_running_requests // self.groups)

    @property
    def slots_per_request(self) -> int:
        """States that a running request may hold. Source: `KVCacheConfigurator._calculate_mamba_ratio`."""
        return 3 + self.tracking_slots if self.radix else 1

    @property
    def tracking_slots(self) -> int:
        """States beside a running request's own that the radix cache keeps for it. Source: `get_mamba_tracking_slots`."""
        if not self.radix or not self.extra_buffer:
            return 0
        return 2 if self.overlap and not self.lazy else 1


def settle(model: Model, options: SglangOptions) -> Arguments:
    """Resolve the flags for a model.

    Raises:
        OptionError: flags that SGLang does not take together.
    """
    reading = read(model, options)
    speculation = speculate(reading, options)
    kernel = kernels(reading, options, speculation.algorithm)
    chunk, graph = capacity(reading, options)
    radix = _radix(reading, options)
    strategy, overlap = _state_strategy(reading, options, kernel, radix=radix)
    graphs = prefill_graphs(reading, options)
    post = options.post_capture_kv_sizing and may_size_later(reading, options, chunk, graphs=graphs)
    fraction = options.mem_fraction_static
    if fraction is None:
        fraction = static_fraction(reading, options, chunk, graph, graphs=graphs, post_capture=post)
    dsa = _dsa(reading, options)
    ratio, share = options.swa_full_tokens_ratio, options.mamba_full_memory_ratio
    by_class = _V4_SLIDING_RATIO if reading.architecture == classes.COMPRESSED else None
    return Arguments(
        options=options,
        reading=reading,
        kernels=kernel,
        speculation=speculation,
        page_size=kernel.page_size,
        chunked_prefill_size=_chunk_used(reading, options, chunk),
        max_running_requests=_requests(reading, options, speculation),
        mem_fraction_static=fraction,
        swa_full_tokens_ratio=ratio if ratio is not None else _SLIDING_RATIO if by_class is None else by_class,
        ratio_explicit=ratio is not None or by_class is not None,
        mamba_full_memory_ratio=_STATE_SHARE if share is None else share,
        cache=resolved_cache(reading, options),
        overlap=overlap,
        radix=radix,
        extra_buffer=radix and strategy in {"extra_buffer", "extra_buffer_lazy"},
        lazy=radix and strategy == "extra_buffer_lazy",
        dsa_prefill=dsa[0],
        dsa_decode=dsa[1],
        prefill_graph=graphs,
        decode_graph_max_bs=graph,
        post_capture=post,
        reserved_gib=_pictures(reading, options),
        extra_slots=_extra_slots(options),
    )


def allowance(args: Arguments) -> int:
    """Bytes of the card that SGLang's own rule leaves for activations and graphs, whatever fraction it was told."""
    chunk, graph = capacity(args.reading, args.options)
    own = static_fraction(args.reading, args.options, chunk, graph, graphs=args.prefill_graph, post_capture=args.post_capture)
    return int((1 - own) * args.options.memory_mib * MIB)


def _chunk_used(reading: Reading, options: SglangOptions, chunk: int) -> int:
    """Attention groups share a chunk; some multimodal classes take prompts whole. Source: `handle_data_parallelism`."""
    if reading.multimodal and reading.architecture in classes.NO_CHUNKS:
        return -1
    return chunk // options.attention_groups if options.attention_groups > 1 else chunk


def _radix(reading: Reading, options: SglangOptions) -> bool:
    off = (
        reading.architecture in {"WhisperForConditionalGeneration", "EmbeddingGemma2Model"}
        or options.disaggregation_mode == "decode"
    )
    return not (options.disable_radix_cache or off)


def _state_strategy(reading: Reading, options: SglangOptions, kernel: Kernels, *, radix: bool) -> tuple[str, bool]:
    """How the radix cache keeps states, and whether the scheduler overlaps. Source: `_mamba_radix_cache_resolution`."""
    strategy, overlap = options.mamba_radix_cache_strategy, not options.disable_overlap_schedule
    arch = reading.architecture
    hybrid = arch in classes.RADIX_STATES and (arch != "GraniteMoeHybridForCausalLM" or reading.stateful)
    if hybrid and radix and strategy == "auto":
        paged = (kernel.declared_page or 1) > 1
        strategy = "extra_buffer" if (overlap or paged) and arch in classes.EXTRA_BUFFER else "no_buffer"
        if strategy == "no_buffer":
            overlap = False
    return strategy, overlap and options.pp_size == 1


def _requests(reading: Reading, options: SglangOptions, speculation: Speculation) -> int | None:
    if options.max_running_requests is not None:
        return options.max_running_requests
    if reading.architecture == classes.COMPRESSED:
        return _V4_REQUESTS
    return _SPECULATIVE_REQUESTS if speculation else None


def resolved_cache(reading: Reading, options: SglangOptions) -> str:
    """The dtype of the cache. Source: `overrides.py:_dsa_kv_cache_dtype_default`, `_deepseek_v4_kv_cache_dtype`."""
    asked, card = cache_dtype(options.kv_cache_dtype), Card(options.compute_capability)
    if asked != "auto":
        return CACHE_DTYPES[asked]
    if reading.architecture == classes.COMPRESSED or reading.architecture == "MuseSparkForConditionalGeneration":
        return "fp8_e4m3"
    if reading.index is not None:
        return "fp8_e4m3" if card.generation >= 10 else "bfloat16"
    if reading.nvfp4_experts and card.blackwell:
        return "fp8_e4m3"
    return reading.checkpoint_cache or reading.dtype


def _dsa(reading: Reading, options: SglangOptions) -> tuple[str, str]:
    """Kernels of sparse latents, which decide how fp8 rows are laid out. Source: `_dsa_split_backend_resolution`."""
    if reading.index is None:
        return "", ""
    card, fp8 = Card(options.compute_capability), resolved_cache(reading, options) == "fp8_e4m3"
    if options.dcp_size > 1:
        default = ("trtllm", "trtllm")
    elif reading.architecture == "GlmMoeDsaForCausalLM" and card.generation == 12 and fp8:
        default = ("flashinfer_sparse_mla", "flashinfer_sparse_mla")
    elif fp8:
        default = ("trtllm", "trtllm") if card.generation >= 10 else ("flashmla_kv", "flashmla_kv")
    else:
        default = ("flashmla_sparse", "trtllm" if card.generation >= 10 else "fa3")
    return options.dsa_prefill_backend or default[0], options.dsa_decode_backend or default[1]


def _pictures(reading: Reading, options: SglangOptions) -> float:
    """GiB kept back for pictures. Source: `mm_runtime_reservation_gb`, `model_overrides/qwen3_vl.py`."""
    if not reading.multimodal:
        return 0.0
    cache, transport = options.vlm_cache_size_mb, options.mm_feature_transport
    pool = _FEATURE_CACHE_MB if options.mm_feature_cache_mb is None else options.mm_feature_cache_mb
    if large_hopper_pictures(reading, options):
        cache = 0 if cache is None else cache
        if not transport and options.nnodes == 1 and not cache:
            transport = "cuda_ipc"
        busy = (options.max_running_requests or 0) >= 400
        if options.mm_feature_cache_mb is None and busy and not cache and transport == "cuda_ipc":
            pool = 3 * 1024
    reserved = _VLM_CACHE_MB if cache is None else cache
    if transport in {"cuda_ipc", "cuda_vmm"}:
        reserved += pool
    return reserved / 1024


def _extra_slots(options: SglangOptions) -> int:
    """`disaggregation_decode_extra_slots`."""
    if options.disaggregation_mode != "decode":
        return 0
    if options.disaggregation_decode_extra_slots is not None:
        return options.disaggregation_decode_extra_slots
    if options.max_running_requests is None:
        return 0
    replicas = options.attention_groups * (1 if options.enable_dp_attention else options.dp_size)
    per_worker = max(1, options.max_running_requests // replicas)
    return per_worker * 2 if per_worker <= 32 else 0
