"""The cache of Ollama's own Go engine, releases 0.5.13 to 0.24 (`runner --ollama-engine`): cells of each layer, and their bytes.

Read in the sources of the tags, not run. Source: ollama `kvcache/causal.go` (`Init`, `Put`), `ml/backend/ggml/ggml.go`
(`CacheConfig`), `runner/ollamarunner/cache.go` (`NewInputCache`), `model/models/*/model.go`. Two public logs agree to the digit:
gpt-oss-120b at 8,192 tokens (450.0 MiB, 0.11.10) and Qwen3-Coder-30B-A3B at 4,096 (384.0 MiB, 0.16).
"""

from typing import Final

from kvplan.domain.dtypes import lookup
from kvplan.engines.kernel.releases import Release, quirk
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, pad
from kvplan.errors import Refused
from kvplan.gguf.hparams import Hparams

#: Cells are a multiple of (this without flash attention, this with it).
_PADDING: Final = quirk(((0,), (32, 256), "ml/backend/ggml/ggml.go"), ((0, 13, 2), (256, 256), "ml/backend/ggml/ggml.go"))
#: Whether windows keep less than everything, and whether a window that is as long as a slot is one.
_WINDOWS: Final = quirk(
    ((0,), "none", "kvcache/causal.go: Init(backend, dtype, capacity)"),
    ((0, 6, 3), "equal", "kvcache/causal.go: capacity < windowSize keeps all"),
    ((0, 12, 4), "below", "kvcache/causal.go: swaMemorySize >= capacity keeps all; one token more for several slots"),
)
#: Architectures that keep more than their window.
_MEMORY: Final = {"gpt-oss": 4096, "gptoss": 4096, "gemma4": 4096}
#: Those whose layers all keep keys and values in such a cache, by the engine's own names of them and llama.cpp's.
_PLAIN: Final = frozenset(
    {
        "gemma2", "gemma3", "gemma3n", "gemma4", "glmocr", "gpt-oss", "gptoss", "laguna", "llama", "llama4", "mistral3", "olmo3",
        "qwen2", "qwen25vl", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe",
    }
)  # fmt: skip


def layer_bytes(
    h: Hparams, *, num_ctx: int, slots: int, batch: int, flash: bool, cache_type: str, release: Release
) -> tuple[int, ...]:
    """Bytes of each layer's keys and values.

    Args:
        num_ctx: tokens of one slot.
        slots: requests at once.
        batch: tokens of a batch.
        flash: whether flash attention is on; without it no cache is quantised.
        cache_type: ggml's word; what the engine does not know counts as f16.
        release: of Ollama.

    Raises:
        Refused: an architecture whose cache in that engine was not read, or slots shorter than a batch.
    """
    refuse(h)
    if num_ctx < batch:
        raise Refused("kv size must be at least as large as batch size * parallel")
    dtype = lookup(CACHE_TYPES[cache_type if flash and cache_type in {"q8_0", "q4_0"} else "f16"])
    sizes = []
    for layer in range(h.n_layer):
        held = cells(h, layer, num_ctx=num_ctx, slots=slots, batch=batch, flash=flash, release=release)
        sizes.append(held * (dtype.row_bytes(1, h.n_embd_k(layer)) + dtype.row_bytes(1, h.n_embd_v(layer))))
    return tuple(sizes)


def refuse(h: Hparams) -> None:
    """Say that a model's cache in that engine was not read.

    Raises:
        Refused: it was not.
    """
    if h.arch not in _PLAIN or any(h.recurrent):
        raise Refused(f"Ollama's own engine is not predicted for {h.arch}: how it kept its cache was not read")


def cells(h: Hparams, layer: int, *, num_ctx: int, slots: int, batch: int, flash: bool, release: Release) -> int:
    """Tokens that a layer has room for."""
    rule, step = _WINDOWS.at(release), _PADDING.at(release)[flash]
    window = h.n_swa if h.has_swa and h.sliding[layer] and h.arch != "llama4" else 0
    if not window or rule == "none":
        return pad(slots * num_ctx, step)
    kept = max(_MEMORY.get(h.arch, 0) if release >= (0, 11) else 0, window)
    if rule == "below" and slots > 1:
        kept = max(kept, window + 1)
    whole = kept >= num_ctx if rule == "below" else kept > num_ctx
    return pad(slots * num_ctx if whole else slots * kept + batch, step)
