"""What stands behind a number: recorded cases of this engine, version range and these memory kinds, or only its rules.

`measured`: every memory kind of the model occurs in recorded cases of that engine and version, all of them exact
(`tests/golden`, checked by `kvplan audit` in the tests). `derived`: the rule was read in the engine's source or a paper, and
no recorded case covers it. `inferred`: the architecture is unknown and was read by its shape.
"""

from typing import TYPE_CHECKING, Final

from kvplan.domain.model import Model
from kvplan.domain.words import memory_kinds
from kvplan.engines.kernel.releases import parse_version

if TYPE_CHECKING:
    from kvplan.domain.allocation import Evidence

#: Kinds that occur in small models of every release of transformers that ships such a model.
_KEYS_AND_STATES: Final = frozenset(
    {
        "softmax", "softmax/window", "softmax/chunk", "cross", "cross/window", "shared", "latent", "recurrent/mamba",
        "recurrent/mamba2", "recurrent/gated_delta", "recurrent/linear", "recurrent/rg_lru", "recurrent/rwkv", "recurrent/xlstm",
    }
)  # fmt: skip
#: Kinds in the models that vLLM 0.32.0 planned for.
_VLLM: Final = frozenset(
    {
        "softmax", "softmax/window", "softmax/chunk", "softmax/compressed", "shared", "cross", "latent", "index",
        "index/compressed", "recurrent/mamba", "recurrent/mamba2", "recurrent/gated_delta",
    }
)  # fmt: skip
#: Kinds in the GGUF files that llama.cpp 0c1e57098 (libllama 0.5.0) made contexts for.
_LLAMA_CPP: Final = frozenset(
    {
        "softmax", "softmax/window", "softmax/chunk", "softmax/compressed", "shared", "latent", "index", "index/compressed",
        "recurrent/mamba", "recurrent/mamba2", "recurrent/gated_delta", "recurrent/kda", "recurrent/linear", "recurrent/rwkv",
        "recurrent/short_conv",
    }
)  # fmt: skip
#: Engine -> rows of (first version, last version, memory kinds) that recorded cases cover. A row is added with its cases.
RECORDED: Final[dict[str, tuple[tuple[tuple[int, ...], tuple[int, ...], frozenset[str]], ...]]] = {
    # tables of papers: MHA, GQA, MQA, MLA and cross-layer sharing (tests/golden/papers.jsonl)
    "ideal": (((1,), (1,), frozenset({"softmax", "latent", "shared"})),),
    # caches of real models (tests/golden/transformers.jsonl, and small ones of every release in transformers_versions.jsonl)
    "transformers": (
        ((4, 36), (5, 23, 0), _KEYS_AND_STATES),
        ((5, 23), (5, 23, 0), frozenset({"latent/window", "recurrent/kda", "recurrent/short_conv", "index"})),
        ((5, 8), (5, 23, 0), frozenset({"softmax/compressed", "index/compressed"})),
    ),
    # real allocations by libllama (tests/golden/llama_cpp.jsonl)
    "llama.cpp": (((0, 5, 0), (0, 5, 0), _LLAMA_CPP),),
    # plans of the engine's own code, and real runs on a CPU (tests/golden/vllm.jsonl)
    "vllm": (
        ((0, 11), (0, 11, 0), frozenset({"latent", "softmax", "softmax/chunk", "softmax/window", "recurrent/gated_delta"})),
        ((0, 32), (0, 32, 0), _VLLM),
    ),
}


def evidence(engine: str, version: str, model: Model) -> "Evidence":
    """What stands behind `engine`'s numbers for `model`."""
    if model.inferred:
        return "inferred"
    rows = RECORDED.get(engine)
    if not rows:
        return "derived"
    number, kinds = parse_version(version), memory_kinds(model)
    covered: set[str] = set()
    for first, last, recorded in rows:
        if first <= number <= last:
            covered |= recorded
    return "measured" if kinds <= covered else "derived"
