"""What changed between releases of vLLM, as rows of data: (since, value, source).

Every boundary was read in the releases on both sides of it (wheels of 0.9.1 to 0.33.0), and most were run: the planning code of
26 releases (tests/golden/vllm_033.jsonl). The page of this engine in docs/guides lists them.
"""

from typing import Final, Literal

from kvplan.engines.kernel.releases import ByType, Quirk, by_type, quirk

_KU: Final = "vllm/v1/core/kv_cache_utils.py"
_KI: Final = "vllm/v1/kv_cache_interface.py"

_V0: Final = "vllm/worker/cache_engine.py:get_cache_block_size, vllm/executor/gpu_executor.py"

# the V0 engine: one kind of block for all layers, windows held whole, a second pool of blocks on the CPU
V0: Final[Quirk[bool]] = quirk(
    ((0,), True, f"{_V0}, 0.6"),
    ((0, 8), False, "V1 is the default engine from 0.8.0 on"),
)
# MLA: keys and values of every head, each widened to a multiple of 256 elements; later one latent
LATENT_EXPANDED: Final[Quirk[bool]] = quirk(
    ((0,), True, "vllm/model_executor/models/deepseek_v2.py, 0.5.4 (head padded to 256)"),
    ((0, 7, 1), False, "vllm/attention/backends/mla, 0.7.1"),
)
# layers that see a window beside layers that see everything: held like those, later in groups of their own
HYBRID_GROUPS: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:unify_hybrid_kv_cache_specs alone, 0.9.0"),
    ((0, 9, 1), True, f"{_KU}:_get_kv_cache_config_uniform_page_size, 0.9.1"),
)
# attention within chunks: no spec of its own; groups; no groups unless an environment variable says so; groups again
CHUNKS: Final[Quirk[Literal["full", "groups", "unified"]]] = quirk(
    ((0,), "full", f"{_KI}: no ChunkedLocalAttentionSpec, 0.9.2"),
    ((0, 10), "groups", f"{_KI}:ChunkedLocalAttentionSpec, 0.10.0"),
    ((0, 10, 1), "unified", "vllm/envs.py:VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE is 0, 0.10.1 to 0.13.0"),
    ((0, 14), "groups", "vllm/envs.py:VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE is 1, 0.14.0"),
)
# sliding and chunked layers are charged the tokens of one batch, later those of every batch in flight
IN_FLIGHT_BATCHES: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KI}:SlidingWindowSpec.max_memory_usage_bytes, 0.25.1"),
    ((0, 26), True, f"{_KI}:SlidingWindowSpec.max_admission_blocks_per_request, 0.26.0; PR 47728"),
)
# tokens of a window beside the config's (recorded for Cohere 2: 4,096 in 0.11.0, 4,097 in 0.32.0 and 0.33.0)
WIDER_WINDOWS: Final[ByType[int]] = by_type(
    0, {("cohere2",): (((0,), 0, "vllm/model_executor/models/commandr.py, 0.11.0"), ((0, 32), 1, "the same, 0.32.0"))}
)
# n-gram drafting lets the scheduler run ahead
NGRAM_AHEAD: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/config/vllm.py:max_concurrent_batches, 0.32.0"),
    ((0, 33), True, "vllm/config/vllm.py:max_concurrent_batches, 0.33.0"),
)
# a state layer has a mode: none, copied at block boundaries ("align"), or one state a block ("all")
STATE_MODES: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KI}:MambaSpec.max_memory_usage_bytes, 0.14.0"),
    ((0, 15), True, f"{_KI}:MambaSpec.mamba_cache_mode, 0.15.1"),
)
# before the modes: classes that keep a state for every block where prefixes are cached
ALL_STATES_KNOWN: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/model_executor/models/config.py:MambaModelConfig, 0.11.0"),
    ((0, 11, 1), True, "vllm/model_executor/models/config.py:MambaModelConfig, 0.11.2"),
)
# the mode of classes that know "all", where prefixes are cached and nobody says
ALL_STATES_UNASKED: Final[Quirk[bool]] = quirk(
    ((0,), True, "vllm/model_executor/models/config.py:MambaModelConfig, 0.15.1"),
    ((0, 28), False, "vllm/model_executor/models/config.py:MambaModelConfig, 0.28.0"),
)
ALL_STATES_GONE: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/config/cache.py:MambaCacheMode, 0.31.0"),
    ((0, 32), True, "vllm/config/cache.py:MambaCacheMode, 0.32.0"),
)
# states of proposed tokens beside one for each block
ALL_STATES_DRAFTED: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KI}:MambaSpec.max_memory_usage_bytes, 0.21.0"),
    ((0, 22), True, f"{_KI}:MambaSpec.max_memory_usage_bytes, 0.22.1"),
)
# whether prefixes are cached unasked in models with states beside attention
HYBRIDS_CACHE_PREFIXES: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/config/model.py:is_prefix_caching_supported, 0.25.1"),
    ((0, 26), True, "vllm/config/model.py:is_prefix_caching_supported, 0.26.0"),
)
# a further block of states a request, for a checkpoint that the prefill exports, by kind of state
CHECKPOINTED: Final[dict[str, Quirk[bool]]] = {
    "mamba2": quirk(
        ((0,), False, "vllm/model_executor/layers/mamba/mamba_mixer2.py, 0.31.0"),
        ((0, 32), True, "vllm/model_executor/layers/mamba/mamba_mixer2.py:get_kv_cache_spec, 0.32.0"),
    ),
    "gated_delta": quirk(
        ((0,), False, "vllm/model_executor/layers/mamba/gdn/qwen_gdn_linear_attn.py, 0.32.0"),
        ((0, 33), True, "vllm/model_executor/layers/mamba/gdn/qwen_gdn_linear_attn.py:get_kv_cache_spec, 0.33.0"),
    ),
    "kda": quirk(
        ((0,), False, "vllm/models/kimi_k3, before 0.29"),
        ((0, 29), True, "vllm/models/kimi_k3/nvidia/kda.py:get_kv_cache_spec (FlashKDA), 0.29.0"),
    ),
}
# blocks beside states: whole multiples of a block that the user gives, too
ALIGNED_TO_GIVEN: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/model_executor/models/config.py:HybridAttentionMambaModelConfig, 0.19.1"),
    ((0, 20), True, "vllm/platforms/interface.py:_align_hybrid_block_size, 0.20.0"),
)
# the least block of MLA beside states, tokens
LATENT_BESIDE_STATES: Final[Quirk[int]] = quirk(
    ((0,), 64, "vllm/model_executor/models/config.py:HybridAttentionMambaModelConfig, 0.19.1"),
    ((0, 20), 16, "vllm/platforms/interface.py:_align_hybrid_block_size, 0.20.0"),
    ((0, 27), 128, "vllm/platforms/interface.py:_align_hybrid_block_size, 0.27.0"),
)
# the dtype of Nemotron-H's states where neither flag nor config has one
NEMOTRON_STATES: Final[Quirk[str]] = quirk(
    ((0,), "float16", "vllm/model_executor/models/config.py:NemotronHForCausalLMConfig, 0.13 to 0.19.0"),
    ((0, 20), "float32", "vllm/model_executor/models/config.py:NemotronHForCausalLMConfig, 0.20.0"),
)
# groups: as many layers as the smallest bucket has; later the largest where it is not so many times the smallest (0: never)
BALANCED_GROUPS: Final[Quirk[float]] = quirk(
    ((0,), 0.0, f"{_KU}:_get_kv_cache_groups_uniform_page_size, 0.11.2"),
    ((0, 12), 1.25, f"{_KU}:_get_kv_cache_groups_uniform_page_size, 0.12.0 to 0.17.1"),
    ((0, 18), 1.5, f"{_KU}:_get_kv_cache_groups_uniform_page_size, 0.18.1"),
)
# sparse latents: the fp8 row format where nobody asks for a dtype
SPARSE_ROWS_UNASKED: Final[Quirk[bool]] = quirk(
    ((0,), True, "vllm/model_executor/models/config.py:DeepseekV32ForCausalLM, 0.11.0"),
    ((0, 12), False, "vllm/model_executor/models/config.py:DeepseekV32ForCausalLM, 0.12.0"),
)
# layers of different page sizes: an error; later blocks are lengthened or pages padded
UNIFIED_PAGES: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:get_kv_cache_groups raises NotImplementedError, 0.11.2"),
    ((0, 12), True, f"{_KU}:unify_kv_cache_spec_page_size, 0.12.0"),
)
# layouts whose outermost axis is the block hold pages of different sizes side by side
PACKED_LAYOUTS: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}, 0.28.0"),
    ((0, 29), True, f"{_KU}:_get_packed_kv_cache_groups, 0.29.0"),
)
# DeepSeek V4's pages of several sizes: windows padded to the latents' pages, then side by side, then by the general rule
TUPLES: Final[Quirk[Literal["", "padded", "dense"]]] = quirk(
    ((0,), "", f"{_KU}, 0.19.1"),
    ((0, 20), "padded", f"{_KU}:_get_kv_cache_groups_uniform_groups (size_to_candidate), 0.20.0 to 0.26.0"),
    ((0, 27), "dense", f"{_KU}:_get_packed_kv_cache_layout, 0.27.0 and 0.28.0"),
    ((0, 29), "", f"{_KU}:_get_packed_kv_cache_groups, 0.29.0"),
)
# the fit test works on the layers' sum, later on the groups
FIT_BY_GROUPS: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:check_enough_kv_cache_memory, 0.13.0"),
    ((0, 14), True, f"{_KU}:_max_memory_usage_bytes_from_groups, 0.14.0"),
)
# of several groups it counts the first one's blocks alone, later all
FIT_BY_FIRST_GROUP: Final[Quirk[bool]] = quirk(
    ((0,), True, f"{_KU}:_max_memory_usage_bytes_from_groups (any_spec), 0.14.0 to 0.18.1"),
    ((0, 19), False, f"{_KU}:_max_memory_usage_bytes_from_groups, 0.19.1"),
)
# the whole model's groups are held against the smallest stage's memory, later each stage's against its own
FIT_WHOLE_MODEL: Final[Quirk[bool]] = quirk(
    ((0,), True, f"{_KU}:get_kv_cache_configs (min of available_memory), 0.14.0 to 0.16.0"),
    ((0, 17), False, f"{_KU}:_project_kv_cache_groups_to_worker, 0.17.1"),
)
# the null block is set aside in the fit test
NULL_BLOCK_ASIDE: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:get_kv_cache_configs, 0.28.0"), ((0, 29), True, f"{_KU}:_pool_bytes_per_block, 0.29.0")
)
# a server whose decode steps are captured whole refuses more requests at once than its pool has blocks for states
STATES_CHECKED: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/config/compilation.py, 0.19.1"),
    ((0, 20), True, "vllm/config/compilation.py:resolve_cudagraph_mode_and_sizes, 0.20.0; issue 34094"),
)
# concurrency: one rounding over all groups' bytes, later each group's blocks
CONCURRENCY_BY_GROUPS: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:get_max_concurrency_for_kv_cache_config, 0.26.0"),
    ((0, 27), True, f"{_KU}:get_max_concurrency_for_kv_cache_config, 0.27.0"),
)
# `GPU KV cache size`: blocks // groups * block size; later concurrency * max_model_len
TOKENS_FROM_CONCURRENCY: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:_report_kv_cache_config, 0.20.0"),
    ((0, 20, 1), True, f"{_KU}:_report_kv_cache_config, 0.20.1; issue 40691"),
)
# the lines of the log
ONE_LOG_LINE: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:_report_kv_cache_config, 0.27.0"),
    ((0, 28), True, f"{_KU}:_report_kv_cache_config, 0.28.0"),
)
REFUSAL_WORDS: Final[Quirk[str]] = quirk(
    ((0,), "models's", f"{_KU}:_check_enough_kv_cache_memory, 0.21.0"),
    ((0, 22), "model's", f"{_KU}:_check_enough_kv_cache_memory, 0.22.1"),
)
CPU_WORDS: Final[Quirk[str]] = quirk(
    ((0,), "", f"{_KU}:_check_enough_kv_cache_memory"),
    ((0, 22), " (which also controls CPU memory on the CPU backend)", f"{_KU}:_check_enough_kv_cache_memory"),
)
GIB_TRIMMED: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}: `%.2f`, 0.13.0"),
    ((0, 14), True, "vllm/utils/mem_utils.py:format_gib, 0.14.0"),
)
# the block size that dense MLA gets on Hopper
HOPPER_MLA_BLOCK: Final[Quirk[int]] = quirk(
    ((0,), 64, "vllm/platforms/cuda.py:check_and_update_config, 0.17.1 (FlashMLA)"),
    ((0, 18), 16, "vllm/platforms/interface.py:update_block_size_for_backend, 0.18.1 (FLASH_ATTN_MLA)"),
)
