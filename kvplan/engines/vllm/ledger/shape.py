"""The widths of a model that decide what a forward pass holds, read from its parameters and a few keys of its config."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from kvplan.domain.latest import latest
from kvplan.domain.parameters import Parameter
from kvplan.engines.vllm.ledger.families import ARCHITECTURES, HYBRIDS
from kvplan.engines.vllm.models import item_tokens

_TOP_K: Final = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts",
    "num_selected_experts", "moe_router_topk", "top_k",
)  # fmt: skip
_STATEFUL: Final = frozenset({"ssm_in", "ssm_conv", "ssm_x", "ssm_dt", "ssm_a", "ssm_d"})
#: Gemma's way with images: tokens of one image see each other, so an image may not be cut between two batches.
_GATED_QUERIES: Final = frozenset({"qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"})
_BIASED_HEAD: Final = frozenset({"phimoe", "phi", "gptj", "codegen"})  # the engine's class gives the head a bias
_PREFIX_LM: Final = frozenset({"gemma3", "gemma4", "paligemma", "gemma3n"})


class LatentWidths(Struct, frozen=True, kw_only=True):
    """Multi-head latent attention, elements."""

    q_rank: int  # 0: queries are not compressed
    rank: int
    rope: int
    nope: int
    value: int
    rotates_apart: bool = False  # DeepSeek's yarn returns new keys instead of rotating in place


class Shape(Struct, frozen=True, kw_only=True):
    """Widths in elements of the whole model, before tensor parallelism divides them.

    Attributes:
        architecture: the class that vLLM picks, `config.architectures[0]`.
        text_type: model type of the text decoder.
        hidden: residual stream.
        vocab: rows of the output head.
        queries, keys, values: outputs of the widest attention layer's projections; `gate` its output gate's, if any.
        kv_heads: KV heads of that layer, below which tensor parallelism replicates.
        intermediate: the widest dense feed-forward (shared experts apart); `shared` the widest shared expert.
        gated: whether feed-forwards have a gate beside their up projection.
        experts, top_k, expert_width: routed experts of a layer, how many a token takes, and their width.
        mixer_in, mixer_inner: outputs of a recurrent layer's in-projection, and inputs of its out-projection.
        delta_keys, delta_values, delta_heads: keys, values and value heads of a gated delta rule.
        experts_gated: whether routed experts have a gate; `variant` tells classes apart that a switch makes two of.
        output_gate: half of the query projection's outputs gate attention's output.
        indexed: attention reads the positions that an indexer picks.
        head_norm: queries and keys are normalised head by head.
        biased: a linear layer has a bias, which takes cuBLASLt.
        softcapped: logits pass through a tanh, which copies them.
        item_tokens: tokens of the largest item that one step must hold whole (0: none).
        first_expert_layer, last_dense_layer: numbers of the first layer with routed experts and the last without (-1: none).
    """

    architecture: str
    text_type: str
    layers: int
    hidden: int
    vocab: int
    queries: int = 0
    keys: int = 0
    values: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    intermediate: int = 0
    shared: int = 0
    gated: bool = True
    experts: int = 0
    top_k: int = 0
    expert_width: int = 0
    first_expert_layer: int = 0
    last_dense_layer: int = -1
    latent: LatentWidths | None = None
    mixer_in: int = 0
    mixer_inner: int = 0
    delta_keys: int = 0
    delta_values: int = 0
    delta_heads: int = 0
    experts_gated: bool = True
    variant: str = ""
    output_gate: bool = False
    head_norm: bool = False
    indexed: bool = False
    biased: bool = False
    softcapped: bool = False
    hybrid: bool = False
    attention_free: bool = False
    multimodal: bool = False
    prefix_lm: bool = False
    item_tokens: int = 0


@latest(4)  # a fit asks for many numbers of requests
def shape_of(parameters: Sequence[Parameter], config: Mapping[str, Any], text: Mapping[str, Any], text_type: str) -> Shape:
    """The widths of the model that `parameters` describe.

    Args:
        config: config.json; `text` its text part, completed with the class's defaults.
    """
    own = [p for p in parameters if p.component not in {"vision", "audio", "encoder", "draft"}]
    embed = _first(own, "embed")
    head = _first(own, "head") or embed
    names = config.get("architectures")
    mixers = [p for p in own if p.role in _STATEFUL]
    attends = any(p.role in {"o", "kv_a"} and p.component == "attention" for p in own)
    routed = [p for p in own if p.experts]
    kinds = {p.component for p in parameters}
    latent = _latent(own, text)
    q, k, v, heads, kv_heads, head_dim = _attention(own, text)
    if latent is not None:
        heads = _integer(text, "num_attention_heads")
    architecture = str(names[0]) if isinstance(names, list) and names else ARCHITECTURES.get(_model_type(config, text_type), "")
    tower = any(isinstance(config.get(key), Mapping) for key in ("vision_config", "audio_config"))
    tower = tower or architecture.endswith("ForConditionalGeneration")
    return Shape(
        architecture=architecture,
        text_type=text_type,
        layers=1 + max((layer for p in own for layer in p.layers), default=-1),
        hidden=embed.shape[1] if embed is not None else 0,
        vocab=head.shape[0] if head is not None else 0,
        queries=q, keys=k, values=v, heads=heads, kv_heads=kv_heads, head_dim=head_dim,
        intermediate=_width(own, lambda p: p.component == "mlp" and not (routed and _shared(p))),
        shared=_width(own, lambda p: p.component == "mlp" and bool(routed) and _shared(p)),
        gated=any(p.role in {"gate", "gate_up"} for p in own),
        experts=max((p.experts for p in routed), default=0),
        top_k=_integer(text, *_TOP_K) if routed else 0,
        expert_width=_width(own, lambda p: bool(p.experts)),
        first_expert_layer=min((layer for p in routed for layer in p.layers), default=0),
        last_dense_layer=max(
            (layer for p in own for layer in p.layers if p.role == "down" and not p.experts and not _shared(p)), default=-1
        ),
        latent=latent,
        mixer_in=max((p.shape[0] for p in mixers if p.role == "ssm_in" and len(p.shape) == 2), default=0),
        mixer_inner=max((p.shape[1] for p in own if p.role == "ssm_out" and len(p.shape) == 2), default=0),
        delta_keys=_integer(text, "linear_num_key_heads") * _integer(text, "linear_key_head_dim"),
        delta_values=_integer(text, "linear_num_value_heads") * _integer(text, "linear_value_head_dim"),
        delta_heads=_integer(text, "linear_num_value_heads"),
        experts_gated=not routed or any(p.role in {"gate", "gate_up"} for p in routed),
        variant="new" if text.get("new_decoder_architecture") is True else "",
        output_gate=bool(text.get("attn_output_gate")) or text_type in _GATED_QUERIES,
        indexed=any(p.role == "index" for p in own),
        head_norm=latent is None and any(p.role == "norm" and ("q_norm" in p.name or "q_layernorm" in p.name) for p in own),
        biased=(tower and not kinds & {"vision", "audio"}) or text_type in _BIASED_HEAD or _biased(parameters),
        softcapped=bool(text.get("final_logit_softcapping")),
        hybrid=(bool(mixers) and attends) or architecture in HYBRIDS,
        attention_free=bool(mixers) and not attends,
        multimodal=tower or bool(kinds & {"vision", "audio"}),
        prefix_lm=str(config.get("model_type")) in _PREFIX_LM and tower,
        item_tokens=item_tokens(str(config.get("model_type"))) if tower else 0,
    )  # fmt: skip


def _biased(parameters: Iterable[Parameter]) -> bool:
    """Whether a linear layer (a tower's too) has a bias: convolutions and norms do not count."""
    matrices = {
        p.name.removesuffix("weight") for p in parameters if len(p.shape) == 2 and p.name.endswith(".weight") and not p.experts
    }
    return any(
        p.name.removesuffix("bias") in matrices and p.role not in {"embed", "positions"}
        for p in parameters
        if p.name.endswith(".bias") and not p.buffer
    )


def _first(parameters: Iterable[Parameter], role: str) -> Parameter | None:
    return next((p for p in parameters if p.role == role and len(p.shape) == 2), None)


def _shared(p: Parameter) -> bool:
    return "shared" in p.name


def _width(parameters: Iterable[Parameter], wanted: Any) -> int:
    """The widest feed-forward among those wanted: the inputs of its down projection."""
    return max((p.shape[-1] for p in parameters if p.role == "down" and len(p.shape) == 2 and wanted(p)), default=0)


def _latent(parameters: Sequence[Parameter], text: Mapping[str, Any]) -> LatentWidths | None:
    down = _first(parameters, "kv_a")
    if down is None:
        return None
    q_a = _first(parameters, "q_a")
    return LatentWidths(
        q_rank=q_a.shape[0] if q_a is not None else 0,
        rank=_integer(text, "kv_lora_rank"),
        rope=_integer(text, "qk_rope_head_dim"),
        nope=_integer(text, "qk_nope_head_dim"),
        value=_integer(text, "v_head_dim"),
        rotates_apart=_yarn(text),
    )


def _yarn(text: Mapping[str, Any]) -> bool:
    rope = text.get("rope_scaling") or text.get("rope_parameters")
    return isinstance(rope, Mapping) and "yarn" in str(rope.get("rope_type", rope.get("type")))


def _model_type(config: Mapping[str, Any], text_type: str) -> str:
    return str(config.get("model_type") or text_type)


def _attention(parameters: Sequence[Parameter], text: Mapping[str, Any]) -> tuple[int, int, int, int, int, int]:
    """Outputs of q, k, v of the widest layer, its heads, its KV heads and the size of a head."""
    best = (0, 0, 0, 0, 0, 0)
    by_stack: dict[tuple[str, int], dict[str, Parameter]] = {}
    for p in parameters:
        if p.component == "attention" and len(p.shape) == 2 and p.role in {"q", "k", "v", "qkv", "qkvg", "o", "q_b"}:
            for layer in p.layers[:1]:
                by_stack.setdefault((p.name.partition("{layer}")[0], layer), {})[p.role] = p
    for parts in by_stack.values():
        out = parts.get("o")
        q, k, v, whole = (parts.get(role) for role in ("q", "k", "v", "qkv"))
        if q is not None:
            heads = q.units or _integer(text, "num_attention_heads", "n_head", "num_heads")
            key_heads = (k.units if k is not None else 0) or heads
            found = (
                q.shape[0], k.shape[0] if k is not None else 0, v.shape[0] if v is not None else 0, heads, key_heads,
                (k.shape[0] // key_heads if k is not None and key_heads else q.shape[0] // max(1, heads)),
            )  # fmt: skip
        elif whole is not None and out is not None:
            queries = out.shape[-1]
            rest = (whole.shape[0] - queries) // 2
            heads = _integer(text, "num_attention_heads", "n_head", "num_heads", "n_heads") or 1
            size = queries // heads
            found = (queries, rest, rest, heads, max(1, rest // size) if size else heads, size)
        else:
            continue
        best = max(best, found, key=sum)
    return best


def _integer(section: Mapping[str, Any], *keys: str) -> int:
    for key in keys:
        value = section.get(key)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0
