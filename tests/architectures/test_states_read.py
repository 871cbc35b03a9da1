"""Real configs of latent, sparse, compressed and recurrent models are read whole, and give the published numbers."""

import json
import re
from collections import Counter

import golden
import pytest

from kvplan.architectures import FAMILIES, WRAPPERS, read
from kvplan.domain.model import Compressed, Full, Index, Latent, Model, Recurrent, Shared, Softmax, Window
from kvplan.domain.workload import Workload
from kvplan.questions.estimate import plan

CONFIGS = golden.CONFIGS / "hf"
MODULES = (
    "latent", "indexed", "deepseek_v4", "kda", "delta", "minimax", "mamba", "nemotron_h", "sambay", "convolution", "recurrent",
)  # fmt: skip
OURS = {model_type for module in MODULES for model_type in FAMILIES[module]}


def config(name: str) -> dict:
    return json.loads((CONFIGS / f"{name}.json").read_text())


def text_type(data: dict) -> str:
    """The model type of the text part: what it says, or what its wrapper implies."""
    outer = data["model_type"]
    path, implied = WRAPPERS.get(outer, ((), outer))
    for key in path:
        data = data.get(key, data)
    inner = data.get("model_type", implied)
    return implied if inner == outer else inner


NAMES = sorted(path.stem for path in CONFIGS.glob("*.json") if text_type(json.loads(path.read_text())) in OURS)


def load(name: str, **changes: object) -> Model:
    return read({**config(name), **changes}, source=name)


def ideal(model: Model, seq_len: int):
    return plan(model, Workload(seq_len=seq_len))


def test_there_are_many_such_configs():
    assert len(NAMES) > 80


@pytest.mark.parametrize("name", NAMES)
def test_a_real_config_takes_memory_in_every_layer_that_remembers(name):
    model = load(name)
    assert not model.inferred
    assert ideal(model, 4096).payload_bytes > 0
    assert any(layer.memories for layer in model.layers)


#: Keys that decide a cache's size, under every name that these families use.
DECISIVE = re.compile(
    r"(kv_lora_rank|qk_rope_head_dim|index_head_dim|indexer_types|indexer_head_dim|index_kpool|index_topk_(freq|pattern)"
    r"|kv_source_layers|no_rope_layers|layer_types|layers_block_type|hybrid_override_pattern|attn_layer_.*|attn_type_list"
    r"|linear_(num|key|value|conv|head).*|mamba_(d_(state|conv|head|ssm)|n_.*|expand|num_heads|head_dim|headdim|ngroups)"
    r"|(ssm_)?state_size|n_groups|n_mamba_heads|conv_kernel(_size)?|conv_L_cache|conv1d_width|lru_width|cca_time\d"
    r"|short_conv_kernel_size|sliding_window(_size)?|attention_window_size|compress_(rates|ratios)|block_types"
    r"|num_nextn_predict_layers|mtp_hybrid_override_pattern|num_key_value_heads|head_dim|attention_head_dim|swa_.*_heads"
    r"|swa_head_dim|qk_dim_factor|v_dim_factor|head_size|attention_hidden_size)"
)
#: Present in these files, and without a say: (model types, keys, why).
WITHOUT_A_SAY = [
    ("(deepseek|kimi|glm|axk|youtu|longcat|minicpm3|mistral|bailing|hy_v4|dots3).*", "num_key_value_heads|head_dim", "MLA"),
    ("zamba2?", "attn_layer_.*|attention_hidden_size", "layers_block_type wins"),
    ("bailing_hybrid", "short_conv_kernel_size|layer_group_size", "linear_conv_kernel_dim and layer_types win"),
    ("glm_moe_dsa", "index_topk_freq", "indexer_types wins"),
    ("deepseek_(v4|ref)", "num_key_value_heads|qk_rope_head_dim", "one vector for keys and values"),
]


def has_a_say(model_type: str, key: str) -> bool:
    return not any(re.fullmatch(types, model_type) and re.fullmatch(keys, key) for types, keys, _ in WITHOUT_A_SAY)


@pytest.mark.parametrize("name", NAMES)
def test_no_key_that_decides_the_cache_stays_unread(name):
    data = config(name)
    model_type = text_type(data)
    text = next((data[key] for key in ("text_config", "language_config") if key in data), data)
    given = [fact.key.split(".") for fact in load(name).provenance if fact.origin == "config"]
    seen = {path[0] for path in given} | {path[-1] for path in given}  # of the wrapper's sections and of nested objects
    decisive = {key for key, value in text.items() if value is not None and DECISIVE.fullmatch(key)}
    assert {key for key in decisive - seen if has_a_say(model_type, key)} == set()


# Published numbers.


def latents(model: Model) -> list[Latent]:
    return [memory for layer in model.layers for memory in layer.memories if isinstance(memory, Latent)]


def states_of(model: Model) -> list[Recurrent]:
    return [memory for layer in model.layers for memory in layer.memories if isinstance(memory, Recurrent)]


def test_deepseek_v3_keeps_70272_bytes_a_token_and_one_prediction_layer():
    model = load("deepseek-ai__DeepSeek-V3")
    assert ideal(model, 1000).payload_bytes == 70_272_000
    assert [layer.memories for layer in model.drafts] == [model.layers[0].memories]


def test_deepseek_v2_keeps_34_560_elements_a_token():
    model = load("deepseek-ai__DeepSeek-V2")
    assert sum(latent.absorbed_elements for latent in latents(model)) == 34_560  # the paper prints 34.6K
    assert model.drafts == ()


def test_deepseek_v2_without_mla_is_ordinary_attention():
    model = read({"model_type": "deepseek_v2", "use_mla": False, "hidden_size": 1280, "num_attention_heads": 10})
    assert model.layers[0].memories == (Softmax(kv_heads=10, key_dim=128, value_dim=128),)


def test_deepseek_v32_adds_an_index_key_to_every_layer_and_its_prediction_layer():
    model = load("deepseek-ai__DeepSeek-V3.2")
    assert {type(m) for layer in model.layers for m in layer.memories} == {Latent, Index}
    assert ideal(model, 1000).payload_bytes == 1000 * 61 * (576 + 128) * 2
    assert [layer.memories for layer in model.drafts] == [model.layers[0].memories]


def test_glm_5_2_owns_21_indexers_and_glm_5_1_one_a_layer():
    def indexers(name):
        return sum(isinstance(m, Index) for layer in load(name).layers for m in layer.memories)

    assert indexers("zai-org__GLM-5.2") == 21  # as SGLang counts them
    assert indexers("zai-org__GLM-5.1") == 78


def test_index_schedules_agree_however_they_are_written():
    base = {"model_type": "glm_moe_dsa", "num_hidden_layers": 8}
    every = read({**base, "index_topk_freq": 4, "index_skip_topk_offset": 3})
    letters = "".join("F" if len(layer.memories) == 2 else "S" for layer in every.layers)
    assert letters == "FFFSSSFS"
    words = [{"F": "full", "S": "shared"}[letter] for letter in letters]
    for other in ({"index_topk_pattern": letters}, {"index_topk_pattern": words}, {"indexer_types": words}):
        assert read({**base, **other}).layers == every.layers


def test_hy_v4_shares_indexers_three_layers_in_four():
    model = read({"model_type": "hy_v4"})
    assert sum(len(layer.memories) == 2 for layer in model.layers) == 10
    assert len(model.layers) == 34


def test_mistral_large_4_keeps_no_rotary_keys_in_every_fourth_layer():
    model = load("mistralai__Mistral-Large-4-1T-A52B")
    assert Counter(latent.rope_dim for latent in latents(model)) == {64: 54, 0: 18}
    assert {latent.nope_dim + latent.rope_dim for latent in latents(model)} == {128}


def test_mistral_large_4_layers_that_share_keep_only_their_indexer():
    changes = {"num_hidden_layers": 4, "kv_source_layers": [0, 1, 0, 1], "indexer_types": ["full", "full", "full", "shared"]}
    model = read({"model_type": "mistral_large4_text", **changes})
    assert model.layers[2].memories == (Shared(source=0), Index(dim=128))
    assert model.layers[3].memories == (Shared(source=1),)


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


def test_longcat_runs_two_attention_blocks_a_layer():
    model = load("meituan-longcat__LongCat-Flash-Chat")
    assert len(model.layers) == 56
    data = config("meituan-longcat__LongCat-Flash-Chat")
    blocks = read({**{k: v for k, v in data.items() if k != "num_layers"}, "num_hidden_layers": 56})
    assert blocks.layers == model.layers
    assert len(model.drafts) == 1


def test_deepseek_v4_flash_windows_compresses_and_indexes():
    model = load("deepseek-ai__DeepSeek-V4-Flash")
    kinds = Counter(len(layer.memories) for layer in model.layers)
    assert kinds == {1: 2, 3: 21, 2: 20}  # sliding, sparse, heavily compressed
    window, entries, index = model.layers[2].memories
    assert (window.reach, entries.reach, index.reach) == (Window(128), Compressed(4, overlap=True), Compressed(4, overlap=True))
    assert model.layers[3].memories[1].reach == Compressed(128)
    length = 1 << 20
    elements = 43 * 128 * 512 + 21 * (length // 4) * (512 + 128) + 20 * (length // 128) * 512
    assert ideal(model, length).payload_bytes == 2 * elements
    assert [layer.memories for layer in model.drafts] == [(window,)]  # the 44th ratio is 0


def test_kimi_linear_reads_the_released_lists_which_count_from_one():
    nested = {"full_attn_layers": [4, 8], "kda_layers": [1, 2, 3, 5, 6, 7], "head_dim": 128, "num_heads": 32}
    model = read({"model_type": "kimi_linear", "num_hidden_layers": 8, "linear_attn_config": nested})
    assert [i for i, layer in enumerate(model.layers) if isinstance(layer.memories[0], Latent)] == [3, 7]
    one = ideal(model, 1).state_bytes // 6
    assert one == 2_170_880  # one layer's page in vLLM: 3 columns of 12,288 and a float32 matrix a head


def test_kimi_k3_has_24_latents_and_69_states():
    model = load("moonshotai__Kimi-K3")
    assert (len(latents(model)), len(states_of(model))) == (24, 69)


def test_glm_5_3_flash_scores_pools_of_tokens_and_has_no_rotary_keys():
    model = load("zai-org__GLM-5.3-Flash")
    assert len(states_of(model)) == 34
    assert {latent.absorbed_elements for latent in latents(model)} == {512}
    assert model.layers[3].memories[1] == Index(dim=128, reach=Compressed(16))


def test_ling_3_reads_head_dim_as_the_linear_layers_unless_a_saved_config_says_otherwise():
    released = read({"model_type": "bailing_hybrid", "head_dim": 64})
    saved = read({"model_type": "bailing_hybrid", "head_dim": 64, "linear_head_dim": 128})
    assert states_of(released)[0].states[1].shape == (32, 64, 64)
    assert states_of(saved)[0].states[1].shape == (32, 128, 128)


def test_ling_2_5_is_lightning_attention_under_the_same_model_type():
    model = read({"model_type": "bailing_hybrid", "num_hidden_layers": 8, "layer_group_size": 5, "group_norm_size": 4})
    assert [isinstance(layer.memories[0], Latent) for layer in model.layers] == [False] * 4 + [True] * 4
    (state,) = states_of(model)[0].states
    assert (state.shape, state.kernel) == ((32, 128, 128), 0)


def test_plamo_2_alternates_states_and_windows():
    model = read({"model_type": "plamo2", "full_attention_idx": [3]})
    states = states_of(model)[0].states
    assert sum(3 * state.shape[0] for state in states if state.kernel) * 16 * 4 == 1_572_864  # R of llama.cpp, float32
    assert [i for i, layer in enumerate(model.layers) if isinstance(layer.memories[0], Softmax)] == list(range(1, 32, 2))
    assert [model.layers[i].memories[0].reach for i in (1, 3)] == [Window(2048), Full()]


def test_deepseek_v4_1_keeps_entries_and_index_keys_in_their_source_layers():
    ratios = {"compress_ratios": [0, 4, 128, 4, 4], "kv_source_layer_ids": [1, 2, 3], "index_source_layer_ids": [1]}
    model = read({"model_type": "deepseek_v41", "num_hidden_layers": 5, "num_nextn_predict_layers": 0, **ratios})
    assert [len(layer.memories) for layer in model.layers] == [1, 3, 2, 2, 1]


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


def test_olmo_hybrid_derives_its_linear_heads():
    model = read({"model_type": "olmo_hybrid"})
    assert model.layers == load("allenai__Olmo-Hybrid-7B").layers
    assert states_of(model)[0].states[1].shape == (30, 96, 192)


def test_minimax_text_01_has_softmax_in_ten_of_eighty_layers():
    found = ideal(load("MiniMaxAI__MiniMax-Text-01"), 1000)
    assert found.bytes_per_token == 10 * 2 * 8 * 128 * 2
    assert found.state_bytes == 146_800_640  # 70 layers, as transformers held them in bfloat16


def test_minimax_m2_is_softmax_everywhere_with_three_prediction_layers():
    model = load("nvidia__MiniMax-M2.5-NVFP4")
    assert {layer.memories for layer in model.layers} == {(Softmax(kv_heads=8, key_dim=128, value_dim=128),)}
    assert len(model.drafts) == 3


@pytest.mark.parametrize("name", ["MiniMaxAI__MiniMax-M3", "nvidia__MiniMax-M3-NVFP4"])
def test_minimax_m3_indexes_all_but_its_first_three_layers(name):
    model = load(name)
    assert [len(layer.memories) for layer in model.layers] == [1] * 3 + [2] * 57
    assert model.layers[3].memories[1] == Index(dim=128)
    assert [layer.memories for layer in model.drafts] == [model.layers[-1].memories]


def test_jamba_takes_4_gib_of_keys_and_values_at_256k_tokens():
    model = load("ai21labs__Jamba-v0.1")
    assert [i for i, layer in enumerate(model.layers) if isinstance(layer.memories[0], Softmax)] == [4, 12, 20, 28]
    assert ideal(model, 1).bytes_per_token * 262_144 == 4 * 2**30  # the paper's 4 GB


def test_falcon_mamba_believes_its_intermediate_size():
    assert states_of(load("tiiuae__falcon-mamba-7b"))[0].states[1].shape == (8192, 16)


def test_falcon_h1_has_both_memories_in_every_layer():
    model = load("tiiuae__Falcon-H1-7B-Instruct")
    assert all([type(m) for m in layer.memories] == [Softmax, Recurrent] for layer in model.layers)
    assert ideal(model, 1).bytes_per_token == 44 * 2 * 2 * 128 * 2
    assert states_of(model)[0].states[0].shape == (3072 + 2 * 256,)


def test_falcon_h1_with_a_null_width_expands_its_hidden_size():
    changes = {"model_type": "falcon_h1", "mamba_n_heads": 64}
    assert states_of(read({**changes, "mamba_d_ssm": None}))[0].states[1].shape == (64, 128, 256)
    assert states_of(read(changes))[0].states[1].shape == (64, 16, 256)


def test_zamba_caches_its_shared_block_at_every_depth():
    first, second = load("Zyphra__Zamba-7B-v1"), load("Zyphra__Zamba2-2.7B")
    assert sum(len(layer.memories) == 2 for layer in first.layers) == 13
    assert [i for i, layer in enumerate(second.layers) if len(layer.memories) == 2] == [6, 12, 18, 24, 30, 36, 42, 47, 51]
    assert first.layers[2].memories[0] == Softmax(kv_heads=16, key_dim=464, value_dim=464)
    assert second.layers[6].memories[0] == Softmax(kv_heads=32, key_dim=160, value_dim=160)


def test_nemotron_h_mlp_and_expert_layers_remember_nothing():
    model = load("nvidia__NVIDIA-Nemotron-3-Super-120B-A12B-FP8")
    kinds = Counter(tuple(type(m).__name__ for m in layer.memories) for layer in model.layers)
    assert kinds == {("Recurrent",): 40, (): 40, ("Softmax",): 8}
    assert [len(layer.memories) for layer in model.drafts] == [1, 0]  # the pattern *E


def test_phi4_flash_keeps_one_full_layer_that_seven_read():
    model = load("microsoft__Phi-4-mini-flash-reasoning")
    counted = Counter(layer.memories for layer in model.layers)
    full = Softmax(kv_heads=20, key_dim=64, value_dim=64)
    assert counted[(full,)] == 1
    assert counted[(Shared(source=17),)] == 7
    assert counted[()] == 7
    assert counted[(Softmax(kv_heads=20, key_dim=64, value_dim=64, reach=Window(512)),)] == 8
    assert len(states_of(model)) == 9


def test_lfm2_has_convolutions_of_three_taps_and_lfm3_also_windows():
    second, third = load("LiquidAI__LFM2-1.2B"), load("LiquidAI__LFM3-1.7B")
    assert len(states_of(second)) == 10
    assert states_of(second)[0].states[0].kernel == 3
    reaches = Counter(m.reach for layer in third.layers for m in layer.memories if isinstance(m, Softmax))
    assert reaches[Window(256)] == 5
    assert len(states_of(third)) == 13


def test_zaya_keeps_what_its_two_convolutions_look_back_at():
    model = read({"model_type": "zaya", "num_hidden_layers": 1, "cca_time0": 3})
    conv, delayed = model.layers[0].memories[1].states
    assert (conv.shape, delayed.shape) == ((1280, 3), (128,))


def test_recurrentgemma_slides_in_every_third_layer():
    model = load("google__recurrentgemma-2b")
    assert [i for i, layer in enumerate(model.layers) if isinstance(layer.memories[0], Softmax)] == list(range(2, 26, 3))
    assert model.layers[2].memories[0] == Softmax(kv_heads=1, key_dim=256, value_dim=256, reach=Window(2048))


def test_rwkv_5_keeps_a_float32_matrix_a_head():
    model = load("RWKV__rwkv-5-world-3b")
    assert ideal(model, 100_000).payload_bytes == 32 * (2 * 2560 * 2 + 40 * 64 * 64 * 4)


def test_a_wrapper_is_read_through_its_text_part():
    text = {"num_hidden_layers": 4}
    for outer, inner in (
        ("minicpmv4_7", "qwen3_5_text"),
        ("lfm3_vl", "lfm3"),
        ("inkling2", "inkling2_text"),
        ("kimi_k25", "deepseek_v3"),
    ):
        assert read({"model_type": outer, "text_config": text}).layers == read({"model_type": inner, **text}).layers
    nested = read({"model_type": "nemotron_h_omni", "llm_config": {"model_type": "nemotron_h", "hybrid_override_pattern": "M*E"}})
    assert [len(layer.memories) for layer in nested.layers] == [1, 1, 0]
