"""What a server makes of its flags before it looks at memory: defaults by the card, the static fraction, pages, dtypes, states.

The steps are those of `srt/arg_groups/pipeline.py` (sglang 0.5.23) as far as they decide sizes. Floats are Python floats in the
engine's own order: its fraction is rounded to three digits, and a product more or less changes them.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.domain.model import Model
from kvplan.engines.sglang import classes
from kvplan.engines.sglang.backends import Card, Kernels, kernels, large_hopper
from kvplan.engines.sglang.models import Reading, architecture, read
from kvplan.engines.sglang.options import CACHE_DTYPES, SglangOptions, cache_dtype
from kvplan.errors import OptionError

#: Up to so many MiB: (chunk in tokens, largest decode graph below tp 4, and from it on). Source: `memory_hook.py`.
_BY_MEMORY: Final = (
    (20 * 1024, 2048, 8, 8),
    (35 * 1024, 4096, 48, 160),
    (60 * 1024, 4096, 32, 160),
    (160 * 1024, 8192, 256, 512),
)
_LARGEST: Final = (16384, 512, 512)
_LARGE_MIB: Final = 60 * 1024
_FLOOR_MIB: Final = 10 * 1024
_GRAPH_CHUNKS: Final = (
    (4, 33, 4),
    (48, 257, 16),
    (288, 513, 32),
    (576, 1025, 64),
    (1280, 4097, 256),
)  # range() of captured sizes
_MLA_GRAPH: Final = 8192  # tokens
_VLM_CACHE_MB: Final = 100
_FEATURE_CACHE_MB: Final = 1024
_SPECULATIVE_REQUESTS: Final = 48
_V4_REQUESTS: Final = 256
_SLIDING_RATIO: Final = 0.8
_OWN_SLIDING_RATIO: Final = 0.1  # DeepSeek V4 and Inkling
_STATE_SHARE: Final = 0.9
_EAGLE: Final = frozenset({"EAGLE", "EAGLE3", "STANDALONE", "FROZEN_KV_MTP"})


class Speculation(Struct, frozen=True, kw_only=True):
    """The drafter. `layers` of its cache are charged to the target's budget; `sliding` of them to its sliding pool."""

    algorithm: str = ""
    steps: int = 0
    topk: int = 0
    tokens: int = 0  # drafted a step, the root included; 0 without a drafter
    layers: int = 0
    sliding: int = 0

    def __bool__(self) -> bool:
        return bool(self.algorithm)

    @property
    def shares_budget(self) -> bool:
        """Whether the drafter's cache is charged at all: an n-gram drafter has none."""
        return self.algorithm in {"EAGLE", "EAGLE3", "STANDALONE"}


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
        if not self.radix:
            return 1
        tracked = 0 if not self.extra_buffer else 1 if self.lazy else 2 if self.overlap else 1
        return 3 + tracked


def settle(model: Model, options: SglangOptions) -> Arguments:
    """Resolve the flags for a model.

    Raises:
        OptionError: flags that SGLang does not take together.
    """
    reading = read(model, options)
    speculation = _speculation(reading, options)
    kernel = kernels(reading, options, speculation.algorithm)
    chunk, graph = capacity(options)
    radix = _radix(reading, options)
    strategy, overlap = _state_strategy(reading, options, kernel, radix=radix)
    graphs = _prefill_graphs(reading, options)
    post = options.post_capture_kv_sizing and _may_size_later(reading, options, chunk, prefill_graphs=graphs)
    fraction = options.mem_fraction_static
    if fraction is None:
        fraction = static_fraction(reading, options, chunk, graph, prefill_graphs=graphs, post_capture=post)
    dsa = _dsa(reading, options)
    ratio = options.swa_full_tokens_ratio
    by_class = _OWN_SLIDING_RATIO if reading.architecture in {classes.COMPRESSED, classes.INKLING} else None
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
        mamba_full_memory_ratio=_share(reading, options),
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


def capacity(options: SglangOptions) -> tuple[int, int]:
    """Chunk of prefill in tokens, and the largest batch of a decode graph, by the card's memory."""
    chunk, below, above = next((row[1:] for row in _BY_MEMORY if options.memory_mib < row[0]), _LARGEST)
    if options.chunked_prefill_size is not None:
        chunk = options.chunked_prefill_size
    given, limit = options.cuda_graph_max_bs_decode, options.max_running_requests
    if given is not None:
        return chunk, given
    graph = below if options.tp_size < 4 else above
    return chunk, graph if limit is None else min(graph, limit)


def captured_sizes(largest: int) -> int:
    """How many prefill graphs of up to `largest` tokens there are. Source: `generate_prefill_cuda_graph_batch_sizes`.

    >>> captured_sizes(8192), captured_sizes(2048)
    (58, 42)
    """
    small = sum(len(range(first, min(stop, largest + 1), step)) for first, stop, step in _GRAPH_CHUNKS)
    return small + len(range(4608, largest + 1, 512))


def static_fraction(
    reading: Reading, options: SglangOptions, chunk: int, graph: int, *, prefill_graphs: bool, post_capture: bool
) -> float:
    """`mem_fraction_static`: what remains of the card when activations and graphs have their share.

    Source: `arg_groups/memory_hook.py:handle_gpu_memory_settings`, `reserve_for_graph_mb`, `adjust_mem_fraction_for_vlm`.
    """
    memory = options.memory_mib
    if post_capture:
        reserved = 1536 + options.tp_size * options.pp_size / 8 * 1024
    else:
        reserved = _activations_mib(options, chunk, graph)
        reserved += _graph_mib(reading, options, chunk, graph, prefill_graphs=prefill_graphs)
        if memory > _LARGE_MIB:
            reserved = max(reserved, _FLOOR_MIB)
        if options.moe_a2a_backend == "deepep" and _decode_graphs(options):
            reserved += 2 * 1024
    fraction = round((memory - reserved) / memory, 3)
    sees = reading.multimodal and not options.language_only and not options.language_model_only
    if not sees or options.disaggregation_mode == "decode":
        return fraction
    if post_capture:
        return fraction - 8 * 1024 / memory
    return fraction if reading.tower is None else fraction * _vision_factor(reading.tower.layers, reading.tower.hidden_size)


def pre_capture_reserve(args: Arguments) -> float:
    """MiB that activations take before graphs are captured. Source: `memory_hook.py:pre_capture_activation_reserve_mb`."""
    reserved = _activations_mib(args.options, args.chunked_prefill_size, args.decode_graph_max_bs)
    return max(reserved, _FLOOR_MIB) if args.options.memory_mib > _LARGE_MIB else reserved


def _activations_mib(options: SglangOptions, chunk: int, graph: int) -> float:
    reserved = 512 + _activation_tokens(options, chunk, graph) * 1.5
    return reserved + options.tp_size * options.pp_size / 8 * 1024


def _vision_factor(layers: int, size: int) -> float:
    ratio = layers * (size**2) / (24 * (1024**2))
    return 0.95 * max(0.8, min(1.05, 1.0 - 0.1 * (ratio - 1.0)))


def _activation_tokens(options: SglangOptions, chunk: int, graph: int) -> int:
    if options.disaggregation_mode == "decode":
        running = options.max_running_requests or graph or 1
        return max(running * (options.speculative_num_draft_tokens or 1), 2048)
    return max(chunk if chunk > 0 else options.max_prefill_tokens, 2048)


def _decode_graphs(options: SglangOptions) -> bool:
    return not (options.disable_cuda_graph or options.disable_decode_cuda_graph) and options.disaggregation_mode != "prefill"


def _graph_mib(reading: Reading, options: SglangOptions, chunk: int, graph: int, *, prefill_graphs: bool) -> float:
    reserved = 0.0
    if _decode_graphs(options):
        reserved += graph * 2
    if options.attention_groups > 1 and options.disaggregation_mode != "prefill":
        reserved += graph * options.attention_groups * 3
        if graph > 300:
            reserved += graph * options.attention_groups * 1.5
    if prefill_graphs:
        reserved += 1.5 * 1024 if reading.latent else captured_sizes(_largest_graph(reading, options, chunk)) * 8
        if options.moe_a2a_backend == "deepep":
            reserved += 1024
    return reserved


def _largest_graph(reading: Reading, options: SglangOptions, chunk: int) -> int:
    largest = options.cuda_graph_max_bs_prefill
    if largest is None:
        largest = min(_MLA_GRAPH, chunk) if reading.latent else chunk
        if options.max_total_tokens is not None:
            largest = min(largest, options.max_total_tokens)
        if "llama-2" in reading.name.lower():
            largest = min(largest, 4096)
    return largest


def _prefill_graphs(reading: Reading, options: SglangOptions) -> bool:
    """Whether prefill is captured when the fraction is settled. Source: `cuda_graph_hook.py:apply_cuda_graph_compatibility`."""
    if options.disable_cuda_graph or options.disable_prefill_cuda_graph or options.disaggregation_mode == "decode":
        return False
    kda = reading.state is not None and reading.state.kind == "kda"
    off = options.pp_size > 1 or options.dcp_size > 1 or kda or reading.architecture == classes.COMPRESSED
    unseen = options.moe_a2a_backend not in {"none", "deepep", "megamoe", "flashinfer"}
    return not off and not unseen and not (reading.multimodal and reading.architecture not in classes.MULTIMODAL_GRAPHS)


def _may_size_later(reading: Reading, options: SglangOptions, chunk: int, *, prefill_graphs: bool) -> bool:
    """`post_capture_kv_sizing_planned`."""
    sparse = reading.architecture == classes.COMPRESSED or reading.architecture in classes.MINIMAX_SPARSE
    if options.dcp_size != 1 or reading.latent or sparse:
        return False
    if options.disaggregation_mode != "prefill" and not _decode_graphs(options):
        return False
    if options.disaggregation_mode == "decode":
        return True
    return prefill_graphs and 0 < chunk <= _last_captured(_largest_graph(reading, options, chunk))


def _last_captured(largest: int) -> int:
    sizes = [size for first, stop, step in _GRAPH_CHUNKS for size in range(first, stop, step)] + list(
        range(4608, largest + 1, 512)
    )
    return max((size for size in sizes if size <= largest), default=0)


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
    if arch == classes.INKLING and strategy == "auto":
        strategy = "extra_buffer"
    elif hybrid and radix and strategy == "auto":
        paged = options.page_size is not None and options.page_size > 1
        paged = paged or (
            kernel.page_size > 1 and kernel.base == "trtllm_mha" and arch in classes.NEMOTRON | classes.QWEN_HYBRIDS
        )
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


def _share(reading: Reading, options: SglangOptions) -> float:
    given = options.mamba_full_memory_ratio
    return given if given is not None else 0.1 if reading.architecture == classes.INKLING else _STATE_SHARE


def resolved_cache(reading: Reading, options: SglangOptions) -> str:
    """The dtype of the cache. Source: `_dsa_kv_cache_dtype_default`, `_deepseek_v4_kv_cache_dtype`, `configure_kv_cache_dtype`."""
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
    if reading.architecture in {"Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration"} and large_hopper(
        options
    ):
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


def _speculation(reading: Reading, options: SglangOptions) -> Speculation:
    """The drafter and what it is charged. Source: `speculative_hook.py`, `spec_aux_hidden_state.py`."""
    algorithm = options.speculative_algorithm.upper()
    if not algorithm:
        return Speculation()
    if algorithm == "NEXTN":
        algorithm = "EAGLE"
    if algorithm == "EAGLE" and options.draft is not None and architecture(options.draft).startswith("Gemma4"):
        algorithm = "FROZEN_KV_MTP"
    if algorithm == "NGRAM":
        tokens = options.speculative_num_draft_tokens or 12
        topk = options.speculative_ngram_max_bfs_breadth
        return Speculation(algorithm=algorithm, steps=options.speculative_num_steps or tokens // topk, topk=topk, tokens=tokens)
    if algorithm not in _EAGLE:
        raise OptionError(
            f"speculative_algorithm: kvplan does not know what `{options.speculative_algorithm[:40]}` takes of the budget",
            hint="known: EAGLE, EAGLE3, NEXTN, STANDALONE, NGRAM",
        )
    steps, topk, tokens = _draft_shape(reading, options, algorithm)
    layers, sliding = _draft_layers(reading, options)
    return Speculation(algorithm=algorithm, steps=steps, topk=topk, tokens=tokens, layers=layers, sliding=sliding)


def _draft_shape(reading: Reading, options: SglangOptions, algorithm: str) -> tuple[int, int, int]:
    """Steps, branches and tokens; `_auto_choose_speculative_params` when nothing is given."""
    steps, topk, tokens = options.speculative_num_steps, options.speculative_eagle_topk, options.speculative_num_draft_tokens
    if steps is None:
        if topk is not None or tokens is not None:
            raise OptionError("speculative_eagle_topk and speculative_num_draft_tokens need speculative_num_steps beside them")
        wide = algorithm != "STANDALONE" and reading.architecture in {"LlamaForCausalLM", "Grok1ForCausalLM", "Grok1VForCausalLM"}
        return (5, 4, 8) if wide else (3, 1, 4)
    if topk is None:
        raise OptionError("speculative_num_steps needs speculative_eagle_topk beside it")
    return steps, topk, steps + 1 if topk == 1 or tokens is None else tokens


def _draft_layers(reading: Reading, options: SglangOptions) -> tuple[int, int]:
    """Layers of the drafter that are charged, and how many of them to the sliding pool."""
    if options.draft is not None:
        draft = read(options.draft, options)
        one = draft.architecture in classes.ONE_DRAFT_LAYER
        layers = 1 if one else draft.draft_layers if draft.draft_layers is not None else max(draft.hidden_layers, draft.layers)
        return layers, min(len(draft.sliding), layers)
    declared = reading.draft_layers
    if reading.architecture in classes.BUNDLED_DRAFT:
        one = reading.architecture in classes.ONE_DRAFT_LAYER
        declared = 1 if one else max(reading.hidden_layers, reading.layers) if declared is None else declared
    layers = declared or 0
    return layers, min(len(reading.sliding), layers)
