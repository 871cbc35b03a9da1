"""Model types of hub configs by the GGUF architecture that the converter makes of them, and what each writes.

Source: llama.cpp 0c1e57098, `conversion/*.py`; a builder names its file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvplan.gguf import convert_latent as latent
from kvplan.gguf.convert_row import Builder, Row
from kvplan.gguf.written import Inconvertible, Written
from kvplan.model import Recurrent, Shared, Window

_MILLION: Final = 2**20  # `add_context_length(2**20)`: recurrent models have no length of their own


def _alike(arch: str, *kinds: str, **more: object) -> dict[str, Row]:
    return {kind: Row(arch=arch, **more) for kind in (kinds or (arch,))}  # type: ignore[arg-type]


ROWS: Final[dict[str, Row]] = {
    **_alike("llama", "llama", "mistral", "mixtral", "internlm3", "iquestcoder"),
    **{kind: Row(arch=kind) for kind in (
        "apertus", "arcee", "arctic", "bitnet", "chameleon", "dbrx", "deepseek", "dots1", "ernie4_5", "exaone",
        "gemma", "gpt2", "granite", "granitemoe", "hy_v3", "internlm2", "jais", "jais2", "minicpm", "mpt", "nemotron", "olmo",
        "olmoe", "openelm", "phi3", "phimoe", "qwen2", "qwen3", "seed_oss", "smollm3", "stablelm",
        "starcoder2", "talkie",
    )},
    "granitemoeshared": Row(arch="granitemoe"),
    "bailing_moe": Row(arch="bailingmoe", build="bailing2"),
    **_alike("chatglm", "chatglm", "glm", build="chatglm"),
    "qwen": Row(arch="qwen", build="by_width"),
    "bloom": Row(arch="bloom", build="bloom"),
    "baichuan": Row(arch="baichuan", build="heads"),
    "xverse": Row(arch="xverse", build="heads"),
    "orion": Row(arch="orion", build="orion"),
    "plamo": Row(arch="plamo", build="plamo", context=4096),
    "ernie4_5_moe": Row(arch="ernie4_5-moe"),
    "gpt_bigcode": Row(arch="starcoder"),
    "gpt_neox": Row(arch="gptneox"),
    "gpt-sw3": Row(arch="gpt2"),
    "grok-1": Row(arch="grok"),
    **_alike("mistral3", "ministral3", "mistral3/mistral"),  # WRAPPER/TEXT where the wrapper decides
    "minimax_m2": Row(arch="minimax-m2"),
    **_alike("phi2", "phi", "phi-msft", build="phi2"),
    "phi4": Row(arch="phi3"),
    "qwen2_moe": Row(arch="qwen2moe"),
    **_alike("qwen2vl", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text"),
    "qwen3_moe": Row(arch="qwen3moe"),
    **_alike("qwen3vl", "qwen3_vl_text", "qwen3_asr/qwen3"),
    **_alike("qwen3vlmoe", "qwen3_vl_moe_text", "qwen3_omni_moe_text"),
    **_alike("glm4", "glm4", "glm4v_text", "glm_ocr_text"),
    **_alike("glm4moe", "glm4_moe", "glm4v_moe_text", "solar_open", drafts=True),
    "paddleocr_vl_text": Row(arch="paddleocr"),
    "cohere": Row(arch="command-r", build="cohere"),
    "falcon": Row(arch="falcon", context=2048),
    **_alike("hunyuan-dense", "hunyuan_v1_dense", build="hunyuan"),
    "hunyuan_vl_text": Row(arch="hunyuan_vl"),
    "hrm_text": Row(arch="hrm_text"),
    **_alike("hunyuan-moe", "hunyuan_v1_moe", "hunyuan", build="hunyuan"),
    **_alike("deci", "deci", "nemotron-nas", build="deci"),
    "gemma2": Row(arch="gemma2", window="size"),
    "gemma3_text": Row(arch="gemma3", window="size"),
    "cohere2": Row(arch="cohere2", window="size"),
    "gpt_oss": Row(arch="gpt-oss", window="size"),
    "llama4_text": Row(arch="llama4"),
    **_alike("olmo2", "olmo2", "olmo3", window="pattern"),
    **{kind: Row(arch=arch, window="pattern") for kind, arch in (
        ("gemma3n_text", "gemma3n"), ("gemma4_text", "gemma4"), ("gemma4_unified_text", "gemma4"),
        ("exaone4", "exaone4"),
        ("cohere2_moe", "cohere2moe"), ("afmoe", "afmoe"), ("mellum", "mellum"),
        ("muse_glimmer_text", "muse-glimmer"), ("granite_swa", "granite_swa"), ("granitemoe_swa", "granite_swa"),
        ("spark2_5", "spark2_5"),
    )},
    "laguna": Row(arch="laguna", build="laguna"),
    "exaone4_5_text": Row(arch="exaone4", window="pattern", drafts=True),
    "exaone_moe": Row(arch="exaone-moe", window="pattern", drafts=True),
    "mimo_v2_flash": Row(arch="mimo2", build="mimo", window="pattern"),
    "step3p5": Row(arch="step35", window="pattern"),
    **_alike("deepseek2", "deepseek_v2", "deepseek_v3", "kimi_k2", "youtu", build="absorbed"),
    "glm4_moe_lite": Row(arch="deepseek2", build="absorbed", drafts=True),
    "minicpm3": Row(arch="minicpm3", build="minicpm3"),
    "deepseek_v32": Row(arch="deepseek32", build="dsa", drafts=True),
    "glm_moe_dsa": Row(arch="glm-dsa", build="dsa", drafts=True),
    "mistral4": Row(arch="mistral4", build="absorbed"),
    "hy_v4": Row(arch="hy_v4", build="hy4"),
    "dots3_note_text": Row(arch="dots3note", build="dots3"),
    "glm5_next_text": Row(arch="glm5-next", build="glm5"),
    "bailing_hybrid": Row(arch="bailingmoe3", build="bailing"),
    "qwen4_exp_text": Row(arch="qwen4exp", build="qwen4"),
    "deepseek_v4": Row(arch="deepseek4", build="deepseek4"),
    **_alike("minimax-m3", "minimax_m3", "minimax_m3_vl_text", build="msa"),
    **_alike("minimax-01", "minimax_text_01", "minimax_m1", build="linear"),
    "kimi_linear": Row(arch="kimi-linear", build="kda"),
    "qwen3_next": Row(arch="qwen3next", build="delta"),
    "qwen3_5_text": Row(arch="qwen35", build="delta", drafts=True),
    "qwen3_5_moe_text": Row(arch="qwen35moe", build="delta", drafts=True),
    **_alike("mamba", "mamba", "falcon_mamba", build="mamba", context=_MILLION),
    "mamba2": Row(arch="mamba2", build="mamba", context=_MILLION),
    "jamba": Row(arch="jamba", build="ssm"),
    "plamo2": Row(arch="plamo2", build="ssm"),
    "falcon_h1": Row(arch="falcon-h1", build="falcon_h1"),
    "granitemoehybrid": Row(arch="granitehybrid", build="granite", context=_MILLION),
    "bamba": Row(arch="granitehybrid", build="granite"),  # with rotary keys, so with its own length
    "nemotron_h": Row(arch="nemotron_h", build="nemotron", context=_MILLION),
    "lfm2": Row(arch="lfm2", build="short_conv"),
    "lfm2_moe": Row(arch="lfm2moe", build="short_conv"),
    "rwkv6": Row(arch="rwkv6", build="rwkv", context=_MILLION),
    "rwkv7": Row(arch="rwkv7", build="rwkv", context=_MILLION),
    **_alike("t5", "t5", "mt5", "umt5", build="t5"),
}  # fmt: skip


def _plain(w: Written, row: Row) -> None:
    if row.drafts:
        w.with_drafts()
    w.attention()
    if row.window:
        w.window(pattern=row.window == "pattern")
    if row.arch == "gemma4":  # `gemma.py`: the last layers read earlier ones
        w.put("attention.shared_kv_layers", sum(any(isinstance(m, Shared) for m in layer.memories) for layer in w.layers))


def _laguna(w: Written, row: Row) -> None:
    """`laguna.py`: the window and no pattern: llama.cpp lets the first of every four layers see all, whatever the config says."""
    w.attention()
    w.put("attention.sliding_window", w.number("sliding_window") if "sliding_window" in w.config else 512)


def _chatglm(w: Written, row: Row) -> None:
    """`chatglm.py`: no size of a head, and the model's width where `seq_length` is missing."""
    _by_width(w, row)
    w.put("context_length", w.number("seq_length", default=w.keys[f"{w.arch}.embedding_length"]))


def _bloom(w: Written, row: Row) -> None:
    """`bloom.py`: the model's width where `seq_length` is missing."""
    w.attention()
    w.put("context_length", w.number("seq_length", default=w.keys[f"{w.arch}.embedding_length"]))


def _by_width(w: Written, row: Row) -> None:
    """`chatglm.py`, `qwen.py` (`QwenModel`): no size of a head (`kv_channels` is not read)."""
    w.attention()
    w.by_width()


def _phi2(w: Written, row: Row) -> None:
    """`phi.py` (`Phi2Model`): as many KV heads as query heads, whatever the config says."""
    w.attention()
    w.put("attention.head_count_kv", w.model.attention_heads or 0)
    w.put("context_length", w.number("n_positions", "max_position_embeddings", default=2048))


def _heads(w: Written, row: Row) -> None:
    """`baichuan.py`, `xverse.py`: KV heads where the config has the key, which the models' own code does not read."""
    w.attention()
    w.put("attention.head_count_kv", w.number("num_key_value_heads", default=w.model.attention_heads or 0))


def _plamo(w: Written, row: Row) -> None:
    """`plamo.py`: five KV heads and 4,096 tokens, whatever the config says."""
    w.attention()
    w.put("attention.head_count_kv", 5)


def _bailing2(w: Written, row: Row) -> None:
    """`bailingmoe.py`: the second generation has an architecture of its own, and NextN layers."""
    if "BailingMoeV2ForCausalLM" in (w.config.get("architectures") or ()):
        w.rename("bailingmoe2")
        count = w.number("num_nextn_predict_layers")
        w.layers = (*w.layers, *w.layers[-1:] * count)
        w.put("block_count", len(w.layers))
        w.put("nextn_predict_layers", count)
    w.attention()


def _orion(w: Written, row: Row) -> None:
    """`orion.py`: `max_sequence_length` goes before the other lengths."""
    _heads(w, row)
    w.put("context_length", w.number("max_sequence_length", "max_position_embeddings", "model_max_length"))


def _mimo(w: Written, row: Row) -> None:
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


def _cohere(w: Written, row: Row) -> None:
    """`command_r.py`: `model_max_length` is the length that counts."""
    _plain(w, row)
    w.put("context_length", w.number("model_max_length", "max_position_embeddings") or w.model.max_tokens or 0)


def _hunyuan(w: Written, row: Row) -> None:
    """`hunyuan.py`: dynamic scaling with alpha is written as the 256k that it is meant for."""
    if w.model.model_type == "hunyuan" and "HunYuanMoEV1ForCausalLM" not in (w.config.get("architectures") or ()):
        raise Inconvertible("its class is not HunYuanMoEV1ForCausalLM")
    _plain(w, row)
    scaling = w.config.get("rope_scaling") or {}
    if isinstance(scaling, dict) and scaling.get("type", scaling.get("rope_type")) == "dynamic" and scaling.get("alpha"):
        w.put("context_length", 256 * 1024)


def _deci(w: Written, row: Row) -> None:
    """`deci.py`: arrays with a 0 where a block has no attention."""
    w.attention(zeros=True)
    w.query_zeros()


def _delta(w: Written, row: Row) -> None:
    """`qwen.py` (`Qwen3NextModel`, `_Qwen35Model`): the delta net's sizes under the names of an SSM."""
    if row.drafts:
        w.with_drafts()
    w.delta()


def _mamba(w: Written, row: Row) -> None:
    """`mamba.py`: no attention at all."""
    w.put("attention.head_count", 0)
    w.ssm()


def _ssm(w: Written, row: Row) -> None:
    """`jamba.py`, `plamo.py` (`Plamo2Model`): heads in the attention layers only."""
    w.attention(zeros=True)
    if row.arch == "plamo2":
        w.query_zeros()
    w.ssm()


def _falcon_h1(w: Written, row: Row) -> None:
    """`falcon_h1.py`: attention and a state in every layer."""
    w.attention()
    w.ssm()


def _granite(w: Written, row: Row) -> None:
    """`granite.py` (`GraniteHybridModel`): without a Mamba layer it is the plain architecture."""
    if w.recurrent() is None:
        plain = "granitemoe" if w.number("num_local_experts") else "granite"
        w.rename(plain)
        w.put("context_length", w.number("max_position_embeddings") or w.model.max_tokens or 0)
        w.attention()
        return
    w.attention(zeros=True)
    w.ssm()


def _nemotron(w: Written, row: Row) -> None:
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


def _short_conv(w: Written, row: Row) -> None:
    """`lfm2.py`: heads in the attention layers only."""
    w.attention(zeros=True)
    found = w.recurrent()
    w.put("shortconv.l_cache", found.states[0].kernel if found else 0)


def _linear(w: Written, row: Row) -> None:
    """`minimax.py`: lightning attention in all but every eighth layer."""
    w.attention()
    w.put("attention.recurrent_layers", [any(isinstance(m, Recurrent) for m in layer.memories) for layer in w.layers])


def _rwkv(w: Written, row: Row) -> None:
    """`rwkv.py`: the size of a head; 64 unless the config says."""
    w.put("attention.head_count", 0)
    w.put("wkv.head_size", w.number("head_size", "head_dim", default=64))
    w.put("token_shift_count", 2)


def _t5(w: Written, row: Row) -> None:
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


BUILDERS: Final[dict[Builder, Callable[[Written, Row], None]]] = {
    "plain": _plain, "cohere": _cohere, "hunyuan": _hunyuan, "deci": _deci, "laguna": _laguna, "by_width": _by_width,
    "chatglm": _chatglm, "bloom": _bloom, "phi2": _phi2, "orion": _orion, "heads": _heads,
    "plamo": _plamo, "bailing2": _bailing2, "mimo": _mimo, "t5": _t5,
    "delta": _delta, "mamba": _mamba, "ssm": _ssm, "falcon_h1": _falcon_h1, "granite": _granite, "nemotron": _nemotron,
    "short_conv": _short_conv, "linear": _linear, "rwkv": _rwkv,
    "absorbed": latent.absorbed, "minicpm3": latent.minicpm3, "dsa": latent.dsa, "msa": latent.msa, "kda": latent.kda,
    "deepseek4": latent.deepseek4, "dots3": latent.dots3, "hy4": latent.hy4, "qwen4": latent.qwen4, "glm5": latent.glm5,
    "bailing": latent.bailing,
}  # fmt: skip
