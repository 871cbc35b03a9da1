"""T5Gemma: an encoder and a decoder of Gemma's layers, each under a section of its own.

Source: transformers 5.23 `modeling_t5gemma.py`. T5Gemma 2, whose decoder attends to both at once, is not counted.
"""

from typing import Final

from kvplan.architectures import reader_of
from kvplan.architectures.parameters.attention import Attention, attention
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, over_layers, table, under
from kvplan.architectures.parameters.mlp import Mlp, mlp
from kvplan.architectures.parameters.sizes import Sizes, part
from kvplan.domain.model import Softmax

_BIASED: Final = Attention(qkv_bias="attention_bias", o_bias="attention_bias")
ROWS: Final[dict[str, Attention]] = {"t5_gemma_module": _BIASED}


def read(s: Sizes, root: str | None = None) -> Tensors:
    """Both halves, and the head where it is not the decoder's table."""
    found = part(s.outer, "t5gemma", "encoder")
    prefix, width = "model.", s.hidden
    if found is not None:
        encoder = Sizes(found[0], s.outer, reader_of(found[1]).read(found[0]), found[1])
        width = encoder.hidden
        yield from under(f"{prefix}encoder.", _half(encoder, cross=0), "encoder")
    yield from under(f"{prefix}decoder.", _half(s, cross=width))
    if not s.tied(True):
        yield from linear("lm_head.out_proj", s.number("vocab_size"), s.hidden, "head", component="head", split="vocab")


def _half(s: Sizes, *, cross: int) -> Tensors:
    yield from table("embed_tokens", s.number("vocab_size"), s.hidden)
    yield from norm("norm", s.hidden)
    yield from over_layers("layers", [0] * s.layers, lambda _: _layer(s, cross=cross))


def _layer(s: Sizes, *, cross: int) -> Tensors:
    memory = s.need(0, Softmax)
    yield from attention(s, _BIASED, memory)
    for name in ("pre_self_attn_layernorm", "post_self_attn_layernorm"):
        yield from norm(name, s.hidden)
    yield from mlp(s, Mlp())
    for name in ("pre_feedforward_layernorm", "post_feedforward_layernorm"):
        yield from norm(name, s.hidden)
    if cross:
        yield from under("cross_attn.", _cross(s, memory, cross), "attention")
        for name in ("pre_cross_attn_layernorm", "post_cross_attn_layernorm"):
            yield from norm(name, s.hidden)


def _cross(s: Sizes, memory: Softmax, width: int) -> Tensors:
    """Attention over the encoder's output, which may have another width."""
    heads, kv, dim = s.heads, memory.kv_heads, memory.key_dim
    bias = s.c.flag("attention_bias")
    yield from linear("q_proj", heads * dim, s.hidden, "q", component="attention", split="column", units=heads, bias=bias)
    yield from linear("k_proj", kv * dim, width, "k", component="attention", split="column", units=kv, bias=bias)
    yield from linear("v_proj", kv * dim, width, "v", component="attention", split="column", units=kv, bias=bias)
    yield from linear("o_proj", s.hidden, heads * dim, "o", component="attention", split="row", bias=bias)
