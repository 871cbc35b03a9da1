"""Plain decoders: every layer keeps keys and values of the same heads; only key names and class defaults differ.

One row a model type. Source: the `configuration_*.py` of each in transformers 5.23 (class defaults), or the
remote code that ships with the checkpoint where the library has none. A config of one of these that does name a
`sliding_window` or `layer_types` is taken at its word, as the library's cache does (`get_layer_types_and_kwargs`).
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import DERIVED, GPT, MHA, STANDARD, Names, Row, read_row
from kvplan.architectures.kit.shapes import Decoder

_BERT: Final = Row(12, 12, 768, names=MHA)
_GPT2: Final = Row(12, 12, 768, names=GPT)
_LLAMA: Final = Row(32, 32, 4096, rejects="r")
_GRANITE: Final = Row(32, 32, 4096)
_NUM_LAYERS: Final = STANDARD._replace(layers=("num_layers", "num_hidden_layers"))
_GROUPS: Final = STANDARD._replace(kv_heads=("num_key_value_heads", "num_attention_groups"))
_KOSMOS: Final = Names(
    ("layers", "num_hidden_layers"), ("attention_heads", "num_attention_heads"), (), (), ("embed_dim", "hidden_size")
)

#: Classes of the library.
_LIBRARY: Final[dict[str, Row]] = {
    "apertus": _GRANITE,
    "arcee": Row(32, 32, 2560, rejects="r"),
    "aria_text": _LLAMA,
    "bert": _BERT,
    "bert-generation": Row(24, 16, 1024, names=MHA),
    "big_bird": _BERT,
    "biogpt": Row(24, 16, 1024, names=MHA),
    "bitnet": Row(30, 20, 2560, 5),
    "bloom": Row(
        2,
        8,
        64,
        names=Names(("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads"), (), (), ("hidden_size", "n_embed")),
    ),
    "camembert": _BERT,
    "chameleon": Row(32, 32, 4096, 32, rejects="k", names=DERIVED),
    "codegen": Row(28, 16, 4096, names=GPT),
    "cohere": Row(40, 64, 8192),
    "cosmos3_edge_text": Row(28, 16, 2048, 8, 128, rejects="dr"),
    "cpmant": Row(48, 32, 4096, head_dim=128, names=MHA._replace(head_dim=("dim_head",))),
    "csm": Row(16, 32, 2048, 8),
    "ctrl": Row(48, 16, 1280, names=GPT),
    "data2vec-text": _BERT,
    "deepseek_ocr2_text": _LLAMA._replace(names=DERIVED),
    "diffllama": Row(16, 32, 2048),
    "electra": Row(12, 4, 256, names=MHA),
    "emu3_text_model": Row(32, 32, 4096, 8, rejects="kr"),
    "ernie": _BERT,
    "ernie4_5": Row(18, 16, 1024, 2, 128),
    "ernie4_5_moe": Row(28, 20, 2560, 4, rejects="k"),
    "ernie4_5_vl_moe_text": Row(28, 20, 2560, 4, rejects="k"),
    "evolla": Row(32, 32, 4096, 8, rejects="kr"),
    "flex_olmo": _GRANITE,
    "gemma": Row(28, 16, 3072, 16, 256, rejects="kd"),
    "git": Row(6, 12, 768, names=MHA),
    "glm": Row(40, 32, 4096, 2, 128, rejects="k"),
    "glm4": Row(40, 32, 4096, 2, 128, rejects="kd"),
    "glm4_moe": Row(46, 96, 4096, 8, rejects="k", drafts=1),
    "glm4v_moe_text": Row(46, 96, 4096, 8, rejects="k"),
    "glm4v_text": Row(40, 32, 4096, 2, names=DERIVED),
    "glm_ocr_text": Row(16, 16, 1024, 8, rejects="k"),
    "gpt-sw3": _GPT2,
    "gpt2": _GPT2,
    "gpt_neox": Row(44, 64, 6144, names=MHA),
    "gpt_neox_japanese": Row(32, 32, 2560, names=MHA),
    "gptj": Row(28, 16, 4096, names=GPT),
    "gradium_phonon_tts": Row(6, 12, 768, rejects="r"),
    "granite": _GRANITE,
    "granite4_vision_text": _GRANITE,
    "granite_docling_text": Row(28, 16, 1024, 4, rejects="r"),
    "granitemoe": _GRANITE,
    "granitemoeshared": _GRANITE,
    "helium": Row(24, 20, 2560, 20, 128, rejects="kd"),
    "higgs_audio_v2": Row(28, 24, 3072, 8, 128, rejects="kr"),
    "hy_v3": Row(80, 64, 4096, 8, 128, rejects="kd"),
    "hyperclovax": _LLAMA,
    "idefics": Row(32, 32, 4096, names=MHA),
    "internlm3": Row(48, 32, 4096, 2, 128, rejects="r"),
    "iquestcoder": Row(80, 40, 5120, 8, 128, rejects="r"),
    "jais2": Row(32, 26, 3328, rejects="r"),
    "kosmos_2_5_text_model": Row(24, 16, 1536, names=_KOSMOS),
    "kosmos_2_text_model": Row(24, 32, 2048, names=_KOSMOS),
    "llama": _LLAMA,
    "megatron-bert": Row(24, 16, 1024, names=MHA),
    "molmo2_text": Row(36, 32, 4096, 8, 128, rejects="kd"),
    "musicgen_melody_decoder": Row(24, 16, 1024, names=MHA),
    "nanochat": Row(12, 6, 768),
    "nemotron": Row(32, 48, 6144),
    "olmo": _GRANITE,
    "olmo2": _GRANITE,
    "olmoe": Row(16, 16, 2048),
    "openai-gpt": _GPT2,
    "opt": _BERT,
    "paddleocr_vl_text": Row(18, 16, 1024, 2, 128, rejects="r"),
    "persimmon": Row(36, 64, 4096, names=MHA),
    "phi": Row(24, 32, 2048),
    "pocket_tts": Row(6, 16, 1024, rejects="r"),
    "qwen3_vl_text": Row(32, 32, 4096, 32, 128, rejects="d"),
    "rembert": Row(32, 18, 1152, names=MHA),
    "roberta": _BERT,
    "roberta-prelayernorm": _BERT,
    "roc_bert": _BERT,
    "roformer": _BERT,
    "seed_oss": Row(64, 80, 4096, 8, 128, rejects="d"),
    "solar_open": Row(48, 64, 4096, 8, 128, rejects="kd"),
    "stablelm": Row(32, 32, 2560, 32, rejects="k", names=DERIVED),
    "xglm": Row(
        24,
        16,
        1024,
        names=Names(
            ("num_layers", "num_hidden_layers"), ("attention_heads", "num_attention_heads"), (), (), ("d_model", "hidden_size")
        ),
    ),
    "xlm": Row(
        12,
        16,
        2048,
        names=Names(("n_layers", "num_hidden_layers"), ("n_heads", "num_attention_heads"), (), (), ("emb_dim", "hidden_size")),
    ),
    "xlm-roberta": _BERT,
    "xlm-roberta-xl": Row(36, 32, 2560, names=MHA),
    "xmod": _BERT,
}

#: Classes that ship with their checkpoints, or that other engines know: defaults as in that code.
_REMOTE: Final[dict[str, Row]] = {
    "aquila": _LLAMA,
    "arctic": _LLAMA,
    "baichuan": Row(32, 32, 4096, names=MHA),
    "bailing_moe": Row(28, 16, 2048),
    "deepseek": Row(30, 32, 4096),
    "exaone": Row(32, 32, 4096, names=_NUM_LAYERS),
    "grok-1": Row(64, 48, 6144, 8, 128),
    "internlm": Row(32, 32, 4096),
    "internlm2": _LLAMA,
    "jais": _GPT2,
    "minicpm": _LLAMA,
    "mixformer-sequential": _GPT2,
    "orion": Row(40, 40, 5120, 40),
    "phi-msft": Row(24, 32, 2048, names=GPT._replace(kv_heads=("n_head_kv",))),
    "phi3small": Row(32, 32, 4096, 8),
    "qwen": Row(32, 32, 4096, head_dim=128, names=MHA._replace(head_dim=("kv_channels",))),
    "skywork": _LLAMA,
    "stablelm_epoch": Row(32, 32, 2560, names=DERIVED),
    "step3_text": Row(61, 64, 7168, 1, 256, names=_GROUPS),
    "talkie": Row(40, 40, 5120, head_dim=128, names=MHA._replace(head_dim=("head_dim",))),
    "telechat": Row(30, 32, 4096, names=GPT._replace(kv_heads=("num_key_value_heads",), hidden=("hidden_size", "n_embed"))),
    "telechat3": _LLAMA,
    "xverse": Row(32, 32, 4096, names=MHA),
    "Yi": _LLAMA,
}
ROWS: Final[dict[str, Row]] = {**_LIBRARY, **_REMOTE}


def read(c: Config, model_type: str) -> Decoder:
    """The same attention in every layer."""
    return read_row(c, ROWS[model_type])
