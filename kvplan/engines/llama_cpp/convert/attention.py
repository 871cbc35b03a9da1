"""What llama.cpp's converter writes for architectures whose keys are not plain: other lengths, heads, states.

Source: llama.cpp 0c1e57098, `conversion/*.py`; a builder names its file.
"""

from typing import Final

from kvplan.domain.model import Recurrent, Window
from kvplan.engines.llama_cpp.convert.row import Row, plain
from kvplan.engines.llama_cpp.convert.written import Inconvertible, Written

_FACTOR: Final = 1024  # widths of a feed-forward in widths of the model that no file means


def laguna(w: Written, row: Row) -> None:
    """`laguna.py`: the window and no pattern: llama.cpp lets the first of every four layers see all, whatever the config says."""
    w.attention()
    w.put("attention.sliding_window", w.number("sliding_window") if "sliding_window" in w.config.data else 512)


def chatglm(w: Written, row: Row) -> None:
    """`chatglm.py`: no size of a head, and the model's width where `seq_length` is missing."""
    by_width(w, row)
    w.put("context_length", w.number("seq_length", default=w.keys[f"{w.arch}.embedding_length"]))


def bloom(w: Written, row: Row) -> None:
    """`bloom.py`: the model's width where `seq_length` is missing."""
    w.attention()
    w.put("context_length", w.number("seq_length", default=w.keys[f"{w.arch}.embedding_length"]))


def by_width(w: Written, row: Row) -> None:
    """`chatglm.py`, `qwen.py` (`QwenModel`): no size of a head (`kv_channels` is not read)."""
    w.attention()
    w.by_width()


def phi2(w: Written, row: Row) -> None:
    """`phi.py` (`Phi2Model`): as many KV heads as query heads, whatever the config says."""
    w.attention()
    w.put("attention.head_count_kv", w.model.attention_heads or 0)
    w.put("context_length", w.number("n_positions", "max_position_embeddings", default=2048))


def heads(w: Written, row: Row) -> None:
    """`baichuan.py`, `xverse.py`: KV heads where the config has the key, which the models' own code does not read."""
    w.attention()
    w.put("attention.head_count_kv", w.number("num_key_value_heads", default=w.model.attention_heads or 0))


def plamo(w: Written, row: Row) -> None:
    """`plamo.py`: five KV heads and 4,096 tokens, whatever the config says."""
    w.attention()
    w.put("attention.head_count_kv", 5)


def bailing2(w: Written, row: Row) -> None:
    """`bailingmoe.py`: the second generation has an architecture of its own, and NextN layers."""
    if "BailingMoeV2ForCausalLM" in w.config.names("architectures"):
        w.rename("bailingmoe2")
        count = w.number("num_nextn_predict_layers")
        w.layers = (*w.layers, *w.layers[-1:] * count)
        w.put("block_count", len(w.layers))
        w.put("nextn_predict_layers", count)
    w.attention()


def orion(w: Written, row: Row) -> None:
    """`orion.py`: `max_sequence_length` goes before the other lengths."""
    heads(w, row)
    w.put("context_length", w.number("max_sequence_length", "max_position_embeddings", "model_max_length"))


def mimo(w: Written, row: Row) -> None:
    """`mimo.py`: three prediction layers with the windows' heads, which no config mentions."""
    sliding = next(
        (layer for layer in w.layers if any(isinstance(getattr(m, "reach", None), Window) for m in layer.memories)), None
    )
    if sliding is None:
        raise Inconvertible("it has no sliding layer")
    w.layers = (*w.layers, *(sliding,) * 3)
    w.put("block_count", len(w.layers))
    w.put("nextn_predict_layers", 3)
    w.attention()
    w.window(pattern=True)
    w.put("attention.sliding_window", w.number("sliding_window", "sliding_window_size"))


def cohere(w: Written, row: Row) -> None:
    """`command_r.py`: `model_max_length` is the length that counts."""
    plain(w, row)
    w.put("context_length", w.number("model_max_length", "max_position_embeddings") or w.model.max_tokens or 0)


def hunyuan(w: Written, row: Row) -> None:
    """`hunyuan.py`: dynamic scaling with alpha is written as the 256k that it is meant for."""
    if w.model.model_type == "hunyuan" and "HunYuanMoEV1ForCausalLM" not in w.config.names("architectures"):
        raise Inconvertible("its class is not HunYuanMoEV1ForCausalLM")
    plain(w, row)
    scaling = w.config.section("rope_scaling")
    if scaling.text("type", scaling.text("rope_type")) == "dynamic" and scaling.data.get("alpha"):
        w.put("context_length", 256 * 1024)


def deci(w: Written, row: Row) -> None:
    """`deci.py`: arrays with a 0 where a block has no attention, or no feed-forward."""
    w.attention(zeros=True)
    w.query_zeros()
    blocks, wide = w.config.data.get("block_configs"), w.number("hidden_size")
    forwards = [block.get("ffn") if isinstance(block, dict) else None for block in blocks] if isinstance(blocks, list) else []
    factors = [forward.get("ffn_mult") if isinstance(forward, dict) else None for forward in forwards]
    if len(factors) == len(w.layers):
        known = [factor if isinstance(factor, int | float) and 0 < factor < _FACTOR else 0 for factor in factors]
        w.put("feed_forward_length", [-(-int(2 * factor * wide / 3) // 256) * 256 for factor in known])


def delta(w: Written, row: Row) -> None:
    """`qwen.py` (`Qwen3NextModel`, `_Qwen35Model`): the delta net's sizes under the names of an SSM."""
    if row.drafts:
        w.with_drafts()
    w.delta()


def mamba(w: Written, row: Row) -> None:
    """`mamba.py`: no attention at all."""
    w.put("attention.head_count", 0)
    w.ssm()


def ssm(w: Written, row: Row) -> None:
    """`jamba.py`, `plamo.py` (`Plamo2Model`): heads in the attention layers only."""
    w.attention(zeros=True)
    if row.arch == "plamo2":
        w.query_zeros()
    w.ssm()


def falcon_h1(w: Written, row: Row) -> None:
    """`falcon_h1.py`: attention and a state in every layer."""
    w.attention()
    w.ssm()


def granite(w: Written, row: Row) -> None:
    """`granite.py` (`GraniteHybridModel`): without a Mamba layer it is the plain architecture."""
    if w.recurrent() is None:
        plain = "granitemoe" if w.number("num_local_experts") else "granite"
        w.rename(plain)
        w.put("context_length", w.number("max_position_embeddings") or w.model.max_tokens or 0)
        w.attention()
        return
    w.attention(zeros=True)
    w.ssm()


def nemotron(w: Written, row: Row) -> None:
    """`nemotron.py` (`NemotronHModel`): MLP layers have a width, attention layers heads, Mamba layers neither."""
    if w.number("n_routed_experts", "num_experts_per_tok"):
        w.rename("nemotron_h_moe")
    widths = [0 if layer.memories else 1 for layer in w.layers]
    if w.arch == "nemotron_h_moe" and w.model.drafts:  # attention and MLP of one prediction are one block
        w.with_drafts(w.number("num_nextn_predict_layers", default=1))
        widths += [1] * (len(w.layers) - len(widths))
    w.attention(zeros=True)
    w.put("feed_forward_length", [width * max(w.number("intermediate_size"), 1) for width in widths])
    w.ssm()


def short_conv(w: Written, row: Row) -> None:
    """`lfm2.py`: heads in the attention layers only."""
    w.attention(zeros=True)
    found = w.recurrent()
    w.put("shortconv.l_cache", found.states[0].kernel if found else 0)


def linear(w: Written, row: Row) -> None:
    """`minimax.py`: lightning attention in all but every eighth layer."""
    w.attention()
    w.put("attention.recurrent_layers", [any(isinstance(m, Recurrent) for m in layer.memories) for layer in w.layers])


def rwkv(w: Written, row: Row) -> None:
    """`rwkv.py`: the size of a head; 64 unless the config says."""
    w.put("attention.head_count", 0)
    w.put("wkv.head_size", w.number("head_size", "head_dim", default=64))
    w.put("token_shift_count", 2)


def t5(w: Written, row: Row) -> None:
    """`t5.py`: the encoder's layers are the blocks, whatever the decoder has."""
    layers = w.number("num_layers", default=6)
    w.put("block_count", layers)
    w.put("decoder_block_count", w.number("num_decoder_layers", default=layers))
    heads, size = w.number("num_heads", default=8), w.number("d_kv", default=64)
    w.put("attention.head_count", heads)
    w.put("attention.head_count_kv", heads)
    w.put("attention.key_length", size)
    w.put("attention.value_length", size)
    w.put("context_length", w.number("n_positions", default=512))
