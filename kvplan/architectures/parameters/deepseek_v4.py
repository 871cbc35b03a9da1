"""DeepSeek V4: one vector a token for keys and values, compressors over it, an indexer, hyper-connections, hashed routing.

Source: transformers 5.23 `modeling_deepseek_v4.py`.
"""

from typing import Final

from msgspec.structs import replace

from kvplan.architectures.parameters.blocks import Tensors, linear, norm, over_layers, table, under, vector
from kvplan.architectures.parameters.decoder import Row, head
from kvplan.architectures.parameters.latent import hyper_connections, hyper_head
from kvplan.architectures.parameters.mlp import Mlp, feed_forward
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.domain.model import Compressed, Index, Memory, Softmax

ROWS: Final[dict[str, Row]] = dict.fromkeys(("deepseek_v4", "deepseek_v41", "deepseek_ref"), Row())


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors, prediction layers at the end."""
    prefix = "model." if root is None else root
    hashed = s.c.texts("mlp_layer_types")
    first = s.number("num_hash_layers", default=3)
    kinds = [
        (_compression(s.memories[i]), hashed[i] == "hash_moe" if hashed and i < len(hashed) else i < first)
        for i in range(s.layers)
    ]
    yield from table(f"{prefix}embed_tokens", s.number("vocab_size"), s.hidden)
    yield from over_layers(f"{prefix}layers", kinds, lambda kind: _layer(s, *kind))
    yield from norm(f"{prefix}norm", s.hidden)
    yield from under(prefix, hyper_head(s))
    if not s.tied():
        yield from head(s, Row())
    for number, memories in enumerate(s.drafts):
        for tensor in _draft(s, memories):
            yield replace(tensor, name=f"mtp.{{layer}}.{tensor.name}", component="draft", layers=(number,))


Compression = tuple[int, bool]  # tokens for one entry (0: none), whether the layer has an indexer


def _compression(memories: tuple[Memory, ...]) -> Compression:
    ratio = next((m.reach.ratio for m in memories if isinstance(m, Softmax) and isinstance(m.reach, Compressed)), 0)
    return ratio, any(isinstance(m, Index) for m in memories)


def _layer(s: Sizes, compression: Compression, hashed: bool) -> Tensors:
    yield from under("self_attn.", _attention(s, *compression), "attention")
    yield from under("mlp.", _experts(s, hashed))
    yield from norm("input_layernorm", s.hidden)
    yield from norm("post_attention_layernorm", s.hidden)
    streams = s.number("hc_mult")
    yield from hyper_connections(s, (2 + streams) * streams, 3)


def _attention(s: Sizes, ratio: int, indexed: bool) -> Tensors:
    dim, rank = s.number("head_dim"), s.number("q_lora_rank")
    groups, low = s.number("o_groups"), s.number("o_lora_rank")
    yield from vector("sinks", s.heads, role="sinks", component="attention", split="column", units=s.heads)
    yield from linear("q_a_proj", rank, s.hidden, "q_a", component="attention")
    yield from norm("q_a_norm", rank)
    yield from linear("q_b_proj", s.heads * dim, rank, "q_b", component="attention", split="column", units=s.heads)
    yield from linear("kv_proj", dim, s.hidden, "kv_a", component="attention")
    yield from norm("kv_norm", dim)
    yield from linear("o_a_proj", groups * low, s.heads * dim // groups, "o", component="attention", split="column", units=groups)
    yield from linear("o_b_proj", s.hidden, groups * low, "o", component="attention", split="row")
    if ratio:
        yield from under("compressor.", _compressor(s, ratio, dim * (2 if indexed else 1), dim))
    if indexed:
        width = s.number("index_head_dim")
        heads = s.number("index_n_heads")
        yield from under("compressor.indexer.", _compressor(s, ratio, 2 * width, width))
        yield from linear("compressor.indexer.q_b_proj", heads * width, rank, "index", component="attention")
        yield from linear("compressor.indexer.scorer.weights_proj", heads, s.hidden, "index", component="attention")


def _compressor(s: Sizes, ratio: int, wide: int, dim: int) -> Tensors:
    """What makes one entry of `ratio` tokens: values, weights, a bias for each place (twice as wide where pools overlap)."""
    yield from vector("position_bias", ratio, wide, role="index", component="attention")
    yield from linear("kv_proj", wide, s.hidden, "index", component="attention", quantised=False)
    yield from linear("gate_proj", wide, s.hidden, "index", component="attention", quantised=False)
    yield from norm("kv_norm", dim)


def _experts(s: Sizes, hashed: bool) -> Tensors:
    number, width = s.number("n_routed_experts"), s.number("moe_intermediate_size")
    yield from linear("gate", number, s.hidden, "router", component="experts", quantised=False)
    if hashed:  # which experts a token goes to, by its number
        choices = s.number("num_experts_per_tok")
        yield from vector(
            "gate.tid2eid", s.number("vocab_size"), choices, role="router", component="experts", dtype="int64", buffer=True
        )
    else:
        correction = "gate.e_score_correction_bias"
        yield from vector(correction, number, role="router", component="experts", dtype="float32", buffer=True)
    yield from under("experts.{expert}.", feed_forward(s.hidden, width, Mlp(), component="experts", experts=number))
    shared = s.number("n_shared_experts", default=1) * width
    yield from under("shared_experts.", feed_forward(s.hidden, shared, Mlp()), "mlp")


def _draft(s: Sizes, memories: tuple[Memory, ...]) -> Tensors:
    """A prediction layer: two projections of its inputs, norms, a layer, and a fold of its own."""
    yield from linear("e_proj", s.hidden, s.hidden, "other", component="draft")
    yield from linear("h_proj", s.hidden, s.hidden, "other", component="draft")
    for name in ("enorm", "hnorm", "norm"):
        yield from norm(name, s.hidden)
    yield from _layer(s, _compression(memories), hashed=False)
    yield from hyper_head(s)
