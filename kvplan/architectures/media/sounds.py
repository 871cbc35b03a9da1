"""Families that hear and do not see. Source: transformers 5.24."""

from collections.abc import Mapping
from typing import Final

from kvplan.architectures.media import readers as r
from kvplan.architectures.media.values import Row, audio, config

_POSITIONS: Final = config("max_source_positions", "audio_config.max_source_positions", default=1500)

ROWS: Final[Mapping[str, Row]] = {
    "whisper": Row(
        types=("whisper",),
        source="whisper/feature_extraction_whisper.py, modeling_whisper.py; files of Whisper",
        audio=audio(r.cross_fixed, max_source_positions=_POSITIONS),
    ),
    "moonshine": Row(
        types=("moonshine",), source="moonshine/modeling_moonshine.py:MoonshineEncoder", audio=audio(r.cross_convolved)
    ),
    "voxtral": Row(
        types=("voxtral",),
        source="voxtral/processing_voxtral.py; files of Voxtral Mini",
        audio=audio(r.chunked, chunk_length=30, max_source_positions=_POSITIONS),
    ),
    "vibevoice": Row(
        types=("vibevoice",),
        source="vibevoice/processing_vibevoice.py, vibevoice_acoustic_tokenizer/feature_extraction_….py",
        audio=audio(r.strided, sampling_rate=24_000, pad_to_multiple_of=3200),
        assumed=True,
    ),
    "qwen2_audio": Row(
        types=("qwen2_audio",),
        source="qwen2_audio/processing_qwen2_audio.py, modeling_qwen2_audio.py; files of Qwen2-Audio",
        audio=audio(r.halved, hop_length=160, chunk_length=30),
    ),
    "granite_speech": Row(
        types=("granite_speech",),
        source="granite_speech/feature_extraction_granite_speech.py; public configs of Granite Speech",
        audio=audio(
            r.projected,
            projector_window_size=config("window_size", default=15),
            projector_downsample_rate=config("downsample_rate", default=5),
        ),
        assumed=True,
    ),
}
