"""What llama.cpp changed between builds, as far as the memory of a context goes, and since which build it knows a model.

A build `bNNNN` is the number of commits behind it (`git rev-list --count`), and the release 0.0.NNNN of its library; the numbers
here were counted in the project's own history up to b10586 (2026-08-23), by the commit that made the change. What the studied
commit 0c1e57098 (0.5.0) does beyond, every later build is taken to do.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from kvplan.engines.kernel.releases import ByType, Quirk, Release, by_type, parse_version, quirk, written
from kvplan.engines.llama_cpp.about import ABOUT
from kvplan.gguf.hparams import Hparams

LATEST: Final = parse_version(ABOUT.latest)
#: The first build that reads GGUF files, and the last one whose commit was counted.
FIRST, COUNTED = 1041, 10_586


def build(number: int) -> Release:
    """The release of a build.

    >>> build(6150)
    (0, 0, 6150)
    """
    return (0, 0, number)


class Padding(NamedTuple):
    """Cells are a multiple of this, with flash attention and without."""

    flash: int
    plain: int

    def __str__(self) -> str:
        """For tables."""
        return f"{self.flash}" if self.flash == self.plain else f"{self.flash}, {self.plain} without flash attention"


PADDING: Final[Quirk[Padding]] = quirk(
    (build(FIRST), Padding(1, 1), "llama.cpp: llama_kv_cache_init"),
    (build(2493), Padding(32, 32), "llama.cpp: llama_new_context_with_model, #6177"),
    (build(2771), Padding(256, 256), "llama.cpp: llama_new_context_with_model, #5021"),
    (build(2871), Padding(256, 32), "llama.cpp: llama_kv_cache_get_padding, #7257"),
    (build(6868), Padding(1, 1), "src/llama-model.cpp: create_memory, #16812"),
    (build(6975), Padding(256, 256), "src/llama-context.cpp, #17046"),
    says="cells of a cache are a multiple of",
)
ROUNDS_WINDOWS: Final[Quirk[bool]] = quirk(
    (build(FIRST), False, "src/llama-kv-cache-iswa.cpp: the cells of a short context are not rounded"),
    (build(6975), True, "src/llama-kv-cache-iswa.cpp, #17046"),
    says="cells of windows are rounded up to 256 last, whatever the context",
)
STREAMS: Final[Quirk[bool]] = quirk(
    (build(FIRST), False, "src/llama-context.cpp: kv_unified is forced"),
    (build(6071), True, "src/llama-context.cpp: LLAMA_SET_ROWS on by default, #14959 (asked for by -kvu from #14363 on)"),
    says="each sequence has cells of its own",
)
PROMPT_CACHE: Final[Quirk[int]] = quirk(
    (build(FIRST), 0, "tools/server/server.cpp: none"),
    (build(6723), 8192, "common/common.h: cache_ram_mib, #16391"),
    says="llama-server's prompt cache in host memory, MiB, where nobody says (--cache-ram)",
)
SLOT_CHECKPOINTS: Final[Quirk[int]] = quirk(
    (build(FIRST), 0, "tools/server/server.cpp: none"),
    (build(6160), 3, "common/common.h: n_swa_checkpoints, #15293"),
    (build(6723), 8, "common/common.h: n_ctx_checkpoints, #16391"),
    (build(8218), 32, "common/common.h: n_ctx_checkpoints, #20087"),
    says="checkpoints of each slot of llama-server, where nobody says (--ctx-checkpoints)",
)
STATE_CHECKPOINTS: Final[Quirk[bool]] = quirk(
    (build(FIRST), False, "tools/server/server.cpp: of windows alone"),
    (build(6685), True, "tools/server/server.cpp: of recurrent states, too, #16382"),
    says="checkpoints of recurrent states",
)
DIVIDES_UP: Final[Quirk[bool]] = quirk(
    (build(FIRST), True, "src/llama-model.cpp: create_memory, #14363"),
    (build(6925), False, "src/llama-context.cpp: n_ctx_seq, #16736"),
    says="a context that sequences do not divide is rounded up",
)
HYBRID_WHOLE: Final[Quirk[bool]] = quirk(
    (build(FIRST), True, "src/llama-model.cpp: create_memory, attn_kv_size = n_ctx, #13979"),
    (build(8025), False, "src/llama-model.cpp: create_memory, attn_kv_size = n_ctx_seq, #19559"),
    says="in models with recurrent layers each sequence has cells for the whole context",
)
HYBRID_STREAMS: Final[Quirk[bool]] = quirk(
    (build(FIRST), False, "src/llama-memory-hybrid.cpp: one stream"),
    (build(6079), True, "src/llama-memory-hybrid.cpp, #15050"),
    says="in models with recurrent layers each sequence may have cells of its own",
)
Window = Literal["none", "batch", "micro-batch"]
WINDOWS: Final[ByType[Window]] = by_type(
    "none",
    {
        ("",): (
            (build(5429), "batch", "src/llama-kv-cache.cpp: llama_kv_cache_unified_iswa, #13194"),
            (build(5554), "micro-batch", "src/llama-kv-cache.cpp: llama_kv_cache_unified_iswa, #13833"),
        ),
        ("olmo2",): ((build(6492), "micro-batch", "src/llama-model.cpp: load_hparams, #16015"),),
        ("lfm2", "lfm2moe"): ((build(8102), "micro-batch", "src/llama-model.cpp: load_hparams, #19687"),),
    },
    says="sliding layers keep the window and one",
)
VALUES_PADDED: Final[Quirk[bool]] = quirk(
    (build(FIRST), False, "src/llama-kv-cache-unified.cpp: each layer's own rows"),
    (build(5913), True, "src/llama-kv-cache-unified.cpp: n_embd_v_gqa_max, #14363"),
    says="without flash attention every value row is as long as the longest",
)
LATENT_VALUES: Final[Quirk[bool]] = quirk(
    (build(FIRST), True, "src/llama-kv-cache.cpp: v of n_embd_v_gqa beside k"),
    (build(7832), False, "src/llama-kv-cache.cpp: has_v, #19067"),
    says="a latent is kept a second time, as values",
)
WINDOWS_QUANTISED: Final[Quirk[bool]] = quirk(
    (build(FIRST), True, "src/llama-kv-cache-iswa.cpp: type_k, type_v"),
    (build(8633), False, "src/llama-kv-cache-iswa.cpp: GGML_TYPE_F16, #21277"),
    (build(8644), True, "src/llama-kv-cache-iswa.cpp: type_k, type_v, #21332 (taken back)"),
    says="a quantised cache is one in sliding layers, too",
)
NEXTN_KEPT: Final[ByType[bool]] = by_type(
    False,
    {
        ("exaone-moe",): (
            (build(7727), True, "src/llama-model.cpp: no n_layer_kv_from_start, #18543"),
            (build(9523), False, "src/llama-hparams.cpp: n_layer without NextN, #24060"),
        ),
        ("step35",): (
            (build(9480), True, "src/llama-model.cpp: create_memory, #23274"),
            (build(9512), False, "src/llama-model.cpp: create_memory, filter, #24125"),
        ),
    },
    says="prediction layers have a cache in an ordinary context",
)
Indexers = Literal["none", "all", "full"]
INDEXERS: Final[ByType[Indexers]] = by_type(
    "full",
    {
        ("glm-dsa",): (
            (build(8036), "none", "src/models/glm-dsa.cpp: no indexer, #19460"),
            (build(10_119), "all", "src/llama-kv-cache-dsa.cpp, #25407"),
            (build(10_243), "full", "src/llama-kv-cache-dsa.cpp: filter_lid, #26474"),
        ),
    },
    says="layers with an indexer's keys",
)
LEAST_BATCH: Final[Quirk[int]] = quirk(
    (build(FIRST), 1, "llama.cpp: llama_new_context_with_model"),
    (build(2771), 32, "llama.cpp: GGML_KQ_MASK_PAD, #5021"),
    (build(4617), 64, "src/llama.cpp: GGML_KQ_MASK_PAD, #11583"),
    (build(7256), 1, "ggml.h: GGML_KQ_MASK_PAD, #17505"),
    says="tokens of a batch at least",
)
MAX_SEQUENCES: Final[Quirk[int]] = quirk(
    (build(FIRST), 2**31, "llama.cpp: none"),
    (build(5485), 64, "src/llama-cparams.h: LLAMA_MAX_PARALLEL_SEQUENCES, #13706"),
    (build(6507), 256, "src/llama-cparams.h: LLAMA_MAX_SEQ, #15916"),
    says="sequences of a context at most",
)
FLASH: Final[Quirk[Literal["off", "auto"]]] = quirk(
    (build(FIRST), "off", "common/common.h: flash_attn = false"),
    (build(6325), "auto", "common/common.h: LLAMA_FLASH_ATTN_TYPE_AUTO, #15434"),
    says="flash attention where nobody asks",
)
SLOTS: Final[Quirk[int]] = quirk(
    (build(FIRST), 1, "common/common.h: n_parallel"),
    (build(6925), 4, "tools/server/server.cpp: four, unified, #16736"),
    says="slots of llama-server where nobody says",
)
BATCH: Final[Quirk[int]] = quirk(
    (build(FIRST), 512, "common/common.h: n_batch"),
    (build(2413), 2048, "common/common.h: n_batch, n_ubatch 512, #6017"),
    says="tokens of a batch where nobody says",
)
LAYERS: Final[Quirk[Literal["none", "all"]]] = quirk(
    (build(FIRST), "none", "src/llama-model.cpp: n_gpu_layers 0"),
    (build(6325), "all", "src/llama-model.cpp: n_gpu_layers 999, #15434"),
    says="layers on the cards where nobody says",
)
CONTEXT: Final[Quirk[int]] = quirk(
    (build(FIRST), 512, "common/common.h: n_ctx"),
    (build(3087), 0, "common/common.h: n_ctx 0, the model's own, #7675"),
    (build(4014), 4096, "common/common.h: n_ctx, #10136"),
    (build(7407), 0, "common/common.h: n_ctx 0, what fits of the model's own, #16653"),
    says="tokens of a context where nobody says",
)
FITS: Final[Quirk[bool]] = quirk(
    (build(FIRST), False, "common/common.cpp: loads what is asked for"),
    (build(7407), True, "src/llama.cpp: llama_params_fit, #16653"),
    says="context and layers are chosen by free memory",
)
ROW_SPLIT: Final[Quirk[bool]] = quirk(
    (build(FIRST), True, "ggml/src/ggml-cuda/ggml-cuda.cu: split buffers"),
    (build(9890), False, "ggml/src/ggml-cuda/ggml-cuda.cu: -sm row removed, #24216"),
    says="matrices may be split by row over cards",
)
#: Builds since which: flash attention, latents, states for rolling back and contexts of prediction layers.
FLASH_SINCE, LATENT_SINCE, ROLLBACK_SINCE = 2771, 5137, 9180
#: Builds that slid Phi-3's window, which all others keep whole (#13194, taken back by #13676).
_PHI_SLID: Final = (5429, 5440)
#: MiniMax-M3 before its indexer had a cache of its own (#24908, #26338).
_M3_OTHER: Final = (10_135, 10_244)
#: Architecture -> the build that sets its prediction layers aside; before, a file with some is not for it.
_NEXTN_SINCE: Final = {
    "glm4moe": 6085, "bailingmoe2": 6810, "exaone-moe": 7727, "glm-dsa": 8036, "glm4": 8093, "mimo2": 9055, "qwen35": 9180,
    "qwen35moe": 9180, "deepseek32": 9411, "exaone4": 9453, "step35": 9480, "cohere2moe": 9626, "hy_v3": 9993,
    "deepseek4": 10_228, "qwen3next": 10_238, "deepseek2": 10_251, "nemotron_h_moe": 10_344, "bailingmoe3": 10_460,
    "dots3note": 10_569,
}  # fmt: skip
#: Architecture -> the build from which it has a graph for a context of prediction layers.
_MTP_SINCE: Final = {
    "qwen35": 9180, "qwen35moe": 9180, "step35": 9480, "cohere2moe": 9626, "hy_v3": 9993, "glm-dsa": 10_174, "mimo2": 10_184,
    "deepseek4": 10_228, "deepseek32": 10_237, "qwen3next": 10_238, "deepseek2": 10_251, "nemotron_h_moe": 10_344,
    "bailingmoe3": 10_460,
}  # fmt: skip
#: Architecture -> the first build that names it; those of the first build that reads GGUF are `_OLDEST`.
SINCE: Final = {
    "baichuan": 1223, "starcoder": 1244, "refact": 1320, "persimmon": 1340, "bloom": 1361, "stablelm": 1515, "qwen": 1596,
    "phi2": 1658, "plamo": 1698, "codeshell": 1920, "qwen2": 1923, "orion": 1990, "internlm2": 2038, "minicpm": 2087,
    "bert": 2127, "nomic-bert": 2144, "gemma": 2223, "starcoder2": 2308, "mamba": 2366, "command-r": 2440, "grok": 2512,
    "xverse": 2576, "dbrx": 2665, "qwen2moe": 2683, "olmo": 2697, "phi3": 2717, "jina-bert-v2": 2845, "arctic": 2988,
    "deepseek2": 3023, "bitnet": 3208, "t5": 3229, "gemma2": 3259, "jais": 3282, "openelm": 3305, "chatglm": 3333,
    "t5encoder": 3563, "nemotron": 3592, "exaone": 3594, "rwkv6": 3651, "minicpm3": 3765, "olmoe": 3766, "granite": 3774,
    "granitemoe": 3823, "chameleon": 3834, "olmo2": 4168, "qwen2vl": 4327, "deepseek": 4333, "wavtokenizer-dec": 4357,
    "deci": 4380, "cohere2": 4415, "phimoe": 4453, "rwkv6qwen2": 4457, "gemma3": 4875, "rwkv7": 4907, "arwkv7": 4907,
    "plm": 4977, "bailingmoe": 5002, "llama4": 5074, "qwen3": 5092, "qwen3moe": 5092, "glm4": 5115, "nomic-bert-moe": 5215,
    "dots1": 5668, "arcee": 5674, "neo-bert": 5682, "gemma3n": 5763, "ernie4_5": 5771, "mamba2": 5812, "hunyuan-moe": 5843,
    "smollm3": 5847, "falcon-h1": 5851, "jamba": 5856, "granitehybrid": 5868, "lfm2": 5873, "plamo2": 5899, "dream": 5912,
    "ernie4_5-moe": 5924, "exaone4": 5931, "smallthinker": 6012, "llada": 6042, "hunyuan-dense": 6058, "glm4moe": 6085,
    "gpt-oss": 6096, "seed_oss": 6257, "jina-bert-v3": 6309, "nemotron_h": 6315, "gemma-embedding": 6384,
    "llada-moe": 6483, "grovemoe": 6586, "apertus": 6671, "lfm2moe": 6709, "bailingmoe2": 6810, "cogvlm": 6885,
    "qwen3vl": 6887, "qwen3vlmoe": 6887, "minimax-m2": 6906, "pangu-embedded": 6955, "afmoe": 7061, "rnd1": 7140,
    "qwen3next": 7186, "mistral3": 7216, "nemotron_h_moe": 7418, "modern-bert": 7515, "llama-embed": 7531, "mimo2": 7534,
    "plamo3": 7563, "maincoder": 7614, "exaone-moe": 7727, "kimi-linear": 7957, "step35": 7964, "qwen35": 7990,
    "qwen35moe": 7990, "glm-dsa": 8036, "jais2": 8106, "paddleocr": 8110, "eurobert": 8160, "mistral4": 8388,
    "deepseek2-ocr": 8530, "gemma4": 8637, "hunyuan_vl": 8885, "talkie": 9337, "deepseek32": 9411, "mellum": 9482,
    "gemma4-assistant": 9549, "eagle3": 9606, "cohere2moe": 9626, "dflash": 9831, "deepseek4": 9840, "hy_v3": 9993,
    "laguna": 10087, "minimax-m3": 10135, "nanbeige": 10153, "qwen3tts": 10270, "graniteswitch": 10342,
    "muse-glimmer": 10349, "pockettts": 10369, "minimax-01": 10437, "kimi-k3": 10448, "bailingmoe3": 10460,
    "granite_swa": 10514, "dots3note": 10569,
}  # fmt: skip
_OLDEST: Final = frozenset({"llama", "falcon", "gpt2", "gptj", "gptneox", "mpt"})


def windows(h: Hparams, release: Release) -> Window:
    """What sliding layers keep beside the window; none: every token, as all others do."""
    own = WINDOWS.rows.get(h.arch)
    return WINDOWS.at(h.arch if own else "", release)


def unknown(h: Hparams, release: Release, *, mtp: bool, rollback: bool, flash: bool) -> str:
    """Why a build does not run a model so, as far as it is another build that would; or nothing."""
    if release >= LATEST:
        return ""
    if release[:2] > (0, 0):
        return f"the builds from b{FIRST} and the releases from {ABOUT.latest} on are written down, not {written(release)}"
    number = release[2] if len(release) > 2 else 0
    if number < FIRST:
        return f"builds before b{FIRST} read no GGUF files"
    since = 0 if h.arch in _OLDEST else SINCE.get(h.arch, COUNTED + 1)
    if number < since:
        return f"b{number} does not know {h.arch}: {_first(since)}"
    drafts = h.n_layer_all > h.n_layer
    if drafts and number < (first := _NEXTN_SINCE.get(h.arch, COUNTED + 1)):
        return f"b{number} does not set the file's prediction layers aside: {_first(first)}"
    if mtp and number < (first := _MTP_SINCE.get(h.arch, COUNTED + 1)):
        return f"b{number} has no context of prediction layers for {h.arch}: {_first(first)}"
    if rollback and number < ROLLBACK_SINCE:
        return f"b{number} keeps no states to roll back to: from b{ROLLBACK_SINCE} on"
    if flash and number < FLASH_SINCE:
        return f"b{number} has no flash attention: from b{FLASH_SINCE} on"
    if h.is_mla and number < LATENT_SINCE:
        return f"b{number} does not read latents: from b{LATENT_SINCE} on"
    if h.arch in {"phi3", "phimoe"} and _PHI_SLID[0] <= number < _PHI_SLID[1]:
        return f"b{_PHI_SLID[0]} to b{_PHI_SLID[1] - 1} slid Phi-3's window, in a way that was not read"
    if h.arch == "minimax-m3" and _M3_OTHER[0] <= number < _M3_OTHER[1]:
        return f"b{_M3_OTHER[0]} to b{_M3_OTHER[1] - 1} kept MiniMax-M3's indexer in a way that was not read"
    return ""


def _first(since: int) -> str:
    return f"after b{COUNTED}, the last build that was counted" if since > COUNTED else f"from b{since} on"
