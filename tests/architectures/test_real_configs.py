"""Every shipped config of keys and values alone: it loads, its size is right, no key goes unread."""

import csv
import re
from collections.abc import Iterator
from typing import Any

import pytest
import shipped
from each import each
from golden import CONFIGS
from model_types import KEYS_AND_VALUES, with_wrappers
from shipped import load, owners, raw

from kvplan import architectures, estimate
from kvplan.architectures.kit.config import Config
from kvplan.domain.model import Full, Shared, Softmax, Window

TYPES = with_wrappers(KEYS_AND_VALUES)
NAMES = [name for name in shipped.NAMES if raw(name)["model_type"] in TYPES]
with (CONFIGS / "INDEX.tsv").open(newline="") as file:
    INDEX = {row["file"].removesuffix(".json"): row for row in csv.DictReader(file, delimiter="\t")}
INDEXED = [name for name in NAMES if name in INDEX]  # a contributor's config may have no row


def test_most_of_the_collection_is_of_these_families() -> None:
    assert len(NAMES) > 240


@each("name", NAMES)
def test_every_config_loads_and_holds_something(name: str) -> None:
    allocation = estimate(raw(name), seq_len=4096)
    assert (allocation.total_bytes > 0) != (INDEX.get(name, {}).get("attention_kind") == "encoder")


@each("name", INDEXED)
def test_the_kind_of_heads_is_the_one_in_the_index(name: str) -> None:
    model, kind = load(name), INDEX[name]["attention_kind"]
    heads = {m.kv_heads for m in owners(model)}
    if kind == "MHA":
        assert heads == {model.attention_heads}
    elif kind == "MQA":
        assert heads == {1}
    elif kind == "GQA":
        assert model.attention_heads is not None
        assert all(1 < h < model.attention_heads for h in heads)


# A tag says that the model was made with a window; these configs say that it is not in effect, or name it nowhere.
TAGGED_WITHOUT_WINDOW = {
    "poolside__laguna-XS.2": "its copy holds the class defaults: 40 entries of `full_attention`",
}


@each("name", [n for n in INDEXED if "sliding" in INDEX[n]["tags"].split(",")])
def test_a_model_tagged_sliding_has_windows(name: str) -> None:
    reaches = {type(m.reach) for m in owners(load(name))}
    if name in TAGGED_WITHOUT_WINDOW:
        assert reaches == {Full}
    else:
        assert Window in reaches


@each("name", [n for n in INDEXED if INDEX[n]["tags"] == "" and INDEX[n]["copy_kind"] == "exact-copy"])
def test_an_untagged_model_keeps_everything_or_says_why_not(name: str) -> None:
    windows = {m.reach.size for m in owners(load(name)) if isinstance(m.reach, Window)}
    assert windows <= {raw(name).get("sliding_window")}


# Keys that decide sizes. Those under other modalities do not count, nor do these, which look like them.
RELEVANT = re.compile(
    r"window|layer_types|kv_|_kv|num_key_value|head_dim|chunk_size|cla$|cla_share|num_attention_heads|n_head|num_heads|num_hidden_layers|"
    r"n_layer|pattern|kv_channels|group_num|block_configs|cross_attention|nextn|num_mtp|multi_query|no_rope|attention_types|use_mla|"
    r"attn_config|attention_other|max_source_positions"
)
OTHER_PARTS = re.compile(r"vision|audio|quant|rope|tokenizer|diffusion|visual|compression")
UNRELATED = {
    "mlp_layer_types",
    "activation_sparsity_pattern",
    "num_local_experts",
    "add_qkv_bias",
    "qkv_bias",
    "use_qkv_bias",
    "chunk_size_feed_forward",
    "add_classification_head",
}


def relevant(data: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in data.items():
        if OTHER_PARTS.search(key) or key in UNRELATED:
            continue
        if isinstance(value, dict):
            yield from relevant(value, f"{path}{key}.")
        elif RELEVANT.search(key):
            yield f"{path}{key}"


@each("name", NAMES)
def test_no_key_that_decides_a_size_goes_unread(name: str) -> None:
    config = Config(raw(name), name)
    architectures.read_config(config)
    unread = {key for key in relevant(raw(name)) if key not in config.read_keys}
    if raw(name)["model_type"] in {"bart", "whisper"}:
        unread -= {"num_hidden_layers", "encoder_attention_heads"}  # the encoder's; the decoder has its own keys
    if raw(name)["model_type"] == "minimax_m2":
        unread -= {"sliding_window"}  # null in these files, and the class has none
    assert unread == set()


def test_the_check_for_unread_keys_sees_a_key_that_no_family_knows() -> None:
    config = Config({**raw("01-ai__Yi-34B"), "novel_window": 1}, "x")
    architectures.read_config(config)
    assert [key for key in relevant(config.data) if key not in config.read_keys] == ["novel_window"]


def test_a_config_that_a_class_stores_in_full_says_which_keys_decided() -> None:
    facts = {fact.key: fact.origin for fact in load("mistralai__Mistral-7B-Instruct-v0.2").provenance}
    assert facts["num_key_value_heads"] == "config"


# Traps that configs/README.md lists, one test each.


def test_trap_1_a_share_factor_without_use_cla_shares_nothing() -> None:
    a13b = load("tencent__Hunyuan-A13B-Instruct")
    assert raw("tencent__Hunyuan-A13B-Instruct")["cla_share_factor"] == 2
    assert not any(isinstance(m, Shared) for layer in a13b.layers for m in layer.memories)
    large = load("tencent__Tencent-Hunyuan-Large")
    assert [m.source for layer in large.layers for m in layer.memories if isinstance(m, Shared)] == list(range(0, 64, 2))
    assert "CLA" in large.notes[0]


def test_trap_2_a_window_that_is_switched_off_is_no_window() -> None:
    config = raw("Qwen__Qwen2.5-7B-Instruct")
    assert (config["use_sliding_window"], config["sliding_window"]) == (False, 131072)
    assert {m.reach for m in owners(load("Qwen__Qwen2.5-7B-Instruct"))} == {Full()}


def test_trap_2_a_window_larger_than_the_context_changes_no_byte() -> None:
    config = raw("microsoft__Phi-4-mini-reasoning")
    assert config["sliding_window"] > config["max_position_embeddings"]
    without = estimate({**config, "sliding_window": None}, seq_len=131072)
    assert estimate(config, seq_len=131072).total_bytes == without.total_bytes


def test_trap_4_command_r_is_multi_head_and_falcon_has_two_meanings_of_its_keys() -> None:
    assert {m.kv_heads for m in owners(load("CohereForAI__c4ai-command-r-v01"))} == {64}
    assert {m.kv_heads for m in owners(load("tiiuae__falcon-7b"))} == {1}
    assert {m.kv_heads for m in owners(load("tiiuae__falcon-40b"))} == {8}


def test_trap_5_llava_names_no_sizes_so_its_text_class_does() -> None:
    assert "num_hidden_layers" not in raw("llava-hf__llava-1.5-7b-hf")["text_config"]
    llava = load("llava-hf__llava-1.5-7b-hf")
    assert (len(llava.layers), owners(llava)[0]) == (32, Softmax(kv_heads=32, key_dim=128, value_dim=128))


def test_trap_6_families_have_their_own_words_for_kv_heads() -> None:
    step = {**raw("stepfun-ai__Step-3.7-Flash")}
    step["num_attention_groups"] = step.pop("num_key_value_heads")
    assert {m.kv_heads for m in owners(architectures.read(step))} == {8}
    assert {m.kv_heads for m in owners(load("THUDM__chatglm3-6b"))} == {2}
    assert {m.kv_heads for m in owners(load("databricks__dbrx-instruct"))} == {8}
    assert {m.kv_heads for m in owners(load("bigcode__starcoder"))} == {1}


def test_trap_6_layers_that_a_search_removed_keep_nothing() -> None:
    nas = load("nvidia__Llama-3_3-Nemotron-Super-49B-v1")
    assert (len(nas.layers), len(owners(nas))) == (80, 49)


def test_trap_7_gemma_4_has_two_head_sizes_and_two_head_counts() -> None:
    kinds = {(m.kv_heads, m.key_dim, type(m.reach)) for m in owners(load("google__gemma-4-26B-A4B"))}
    assert kinds == {(8, 256, Window), (2, 512, Full)}


@pytest.mark.parametrize(("name", "sharing"), [("google__gemma-4-E2B", 20), ("google__gemma-4-E4B", 18)])
def test_trap_7_small_gemma_4_shares_its_last_layers(name: str, sharing: int) -> None:
    name = next(n for n in NAMES if n.startswith(name))
    model = load(name)
    shared = [m for layer in model.layers for m in layer.memories if isinstance(m, Shared)]
    assert len(shared) == sharing
    assert all(isinstance(layer.memories[0], Shared) for layer in model.layers[-sharing:])


def test_mtp_layers_are_drafts_and_no_layers() -> None:
    glm = load("zai-org__GLM-4.5-Air")
    assert (len(glm.layers), len(glm.drafts)) == (46, 1)
    assert len(load("stepfun-ai__Step-3.7-Flash").drafts) == 3
    assert len(load("XiaomiMiMo__MiMo-7B-Base").drafts) == 1
    assert len(load("LGAI-EXAONE__EXAONE-4.5-33B").drafts) == 1
