"""What changed between releases of vLLM, as rows of data: (since, value, source).

Every boundary was read in the releases on both sides of it (wheels of 0.9.1 to 0.33.0), and most were run: the planning code of
26 releases (tests/golden/vllm_033.jsonl). The page of this engine in docs/guides lists them.
"""

from typing import Final, Literal

from kvplan.engines.kernel.releases import ByType, Quirk, by_type, quirk

_KU: Final = "vllm/v1/core/kv_cache_utils.py"
_KI: Final = "vllm/v1/kv_cache_interface.py"

_V0: Final = "vllm/worker/cache_engine.py:get_cache_block_size, vllm/executor/gpu_executor.py"

V0: Final[Quirk[bool]] = quirk(
    ((0,), True, f"{_V0}, 0.6"),
    ((0, 8), False, "V1 is the default engine from 0.8.0 on"),
    says="the V0 engine: one kind of block for all layers, windows held whole, a second pool of blocks on the CPU",
)
LATENT_EXPANDED: Final[Quirk[bool]] = quirk(
    ((0,), True, "vllm/model_executor/models/deepseek_v2.py, 0.5.4 (head padded to 256)"),
    ((0, 7, 1), False, "vllm/attention/backends/mla, 0.7.1"),
    says="MLA keeps every head's keys and values, widened to multiples of 256 elements, not one latent",
)
HYBRID_GROUPS: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:unify_hybrid_kv_cache_specs alone, 0.9.0"),
    ((0, 9, 1), True, f"{_KU}:_get_kv_cache_config_uniform_page_size, 0.9.1"),
    says="layers that see a window have groups of their own beside those that see everything",
)
CHUNKS: Final[Quirk[Literal["full", "groups", "unified"]]] = quirk(
    ((0,), "full", f"{_KI}: no ChunkedLocalAttentionSpec, 0.9.2"),
    ((0, 10), "groups", f"{_KI}:ChunkedLocalAttentionSpec, 0.10.0"),
    ((0, 10, 1), "unified", "vllm/envs.py:VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE is 0, 0.10.1 to 0.13.0"),
    ((0, 14), "groups", "vllm/envs.py:VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE is 1, 0.14.0"),
    says="attention within chunks: no spec of its own; groups; no groups unless an environment variable says so; groups again",
)
IN_FLIGHT_BATCHES: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KI}:SlidingWindowSpec.max_memory_usage_bytes, 0.25.1"),
    ((0, 26), True, f"{_KI}:SlidingWindowSpec.max_admission_blocks_per_request, 0.26.0; PR 47728"),
    says="sliding and chunked layers are charged the tokens of every batch in flight, not of one",
)
WIDER_WINDOWS: Final[ByType[int]] = by_type(
    0,
    {
        ("cohere2",): (
            ((0,), 0, "vllm/model_executor/models/commandr.py, 0.11.0"),
            ((0, 32), 1, "vllm/model_executor/models/commandr.py, 0.32.0"),
        )
    },
    says="tokens of a window beside the config's (recorded for Cohere 2: 4,096 in 0.11.0, 4,097 in 0.32.0 and 0.33.0)",
)
NGRAM_AHEAD: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/config/vllm.py:max_concurrent_batches, 0.32.0"),
    ((0, 33), True, "vllm/config/vllm.py:max_concurrent_batches, 0.33.0"),
    says="n-gram drafting lets the scheduler run ahead",
)
STATE_MODES: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KI}:MambaSpec.max_memory_usage_bytes, 0.14.0"),
    ((0, 15), True, f"{_KI}:MambaSpec.mamba_cache_mode, 0.15.1"),
    says="a state layer has a mode: none, copied at block boundaries ('align'), or one state a block ('all')",
)
ALL_STATES_KNOWN: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/model_executor/models/config.py:MambaModelConfig, 0.11.0"),
    ((0, 11, 1), True, "vllm/model_executor/models/config.py:MambaModelConfig, 0.11.2"),
    says="before the modes: classes that keep a state for every block where prefixes are cached",
)
ALL_STATES_UNASKED: Final[Quirk[bool]] = quirk(
    ((0,), True, "vllm/model_executor/models/config.py:MambaModelConfig, 0.15.1"),
    ((0, 28), False, "vllm/model_executor/models/config.py:MambaModelConfig, 0.28.0"),
    says="classes that can keep a state for every block do so unasked where prefixes are cached",
)
ALL_STATES_GONE: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/config/cache.py:MambaCacheMode, 0.31.0"),
    ((0, 32), True, "vllm/config/cache.py:MambaCacheMode, 0.32.0"),
    says="one state a block ('all') is no mode any more",
)
ALL_STATES_DRAFTED: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KI}:MambaSpec.max_memory_usage_bytes, 0.21.0"),
    ((0, 22), True, f"{_KI}:MambaSpec.max_memory_usage_bytes, 0.22.1"),
    says="states of proposed tokens beside one for each block",
)
HYBRIDS_CACHE_PREFIXES: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/config/model.py:is_prefix_caching_supported, 0.25.1"),
    ((0, 26), True, "vllm/config/model.py:is_prefix_caching_supported, 0.26.0"),
    says="prefixes are cached unasked in models with states beside attention",
)
_CHECKPOINT: Final = "a further block of states a request, for a checkpoint that the prefill exports"
CHECKPOINTED: Final[dict[str, Quirk[bool]]] = {
    "mamba2": quirk(
        ((0,), False, "vllm/model_executor/layers/mamba/mamba_mixer2.py, 0.31.0"),
        ((0, 32), True, "vllm/model_executor/layers/mamba/mamba_mixer2.py:get_kv_cache_spec, 0.32.0"),
        says=_CHECKPOINT,
    ),
    "gated_delta": quirk(
        ((0,), False, "vllm/model_executor/layers/mamba/gdn/qwen_gdn_linear_attn.py, 0.32.0"),
        ((0, 33), True, "vllm/model_executor/layers/mamba/gdn/qwen_gdn_linear_attn.py:get_kv_cache_spec, 0.33.0"),
        says=_CHECKPOINT,
    ),
    "kda": quirk(
        ((0,), False, "vllm/models/kimi_k3, before 0.29"),
        ((0, 29), True, "vllm/models/kimi_k3/nvidia/kda.py:get_kv_cache_spec (FlashKDA), 0.29.0"),
        says=_CHECKPOINT,
    ),
}
ALIGNED_TO_GIVEN: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/model_executor/models/config.py:HybridAttentionMambaModelConfig, 0.19.1"),
    ((0, 20), True, "vllm/platforms/interface.py:_align_hybrid_block_size, 0.20.0"),
    says="blocks beside states: whole multiples of a block that the user gives, too",
)
LATENT_BESIDE_STATES: Final[Quirk[int]] = quirk(
    ((0,), 64, "vllm/model_executor/models/config.py:HybridAttentionMambaModelConfig, 0.19.1"),
    ((0, 20), 16, "vllm/platforms/interface.py:_align_hybrid_block_size, 0.20.0"),
    ((0, 27), 128, "vllm/platforms/interface.py:_align_hybrid_block_size, 0.27.0"),
    says="the least block of MLA beside states, tokens",
)
NEMOTRON_STATES: Final[Quirk[str]] = quirk(
    ((0,), "float16", "vllm/model_executor/models/config.py:NemotronHForCausalLMConfig, 0.13 to 0.19.0"),
    ((0, 20), "float32", "vllm/model_executor/models/config.py:NemotronHForCausalLMConfig, 0.20.0"),
    says="the dtype of Nemotron-H's states where neither flag nor config has one",
)
BALANCED_GROUPS: Final[Quirk[float]] = quirk(
    ((0,), 0.0, f"{_KU}:_get_kv_cache_groups_uniform_page_size, 0.11.2"),
    ((0, 12), 1.25, f"{_KU}:_get_kv_cache_groups_uniform_page_size, 0.12.0 to 0.17.1"),
    ((0, 18), 1.5, f"{_KU}:_get_kv_cache_groups_uniform_page_size, 0.18.1"),
    says="groups: as many layers as the smallest bucket; later as the largest, if not so many times the smallest (0: never)",
)
SPARSE_ROWS_UNASKED: Final[Quirk[bool]] = quirk(
    ((0,), True, "vllm/model_executor/models/config.py:DeepseekV32ForCausalLM, 0.11.0"),
    ((0, 12), False, "vllm/model_executor/models/config.py:DeepseekV32ForCausalLM, 0.12.0"),
    says="sparse latents: the fp8 row format where nobody asks for a dtype",
)
UNIFIED_PAGES: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:get_kv_cache_groups raises NotImplementedError, 0.11.2"),
    ((0, 12), True, f"{_KU}:unify_kv_cache_spec_page_size, 0.12.0"),
    says="layers of different page sizes are served: blocks are lengthened or pages padded",
)
PACKED_LAYOUTS: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}, 0.28.0"),
    ((0, 29), True, f"{_KU}:_get_packed_kv_cache_groups, 0.29.0"),
    says="layouts whose outermost axis is the block hold pages of different sizes side by side",
)
TUPLES: Final[Quirk[Literal["", "padded", "places", "dense"]]] = quirk(
    ((0,), "", f"{_KU}, 0.19.1"),
    (
        (0, 20),
        "padded",
        f"{_KU}:_get_kv_cache_config_deepseek_v4, _get_kv_cache_groups_uniform_groups (size_to_candidate), 0.20.0",
    ),
    ((0, 23), "places", f"{_KU}:_get_kv_cache_config_packed (_bucket_layers_by_page_size), 0.23.0 to 0.26.0"),
    ((0, 27), "dense", f"{_KU}:_get_packed_kv_cache_layout, 0.27.0 and 0.28.0"),
    ((0, 29), "", f"{_KU}:_get_packed_kv_cache_groups, 0.29.0"),
    says="DeepSeek V4's pages: windows padded to the latents' pages, as many places of every size; as many as a size needs; "
    "side by side; by the general rule",
)
WHOLE_COMPRESSED: Final[Quirk[bool]] = quirk(
    ((0,), True, f"{_KU}:unify_hybrid_kv_cache_specs, 0.20.0 to 0.26.0; _promote_local_kv_cache_specs, 0.27.0 to 0.30.0"),
    ((0, 31), False, f"{_KU}:_promote_local_kv_cache_specs (replace_as), {_KI}:MLAAttentionSpec, 0.31.0 and 0.32.0"),
    says="without the hybrid manager DeepSeek V4's windows are held whole, in the latents' blocks; later it does not start so",
)
CONNECTORS_KEEP_GROUPS: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/config/vllm.py:VllmConfig.__post_init__, 0.21.0"),
    ((0, 22), True, "vllm/config/vllm.py:VllmConfig.__post_init__ (supports_hma), 0.22.0"),
    says="`--kv-transfer-config` leaves layers that see a window their groups, where its connector knows groups",
)
FIT_BY_GROUPS: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:check_enough_kv_cache_memory, 0.13.0"),
    ((0, 14), True, f"{_KU}:_max_memory_usage_bytes_from_groups, 0.14.0"),
    says="the fit test counts the groups, not the layers' sum",
)
FIT_BY_FIRST_GROUP: Final[Quirk[bool]] = quirk(
    ((0,), True, f"{_KU}:_max_memory_usage_bytes_from_groups (any_spec), 0.14.0 to 0.18.1"),
    ((0, 19), False, f"{_KU}:_max_memory_usage_bytes_from_groups, 0.19.1"),
    says="the fit test counts the first group's blocks alone",
)
FIT_WHOLE_MODEL: Final[Quirk[bool]] = quirk(
    ((0,), True, f"{_KU}:get_kv_cache_configs (min of available_memory), 0.14.0 to 0.16.0"),
    ((0, 17), False, f"{_KU}:_project_kv_cache_groups_to_worker, 0.17.1"),
    says="the whole model's groups are held against the smallest stage's memory",
)
NULL_BLOCK_ASIDE: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:get_kv_cache_configs, 0.28.0"),
    ((0, 29), True, f"{_KU}:_pool_bytes_per_block, 0.29.0"),
    says="the null block is set aside in the fit test",
)
STATES_CHECKED: Final[Quirk[bool]] = quirk(
    ((0,), False, "vllm/config/compilation.py, 0.19.1"),
    ((0, 20), True, "vllm/config/compilation.py:resolve_cudagraph_mode_and_sizes, 0.20.0; issue 34094"),
    says="a server whose decode steps are captured whole refuses more requests at once than its pool has blocks for states",
)
CONCURRENCY_BY_GROUPS: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:get_max_concurrency_for_kv_cache_config, 0.26.0"),
    ((0, 27), True, f"{_KU}:get_max_concurrency_for_kv_cache_config, 0.27.0"),
    says="concurrency counts each group's blocks, not one rounding over all groups' bytes",
)
TOKENS_FROM_CONCURRENCY: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:_report_kv_cache_config, 0.20.0"),
    ((0, 20, 1), True, f"{_KU}:_report_kv_cache_config, 0.20.1; issue 40691"),
    says="`GPU KV cache size`: blocks // groups * block size; later concurrency * max_model_len",
)
ONE_LOG_LINE: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:_report_kv_cache_config, 0.27.0"),
    ((0, 28), True, f"{_KU}:_report_kv_cache_config, 0.28.0"),
    says="the lines of the log",
)
REFUSAL_WORDS: Final[Quirk[str]] = quirk(
    ((0,), "models's", f"{_KU}:_check_enough_kv_cache_memory, 0.21.0"),
    ((0, 22), "model's", f"{_KU}:_check_enough_kv_cache_memory, 0.22.1"),
    says="the words of a refusal",
)
CPU_WORDS: Final[Quirk[str]] = quirk(
    ((0,), "", f"{_KU}:_check_enough_kv_cache_memory"),
    ((0, 22), " (which also controls CPU memory on the CPU backend)", f"{_KU}:_check_enough_kv_cache_memory"),
    says="the words of a refusal",
)
GIB_TRIMMED: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}: `%.2f`, 0.13.0"),
    ((0, 14), True, "vllm/utils/mem_utils.py:format_gib, 0.14.0"),
    says="GiB in the log without closing zeros",
)
HOPPER_MLA_BLOCK: Final[Quirk[int]] = quirk(
    ((0,), 64, "vllm/platforms/cuda.py:check_and_update_config, 0.17.1 (FlashMLA)"),
    ((0, 18), 16, "vllm/platforms/interface.py:update_block_size_for_backend, 0.18.1 (FLASH_ATTN_MLA)"),
    says="the block size that dense MLA gets on Hopper",
)
