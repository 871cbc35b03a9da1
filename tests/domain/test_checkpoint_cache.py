"""A checkpoint that asks for an fp8 cache has one, where nobody says otherwise."""

from typing import Any

import pytest
from each import each

import kvplan
from kvplan.domain.origin import Origin
from kvplan.domain.storage.cache import checkpoint_cache

LLAMA: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 256,
    "torch_dtype": "bfloat16",
}  # fmt: skip
SCHEME = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}


def asked(**quant: Any) -> str:
    config = {**LLAMA, "quantization_config": quant}
    return checkpoint_cache(Origin(config=config, text_config=config, text_type="llama"))


@each(
    ("quant", "dtype"),
    [
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": SCHEME}, "fp8_e4m3"),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": None}, ""),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": {**SCHEME, "type": "int"}}, ""),
        ({"quant_method": "modelopt", "kv_cache_scheme": SCHEME}, "fp8_e4m3"),
        ({"quant_method": "modelopt_fp4", "kv_cache_quant_algo": "FP8"}, "fp8_e4m3"),
        ({"quant_method": "modelopt", "quantization": {"kv_cache_quant_algo": "FP8"}}, "fp8_e4m3"),
        ({"quant_method": "modelopt", "kv_cache_scheme": {**SCHEME, "dynamic": True}}, ""),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "NVFP4"}, ""),
        ({"quant_method": "fp8", "kv_cache_scheme": "FP8"}, ""),  # only those two methods' own readers look
        ({"quant_method": [1], "kv_cache_scheme": SCHEME}, ""),
    ],
)
def test_what_a_quantization_config_asks_for(quant: dict[str, Any], dtype: str) -> None:
    assert asked(**quant) == dtype


def test_nothing_is_asked_by_a_model_without_a_config() -> None:
    assert checkpoint_cache(None) == ""
    assert checkpoint_cache(Origin(config=LLAMA, text_config=LLAMA, text_type="llama")) == ""


@pytest.mark.parametrize("engine", ["ideal", "vllm"])
def test_auto_is_what_the_checkpoint_asks_for(engine: str) -> None:
    quantised = {**LLAMA, "quantization_config": {"quant_method": "compressed-tensors", "kv_cache_scheme": SCHEME}}
    plain = kvplan.estimate(LLAMA, engine=engine, kv_dtype="fp8")
    own = kvplan.estimate(quantised, engine=engine)
    assert own.total_bytes == plain.total_bytes
    assert own.kv_dtype.startswith("fp8")
    assert any("asks for" in note for note in own.notes)
    assert kvplan.estimate(quantised, engine=engine, kv_dtype="bf16").total_bytes == 2 * own.total_bytes
