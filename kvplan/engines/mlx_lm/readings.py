"""What single modules of mlx-lm read differently from the reference implementation, as changes of a model's layers.

Each function names the module that it follows. `Settings` is all of the config that they see: the text part's.

Source: mlx_lm/models/*.py, 0.32.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from kvplan.domain.model import MAX_LAYERS, Full, Index, Latent, Layer, Memory, Recurrent, Shared, Softmax, State, Window
from kvplan.domain.origin import Settings

# fmt: off
#: What a module assumes where a config has no `num_key_value_heads` (0: the query heads) and no `head_dim` (0: the hidden
#: size over the query heads); None: it requires the key. Only where that is not what the reference implementation assumes.
ASSUMED: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "afmoe": (4, 64), "cohere": (64, None), "cohere2": (8, 128), "deepseek": (32, None), "dots1": (None, 0),
    "ernie4_5": (None, 0), "ernie4_5_moe": (None, 0), "exaone": (None, 0), "falcon_h1": (2, 64), "gemma3": (4, 256),
    "gemma3_text": (1, 256), "hunyuan_v1_dense": (None, 0), "internlm2": (0, None), "internlm3": (0, None), "llama": (0, 0),
    "ministral3": (0, 0), "mistral3": (0, 0), "mixtral": (8, None), "nanochat": (10, None), "nemotron": (None, 0),
    "nemotron_h": (None, 0), "olmo2": (0, 0), "olmo3": (0, 0), "olmoe": (0, 0), "phi": (32, None), "phi3": (0, None),
    "phimoe": (8, None), "pixtral": (0, 0), "qwen2_moe": (0, None), "qwen3_5": (8, 0), "qwen3_5_moe": (8, 0),
    "smollm3": (0, 0), "telechat3": (None, 0),
}
# fmt: on


Layers = tuple[Layer, ...]
Change = Callable[[Layers, Settings], Layers]


def _memories(layers: Layers, change: Callable[[int, Memory], Memory]) -> Layers:
    return tuple(replace(layer, memories=tuple(change(layer.index, m) for m in layer.memories)) for layer in layers)


# What single modules read differently from the reference implementation.


def _all_own(layers: Layers, setting: Settings) -> Layers:
    """Every layer keeps a copy of what it shares (`hunyuan.py:Attention`)."""

    def owned(layer: Layer) -> Layer:
        sources = [m.source for m in layer.memories if isinstance(m, Shared)]
        return replace(layer, memories=layers[sources[0]].memories) if sources else layer

    return tuple(owned(layer) for layer in layers)


def divided(layers: Layers, setting: Settings) -> Layers:
    """Heads as wide as the hidden size over the query heads."""
    heads, hidden = setting.whole("num_attention_heads", 0), setting.whole("hidden_size", 0)
    dim = hidden // heads if heads else 0
    if not dim:
        return layers
    return _memories(layers, lambda _, m: replace(m, key_dim=dim, value_dim=dim) if isinstance(m, Softmax) else m)


def assumed(layers: Layers, setting: Settings, kv_heads: int | None, dim: int | None) -> Layers:
    """What the module fills in for the KV heads and the heads' width."""
    query, hidden = setting.whole("num_attention_heads", 0), setting.whole("hidden_size", 0)
    if not query:
        return layers
    heads = None if kv_heads is None or setting.has("num_key_value_heads") else kv_heads or query
    size = None if dim is None or setting.has("head_dim") else dim or hidden // query

    def kept(_: int, memory: Memory) -> Memory:
        if not isinstance(memory, Softmax):
            return memory
        key_dim, value_dim = size or memory.key_dim, size or memory.value_dim
        return replace(memory, kv_heads=heads or memory.kv_heads, key_dim=key_dim, value_dim=value_dim)

    return _memories(layers, kept)


def _all_indexed(layers: Layers, setting: Settings) -> Layers:
    """Every layer has an indexer of its own (`deepseek_v32.py:DeepseekV32Attention`)."""
    found = next((m for layer in layers for m in layer.memories if isinstance(m, Index)), None)
    if found is None:
        return layers
    kept = [tuple(m for m in layer.memories if not isinstance(m, Index)) for layer in layers]
    return tuple(replace(layer, memories=(*memories, found)) for layer, memories in zip(layers, kept, strict=True))


def _divided_values(layers: Layers, setting: Settings) -> Layers:
    """The values' width is the hidden size over the heads, whatever `v_head_dim` says (`minicpm3.py:Attention`)."""
    hidden = setting.whole("hidden_size", 0)

    def kept(_: int, memory: Memory) -> Memory:
        return replace(memory, value_dim=max(hidden // memory.heads, 1)) if hidden and isinstance(memory, Latent) else memory

    return _memories(layers, kept)


def _no_linear(layers: Layers, setting: Settings) -> Layers:
    """Lightning layers of MiniMax-Text-01 are run as softmax layers (`minimax.py:MiniMaxAttention`)."""
    heads, hidden = setting.whole("num_attention_heads", 0), setting.whole("hidden_size", 0)
    if not heads:
        return layers
    dim = setting.whole("head_dim", 0) or max(hidden // heads, 1)
    kept = Softmax(kv_heads=setting.whole("num_key_value_heads", heads, least=1), key_dim=dim, value_dim=dim)
    return tuple(replace(layer, memories=(kept,)) for layer in layers)


def _bailing(layers: Layers, setting: Settings) -> Layers:
    """Groups of linear layers end in a global one; a linear layer keeps one square state a head (`bailing_hybrid.py`)."""
    heads, group = setting.whole("num_attention_heads", 0), setting.whole("layer_group_size", 0)
    latent = next((m for layer in layers for m in layer.memories if isinstance(m, Latent)), None)
    if not heads or not group or latent is None:
        return layers
    dim = setting.whole("head_dim", 0) or max(setting.whole("hidden_size", 0) // heads, 1)
    state = Recurrent(states=(State(name="state", shape=(heads, dim, dim), dtype="float32"),), kind="linear")
    whole = len(layers) // group * group
    return tuple(
        replace(layer, memories=(latent if (layer.index + 1) % group == 0 or layer.index >= whole else state,))
        for layer in layers
    )


def _by_layer_types(layers: Layers, setting: Settings) -> Layers:
    """A layer slides only where `layer_types` says so; a window alone means nothing (`llama.py:LlamaModel`).

    The KV heads are `num_key_value_heads` for every type that this module reads, Xverse included.
    """
    kv_heads = setting.whole("num_key_value_heads", 0)
    if kv_heads:
        layers = _memories(layers, lambda _, m: replace(m, kv_heads=kv_heads) if isinstance(m, Softmax) else m)
    mixed = len({isinstance(getattr(m, "reach", None), Window) for layer in layers for m in layer.memories}) > 1
    slides = setting.has("layer_types") if setting.data else mixed
    return layers if slides else _memories(layers, lambda _, m: replace(m, reach=Full()) if isinstance(m, Softmax) else m)


def _every(number: Callable[[Settings], int], window: int) -> Change:
    """All layers slide but each `number`-th one, whatever `layer_types` says. `window`: the module's default."""

    def change(layers: Layers, setting: Settings) -> Layers:
        if not setting.data:
            return layers
        every, size = number(setting), setting.whole("sliding_window", window, least=1)

        def kept(index: int, memory: Memory) -> Memory:
            if not isinstance(memory, Softmax):
                return memory
            return replace(memory, reach=Full() if index % every == every - 1 else Window(size))

        return _memories(layers, kept)

    return change


def _alternating(layers: Layers, setting: Settings) -> Layers:
    """Without `layer_types` each even layer slides (`step3p5.py:Step3p5Attention`)."""
    if setting.has("layer_types") or not setting.data:
        return layers
    size = setting.whole("sliding_window", 512, least=1)
    heads = setting.section("attention_other_setting").whole("num_attention_groups", 0)

    def kept(index: int, memory: Memory) -> Memory:
        if index % 2 or not isinstance(memory, Softmax):
            return memory
        return replace(memory, kv_heads=heads or memory.kv_heads, reach=Window(size))

    return _memories(layers, kept)


def _patterned(layers: Layers, setting: Settings) -> Layers:
    """`hybrid_layer_pattern` alone says which layers slide (`mimo_v2_flash.py:MiMoV2FlashModel`)."""
    slides = setting.items("hybrid_layer_pattern")
    kinds = {isinstance(m.reach, Window): layer.memories for layer in layers for m in layer.memories if isinstance(m, Softmax)}
    if len(slides) != len(layers) or len(kinds) < 2:
        return layers
    return tuple(replace(layer, memories=kinds[slide == 1]) for layer, slide in zip(layers, slides, strict=True))


def _hidden_wide(layers: Layers, setting: Settings) -> Layers:
    """The states are as wide as the hidden size, whatever `lru_width` says, and there is one KV head (`recurrent_gemma.py`)."""
    hidden = setting.whole("hidden_size", 0)

    def kept(_: int, memory: Memory) -> Memory:
        if isinstance(memory, Softmax):
            return replace(memory, kv_heads=1)
        if not hidden or not isinstance(memory, Recurrent):
            return memory
        return replace(memory, states=tuple(replace(s, shape=(hidden,)) for s in memory.states))

    return _memories(layers, kept)


def _typed_or_every(every: int) -> Change:
    """`layer_types`, and without it all layers slide but each `every`-th one (`spark2_5.py:ModelArgs`)."""
    plain = _every(lambda _: every, 512)
    return lambda layers, setting: layers if setting.has("layer_types") else plain(layers, setting)


def _lettered(layers: Layers, setting: Settings) -> Layers:
    """`sliding_window_pattern` is a text of L and G, repeated; without one no layer slides (`exaone4.py:ExaoneModel`)."""
    if not setting.data:
        return layers
    letters, size = setting.text("sliding_window_pattern"), setting.whole("sliding_window", 0)

    def kept(index: int, memory: Memory) -> Memory:
        slides = bool(letters and size) and letters[index % len(letters)] == "L"
        return replace(memory, reach=Window(size) if slides else Full()) if isinstance(memory, Softmax) else memory

    return _memories(layers, kept)


def _gemma4(layers: Layers, setting: Settings) -> Layers:
    """Full layers are wider, and have KV heads of their own only where keys and values are one (`gemma4_text.py`).

    The last layer is what `layer_types` says; the layers that share come last and have no entry.
    """
    if not setting.data:
        return layers
    every, shared = setting.whole("sliding_window_pattern", 5, least=1), setting.whole("num_kv_shared_layers", 20)
    kinds = setting.names("layer_types") or ["full_attention" if (i + 1) % every == 0 else "" for i in range(len(layers))]
    heads, dim = setting.whole("num_key_value_heads", 1, least=1), setting.whole("head_dim", 256, least=1)
    wide = setting.whole("global_head_dim", 512) or dim
    wide_heads = setting.whole("num_global_key_value_heads", heads, least=1) if setting.flag("attention_k_eq_v") else heads
    full = Softmax(kv_heads=wide_heads, key_dim=wide, value_dim=wide)
    slides = Softmax(kv_heads=heads, key_dim=dim, value_dim=dim, reach=Window(setting.whole("sliding_window", 512, least=1)))
    owners = max(len(layers) - shared, 0)
    return tuple(
        replace(layer, memories=(full if kind == "full_attention" else slides,) if layer.index < owners else ())
        for layer, kind in zip(layers, kinds, strict=False)
    )


def _interval(layers: Layers, setting: Settings) -> Layers:
    """Each `full_attention_interval`-th layer is a softmax one, whatever `layer_types` says (`qwen3_next.py`)."""
    full = next((layer.memories for layer in layers if any(isinstance(m, Softmax) for m in layer.memories)), None)
    linear = next((layer.memories for layer in layers if any(isinstance(m, Recurrent) for m in layer.memories)), None)
    if full is None or linear is None or not setting.data:
        return layers
    every = setting.whole("full_attention_interval", 4, least=1)
    return tuple(replace(layer, memories=linear if (layer.index + 1) % every else full) for layer in layers)


def _phixtral(layers: Layers, setting: Settings) -> Layers:
    """Only `num_layers`, `num_heads` and `model_dim` are read; Phi's own names give 32 layers of 32 x 80."""
    count, heads = setting.whole("num_layers", 32, least=1, most=MAX_LAYERS), setting.whole("num_heads", 32, least=1)
    dim = setting.whole("model_dim", 2560, least=heads) // heads
    kept = Softmax(kv_heads=heads, key_dim=dim, value_dim=dim)
    return tuple(Layer(index=i, memories=(kept,)) for i in range(count))


CHANGES: Final[Mapping[str, Change]] = {
    "bailing_hybrid": _bailing,
    "cohere2": _every(lambda s: s.whole("sliding_window_pattern", 4, least=1), 4096),
    "deepseek_v32": _all_indexed,
    "exaone4": _lettered,
    "gemma3": _every(lambda s: s.whole("sliding_window_pattern", 6, least=1), 512),
    "gemma3_text": _every(lambda s: s.whole("sliding_window_pattern", 6, least=1), 512),
    "glm_moe_dsa": _all_indexed,
    "hunyuan": _all_own,
    "llama": _by_layer_types,
    "minicpm3": _divided_values,
    "minimax": _no_linear,
    "ministral3": _by_layer_types,
    "gemma4": _gemma4,
    "gemma4_text": _gemma4,
    "mimo_v2_flash": _patterned,
    "phixtral": _phixtral,
    "recurrent_gemma": _hidden_wide,
    "spark2_5": _typed_or_every(4),
    "step3p5": _alternating,
    "qwen3_5": _interval,
    "qwen3_5_moe": _interval,
    "qwen3_next": _interval,
}
