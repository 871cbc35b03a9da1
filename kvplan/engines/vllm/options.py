"""vLLM's flags that decide how large the cache is, and what its engine makes of those that are not given."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from kvplan.domain.model import Model
from kvplan.engines.kernel.releases import Release
from kvplan.engines.vllm.batch import Batch, Host, settled
from kvplan.engines.vllm.connectors import Connector, connector, parse
from kvplan.engines.vllm.releases import CONNECTORS_KEEP_GROUPS, NGRAM_AHEAD
from kvplan.errors import OptionError
from kvplan.units import GIB

_GPU_TOTAL: Final = 80 * GIB
#: Drafting methods under which the scheduler still runs ahead of the GPU. Source: config/vllm.py.
_ASYNC_METHODS: Final = frozenset({"", "eagle", "eagle3", "mtp", "draft_model", "ngram_gpu", "dflash"})  # ngram: see releases
_BFLOAT16: Final = 80  # sm_80
_OUTERMOST: Final = frozenset({"BLHNC", "BLNHC", "BHLNC"})
_PARALLEL: Final = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "decode_context_parallel_size",
    "prefill_context_parallel_size",
)
#: Sizes of tiers in GiB or GB; 0: none.
_SIZES: Final = (
    "lmcache_max_local_cpu_size", "lmcache_max_local_disk_size", "dyn_kvbm_cpu_cache_gb", "dyn_kvbm_disk_cache_gb",
)  # fmt: skip
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "kv_cache_layout": ("", "NHD", "HND", "LBNHC", "LBHNC", *sorted(_OUTERMOST)),
    "usage_context": ("OPENAI_API_SERVER", "LLM_CLASS"),
    "device": ("cuda", "cpu"),
    "kv_offloading_backend": ("native", "lmcache"),
    "mamba_cache_mode": ("auto", "none", "align", "all"),
    "performance_mode": ("balanced", "throughput", "interactivity"),
}


class VllmOptions(Struct, frozen=True, kw_only=True):
    """Flags by vLLM's own names (`--max-model-len` is `max_model_len`); None and "auto" are what vLLM decides.

    Those below the line say what the machine is: vLLM looks, kvplan is told. `speculative_config` is the flag's JSON;
    the model that its `model` names is given as `draft`.
    """

    block_size: int | None = None  # tokens
    kv_cache_dtype: str = "auto"
    dtype: str = "auto"
    max_model_len: int | None = None  # tokens; -1: the longest that fits
    max_num_batched_tokens: int | None = None
    enable_chunked_prefill: bool = True
    enable_prefix_caching: bool | None = None
    async_scheduling: bool | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    pp_layer_partition: str = ""  # VLLM_PP_LAYER_PARTITION: layers of each stage, with commas
    decode_context_parallel_size: int = 1
    prefill_context_parallel_size: int = 1
    cp_kv_cache_interleave_size: int = 1  # tokens; changes where tokens lie, never how many blocks there are
    mamba_cache_dtype: str = "auto"
    mamba_ssm_cache_dtype: str = "auto"
    mamba_cache_mode: str = "auto"  # none, align or all
    disable_hybrid_kv_cache_manager: bool | None = None  # None: off where a connector does not know groups
    allow_chunked_local_attn_with_hybrid_kv_cache: bool | None = None  # the environment variable VLLM_ALLOW_…
    speculative_config: str = ""
    draft: Model | None = None
    kv_cache_layout: str = ""  # VLLM_KV_CACHE_LAYOUT
    swap_space: float = 4.0  # GiB of blocks on the CPU; V0 only
    num_gpu_blocks_override: int | None = None
    gpu_memory_utilization: float | None = None  # the release's default: 0.9, from 0.22 on 0.92
    kv_cache_memory_bytes: int | None = None
    usage_context: str = "OPENAI_API_SERVER"  # or LLM_CLASS
    # what decides the rest of the process's memory
    max_num_seqs: int | None = None
    enforce_eager: bool = False
    quantization: str = ""
    data_parallel_size: int = 1
    enable_expert_parallel: bool = False
    cudagraph_mode: str = ""  # of the compilation config, like the two sizes; NONE captures nothing
    cudagraph_capture_sizes: str = ""  # numbers with commas
    max_cudagraph_capture_size: int | None = None
    performance_mode: str = "balanced"  # throughput doubles the default batch, interactivity captures small sizes
    limit_mm_per_prompt: str = ""  # the flag's JSON, or one number for images
    mm_processor_kwargs: str = ""  # the flag's JSON
    disable_chunked_mm_input: bool = False
    language_model_only: bool = False
    skip_mm_profiling: bool = False
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16
    # below the GPU
    kv_offloading_size: float | None = None  # GiB of host memory, all ranks together
    kv_offloading_backend: str = "native"  # or lmcache
    kv_transfer_config: str = ""  # the flag's JSON
    distributed_executor_backend: str = ""
    use_simple_kv_offload: bool = False  # VLLM_USE_SIMPLE_KV_OFFLOAD
    lmcache_local_cpu: bool = True  # LMCACHE_LOCAL_CPU, and so on
    lmcache_max_local_cpu_size: float = 5.0  # GiB of each worker
    lmcache_max_local_disk_size: float = 0.0
    lmcache_chunk_size: int = 256  # tokens
    dyn_kvbm_cpu_cache_gb: float = 0.0  # DYN_KVBM_CPU_CACHE_GB: 10**9 bytes, all ranks together
    dyn_kvbm_disk_cache_gb: float = 0.0
    # the machine
    device: str = "cuda"  # or cpu
    device_name: str = "NVIDIA H100 80GB HBM3"
    device_memory_bytes: int = _GPU_TOTAL
    compute_capability: int = 90  # 90 is sm_90

    def __post_init__(self) -> None:
        for name in _PARALLEL:
            _within(name, getattr(self, name), 1, 65_536)
        for name in ("block_size", "max_num_batched_tokens", "num_gpu_blocks_override", "max_num_seqs"):
            if getattr(self, name) is not None:
                _within(name, getattr(self, name), 1, 2**40)
        if self.max_model_len is not None and self.max_model_len != -1:
            _within("max_model_len", self.max_model_len, 1, 2**53)
        if self.kv_cache_memory_bytes is not None:
            _within("kv_cache_memory_bytes", self.kv_cache_memory_bytes, 1, 2**50)
        _within("data_parallel_size", self.data_parallel_size, 1, 65_536)
        _within("max_loras", self.max_loras, 1, 10_000)
        _within("max_lora_rank", self.max_lora_rank, 1, 65_536)
        share = self.gpu_memory_utilization
        if share is not None and not 0 < share <= 1:
            raise OptionError(
                f"gpu_memory_utilization must be above 0 and at most 1, got {self.gpu_memory_utilization}",
                option="gpu_memory_utilization",
            )
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                shown = ", ".join(f"`{k}`" for k in known if k)
                raise OptionError(f"{name}: unknown value `{getattr(self, name)[:40]}`", hint=f"one of {shown}", option=name)
        for name in ("kv_offloading_size", *_SIZES):
            size = getattr(self, name)
            if (size is not None and not (size > 0 if name == "kv_offloading_size" else size >= 0)) or (size or 0) >= 2**30:
                raise OptionError(f"{name} must be above 0 and below 2**30, got {size}", option=name)
        _within("lmcache_chunk_size", self.lmcache_chunk_size, 1, 2**20)
        if self.kv_transfer_config.strip():
            parse(self.kv_transfer_config)
        if self.speculative_config:
            parse_speculative(self.speculative_config)
        self.capture_sizes  # noqa: B018  a bad list is refused here
        self.images_a_prompt  # noqa: B018
        self.processor_kwargs  # noqa: B018
        self.stage_sizes  # noqa: B018

    @property
    def capture_sizes(self) -> tuple[int, ...] | None:
        """`cudagraph_capture_sizes` as numbers, None where they are not given.

        Raises:
            OptionError: not numbers with commas.
        """
        text = self.cudagraph_capture_sizes.strip("[] ")
        if not text:
            return None
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > 10_000 or not all(part.isdecimal() and 0 < len(part) < 9 and int(part) for part in parts):
            raise OptionError(f"cudagraph_capture_sizes: expected numbers with commas, got `{text[:40]}`", hint="such as 1,2,4,8")
        return tuple(int(part) for part in parts)

    @property
    def stage_sizes(self) -> tuple[int, ...] | None:
        """`pp_layer_partition` as numbers, one a stage; None where it is not given.

        Raises:
            OptionError: not one number for each stage.
        """
        text = self.pp_layer_partition.strip("[] ")
        if not text:
            return None
        parts = [part.strip() for part in text.split(",")[:65_537]]
        if len(parts) != self.pipeline_parallel_size or not all(part.isdecimal() and len(part) < 7 for part in parts):
            raise OptionError(
                f"pp_layer_partition: expected {self.pipeline_parallel_size} numbers with commas, one a pipeline stage, "
                f"got `{text[:40]}`",
                hint="such as `16,32` with pipeline_parallel_size 2",
                option="pp_layer_partition",
            )
        return tuple(int(part) for part in parts)

    @property
    def images_a_prompt(self) -> int | None:
        """The limit of images in one prompt, None where it is not given.

        Raises:
            OptionError: neither a number nor an object of numbers.
        """
        import json

        text = self.limit_mm_per_prompt.strip()
        if not text:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        number = found.get("image", found.get("video", 999)) if isinstance(found, dict) else found
        if isinstance(number, dict):
            number = number.get("count")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 10**6:
            raise OptionError(
                f"limit_mm_per_prompt: expected a number or an object of numbers, got `{text[:40]}`",
                hint="such as '{\"image\": 2}'",
            )
        return number

    @property
    def media_limits(self) -> dict[str, int]:
        """The limits of items in one prompt that are given, by modality."""
        import json

        images = self.images_a_prompt
        if images is None:
            return {}
        found = json.loads(self.limit_mm_per_prompt)
        if not isinstance(found, dict):
            return {"image": images}
        counts = {kind: value.get("count") if isinstance(value, dict) else value for kind, value in found.items()}
        whole = {kind: n for kind, n in counts.items() if isinstance(n, int) and not isinstance(n, bool)}
        return {kind: n for kind, n in whole.items() if 0 <= n < 10**6}

    @property
    def processor_kwargs(self) -> dict[str, Any]:
        """`mm_processor_kwargs` as an object.

        Raises:
            OptionError: no JSON object.
        """
        import json

        text = self.mm_processor_kwargs.strip()
        if not text:
            return {}
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise OptionError(
                f"mm_processor_kwargs: expected a JSON object, got `{text[:40]}`",
                hint="such as '{\"max_pixels\": 1003520}'",
                option="mm_processor_kwargs",
            )
        return found

    @property
    def has_bfloat16(self) -> bool:
        """Whether the card computes in bfloat16. Source: `platforms/cuda.py:supported_dtypes`."""
        return self.device != "cuda" or self.compute_capability >= _BFLOAT16

    def connector(self) -> Connector | None:
        """What takes blocks away from the GPU, if anything does."""
        size, backend = self.kv_offloading_size, self.kv_offloading_backend
        return connector(self.kv_transfer_config, size, backend, simple=self.use_simple_kv_offload)

    def one_group(self, release: Release) -> bool:
        """Whether every layer is held in full: asked for, or because a connector does not know groups.

        Until 0.21 any `--kv-transfer-config` turned the groups off, and the connector of `--kv-offloading-size`, chosen
        later, did not. Source: `config/vllm.py:VllmConfig.__post_init__`.
        """
        if self.disable_hybrid_kv_cache_manager is not None:
            return self.disable_hybrid_kv_cache_manager
        if not CONNECTORS_KEEP_GROUPS.at(release):
            return bool(self.kv_transfer_config.strip())
        found = self.connector()
        return found is not None and found.one_group

    @property
    def block_outermost(self) -> bool:
        """Whether the layout asked for puts the block before the layer."""
        return self.kv_cache_layout in _OUTERMOST

    @property
    def speculative(self) -> Speculative:
        """The drafter, if any."""
        return parse_speculative(self.speculative_config) if self.speculative_config else Speculative()

    def batch(self, release: Release, max_model_len: int, item_tokens: int = 0) -> Batch:
        """Tokens a step and requests at once, as the engine resolves them; see `kvplan.engines.vllm.batch`."""
        return settled(
            release,
            Host(
                memory=self.device_memory_bytes,
                name=self.device_name,
                capability=self.compute_capability,
                cpu=self.device == "cpu",
                workers=self.tensor_parallel_size * self.pipeline_parallel_size,
            ),
            max_model_len=max_model_len,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_num_seqs=self.max_num_seqs,
            offline=self.usage_context == "LLM_CLASS",
            chunked_prefill=self.enable_chunked_prefill,
            throughput=self.performance_mode == "throughput",
            item_tokens=item_tokens,
        )

    def batches_in_flight(self, release: Release) -> int:
        """Batches that may be scheduled and not settled. Source: `config/vllm.py:max_concurrent_batches`."""
        ahead = self.async_scheduling
        if ahead is None:
            method = self.speculative.method
            known = method in _ASYNC_METHODS or (method == "ngram" and NGRAM_AHEAD.at(release))
            ahead = self.device != "cpu" and known
        return self.pipeline_parallel_size + (1 if ahead else 0)


class Speculative(Struct, frozen=True, kw_only=True):
    """The drafter: its method ("" is none) and how many tokens it proposes."""

    method: str = ""
    num_speculative_tokens: int = 0


def parse_speculative(text: str) -> Speculative:
    """`--speculative-config` from its JSON.

    Raises:
        OptionError: not a JSON object, or a value of the wrong type.
    """
    import json

    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise OptionError(
            "speculative_config: expected a JSON object",
            hint='for example \'{"method": "mtp", "num_speculative_tokens": 1}\'',
            option="speculative_config",
        )
    method, tokens = data.get("method", ""), data.get("num_speculative_tokens", 1)
    if (
        not isinstance(method, str)
        or not method
        or isinstance(tokens, bool)
        or not isinstance(tokens, int)
        or not 1 <= tokens <= 1024
    ):
        raise OptionError(
            "speculative_config: `method` must be a text and `num_speculative_tokens` a whole number from 1 to 1,024",
            hint='for example \'{"method": "eagle3", "num_speculative_tokens": 3}\'',
            option="speculative_config",
        )
    name = "mtp" if method.endswith("_mtp") else method
    return Speculative(method=name, num_speculative_tokens=tokens)


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise OptionError(f"{name} must be from {least:,} to {most:,}, got {value}", option=name)
