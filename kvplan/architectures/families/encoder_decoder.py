"""Encoder-decoders: BART, T5, Whisper and their kin, and decoders that are made to look at an encoder.

Only the decoder's keys count (`decoder_layers`, not `num_hidden_layers`, which means the encoder in BART's family).
The cross-attention of a layer has the layer's heads, but Dia names its own. Whisper's encoder output always has
`max_source_positions` positions. Sources: `configuration_*.py` of transformers 5.23.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.encoder_decoder import encoder_decoder
from kvplan.architectures.kit.heads import MHA, Names, Row, count, read_heads
from kvplan.architectures.kit.layers import attention
from kvplan.architectures.kit.reader import Decoder, Reader, reader
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
_LARGE: Final = Row(12, 16, 1024, names=_BART)


@reader
def _dia(c: Config, row: Row) -> Decoder:
    """Dia's cross-attention is multi-head while its self-attention is grouped."""
    heads = read_heads(c, row)
    cross = Cross(
        kv_heads=count(c, ("cross_num_key_value_heads",), 16),
        key_dim=count(c, ("cross_head_dim",), 128),
        value_dim=count(c, ("cross_head_dim",), 128),
    )
    return Decoder(layers=[(attention(heads.kv, heads.dim), cross)] * heads.layers, heads=heads.query)


ROWS: Final[dict[str, Reader]] = {
    "bart": encoder_decoder(_LARGE),
    "bigbird_pegasus": encoder_decoder(Row(16, 16, 1024, names=_BART)),
    "blenderbot": encoder_decoder(Row(24, 32, 2560, names=_BART)),
    "blenderbot-small": encoder_decoder(Row(8, 16, 512, names=_BART)),
    "blip_text_model": encoder_decoder(Row(12, 8, 768, names=MHA)),
    "canary_decoder": encoder_decoder(Row(8, 8, 1024, 8, 128, refuses_null=("kv_heads", "head_dim"))),
    "dia_decoder": _dia(Row(18, 16, 2048, 4, 128, refuses_null=("kv_heads", "head_dim"))),
    "fsmt": encoder_decoder(_LARGE),
    "led": encoder_decoder(_LARGE),
    "longt5": encoder_decoder(Row(6, 8, 512, head_dim=64, names=_T5)),
    "m2m_100": encoder_decoder(_LARGE),
    "marian": encoder_decoder(_LARGE),
    "mbart": encoder_decoder(_LARGE),
    "moonshine": encoder_decoder(Row(6, 8, 288, names=_MOONSHINE)),
    "moonshine_streaming": encoder_decoder(Row(6, 8, 320)),
    "mt5": encoder_decoder(Row(8, 6, 512, head_dim=64, names=_T5)),
    "musicgen_decoder": encoder_decoder(Row(24, 16, 1024, names=MHA)),
    "mvp": encoder_decoder(_LARGE),
    "nllb-moe": encoder_decoder(_LARGE),
    "pegasus": encoder_decoder(_LARGE),
    "pegasus_x": encoder_decoder(Row(16, 16, 1024, names=_BART)),
    "pix2struct_text_model": encoder_decoder(Row(12, 12, 768, head_dim=64, names=_TEXT_T5)),
    "plbart": encoder_decoder(Row(6, 12, 768, names=_BART)),
    "pop2piano": encoder_decoder(Row(6, 8, 512, head_dim=64, names=_T5)),
    "pp_formulanet_text": encoder_decoder(Row(8, 16, 512, names=_BART)),
    "prophetnet": encoder_decoder(Row(12, 16, 1024, names=_PROPHET)),
    "seamless_m4t": encoder_decoder(Row(24, 16, 1024, names=_WIDE)),
    "seamless_m4t_v2": encoder_decoder(Row(24, 16, 1024, names=_WIDE)),
    "speech_to_text": encoder_decoder(Row(6, 4, 256, names=_BART)),
    "speecht5": encoder_decoder(Row(6, 12, 768, names=_WIDE)),
    "switch_transformers": encoder_decoder(Row(12, 12, 768, head_dim=64, names=_T5)),
    "t5": encoder_decoder(Row(6, 8, 512, head_dim=64, names=_T5)),
    "trocr": encoder_decoder(_LARGE, cross_if="is_decoder"),
    "udop": encoder_decoder(Row(24, 16, 1024, head_dim=64, names=_T5)),
    "umt5": encoder_decoder(Row(8, 6, 512, head_dim=64, names=_T5)),
    "whisper": encoder_decoder(Row(4, 6, 384, names=_BART), positions=1500),
}
