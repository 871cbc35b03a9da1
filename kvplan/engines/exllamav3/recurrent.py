"""Architectures with recurrent layers, as ExLlamaV3's classes read their configs; the class is named at each reader.

Source: exllamav3 1.6.5, `architecture/*.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kvplan.domain.model import Compressed, Index, Memory, Recurrent, State
from kvplan.engines.exllamav3.keys import Keys, Rows, Unreadable, heads_of, latent, layer_kinds, softmax
from kvplan.errors import Refused


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
        return [kind == "full_attention" for kind in layer_kinds(c, count)]
    interval = c.number("full_attention_interval", 4)
    return [(i + 1) % interval == 0 for i in range(count)]


def qwen3_5(c: Keys) -> Rows:
    """Qwen3_5VLBaseConfig, OlmoHybridConfig."""
    return [(softmax(*heads_of(c)) if full else _gated_delta(c),) for full in _is_full(c)]


def qwen3_next(c: Keys) -> Rows:
    """Qwen3NextConfig: goes by the interval alone."""
    return [(softmax(*heads_of(c)) if full else _gated_delta(c),) for full in _is_full(c, listed=False)]


def qwen4(c: Keys) -> Rows:
    """Qwen4ExpConfig: an indexer beside full attention, n-gram injections at the layers that `ple_layer_ids` counts from one."""
    rows: Rows = []
    index = Index(dim=c.number("indexer_head_dim"))
    injected = set(c.items("ple_layer_ids") or ())
    for i, full in enumerate(_is_full(c)):
        memories: tuple[Memory, ...] = (softmax(*heads_of(c)), index) if full else (_gated_delta(c),)
        if i + 1 in injected:
            ngram = c.number("ngram_size")
            columns = (c.number("ple_conv_kernel_size", 4) - 1) * ngram
            channels = c.number("hc_count", 4) * c.number("hidden_size")
            context = State(name="ngram_ids", shape=(ngram - 1,), dtype="int64", shard=False)
            memories += (Recurrent(states=(State(name="ple_conv", shape=(channels, columns)), context)),)
        rows.append(memories)
    return rows


def kimi_linear(c: Keys) -> Rows:
    """KimiLinearConfig: layers counted from one."""
    la = c.section("linear_attn_config")
    linear = set(la.items("kda_layers") or ())
    state = _kda(la.number("num_heads"), la.number("head_dim"), la.number("short_conv_kernel_size"))
    return [(state if i + 1 in linear else latent(c, 0),) for i in range(c.layers())]


def ling(c: Keys) -> Rows:
    """BailingHybridConfig: the last of each group, and what is left of the last group; linear heads as attention has them."""
    count, group = c.layers(), c.number("layer_group_size")
    whole = count // group * group
    state = _kda(c.number("num_attention_heads"), c.number("head_dim"), c.number("short_conv_kernel_size"))
    return [(latent(c) if (i + 1) % group == 0 or i >= whole else state,) for i in range(count)]


def glm5_next(c: Keys) -> Rows:
    """Glm5NextConfig: pooled index keys on layers named "full"."""
    la, index = c.section("linear_attn_config"), pooled_index(c)
    state = _kda(la.number("num_heads"), la.number("head_dim"), la.number("short_conv_kernel_size"))
    count, owners = c.layers(), c.items("indexer_types") or []
    if len(owners) < count:
        raise Unreadable("indexer_types")
    rows: Rows = []
    for kind, owner in zip(layer_kinds(c, count), owners, strict=False):
        if kind == "linear_attention":
            rows.append((state,))
        else:
            rows.append((latent(c, 0), index) if owner == "full" else (latent(c, 0),))
    return rows


def pooled_index(c: Keys) -> Index:
    """GLM-5.3's indexer, one pooled key for several tokens."""
    return Index(dim=c.number("index_head_dim"), reach=Compressed(c.number("index_kpool")))


_BLOCKS: Final = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}


def pattern_of(c: Keys, names: str, pattern: str) -> str:
    """A letter a layer: from a list of block types under `names`, or a text under `pattern`."""
    listed = c.items(names)
    if listed is None and names == "layers_block_type" and c.items("block_configs"):
        listed = [block.get("block_type") if isinstance(block, Mapping) else None for block in c.items("block_configs") or ()]
    if listed is None:
        return c.text(pattern)
    if any(kind not in _BLOCKS for kind in listed):
        raise Unreadable(names)
    return "".join(_BLOCKS[kind] for kind in listed)


def nemotron(c: Keys) -> Rows:
    """NemotronHConfig: a letter a layer; M keeps a state, * keys and values."""
    pattern = pattern_of(c, "layers_block_type", "hybrid_override_pattern")
    if not pattern:
        raise Unreadable("hybrid_override_pattern")
    if len(pattern) != c.number("num_hidden_layers", len(pattern)):
        raise Refused("hybrid_override_pattern length does not match num_hidden_layers")
    heads, dim, state = c.number("mamba_num_heads"), c.number("mamba_head_dim"), c.number("ssm_state_size")
    conv = State(name="conv", shape=(heads * dim + 2 * c.number("n_groups") * state,), kernel=c.number("conv_kernel", 4))
    mamba = Recurrent(kind="mamba2", states=(conv, State(name="ssm", shape=(heads, dim, state))))
    attention = softmax(*heads_of(c))
    kept: dict[str, tuple[Memory, ...]] = {"M": (mamba,), "*": (attention,)}
    return [kept.get(letter, ()) for letter in pattern]


def lfm2(c: Keys) -> Rows:
    """Lfm2Config: listed, or every fourth layer is attention."""
    count = c.layers()
    kinds = c.items("layer_types")
    full = [kind == "full_attention" for kind in layer_kinds(c, count)] if kinds else [(i + 1) % 4 == 0 for i in range(count)]
    conv = State(name="conv", shape=(c.number("hidden_size"),), kernel=c.number("conv_L_cache", 3))
    attention = softmax(*heads_of(c))
    return [(attention,) if is_full else (Recurrent(kind="short_conv", states=(conv,)),) for is_full in full]
