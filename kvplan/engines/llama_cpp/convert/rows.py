"""Model types of hub configs by the GGUF architecture that the converter makes of them, and what each writes.

Source: llama.cpp 0c1e57098, `conversion/*.py`.
"""

from typing import Any, Final

from kvplan.engines.llama_cpp.convert import attention as b
from kvplan.engines.llama_cpp.convert import latent
from kvplan.engines.llama_cpp.convert.row import Row

_MILLION: Final = 2**20  # `add_context_length(2**20)`: recurrent models have no length of their own


def _alike(arch: str, *kinds: str, **more: Any) -> dict[str, Row]:
    return {kind: Row(arch=arch, **more) for kind in kinds}


ROWS: Final[dict[str, Row]] = {
    **_alike("llama", "llama", "mistral", "mixtral", "internlm3", "iquestcoder"),
    **{kind: Row(arch=kind) for kind in (
        "apertus", "arcee", "arctic", "bitnet", "chameleon", "dbrx", "deepseek", "dots1", "ernie4_5", "exaone",
        "gemma", "gpt2", "granite", "granitemoe", "hy_v3", "internlm2", "jais", "jais2", "minicpm", "mpt", "nemotron", "olmo",
        "olmoe", "openelm", "phi3", "phimoe", "qwen2", "qwen3", "seed_oss", "smollm3", "stablelm",
        "starcoder2", "talkie",
    )},
    "granitemoeshared": Row(arch="granitemoe"),
    "bailing_moe": Row(arch="bailingmoe", build=b.bailing2),
    **_alike("chatglm", "chatglm", "glm", build=b.chatglm),
    "qwen": Row(arch="qwen", build=b.by_width),
    "bloom": Row(arch="bloom", build=b.bloom),
    "baichuan": Row(arch="baichuan", build=b.heads),
    "xverse": Row(arch="xverse", build=b.heads),
    "orion": Row(arch="orion", build=b.orion),
    "plamo": Row(arch="plamo", build=b.plamo, context=4096),
    "ernie4_5_moe": Row(arch="ernie4_5-moe"),
    "gpt_bigcode": Row(arch="starcoder"),
    "gpt_neox": Row(arch="gptneox"),
    "gpt-sw3": Row(arch="gpt2"),
    "grok-1": Row(arch="grok"),
    "ministral3": Row(arch="mistral3"),
    # WRAPPER/TEXT where the wrapper decides. Before b7216 `class Mistral3Model(LlamaModel): model_arch = MODEL_ARCH.LLAMA`.
    "mistral3/mistral": Row(arch="mistral3", before=(7216, "llama")),
    "minimax_m2": Row(arch="minimax-m2"),
    **_alike("phi2", "phi", "phi-msft", build=b.phi2),
    "phi4": Row(arch="phi3"),
    "qwen2_moe": Row(arch="qwen2moe"),
    **_alike("qwen2vl", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text"),
    "qwen3_moe": Row(arch="qwen3moe"),
    **_alike("qwen3vl", "qwen3_vl_text", "qwen3_asr/qwen3"),
    **_alike("qwen3vlmoe", "qwen3_vl_moe_text", "qwen3_omni_moe_text"),
    **_alike("glm4", "glm4", "glm4v_text", "glm_ocr_text"),
    **_alike("glm4moe", "glm4_moe", "glm4v_moe_text", "solar_open", drafts=True),
    "paddleocr_vl_text": Row(arch="paddleocr"),
    "cohere": Row(arch="command-r", build=b.cohere),
    "falcon": Row(arch="falcon", context=2048),
    **_alike("hunyuan-dense", "hunyuan_v1_dense", build=b.hunyuan),
    "hunyuan_vl_text": Row(arch="hunyuan_vl"),
    "hrm_text": Row(arch="hrm_text"),
    **_alike("hunyuan-moe", "hunyuan_v1_moe", "hunyuan", build=b.hunyuan),
    **_alike("deci", "deci", "nemotron-nas", build=b.deci),
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
    "laguna": Row(arch="laguna", build=b.laguna),
    "exaone4_5_text": Row(arch="exaone4", window="pattern", drafts=True),
    "exaone_moe": Row(arch="exaone-moe", window="pattern", drafts=True),
    "mimo_v2_flash": Row(arch="mimo2", build=b.mimo, window="pattern"),
    "step3p5": Row(arch="step35", window="pattern", drafts=True),
    **_alike("deepseek2", "deepseek_v2", "deepseek_v3", "kimi_k2", "youtu", build=latent.absorbed),
    "glm4_moe_lite": Row(arch="deepseek2", build=latent.absorbed, drafts=True),
    "minicpm3": Row(arch="minicpm3", build=latent.minicpm3),
    "deepseek_v32": Row(arch="deepseek32", build=latent.dsa, drafts=True),
    "glm_moe_dsa": Row(arch="glm-dsa", build=latent.dsa, drafts=True),
    "mistral4": Row(arch="mistral4", build=latent.absorbed),
    "hy_v4": Row(arch="hy_v4", build=latent.hy4),
    "dots3_note_text": Row(arch="dots3note", build=latent.dots3),
    "glm5_next_text": Row(arch="glm5-next", build=latent.glm5),
    "bailing_hybrid": Row(arch="bailingmoe3", build=latent.bailing),
    "qwen4_exp_text": Row(arch="qwen4exp", build=latent.qwen4),
    "deepseek_v4": Row(arch="deepseek4", build=latent.deepseek4),
    **_alike("minimax-m3", "minimax_m3", "minimax_m3_vl_text", build=latent.msa),
    **_alike("minimax-01", "minimax_text_01", "minimax_m1", build=b.linear),
    "kimi_linear": Row(arch="kimi-linear", build=latent.kda),
    "qwen3_next": Row(arch="qwen3next", build=b.delta),
    "qwen3_5_text": Row(arch="qwen35", build=b.delta, drafts=True),
    "qwen3_5_moe_text": Row(arch="qwen35moe", build=b.delta, drafts=True),
    **_alike("mamba", "mamba", "falcon_mamba", build=b.mamba, context=_MILLION),
    "mamba2": Row(arch="mamba2", build=b.mamba, context=_MILLION),
    "jamba": Row(arch="jamba", build=b.ssm),
    "plamo2": Row(arch="plamo2", build=b.ssm),
    "falcon_h1": Row(arch="falcon-h1", build=b.falcon_h1),
    "granitemoehybrid": Row(arch="granitehybrid", build=b.granite, context=_MILLION),
    "bamba": Row(arch="granitehybrid", build=b.granite),  # with rotary keys, so with its own length
    "nemotron_h": Row(arch="nemotron_h", build=b.nemotron, context=_MILLION),
    "lfm2": Row(arch="lfm2", build=b.short_conv),
    "lfm2_moe": Row(arch="lfm2moe", build=b.short_conv),
    "rwkv6": Row(arch="rwkv6", build=b.rwkv, context=_MILLION),
    "rwkv7": Row(arch="rwkv7", build=b.rwkv, context=_MILLION),
    **_alike("t5", "t5", "mt5", "umt5", build=b.t5),
}  # fmt: skip
