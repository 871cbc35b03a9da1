"""Decoders with experts and softmax attention, one row a model type. Sources as in `dense`."""

from typing import Final

from kvplan.architectures.parameters.attention import Attention
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, under, vector
from kvplan.architectures.parameters.decoder import LLAMA_NORMS, Names, Row, decoder
from kvplan.architectures.parameters.dense import BIASED, FOUR_NORMS, GLM4_NORMS, NORMED
from kvplan.architectures.parameters.drafts import with_drafts
from kvplan.architectures.parameters.mlp import Dense, Experts, Mlp, feed_forward, first_dense, sparse_step, typed
from kvplan.architectures.parameters.sizes import Section, Sizes
from kvplan.domain.model import Index

_EXPERTS: Final = Experts()
MIXTRAL: Final = Experts(
    prefix="block_sparse_moe", number=("num_local_experts",), width=("intermediate_size",), names=("w1", "w3", "w2")
)
QWEN_MOE: Final = Experts(number=("num_experts",), dense=sparse_step, order=("experts", "router", "shared"))
QWEN2_MOE: Final = QWEN_MOE._replace(
    shared="shared_expert", shared_width=("shared_expert_intermediate_size",), shared_gate="shared_expert_gate",
    order=("router", "experts", "shared"),
)  # fmt: skip
DEEPSEEK_MOE: Final = Experts(
    number=("n_routed_experts", "num_experts", "num_local_experts"), width=("moe_intermediate_size",),
    correction="gate.e_score_correction_bias", shared="shared_experts", shared_number=("n_shared_experts",),
    order=("experts", "router", "shared"), dense=typed(first_dense("first_k_dense_replace")),
)  # fmt: skip
GRANITE_MOE: Final = Experts(
    prefix="block_sparse_moe", number=("num_local_experts",), width=("intermediate_size",), experts="", fused="input_linear",
    names=("output_linear",), router="router.layer",
)  # fmt: skip


def first_layers(default: int) -> Dense:
    """Dense in the first `default` layers where `mlp_layer_types` does not say."""

    def dense(s: Sizes, layer: int) -> bool:
        return layer < default

    return typed(dense)


def _llama4(s: Sizes, layer: int) -> bool:
    given = s.c.integers("moe_layers")
    if given is not None:
        return layer not in given
    step = s.number("interleave_moe_layer_step", default=1, minimum=1)
    return (layer + 1) % step != 0


def _ernie(s: Sizes, layer: int) -> bool:
    """Experts between two layer numbers, each so many."""
    first = _first(s, "moe_layer_start_index", 1)
    last = _first(s, "moe_layer_end_index", -1)
    last = s.layers - 1 if last == -1 else last
    step = s.number("moe_layer_interval", default=1, minimum=1)
    return not (first <= layer <= last and (layer + 1) % step == 0)


def _first(s: Sizes, key: str, default: int) -> int:
    """A number that ERNIE-VL gives once for text and once for images: the text's."""
    value = s.c.data.get(key, default)
    if isinstance(value, list) and value and isinstance(value[0], int):
        return int(value[0])
    return int(value) if isinstance(value, int) else default


def _flint(s: Sizes, layer: int) -> bool:
    """As Qwen, the first two layers dense where the config does not say."""
    return sparse_step(s, layer) if s.c.has("mlp_only_layers") else layer < 2 or sparse_step(s, layer)


def _step(s: Sizes, layer: int) -> bool:
    """Step-3.5: `moe_layers_enum` lists the layers with experts, as text or numbers."""
    given = s.c.data.get("moe_layers_enum")
    if given is None:
        return layer < 3
    numbers = {int(n) for n in (given.split(",") if isinstance(given, str) else given)}
    return layer not in numbers


def _frequency(s: Sizes, layer: int) -> bool:
    """MiniMax-M3, MiMo: `moe_layer_freq` has a 1 for each layer with experts."""
    given = s.c.integers("moe_layer_freq") if isinstance(s.c.data.get("moe_layer_freq"), list) else None
    if given is None:
        return s.model_type == "mimo_v2_flash" and layer == 0
    return layer < len(given) and not given[layer]


def granite_shared(s: Sizes) -> Tensors:
    """Granite's shared expert stands beside the experts."""
    width = s.maybe("shared_intermediate_size") or 0
    if width:
        shape = Mlp(fused="input_linear", names=("output_linear",))
        yield from under("shared_mlp.", feed_forward(s.hidden, width, shape), "mlp")


def _heads_per_layer(s: Sizes, layer: int) -> int:
    given = s.c.integers("num_attention_heads_per_layer")
    return given[layer] if given and layer < len(given) else s.heads


def _per_head_gate(s: Sizes, row: Row, layer: int) -> Row:
    """Laguna: `gating` is one gate a head, or one for each output element."""
    value = s.c.data.get("gating", True)
    if value is False or value is None:
        return row
    return row._replace(attention=row.attention._replace(gate="head" if value in {True, "per-head"} else "all"))


def _mimo(s: Sizes, row: Row, layer: int) -> Row:
    """MiMo-V2: sinks in sliding layers, or in all, by two switches."""
    slides = "sliding" in s.reaches[layer]
    wanted = s.c.flag("add_swa_attention_sink_bias", default=True) if slides else s.c.flag("add_full_attention_sink_bias")
    return row._replace(attention=row.attention._replace(sinks="sinks" if wanted else ""))


def _beam_bias(s: Sizes, memory: object, heads: int) -> Tensors:
    yield from vector("gate_bias", heads, component="attention", split="column", units=heads)


def _minimax_m3(s: Sizes, row: Row, layer: int) -> Row:
    """MiniMax M3: sparse layers have an indexer that scores blocks of keys."""
    return row._replace(more=_block_indexer) if s.find(layer, Index) is not None else row


def _block_indexer(s: Sizes) -> Tensors:
    given = s.c.section("sparse_attention_config") if s.c.has("sparse_attention_config") else s.c
    own = Section(given)
    heads = own.number("sparse_num_index_heads", "index_n_heads", default=4)
    dim = own.number("sparse_index_dim", "index_head_dim", default=128)
    name = "self_attn.indexer"
    yield from linear(f"{name}.q_proj", heads * dim, s.hidden, "index", component="attention")
    yield from linear(f"{name}.k_proj", dim, s.hidden, "index", component="attention")
    yield from norm(f"{name}.q_norm", dim)
    yield from norm(f"{name}.k_norm", dim)


#: Ling's own names: a fused `query_key_value`, and a bias of the router that a key of its own turns on.
BAILING: Final = Row(
    attention=Attention(
        prefix="attention", names=("", "", "", "dense"), fused="query_key_value", qkv_bias="use_qkv_bias",
        o_bias="use_bias", qk_norm="head", norm_key="use_qk_norm", norm_names=("query_layernorm", "key_layernorm"),
    ),
    experts=DEEPSEEK_MOE._replace(
        number=("num_experts",), correction="gate.expert_bias", correction_key="moe_router_enable_expert_bias",
        shared_number=("num_shared_experts",),
    ),
    names=Names(embed="word_embeddings"),
)  # fmt: skip

ROWS: Final[dict[str, Row]] = {
    "mixtral": Row(experts=MIXTRAL),
    "minimax_m2": Row(
        attention=Attention(qk_norm="all"),
        experts=MIXTRAL._replace(correction="e_score_correction_bias", correction_key="use_routing_bias"),
    ),
    "phimoe": Row(
        attention=BIASED, experts=MIXTRAL, norm_bias=True, head_bias="lm_head_bias",
    ),
    "qwen2_moe": Row(attention=Attention(qkv_bias="qkv_bias"), experts=QWEN2_MOE),
    **dict.fromkeys(
        ("qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text", "mellum"), Row(attention=NORMED, experts=QWEN_MOE)
    ),
    "flint": Row(
        attention=NORMED._replace(sinks="sinks"),
        experts=QWEN2_MOE._replace(shared_gate="", dense=_flint),
    ),
    "olmoe": Row(attention=BIASED._replace(qk_norm="all"), experts=_EXPERTS._replace(width=("intermediate_size",))),
    "flex_olmo": Row(
        attention=BIASED._replace(qk_norm="all"),
        experts=_EXPERTS._replace(width=("intermediate_size",)),
        norms=("post_attention_layernorm", "post_feedforward_layernorm"),
    ),
    "gpt_oss": Row(
        attention=BIASED._replace(sinks="sinks"),
        experts=Experts(
            number=("num_local_experts",), width=("intermediate_size",), experts="experts", fused="gate_up_proj",
            names=("down_proj",), bias=True, router="router", router_bias=True,
        ),
    ),
    **dict.fromkeys(
        ("glm4_moe", "sarvam_moe"),
        Row(attention=Attention(qkv_bias="attention_bias", qk_norm="head", norm_key="use_qk_norm"), experts=DEEPSEEK_MOE),
    ),
    "glm4v_moe_text": Row(attention=Attention(qkv_bias="attention_bias"), experts=DEEPSEEK_MOE),
    "solar_open": Row(attention=Attention(qkv_bias="attention_bias"), experts=DEEPSEEK_MOE._replace(dense=None)),
    "dots1": Row(attention=NORMED, experts=DEEPSEEK_MOE),
    "exaone_moe": Row(
        attention=Attention(qk_norm="head"), experts=DEEPSEEK_MOE._replace(shared_number=("num_shared_experts",))
    ),
    "hy_v3": Row(
        attention=NORMED,
        experts=DEEPSEEK_MOE._replace(
            shared_number=("num_shared_experts",), correction="e_score_correction_bias", dense=first_layers(1)
        ),
    ),
    "kolibri1": Row(
        attention=Attention(qk_norm="head"),
        experts=DEEPSEEK_MOE._replace(shared_number=(), shared_width=("shared_expert_intermediate_size",), dense=None),
        norms=GLM4_NORMS,
    ),
    "laguna": Row(
        attention=BIASED._replace(qk_norm="head"),
        experts=DEEPSEEK_MOE._replace(
            shared_number=(), shared_width=("shared_expert_intermediate_size",), correction_is_parameter=True,
            dense=first_layers(1),
        ),
        heads=_heads_per_layer, vary=_per_head_gate,
    ),
    "beam": Row(
        attention=NORMED._replace(gate="all", gate_name="gate_proj", more=_beam_bias, extra_first=True),
        experts=DEEPSEEK_MOE._replace(shared="", dense=first_layers(3)),
        norms=FOUR_NORMS,
    ),
    "afmoe": Row(
        attention=NORMED._replace(gate="all", gate_name="gate_proj"),
        experts=DEEPSEEK_MOE._replace(
            router="router.gate", correction="expert_bias", correction_first=True, correction_is_parameter=True,
            shared_number=("num_shared_experts",), order=("router", "shared", "experts"), dense=first_dense("num_dense_layers"),
        ),
        norms=("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm"),
        order=("mixer", "norms", "mlp"),
    ),
    "mimo_v2_flash": Row(
        attention=Attention(qkv_bias="attention_bias"),
        experts=DEEPSEEK_MOE._replace(shared="", dense=typed(_frequency)),
        vary=_mimo,
    ),
    "step3p5": Row(
        attention=BIASED._replace(qk_norm="head"),
        experts=DEEPSEEK_MOE._replace(
            number=("moe_num_experts", "n_routed_experts"), shared_number=(),
            shared_width=("share_expert_dim", "share_expert_dims"), dense=typed(_step), order=("router", "experts", "shared"),
        ),
        heads=_heads_per_layer, vary=_per_head_gate,
    ),
    **dict.fromkeys(("minimax_m3_vl_text", "minimax_m3"), Row(
        attention=Attention(qk_norm="head"), vary=_minimax_m3,
        experts=Experts(
            number=("num_local_experts",), width=("intermediate_size",), correction="gate.e_score_correction_bias",
            shared="shared_experts", shared_width=("shared_intermediate_size",), shared_fused="gate_up_proj",
            dense=typed(_frequency), mlp=Mlp(fused="gate_up_proj", names=("down_proj",), width=("dense_intermediate_size",)),
        ),
    )),
    "llama4_text": Row(
        attention=BIASED,
        experts=Experts(
            prefix="feed_forward", number=("num_local_experts",), width=("intermediate_size",), experts="experts",
            fused="gate_up_proj", names=("down_proj",), router="router", shared="shared_expert",
            shared_width=("intermediate_size",), order=("experts", "router", "shared"), dense=_llama4,
            mlp=Mlp(prefix="feed_forward", width=("intermediate_size_mlp",)),
        ),
    ),
    "cohere2_moe": Row(
        attention=BIASED,
        experts=Experts(
            number=("num_experts",), width=("intermediate_size",), shared="shared_experts", shared_number=("num_shared_experts",),
            dense=typed(first_dense("first_k_dense_replace")), mlp=Mlp(width=("prefix_dense_intermediate_size",)),
        ),
        norms=("input_layernorm",),
    ),
    "ernie4_5_moe": Row(
        attention=Attention(qkv_bias="use_bias", o_bias="use_bias"),
        experts=Experts(
            number=("moe_num_experts",), correction="gate.moe_statics.e_score_correction_bias", correction_is_parameter=True,
            shared="shared_experts", shared_number=("moe_num_shared_experts",), dense=_ernie, mlp=Mlp(bias="use_bias"),
        ),
    ),
    "granitemoe": Row(attention=BIASED, experts=GRANITE_MOE, order=("mixer", "norms", "mlp")),
    "granitemoeshared": Row(
        attention=BIASED, experts=GRANITE_MOE, order=("mixer", "norms", "mlp", "more"), more=granite_shared
    ),
    "granitemoe_swa": Row(
        attention=BIASED._replace(sinks="sinks"), experts=GRANITE_MOE, order=("mixer", "norms", "mlp", "more"),
        more=granite_shared,
    ),
    "aria_text": Row(
        attention=BIASED,
        experts=Experts(
            number=("moe_num_experts",), width=("intermediate_size",), experts="experts", fused="fc1", names=("fc2",),
            router="router", shared="shared_experts", shared_number=("moe_num_shared_experts",),
        ),
    ),
    "bailing_moe": BAILING,
    "deepseek": Row(attention=BIASED, experts=DEEPSEEK_MOE._replace(correction="")),
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors, prediction layers at the end."""
    row = ROWS[s.model_type]
    return with_drafts(s, row, decoder(s, row, root), root)


__all__ = ["DEEPSEEK_MOE", "LLAMA_NORMS", "MIXTRAL", "QWEN2_MOE", "QWEN_MOE", "ROWS", "first_layers", "linear", "norm", "read"]
