"""Every shipped config of latents, indexers, compressed entries or states: it holds something, no key goes unread."""

import re

import shipped
from each import each
from model_types import OTHER_MEMORIES
from shipped import ideal, load, raw, text_type

NAMES = [name for name in shipped.NAMES if text_type(raw(name)) in OTHER_MEMORIES]


def test_there_are_many_such_configs():
    assert len(NAMES) > 80


@each("name", NAMES)
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


@each("name", NAMES)
def test_no_key_that_decides_the_cache_stays_unread(name):
    data = raw(name)
    model_type = text_type(data)
    text = next((data[key] for key in ("text_config", "language_config") if key in data), data)
    given = [fact.key.split(".") for fact in load(name).provenance if fact.origin == "config"]
    seen = {path[0] for path in given} | {path[-1] for path in given}  # of the wrapper's sections and of nested objects
    decisive = {key for key, value in text.items() if value is not None and DECISIVE.fullmatch(key)}
    assert {key for key in decisive - seen if has_a_say(model_type, key)} == set()
