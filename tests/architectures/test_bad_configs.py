"""Configs that cannot be: one sentence with the file and the key, whatever the family; and reading by shape."""

import json
from typing import Any

import golden
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvplan import architectures
from kvplan.domain.model import Chunk, Cross, Full, Latent, Shared, Softmax, Window
from kvplan.errors import ConfigError, KvplanError, UnknownArchitecture

CONFIGS = golden.CONFIGS / "hf"
#: One config of each family module, and the keys without which it cannot be sized.
FAMILIES = {
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


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in FAMILIES.values() for key in keys])
@pytest.mark.parametrize("value", BAD, ids=lambda v: str(v)[:8])
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


@pytest.mark.parametrize(("config", "key"), DIVIDING)
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


@pytest.mark.parametrize(("config", "key"), MAPS)
def test_a_layer_map_that_contradicts_itself_is_refused(config: dict[str, Any], key: str) -> None:
    assert f"`{key}`" in refusal(config)


# Reading by shape.

SHAPE = {"model_type": "acme-7", "num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 512}


def test_an_unknown_type_is_refused_unless_it_may_be_inferred() -> None:
    with pytest.raises(UnknownArchitecture):
        architectures.read(SHAPE)
    model = architectures.read(SHAPE, infer=True)
    assert model.inferred
    assert "acme-7" in model.notes[0]
    assert {layer.memories for layer in model.layers} == {(Softmax(kv_heads=8, key_dim=64, value_dim=64),)}


def test_a_known_type_is_not_marked_inferred() -> None:
    assert not architectures.read({"model_type": "llama"}, infer=True).inferred


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"num_key_value_heads": 2}, Softmax(kv_heads=2, key_dim=64, value_dim=64)),
        ({"n_kv_heads": 2, "head_dim": 96}, Softmax(kv_heads=2, key_dim=96, value_dim=96)),
        ({"sliding_window": 128}, Softmax(kv_heads=8, key_dim=64, value_dim=64, reach=Window(128))),
        ({"attention_chunk_size": 256}, Softmax(kv_heads=8, key_dim=64, value_dim=64, reach=Chunk(256))),
        ({"sliding_window": 128, "use_sliding_window": False}, Softmax(kv_heads=8, key_dim=64, value_dim=64)),
        (
            {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128},
            Latent(rank=512, rope_dim=64, heads=8, nope_dim=128, value_dim=128),
        ),
    ],
)  # fmt: skip
def test_common_keys_mean_what_they_usually_mean(keys: dict[str, Any], expected: object) -> None:
    model = architectures.read({**SHAPE, **keys}, infer=True)
    assert {layer.memories for layer in model.layers} == {(expected,)}


def test_layer_types_decide_by_shape_too() -> None:
    types = ["sliding_attention", "full_attention"] * 2
    model = architectures.read({**SHAPE, "layer_types": types, "sliding_window": 64}, infer=True)
    reaches = [m.reach for layer in model.layers for m in layer.memories if isinstance(m, Softmax)]
    assert reaches == [Window(64), Full()] * 2


def test_the_text_part_of_an_unknown_wrapper_is_found() -> None:
    known = architectures.read({"model_type": "acme-vl", "text_config": {**SHAPE, "model_type": "llama"}})
    unknown = architectures.read({"model_type": "acme-vl", "text_config": SHAPE}, infer=True)
    assert (len(known.layers), known.inferred) == (4, False)
    assert (len(unknown.layers), unknown.inferred) == (4, True)


@pytest.mark.parametrize("missing", ["num_hidden_layers", "num_attention_heads", "hidden_size"])
def test_nothing_is_assumed_about_an_unknown_class(missing: str) -> None:
    config = {key: value for key, value in SHAPE.items() if key != missing}
    with pytest.raises(ConfigError, match=missing):
        architectures.read(config, infer=True)


@pytest.mark.parametrize("key", ["mamba_d_state", "linear_num_value_heads", "index_head_dim"])
def test_states_and_indexers_are_not_guessed(key: str) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        architectures.read({**SHAPE, key: 16}, infer=True)
    assert "YAML" in caught.value.hint


# What the families' own maps mean.


def test_a_shared_layer_and_its_source_stand_where_the_list_says() -> None:
    model = architectures.read({"model_type": "llama-cla", "num_hidden_layers": 4, "kv_source_layer": [0, 0, 2, 2]})
    assert [type(layer.memories[0]) for layer in model.layers] == [Softmax, Shared, Softmax, Shared]


def test_an_assistant_keeps_nothing_of_its_own() -> None:
    text = {"num_hidden_layers": 4, "num_kv_shared_layers": 4}
    model = architectures.read({"model_type": "gemma4_assistant", "text_config": text})
    assert [layer.memories for layer in model.layers] == [()] * 4


def test_a_decoder_that_was_written_back_layer_by_layer_reads_the_same() -> None:
    short = {"model_type": "gemma4_text", "num_hidden_layers": 6, "global_head_dim": 128}
    written = {"model_type": "gemma4_text", "num_hidden_layers": 6, "per_layer_config": {"05": {"head_dim": 128}}}
    assert architectures.read(short).layers == architectures.read(written).layers


def test_cross_attention_comes_with_its_flag() -> None:
    plain = architectures.read({"model_type": "gpt2"})
    decoder = architectures.read({"model_type": "gpt2", "add_cross_attention": True})
    assert len(plain.layers[0].memories) == 1
    assert isinstance(decoder.layers[0].memories[1], Cross)
    wrapped = {"model_type": "vision-encoder-decoder", "decoder": {"model_type": "trocr", "is_decoder": True}}
    assert isinstance(architectures.read(wrapped).layers[0].memories[1], Cross)


def test_the_encoders_entries_fall_under_the_layers_window() -> None:
    model = architectures.read({"model_type": "t5gemma2", "decoder": {}})
    crosses = [m.reach for layer in model.layers for m in layer.memories if isinstance(m, Cross)]
    assert crosses[:6] == [Window(4096)] * 5 + [Full()]


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
