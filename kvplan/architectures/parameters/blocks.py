"""What modules are made of: linear layers, norms and tables, as `Parameter` values, and how they are put under a prefix."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from msgspec.structs import replace

from kvplan.domain.parameters import Component, Parameter, Role, Split

Tensors = Iterator[Parameter]
Kind = TypeVar("Kind")


def linear(
    name: str,
    outputs: int,
    inputs: int,
    role: Role,
    *,
    component: Component,
    split: Split = "none",
    bias: bool = False,
    units: int = 0,
    experts: int = 0,
    stacked: bool = False,
    quantised: bool = True,
) -> Tensors:
    """A linear layer: a weight of `outputs` x `inputs` and, if asked, a bias of `outputs`.

    The bias of a row-split layer is whole on every rank: it is added after the sum.
    """
    if outputs <= 0 or inputs <= 0:
        return
    yield Parameter(
        name=f"{name}.weight", shape=(outputs, inputs), role=role, component=component, split=split, units=units,
        linear=quantised, experts=experts, stacked=stacked,
    )  # fmt: skip
    if bias:
        yield Parameter(
            name=f"{name}.bias", shape=(outputs,), role=role, component=component,
            split=split if split in {"column", "vocab"} else "none", units=units if split == "column" else 0,
            experts=experts, stacked=stacked,
        )  # fmt: skip


def norm(name: str, width: int, *, bias: bool = False, component: Component = "norm") -> Tensors:
    """A scale of `width` and, for layer norms that have one, a bias."""
    yield Parameter(name=f"{name}.weight", shape=(width,), role="norm", component=component)
    if bias:
        yield Parameter(name=f"{name}.bias", shape=(width,), role="norm", component=component)


def table(
    name: str, rows: int, width: int, role: Role = "embed", *, component: Component = "embed", split: Split = "vocab"
) -> Tensors:
    """An embedding table of `rows` x `width`."""
    yield Parameter(name=f"{name}.weight", shape=(rows, width), role=role, component=component, split=split)


def vector(
    name: str,
    *shape: int,
    role: Role = "other",
    component: Component,
    split: Split = "none",
    units: int = 0,
    dtype: str = "",
    buffer: bool = False,
) -> Tensors:
    """A bare parameter (`name` is whole: nothing is appended), or a buffer that checkpoints keep."""
    yield Parameter(name=name, shape=shape, role=role, component=component, split=split, units=units, dtype=dtype, buffer=buffer)


def convolution(
    name: str,
    outputs: int,
    *inputs: int,
    role: Role = "ssm_conv",
    component: Component,
    bias: bool = False,
    split: Split = "none",
) -> Tensors:
    """A convolution: a weight of `outputs` x `inputs` (channels in a group, then taps) and maybe a bias."""
    yield Parameter(name=f"{name}.weight", shape=(outputs, *inputs), role=role, component=component, split=split)
    if bias:
        yield Parameter(name=f"{name}.bias", shape=(outputs,), role=role, component=component, split=split)


def under(prefix: str, tensors: Iterable[Parameter], component: Component | None = None) -> Tensors:
    """The same tensors under a prefix, and as part of `component` if that is given."""
    for tensor in tensors:
        yield replace(tensor, name=f"{prefix}{tensor.name}", component=component or tensor.component)


def over_layers(prefix: str, kinds: Sequence[Kind], build: Callable[[Kind], Iterable[Parameter]], first: int = 0) -> Tensors:
    """A stack of layers: `build` once for each different kind, its layers numbered from `first` under `prefix.{layer}.`."""
    places: dict[Kind, list[int]] = {}
    for index, kind in enumerate(kinds):
        places.setdefault(kind, []).append(first + index)
    for kind, indices in places.items():
        layers = tuple(indices)
        for tensor in build(kind):
            yield replace(tensor, name=f"{prefix}.{{layer}}.{tensor.name}", layers=layers)
