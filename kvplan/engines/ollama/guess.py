"""The memory estimate that Ollama's scheduler went by up to 0.24, by layer: its logs print it ("kv" of `offload to …`).

It is no allocation: elements count 2, 1 or 0.5 bytes. Source: ollama 0.32.15 (fb3076099), `fs/ggml/ggml.go` (`GraphSize`,
`SupportsKVCacheType`, `SupportsFlashAttention`, `FlashAttention`), where it still stands, used no more.
"""

from typing import Final

from kvplan.engines.ollama.metadata import Metadata

#: Bytes of an element, doubled.
_TWICE: Final = {"q8_0": 2, "q4_0": 1, "f32": 8}
_GLOBAL_EVERY: Final = 6  # gemma3
_WINDOW: Final = 4096  # gpt-oss, whatever the model says
_TILES, _TOKENS_A_TILE = 4, 1601  # mllama
#: Architectures with flash attention unless somebody says no.
_FLASH: Final = frozenset(
    {
        "bert", "gemma3", "gemma4", "glm4moelite", "glmocr", "gptoss", "gpt-oss", "lfm2", "lfm2moe", "mistral3", "nemotron_h",
        "nemotron_h_moe", "nemotron_h_omni", "olmo3", "qwen3", "qwen3moe", "qwen35", "qwen35moe", "qwen3next", "qwen3vl",
        "qwen3vlmoe",
    }
)  # fmt: skip


def takes_cache_type(cache_type: str) -> bool:
    """Whether the own engine kept a cache of that type; of others it said so, and kept f16."""
    return cache_type in {"", "f16", "q8_0", "q4_0"}


def takes_flash_attention(keys: Metadata) -> bool:
    """Whether the own engine ran the model with flash attention at all."""
    if keys.has("pooling_type") or keys.architecture in {"gemma2", "grok"}:
        return False
    if keys.architecture in {"qwen35", "qwen35moe", "qwen3next"}:
        return True
    return 0 < keys.key_dim == keys.value_dim


def flash_by_default(keys: Metadata) -> bool:
    """Whether it did so when nobody said."""
    return keys.architecture in _FLASH


def cache_by_layer(keys: Metadata, num_ctx: int, parallel: int, batch: int, cache_type: str) -> list[int]:
    """Bytes of each layer's cache as the estimate counts them.

    Args:
        num_ctx: tokens of one slot.
        parallel: slots.
        batch: tokens of a batch.
        cache_type: ggml's word; any that it does not know counts as f16.
    """
    tokens, twice = num_ctx * parallel, _TWICE.get(cache_type, 4)
    width, most = keys.key_dim + keys.value_dim, max(keys.kv_heads)
    both = zip(keys.by_layer(keys.heads), keys.by_layer(keys.kv_heads), strict=True)
    found = [tokens * width * kv * twice // 2 if heads and kv else _state(keys) for heads, kv in both]
    windowed = parallel * keys.number("attention.sliding_window") + batch
    if keys.architecture == "gemma3":
        local = windowed * width * most * twice // 2
        return [size if (index + 1) % _GLOBAL_EVERY == 0 else local for index, size in enumerate(found)]
    if keys.architecture in {"gptoss", "gpt-oss"}:
        one = width * most * twice // 2
        return [one * (tokens if index % 2 else parallel * _WINDOW + batch) for index in range(keys.layers)]
    if keys.architecture == "mllama":
        cross = set(keys.numbers("attention.cross_attention_layers", -1))
        seen = most * width * 4 * _TOKENS_A_TILE * _TILES
        return [seen if index in cross else size for index, size in enumerate(found)]
    return found


def _state(keys: Metadata) -> int:
    """A recurrent layer's state, in f32; layers without heads count as such."""
    kernel, inner = keys.number("ssm.conv_kernel"), keys.number("ssm.inner_size")
    state, groups = keys.number("ssm.state_size"), keys.number("ssm.group_count")
    rolling = (kernel - 1) * (inner + 2 * groups * state) if kernel else 0
    return 4 * (rolling + state * inner)
