"""What is alive at the widest moments of a prompt's forward pass, by model type, as sums of tensor widths.

The Python code of a class decides it: a tensor lives as long as a name in some frame holds it. `act(gate(x)) * up(x)` holds
three intermediates at its product, `up * act(gate)` of a fused projection four; the residual stream, the layer's input, the
normalised input and the embeddings that `forward` keeps are four hidden states. Each row was read from `models/*/modeling_*.py`
and checked against a run of the same code on tensors without data whose storages the allocator's rules counted
(transformers 5.17 and 5.24); that run meets six of the eight recorded forward passes on an H200 to the byte, two within 1 MiB.

A moment is a sum of terms such as `3I` (a count and a width), `4Q:4` with an item size; without one an element has the
model's dtype. Widths: H hidden, I dense feed-forward, Q K V outputs of the projections, E the widths of a token's experts
together, X its hidden states once an expert, L a latent attention's expanded keys and values, P its keys' and queries' heads.
"""

from typing import Final

from msgspec import Struct

Moment = str


class Family(Struct, frozen=True, kw_only=True):
    """One class's moments; those of attention are common to all.

    Attributes:
        hidden: hidden states alive beside the feed-forward.
        gated: `I`-wide tensors of a gated feed-forward: three, or four where gate and up are one projection.
        post_normed: norms follow the sublayers, in float32, beside the output that they read.
        float32_weights: an expert's output is multiplied by routing weights in float32, which widens it.
        shared_first: the shared expert's output waits for the routed ones.
        interleaved: queries and keys are rotated in float32, in pairs.
        position_rows: a table of positions of H elements is looked up, one row a token of one sequence.
        masked: a window of 0, where a config asks for none, is a window to the class: it masks.
        inner: the feed-forward's own tensors, where its activation is the class's.
    """

    hidden: int = 4
    gated: int = 3
    post_normed: bool = False
    float32_weights: bool = False
    shared_first: bool = False
    interleaved: bool = False
    position_rows: bool = False
    masked: bool = False
    inner: Moment = ""


_PLAIN: Final = Family()
_FUSED: Final = Family(gated=4)
_AFTER: Final = Family(hidden=3, post_normed=True)
_SIGMOID: Final = Family(float32_weights=True)
_SHARED: Final = Family(shared_first=True)

FAMILIES: Final[dict[str, Family]] = {
    **dict.fromkeys(
        (
            "llama", "mistral", "ministral", "ministral3", "qwen2", "qwen3", "seed_oss", "smollm3", "iquestcoder", "internlm3",
            "gemma", "gemma2", "gemma3_text", "granite", "hunyuan_v1_dense", "starcoder2", "gpt_neox", "arcee",
        ),
        _PLAIN,
    ),
    **dict.fromkeys(("phi3", "glm", "glm4"), _FUSED),
    **dict.fromkeys(("olmo2", "olmo3", "exaone4"), _AFTER),
    **dict.fromkeys(("cohere", "olmo"), Family(interleaved=True)),
    "apertus": Family(inner="5I + I:1"),  # XIELUActivation
    "gpt_bigcode": Family(hidden=5, position_rows=True),
    "gpt2": Family(hidden=5, position_rows=True),
    # mixtures
    **dict.fromkeys(("qwen3_moe", "olmoe", "phimoe", "gpt_oss"), _PLAIN),
    "flex_olmo": _AFTER,
    "mixtral": _SIGMOID,
    "qwen2_moe": Family(shared_first=True, masked=True),  # configuration_qwen2_moe.py: 0 without use_sliding_window
    **dict.fromkeys(("ernie4_5_moe", "laguna"), _SHARED),
    **dict.fromkeys(
        (
            "deepseek_v2", "deepseek_v3", "axk1", "glm4_moe", "glm4_moe_lite", "hy_v3", "solar_open", "minimax_m2", "kolibri1",
        ),
        _SIGMOID,
    ),
}  # fmt: skip

#: Attention that `from_config` picks where nobody asks: classes whose scores are capped or have sinks take no fused kernel.
#: Source: `_supports_sdpa` of the classes; `modeling_utils.py:_check_and_adjust_attn_implementation`.
EAGER: Final = frozenset({
    "gpt_oss", "gemma2", "granite_swa", "granitemoe_swa", "mimo_v2_flash", "deepseek_v4", "vaultgemma", "hy_v4", "flint",
    # classes with attention of their own, which say nothing of fused kernels
    "bloom", "mpt", "gpt_neo", "gpt_neox_japanese", "openai-gpt", "xglm", "xlnet", "cpmant", "git", "trocr", "reformer",
    "nllb-moe", "pegasus_x", "bigbird_pegasus", "led", "longt5", "mvp", "prophetnet", "switch_transformers", "speech_to_text",
    "speecht5", "blip_text_model", "bark",
})  # fmt: skip
#: Of these, classes whose scores keep a column for a sink, and stay in the model's dtype.
SINKS: Final = frozenset({"gpt_oss", "mimo_v2_flash"})
#: Classes with a rotary table for layers that slide and one for those that do not.
TWO_TABLES: Final = frozenset({"gemma3_text", "gemma3n_text", "olmo3", "modernbert-decoder"})
#: Activations that PyTorch has no kernel for: how many `I`-wide tensors their Python code holds at once.
#: Source: `activations.py`: NewGELUActivation, FastGELUActivation, ReLUSquaredActivation.
ACTIVATIONS: Final = {"gelu_new": 4, "gelu_fast": 4, "relu2": 3}
_UNGATED: Final = 2
#: What a class takes where its config names no activation. Source: `configuration_*.py`.
DEFAULT_ACTIVATION: Final = {"arcee": "relu2", "gpt2": "gelu_new", "gptj": "gelu_new", "phi": "gelu_new", "nemotron": "relu2"}


def feed_forward(family: Family, *, gated: bool, activation: str) -> Moment:
    """The dense feed-forward at its product."""
    inner = family.inner or f"{family.gated if gated else ACTIVATIONS.get(activation, _UNGATED)}I"
    return f"{inner} + {family.hidden}H"


def mixture(family: Family, *, shared: bool) -> tuple[Moment, Moment]:
    """Routed experts through one grouped product: at their gate, and where outputs are put back in order.

    Source: `integrations/moe.py:grouped_mm_experts_forward`.
    """
    hidden = family.hidden + (family.shared_first and shared)
    outputs = "2X + X:4 + X:4" if family.float32_weights else "4X"
    return f"4E + X + {hidden}H", f"{outputs} + {hidden}H"


def norm(family: Family) -> Moment:
    """A norm in float32."""
    return "5H + H:4 + H:4" if family.post_normed else "3H + H:4 + H:4"


def rotation(family: Family, *, normed: bool) -> tuple[Moment, ...]:
    """Queries and keys as they are rotated, and as their heads are normalised before."""
    if family.interleaved:
        base = "Q + K + V + 3H + Q:4 + K:4"
        return f"{base} + Q:4 + Q:4 + Q:4", f"{base} + Q:4 + K:4 + K:4 + K:4"
    rotated = "4Q + K + V + 3H"
    return (rotated, "Q + Q:4 + Q:4 + 3H") if normed else (rotated,)


#: A masked fused kernel reads keys and values repeated for every head.
MASKED: Final = "4Q + 3H"
#: Keys and values expanded from latents.
LATENT: Final = "L + 3P + O + 4H"


def terms(moment: Moment) -> list[tuple[int, str, int]]:
    """A moment's terms: count, width, bytes of an element (0: the model's dtype).

    >>> terms("3I + 2H + Q:4")
    [(3, 'I', 0), (2, 'H', 0), (1, 'Q', 4)]
    """
    found = []
    for term in moment.split("+"):
        name, _, size = term.strip().partition(":")
        found.append((int(name[:-1] or 1), name[-1], int(size or 0)))
    return found
