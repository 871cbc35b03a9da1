"""From llama.cpp's view of a GGUF file to what the model must remember.

The layers are those of the file as llama.cpp reads it: a window that llama.cpp ignores (Mistral 7B, Phi-3) is no window
here, and latent attention in a file made before it was absorbed is plain attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.model import (
    Chunk,
    Compressed,
    Fact,
    Full,
    Index,
    Latent,
    Layer,
    Loop,
    Memory,
    Model,
    ModelError,
    Reach,
    Recurrent,
    RecurrentKind,
    Shared,
    Softmax,
    State,
    Window,
)
from kvplan.domain.origin import Origin
from kvplan.errors import GgufError
from kvplan.gguf.hparams import Hparams, read_hparams
from kvplan.gguf.known import NO_CACHE, PURE_RECURRENT

_KINDS: Final[dict[str, RecurrentKind]] = {
    "mamba": "mamba", "jamba": "mamba", "mamba2": "mamba2", "falcon-h1": "mamba2", "granitehybrid": "mamba2",
    "nemotron_h": "mamba2", "nemotron_h_moe": "mamba2", "plamo2": "mamba2", "lfm2": "short_conv", "lfm2moe": "short_conv",
    "kimi-linear": "kda", "kimi-k3": "kda", "bailingmoe3": "kda", "glm5-next": "kda", "qwen3next": "gated_delta",
    "qwen35": "gated_delta", "qwen35moe": "gated_delta", "qwen4exp": "gated_delta", "minimax-01": "linear",
    "rwkv6": "rwkv", "rwkv6qwen2": "rwkv", "rwkv7": "rwkv", "arwkv7": "rwkv",
}  # fmt: skip
_LEGACY: Final = (
    "the file keeps every head's keys and values: it was made before llama.cpp stored the latent; "
    "a newer conversion of the same model needs far less"
)
#: Keys that decide the cache, shown as provenance.
_SHOWN: Final = (
    "block_count", "nextn_predict_layers", "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.value_length", "attention.key_length_mla", "attention.value_length_mla", "attention.key_length_swa",
    "attention.value_length_swa", "attention.sliding_window", "attention.sliding_window_pattern", "attention.shared_kv_layers",
    "attention.indexer.key_length", "attention.compress_ratios", "full_attention_interval", "attention.recurrent_layers",
    "shortconv.l_cache", "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size", "ssm.group_count", "kda.head_dim",
    "wkv.head_size", "context_length", "embedding_length",
)  # fmt: skip


def model_from_keys(
    keys: Mapping[str, Any], *, source: str, name: str, weights_bytes: int | None = None, notes: tuple[str, ...] = ()
) -> Model:
    """A GGUF file's metadata as a model; `config` holds the keys.

    Raises:
        GgufError: a key that llama.cpp needs is missing or wrong.
    """
    return model_from_hparams(read_hparams(keys, source), source=source, name=name, weights_bytes=weights_bytes, notes=notes)


def model_from_hparams(
    h: Hparams, *, source: str, name: str, weights_bytes: int | None = None, notes: tuple[str, ...] = ()
) -> Model:
    """The memories of each layer, NextN layers as drafts.

    Raises:
        GgufError: the metadata contradicts itself.
    """
    try:
        rows = [tuple(_memories(h, i)) for i in range(h.n_layer_all)]
        layers = tuple(Layer(index=i, memories=row) for i, row in enumerate(rows[: h.n_layer]))
        drafts = tuple(Layer(index=i, memories=row) for i, row in enumerate(rows[h.n_layer :]))
        legacy = h.arch in {"deepseek2", "deepseek32"} and not h.is_mla and f"{h.arch}.attention.kv_lora_rank" in h.keys
        return Model(
            name=name,
            model_type=h.arch,
            layers=layers,
            drafts=drafts,
            loop=None if h.loops == 1 or drafts else Loop(first=0, stop=len(layers) // h.loops, passes=h.loops),
            dtype="float16",  # llama.cpp's default cache type, whatever the weights are
            max_tokens=h.context_length or None,
            attention_heads=max(h.head_count, default=0) or None,
            weights_bytes=weights_bytes,
            notes=(*notes, _LEGACY) if legacy else notes,
            provenance=tuple(_facts(h)),
            origin=Origin(config=h.keys, text_config=h.keys, text_type=h.arch, source=source),
        )
    except ModelError as problem:
        raise GgufError(f"{source}: {problem}", hint="check the file's metadata") from problem


def _facts(h: Hparams) -> list[Fact]:
    named = [(key, h.keys.get(f"{h.arch}.{key}")) for key in _SHOWN]
    return [Fact(f"{h.arch}.{key}", _shown(value), "GGUF") for key, value in named if value is not None]


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(str(v)[:20] for v in value[:12]) + (", …]" if len(value) > 12 else "]")
    return str(value)[:80]


def _memories(h: Hparams, layer: int) -> list[Memory]:
    """What one layer remembers. NextN layers are plain attention: their context has no other cache."""
    if h.arch in NO_CACHE:
        return []
    draft = layer >= h.n_layer
    if h.arch == "deepseek4" and not draft:
        return _compressed(h, layer)
    found: list[Memory] = []
    if _attends(h, layer) or draft:
        found += _attention(h, layer)
    if h.recurrent[layer] and not draft:
        states = _states(h)
        found += [Recurrent(states=states, kind=_KINDS.get(h.arch, "state"))] if states else []
    if _attends(h, layer) and h.indexed[layer] and not draft and not h.sliding[layer]:
        found.append(Index(dim=h.index_length * (3 if h.index_pool else 1)))
    return found


def _attends(h: Hparams, layer: int) -> bool:
    if h.arch in PURE_RECURRENT or not h.n_embd_k(layer):
        return False
    if h.arch in {"nemotron_h", "nemotron_h_moe"}:
        return not h.recurrent[layer] and h.feed_forward[layer] == 0
    return h.arch == "falcon-h1" or not h.recurrent[layer]


def _attention(h: Hparams, layer: int) -> list[Memory]:
    start = h.kv_from_start
    if start is not None and layer >= start:
        alike = [i for i in range(start) if h.sliding[i] == h.sliding[layer]]
        return [Shared(source=alike[-1] if alike else start - 1)]
    reach = reach_of(h, layer)
    sliding = h.sliding[layer]
    if h.is_mla:
        prefix, own = f"{h.arch}.attention.", "_swa" if sliding else ""
        row, values = (h.key_length_swa, h.value_length_swa) if sliding else (h.key_length, h.value_length)
        rank = _whole(h.keys.get(f"{prefix}kv_lora_rank{own}")) or values  # `row` is what is stored either way
        rope = max(row - rank, 0)
        return [
            Latent(
                rank=rank,
                rope_dim=rope,
                heads=h.head_count[layer] or max(h.head_count),
                nope_dim=max(_sized(h, f"key_length_mla{own}", "key_length_mla") - rope, 0),
                value_dim=_sized(h, f"value_length_mla{own}", "value_length_mla"),
                reach=reach,
            )
        ]
    return [
        Softmax(
            kv_heads=h.head_count_kv[layer],
            key_dim=h.key_length_swa if sliding else h.key_length,
            value_dim=h.value_length_swa if sliding else h.value_length,
            reach=reach,
        )
    ]


def _sized(h: Hparams, *names: str) -> int:
    """The first of these sizes of heads that the file has."""
    return next((size for name in names if (size := _whole(h.keys.get(f"{h.arch}.attention.{name}")))), 0)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def reach_of(h: Hparams, layer: int) -> Reach:
    """How far back a layer sees."""
    if not h.sliding[layer]:
        return Full()
    return Chunk(h.n_swa) if h.arch == "llama4" else Window(max(h.n_swa, 1))


def _compressed(h: Hparams, layer: int) -> list[Memory]:
    """DeepSeek V4: a window in every layer, entries for groups of 4 or 128 tokens in some, an indexer for those of 4."""
    width, ratio = h.key_length, h.ratios[layer]
    found: list[Memory] = [Softmax(kv_heads=1, key_dim=width, value_dim=0, reach=Window(h.n_swa) if h.n_swa else Full())]
    if ratio in {4, 128}:
        reach = Compressed(ratio, overlap=ratio == 4)
        found.append(Softmax(kv_heads=1, key_dim=width, value_dim=0, reach=reach))
        if ratio == 4 and h.index_length:
            found.append(Index(dim=h.index_length, reach=reach))
    return found


def _states(h: Hparams) -> tuple[State, ...]:
    """The rolling row and the state row of one sequence, always float32."""
    kernel = h.conv_kernel
    found = []
    if h.r_elements:
        if kernel > 1 and h.r_elements % (kernel - 1) == 0:
            found.append(State(name="conv", shape=(h.r_elements // (kernel - 1),), dtype="float32", kernel=kernel))
        else:
            found.append(State(name="shift", shape=(h.r_elements,), dtype="float32"))
    if h.s_elements:
        found.append(State(name="state", shape=(h.s_elements,), dtype="float32"))
    return tuple(found)
