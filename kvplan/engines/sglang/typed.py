"""What to type for options that were named: flags of SGLang's server, and its environment.

Source: sglang 0.5.23, srt/arg_groups/fields/*.py, srt/environ.py.
"""

from collections.abc import Collection, Iterator
from shlex import quote
from typing import Final

from kvplan.engines.kernel.typed import hub_name, own_flags
from kvplan.engines.sglang.options import SglangOptions

#: Options that are environment variables -> their names.
ENVIRONMENT: Final = {
    "vlm_cache_size_mb": "SGLANG_VLM_CACHE_SIZE_MB",
    "mm_feature_cache_mb": "SGLANG_MM_FEATURE_CACHE_MB",
    "swa_eviction_interval": "SGLANG_SWA_EVICTION_INTERVAL",
    "dsv4_compress_state_dtype": "SGLANG_DSV4_COMPRESS_STATE_DTYPE",
    "post_capture_kv_sizing": "SGLANG_ENABLE_POST_CAPTURE_KV_SIZING",
}
#: In the pieces of the command, in the environment, or what the machine is.
_BESIDE: Final = frozenset(
    {
        "kv_cache_dtype", "tp_size", "pp_size", "dp_size", "attn_dp_size", "ep_size", "enable_dp_attention", "context_length",
        "max_running_requests", "mem_fraction_static", "draft", "device_name", "device_memory_bytes", "compute_capability",
        "host_free_bytes", *ENVIRONMENT,
    }
)  # fmt: skip


def flags(options: SglangOptions, given: Collection[str], *, use: str, replicas: int) -> Iterator[str]:
    """Flags beside those of every command, in the order of the options."""
    yield from own_flags(options, given, beside=_BESIDE, negated=False)
    if options.dp_size > 1 and replicas == 1 and not options.enable_dp_attention:
        yield f"--dp-size {options.dp_size}"
    if options.draft is not None:
        yield f"--speculative-draft-model-path {quote(hub_name(options.draft))}"
    if use != "generate":
        yield "--is-embedding"


def environment(options: SglangOptions, given: Collection[str]) -> Iterator[str]:
    """Variables that the server reads, of those that were named."""
    for option, name in ENVIRONMENT.items():
        value = getattr(options, option)
        if option in given and value is not None:
            yield f"{name}={quote(str(int(value) if isinstance(value, bool) else value))}"
