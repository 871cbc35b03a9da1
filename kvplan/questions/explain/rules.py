"""Why each kind of memory is kept, and where the rule comes from: the sentences and sources of `kvplan explain`."""

from typing import Final, NamedTuple

from kvplan.domain.model import Model, Recurrent, Softmax
from kvplan.domain.words import memory_kinds


class Rule(NamedTuple):
    """One kind of memory: what is kept and why, and the source of that rule."""

    title: str
    text: str
    source: str


_ATTENTION: Final = Rule(
    "self-attention",
    "Each new token is compared with the keys of all earlier tokens and takes a weighted sum of their values. A token's "
    "key (after the rotary encoding of its position) and value depend only on what came before it, so they never change: "
    "each is computed once, kept, and read at every later step. Queries are used once and are not kept.",
    "Vaswani et al. 2017 (arXiv 1706.03762) section 3.2; rotary encoding: arXiv 2104.09864",
)
#: Kind of memory (the part before `/` of `kvplan.engines.kernel.evidence.memory_kind`, or the reach after it) -> its rule.
RULES: Final[dict[str, Rule]] = {
    "softmax": _ATTENTION,
    "grouped": Rule(
        "grouped heads",
        "Several query heads share one key and value head (GQA; MQA when there is only one), so the cache holds kv_heads and "
        "not the query heads.",
        "MQA: arXiv 1911.02150 section 3; GQA: arXiv 2305.13245 section 2.2",
    ),
    "keys as values": Rule(
        "keys that are values",
        "The layer uses one vector a token both as key and as value, so only one is kept.",
        "the model's own attention code",
    ),
    "latent": Rule(
        "multi-head latent attention",
        "Keys and values of all heads are linear in one compressed vector a token. It is kept instead of them, with one rotary "
        "key that all heads share; the up-projections are absorbed into the query and the output.",
        "DeepSeek-V2, arXiv 2405.04434 section 2.1",
    ),
    "window": Rule(
        "sliding window",
        "A sliding layer sees only its last `window` tokens, so older keys and values can be dropped: its cache stops growing.",
        "Longformer, arXiv 2004.05150 section 3.1; Mistral-7B, arXiv 2310.06825 section 2 (rolling buffer)",
    ),
    "chunk": Rule(
        "chunked attention",
        "A chunked layer sees only tokens of the current chunk, so at most one chunk is kept.",
        "Llama 4: transformers models/llama4/modeling_llama4.py, attention_chunk_size",
    ),
    "compressed": Rule(
        "compressed entries",
        "Older tokens are summarised: one entry stands for `ratio` tokens, and an entry exists once its group is full.",
        "DeepSeek-V4: transformers models/deepseek_v4/modeling_deepseek_v4.py",
    ),
    "index": Rule(
        "indexer",
        "A small indexer chooses which tokens the attention reads. It scores them with a key of its own for each token, "
        "which must be kept beside the attention's cache.",
        "DeepSeek-V3.2 (lightning indexer): vLLM models/deepseek_v2.py, DeepseekV32IndexerCache",
    ),
    "cross": Rule(
        "cross-attention",
        "Keys and values of the encoder's output (or of image tokens) are computed once and read at every step; they grow with "
        "the encoder's length and not with the tokens generated.",
        "Vaswani et al. 2017 (arXiv 1706.03762) section 3.2.3",
    ),
    "shared": Rule(
        "cross-layer sharing",
        "Some layers compute no keys and values of their own and attend to those of an earlier layer: they keep nothing.",
        "Cross-Layer Attention, arXiv 2405.12981 section 2.2; YOCO, arXiv 2405.05254; Gemma 3n: num_kv_shared_layers",
    ),
    "recurrent": Rule(
        "recurrent state",
        "A recurrent layer folds all earlier tokens into a state of fixed size: so many bytes a sequence, whatever its length.",
        "the kind's own paper, below",
    ),
}
#: Kind of recurrent memory -> its paper.
RECURRENT_SOURCES: Final[dict[str, str]] = {
    "mamba": "Mamba, arXiv 2312.00752; state of causal_conv1d: kernel - 1 columns",
    "mamba2": "Mamba-2, arXiv 2405.21060; state of causal_conv1d: kernel - 1 columns",
    "gated_delta": "gated DeltaNet, arXiv 2412.06464",
    "kda": "Kimi Delta Attention, arXiv 2510.26692",
    "linear": "linear attention, arXiv 2006.16236; lightning attention: MiniMax-01, arXiv 2501.08313",
    "short_conv": "LFM2: transformers models/lfm2/modeling_lfm2.py, Lfm2ShortConv (kernel - 1 columns)",
    "rg_lru": "Griffin (RG-LRU), arXiv 2402.19427",
    "rwkv": "RWKV, arXiv 2305.13048",
    "xlstm": "xLSTM, arXiv 2405.04517",
    "state": "the model's own description",
}


def rules_for(model: Model) -> list[Rule]:
    """The rules of the kinds that a model has, attention first."""
    kinds = memory_kinds(model)
    names = {part for kind in kinds for part in kind.split("/")}
    found = [RULES[name] for name in ("softmax", "latent") if name in names]
    if not found and names & {"cross"}:
        found.append(_ATTENTION)
    owned = [m for memories in model.collapsed() for m in memories if isinstance(m, Softmax)]
    if any(model.attention_heads is not None and m.kv_heads < model.attention_heads for m in owned):
        found.append(RULES["grouped"])
    if any(m.value_dim == 0 for m in owned):
        found.append(RULES["keys as values"])
    found += [RULES[name] for name in ("window", "chunk", "compressed", "index", "cross", "shared") if name in names]
    recurrent = sorted({m.kind for memories in model.collapsed() for m in memories if isinstance(m, Recurrent)})
    for kind in recurrent:
        rule = RULES["recurrent"]
        found.append(rule._replace(title=f"{kind.replace('_', ' ')} state", source=RECURRENT_SOURCES[kind]))
    return found
