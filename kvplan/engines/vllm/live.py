"""What a running vLLM says of itself.

Source: vllm/v1/metrics/loggers.py (`vllm:cache_config_info`: every field of CacheConfig as a label),
vllm/entrypoints/openai/models: `max_model_len`, `root`; `/version`. On a CPU `kv_cache_memory_bytes` is what
VLLM_CPU_KVCACHE_SPACE says (v1/worker/cpu_worker.py), so that no card decides.
"""

from typing import Any, Final

from kvplan.engines.kernel.live import Answers, Asking, Live, Printed, count, data, labels, text

_NONE: Final = frozenset({"", "None", "auto"})


def _read(answers: Answers) -> tuple[Live, ...]:
    cache = labels(answers, "vllm:cache_config_info")
    models = data(answers, "/v1/models")
    listed = models.get("data") if isinstance(models, dict) else None
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
    if not cache or not first:
        return ()
    length, blocks = count(first.get("max_model_len")), count(cache.get("num_gpu_blocks"))
    options: dict[str, Any] = {} if length is None else {"max_model_len": length}
    if cache.get("cache_dtype", "") not in _NONE:
        options["kv_cache_dtype"] = cache["cache_dtype"]
    share = cache.get("gpu_memory_utilization", "")
    if share.replace(".", "", 1).isdecimal():
        options["gpu_memory_utilization"] = float(share)
    if cache.get("user_specified_block_size") == "True" and count(cache.get("block_size")):
        options["block_size"] = count(cache["block_size"])
    if cache.get("enable_prefix_caching") in {"True", "False"}:
        options["enable_prefix_caching"] = cache["enable_prefix_caching"] == "True"
    for name in ("kv_cache_memory_bytes", "num_gpu_blocks_override"):
        if count(cache.get(name)):
            options[name] = count(cache[name])
    said = data(answers, "/version")
    printed = [Printed(name="num_gpu_blocks", value=blocks, of="num_blocks")] if blocks is not None else []
    tokens = count(cache.get("kv_cache_size_tokens"))
    printed += [Printed(name="kv_cache_size_tokens", value=tokens, of="num_tokens")] if tokens is not None else []
    printed += [Printed(name="max_model_len", value=length, of="length")] if length is not None else []
    model = text(first.get("root")) or text(first.get("id"))
    return (
        Live(
            model=model,
            version=text(said.get("version") if isinstance(said, dict) else ""),
            options=options,
            printed=tuple(printed),
            on_host={"device": "cpu"} if options.get("kv_cache_memory_bytes") else None,
            cache_bytes=options.get("kv_cache_memory_bytes", 0),
        ),
    )


ASKING: Final = Asking(("/version", "/v1/models", "/metrics"), _read)
