"""What vLLM settles before it looks at memory: utilisation, batch, sequences, capture sizes, runner."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct

from kvplan.domain.ledger import Basis
from kvplan.engines.kernel.releases import Release
from kvplan.engines.vllm.batch import Host, settled
from kvplan.engines.vllm.ledger import releases
from kvplan.engines.vllm.ledger.shape import Shape
from kvplan.units import MIB

_MOST_CAPTURED: Final = 2**16
Context = Literal["OPENAI_API_SERVER", "LLM_CLASS"]


class Card(Struct, frozen=True, kw_only=True):
    """One device as torch reports it.

    Attributes:
        total: bytes that `cudaMemGetInfo` calls the total: best value, smallest and largest of such cards, and who says so.
        compute_capability: 90 is sm_90; 0 where it is not known.
        multiprocessors: SMs, which the top-k kernel's buffer has a row for.
        l2_bytes: L2 cache, as large as the autotuner's flush buffer.
    """

    name: str = ""
    total: int = 0
    total_low: int = 0
    total_high: int = 0
    total_source: str = "given"
    total_basis: Basis = "given"
    compute_capability: int = 90
    multiprocessors: int = 132
    l2_bytes: int = 50 * MIB

    @property
    def hopper(self) -> bool:
        """Whether the measured constants of the ledger hold: they were taken on sm_90."""
        return self.compute_capability == 90


class Settings(Struct, frozen=True, kw_only=True):
    """vLLM's options that decide memory, by its own names; None is what the release decides."""

    release: Release
    usage_context: Context = "OPENAI_API_SERVER"
    gpu_memory_utilization: float | None = None
    kv_cache_memory_bytes: int | None = None
    max_model_len: int = 4096
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    enable_chunked_prefill: bool = True
    performance_mode: str = "balanced"
    enforce_eager: bool = False
    cudagraph_mode: str = ""  # "" is the release's default; NONE captures nothing
    cudagraph_capture_sizes: tuple[int, ...] | None = None
    max_cudagraph_capture_size: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    stage_layers: tuple[int, ...] = ()  # layers of each stage, where they are not dealt out evenly
    data_parallel_size: int = 1
    enable_expert_parallel: bool = False
    dtype: str = "bfloat16"  # resolved: what activations are kept in
    kv_dtype: str = "bfloat16"  # resolved
    block_size: int = 16  # tokens, for MLA's workspace
    quantization: str = ""  # asked for at run time, or the checkpoint's
    num_speculative_tokens: int = 0
    speculative_method: str = ""
    pooling: bool = False
    max_loras: int = 0  # 0: LoRA is off
    max_lora_rank: int = 16
    deep_gemm: bool | None = None  # VLLM_USE_DEEP_GEMM
    flashinfer: bool = True  # installed: keeps the caches of DeepSeek's yarn in float32
    v2_model_runner: bool | None = None  # VLLM_USE_V2_MODEL_RUNNER
    estimate_graphs: bool | None = None  # VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS
    cold_compile_cache: bool = True
    mm_limits: Mapping[str, int] = {}  # --limit-mm-per-prompt, by modality
    skip_mm_profiling: bool = False
    processor_kwargs: Mapping[str, Any] = {}  # --mm-processor-kwargs
    language_model_only: bool = False

    @property
    def utilization(self) -> float:
        """`gpu_memory_utilization`, or the release's default."""
        given = self.gpu_memory_utilization
        return releases.UTILIZATION.at(self.release) if given is None else given

    @property
    def expert_ranks(self) -> int:
        """Devices over which routed experts are spread: those of all data ranks together, experts cut or dealt out.

        Source: `fused_moe/config.py:FusedMoEParallelConfig.make`, `flatten_tp_across_dp_and_pcp`; 0.11 to 0.33 alike.
        """
        return self.tensor_parallel_size * self.data_parallel_size

    @property
    def deals_experts(self) -> bool:
        """Whether experts are dealt out whole instead of being cut."""
        return self.enable_expert_parallel and self.expert_ranks > 1

    @property
    def splits_tokens(self) -> bool:
        """Whether the ranks of a tensor-parallel group take each a part of the tokens to the experts.

        Source: `config/parallel.py:use_sequence_parallel_moe`.
        """
        return self.enable_expert_parallel and self.tensor_parallel_size > 1 and self.data_parallel_size > 1

    @property
    def captures(self) -> bool:
        """Whether CUDA graphs are captured."""
        return not self.enforce_eager and self.cudagraph_mode.upper() != "NONE"


class Batch(Struct, frozen=True, kw_only=True):
    """The resolved batch.

    Attributes:
        tokens: `max_num_batched_tokens`.
        seqs: `max_num_seqs`.
        captures: sizes of the captured graphs, ascending; empty in eager mode.
        v2: whether the V2 model runner runs.
    """

    tokens: int
    seqs: int
    captures: tuple[int, ...]
    v2: bool

    @property
    def sampled(self) -> int:
        """Rows that the profile run samples."""
        return min(self.tokens, self.seqs)


def resolve(settings: Settings, shape: Shape, card: Card) -> Batch:
    """Batch, sequences, capture sizes and runner, as `EngineArgs.create_engine_config` resolves them."""
    found = settled(
        settings.release,
        Host(memory=card.total, name=card.name, capability=card.compute_capability),
        max_model_len=settings.max_model_len,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_num_seqs=settings.max_num_seqs,
        offline=settings.usage_context == "LLM_CLASS",
        chunked_prefill=settings.enable_chunked_prefill,
        throughput=settings.performance_mode == "throughput",
        item_tokens=shape.item_tokens,
    )
    tokens, seqs = found.tokens, found.seqs
    return Batch(tokens=tokens, seqs=seqs, captures=_capture_sizes(settings, tokens, seqs, card), v2=uses_v2(settings, shape))


def _capture_sizes(settings: Settings, tokens: int, seqs: int, card: Card) -> tuple[int, ...]:
    """Source: `config/vllm.py:_set_cudagraph_sizes`."""
    if not settings.captures:
        return ()
    release = settings.release
    largest = settings.max_cudagraph_capture_size
    if largest is None:
        cap = 1024 if card.compute_capability // 10 == 10 and releases.CAPTURE_1024.at(release) else 512
        largest = min(2 * seqs * (1 + settings.num_speculative_tokens), cap)
    largest = min(largest, tokens, _MOST_CAPTURED)
    if settings.cudagraph_capture_sizes is not None:
        return tuple(sorted({size for size in settings.cudagraph_capture_sizes if size <= tokens}))
    sizes = {size for size in (1, 2, 4) if size <= largest}
    if releases.DENSE_CAPTURE_STEPS.at(release):
        sizes |= set(range(8, min(largest + 1, 256), 8)) | set(range(256, largest + 1, 16))
    else:
        sizes |= set(range(8, largest + 1, 8))
    if tokens <= largest and release >= (0, 26):
        sizes.add(tokens)
    return tuple(sorted(sizes))


#: Architectures that the V2 runner serves although they are mixtures, by release. Source: config/vllm.py.
_V2_MIXTURES: Final = frozenset({
    "DeepseekV2ForCausalLM", "GraniteMoeForCausalLM", "InklingForCausalLM", "InklingForConditionalGeneration",
    "LongcatFlashNgramForCausalLM", "Qwen2MoeForCausalLM",
})  # fmt: skip
_V2_LATER: Final = frozenset({"DeepseekV4ForCausalLM", "KimiK3ForConditionalGeneration", "KimiK3ForCausalLM"})
_V2_24: Final = frozenset({
    "Qwen3ForCausalLM", "DeepseekV2ForCausalLM", "Qwen2MoeForCausalLM", "GraniteMoeForCausalLM", "LlamaForCausalLM",
    "MistralForCausalLM",
})  # fmt: skip
#: Drafting methods that the V2 runner knows. Source: config/vllm.py:_get_v2_model_runner_unsupported_features.
_V2_METHODS: Final = frozenset({"", "eagle", "eagle3", "mtp", "dflash", "dspark"})


def uses_v2(settings: Settings, shape: Shape) -> bool:
    """Whether the V2 model runner runs. Source: `config/vllm.py:use_v2_model_runner`."""
    if settings.v2_model_runner is not None:
        return settings.v2_model_runner
    release = settings.release
    if release < (0, 22):
        return False
    if settings.speculative_method not in _V2_METHODS or settings.pooling:
        return False
    if release < (0, 24):
        return shape.architecture == "Qwen3ForCausalLM" and not settings.quantization
    if release < (0, 26):
        return shape.architecture in _V2_24
    if release >= (0, 30):
        return True
    if shape.hybrid or shape.attention_free:
        return False
    known = _V2_MIXTURES | _V2_LATER if release >= (0, 28) else _V2_MIXTURES
    return shape.architecture in known or not shape.experts
