"""Models whose checkpoints ship code of their own, as mlx-lm rewrites them.

Sources: mlx-lm 0.32 `models/Klear.py`, `baichuan_m1.py`, `bailing_moe_linear.py`, `lille-130m.py`, `longcat_flash_ngram.py`,
`nanbeige.py`, `plamo3.py`, `spark2_5.py`.
"""

from typing import Final

from kvplan.architectures.parameters.attention import Attention
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, table, under, vector
from kvplan.architectures.parameters.decoder import Names, Row, decoder, head
from kvplan.architectures.parameters.dense import BIASED
from kvplan.architectures.parameters.latent import longcat_layers
from kvplan.architectures.parameters.mlp import Experts, Mlp, sparse_step, typed
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.architectures.parameters.sparse import BAILING
from kvplan.domain.model import Recurrent, Softmax


def _mixed(s: Sizes, memory: Softmax, heads: int) -> Tensors:
    """Baichuan M1: two taps for each KV head, of keys and of values."""
    for name in ("conv_k", "conv_v"):
        yield from vector(name, 1, 1, memory.kv_heads, 1, s.number("conv_window", default=2), component="attention")


def _swa_heads(s: Sizes, layer: int) -> int:
    """Baichuan M1's sliding layers may have query heads of their own."""
    sliding = layer in (s.c.integers("sliding_window_layers") or [])
    return s.number("num_swa_attention_heads", default=s.heads) if sliding else s.heads


def _coefficient(s: Sizes) -> Tensors:
    """Klear: what weighs routed experts against shared ones, and the routers' selection bias."""
    yield from linear("mlp.coefficient", 2, s.hidden, "router", component="experts", bias=True, quantised=False)
    number = s.number("num_experts")
    yield from vector("mlp.expert_bias", number, role="router", component="experts", dtype="float32", buffer=True)


def _klear(s: Sizes, row: Row, layer: int) -> Row:
    return row if sparse_step(s, layer) else row._replace(more=_coefficient)


def _lille(s: Sizes, row: Row, layer: int) -> Row:
    """Lille: the width is eight thirds of the hidden size, to a multiple of 256."""
    return row.with_mlp(exact=256 * round(int(8 * s.hidden / 3) / 256))


def _once(s: Sizes, root: str | None) -> Tensors:
    """Nanbeige: layers that run several times are kept once."""
    s.memories = s.memories[: s.number("num_hidden_layers")]
    yield from decoder(s, ROWS["nanbeige"], root)


def _lightning(s: Sizes, memory: Recurrent) -> Tensors:
    """Ling's linear layers: lightning attention with a gate over groups of the output."""
    heads, dim = memory.states[0].shape[0], memory.states[0].shape[1]
    wide = heads * dim
    parts = [
        *linear("query_key_value", 3 * wide, s.hidden, "qkv", component="mixer", split="column", bias=s.c.flag("use_qkv_bias")),
        *linear("dense", s.hidden, wide, "o", component="mixer", split="row", bias=s.c.flag("use_bias")),
        *linear("g_proj", wide, s.hidden, "ssm_gate", component="mixer", split="column"),
        *norm("g_norm", wide),
    ]
    if s.c.flag("use_qk_norm"):
        parts += [*norm("query_layernorm", dim), *norm("key_layernorm", dim)]
    yield from under("attention.", parts, "mixer")


def _ngrams(s: Sizes, root: str | None) -> Tensors:
    """LongCat with n-grams: tables of the last tokens' numbers, each a little longer than the one before, and projections."""
    prefix = "model." if root is None else root
    vocabulary = s.number("vocab_size")
    neighbours, parts = s.number("emb_neighbor_num", default=4), s.number("emb_split_num", default=4)
    number = max(1, parts * (neighbours - 1))
    yield from table(f"{prefix}ngram_embeddings.word_embeddings", vocabulary, s.hidden)
    rows = s.number("ngram_vocab_size_ratio", default=78) * vocabulary
    for place in range(number):
        name = f"{prefix}ngram_embeddings."
        yield from table(f"{name}embedders.{place}", rows + 2 * place + 1, s.hidden // number)
        yield from linear(f"{name}post_projs.{place}", s.hidden, s.hidden // number, "other", component="embed")
    yield from longcat_layers(s, prefix)
    yield from norm(f"{prefix}norm", s.hidden)
    if not s.tied():
        yield from head(s, Row())


ROWS: Final[dict[str, Row]] = {
    "Klear": Row(
        attention=BIASED._replace(qk_norm="head"), vary=_klear,
        experts=Experts(shared="shared_experts", shared_number=("n_shared_experts",), dense=typed(sparse_step)),
    ),
    "baichuan_m1": Row(
        attention=Attention(fused="W_pack", more=_mixed), heads=_swa_heads,
    ),
    "bailing_moe_linear": BAILING._replace(recurrent=_lightning),
    "lille-130m": Row(
        attention=Attention(prefix="attention", names=("", "", "", "out_proj"), fused="qkv_proj"), mlp=Mlp(prefix="feed_forward"),
        norms=("attention.norm", "feed_forward.norm"), names=Names(root="transformer.", embed="tok_embeddings"), tied=True,
        vary=_lille,
    ),
    "longcat_flash_ngram": Row(),
    "nanbeige": Row(attention=BIASED, mlp=Mlp(bias="mlp_bias")),
    "plamo3": Row(
        attention=Attention(prefix="mixer", fused="qkv_proj", qk_norm="head"),
        mlp=Mlp(fused="gate_up_proj", names=("down_proj",)),
        norms=("pre_mixer_norm", "post_mixer_norm", "pre_mlp_norm", "post_mlp_norm"), names=Names(layers="layers.layers"),
    ),
    "spark2_5": Row(
        attention=Attention(
            names=("", "", "", "out_proj"), fused="q_k_v_proj", qkv_bias="attention_bias", o_bias="attention_bias", gate="head",
            gate_bias="attention_bias",
        ),
        mlp=Mlp(bias="mlp_bias"), names=Names(embed="embedding"),
    ),
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors."""
    if s.model_type == "nanbeige":
        return _once(s, root)
    if s.model_type == "longcat_flash_ngram":
        return _ngrams(s, root)
    return decoder(s, ROWS[s.model_type], root)
