"""Encoder-decoders: a fixed encoder length."""

from shipped import load

from kvplan.domain.model import Cross


def test_whisper_keeps_its_fixed_encoder_length() -> None:
    crosses = [m for layer in load("openai__whisper-tiny").layers for m in layer.memories if isinstance(m, Cross)]
    assert [(m.kv_heads, m.key_dim, m.tokens) for m in crosses] == [(6, 64, 1500)] * 4
