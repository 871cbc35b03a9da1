"""Wrappers that assume a text part of their own, where the text class by itself would assume another size.

Source: `init_kwargs` in `sub_configs_defaults` of `configuration_*.py`, transformers 5.23. They hold when
the config has no text part at all; the classes in `MERGED` also fill in what a given text part leaves out.
"""

from typing import Any, Final

from kvplan.architectures.kit.config import Config


def _sizes(layers: int, heads: int, kv_heads: int, hidden: int, **others: int | None) -> dict[str, int | None]:
    sizes: dict[str, int | None] = {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    return sizes | {"hidden_size": hidden} | others


_PAIR: Final[dict[str, Any]] = {"is_decoder": True, "add_cross_attention": True}
DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("encoder-decoder", "speech-encoder-decoder", "vision-encoder-decoder"), _PAIR),
    "nemo_speechlm": {
        "hidden_size": 2688,
        "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
        "mamba_num_heads": 64,
        "num_key_value_heads": 2,
    },
    "fast_vlm": _sizes(28, 28, 4, 3584),
    "fun_asr_nano": _sizes(28, 16, 8, 1024),
    "glmasr": _sizes(28, 16, 4, 2048),
    "got_ocr2": _sizes(24, 16, 16, 1024),
    "lighton_ocr": _sizes(28, 16, 8, 1024, head_dim=128, sliding_window=None),
    "mistral3": _sizes(40, 32, 8, 5120, head_dim=128, sliding_window=None),
    "moss_transcribe_diarize": _sizes(28, 16, 8, 1024),
    "paligemma": _sizes(18, 8, 1, 2048),
    "pp_chart2table": _sizes(24, 16, 16, 1024),
    "qwen3_asr": _sizes(28, 16, 8, 2048, head_dim=128),
    "voxtral": {"num_hidden_layers": 30, "num_key_value_heads": 8, "hidden_size": 3072, "head_dim": 128},
    "voxtral_realtime": _sizes(26, 32, 8, 3072, head_dim=128, sliding_window=8192),
}
MERGED: Final = frozenset({"glmasr", "voxtral", "voxtral_realtime"})


def with_defaults(section: Config, wrapper: str) -> Config:
    """The text part as the wrapper's class completes it."""
    extra = DEFAULTS.get(wrapper, {})
    if not extra or (section.data and wrapper not in MERGED):
        return section
    for key, value in extra.items():
        if key not in section.data:
            section.note(key, value, f"default of `{wrapper}`")
    whole: dict[str, Any] = {**extra, **section.data}
    return section.replaced(whole)
