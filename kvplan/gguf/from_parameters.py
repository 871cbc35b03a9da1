"""A checkpoint's tensors as `convert_hf_to_gguf.py` lays them out: expert stacks, no vision tower, kv_b split in two. Pure."""

from collections.abc import Iterable, Iterator
from math import prod
from typing import Final

from kvplan.domain.origin import Settings
from kvplan.domain.parameters import Parameter, in_order
from kvplan.gguf.mixes import Subject, Tensor

#: Model types whose prediction layers the converter keeps (`conversion/glm.py` and others keep them as further blocks).
_KEEPS_DRAFTS: Final = frozenset({"glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "mimo_v2_flash", "hy_v3", "step3p5"})
_CATEGORIES: Final = {
    "embed": "embed", "head": "output", "q": "q", "k": "k", "v": "v", "qkv": "v", "qkvg": "v", "o": "o", "gate": "gate",
    "up": "up",
    "gate_up": "up", "down": "down",
}  # fmt: skip
_FLOAT: Final = frozenset({"positions", "norm", "router", "shared_gate", "ssm_conv", "ssm_a", "ssm_d", "sinks"})
#: Parts of a model in a file of their own (mmproj).
OUTSIDE: Final = frozenset({"vision", "audio"})


def subject_of(parameters: Iterable[Parameter], *, layers: int, gqa: int, text_type: str) -> Subject:
    """The model as llama.cpp's choice of types sees it.

    `gqa` is query heads over KV heads in the first layer (0 where that has none).
    """
    listed = tuple(parameters)
    kept = max((len(p.layers) for p in listed if p.component == "draft"), default=0) if text_type in _KEEPS_DRAFTS else 0
    return Subject(
        gqa=gqa,
        experts=max((p.experts for p in listed), default=0),
        layers=layers + kept,
        tied=not any(p.role == "head" and p.component == "head" for p in listed),
        falcon=text_type == "falcon",
        seventy=layers == 80 and (gqa > 1 if text_type == "llama" else text_type in {"qwen2", "nemotron-nas", "deci"}),
    )


def tensors_of(parameters: Iterable[Parameter], *, text_type: str, nope_dim: int = 0) -> Iterator[Tensor]:
    """Every tensor of the file, layer by layer; `nope_dim` is latent attention's, which divides kv_b."""
    for parameter, layer in in_order(parameters):
        if parameter.component in OUTSIDE or (parameter.component == "draft" and text_type not in _KEEPS_DRAFTS):
            continue
        count = max(1, parameter.experts)
        columns = parameter.shape[-1]
        whole = prod(parameter.shape) * count
        if not _converts(parameter):
            yield Tensor(category="", columns=columns, elements=whole, layer=layer or 0, name=_name(parameter, layer))
            continue
        if parameter.role == "kv_b" and nope_dim:
            yield from _halves(parameter, nope_dim, layer or 0)
            continue
        category = _CATEGORIES.get(parameter.role, "other")
        name = _name(parameter, layer)
        yield Tensor(category=category, columns=columns, elements=whole, layer=layer or 0, experts=count, name=name)


#: Roles whose tensors moves by name are written for, as the file calls them.
_NAMES: Final = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "qkv": "attn_qkv", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up",
    "gate_up": "ffn_gate_up", "down": "ffn_down", "router": "ffn_gate_inp", "norm": "attn_norm",
}  # fmt: skip
_GLOBAL: Final = {
    "embed": "token_embd.weight", "head": "output.weight", "norm": "output_norm.weight", "positions": "position_embd.weight",
}  # fmt: skip


def _name(parameter: Parameter, layer: int | None) -> str:
    """What the file calls it, as far as its place depends on that."""
    if layer is None:
        return _GLOBAL.get(parameter.role, f"{parameter.role}.weight")
    name = _NAMES.get(parameter.role, parameter.role)
    kind = "_exps" if parameter.experts else "_shexp" if parameter.component == "experts" and name.startswith("ffn_") else ""
    return f"blk.{layer}.{name}{kind}.weight"


def _converts(parameter: Parameter) -> bool:
    """Whether the converter keeps it in 16 bits and llama.cpp may quantise it: matrices that are not small ones."""
    if len(parameter.shape) < 2 or parameter.role in _FLOAT or parameter.name.endswith("_bias"):
        return False
    return parameter.linear or parameter.role in {"embed", "head", "other", "index"}


def _halves(parameter: Parameter, nope_dim: int, layer: int) -> Iterator[Tensor]:
    """kv_b as attn_k_b (transposed: rows of nope_dim) and attn_v_b (`conversion/deepseek.py`)."""
    rows, rank = parameter.shape
    heads = parameter.units or 1
    keys = heads * nope_dim * rank
    name = f"blk.{layer}.attn_{{}}_b.weight"
    yield Tensor(category="other", columns=nope_dim, elements=keys, layer=layer, experts=heads, name=name.format("k"))
    yield Tensor(category="other", columns=rank, elements=rows * rank - keys, layer=layer, experts=heads, name=name.format("v"))


def rope_factors(text: Settings) -> int:
    """Bytes of `rope_freqs.weight`, a float32 for each pair of rotated dimensions, which Llama 3.1's scaling needs
    (`conversion/llama.py: generate_extra_tensors`)."""
    scaling = text.section("rope_parameters") if text.has("rope_parameters") else text.section("rope_scaling")
    if (scaling.text("rope_type") or scaling.text("type")) != "llama3":
        return 0
    heads = text.whole("num_attention_heads", 1, 1)
    return 4 * ((text.whole("head_dim") or text.whole("hidden_size") // heads) // 2)
