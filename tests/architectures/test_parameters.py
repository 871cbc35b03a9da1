"""Parameters counted from a config: what the library builds, what is known of published checkpoints, and what refuses."""

import csv
import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import make_catalogue
import pytest
from catalogue_keys import ORIGINALS, UNEQUAL, completed
from each import each
from golden import CONFIGS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_configs import ROWS, configs

from kvplan import architectures
from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters import counted, parameters
from kvplan.architectures.parameters.kept import masks, tied_head
from kvplan.architectures.parameters.sizes import class_defaults
from kvplan.domain.parameters import Parameter, elements, in_order
from kvplan.errors import ConfigError, KvplanError, UnknownArchitecture
from kvplan.loading.catalogue import folder, load_entry, names

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 24, "vocab_size": 100, "tie_word_embeddings": False,
}  # fmt: skip
#: Wrappers, towers and families with layers of their own, at their classes' defaults.
WHOLE = (
    "ctrl", "deepseek_v4", "falcon_mamba", "fuyu", "gemma3", "glm4v_moe", "idefics3", "internvl", "kimi_linear",
    "llama4", "llava", "longcat_flash_lite", "mistral3", "mllama", "mt5", "nemotron_h", "paligemma", "phimoe", "qwen2_5_vl",
    "qwen2_audio", "qwen3_omni_moe_thinker", "qwen3_vl_moe", "rwkv", "smolvlm", "t5gemma", "voxtral", "xlstm", "zamba2",
)  # fmt: skip
#: What the library builds otherwise than checkpoints hold: it leaves out keys and values that Gemma 3n's files keep for layers
#: that share another's, and gives MiMo's sliding layers twice the KV heads and the others' sizes, whatever their own keys say.
AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "mimo_v2_flash": {
        "num_attention_heads": 4, "swa_num_attention_heads": 4, "num_key_value_heads": 2, "swa_num_key_value_heads": 4,
        "head_dim": 8, "swa_head_dim": 8, "v_head_dim": 12, "swa_v_head_dim": 12,
    },
}  # fmt: skip
needs_transformers = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("transformers", "torch")), reason="nothing to compare with"
)


def of(config: Mapping[str, Any]) -> tuple[Parameter, ...]:
    return parameters(Config(config, "config.json"))


@needs_transformers
@pytest.mark.filterwarnings("ignore")  # the library's own
@each("model_type", ROWS)
@settings(max_examples=1, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_small_models_have_the_tensors_that_the_library_builds(model_type: str, data: st.DataObject) -> None:
    from check_parameters import difference

    assert difference(data.draw(configs(model_type)) | AS_PUBLISHED.get(model_type, {})) == ""


@needs_transformers
@pytest.mark.filterwarnings("ignore")
@each("model_type", [name for name in WHOLE if name in architectures.known_model_types()])
def test_whole_models_have_the_tensors_that_the_library_builds(model_type: str) -> None:
    from check_parameters import difference

    assert difference({"model_type": model_type}) == ""


#: Small configs, and what mlx-lm 0.32.2's own classes hold of them (`tree_flatten(Model(args).parameters())`).
SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 100,
}  # fmt: skip
MLX_LM: dict[str, tuple[dict[str, Any], int]] = {
    "Klear": (
        SMALL | {
            "num_experts": 4, "moe_intermediate_size": 24, "n_shared_experts": 2, "decoder_sparse_step": 2,
            "mlp_only_layers": [1],
            "attention_bias": True, "head_dim": 16,
        }, 146_758,
    ),
    "lille-130m": ({"n_embd": 640, "n_head": 10, "n_kv_heads": 5, "n_layer": 3, "vocab_size": 100}, 14_076_800),
    "nanbeige": (SMALL | {"num_loops": 2, "head_dim": 16}, 136_256),
    "plamo3": (SMALL | {"head_dim": 16, "sliding_window": 16, "sliding_window_pattern": 2}, 136_896),
    "spark2_5": (
        SMALL | {"head_dim": 24, "attention_bias": True, "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 16},
        162_896,
    ),
    "baichuan_m1": (
        SMALL | {"sliding_window": 16, "sliding_window_layers": [1, 3], "num_swa_attention_heads": 8,
        "num_swa_key_value_heads": 4},
        136_304,
    ),
    "bailing_moe_linear": (
        SMALL | {
            "moe_intermediate_size": 24, "num_experts": 4, "num_shared_experts": 1, "first_k_dense_replace": 1,
            "layer_group_size": 2,
            "use_qk_norm": True, "moe_router_enable_expert_bias": True, "head_dim": 16,
        }, 167_500,
    ),
    "longcat_flash_ngram": (
        {
            "hidden_size": 96, "ffn_hidden_size": 96, "expert_ffn_hidden_size": 24, "n_routed_experts": 4, "zero_expert_num": 2,
            "num_layers": 2, "vocab_size": 100, "num_attention_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 24,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 16, "v_head_dim": 16, "ngram_vocab_size_ratio": 3, "emb_neighbor_num": 3, "emb_split_num": 2,
        }, 286_092,
    ),
}  # fmt: skip


@each("model_type", MLX_LM)
def test_models_with_code_of_their_own_have_the_parameters_that_mlx_lm_builds(model_type: str) -> None:
    config, count = MLX_LM[model_type]
    assert elements(of({"model_type": model_type, **config})) == count


@needs_transformers
@pytest.mark.filterwarnings("ignore")
def test_halves_of_different_widths() -> None:
    from check_parameters import difference

    half = SMALL | {"head_dim": 16, "max_position_embeddings": 64, "sliding_window": 8}
    config = {
        "model_type": "t5gemma",
        "vocab_size": 100,
        "encoder": half | {"hidden_size": 96, "num_hidden_layers": 2},
        "decoder": half,
    }
    assert difference(config) == ""


@cache
def known() -> dict[str, int]:
    """Entry of the catalogue -> the count that a source gives its repository (params.tsv)."""
    found = {}
    for name in names():
        entry = load_entry(folder() / f"{name}.yaml")
        hub = next((fact.value for fact in entry.provenance if fact.key == "hub"), "")
        if entry.origin is None or not hub or make_catalogue.is_quantised(entry.origin.config):
            continue
        count = make_catalogue.count(hub, name)
        if count is not None:
            found[name] = count
    return found


def close(number: int, count: int) -> bool:
    return abs(number / count - 1) <= 0.001


def explained(config: Config, count: int) -> bool:
    """Whether the tensors come to a count, alone or with what old checkpoints keep beside them."""
    found = parameters(config)
    beside = (0, elements(masks(config)), elements(tied_head(found)))
    return any(close(elements(found) + more, count) for more in beside)


def test_nine_in_ten_known_counts_are_met() -> None:
    met = {
        name: explained(Config(load_entry(folder() / f"{name}.yaml").origin.config, name), count)  # type: ignore[union-attr]
        for name, count in known().items()
    }
    assert len(met) == 252
    assert sum(met.values()) >= 230
    assert {name for name, is_met in met.items() if not is_met} <= UNEQUAL.keys()  # each of the rest has its reason


def test_a_reason_is_only_given_where_one_is_needed() -> None:
    for name in UNEQUAL.keys() & known().keys():
        entry = load_entry(folder() / f"{name}.yaml")
        assert entry.origin is not None
        assert not close(elements(parameters(Config(entry.origin.config, name))), known()[name]), name


@each("name", names())
def test_an_entry_says_what_its_tensors_come_to(name: str) -> None:
    entry = load_entry(folder() / f"{name}.yaml")
    assert entry.parameters is not None
    if entry.origin is None:  # nobody published all widths of these
        assert name.startswith("cla-paper/")
        assert entry.assumed is not None
        return
    assert entry.assumed is None
    number = elements(parameters(Config(entry.origin.config, name)))
    assert number == entry.parameters or UNEQUAL[name].startswith("config: ")


#: Tensors of each kind in a Llama of three layers, worked out by hand.
def test_a_llama_by_hand() -> None:
    found = {p.name: p for p in of(LLAMA)}
    layers = (0, 1, 2)
    assert found["model.layers.{layer}.self_attn.k_proj.weight"] == Parameter(
        name="model.layers.{layer}.self_attn.k_proj.weight", shape=(48, 64), role="k", component="attention", split="column",
        units=2, linear=True, layers=layers,
    )  # fmt: skip
    attention = 64 * 96 * 2 + 64 * 48 * 2
    assert elements(found.values()) == 2 * 100 * 64 + 3 * (attention + 3 * 64 * 96 + 2 * 64) + 64
    assert elements(of({**LLAMA, "tie_word_embeddings": True})) == elements(found.values()) - 100 * 64


def test_layers_are_walked_in_the_order_of_construction() -> None:
    order = [(parameter.name, layer) for parameter, layer in in_order(of(LLAMA))]
    assert len(order) == len(set(order)) == 3 + 3 * 9
    assert (order[0], order[-1]) == (("model.embed_tokens.weight", None), ("lm_head.weight", None))
    assert [layer for _, layer in order[1:-2]] == [0] * 9 + [1] * 9 + [2] * 9


@given(st.integers(1, 6), st.integers(1, 4), st.sampled_from([16, 32, 48]), st.booleans())
def test_layers_add_up(layers: int, groups: int, width: int, tied: bool) -> None:
    config = {**LLAMA, "num_attention_heads": 4 * groups, "intermediate_size": width, "tie_word_embeddings": tied}
    sizes = [elements(of({**config, "num_hidden_layers": layers + more})) for more in range(3)]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > 0


@given(st.integers(2, 12), st.integers(1, 3))
def test_experts_add_up(experts: int, shared: int) -> None:
    config = {
        "model_type": "deepseek_v3", "hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 2, "first_k_dense_replace": 1, "n_shared_experts": shared,
        "vocab_size": 50,
        "num_nextn_predict_layers": 0,
    }  # fmt: skip
    one, more = (elements(of({**config, "n_routed_experts": number})) for number in (experts, experts + 1))
    assert more - one == 2 * (3 * 16 * 32 + 32 + 1)  # in each sparse layer an expert, its row of the router and its bias


def test_a_section_that_no_rule_counts_is_said() -> None:
    found = counted(Config({"model_type": "llava", "vision_config": {"model_type": "sam_vision_model"}}, "config.json"))
    assert found.uncounted == ("vision_config",)


@pytest.mark.parametrize("model_type", ["encoder-decoder", "vits", "speech-encoder-decoder"])
def test_what_no_rule_counts_is_refused(model_type: str) -> None:
    with pytest.raises(UnknownArchitecture):
        of({"model_type": model_type})


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2**70), st.floats(allow_nan=True), st.text(max_size=3),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@each("model_type", ["llama", "qwen3_moe", "deepseek_v3", "mamba2", "gemma3", "t5", "falcon", "nemotron_h", "kimi_k3"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_mangled_configs_are_counted_or_refused_in_one_sentence(model_type: str, data: st.DataObject) -> None:
    keys = st.sampled_from([key for key in class_defaults().get(model_type, {}) if not key.startswith("_")] or ["hidden_size"])
    config = {"model_type": model_type, **data.draw(st.dictionaries(keys, JUNK, max_size=3))}
    try:
        found = of(config)
    except KvplanError as problem:
        message = str(problem)
    else:
        message = ""
        assert all(size >= 0 for p in found for size in p.shape)
    assert "\n" not in message
    assert len(message) < 400


def test_missing_widths_are_named() -> None:
    with pytest.raises(ConfigError, match="intermediate_size"):
        of({"model_type": "baichuan", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 9})


def hub_config(stem: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((CONFIGS / "hf" / f"{stem}.json").read_text(encoding="utf-8"))
    return completed(stem, data)


def test_files_and_entries_agree_where_both_are_known() -> None:
    with (CONFIGS / "INDEX.tsv").open(encoding="utf-8") as file:
        stems = [row["file"].removesuffix(".json") for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    refused = []
    for stem in stems:
        try:
            parameters(Config(hub_config(stem), stem))
        except KvplanError as problem:
            refused.append(f"{stem}: {problem}")
    assert len(refused) <= 4, refused
    assert set(ORIGINALS) <= set(stems)
