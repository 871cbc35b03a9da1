"""Encoder–decoders: each decoder layer keeps its own keys and values, and those of the encoder's output.

Only the decoder's keys count (`decoder_layers`, not `num_hidden_layers`, which means the encoder in BART's family).
The cross-attention of a layer has the layer's heads, but Dia names its own. Whisper's encoder output always has
`max_source_positions` positions. Where layers slide (T5Gemma), the library applies the window to the encoder's
output as well, so `Cross.reach` is the layer's. Sources: `configuration_*.py` of transformers 5.23.
"""

from typing import Final, NamedTuple

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import (
    MHA,
    Heads,
    Names,
    Row,
    count,
    layer_reach,
    read_heads,
    read_layer_types,
    read_window,
    self_and_cross,
)
from kvplan.architectures.kit.shapes import Decoder, attention
from kvplan.domain.model import Cross

_BART: Final = Names(("decoder_layers",), ("decoder_attention_heads",), (), (), ("d_model", "hidden_size"))
_WIDE: Final = _BART._replace(hidden=("hidden_size",))  # speech models say hidden_size
_T5: Final = Names(
    ("num_decoder_layers", "num_layers", "num_hidden_layers"), ("num_heads", "num_attention_heads"), (), ("d_kv", "head_dim")
)
_PROPHET: Final = _WIDE._replace(layers=("num_decoder_layers",), heads=("num_decoder_attention_heads",))
_MOONSHINE: Final = Names(
    ("decoder_num_hidden_layers", "num_hidden_layers"),
    ("decoder_num_attention_heads", "num_attention_heads"),
    ("decoder_num_key_value_heads", "num_key_value_heads"),
    (),
)
_TEXT_T5: Final = MHA._replace(
    layers=("num_layers", "num_hidden_layers"), heads=("num_heads", "num_attention_heads"), head_dim=("d_kv",)
)


class Pair(NamedTuple):
    """One class: the decoder's row, and what is special about its cross-attention or windows."""

    row: Row
    source_positions: int | None = None  # tokens, where the model fixes them
    full_every: int = 0  # layers; the others slide
    cross_flag: str = ""  # cross-attention only when this key is true


_LARGE: Final = Row(12, 16, 1024, names=_BART)
ROWS: Final[dict[str, Pair]] = {
    "bart": Pair(_LARGE),
    "bigbird_pegasus": Pair(Row(16, 16, 1024, names=_BART)),
    "blenderbot": Pair(Row(24, 32, 2560, names=_BART)),
    "blenderbot-small": Pair(Row(8, 16, 512, names=_BART)),
    "blip_text_model": Pair(Row(12, 8, 768, names=MHA)),
    "canary_decoder": Pair(Row(8, 8, 1024, 8, 128, rejects="kd")),
    "cohere_asr": Pair(Row(8, 8, 1024)),
    "dia_decoder": Pair(Row(18, 16, 2048, 4, 128, rejects="kd")),
    "fsmt": Pair(_LARGE),
    "led": Pair(_LARGE),
    "longt5": Pair(Row(6, 8, 512, head_dim=64, names=_T5)),
    "m2m_100": Pair(_LARGE),
    "marian": Pair(_LARGE),
    "mbart": Pair(_LARGE),
    "moonshine": Pair(Row(6, 8, 288, names=_MOONSHINE)),
    "moonshine_streaming": Pair(Row(6, 8, 320)),
    "mt5": Pair(Row(8, 6, 512, head_dim=64, names=_T5)),
    "musicgen_decoder": Pair(Row(24, 16, 1024, names=MHA)),
    "mvp": Pair(_LARGE),
    "nllb-moe": Pair(_LARGE),
    "pegasus": Pair(_LARGE),
    "pegasus_x": Pair(Row(16, 16, 1024, names=_BART)),
    "pix2struct_text_model": Pair(Row(12, 12, 768, head_dim=64, names=_TEXT_T5)),
    "plbart": Pair(Row(6, 12, 768, names=_BART)),
    "pop2piano": Pair(Row(6, 8, 512, head_dim=64, names=_T5)),
    "pp_formulanet_text": Pair(Row(8, 16, 512, names=_BART)),
    "prophetnet": Pair(Row(12, 16, 1024, names=_PROPHET)),
    "seamless_m4t": Pair(Row(24, 16, 1024, names=_WIDE)),
    "seamless_m4t_v2": Pair(Row(24, 16, 1024, names=_WIDE)),
    "speech_to_text": Pair(Row(6, 4, 256, names=_BART)),
    "speecht5": Pair(Row(6, 12, 768, names=_WIDE)),
    "switch_transformers": Pair(Row(12, 12, 768, head_dim=64, names=_T5)),
    "t5": Pair(Row(6, 8, 512, head_dim=64, names=_T5)),
    "t5_gemma_module": Pair(Row(26, 8, 2304, 4, 256, rejects="kd", window=4096), full_every=2),
    "t5gemma2_decoder": Pair(Row(26, 8, 2304, 4, 256, rejects="kd", window=4096), full_every=6),
    "trocr": Pair(_LARGE, cross_flag="is_decoder"),
    "udop": Pair(Row(24, 16, 1024, head_dim=64, names=_T5)),
    "umt5": Pair(Row(8, 6, 512, head_dim=64, names=_T5)),
    "whisper": Pair(Row(4, 6, 384, names=_BART), source_positions=1500),
}


def read(c: Config, model_type: str) -> Decoder:
    """Each decoder layer: its own keys and values, then the encoder's."""
    pair = ROWS[model_type]
    heads = read_heads(c, pair.row)
    tokens = c.integer("max_source_positions", default=pair.source_positions) if pair.source_positions else None
    if model_type == "dia_decoder":
        return _read_dia(c, heads)
    cross = c.flag(pair.cross_flag) if pair.cross_flag else True
    window = read_window(c, pair.row.window) if pair.full_every else None
    layers = [
        self_and_cross(heads, layer_reach(c, kind, window), cross=cross, tokens=tokens)
        for kind in _kinds(c, pair, heads.layers, window)
    ]
    return Decoder(layers=layers, heads=heads.query)


def _kinds(c: Config, pair: Pair, layers: int, window: int | None) -> list[str]:
    if not pair.full_every:
        return ["full_attention"] * layers
    given = read_layer_types(c, layers)
    if given is not None:
        return given
    step = c.integer("sliding_window_pattern", default=pair.full_every)
    return ["sliding_attention" if window and (i + 1) % step else "full_attention" for i in range(layers)]


def _read_dia(c: Config, heads: Heads) -> Decoder:
    """Dia's cross-attention is multi-head while its self-attention is grouped."""
    cross = Cross(
        kv_heads=count(c, ("cross_num_key_value_heads",), 16),
        key_dim=count(c, ("cross_head_dim",), 128),
        value_dim=count(c, ("cross_head_dim",), 128),
    )
    return Decoder(layers=[(attention(heads.kv, heads.dim), cross)] * heads.layers, heads=heads.query)
