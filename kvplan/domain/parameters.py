"""The tensors of a checkpoint, without their values: one list that weights, ledgers and file sizes are counted from."""

from collections.abc import Iterable, Iterator
from math import prod
from typing import Final, Literal, get_args

from msgspec import Struct

from kvplan.units import ceil_div

#: Rows to which vLLM and SGLang pad a vocabulary table before they divide it (`layers/vocab_parallel_embedding.py` of both).
VOCAB_PADDING: Final = 64

#: What a tensor does. The engines group by it: q, k and v are one matrix in vLLM; llama.cpp picks a type by it.
Role = Literal[
    "embed", "positions", "head", "norm",
    "q", "k", "v", "qkv", "qkvg", "o", "q_a", "q_b", "kv_a", "kv_b", "k_b", "v_b", "attn_gate", "sinks", "index",
    "gate", "up", "gate_up", "down", "router", "shared_gate",
    "ssm_in", "ssm_conv", "ssm_x", "ssm_dt", "ssm_a", "ssm_d", "ssm_out", "ssm_gate",
    "patch", "projector", "other",
]  # fmt: skip

#: The part of the model that owns a tensor. All of a vision or audio tower is one component, its projector included.
Component = Literal["embed", "attention", "mixer", "mlp", "experts", "norm", "head", "encoder", "vision", "audio", "draft"]

#: The axis that tensor parallelism divides: `column` the first (outputs), `row` the last (inputs), `vocab` the first of a
#: vocabulary table (engines pad it before they divide), `none`: every rank holds the whole tensor.
Split = Literal["none", "column", "row", "vocab"]

ROLES: tuple[str, ...] = get_args(Role)


class Parameter(Struct, frozen=True, kw_only=True):
    """One tensor of the checkpoint, or equal ones in several layers and experts.

    `name` is the checkpoint's, `{layer}` and `{expert}` standing for numbers: `model.layers.{layer}.self_attn.q_proj.weight`.
    `shape` is one tensor's, in elements, a matrix as (outputs, inputs) whatever the checkpoint transposes. `experts` is the
    number of routed experts that hold one such tensor each (0: not an expert's); `stacked` says that the checkpoint keeps
    them in one tensor. `layers` are the layers that hold it; empty outside layers. `units` is what the split axis cannot be
    divided below (KV heads: each rank holds one whole, so more ranks hold copies; 0: elements). `linear` marks the matrices
    of linear layers, which quantisers convert. `dtype` is set where the checkpoint keeps another type than its own.
    `buffer`: kept in the checkpoint, not a parameter (routers' selection biases).
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    component: Component
    split: Split = "none"
    units: int = 0
    linear: bool = False
    layers: tuple[int, ...] = ()
    experts: int = 0
    stacked: bool = False
    dtype: str = ""
    buffer: bool = False

    @property
    def copies(self) -> int:
        """How many tensors of this shape the model has: layers times experts."""
        return max(1, len(self.layers)) * max(1, self.experts)

    @property
    def elements(self) -> int:
        """Elements of all of them.

        >>> Parameter(name="x", shape=(4, 8), role="gate", component="experts", layers=(0, 1), experts=3).elements
        192
        """
        return prod(self.shape) * self.copies


def on_rank(parameter: Parameter, ranks: int) -> tuple[int, ...]:
    """A tensor's shape on one of `ranks` devices that share it, as servers divide it.

    >>> on_rank(Parameter(name="k", shape=(1024, 64), role="k", component="attention", split="column", units=8), 16)
    (128, 64)
    """
    if parameter.split == "vocab":
        return (ceil_div(ceil_div(parameter.shape[0], VOCAB_PADDING) * VOCAB_PADDING, ranks), *parameter.shape[1:])
    if ranks == 1 or parameter.split == "none":
        return parameter.shape
    axis = 0 if parameter.split == "column" else len(parameter.shape) - 1
    size, units = parameter.shape[axis], parameter.units
    size = size // units * max(1, units // ranks) if units else ceil_div(size, ranks)
    return (*parameter.shape[:axis], size, *parameter.shape[axis + 1 :])


def elements(parameters: Iterable[Parameter], *, buffers: bool = True) -> int:
    """Elements of a list, `buffers` included as checkpoints count them."""
    return sum(p.elements for p in parameters if buffers or not p.buffer)


def in_order(parameters: Iterable[Parameter]) -> Iterator[tuple[Parameter, int | None]]:
    """Each parameter with its layer number (None outside layers), in the order in which modules are constructed.

    A list holds equal layers once. Here each stack of layers (`model.layers.`) is walked layer by layer.
    """
    stack: list[Parameter] = []
    for parameter in parameters:
        if stack and (not parameter.layers or _stack(parameter) != _stack(stack[0])):
            yield from _layer_by_layer(stack)
            stack = []
        if parameter.layers:
            stack.append(parameter)
        else:
            yield parameter, None
    yield from _layer_by_layer(stack)


def _stack(parameter: Parameter) -> str:
    return parameter.name.partition("{layer}")[0]


def _layer_by_layer(stack: list[Parameter]) -> Iterator[tuple[Parameter, int]]:
    by_layer: dict[int, list[Parameter]] = {}
    for parameter in stack:
        for layer in parameter.layers:
            by_layer.setdefault(layer, []).append(parameter)
    for layer in sorted(by_layer):
        for parameter in by_layer[layer]:
            yield parameter, layer
