"""RWKV: matrices in float32."""

from shipped import ideal, load


def test_rwkv_5_keeps_a_float32_matrix_a_head():
    model = load("RWKV__rwkv-5-world-3b")
    assert ideal(model, 100_000).payload_bytes == 32 * (2 * 2560 * 2 + 40 * 64 * 64 * 4)
