"""The item that a multimodal server encodes while it is profiled: the largest of the modality whose items are largest."""

from typing import Any

from golden import GOLDEN

import kvplan
from kvplan.domain.ledger import Line

HF = GOLDEN.parent / "configs" / "hf"


def peak(name: str, engine: str = "vllm@0.19", **told: Any) -> Line:
    budget = kvplan.receipt(HF / f"{name}.json", "h100-sxm-80gb", engine=engine, **told).budget
    assert budget.ledger is not None
    line = budget.ledger.line("peak activation")
    assert line is not None
    return line


def test_videos_are_profiled_where_theirs_is_the_largest_item_unless_none_may_come() -> None:
    """Qwen2.5-VL: 16,384 tokens an image or a group of two frames, seven groups at most and as many as the context holds."""
    qwen = "Qwen__Qwen2.5-VL-7B-Instruct"
    none = {"limit_mm_per_prompt": '{"image": 0, "video": 0}'}
    text = peak(qwen, max_model_len=32768, **none)
    assert text.exact
    image = peak(qwen, max_model_len=32768, limit_mm_per_prompt='{"video": 0}')
    video, longer = peak(qwen, max_model_len=32768), peak(qwen, max_model_len=128_000)
    for groups, line in ((1, image), (2, video), (7, longer)):  # an output of 3,584 elements a token, and 1,176 a patch
        tokens = groups * 16_384
        held = tokens * 3584 * 2 + 4 * tokens * 3 * 2 * 14**2 * 2
        encoder = 2 * 4 * tokens * (3 * 3420 + 4 * 1280)
        assert line.bytes == max(text.bytes + held, encoder), groups
        assert line.low == text.low
        assert line.high >= encoder
        assert line.high > line.bytes, groups
    assert peak(qwen, max_model_len=16_384).bytes == image.bytes  # a group of frames is no more than an image: more go through
    one = peak(qwen, max_model_len=128_000, limit_mm_per_prompt='{"image": 4}')
    assert one == longer  # a limit of images says nothing of videos
    assert peak(qwen, max_model_len=128_000, skip_mm_profiling=True).bytes == text.bytes
    newer = {"engine": "vllm@0.26", "max_model_len": 128_000}  # its V2 runner encodes nothing then
    assert peak(qwen, **newer) == peak(qwen, **newer, **none)


def test_a_tower_of_one_size_stays_exact() -> None:
    assert peak("google__gemma-3-27b-it", max_model_len=8192).exact


def test_a_tower_of_less_than_a_patch_is_one_token() -> None:
    """Its profile divides by the tokens of an image."""
    text = {
        "model_type": "llama4_text", "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_size": 64, "head_dim": 16, "intermediate_size": 64, "intermediate_size_mlp": 64, "vocab_size": 100,
        "num_local_experts": 2, "num_experts_per_tok": 1, "max_position_embeddings": 4096,
    }  # fmt: skip
    vision = {
        "model_type": "llama4_vision_model", "image_size": 7, "patch_size": 14, "hidden_size": 64, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 4,
    }  # fmt: skip
    found = kvplan.receipt({"model_type": "llama4", "text_config": text, "vision_config": vision}, "h100", engine="vllm")
    assert found.starts


def test_stacked_layers_of_qwen3_vl_widen_each_row() -> None:
    qwen = "Qwen__Qwen3-VL-8B-Instruct"
    none = peak(qwen, max_model_len=8192, limit_mm_per_prompt='{"image": 0, "video": 0}')
    line = peak(qwen, max_model_len=8192)
    assert line.bytes > none.bytes
    assert line.high > line.bytes
