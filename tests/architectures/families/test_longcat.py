"""LongCat: two blocks a layer."""

from shipped import load, raw

from kvplan.architectures import read


def test_longcat_runs_two_attention_blocks_a_layer():
    model = load("meituan-longcat__LongCat-Flash-Chat")
    assert len(model.layers) == 56
    data = raw("meituan-longcat__LongCat-Flash-Chat")
    blocks = read({**{k: v for k, v in data.items() if k != "num_layers"}, "num_hidden_layers": 56})
    assert blocks.layers == model.layers
    assert len(model.drafts) == 1
