"""What a running SGLang says of itself.

Source: srt/entrypoints/http_server.py:get_server_info (the arguments, the scheduler's numbers, `internal_states`);
srt/observability/metrics_collector.py (`sglang:max_total_num_tokens`; until 0.5.10 `sglang:cache_config_info`, by pages).
"""

from typing import Any, Final

from kvplan.engines.kernel.commandline.flags import flags_of
from kvplan.engines.kernel.live import Answers, Asking, Live, Printed, count, data, gauge, labels, text

_PATH: Final = "/get_server_info"
#: What the server fills in itself where nobody says: not what was asked.
_FILLED: Final = frozenset(
    {
        "model_path", "chunked_prefill_size", "page_size", "attention_backend", "cuda_graph_max_bs_decode", "max_prefill_tokens",
        "device", "load_format", "cuda_graph_bs_decode", "swa_full_tokens_ratio", "config",
    }
)  # fmt: skip


def _read(answers: Answers) -> tuple[Live, ...]:
    found = data(answers, _PATH) or data(answers, "/server_info")
    if not isinstance(found, dict) or not text(found.get("model_path")):
        return ()
    known = {flag.dest: flag for flag in flags_of("kvplan.engines.sglang").flags if flag.memory}
    options: dict[str, Any] = {
        name: value
        for name, value in found.items()
        if name in known and name not in _FILLED and isinstance(value, str | int | float) and value not in ("", False, "auto")
    }
    states = found.get("internal_states")
    state = states[0] if isinstance(states, list) and states and isinstance(states[0], dict) else {}
    usage = state.get("memory_usage")
    memory = usage if isinstance(usage, dict) else {}
    tokens = count(found.get("max_total_num_tokens")) or count(memory.get("token_capacity"))
    printed = [Printed(name="max_total_num_tokens", value=tokens, of="num_tokens")] if tokens is not None else []
    said = gauge(answers, "sglang:max_total_num_tokens")
    pages = labels(answers, "sglang:cache_config_info")
    size, number = count(pages.get("page_size")), count(pages.get("num_pages"))
    if said is not None:
        printed.append(Printed(name="sglang:max_total_num_tokens", value=said, of="num_tokens"))
    elif size is not None and number is not None:
        printed.append(Printed(name="sglang:cache_config_info", value=size * number, of="num_tokens"))
    return (Live(model=text(found["model_path"]), version=text(found.get("version")), options=options, printed=tuple(printed)),)


ASKING: Final = Asking((_PATH, "/server_info", "/metrics"), _read)
