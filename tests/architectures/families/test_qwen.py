"""Qwen: delta-rule states beside attention."""

from shipped import ideal, load

from kvplan.architectures import read
from kvplan.domain.model import Index, Softmax


def test_qwen3_next_keeps_24576_bytes_a_token_and_77_mb_of_state():
    model = load("Qwen__Qwen3-Next-80B-A3B-Instruct")
    found = ideal(model, 1000)
    assert found.bytes_per_token == 24_576
    assert found.state_bytes == 36 * (3 * 8192 * 2 + 32 * 128 * 128 * 4)
    assert [layer.memories for layer in model.drafts] == [(Softmax(kv_heads=2, key_dim=256, value_dim=256),)]


def test_qwen4_exp_keeps_index_keys_and_ngram_context_where_asked():
    text = {
        "model_type": "qwen4_exp_text", "num_hidden_layers": 4, "hidden_size": 64, "indexer_head_dim": 256, "ple_layer_ids": [3],
    }  # fmt: skip
    model = read(text)
    assert model.layers[3].memories[1] == Index(dim=256)
    _, context = model.layers[2].memories
    # as the library held them: 9 columns (3 taps back, 3 apart) of 4 streams, and 2 token ids
    assert [(s.shape, s.dtype) for s in context.states] == [((256, 9), None), ((2,), "int64")]
    assert len(model.layers[0].memories) == 1
