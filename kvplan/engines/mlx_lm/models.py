"""Which cache each layer of a model gets: the library's module for a model type, and what single modules do.

This is the one file that looks at the config behind a model. A model without one (written by hand) gets the general rule:
full layers grow, sliding ones rotate, chunks are cut, latents stay latent.

Source: mlx_lm/utils.py:_get_classes, mlx_lm/models/*.py:Model.make_cache; 0.32.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, assert_never

import msgspec

from kvplan.domain.model import (
    Chunk,
    Compressed,
    Cross,
    Full,
    Index,
    Latent,
    Layer,
    Memory,
    Model,
    Recurrent,
    Shared,
    Softmax,
    State,
    Window,
    layer_words,
    memory_words,
)
from kvplan.engines.mlx_lm.layers import Array, Arrays, Chunked, Compressing, Context, Entry, Growing, Member, Rotating

#: Model types that are read by another type's module: `utils.py:MODEL_REMAPPING`.
REMAPPING: Final[Mapping[str, str]] = {
    "mistral": "llama",
    "llava": "mistral3",
    "phi-msft": "phixtral",
    "falcon_mamba": "mamba",
    "joyai_llm_flash": "deepseek_v3",
    "kimi_k2": "deepseek_v3",
    "qwen2_5_vl": "qwen2_vl",
    "minimax_m2": "minimax",
    "iquestcoder": "llama",
    "xverse": "llama",
    "gemma4_unified": "gemma4",
    "deepseek_v41_text": "deepseek_v41",
}
# fmt: off
#: Modules whose model has no `make_cache`: every layer a `KVCache`, or with `max_kv_size` a `RotatingKVCache`.
PLAIN: Final = frozenset({
    "Klear", "apertus", "bailing_moe", "bitnet", "cohere", "dbrx", "deepseek", "deepseek_v2", "deepseek_v3", "dots1",
    "ernie4_5", "ernie4_5_moe", "exaone", "gemma", "gemma2", "glm", "glm4", "glm4_moe", "glm4_moe_lite", "gpt2",
    "gpt_bigcode", "gpt_neox", "gptj", "granite", "granitemoe", "helium", "hunyuan", "hunyuan_v1_dense", "internlm2",
    "internlm3", "kimi_k25", "kimi_vl", "lille-130m", "llama4_text", "mimo", "minicpm", "minicpm3", "minimax", "mistral3",
    "mistral4", "mixtral", "nanochat", "nemotron", "olmo", "olmo2", "olmoe", "openelm", "phi", "phi3", "phi3small", "phimoe",
    "phixtral", "pixtral", "plamo", "qwen", "qwen2", "qwen2_moe", "qwen2_vl", "qwen3", "qwen3_moe", "qwen3_vl", "qwen3_vl_moe",
    "seed_oss", "smollm3", "solar_open", "stablelm", "starcoder2", "talkie", "telechat3", "youtu_llm",
})
#: Modules whose model makes its own cache, and so ignores `max_kv_size`.
OWN: Final = frozenset({
    "afm7", "afmoe", "baichuan_m1", "bailing_hybrid", "bailing_moe_linear", "bailing_moe_v3", "cohere2", "deepseek_v32",
    "deepseek_v41", "exaone4", "exaone_moe", "falcon_h1", "gear", "gemma3", "gemma3_text", "gemma3n", "gemma4", "gemma4_text",
    "glm_moe_dsa", "gpt_oss", "granitemoehybrid", "iquestloopcoder", "jamba", "kimi_k3", "kimi_linear", "laguna", "lfm2-vl",
    "lfm2", "lfm2_moe", "llama", "llama4", "longcat_flash", "longcat_flash_ngram", "mamba", "mamba2", "mellum",
    "mimo_v2_flash", "minimax_m3_vl", "ministral3", "muse_glimmer", "muse_spark", "nanbeige", "nemotron-nas", "nemotron_h",
    "olmo3", "olmo_hybrid", "plamo2", "plamo3", "prism_hadamard_qwen35", "qwen3_5", "qwen3_5_moe", "qwen3_next",
    "recurrent_gemma", "rwkv7", "spark2_5", "step3p5",
})
#: Modules whose sliding layers rotate; the others keep every token of a sliding layer.
ROTATES: Final = frozenset({
    "afmoe", "baichuan_m1", "cohere2", "exaone4", "exaone_moe", "gear", "gemma3", "gemma3_text", "gemma3n", "gemma4",
    "gemma4_text", "gpt_oss", "iquestloopcoder", "laguna", "llama", "mellum", "mimo_v2_flash", "ministral3", "muse_glimmer",
    "muse_spark", "olmo3", "plamo3", "recurrent_gemma", "spark2_5", "step3p5",
})
#: Modules that keep keys and values of every head, not the latent.
EXPANDED: Final = frozenset({"deepseek_v2", "minicpm3", "youtu_llm"})
#: Modules whose entries are lists of caches, never quantised.
LISTED: Final = frozenset({
    "baichuan_m1", "deepseek_v32", "falcon_h1", "glm_moe_dsa", "longcat_flash", "longcat_flash_ngram", "minimax_m3_vl",
})
#: Modules whose layers slide only where the config's `layer_types` says so.
BY_LAYER_TYPES: Final = frozenset({"llama", "ministral3"})
#: Modules whose heads are as wide as the hidden size over the heads, whatever `head_dim` says.
DIVIDED: Final = frozenset({
    "Klear", "apertus", "bailing_moe", "cohere", "deepseek", "gpt_neox", "granite", "granitemoe", "granitemoehybrid",
    "helium", "hunyuan", "internlm2", "internlm3", "jamba", "lfm2", "lfm2-vl", "lfm2_moe", "mimo", "minicpm", "mixtral", "nanochat",
    "nemotron-nas", "phi", "phi3", "phi3small", "phimoe", "plamo", "qwen", "qwen2", "qwen2_moe", "qwen2_vl", "recurrent_gemma", "stablelm",
    "starcoder2",
})
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
#: Modules that keep every state in the activations' dtype, whatever the reference implementation does.
STATES_AS_MODEL: Final = frozenset({"bailing_moe_linear", "jamba", "mamba", "recurrent_gemma", "rwkv7"})
# fmt: on
#: General rules, by another name: a model that mlx-lm has no module for and that names none.
GENERAL: Final = "general"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A model as mlx-lm reads it: the module, the prompt cache's entries in order, and whether `max_kv_size` is obeyed."""

    module: str
    entries: tuple[Entry, ...]
    obeys_max_kv_size: bool


def module_of(model: Model) -> str | None:
    """The module of `mlx_lm.models` that reads a model type; None when the library has none."""
    name = REMAPPING.get(model.model_type, model.model_type)
    classes = (model.config or {}).get("architectures") or ()
    if name == "bailing_hybrid" and "BailingMoeV3ForCausalLM" in classes:
        return "bailing_moe_v3"
    if name in PLAIN or name in OWN:
        return name
    return None


def read(model: Model, max_kv_size: int | None) -> Reading | None:
    """The prompt cache of a model; None when the library has no module for its type."""
    module = module_of(model)
    if module is None:
        if model.config is not None:
            return None
        module = GENERAL
    change = CHANGES.get(module)
    setting = Setting(model)
    layers = change(model.layers, setting) if change else model.layers
    if setting.known and module in ASSUMED:
        layers = _assumed(layers, setting, *ASSUMED[module])
    if module in DIVIDED:
        layers = _divided(layers, setting)
    rotates = max_kv_size if module in PLAIN else None
    entries = tuple(_entries(layers, model, module, rotates))
    return Reading(module=module, entries=entries, obeys_max_kv_size=module in PLAIN)


class Setting:
    """Keys of the text part's config, and of the whole config behind them."""

    def __init__(self, model: Model) -> None:
        self._sections: tuple[Mapping[str, Any], ...] = (model.text_config or {}, model.config or {})
        self.known: bool = model.config is not None

    def number(self, key: str, default: int) -> int:
        """A whole number, or the module's own default where the config does not say it."""
        value = self._value(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    def text(self, key: str) -> str:
        """A text, or an empty one."""
        value = self._value(key)
        return value if isinstance(value, str) else ""

    def texts(self, key: str) -> list[str]:
        """A list of texts, or an empty one."""
        value = self._value(key)
        return [v for v in value if isinstance(v, str)] if isinstance(value, list | tuple) else []

    def numbers(self, key: str) -> list[int]:
        """A list of whole numbers, or an empty one."""
        value = self._value(key)
        return [v for v in value if isinstance(v, int)] if isinstance(value, list | tuple) else []

    def flag(self, key: str) -> bool:
        """Whether the config says that `key` is true."""
        return self._value(key) is True

    def section(self, key: str) -> Mapping[str, Any]:
        """A section, or an empty one."""
        value = self._value(key)
        return value if isinstance(value, Mapping) else {}

    def has(self, key: str) -> bool:
        """Whether the config says `key`."""
        return self._value(key) is not None

    def _value(self, key: str) -> Any:
        for section in self._sections:
            if section.get(key) is not None:
                return section[key]
        return None


Layers = tuple[Layer, ...]
Change = Callable[[Layers, Setting], Layers]


def _memories(layers: Layers, change: Callable[[int, Memory], Memory]) -> Layers:
    return tuple(replace(layer, memories=tuple(change(layer.index, m) for m in layer.memories)) for layer in layers)


# What single modules read differently from the reference implementation.


def _all_own(layers: Layers, setting: Setting) -> Layers:
    """Every layer keeps a copy of what it shares (`hunyuan.py:Attention`)."""

    def owned(layer: Layer) -> Layer:
        sources = [m.source for m in layer.memories if isinstance(m, Shared)]
        return replace(layer, memories=layers[sources[0]].memories) if sources else layer

    return tuple(owned(layer) for layer in layers)


def _divided(layers: Layers, setting: Setting) -> Layers:
    """Heads as wide as the hidden size over the query heads."""
    heads, hidden = setting.number("num_attention_heads", 0), setting.number("hidden_size", 0)
    if not heads or not hidden:
        return layers
    dim = hidden // heads
    return _memories(layers, lambda _, m: replace(m, key_dim=dim, value_dim=dim) if isinstance(m, Softmax) else m)


def _assumed(layers: Layers, setting: Setting, kv_heads: int | None, dim: int | None) -> Layers:
    """What the module fills in for the KV heads and the heads' width."""
    query, hidden = setting.number("num_attention_heads", 0), setting.number("hidden_size", 0)
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


def _all_indexed(layers: Layers, setting: Setting) -> Layers:
    """Every layer has an indexer of its own (`deepseek_v32.py:DeepseekV32Attention`)."""
    found = next((m for layer in layers for m in layer.memories if isinstance(m, Index)), None)
    if found is None:
        return layers
    kept = [tuple(m for m in layer.memories if not isinstance(m, Index)) for layer in layers]
    return tuple(replace(layer, memories=(*memories, found)) for layer, memories in zip(layers, kept, strict=True))


def _divided_values(layers: Layers, setting: Setting) -> Layers:
    """The values' width is the hidden size over the heads, whatever `v_head_dim` says (`minicpm3.py:Attention`)."""
    hidden = setting.number("hidden_size", 0)

    def kept(_: int, memory: Memory) -> Memory:
        divided = hidden and isinstance(memory, Latent) and memory.heads
        return replace(memory, value_dim=hidden // divided) if divided else memory  # type: ignore[arg-type]

    return _memories(layers, kept)


def _no_linear(layers: Layers, setting: Setting) -> Layers:
    """Lightning layers of MiniMax-Text-01 are run as softmax layers (`minimax.py:MiniMaxAttention`)."""
    heads, hidden = setting.number("num_attention_heads", 0), setting.number("hidden_size", 0)
    if not heads:
        return layers
    dim = setting.number("head_dim", 0) or hidden // heads
    kept = Softmax(kv_heads=setting.number("num_key_value_heads", heads), key_dim=dim, value_dim=dim)
    return tuple(replace(layer, memories=(kept,)) for layer in layers)


def _bailing(layers: Layers, setting: Setting) -> Layers:
    """Groups of linear layers end in a global one; a linear layer keeps one square state a head (`bailing_hybrid.py`)."""
    heads, group = setting.number("num_attention_heads", 0), setting.number("layer_group_size", 0)
    latent = next((m for layer in layers for m in layer.memories if isinstance(m, Latent)), None)
    if not heads or not group or latent is None:
        return layers
    dim = setting.number("head_dim", 0) or setting.number("hidden_size", 0) // heads
    state = Recurrent(states=(State(name="state", shape=(heads, dim, dim), dtype="float32"),), kind="linear")
    whole = len(layers) // group * group
    return tuple(
        replace(layer, memories=(latent if (layer.index + 1) % group == 0 or layer.index >= whole else state,))
        for layer in layers
    )


def _by_layer_types(layers: Layers, setting: Setting) -> Layers:
    """A layer slides only where `layer_types` says so; a window alone means nothing (`llama.py:LlamaModel`).

    The KV heads are `num_key_value_heads` for every type that this module reads, Xverse included.
    """
    kv_heads = setting.number("num_key_value_heads", 0)
    if kv_heads:
        layers = _memories(layers, lambda _, m: replace(m, kv_heads=kv_heads) if isinstance(m, Softmax) else m)
    mixed = len({isinstance(getattr(m, "reach", None), Window) for layer in layers for m in layer.memories}) > 1
    slides = setting.has("layer_types") if setting.known else mixed
    return layers if slides else _memories(layers, lambda _, m: replace(m, reach=Full()) if isinstance(m, Softmax) else m)


def _every(number: Callable[[Setting], int], window: int) -> Change:
    """All layers slide but each `number`-th one, whatever `layer_types` says. `window`: the module's default."""

    def change(layers: Layers, setting: Setting) -> Layers:
        if not setting.known:
            return layers
        every, size = number(setting), setting.number("sliding_window", window)

        def kept(index: int, memory: Memory) -> Memory:
            if not isinstance(memory, Softmax):
                return memory
            return replace(memory, reach=Full() if index % every == every - 1 else Window(size))

        return _memories(layers, kept)

    return change


def _alternating(layers: Layers, setting: Setting) -> Layers:
    """Without `layer_types` each even layer slides (`step3p5.py:Step3p5Attention`)."""
    if setting.has("layer_types") or not setting.known:
        return layers
    size, other = setting.number("sliding_window", 512), setting.section("attention_other_setting")
    heads = other.get("num_attention_groups") if isinstance(other.get("num_attention_groups"), int) else None

    def kept(index: int, memory: Memory) -> Memory:
        if index % 2 or not isinstance(memory, Softmax):
            return memory
        return replace(memory, kv_heads=heads or memory.kv_heads, reach=Window(size))

    return _memories(layers, kept)


def _patterned(layers: Layers, setting: Setting) -> Layers:
    """`hybrid_layer_pattern` alone says which layers slide (`mimo_v2_flash.py:MiMoV2FlashModel`)."""
    slides = setting.numbers("hybrid_layer_pattern")
    kinds = {isinstance(m.reach, Window): layer.memories for layer in layers for m in layer.memories if isinstance(m, Softmax)}
    if len(slides) != len(layers) or len(kinds) < 2:
        return layers
    return tuple(replace(layer, memories=kinds[slide == 1]) for layer, slide in zip(layers, slides, strict=True))


def _hidden_wide(layers: Layers, setting: Setting) -> Layers:
    """The states are as wide as the hidden size, whatever `lru_width` says (`recurrent_gemma.py:RecurrentBlock`)."""
    hidden = setting.number("hidden_size", 0)

    def kept(_: int, memory: Memory) -> Memory:
        if not hidden or not isinstance(memory, Recurrent):
            return memory
        return replace(memory, states=tuple(replace(s, shape=(hidden,)) for s in memory.states))

    return _memories(layers, kept)


def _lettered(layers: Layers, setting: Setting) -> Layers:
    """`sliding_window_pattern` is a text of L and G, repeated; without one no layer slides (`exaone4.py:ExaoneModel`)."""
    if not setting.known:
        return layers
    letters, size = setting.text("sliding_window_pattern"), setting.number("sliding_window", 0)

    def kept(index: int, memory: Memory) -> Memory:
        slides = bool(letters and size) and letters[index % len(letters)] == "L"
        return replace(memory, reach=Window(size) if slides else Full()) if isinstance(memory, Softmax) else memory

    return _memories(layers, kept)


def _gemma4(layers: Layers, setting: Setting) -> Layers:
    """Full layers are wider, and have KV heads of their own only where keys and values are one (`gemma4_text.py`).

    The last layer is what `layer_types` says; the layers that share come last and have no entry.
    """
    if not setting.known:
        return layers
    every, shared = setting.number("sliding_window_pattern", 5), setting.number("num_kv_shared_layers", 20)
    kinds = setting.texts("layer_types") or ["full_attention" if (i + 1) % every == 0 else "" for i in range(len(layers))]
    heads, dim = setting.number("num_key_value_heads", 1), setting.number("head_dim", 256)
    wide = setting.number("global_head_dim", 512)
    wide_heads = setting.number("num_global_key_value_heads", heads) if setting.flag("attention_k_eq_v") else heads
    full = Softmax(kv_heads=wide_heads, key_dim=wide, value_dim=wide)
    slides = Softmax(kv_heads=heads, key_dim=dim, value_dim=dim, reach=Window(setting.number("sliding_window", 512)))
    owners = max(len(layers) - shared, 0)
    return tuple(
        replace(layer, memories=(full if kind == "full_attention" else slides,) if layer.index < owners else ())
        for layer, kind in zip(layers, kinds, strict=False)
    )


def _interval(layers: Layers, setting: Setting) -> Layers:
    """Each `full_attention_interval`-th layer is a softmax one, whatever `layer_types` says (`qwen3_next.py`)."""
    full = next((layer.memories for layer in layers if any(isinstance(m, Softmax) for m in layer.memories)), None)
    linear = next((layer.memories for layer in layers if any(isinstance(m, Recurrent) for m in layer.memories)), None)
    if full is None or linear is None or not setting.known:
        return layers
    every = setting.number("full_attention_interval", 4)
    return tuple(replace(layer, memories=linear if (layer.index + 1) % every else full) for layer in layers)


def _phixtral(layers: Layers, setting: Setting) -> Layers:
    """Only `num_layers`, `num_heads` and `model_dim` are read; Phi's own names give 32 layers of 32 x 80."""
    count, heads = setting.number("num_layers", 32), setting.number("num_heads", 32)
    dim = setting.number("model_dim", 2560) // heads
    kept = Softmax(kv_heads=heads, key_dim=dim, value_dim=dim)
    return tuple(Layer(index=i, memories=(kept,)) for i in range(count))


CHANGES: Final[Mapping[str, Change]] = {
    "bailing_hybrid": _bailing,
    "cohere2": _every(lambda s: s.number("sliding_window_pattern", 4), 4096),
    "deepseek_v32": _all_indexed,
    "exaone4": _lettered,
    "gemma3": _every(lambda s: s.number("sliding_window_pattern", 6), 512),
    "gemma3_text": _every(lambda s: s.number("sliding_window_pattern", 6), 512),
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
    "step3p5": _alternating,
    "qwen3_5": _interval,
    "qwen3_5_moe": _interval,
    "qwen3_next": _interval,
}


# Entries.


def _entries(layers: Layers, model: Model, module: str, rotates: int | None) -> Iterator[Entry]:
    """The list that `make_prompt_cache` gives, in its order."""
    members = [(layer.index, m) for layer in layers for m in _of_layer(layer, model, module, rotates)]
    if module == "longcat_flash_ngram":
        yield Entry(layers=(0,), members=(Context(size=Setting(model).number("emb_neighbor_num", 4) - 1),))
    if module in {"longcat_flash", "longcat_flash_ngram"}:
        pairs = zip(members[::2], members[1::2], strict=True)
        yield from (Entry(layers=(i, j), members=(a, b), listed=True) for (i, a), (j, b) in pairs)
    elif module in LISTED:
        for layer in layers:
            own = tuple(m for i, m in members if i == layer.index)
            if own:
                yield Entry(layers=(layer.index,) * len(own), members=own, listed=True)
    elif module == "iquestloopcoder":  # all layers of the first loop, then all windows of the second
        members.sort(key=lambda pair: isinstance(pair[1], Rotating))
        yield from (Entry(layers=(i,), members=(m,)) for i, m in members)
    else:
        yield from (Entry(layers=(i,), members=(m,)) for i, m in members)


def _of_layer(layer: Layer, model: Model, module: str, rotates: int | None) -> Iterator[Member]:
    if module == "deepseek_v41":
        yield from _compressing(layer, model)
        return
    for memory in layer.memories:
        yield from _members(memory, model, module, rotates)


def _compressing(layer: Layer, model: Model) -> Iterator[Member]:
    """One `LayerCache`: the window, and what compresses it."""
    window = next((m for m in layer.memories if isinstance(m, Softmax) and isinstance(m.reach, Window)), None)
    if window is None or not isinstance(window.reach, Window):
        return
    entries = next((m.reach for m in layer.memories if isinstance(m, Softmax) and isinstance(m.reach, Compressed)), None)
    index = next((m for m in layer.memories if isinstance(m, Index)), None)
    yield Compressing(
        dim=window.key_dim,
        window=window.reach.size,
        kind=layer_words(layer.memories, model.attention_heads),
        ratio=entries.ratio if entries else 0,
        index_dim=index.dim if index else 0,
    )


def _members(memory: Memory, model: Model, module: str, rotates: int | None) -> Iterator[Member]:
    kind = memory_words(memory, model.attention_heads)
    match memory:
        case Softmax():
            yield _attention(memory, kind, module, rotates)
        case Latent() if module in EXPANDED:
            yield _rows(memory.heads, memory.nope_dim + memory.rope_dim, memory.value_dim, kind, rotates)
        case Latent():
            yield _rows(1, memory.rank, memory.rope_dim, kind, rotates)
        case Index():
            values = 0 if module == "minimax_m3_vl" else memory.dim
            yield Growing(heads=memory.heads, key_dim=memory.dim, value_dim=values, kind=kind, name="index ", idle_values=True)
        case Recurrent():
            states = tuple(_state(state, model, module) for state in memory.states)
            yield Arrays(arrays=states, kind=kind)
        case Shared() | Cross():
            return
        case _:
            assert_never(memory)


def _rows(heads: int, key_dim: int, value_dim: int, kind: str, rotates: int | None) -> Growing | Rotating:
    if rotates is not None:
        return Rotating(heads=heads, key_dim=key_dim, value_dim=value_dim, kind=kind, window=rotates, keep=4)
    return Growing(heads=heads, key_dim=key_dim, value_dim=value_dim, kind=kind)


def _attention(memory: Softmax, kind: str, module: str, rotates: int | None) -> Member:
    heads, key_dim, value_dim = memory.kv_heads, memory.key_dim, memory.value_dim or memory.key_dim
    if module in PLAIN:
        return _rows(heads, key_dim, value_dim, kind, rotates)
    match memory.reach:
        case Window(size=size) if module in ROTATES or module == GENERAL:
            return Rotating(heads=heads, key_dim=key_dim, value_dim=value_dim, kind=kind, window=size)
        case Chunk(size=size) if module in {"llama4", GENERAL}:
            return Chunked(heads=heads, key_dim=key_dim, value_dim=value_dim, kind=kind, size=size)
        case _:
            return _rows(heads, key_dim, value_dim, kind, None)


def _state(state: State, model: Model, module: str) -> Array:
    columns = (state.kernel - 1,) if state.kernel else ()
    dtype = "" if module in STATES_AS_MODEL else state.dtype or ""
    return Array(name=state.name, shape=(*columns, *state.shape), dtype=dtype)
