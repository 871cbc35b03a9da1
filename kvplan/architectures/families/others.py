"""The long tail: decoders of which there is one or two, plain or with a window, and a few that count in their own way.

Sources: `configuration_*.py` of each in transformers 5.23, or the remote code that ships with the checkpoint where the
library has none. JetMoE: `configuration_jetmoe.py`; HRM: `configuration_hrm_text.py`; Unlimited OCR:
`configuration_unlimited_ocr.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import MAX_INTEGER, Config
from kvplan.architectures.kit.heads import (
    DERIVED,
    GPT,
    MHA,
    Heads,
    Names,
    Row,
    count,
    divided,
    dividing,
    layer_count,
    lenient,
    read_heads,
)
from kvplan.architectures.kit.latent import Mla, latent
from kvplan.architectures.kit.layers import attention, full
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.sliding import all_full, by_rope, every, first_of, sliding
from kvplan.domain.model import MAX_LAYERS

_GPT2: Final = Row(12, 12, 768, names=GPT)
_LLAMA: Final = Row(32, 32, 4096, refuses_remainder=True)
_BLOOM: Final = Names(("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads"), (), (), ("hidden_size", "n_embed"))
_KOSMOS: Final = Names(
    ("layers", "num_hidden_layers"), ("attention_heads", "num_attention_heads"), (), (), ("embed_dim", "hidden_size")
)
_XGLM: Final = Names(
    ("num_layers", "num_hidden_layers"), ("attention_heads", "num_attention_heads"), (), (), ("d_model", "hidden_size")
)
_TELECHAT: Final = GPT._replace(kv_heads=("num_key_value_heads",), hidden=("hidden_size", "n_embed"))


# Which layers slide.


def _beam(_: Config, layers: int) -> list[bool]:
    return [(i + 1) % 6 != 0 and i != layers - 1 for i in range(layers)]


def _flint(_: Config, layers: int) -> list[bool]:
    return [i >= 2 and i % 4 != 1 and i != layers - 1 for i in range(layers)]


def _laguna(c: Config, heads: Heads) -> None:
    """Laguna varies the query heads by layer; the KV heads, which are what is kept, must divide them all."""
    for i, query in enumerate(c.integers("num_attention_heads_per_layer", length=heads.layers, minimum=1) or []):
        divided(c, f"num_attention_heads_per_layer[{i}]", query, heads.kv, "KV heads")


# Readers of one type.


@reader
def _deci(c: Config, row: Row) -> Decoder:
    """DeciLM: `num_key_value_heads_per_layer`."""
    heads = read_heads(c, row)
    per_layer = c.integers("num_key_value_heads_per_layer", length=heads.layers, minimum=1) or [heads.kv] * heads.layers
    for i, kv in enumerate(per_layer):
        dividing(c, f"num_key_value_heads_per_layer[{i}]", heads.query, kv)
    return Decoder(layers=[(attention(kv, heads.dim),) for kv in per_layer], heads=heads.query)


@reader
def _hrm(c: Config, row: Row) -> Decoder:
    """A stack of layers runs many times, and each run keeps its own keys and values.

    `num_layers_per_stack` marks a config that has been written back: its layer count is already the total.
    """
    heads = read_heads(c, row)
    if not c.has("num_layers_per_stack"):
        runs = c.integer("H_cycles", default=2, maximum=1_000) * (c.integer("L_cycles", default=3, maximum=1_000) + 1)
        if heads.layers * runs > MAX_LAYERS:
            c.refuse("num_hidden_layers", f"{heads.layers} layers in {runs} runs are more than {MAX_LAYERS:,} layers")
        heads = heads._replace(layers=heads.layers * runs)
    return full(c, heads)


@reader
def _jetmoe(c: Config, row: Row) -> Decoder:
    """Each expert has query heads of its own, and all experts share the KV heads."""
    kv = count(c, row.names.kv_heads, row.kv_heads)
    experts = count(c, ("num_experts_per_tok",), 2)
    dim = count(c, row.names.head_dim, row.head_dim)
    return full(c, Heads(layer_count(c, row), kv * experts, kv, dim))


@reader
def _unlimited_ocr(c: Config, row: Row) -> Decoder:
    """The prompt is kept whole; only generated tokens fall out of the window."""
    heads = read_heads(c, row)
    window = count(c, ("sliding_window",), row.window, MAX_INTEGER)
    c.items("layer_types", length=heads.layers)
    note = f"the prompt is kept whole; of the generated tokens only the last {window:,} stay"
    return Decoder(layers=[(attention(heads.kv, heads.dim),)] * heads.layers, heads=heads.query, notes=(note,))


_YOUTU: Final = latent(lenient(32, 16, 2048), Mla())
ROWS: Final[dict[str, Reader]] = {
    "Yi": plain(_LLAMA),
    "afmoe": sliding(Row(32, 16, 2048, head_dim=128, window=1024), every(4, "global_attn_every_n_layers")),
    "apertus": plain(Row(32, 32, 4096)),
    "apertus1p5_text": plain(Row(32, 32, 4096)),
    "aquila": plain(_LLAMA),
    "arcee": plain(Row(32, 32, 2560, refuses_remainder=True)),
    "arctic": plain(_LLAMA),
    "aria_text": plain(_LLAMA),
    "Klear": plain(Row(32, 32, 4096, names=DERIVED)),
    "baichuan": plain(Row(32, 32, 4096, names=MHA)),
    "beam": sliding(Row(52, 48, 5120, 8, 128, refuses_null=("kv_heads", "head_dim"), window=512), _beam),
    "biogpt": plain(Row(24, 16, 1024, names=MHA)),
    "bitnet": plain(Row(30, 20, 2560, 5)),
    "bloom": plain(Row(2, 8, 64, names=_BLOOM)),
    "chameleon": plain(Row(32, 32, 4096, 32, refuses_null=("kv_heads",), names=DERIVED)),
    "codegen": plain(Row(28, 16, 4096, names=GPT)),
    "cosmos3_edge_text": plain(Row(28, 16, 2048, 8, 128, refuses_null=("head_dim",), refuses_remainder=True)),
    "cpmant": plain(Row(48, 32, 4096, head_dim=128, names=MHA._replace(head_dim=("dim_head",)))),
    "csm": plain(Row(16, 32, 2048, 8)),
    "ctrl": plain(Row(48, 16, 1280, names=GPT)),
    "cwm": sliding(
        Row(64, 48, 6144, 8, 128, refuses_null=("kv_heads", "head_dim"), refuses_remainder=True, window=8192), first_of(4)
    ),
    "deci": _deci(Row(32, 32, 4096)),
    "diffllama": plain(Row(16, 32, 2048)),
    "doge": sliding(Row(32, 8, 1024)),
    "emu3_text_model": plain(Row(32, 32, 4096, 8, refuses_null=("kv_heads",), refuses_remainder=True)),
    "evolla": plain(Row(32, 32, 4096, 8, refuses_null=("kv_heads",), refuses_remainder=True)),
    "flint": sliding(Row(49, 32, 2048, 4, 128, refuses_null=("kv_heads", "head_dim"), window=513), _flint),
    "git": plain(Row(6, 12, 768, names=MHA)),
    "gradium_phonon_tts": plain(Row(6, 12, 768, refuses_remainder=True)),
    "grok-1": plain(Row(64, 48, 6144, 8, 128)),
    "helium": plain(Row(24, 20, 2560, 20, 128, refuses_null=("kv_heads", "head_dim"))),
    "higgs_audio_v2": plain(Row(28, 24, 3072, 8, 128, refuses_null=("kv_heads",), refuses_remainder=True)),
    "hrm_text": _hrm(Row(16, 12, 1536, head_dim=128, names=Names(kv_heads=()), refuses_null=("head_dim",))),
    "hyperclovax": plain(_LLAMA),
    "idefics": plain(Row(32, 32, 4096, names=MHA)),
    "jais": plain(_GPT2),
    "jais2": plain(Row(32, 26, 3328, refuses_remainder=True)),
    "jetmoe": _jetmoe(Row(12, kv_heads=16, head_dim=128, names=Names(head_dim=("kv_channels", "head_dim")))),
    "kolibri1": sliding(Row(50, 48, 2560, 4, 128, refuses_null=("kv_heads", "head_dim"), window=513), every(5)),
    "kosmos_2_5_text_model": plain(Row(24, 16, 1536, names=_KOSMOS)),
    "kosmos_2_text_model": plain(Row(24, 32, 2048, names=_KOSMOS)),
    "kyutai_speech_to_text": sliding(Row(48, 32, 2048, window=375, refuses_remainder=True)),
    "laguna": sliding(Row(40, 48, 2048, 8, 128, window=512, refuses_null=("kv_heads", "head_dim")), all_full, check=_laguna),
    "lille-130m": plain(Row(24, 10, 640, 5, names=Names(("n_layer",), ("n_head",), ("n_kv_heads",), (), ("n_embd",)))),
    "mellum": sliding(Row(28, 32, 2304, 4, 128, window=1024, refuses_null=("kv_heads", "head_dim")), all_full, drafts_slide=True),
    "moshi": sliding(Row(32, 32, 4096, window=3000, refuses_remainder=True)),
    "musicgen_melody_decoder": plain(Row(24, 16, 1024, names=MHA)),
    "nanochat": plain(Row(12, 6, 768)),
    "opt": plain(Row(12, 12, 768, names=MHA)),
    "orion": plain(Row(40, 40, 5120, 40)),
    "paddleocr_vl_text": plain(Row(18, 16, 1024, 2, 128, refuses_remainder=True)),
    "persimmon": plain(Row(36, 64, 4096, names=MHA)),
    "pocket_tts": plain(Row(6, 16, 1024, refuses_remainder=True)),
    "seed_oss": plain(Row(64, 80, 4096, 8, 128, refuses_null=("head_dim",))),
    "skywork": plain(_LLAMA),
    "smollm3": sliding(Row(36, 16, 2048, 4), by_rope(0), gated=True),
    "solar_open": plain(Row(48, 64, 4096, 8, 128, refuses_null=("kv_heads", "head_dim"))),
    "spark2_5": sliding(Row(32, 32, 4096, 8), all_full),
    "stablelm": plain(Row(32, 32, 2560, 32, refuses_null=("kv_heads",), names=DERIVED)),
    "stablelm_epoch": plain(Row(32, 32, 2560, names=DERIVED)),
    "starcoder2": sliding(Row(30, 24, 3072, 2, refuses_null=("kv_heads",))),
    "talkie": plain(Row(40, 40, 5120, head_dim=128, names=MHA._replace(head_dim=("head_dim",)))),
    "telechat": plain(Row(30, 32, 4096, names=_TELECHAT)),
    "telechat3": plain(_LLAMA),
    "unlimited_ocr_text": _unlimited_ocr(Row(12, 10, 1280, 10, window=128, names=DERIVED)),
    "xglm": plain(Row(24, 16, 1024, names=_XGLM)),
    "xverse": plain(Row(32, 32, 4096, names=MHA)),
    "youtu": _YOUTU,
    "youtu_llm": _YOUTU,
}
