"""vLLM's own tensors of one rank, module by module in construction order, made from the checkpoint's.

vLLM joins what the checkpoint keeps apart (q, k and v; gate and up; all experts of a layer), cuts it for this rank, and
declares some tensors in another way than the checkpoint does.

Source: `model_executor/layers/linear.py`, `vocab_parallel_embedding.py`, `fused_moe/layer.py`, `models/`; 0.26.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.parameters import Parameter, Split, in_order, on_rank
from kvplan.units import ceil_div

_JOINED: Final = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up", "q_a": "qkv_a", "kv_a": "qkv_a"}
#: Routers that vLLM keeps in float32. Source: `params_dtype=torch.float32` in `models/`.
_FLOAT32_ROUTERS: Final = frozenset({
    "minimax_m2", "mimo_v2_flash", "ernie4_5_moe", "ernie4_5_moe_vl", "glm4_moe", "glm4v_moe_text",
})  # fmt: skip
#: Classes with latent attention of their own. Source: `models/minicpm3.py`.
LATENTS_APART: Final = frozenset({"minicpm3"})
#: Biases that a class of the engine has whatever the config says. Source: `models/phimoe.py`.
_BIASED_CLASSES: Final = frozenset({"phimoe"})
#: Classes whose shared experts are whole on every process that takes a part of the tokens, by the release that has them so.
#: Source: `disable_tp=is_sequence_parallel` in `models/deepseek_v2.py`, `llama4.py`, `nemotron_h.py`, `qwen2_moe.py`.
_WHOLE_SHARED: Final[dict[str, tuple[int, ...]]] = {
    "deepseek_v2": (0, 11), "deepseek_v3": (0, 11), "deepseek_v32": (0, 11), "kimi_k2": (0, 11), "glm_moe_dsa": (0, 11),
    "llama4_text": (0, 11), "nemotron_h": (0, 11, 2), "deepseek_v4": (0, 24), "qwen2_moe": (0, 24), "qwen3_next": (0, 24),
    "qwen3_5_moe_text": (0, 24),
}  # fmt: skip
_JOINS: Final = frozenset({"attention", "mlp", "experts", "vision", "audio", "encoder"})
#: Projections of a gated delta rule that checkpoints keep apart. Source: `models/qwen3_5.py`.
_DELTA_JOINED: Final = {"in_proj_qkv": "qkvz", "in_proj_z": "qkvz", "in_proj_b": "ba", "in_proj_a": "ba"}
_OUTER: Final = frozenset({"vision", "audio", "encoder"})


class Rank(Struct, frozen=True, kw_only=True):
    """Which part of the model one process loads.

    Attributes:
        tensor_parallel: processes that share each layer.
        layers: numbers of the layers of this pipeline stage.
        first, last: whether the stage holds the embedding, and the head.
        item_bytes: bytes of an element of the model's dtype.
        expert_parallel: experts are dealt out whole instead of being cut.
        expert_ranks: processes that share the routed experts of a layer: those of all data ranks.
        whole_shared: shared experts are not cut, as each process has other tokens.
        joins_latents: the class keeps the down projections of queries and of keys and values in one matrix.
    """

    tensor_parallel: int = 1
    layers: range = range(1 << 30)
    first: bool = True
    last: bool = True
    item_bytes: int = 2
    expert_parallel: bool = False
    expert_ranks: int = 1
    whole_shared: bool = False
    joins_latents: bool = True


class Tensor(Struct, frozen=True, kw_only=True):
    """One tensor of vLLM's, on one rank."""

    name: str
    shape: tuple[int, ...]
    parameter: Parameter  # the first checkpoint tensor in it
    pieces: int  # how many it joins
    layer: int | None


def whole_shared(text_type: str, release: tuple[int, ...]) -> bool:
    """Whether a class keeps its shared experts whole where each process takes a part of the tokens."""
    return text_type in _WHOLE_SHARED and release >= _WHOLE_SHARED[text_type]


def engine_classes(parameters: Sequence[Parameter], text_type: str, untied: bool = False) -> list[Parameter]:
    """The tensors as the engine's own classes declare them, where these differ from the checkpoint's."""
    embed = next((p for p in parameters if p.role == "embed" and len(p.shape) == 2), None)
    if untied and embed is not None and not any(p.role == "head" for p in parameters):
        parameters = [*parameters, replace(embed, name="lm_head.weight", role="head", component="head")]
    found: list[Parameter] = []
    for p in parameters:
        dtype = _dtype(p, text_type)
        found.append(p if dtype == p.dtype else replace(p, dtype=dtype))
        matrix = p.name.endswith(".weight") and len(p.shape) == 2
        if text_type in _BIASED_CLASSES and matrix and p.role in {"q", "k", "v", "o", "head"}:
            split: Split = "none" if p.role == "o" else p.split
            found.append(replace(p, name=p.name.removesuffix("weight") + "bias", shape=p.shape[:1], split=split, linear=False))
    return found


def _dtype(p: Parameter, text_type: str) -> str:
    """What the engine keeps a tensor in: "" is the model's dtype."""
    if p.role == "ssm_d":
        return ""
    router = p.role == "router" and len(p.shape) == 2 and text_type in _FLOAT32_ROUTERS
    index = (p.role == "norm" and "indexer" in p.name) or (p.role == "index" and "k_norm" in p.name)
    return "float32" if router or index or p.role == "ssm_a" else p.dtype


def modules(parameters: Sequence[Parameter], rank: Rank) -> Iterator[list[Tensor]]:
    """vLLM's tensors, one list a module: an attention, a feed-forward, a norm; in construction order."""
    group: list[tuple[Parameter, int | None]] = []
    alike: dict[tuple[int, ...], list[Tensor]] = {}
    key: tuple[str, int | None] | None = None
    for parameter, layer in in_order([p for p in parameters if p.component != "draft"]):
        if not _held(parameter, layer, rank):
            continue
        component = "mlp" if parameter.component == "experts" else parameter.component
        if (component, layer) != key and group:
            yield _module(group, rank, alike)
            group = []
        key = (component, layer)
        group.append((parameter, layer))
    if group:
        yield _module(group, rank, alike)


def _module(group: list[tuple[Parameter, int | None]], rank: Rank, alike: dict[tuple[int, ...], list[Tensor]]) -> list[Tensor]:
    """A module's tensors; `alike` are those that were made before, by their parameters: equal layers differ in their number."""
    same, layer = tuple(id(p) for p, _ in group), group[0][1]
    if same not in alike:
        alike[same] = list(_joined(group, rank))
        return alike[same]
    return [replace(tensor, layer=layer) for tensor in alike[same]]


def _held(parameter: Parameter, layer: int | None, rank: Rank) -> bool:
    if parameter.component in _OUTER:
        return rank.first
    if layer is not None:
        return layer in rank.layers
    return rank.last if parameter.component in {"head", "norm"} else rank.first


def _joined(group: list[tuple[Parameter, int | None]], rank: Rank) -> Iterator[Tensor]:
    """A module's tensors with those joined that vLLM keeps in one, at the place of the first of them."""
    if any(p.component == "experts" for p, _ in group):
        group = sorted(group, key=lambda item: _moe_place(item[0]))
    parts: dict[tuple[str, ...], list[Parameter]] = {}
    for p, _ in group:
        joined = _JOINED.get(p.role, "") if p.component in _JOINS else ""
        if (p.component in _OUTER and len(p.shape) > 2) or (joined == "qkv_a" and not rank.joins_latents):
            joined = ""
        if p.role == "index" and p.name.endswith(("wk.weight", "weights_proj.weight")):
            joined = "wk_weights"
        for end, name in _DELTA_JOINED.items():
            if p.component == "mixer" and p.name.endswith(f".{end}.weight"):
                joined = name
        key = (joined, _stem(p), str(len(p.shape)), str(p.experts)) if joined else (p.name,)
        parts.setdefault(key, []).append(p)
    layer = group[0][1]
    for members in parts.values():
        yield _tensor(members, layer, rank)


def _stem(p: Parameter) -> str:
    """The module that a joined tensor belongs to: the shared expert's gate is not the routed ones'."""
    return p.name.rpartition(".")[0].rpartition(".")[0]


def _moe_place(p: Parameter) -> int:
    """vLLM builds the router, then the shared experts, then the routed ones. Source: `models/qwen2_moe.py`, `deepseek_v2.py`."""
    if p.role == "router":
        return 0
    if p.role == "shared_gate":
        return 1
    return 3 if p.experts else 2


def _tensor(members: list[Parameter], layer: int | None, rank: Rank) -> Tensor:
    first = members[0]
    rows = sum(local_shape(p, rank)[0] for p in members)
    shape = (rows, *local_shape(first, rank)[1:])
    if first.experts:
        count = first.experts
        if rank.expert_parallel:
            count = ceil_div(count, rank.expert_ranks)  # the first ranks hold one more (`determine_expert_map`)
        shape = (count, *shape)
    pieces = 2 * len(members) if first.role == "gate_up" else len(members)
    return Tensor(name=first.name, shape=shape, parameter=first, pieces=pieces, layer=layer)


def local_shape(p: Parameter, rank: Rank) -> tuple[int, ...]:
    """A tensor's shape on one rank."""
    if p.experts:
        return on_rank(p, 1 if rank.expert_parallel else rank.expert_ranks)
    return on_rank(p, 1 if rank.whole_shared and "shared_expert" in p.name else rank.tensor_parallel)
