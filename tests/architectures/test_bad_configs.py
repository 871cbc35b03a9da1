"""Configs that cannot be: one sentence with the file and the key, whatever the family."""

import json
from typing import Any

import golden
import pytest
from each import each
from hypothesis import given, settings
from hypothesis import strategies as st

from kvplan import architectures
from kvplan.domain.model import Cross, Full, Softmax, Window
from kvplan.errors import ConfigError, KvplanError

CONFIGS = golden.CONFIGS / "hf"
#: One config of each way to be sized, and the keys that size it.
SIZED_BY = {
    "plain": ("meta-llama__Llama-3.1-8B", ["num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size"]),
    "sliding": (
        "openai__gpt-oss-20b",
        ["num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "sliding_window"],
    ),
    "mixed_heads": ("XiaomiMiMo__MiMo-V2-Flash", ["num_hidden_layers", "head_dim", "v_head_dim", "swa_num_key_value_heads"]),
    "kv_names": ("THUDM__chatglm3-6b", ["num_layers", "num_attention_heads", "multi_query_group_num", "kv_channels"]),
    "cla": ("tencent__Hunyuan-A13B-Instruct", ["num_hidden_layers", "num_key_value_heads", "cla_share_factor"]),
    "layer_maps": ("nvidia__Llama-3_3-Nemotron-Super-49B-v1", ["num_hidden_layers", "num_attention_heads", "hidden_size"]),
    "encoder_decoder": ("openai__whisper-tiny", ["decoder_layers", "decoder_attention_heads", "d_model", "max_source_positions"]),
}
BAD = ["8", True, 1.5, -1, 0, 10**400, [8], {"a": 1}, float("nan"), float("inf")]


def raw(name: str) -> dict[str, Any]:
    return json.loads((CONFIGS / f"{name}.json").read_text())


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        architectures.read(config, source="acme/config.json")
    assert caught.value.hint
    return str(caught.value)


@each(("name", "key"), [(name, key) for name, keys in SIZED_BY.values() for key in keys])
@each("value", BAD, ids=lambda v: str(v)[:8])
def test_a_bad_number_is_refused_by_file_and_key(name: str, key: str, value: Any) -> None:
    config = raw(name)
    assert architectures.read(config).layers
    message = refusal({**config, key: value})
    assert message.startswith("acme/config.json: ")
    assert f"`{key}`" in message
    assert len(message) < 300


@pytest.mark.parametrize("key", ["num_key_value_heads", "head_dim"])
def test_a_bad_number_in_gemma_4s_text_part_names_its_path(key: str) -> None:
    config = raw("google__gemma-4-26B-A4B")
    message = refusal({**config, "text_config": {**config["text_config"], key: "many"}})
    assert f"`text_config.{key}`" in message


@pytest.mark.parametrize(
    ("model_type", "key"), [("mistral", "num_key_value_heads"), ("gpt_oss", "head_dim"), ("llama", "num_hidden_layers")]
)
def test_null_is_refused_where_the_class_refuses_it(model_type: str, key: str) -> None:
    assert f"`{key}` is null" in refusal({"model_type": model_type, key: None})


def test_null_means_one_kv_head_a_query_head_where_the_class_says_so() -> None:
    (memory,) = architectures.read({"model_type": "llama", "num_key_value_heads": None}).layers[0].memories
    assert memory == Softmax(kv_heads=32, key_dim=128, value_dim=128)


def test_an_absent_key_is_the_class_constant_and_not_a_division() -> None:
    (gemma,) = architectures.read({"model_type": "gemma"}).layers[0].memories
    (mistral,) = architectures.read({"model_type": "mistral"}).layers[0].memories
    assert gemma == Softmax(kv_heads=16, key_dim=256, value_dim=256)
    assert mistral == Softmax(kv_heads=8, key_dim=128, value_dim=128, reach=Window(4096))


def test_an_absent_window_and_a_null_window_differ() -> None:
    (memory,) = architectures.read({"model_type": "mistral", "sliding_window": None}).layers[0].memories
    assert isinstance(memory, Softmax)
    assert memory.reach == Full()


DIVIDING = [
    ({"model_type": "llama", "num_attention_heads": 32, "num_key_value_heads": 5}, "num_key_value_heads"),
    ({"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 9}, "num_kv_heads"),
    ({"model_type": "dbrx", "attn_config": {"kv_n_heads": 5}}, "attn_config.kv_n_heads"),
    ({"model_type": "chatglm", "multi_query_attention": True, "multi_query_group_num": 3}, "multi_query_group_num"),
    ({"model_type": "gemma4_text", "attention_k_eq_v": True, "num_global_key_value_heads": 3}, "num_global_key_value_heads"),
    ({"model_type": "mimo_v2_flash", "swa_num_key_value_heads": 7}, "swa_num_key_value_heads"),
    ({"model_type": "laguna", "num_attention_heads_per_layer": [48] * 39 + [50]}, "num_attention_heads_per_layer[39]"),
    ({"model_type": "llama", "hidden_size": 4097}, "hidden_size"),
]  # fmt: skip


@each(("config", "key"), DIVIDING)
def test_heads_that_do_not_divide_are_refused(config: dict[str, Any], key: str) -> None:
    assert f"`{key}`" in refusal(config)


MAPS = [
    ({"model_type": "gemma2", "layer_types": ["full_attention"] * 3}, "layer_types"),
    ({"model_type": "gemma2", "layer_types": ["psychic_attention"] * 26}, "layer_types[0]"),
    ({"model_type": "gemma2", "layer_types": "full_attention"}, "layer_types"),
    ({"model_type": "gpt_oss", "layer_types": [None] * 36}, "layer_types[0]"),
    ({"model_type": "llama4_text", "no_rope_layers": [1, 0]}, "no_rope_layers"),
    ({"model_type": "gpt_neo", "attention_types": [[["global", "local"], 5]]}, "attention_types"),
    ({"model_type": "gpt_neo", "attention_types": [[["global"], 10**9]]}, "attention_types[0]"),
    ({"model_type": "gpt_neo", "attention_types": ["global"]}, "attention_types[0]"),
    ({"model_type": "mllama_text_model", "cross_attention_layers": [40]}, "cross_attention_layers"),
    ({"model_type": "nemotron-nas"}, "block_configs"),
    ({"model_type": "nemotron-nas", "num_hidden_layers": 1, "block_configs": [3]}, "block_configs[0]"),
    (
        {"model_type": "nemotron-nas", "num_hidden_layers": 1, "block_configs": [{"attention": {"n_heads_in_group": 5}}]},
        "block_configs[0].attention.n_heads_in_group",
    ),
    ({"model_type": "gemma3n_text", "num_kv_shared_layers": 34}, "num_kv_shared_layers"),
    ({"model_type": "gemma3n_text", "num_kv_shared_layers": 40}, "num_kv_shared_layers"),
    ({"model_type": "gemma4_text", "per_layer_config": {"99": {"head_dim": 512}}}, "per_layer_config"),
    ({"model_type": "llama-cla", "num_hidden_layers": 2, "kv_source_layer": [0, 5]}, "kv_source_layer[1]"),
    ({"model_type": "llama-cla", "num_hidden_layers": 3, "kv_source_layer": [0, 0, 1]}, "kv_source_layer[2]"),
    ({"model_type": "llama-cla", "num_hidden_layers": 2, "kv_source_layer": [0, 0], "num_kv_layers": 2}, "num_kv_layers"),
    ({"model_type": "mimo_v2_flash", "hybrid_layer_pattern": [0, 1]}, "hybrid_layer_pattern"),
    ({"model_type": "openelm"}, "num_query_heads"),
    ({"model_type": "hrm_text", "num_hidden_layers": 9_000}, "num_hidden_layers"),
    ({"model_type": "exaone4", "sliding_window_pattern": "LLX"}, "sliding_window_pattern"),
    ({"model_type": "afm7", "num_kv_reuse_layers": 32}, "num_kv_reuse_layers"),
    ({"model_type": "hunyuan", "use_mla": True}, "use_mla"),
    ({"model_type": "spark2_5", "layer_types": ["sliding_attention"] * 32}, "sliding_window"),
    ({"model_type": "llava", "text_config": "llama"}, "text_config"),
]  # fmt: skip


@each(("config", "key"), MAPS)
def test_a_layer_map_that_contradicts_itself_is_refused(config: dict[str, Any], key: str) -> None:
    assert f"`{key}`" in refusal(config)


def test_cross_attention_comes_with_its_flag() -> None:
    plain = architectures.read({"model_type": "gpt2"})
    decoder = architectures.read({"model_type": "gpt2", "add_cross_attention": True})
    assert len(plain.layers[0].memories) == 1
    assert isinstance(decoder.layers[0].memories[1], Cross)
    wrapped = {"model_type": "vision-encoder-decoder", "decoder": {"model_type": "trocr", "is_decoder": True}}
    assert isinstance(architectures.read(wrapped).layers[0].memories[1], Cross)


# Whatever is in a config, it reads or is refused in one sentence.

KEYS = sorted(
    {key for entry in json.loads((CONFIGS.parent.parent / "golden" / "transformers_class_defaults.json").read_text()).values()
     for key in entry.get("defaults", {})}
    | {"attn_config", "block_configs", "attention_types", "use_cla", "cla_share_factor", "kv_source_layer", "per_layer_config"}
)  # fmt: skip
ANYTHING = st.sampled_from([*BAD, None, "", 1, 2, 7, 2**31, 10_000, ["full_attention"], [None], [10**400], {}, [[["local"], 2]]])


@settings(max_examples=500, deadline=None)
@given(
    model_type=st.sampled_from(architectures.known_model_types()),
    keys=st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=5),
    infer=st.booleans(),
)
def test_any_config_reads_or_is_refused_in_one_sentence(model_type: str, keys: dict[str, Any], infer: bool) -> None:
    for config in (
        {**keys, "model_type": model_type},
        {"model_type": model_type, "text_config": keys},
        {**keys, "model_type": "acme"},
    ):
        try:
            model = architectures.read(config, infer=infer)
        except KvplanError as error:
            size, limit = len(str(error)), 600
        else:
            size, limit = len(model.layers), 10_000
        assert 1 <= size <= limit
