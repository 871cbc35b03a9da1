"""ExLlamaV3's own reading of a config: the layers that each architecture's classes build, and their prediction layers.

The engine goes by the class that a config names and by its own defaults, where other libraries go by the model type and theirs.
A config that lacks what a class insists on cannot be read so, and the model's layers are taken as they are.

Source: exllamav3 1.6.5, `architecture/*.py`; the class is named at each reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kvplan.domain.model import Compressed, Full, Index, Latent, Memory, ModelError, Recurrent, Softmax, State, Window
from kvplan.errors import Refused

Rows = list[tuple[Memory, ...]]
_MAX_LAYERS: Final = 10_000


class Unreadable(Exception):
    """A key is missing or of another type: the engine's reading cannot be told."""


class Keys:
    """A config's keys as the engine reads them: null is absent, a whole float is an int."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def number(self, name: str, default: int | None = None) -> int:
        """A whole number, or the class's default."""
        value = self._data.get(name)
        value = default if value is None else value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2**31:
            raise Unreadable(name)
        return value

    def items(self, name: str) -> list[Any] | None:
        """A list, or None."""
        value = self._data.get(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            raise Unreadable(name)
        return list(value)

    def text(self, name: str, default: str = "") -> str:
        """A text, or the default."""
        value = self._data.get(name)
        return value if isinstance(value, str) else default

    def section(self, name: str) -> Keys:
        """The keys of an object in the config."""
        value = self._data.get(name)
        if not isinstance(value, Mapping):
            raise Unreadable(name)
        return Keys(value)

    def layers(self) -> int:
        """How many layers the model has."""
        count = self.number("num_hidden_layers")
        if not 1 <= count <= _MAX_LAYERS:
            raise Unreadable("num_hidden_layers")
        return count


def own_layers(name: str, text_type: str, config: Mapping[str, Any]) -> Rows | None:
    """Each layer's memories as the class of architecture `name` reads the config; None where it lacks a key that is needed.

    Raises:
        Refused: a layer map that the class itself finds wrong.
    """
    reader = _READERS.get(name, _plain)
    if text_type == "mistral4":
        reader = _mla
    try:
        return reader(Keys(config))
    except (Unreadable, ModelError, ZeroDivisionError):
        return None


def own_drafts(name: str, config: Mapping[str, Any]) -> Rows | None:
    """The prediction layers that the class builds for drafting; None where the config cannot be read."""
    reader = _DRAFTS.get(name)
    try:
        return list(reader(Keys(config))) if reader else []
    except (Unreadable, ModelError, ZeroDivisionError):
        return None


def _heads(c: Keys) -> tuple[int, int]:
    heads = c.number("num_attention_heads")
    return c.number("num_key_value_heads", heads), c.number("head_dim", 0) or c.number("hidden_size") // heads


def _softmax(kv_heads: int, dim: int, window: int = 0, value_dim: int | None = None) -> Softmax:
    reach = Window(window) if window > 0 else Full()
    return Softmax(kv_heads=kv_heads, key_dim=dim, value_dim=dim if value_dim is None else value_dim, reach=reach)


def _plain(c: Keys) -> Rows:
    """LlamaConfig and the many like it: every layer alike; a window only masks."""
    return [(_softmax(*_heads(c)),)] * c.layers()


def _gemma3(c: Keys) -> Rows:
    """Gemma3Config, with defaults of its own."""
    heads, dim = c.number("num_attention_heads", 8), c.number("head_dim", 256)
    return [(_softmax(c.number("num_key_value_heads", 4), dim or c.number("hidden_size", 2304) // heads),)] * c.layers()


def _kinds(c: Keys, count: int) -> list[str]:
    kinds = c.items("layer_types")
    if kinds is None or len(kinds) < count:
        raise Unreadable("layer_types")
    return [str(kind) for kind in kinds[:count]]


def _sliding(c: Keys) -> Rows:
    """GptOssConfig, AfmoeConfig, MuseGlimmerConfig, LagunaConfig: `layer_types` and one width for all."""
    window, heads = c.number("sliding_window"), _heads(c)
    return [(_softmax(*heads, window if kind == "sliding_attention" else 0),) for kind in _kinds(c, c.layers())]


def _maybe_sliding(c: Keys) -> Rows:
    """Spark2_5Config, DFlashConfig: full layers where the config lists no types."""
    return _plain(c) if c.items("layer_types") is None else _sliding(c)


def _gemma4(c: Keys) -> Rows:
    """Gemma4Config: full layers have heads and a width of their own."""
    kv_heads, dim = c.number("num_key_value_heads", c.number("num_attention_heads")), c.number("head_dim")
    full = c.number("num_global_key_value_heads", kv_heads), c.number("global_head_dim", dim)
    window = c.number("sliding_window", 0)
    return [(_softmax(*full) if kind == "full_attention" else _softmax(kv_heads, dim, window),) for kind in _kinds(c, c.layers())]


def _mimo_v2(c: Keys) -> Rows:
    """MiMoV2Config: a pattern of ones and zeros."""
    kv_heads, dim = _heads(c)
    value_dim, own = c.number("v_head_dim", dim), c.number("swa_num_key_value_heads", kv_heads)
    count = c.layers()
    pattern = c.items("hybrid_layer_pattern") or [0] * count
    skipped = set(c.items("skip_attention") or ())
    if len(pattern) != count:
        raise Refused("MiMoV2: hybrid_layer_pattern must name every layer")
    window = c.number("sliding_window") if 1 in pattern else 0
    rows: Rows = []
    for i, sliding in enumerate(pattern):
        memory = _softmax(own, dim, window, value_dim) if sliding == 1 else _softmax(kv_heads, dim, 0, value_dim)
        rows.append(() if i in skipped else (memory,))
    return rows


def _step(c: Keys) -> Rows:
    """Step3_5Config: sliding layers have heads of their own, and the others' width."""
    dim = c.number("head_dim", 0) or c.number("hidden_size") // c.number("num_attention_heads")
    other = c.section("attention_other_setting").number("num_attention_groups")
    full, window = c.number("num_attention_groups"), c.number("sliding_window")
    return [
        (_softmax(other, dim, window) if kind == "sliding_attention" else _softmax(full, dim),) for kind in _kinds(c, c.layers())
    ]


def _decilm(c: Keys) -> Rows:
    """DeciLMConfig: attention by block, or none."""
    heads = c.number("num_attention_heads")
    dim = c.number("head_dim", 0) or c.number("hidden_size") // heads
    rows: Rows = []
    for block in c.items("block_configs") or ():
        attention = block.get("attention") if isinstance(block, Mapping) else None
        if not isinstance(attention, Mapping):
            raise Unreadable("block_configs")
        group = 0 if attention.get("no_op") else Keys(attention).number("n_heads_in_group")
        rows.append((_softmax(heads // group, dim),) if group else ())
    if len(rows) != c.layers():
        raise Refused("Number of hidden layers does not match length of block_configs list")
    return rows


def _latent(c: Keys, rope: int | None = None) -> Latent:
    return Latent(
        rank=c.number("kv_lora_rank"),
        rope_dim=c.number("qk_rope_head_dim", rope),
        heads=c.number("num_attention_heads"),
        nope_dim=c.number("qk_nope_head_dim"),
        value_dim=c.number("v_head_dim"),
    )


def _mla(c: Keys) -> Rows:
    """DeepseekV3Config, Glm4MoeLiteConfig, mistral4_init_config."""
    return [(_latent(c),)] * c.layers()


def _indexed_mla(c: Keys) -> Rows:
    """GlmMoeDsaConfig: layers named "full" have an indexer of their own."""
    count, kinds = c.layers(), c.items("indexer_types")
    if kinds is None or len(kinds) < count:
        raise Unreadable("indexer_types")
    index = Index(dim=c.number("index_head_dim"))
    return [(_latent(c), index) if kind == "full" else (_latent(c),) for kind in kinds[:count]]


def _delta(heads: tuple[int, int], dims: tuple[int, int], kernel: int, *, kda: bool = False) -> Recurrent:
    """A linear layer of (key, value) heads and widths."""
    channels = 2 * heads[0] * dims[0] + heads[1] * dims[1]
    conv = State(name="conv", shape=(channels,), kernel=kernel)
    return Recurrent(kind="kda" if kda else "gated_delta", states=(conv, State(name="delta", shape=(heads[1], *dims))))


def _kda(heads: int, dim: int, kernel: int) -> Recurrent:
    return _delta((heads, heads), (dim, dim), kernel, kda=True)


def _gated_delta(c: Keys) -> Recurrent:
    heads = c.number("linear_num_key_heads", 16), c.number("linear_num_value_heads", 32)
    dims = c.number("linear_key_head_dim", 128), c.number("linear_value_head_dim", 128)
    return _delta(heads, dims, c.number("linear_conv_kernel_dim", 4))


def _is_full(c: Keys, *, listed: bool = True) -> list[bool]:
    """Which layers are full attention: a list of types, or every n-th."""
    count = c.layers()
    if listed and c.items("layer_types") is not None:
        return [kind == "full_attention" for kind in _kinds(c, count)]
    interval = c.number("full_attention_interval", 4)
    return [(i + 1) % interval == 0 for i in range(count)]


def _qwen3_5(c: Keys) -> Rows:
    """Qwen3_5VLBaseConfig, OlmoHybridConfig."""
    return [(_softmax(*_heads(c)) if full else _gated_delta(c),) for full in _is_full(c)]


def _qwen3_next(c: Keys) -> Rows:
    """Qwen3NextConfig: goes by the interval alone."""
    return [(_softmax(*_heads(c)) if full else _gated_delta(c),) for full in _is_full(c, listed=False)]


def _qwen4(c: Keys) -> Rows:
    """Qwen4ExpConfig: an indexer beside full attention, n-gram injections at the layers that `ple_layer_ids` counts from one."""
    rows: Rows = []
    index = Index(dim=c.number("indexer_head_dim"))
    injected = set(c.items("ple_layer_ids") or ())
    for i, full in enumerate(_is_full(c)):
        memories: tuple[Memory, ...] = (_softmax(*_heads(c)), index) if full else (_gated_delta(c),)
        if i + 1 in injected:
            ngram = c.number("ngram_size")
            columns = (c.number("ple_conv_kernel_size", 4) - 1) * ngram
            channels = c.number("hc_count", 4) * c.number("hidden_size")
            context = State(name="ngram_ids", shape=(ngram - 1,), dtype="int64", shard=False)
            memories += (Recurrent(states=(State(name="ple_conv", shape=(channels, columns)), context)),)
        rows.append(memories)
    return rows


def _kimi_linear(c: Keys) -> Rows:
    """KimiLinearConfig: layers counted from one."""
    la = c.section("linear_attn_config")
    linear = set(la.items("kda_layers") or ())
    state = _kda(la.number("num_heads"), la.number("head_dim"), la.number("short_conv_kernel_size"))
    return [(state if i + 1 in linear else _latent(c, 0),) for i in range(c.layers())]


def _ling(c: Keys) -> Rows:
    """BailingHybridConfig: the last of each group, and what is left of the last group; linear heads as attention has them."""
    count, group = c.layers(), c.number("layer_group_size")
    whole = count // group * group
    state = _kda(c.number("num_attention_heads"), c.number("head_dim"), c.number("short_conv_kernel_size"))
    return [(_latent(c) if (i + 1) % group == 0 or i >= whole else state,) for i in range(count)]


def _glm5_next(c: Keys) -> Rows:
    """Glm5NextConfig: pooled index keys on layers named "full"."""
    la, index = c.section("linear_attn_config"), _pooled_index(c)
    state = _kda(la.number("num_heads"), la.number("head_dim"), la.number("short_conv_kernel_size"))
    count, owners = c.layers(), c.items("indexer_types") or []
    if len(owners) < count:
        raise Unreadable("indexer_types")
    rows: Rows = []
    for kind, owner in zip(_kinds(c, count), owners, strict=False):
        if kind == "linear_attention":
            rows.append((state,))
        else:
            rows.append((_latent(c, 0), index) if owner == "full" else (_latent(c, 0),))
    return rows


def _pooled_index(c: Keys) -> Index:
    return Index(dim=c.number("index_head_dim"), reach=Compressed(c.number("index_kpool")))


_BLOCKS: Final = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}


def _pattern(c: Keys, names: str, pattern: str) -> str:
    listed = c.items(names)
    if listed is None and names == "layers_block_type" and c.items("block_configs"):
        listed = [block.get("block_type") if isinstance(block, Mapping) else None for block in c.items("block_configs") or ()]
    if listed is None:
        return c.text(pattern)
    if any(kind not in _BLOCKS for kind in listed):
        raise Unreadable(names)
    return "".join(_BLOCKS[kind] for kind in listed)


def _nemotron(c: Keys) -> Rows:
    """NemotronHConfig: a letter a layer; M keeps a state, * keys and values."""
    pattern = _pattern(c, "layers_block_type", "hybrid_override_pattern")
    if not pattern:
        raise Unreadable("hybrid_override_pattern")
    if len(pattern) != c.number("num_hidden_layers", len(pattern)):
        raise Refused("hybrid_override_pattern length does not match num_hidden_layers")
    heads, dim, state = c.number("mamba_num_heads"), c.number("mamba_head_dim"), c.number("ssm_state_size")
    conv = State(name="conv", shape=(heads * dim + 2 * c.number("n_groups") * state,), kernel=c.number("conv_kernel", 4))
    mamba = Recurrent(kind="mamba2", states=(conv, State(name="ssm", shape=(heads, dim, state))))
    attention = _softmax(*_heads(c))
    kept: dict[str, tuple[Memory, ...]] = {"M": (mamba,), "*": (attention,)}
    return [kept.get(letter, ()) for letter in pattern]


def _lfm2(c: Keys) -> Rows:
    """Lfm2Config: listed, or every fourth layer is attention."""
    count = c.layers()
    kinds = c.items("layer_types")
    full = [kind == "full_attention" for kind in _kinds(c, count)] if kinds else [(i + 1) % 4 == 0 for i in range(count)]
    conv = State(name="conv", shape=(c.number("hidden_size"),), kernel=c.number("conv_L_cache", 3))
    attention = _softmax(*_heads(c))
    return [(attention,) if is_full else (Recurrent(kind="short_conv", states=(conv,)),) for is_full in full]


def _deepseek_v4(c: Keys) -> Rows:
    """DeepseekV4Config: 0, 4 and 128 tokens an entry; without a list two wide ones, then both in turn."""
    count, ratios = c.layers(), c.items("compress_ratios")
    if ratios is None:
        ratios = [128] * min(count, 2) + [4 if i % 2 else 128 for i in range(max(count - 2, 0))]
    dim, index = c.number("head_dim", 512), c.number("index_head_dim", 128)
    ring = Softmax(kv_heads=1, key_dim=dim, value_dim=0, reach=Window(c.number("sliding_window", 128)))
    rows: Rows = []
    for ratio in ratios[:count]:
        if ratio == 4:
            reach = Compressed(c.number("compress_rate_csa", 4), overlap=True)
            entries = Softmax(kv_heads=1, key_dim=dim, value_dim=0, reach=reach)
            rows.append((ring, entries, Index(dim=index, reach=reach)))
        elif ratio:
            reach = Compressed(c.number("compress_rate_hca", 128))
            rows.append((ring, Softmax(kv_heads=1, key_dim=dim, value_dim=0, reach=reach)))
        else:
            rows.append((ring,))
    if len(rows) != count:
        raise Unreadable("compress_ratios")
    return rows


_READERS: Final[dict[str, Callable[[Keys], Rows]]] = {
    "AfmoeForCausalLM": _sliding,
    "BailingMoeV3ForCausalLM": _ling,
    "DFlash2DraftModel": _maybe_sliding,
    "DFlashDraftModel": _maybe_sliding,
    "DeciLMForCausalLM": _decilm,
    "DeepseekV3ForCausalLM": _mla,
    "DeepseekV4ForCausalLM": _deepseek_v4,
    "Gemma3ForCausalLM": _gemma3,
    "Gemma3ForConditionalGeneration": _gemma3,
    "Gemma4ForConditionalGeneration": _gemma4,
    "Gemma4UnifiedForConditionalGeneration": _gemma4,
    "Glm4MoeLiteForCausalLM": _mla,
    "Glm5NextForConditionalGeneration": _glm5_next,
    "GlmMoeDsaForCausalLM": _indexed_mla,
    "GptOssForCausalLM": _sliding,
    "KimiLinearForCausalLM": _kimi_linear,
    "LagunaForCausalLM": _sliding,
    "Lfm2ForCausalLM": _lfm2,
    "Lfm2MoeForCausalLM": _lfm2,
    "Lfm2VlForConditionalGeneration": _lfm2,
    "MiMoV2ForCausalLM": _mimo_v2,
    "MuseGlimmerAssistantModel": _maybe_sliding,
    "MuseGlimmerForConditionalGeneration": _sliding,
    "NemotronHForCausalLM": _nemotron,
    "NemotronH_Omni_Reasoning_V3": _nemotron,
    "OlmoHybridForCausalLM": _qwen3_5,
    "Qwen3NextForCausalLM": _qwen3_next,
    "Qwen3_5ForCausalLM": _qwen3_5,
    "Qwen3_5ForConditionalGeneration": _qwen3_5,
    "Qwen3_5MoeForCausalLM": _qwen3_5,
    "Qwen3_5MoeForConditionalGeneration": _qwen3_5,
    "Qwen4ExpForConditionalGeneration": _qwen4,
    "Spark2_5ForCausalLM": _maybe_sliding,
    "Step3p5ForCausalLM": _step,
    "Step3p7ForConditionalGeneration": _step,
}


def _drafts_of(key: str, layer: Callable[[Keys], tuple[Memory, ...]]) -> Callable[[Keys], Iterator[Any]]:
    """As many layers as the key says, all alike."""

    def read(c: Keys) -> Iterator[tuple[Memory, ...]]:
        for _ in range(min(c.number(key, 0), _MAX_LAYERS)):
            yield layer(c)

    return read


def _nemotron_drafts(c: Keys) -> Iterator[tuple[Memory, ...]]:
    if c.number("num_nextn_predict_layers", 0):
        pattern = c.text("mtp_hybrid_override_pattern") or _pattern(c, "mtp_layers_block_type", "")
        for letter in pattern:
            yield (_softmax(*_heads(c)),) if letter == "*" else ()


def _deepseek_v4_drafts(c: Keys) -> Iterator[tuple[Memory, ...]]:
    extra = len(c.items("compress_ratios") or ()) - c.layers()
    ring = Softmax(kv_heads=1, key_dim=c.number("head_dim", 512), value_dim=0, reach=Window(c.number("sliding_window", 128)))
    for _ in range(extra):
        yield (ring,)


def _mimo_v2_draft(c: Keys) -> tuple[Memory, ...]:
    kv_heads, dim = _heads(c)
    own = c.number("swa_num_key_value_heads", kv_heads)
    return (_softmax(own, dim, c.number("sliding_window", 0), c.number("v_head_dim", dim)),)


_NEXTN: Final = "num_nextn_predict_layers"
_DRAFTS: Final[dict[str, Callable[[Keys], Iterator[Any]]]] = {
    "BailingMoeV3ForCausalLM": _drafts_of(_NEXTN, lambda c: (_latent(c),)),
    "DeepseekV4ForCausalLM": _deepseek_v4_drafts,
    "Glm4MoeLiteForCausalLM": _drafts_of(_NEXTN, lambda c: (_latent(c),)),
    "Glm5NextForConditionalGeneration": _drafts_of(_NEXTN, lambda c: (_latent(c, 0), _pooled_index(c))),
    "GlmMoeDsaForCausalLM": _drafts_of(_NEXTN, lambda c: (_latent(c), Index(dim=c.number("index_head_dim")))),
    "HYV3ForCausalLM": _drafts_of(_NEXTN, lambda c: (_softmax(*_heads(c)),)),
    "MiMoV2ForCausalLM": _drafts_of(_NEXTN, _mimo_v2_draft),
    "NemotronHForCausalLM": _nemotron_drafts,
    "NemotronH_Omni_Reasoning_V3": _nemotron_drafts,
    "Qwen3_5ForConditionalGeneration": _drafts_of("mtp_num_hidden_layers", lambda c: (_softmax(*_heads(c)),)),
    "Qwen3_5MoeForConditionalGeneration": _drafts_of("mtp_num_hidden_layers", lambda c: (_softmax(*_heads(c)),)),
    "Qwen4ExpForConditionalGeneration": _drafts_of(
        "mtp_num_hidden_layers", lambda c: (_softmax(*_heads(c)), Index(dim=c.number("indexer_head_dim")))
    ),
}
