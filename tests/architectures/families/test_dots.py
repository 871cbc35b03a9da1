"""dots3-note: two spellings of one model."""

from kvplan.architectures import read
from kvplan.domain.model import Index, Window


def test_dots3_note_reads_released_and_saved_spellings_alike():
    released = read({"model_type": "dots3_note", "num_hidden_layers": 6, "swa_kv_lora_rank": 768})
    entry = {"kv_lora_rank": 768, "num_attention_heads": 64, "qk_nope_head_dim": 192}
    kinds = ["indexed_attention"] * 2 + ["sliding_attention"] * 3 + ["indexed_attention"]
    saved = read(
        {
            "model_type": "dots3_note",
            "text_config": {
                "num_hidden_layers": 6,
                "layer_types": kinds,
                "per_layer_config": dict.fromkeys(("2", "03", "4"), entry),
            },
        }
    )
    assert saved.layers == released.layers
    assert released.layers[2].memories[0].reach == Window(512)
    assert released.layers[0].memories[1] == Index(dim=128, dtype="float32")
