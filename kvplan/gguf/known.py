"""llama.cpp's architectures by what their memory is like: tables of names, windows and intervals.

Source: llama.cpp 0c1e57098, `src/llama-arch.cpp` (`LLM_ARCH_NAMES`), `src/llama-model.cpp` (`create_memory`),
`src/models/*.cpp` (`load_arch_hparams`).
"""

from typing import Final

from msgspec import Struct

MAX_LAYERS: Final = 512  # LLAMA_MAX_LAYERS
#: Drafters whose context shares another model's memory, or needs its context: not studied.
DRAFTERS: Final = frozenset({"gemma4-assistant", "eagle3", "dflash"})
#: Architectures without any cache object (`llama_model::create_memory` returns null).
NO_CACHE: Final = frozenset(
    {
        "bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "modern-bert", "eurobert",
        "gemma-embedding",
        "dream", "llada", "llada-moe", "rnd1", "wavtokenizer-dec",
    }
)  # fmt: skip
NON_CAUSAL: Final = frozenset({"gemma-embedding", "dream", "llada", "llada-moe", "rnd1"})
PURE_RECURRENT: Final = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
#: head_count_kv == 0 marks the recurrent layers.
ZERO_HEADS_RECUR: Final = frozenset(
    {"jamba", "granitehybrid", "plamo2", "lfm2", "lfm2moe", "kimi-linear", "kimi-k3", "bailingmoe3", "glm5-next"}
)
#: `attention.recurrent_layers`, else all but every n-th layer: architecture -> default n.
INTERVAL_RECUR: Final = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "qwen4exp": 4, "minimax-01": 8}
#: Attention in some layers and a state in others (`llm_arch_is_hybrid`; DeepSeek V4 has memory of its own).
HYBRID: Final = frozenset({*INTERVAL_RECUR, *ZERO_HEADS_RECUR, "falcon-h1", "nemotron_h", "nemotron_h_moe"})
#: Hybrids whose cache leaves NextN layers out; the others' layer filters do not look.
TRUNK_ONLY_HYBRIDS: Final = frozenset({*INTERVAL_RECUR, "glm5-next"})
#: Others whose cache holds NextN layers like any, whatever the context is for.
IGNORES_NEXTN: Final = frozenset({"hy_v4", "minimax-m3"})
#: Hybrids whose MTP context is a plain cache (`mtp_on_hybrid_qwen`, `mtp_on_hybrid_nemotron`).
PLAIN_MTP_HYBRIDS: Final = frozenset({"qwen3next", "qwen35", "qwen35moe", "bailingmoe3", "nemotron_h_moe"})
#: Architectures that build a graph in an MTP context (`LLM_GRAPH_TYPE_DECODER_MTP`; llama-embed does not look at the type of
#: graph). GLM-5 Next's is "not implemented yet".
MTP_GRAPHS: Final = frozenset(
    {
        *PLAIN_MTP_HYBRIDS, "cohere2moe", "deepseek2", "deepseek32", "deepseek4", "glm-dsa", "glm4moe", "hy_v3",
        "mimo2", "step35", "llama-embed",
    }
)  # fmt: skip
ROLLBACK: Final = frozenset(
    {
        "kimi-k3", "qwen35", "qwen35moe", "qwen4exp", "deepseek4", "glm5-next", "nemotron_h", "nemotron_h_moe", "lfm2", "lfm2moe",
        "bailingmoe3",
    }
)  # fmt: skip
DSA: Final = frozenset({"deepseek32", "glm-dsa", "hy_v4"})
#: Which keys an architecture reads (`load_arch_hparams`): others may be in a file and mean nothing.
WKV: Final = frozenset({"rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})  # `wkv.head_size`
SHORT_CONV: Final = frozenset({"lfm2", "lfm2moe"})  # `shortconv.l_cache`
KDA: Final = frozenset({"bailingmoe3", "glm5-next", "kimi-k3", "kimi-linear"})  # `kda.head_dim`
SSM: Final = frozenset(  # `ssm.*`
    {
        "falcon-h1", "granitehybrid", "jamba", "mamba", "mamba2", "nemotron_h", "nemotron_h_moe", "plamo2", "qwen35", "qwen35moe",
        "qwen3next", "qwen4exp",
    }
)  # fmt: skip
MLA: Final = frozenset({*KDA, *DSA, "deepseek2", "mistral4", "dots3note"})  # `attention.key_length_mla`
INDEXED: Final = frozenset(
    {*DSA, "dots3note", "glm5-next", "minimax-m3", "qwen4exp"}
)  # a cache of `attention.indexer.key_length`
#: Built-in indexer layers of GLM-5.2 (78 trunk layers): the first three, then every fourth.
GLM52_INDEXED: Final = frozenset({0, 1, 2, *range(6, 78, 4)})

#: Architectures whose tokens have several positions each (`llama_model_rope_type`: MROPE, IMROPE).
MROPE: Final = frozenset({"qwen2vl", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "paddleocr", "bailingmoe3"})
#: The same where `rope.dimension_sections` says so (`llama_hparams::use_mrope`).
MROPE_BY_SECTIONS: Final = frozenset({"glm4", "glm4moe", "hunyuan_vl"})

#: Architectures of llama.cpp's table that are not read -> why.
UNREAD: Final = {
    "clip": "the projector of a multimodal model, which goes beside it",
    "pockettts": "a speech model whose codec keeps a cache of its own, which was not studied",
    "qwen3tts": "a speech model whose codec keeps a cache of its own, which was not studied",
}
# fmt: off
#: Architectures that llama.cpp loads (`LLM_ARCH_NAMES` in `src/llama-arch.cpp`); others need `--infer`.
KNOWN_ARCHITECTURES: Final = frozenset(
    {
        "llama", "llama4", "deci", "falcon", "grok", "gpt2", "gptj", "gptneox", "mpt", "baichuan", "starcoder", "refact",
        "t5encoder", "bloom", "stablelm", "qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe",
        "phi2", "phi3", "phimoe", "plamo", "plamo2", "plamo3", "codeshell", "orion", "internlm2", "minicpm", "minicpm3",
        "gemma", "gemma2", "gemma3", "gemma3n", "gemma4", "starcoder2", "jamba", "falcon-h1", "xverse", "command-r", "cohere2",
        "cohere2moe", "dbrx", "olmo", "olmo2", "olmoe", "openelm", "arctic", "deepseek", "deepseek2", "deepseek2-ocr",
        "deepseek32", "deepseek4", "chatglm", "glm4", "glm4moe", "glm-dsa", "glm5-next", "bitnet", "t5", "jais", "jais2",
        "nemotron", "nemotron_h", "nemotron_h_moe", "exaone", "exaone4", "exaone-moe", "granite", "granitemoe",
        "granitehybrid", "granite_swa", "graniteswitch", "chameleon", "plm", "bailingmoe", "bailingmoe2", "bailingmoe3",
        "dots1", "dots3note", "arcee", "afmoe", "laguna", "ernie4_5", "ernie4_5-moe", "hunyuan-moe", "hunyuan-dense",
        "hunyuan_vl", "hy_v3", "hy_v4", "smollm3", "gpt-oss", "lfm2", "lfm2moe", "smallthinker", "seed_oss", "grovemoe",
        "apertus", "minimax-01", "minimax-m2", "minimax-m3", "cogvlm", "pangu-embedded", "mistral3", "mistral4", "paddleocr",
        "mimo2", "step35", "llama-embed", "maincoder", "kimi-linear", "kimi-k3", "talkie", "mellum", "maple", "muse-glimmer",
        "nanbeige", "hrm_text", "spark2_5", "qwen3next", "qwen35", "qwen35moe", "qwen4exp",
        *NO_CACHE, *PURE_RECURRENT, *DRAFTERS,
    }
)
# fmt: on


class Swa(Struct, frozen=True):
    """Which layers slide by default: `period` n means all but every n-th (`dense_first`: the first of each n is dense)."""

    period: int | None  # None: the file must carry the pattern
    window: int = 0  # tokens when the key is absent; 0: then no window at all
    dense_first: bool = False
    forced: int = 0  # tokens, whatever the key says
    required: bool = False  # the key must be there
    optional: bool = False  # a key of 0 means that no layer slides; elsewhere it is a window of 0


SWA: Final[dict[str, Swa]] = {
    "gemma2": Swa(2, 4096),
    "gemma3": Swa(6, optional=True),
    "gemma3n": Swa(5, required=True),
    "gemma4": Swa(None, required=True),
    "mimo2": Swa(None, required=True),
    "step35": Swa(None, required=True),
    "spark2_5": Swa(None, required=True),
    "granite_swa": Swa(None, required=True),
    "maple": Swa(None, required=True),
    "dots3note": Swa(None, required=True),
    "cohere2": Swa(4, required=True),
    "cohere2moe": Swa(4, dense_first=True, required=True),
    "gpt-oss": Swa(2, required=True),
    "olmo2": Swa(4, optional=True),
    "afmoe": Swa(4, optional=True),
    "mellum": Swa(4, optional=True),
    "muse-glimmer": Swa(4, required=True),
    "plamo3": Swa(8, optional=True),
    "laguna": Swa(4, dense_first=True, optional=True),
    "exaone4": Swa(4, 4096),
    "exaone-moe": Swa(4, required=True),
    "smallthinker": Swa(4, dense_first=True, forced=4096, optional=True),
    "llama4": Swa(4, 8192, forced=8192, optional=True),
    "lfm2": Swa(0, optional=True),
    "deepseek4": Swa(0, required=True),
    "gemma-embedding": Swa(6, required=True),  # these two have no cache, but the windows' heads are checked too
    "modern-bert": Swa(3, dense_first=True, optional=True),
}
