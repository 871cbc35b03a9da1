"""What changed between releases of vLLM, as rows of data: `Quirk(since, field, value, source)`.

0.11.0 and 0.32.0 were read whole and compared with recorded runs. Where a change lies between them, `since` is the first
release that is known to have it (a merged pull request or a server's log), so that a release in between may be off
by this rule; a note says so.
"""

from typing import Any, Final

from kvplan.engines.kernel.releases import Quirk, rule_for

_KU: Final = "vllm/v1/core/kv_cache_utils.py"
_KI: Final = "vllm/v1/kv_cache_interface.py"

_V0: Final = "vllm/worker/cache_engine.py:get_cache_block_size, vllm/executor/gpu_executor.py"

QUIRKS: Final = (
    # the V0 engine: one kind of block for all layers, windows held whole, a second pool of blocks on the CPU
    Quirk((0,), "v0", True, f"{_V0}, 0.6"),
    Quirk((0, 8), "v0", False, "V1 is the default engine from 0.8.0 on"),
    # MLA: keys and values of every head, each widened to a multiple of 256 elements; later one latent
    Quirk((0,), "latent_expanded", True, "vllm/model_executor/models/deepseek_v2.py, 0.5.4 (head padded to 256)"),
    Quirk((0, 7, 1), "latent_expanded", False, "vllm/attention/backends/mla, 0.7.1"),
    # sliding and chunked layers are charged the tokens of one batch, later those of every batch in flight
    Quirk((0,), "in_flight_batches", False, f"{_KI}:SlidingWindowSpec.max_memory_usage_bytes, 0.11.0"),
    Quirk((0, 25), "in_flight_batches", True, f"{_KI}:SlidingWindowSpec.max_admission_blocks_per_request; PR 47728"),
    # a state layer holds one page a request; later it copies the state at block boundaries ("align") for prefix caching
    Quirk((0,), "state_caching", False, f"{_KI}:MambaSpec, 0.11.0"),
    Quirk((0, 20), "state_caching", True, f"{_KI}:MambaSpec.max_memory_usage_bytes, 0.32.0"),
    # the dtype of Nemotron-H's states where neither flag nor config has one
    Quirk((0,), "nemotron_states", "float16", "vllm/model_executor/models/config.py:NemotronHForCausalLMConfig, 0.11 to 0.13"),
    Quirk((0, 20), "nemotron_states", "float32", "vllm/model_executor/models/config.py:NemotronHForCausalLMConfig, 0.32.0"),
    # groups: as many layers as the smallest bucket has; later the largest where it is not 1.5 times the smallest
    Quirk((0,), "balanced_groups", False, f"{_KU}:_get_kv_cache_groups_uniform_page_size, 0.11.0"),
    Quirk((0, 12), "balanced_groups", True, f"{_KU}:_get_kv_cache_groups_uniform_page_size, 0.32.0"),
    # layers of different page sizes: an error; later blocks are lengthened or pages padded
    Quirk((0,), "unified_pages", False, f"{_KU}:get_kv_cache_groups raises NotImplementedError, 0.11.0"),
    Quirk((0, 12), "unified_pages", True, f"{_KU}:unify_kv_cache_spec_page_size, 0.32.0"),
    # whether the fit test and the estimate work on the groups with the null block set aside, or on the layers' sum
    Quirk((0,), "fit_by_groups", False, f"{_KU}:check_enough_kv_cache_memory, 0.11.0"),
    Quirk((0, 20), "fit_by_groups", True, f"{_KU}:_max_memory_usage_bytes_from_groups, 0.32.0"),
    # `GPU KV cache size`: blocks // groups * block size; later concurrency * max_model_len
    Quirk((0,), "tokens_from_concurrency", False, f"{_KU}:_report_kv_cache_config, 0.11.0"),
    Quirk((0, 20), "tokens_from_concurrency", True, f"{_KU}:get_kv_cache_capacity, 0.32.0; issue 40691 (0.19.0 has the old)"),
    # the lines of the log
    Quirk((0,), "one_log_line", False, f"{_KU}:_report_kv_cache_config, 0.11.0"),
    Quirk((0, 30), "one_log_line", True, f"{_KU}, 0.32.0"),
    Quirk((0,), "refusal_words", "models's", f"{_KU}:_check_enough_kv_cache_memory, 0.11.0"),
    Quirk((0, 20), "refusal_words", "model's", f"{_KU}:_check_enough_kv_cache_memory, 0.32.0"),
    Quirk((0,), "gib_trimmed", False, f"{_KU}: `%.2f`, 0.11.0"),
    Quirk((0, 13), "gib_trimmed", True, "vllm/utils/mem_utils.py:format_gib, 0.32.0"),
    # the block size that dense MLA gets on Hopper
    Quirk((0,), "hopper_mla_block", 64, "vllm/platforms/cuda.py:check_and_update_config, 0.11.0 (FlashMLA)"),
    Quirk(
        (0, 20), "hopper_mla_block", 16, "vllm/platforms/interface.py:_preferred_block_size_for_backends, 0.32.0 (FLASH_ATTN_MLA)"
    ),
)


def rule(name: str, version: tuple[int, ...]) -> Any:
    """The value of one rule at a release."""
    return rule_for(QUIRKS, name, version)
