"""What is alive at the widest moments of each architecture's forward pass, as sums of tensor widths.

The code of a family decides it: `x = act(x)` frees the joined gate and up projections before the down projection's output is
allocated, `gate_up = ...; x = act(gate_up)` does not. Each row was read from `model_executor/models/` and checked against a
recording of the same code on fake tensors (vLLM 0.26.0, eager).

A moment is a sum of terms such as `3I` (a count and a width) with an optional item size, `I:1` or `Q:4`; without one an
element has the model's dtype. Widths, on one rank:

H hidden, I dense feed-forward, S shared expert, Q K V outputs of the projections, Z the heads' output where a gate widens Q,
N heads, E routed experts, X and Y the widths of a token's experts and of their outputs together, A a recurrent layer's
in-projection, D its inner width, B and C the key and value widths of a delta rule, W its value heads.
"""

from typing import Final

from msgspec import Struct

Moment = str
ATTENTION: Final = "Q + K + V + Q + 3H"
NORMED: Final = "Q + K + V + 2Q + K + 3H"  # queries and keys are copied by their norms
_DELTA: Final = "2B + 2C + 2B + C + 4C + 2B + 5H + 4W"  # projections, convolution, queries, keys, values and output apart


class Family(Struct, frozen=True, kw_only=True):
    """One architecture's moments.

    Attributes:
        feed_forward: the dense feed-forward at its widest; "" where there is none.
        attention: attention, with the output that the profile run fills with zeros; "" is the common form, with copies of
            queries and keys where they are normalised.
        mixture: beside the experts' workspace while they run (router, shared experts).
        mixer: a recurrent layer.
        keeps_joined: gate and up live until down has returned, so quantised inputs add to them.
        quantises_output: attention's output is copied for a quantised projection at that moment.
        residual_given: the residual stream is the embedding, which a multimodal model takes from a buffer of the runner.
        compiled: the forward between two attention operations where it is compiled; "" derives it from the widths.
        known: False for an architecture without a row.
    """

    feed_forward: Moment = ""
    attention: Moment = ""
    mixture: Moment = "4H + E"
    mixer: Moment = ""
    keeps_joined: bool = False
    quantises_output: bool = True
    residual_given: bool = True
    known: bool = True


_K3: Final = Family(feed_forward="3I + 3H")
_K4: Final = Family(feed_forward="3I + 4H", keeps_joined=True)
_K5: Final = Family(feed_forward="3I + 5H", keeps_joined=True)
_UNGATED3: Final = Family(feed_forward="2I + 3H")
_QWEN3: Final = Family(feed_forward="3I + 4H", keeps_joined=True)
_GEMMA3: Final = Family(feed_forward="3I + 5H", keeps_joined=True, residual_given=False)
#: Routed experts beside the output of shared ones.
ROUTED: Final[Moment] = "6H + E:4"
_SHARED: Final = Family(feed_forward="3I + 4H", mixture="3S + 4H + E", keeps_joined=True)
#: Qwen3.5's gated attention, normalised in float32, and its delta rule.
_QWEN35: Final = Family(
    feed_forward="3I + 4H", attention="Q + K + V + 3Z:4 + 2Z + N:4 + 4H", mixture="3S + 4H + E", residual_given=False
)
_LLAMA4: Final = Family(feed_forward="3I + 3H", attention="Q + K + V + 2Q:4 + Q + 2H", mixture="3S + 3H + E")
_HYBRID: Final = Family(feed_forward="3I + 4H", mixer="A + D + 3H", mixture="3S + 4H + E")
#: An architecture without a row: llama's block with the joined projections kept; a band says that it is a guess.
UNKNOWN: Final = Family(feed_forward="3I + 4H", mixture="3S + 4H + E", mixer="A + 2D + 4H", keeps_joined=True, known=False)
UNKNOWN_UNGATED: Final = Family(feed_forward="2I + 4H", mixture="2S + 4H + E", mixer="A + 2D + 4H", known=False)

FAMILIES: Final[dict[str, Family]] = {
    **dict.fromkeys(
        (
            "LlamaForCausalLM", "MistralForCausalLM", "MinistralForCausalLM", "Ministral3ForCausalLM", "Phi3ForCausalLM",
            "Olmo2ForCausalLM", "Olmo3ForCausalLM", "Glm4ForCausalLM", "GlmForCausalLM", "InternLM3ForCausalLM",
            "AquilaForCausalLM", "YiForCausalLM", "XverseForCausalLM", "DeciLMForCausalLM", "IQuestCoderForCausalLM",
            "CwmForCausalLM", "SolarForCausalLM", "Mistral3ForConditionalGeneration", "PixtralForConditionalGeneration",
            "LlavaForConditionalGeneration", "VoxtralForConditionalGeneration", "Ernie4_5ForCausalLM", "SmolLM3ForCausalLM",
        ),
        _K3,
    ),
    **dict.fromkeys(
        (
            "Qwen2ForCausalLM", "SeedOssForCausalLM", "GraniteForCausalLM", "InternLM2ForCausalLM", "MiniCPMForCausalLM",
            "MiMoForCausalLM", "BaichuanForCausalLM", "ExaoneForCausalLM",
            "Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration",
        ),
        _K4,
    ),
    "Exaone4ForCausalLM": Family(feed_forward="3I + 4H", keeps_joined=True),
    "Exaone4_5_ForConditionalGeneration": Family(feed_forward="3I + 4H", keeps_joined=True, residual_given=False),
    "Qwen3ForCausalLM": _QWEN3,
    "Qwen3VLForConditionalGeneration": _QWEN3,
    **dict.fromkeys(
        (
            "GemmaForCausalLM", "Gemma2ForCausalLM", "CohereForCausalLM", "Cohere2ForCausalLM", "StableLmForCausalLM",
            "StableLMEpochForCausalLM", "ChatGLMModel", "ChatGLMForConditionalGeneration",
        ),
        _K5,
    ),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": _GEMMA3,
    "ArceeForCausalLM": _UNGATED3,
    "FalconForCausalLM": _UNGATED3,
    "FalconForCausalLM:new": Family(feed_forward="2I + 4H"),  # new_decoder_architecture: two norms beside each other
    "PhiForCausalLM": _UNGATED3,
    "HunYuanDenseV1ForCausalLM": Family(feed_forward="3I + 2Q + 2K + 2V + 4H", keeps_joined=True),
    "MPTForCausalLM": _UNGATED3,
    "MptForCausalLM": _UNGATED3,
    "GPTNeoXForCausalLM": Family(feed_forward="2I + 4H"),
    "GPT2LMHeadModel": Family(feed_forward="2I + 6H"),
    "OPTForCausalLM": Family(feed_forward="I + 5H", attention="Q + K + V + Q + 5H"),
    "ApertusForCausalLM": Family(feed_forward="5I + I:1 + 3H"),
    # mixtures
    "MixtralForCausalLM": Family(),
    "PhiMoEForCausalLM": Family(attention="Q + K + V + Q + 4H"),
    "OlmoeForCausalLM": Family(),
    "MiniMaxM2ForCausalLM": Family(attention="Q + K + V + 3Q:4 + K:4 + 2H", quantises_output=False),
    "FlexOlmoForCausalLM": Family(attention="Q + K + V + 2Q + K + 2H"),
    "LagunaForCausalLM": Family(feed_forward="3I + 4H", attention="Q + K + V + 3Q + K + 2H", mixture="3S + 4H + E"),
    "Qwen2MoeForCausalLM": _SHARED,
    "Ernie4_5_MoeForCausalLM": Family(feed_forward="3I + 4H", mixture="3S + 4H + E:4", keeps_joined=True),
    "Qwen3MoeForCausalLM": Family(feed_forward="3I + 4H", keeps_joined=True),
    "Qwen3VLMoeForConditionalGeneration": Family(feed_forward="3I + 4H", keeps_joined=True),
    "Glm4MoeForCausalLM": Family(feed_forward="3I + 4H", mixture="3S + 4H + E", keeps_joined=True),
    "GptOssForCausalLM": Family(mixture="4H + E"),
    **dict.fromkeys(
        (
            "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM",
            "KimiK25ForConditionalGeneration", "Glm4MoeLiteForCausalLM", "Mistral4ForCausalLM",
        ),
        _SHARED,
    ),
    "Llama4ForCausalLM": _LLAMA4,
    "Llama4ForConditionalGeneration": _LLAMA4,
    # recurrent layers
    "MambaForCausalLM": Family(mixer="A + D + 4H"),
    "FalconMambaForCausalLM": Family(mixer="A + D + 4H"),
    "Mamba2ForCausalLM": Family(mixer="A + 2D + 3H"),
    "NemotronHForCausalLM": Family(feed_forward="2I + 3H", mixer="A + 2D:4 + D + 2H", mixture="2S + 3H + E"),
    "Qwen3NextForCausalLM": Family(feed_forward="3I + 4H", mixture="3S + 4H + E", mixer=_DELTA),
    **dict.fromkeys(("Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration"), _QWEN35),
    **dict.fromkeys(("Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM"), _QWEN35),
    "JambaForCausalLM": Family(feed_forward="3I + 3H", mixer="A + D + 3H"),
    "GraniteMoeHybridForCausalLM": Family(feed_forward="3I + 4H", mixer="A + 2D + 4H", mixture="3S + 4H + E"),
    "FalconH1ForCausalLM": Family(feed_forward="3I + 5H", mixer="A + 2D:4 + D + 4H"),
    "Zamba2ForCausalLM": Family(feed_forward="6I + 4H", mixer="A + 2D + 4H"),
    **dict.fromkeys(("BambaForCausalLM", "Lfm2ForCausalLM", "Lfm2MoeForCausalLM"), _HYBRID),
}  # fmt: skip

#: Model types of configs that do not say their architecture: the class that transformers' auto mapping names.
ARCHITECTURES: Final[dict[str, str]] = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM", "qwen3_next": "Qwen3NextForCausalLM",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration", "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration", "qwen3_vl_moe": "Qwen3VLMoeForConditionalGeneration",
    "qwen3_5": "Qwen3_5ForConditionalGeneration", "qwen3_5_moe": "Qwen3_5MoeForConditionalGeneration",
    "gemma": "GemmaForCausalLM", "gemma2": "Gemma2ForCausalLM", "gemma3": "Gemma3ForConditionalGeneration",
    "gemma3_text": "Gemma3ForCausalLM", "phi": "PhiForCausalLM", "phi3": "Phi3ForCausalLM", "phimoe": "PhiMoEForCausalLM",
    "mixtral": "MixtralForCausalLM", "olmo2": "Olmo2ForCausalLM", "olmo3": "Olmo3ForCausalLM", "olmoe": "OlmoeForCausalLM",
    "granite": "GraniteForCausalLM", "granitemoe": "GraniteMoeForCausalLM", "granitemoehybrid": "GraniteMoeHybridForCausalLM",
    "glm": "GlmForCausalLM", "glm4": "Glm4ForCausalLM", "glm4_moe": "Glm4MoeForCausalLM", "glm_moe_dsa": "GlmMoeDsaForCausalLM",
    "glm4_moe_lite": "Glm4MoeLiteForCausalLM",
    "gpt_oss": "GptOssForCausalLM", "deepseek_v2": "DeepseekV2ForCausalLM", "deepseek_v3": "DeepseekV3ForCausalLM",
    "deepseek_v32": "DeepseekV32ForCausalLM", "kimi_k2": "DeepseekV3ForCausalLM", "seed_oss": "SeedOssForCausalLM",
    "exaone4": "Exaone4ForCausalLM", "cohere": "CohereForCausalLM", "cohere2": "Cohere2ForCausalLM",
    "falcon": "FalconForCausalLM",
    "mpt": "MPTForCausalLM", "opt": "OPTForCausalLM", "gpt2": "GPT2LMHeadModel", "gpt_neox": "GPTNeoXForCausalLM",
    "stablelm": "StableLmForCausalLM", "arcee": "ArceeForCausalLM", "apertus": "ApertusForCausalLM",
    "internlm3": "InternLM3ForCausalLM", "ernie4_5": "Ernie4_5ForCausalLM", "ernie4_5_moe": "Ernie4_5_MoeForCausalLM",
    "minimax_m2": "MiniMaxM2ForCausalLM", "llama4": "Llama4ForConditionalGeneration", "llama4_text": "Llama4ForCausalLM",
    "mamba": "MambaForCausalLM", "falcon_mamba": "FalconMambaForCausalLM", "mamba2": "Mamba2ForCausalLM",
    "nemotron_h": "NemotronHForCausalLM", "jamba": "JambaForCausalLM", "falcon_h1": "FalconH1ForCausalLM",
    "zamba2": "Zamba2ForCausalLM", "bamba": "BambaForCausalLM", "lfm2": "Lfm2ForCausalLM",
}  # fmt: skip


#: Architectures that vLLM calls hybrid (`IsHybrid`), whatever layers a config has. Source: `models/`.
HYBRIDS: Final = frozenset({
    "BailingMoeV2_5ForCausalLM", "BambaForCausalLM", "FalconH1ForCausalLM", "GraniteMoeHybridForCausalLM", "JambaForCausalLM",
    "KimiLinearForCausalLM", "Lfm2ForCausalLM", "Lfm2MoeForCausalLM", "Lfm2VlForConditionalGeneration",
    "MiniMaxText01ForCausalLM",
    "NemotronHForCausalLM", "OlmoHybridForCausalLM", "Plamo2ForCausalLM", "Qwen3NextForCausalLM",
    "Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration", "Zamba2ForCausalLM",
})  # fmt: skip


def terms(moment: Moment) -> list[tuple[int, str, int]]:
    """A moment's terms: count, width, bytes of an element (0: the model's dtype).

    >>> terms("3I + I:1 + 2H")
    [(3, 'I', 0), (1, 'I', 1), (2, 'H', 0)]
    """
    found = []
    for term in moment.split("+"):
        name, _, size = term.strip().partition(":")
        count = name.rstrip("HISQKVZNEXYADBCW")
        found.append((int(count or 1), name[len(count) :], int(size or 0)))
    return found
