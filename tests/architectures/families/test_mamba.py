"""Jamba and Zamba: attention between states."""

from shipped import ideal, load

from kvplan.domain.model import Softmax


def test_jamba_takes_4_gib_of_keys_and_values_at_256k_tokens():
    model = load("ai21labs__Jamba-v0.1")
    assert [i for i, layer in enumerate(model.layers) if isinstance(layer.memories[0], Softmax)] == [4, 12, 20, 28]
    assert ideal(model, 1).bytes_per_token * 262_144 == 4 * 2**30  # the paper's 4 GB


def test_zamba_caches_its_shared_block_at_every_depth():
    first, second = load("Zyphra__Zamba-7B-v1"), load("Zyphra__Zamba2-2.7B")
    assert sum(len(layer.memories) == 2 for layer in first.layers) == 13
    assert [i for i, layer in enumerate(second.layers) if len(layer.memories) == 2] == [6, 12, 18, 24, 30, 36, 42, 47, 51]
    assert first.layers[2].memories[0] == Softmax(kv_heads=16, key_dim=464, value_dim=464)
    assert second.layers[6].memories[0] == Softmax(kv_heads=32, key_dim=160, value_dim=160)
