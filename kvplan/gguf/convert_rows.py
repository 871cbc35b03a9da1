"""Model types of hub configs by the GGUF architecture that the converter makes of them, and what each writes.

Source: llama.cpp 0c1e57098, `conversion/*.py`; a builder names its file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from kvplan.gguf.written import Inconvertible, Written
from kvplan.model import Compressed, Index, Recurrent, Shared, Softmax, Window
from kvplan.records import dataclass

Builder = Literal[
    "plain", "absorbed", "minicpm3", "dsa", "deepseek4", "kda", "mamba", "ssm", "delta", "falcon_h1", "granite", "nemotron",
    "short_conv", "linear", "cohere", "hunyuan", "t5", "deci", "rwkv", "msa", "mimo",
]  # fmt: skip
_MILLION: Final = 2**20  # `add_context_length(2**20)`: recurrent models have no length of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model type: its GGUF architecture and how its keys are written."""

    arch: str
    build: Builder = "plain"
    window: Literal["", "size", "pattern"] = ""  # what is written about sliding layers
    drafts: bool = False  # NextN layers become blocks
    context: int = 0  # tokens, where the converter writes a constant


def _alike(arch: str, *kinds: str, **more: object) -> dict[str, Row]:
    return {kind: Row(arch=arch, **more) for kind in (kinds or (arch,))}  # type: ignore[arg-type]


ROWS: Final[dict[str, Row]] = {
    **_alike("llama", "llama", "mistral", "mixtral", "internlm3", "iquestcoder"),
    **{kind: Row(arch=kind) for kind in (
        "apertus", "arcee", "arctic", "baichuan", "bitnet", "bloom", "dbrx", "deepseek", "dots1", "ernie4_5", "exaone",
        "gemma", "gpt2", "granite", "granitemoe", "hy_v3", "internlm2", "jais", "jais2", "minicpm", "mpt", "nemotron", "olmo",
        "olmoe", "openelm", "orion", "phi3", "phimoe", "plamo", "qwen", "qwen2", "qwen3", "seed_oss", "smollm3", "stablelm",
        "starcoder2", "talkie", "xverse",
    )},
    "granitemoeshared": Row(arch="granitemoe"),
    "bailing_moe": Row(arch="bailingmoe"),
    "chatglm": Row(arch="chatglm"),
    "glm": Row(arch="chatglm"),
    "ernie4_5_moe": Row(arch="ernie4_5-moe"),
    "gpt_bigcode": Row(arch="starcoder"),
    "gpt_neox": Row(arch="gptneox"),
    "grok-1": Row(arch="grok"),
    "ministral3": Row(arch="mistral3"),
    "minimax_m2": Row(arch="minimax-m2"),
    "phi": Row(arch="phi2"),
    "phi-msft": Row(arch="phi2"),
    "qwen2_moe": Row(arch="qwen2moe"),
    **_alike("qwen2vl", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text"),
    "qwen3_moe": Row(arch="qwen3moe"),
    "qwen3_vl_text": Row(arch="qwen3vl"),
    **_alike("qwen3vlmoe", "qwen3_vl_moe_text", "qwen3_omni_moe_text"),
    **_alike("glm4", "glm4", "glm4v_text", "glm_ocr_text"),
    **_alike("glm4moe", "glm4_moe", "glm4v_moe_text", "solar_open", drafts=True),
    "paddleocr_vl_text": Row(arch="paddleocr"),
    "cohere": Row(arch="command-r", build="cohere"),
    "falcon": Row(arch="falcon", context=2048),
    **_alike("hunyuan-dense", "hunyuan_v1_dense", build="hunyuan"),
    **_alike("hunyuan-moe", "hunyuan_v1_moe", build="hunyuan"),
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
        ("cohere2_moe", "cohere2moe"), ("afmoe", "afmoe"), ("laguna", "laguna"), ("mellum", "mellum"),
        ("muse_glimmer_text", "muse-glimmer"), ("granite_swa", "granite_swa"), ("spark2_5", "spark2_5"),
    )},
    "exaone4_5_text": Row(arch="exaone4", window="pattern", drafts=True),
    "exaone_moe": Row(arch="exaone-moe", window="pattern", drafts=True),
    "mimo_v2_flash": Row(arch="mimo2", build="mimo", window="pattern"),
    "step3p5": Row(arch="step35", window="pattern"),
    **_alike("deepseek2", "deepseek_v2", "deepseek_v3", "kimi_k2", "glm4_moe_lite", build="absorbed"),
    "minicpm3": Row(arch="minicpm3", build="minicpm3"),
    "deepseek_v32": Row(arch="deepseek32", build="dsa", drafts=True),
    "glm_moe_dsa": Row(arch="glm-dsa", build="dsa", drafts=True),
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
    **_alike("granitehybrid", "granitemoehybrid", "bamba", build="granite", context=_MILLION),
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


def _cohere(w: Written, row: Row) -> None:
    """`command_r.py`: `model_max_length` is the length that counts."""
    _plain(w, row)
    w.put("context_length", w.number("model_max_length", "max_position_embeddings") or w.model.max_tokens or 0)


def _hunyuan(w: Written, row: Row) -> None:
    """`hunyuan.py`: dynamic scaling with alpha is written as the 256k that it is meant for."""
    _plain(w, row)
    scaling = w.config.get("rope_scaling") or {}
    if isinstance(scaling, dict) and scaling.get("type", scaling.get("rope_type")) == "dynamic" and scaling.get("alpha"):
        w.put("context_length", 256 * 1024)


def _deci(w: Written, row: Row) -> None:
    """`deci.py`: arrays with a 0 where a block has no attention."""
    w.attention(zeros=True)
    w.query_zeros()


def _absorbed(w: Written, row: Row) -> None:
    """`deepseek.py`, `DeepseekV2Model`: one head of rank + rope; the MTP layer is dropped."""
    w.absorbed()


def _minicpm3(w: Written, row: Row) -> None:
    """`minicpm.py`, `MiniCPM3Model`: every head's keys; the value size is left to its default, width / heads."""
    latent = w.latent()
    w.put("attention.head_count_kv", w.number("num_key_value_heads", default=latent.heads))
    w.put("attention.key_length", latent.nope_dim + latent.rope_dim)


def _dsa(w: Written, row: Row) -> None:
    """`deepseek.py` (`DeepseekV32Model`), `glm.py` (`GlmMoeDsaModel`): latent attention and an indexer."""
    w.with_drafts()
    w.absorbed()
    dims = {m.dim for layer in w.layers for m in layer.memories if isinstance(m, Index)}
    if len(dims) != 1:
        raise Inconvertible("its indexers differ between layers" if dims else "it has no indexer")
    w.put("attention.indexer.key_length", dims.pop())
    if row.arch == "glm-dsa":
        w.put("attention.indexer.types", list(w.indexed()[: len(w.model.layers)]))


def _msa(w: Written, row: Row) -> None:
    """`minimax.py`: an indexer on the layers after the dense ones."""
    w.attention()
    dims = {m.dim * m.heads for layer in w.layers for m in layer.memories if isinstance(m, Index)}
    if len(dims) != 1:
        raise Inconvertible("its indexers differ between layers" if dims else "it has no indexer")
    first = w.indexed().index(True)
    if not all(w.indexed()[first:]):
        raise Inconvertible("its indexed layers are not the last ones")
    w.put("attention.indexer.key_length", dims.pop())
    w.put("leading_dense_block_count", first)


def _deepseek4(w: Written, row: Row) -> None:
    """`deepseek.py` (`DeepseekV4Model`): compression ratios by layer; the MTP layer is dropped."""
    w.attention()
    w.put("attention.value_length", w.keys[f"{w.arch}.attention.key_length"])
    w.window(pattern=False)
    ratios = []
    for layer in w.layers:
        found = [m.reach.ratio for m in layer.memories if isinstance(m, Softmax) and isinstance(m.reach, Compressed)]
        ratios.append(found[0] if found else 0)
    w.put("attention.compress_ratios", ratios)
    dims = {m.dim for layer in w.layers for m in layer.memories if isinstance(m, Index)}
    w.put("attention.indexer.key_length", dims.pop() if dims else 0)
    width = w.number("hidden_size", default=4096)
    w.put("embedding_length_out", width * w.number("hc_mult", default=4))


def _kda(w: Written, row: Row) -> None:
    """`kimi_linear.py`, `kimi_k3.py`: no heads in KDA layers; Kimi Linear leaves the value size to `head_dim`."""
    if w.model.model_type == "kimi_k3":
        w.keys = {key.replace("kimi-linear.", "kimi-k3.", 1): value for key, value in w.keys.items()}
        w.arch = w.keys["general.architecture"] = "kimi-k3"
    w.absorbed()
    w.kv_zeros(1)
    if w.arch == "kimi-linear":
        width = w.number("hidden_size")
        w.put("attention.value_length", w.number("head_dim") or width // max(w.model.attention_heads or 1, 1))
    found = w.recurrent()
    if found is None:
        raise Inconvertible("it has no KDA layer")
    conv = next(s for s in found.states if s.kernel)
    state = next(s for s in found.states if not s.kernel)
    w.put("kda.head_dim", state.shape[-1])
    w.put("ssm.conv_kernel", conv.kernel)


def _delta(w: Written, row: Row) -> None:
    """`qwen.py` (`Qwen3NextModel`, `_Qwen35Model`): the delta net's sizes under the names of an SSM."""
    if row.drafts:
        w.with_drafts()
    w.attention()
    w.ssm(state_axis=1)
    recurs = [any(isinstance(m, Recurrent) for m in layer.memories) for layer in w.layers]
    w.put("full_attention_interval", w.number("full_attention_interval", default=4))
    w.put("attention.recurrent_layers", recurs)


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
        w.keys = {key.replace("granitehybrid.", f"{plain}.", 1): value for key, value in w.keys.items()}
        w.arch = w.keys["general.architecture"] = plain
        w.put("context_length", w.number("max_position_embeddings") or w.model.max_tokens or 0)
        w.attention()
        return
    w.attention(zeros=True)
    w.ssm()


def _nemotron(w: Written, row: Row) -> None:
    """`nemotron.py` (`NemotronHModel`): MLP layers have a width, attention layers heads, Mamba layers neither."""
    if w.number("n_routed_experts", "num_experts_per_tok"):
        w.keys = {key.replace("nemotron_h.", "nemotron_h_moe.", 1): value for key, value in w.keys.items()}
        w.arch = w.keys["general.architecture"] = "nemotron_h_moe"
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


BUILDERS: Final[dict[str, Callable[[Written, Row], None]]] = {
    "plain": _plain, "absorbed": _absorbed, "minicpm3": _minicpm3, "dsa": _dsa, "deepseek4": _deepseek4, "kda": _kda,
    "mamba": _mamba, "ssm": _ssm, "delta": _delta, "falcon_h1": _falcon_h1, "granite": _granite, "nemotron": _nemotron,
    "short_conv": _short_conv, "linear": _linear, "cohere": _cohere, "hunyuan": _hunyuan, "t5": _t5, "deci": _deci,
    "rwkv": _rwkv, "msa": _msa, "mimo": _mimo,
}  # fmt: skip
