"""What changed between releases of vLLM, as rows of data: (since, value, source).

0.11.0 and 0.32.0 were read whole and compared with recorded runs. Where a change lies between them, `since` is the first
release that is known to have it (a merged pull request or a server's log), so that a release in between may be off
by this rule; a note says so.
"""

from typing import Final

from kvplan.engines.kernel.releases import Quirk, quirk

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
# sliding and chunked layers are charged the tokens of one batch, later those of every batch in flight
IN_FLIGHT_BATCHES: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KI}:SlidingWindowSpec.max_memory_usage_bytes, 0.11.0"),
    ((0, 25), True, f"{_KI}:SlidingWindowSpec.max_admission_blocks_per_request; PR 47728"),
)
# a state layer holds one page a request; later it copies the state at block boundaries ("align") for prefix caching
STATE_CACHING: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KI}:MambaSpec, 0.11.0"),
    ((0, 20), True, f"{_KI}:MambaSpec.max_memory_usage_bytes, 0.32.0"),
)
# the dtype of Nemotron-H's states where neither flag nor config has one
NEMOTRON_STATES: Final[Quirk[str]] = quirk(
    ((0,), "float16", "vllm/model_executor/models/config.py:NemotronHForCausalLMConfig, 0.11 to 0.13"),
    ((0, 20), "float32", "vllm/model_executor/models/config.py:NemotronHForCausalLMConfig, 0.32.0"),
)
# groups: as many layers as the smallest bucket has; later the largest where it is not 1.5 times the smallest
BALANCED_GROUPS: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:_get_kv_cache_groups_uniform_page_size, 0.11.0"),
    ((0, 12), True, f"{_KU}:_get_kv_cache_groups_uniform_page_size, 0.32.0"),
)
# layers of different page sizes: an error; later blocks are lengthened or pages padded
UNIFIED_PAGES: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:get_kv_cache_groups raises NotImplementedError, 0.11.0"),
    ((0, 12), True, f"{_KU}:unify_kv_cache_spec_page_size, 0.32.0"),
)
# whether the fit test and the estimate work on the groups with the null block set aside, or on the layers' sum
FIT_BY_GROUPS: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:check_enough_kv_cache_memory, 0.11.0"),
    ((0, 20), True, f"{_KU}:_max_memory_usage_bytes_from_groups, 0.32.0"),
)
# `GPU KV cache size`: blocks // groups * block size; later concurrency * max_model_len
TOKENS_FROM_CONCURRENCY: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:_report_kv_cache_config, 0.11.0"),
    ((0, 20), True, f"{_KU}:get_kv_cache_capacity, 0.32.0; issue 40691 (0.19.0 has the old)"),
)
# the lines of the log
ONE_LOG_LINE: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}:_report_kv_cache_config, 0.11.0"),
    ((0, 30), True, f"{_KU}, 0.32.0"),
)
REFUSAL_WORDS: Final[Quirk[str]] = quirk(
    ((0,), "models's", f"{_KU}:_check_enough_kv_cache_memory, 0.11.0"),
    ((0, 20), "model's", f"{_KU}:_check_enough_kv_cache_memory, 0.32.0"),
)
GIB_TRIMMED: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_KU}: `%.2f`, 0.11.0"),
    ((0, 13), True, "vllm/utils/mem_utils.py:format_gib, 0.32.0"),
)
# the block size that dense MLA gets on Hopper
HOPPER_MLA_BLOCK: Final[Quirk[int]] = quirk(
    ((0,), 64, "vllm/platforms/cuda.py:check_and_update_config, 0.11.0 (FlashMLA)"),
    ((0, 20), 16, "vllm/platforms/interface.py:_preferred_block_size_for_backends, 0.32.0 (FLASH_ATTN_MLA)"),
)
