"""Feed-forward layers: gated or not, and mixtures of experts with shared ones."""

from collections.abc import Callable
from typing import NamedTuple

from kvplan.architectures.parameters.blocks import Tensors, linear, norm, under, vector
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.domain.parameters import Component


class Mlp(NamedTuple):
    """A dense feed-forward layer. `names` are gate, up and down, or up and down alone where it is not gated."""

    prefix: str = "mlp"
    names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    bias: bool | str = False
    width: tuple[str, ...] = ("intermediate_size",)
    fused: str = ""  # the name of one matrix for gate and up
    times: int = 0  # the width as a multiple of the hidden size, where the config does not have it
    exact: int = 0  # the width itself, where it differs by layer
    half: bool = False  # the config's width counts gate and up together
    inner_norm: str = ""  # a norm between up and down
    scalars: tuple[str, ...] = ()  # parameters of the activation


def mlp(s: Sizes, row: Mlp, width: int = 0) -> Tensors:
    """One dense feed-forward layer under its prefix."""
    wide = width or mlp_width(s, row)
    prefix = f"{row.prefix}." if row.prefix else ""
    yield from under(prefix, feed_forward(s.hidden, wide, row, bias=s.flag(row.bias)), "mlp")
    for name in row.scalars:
        yield from vector(f"{prefix}{name}", 1, component="mlp")
    if row.inner_norm:
        yield from norm(f"{prefix}{row.inner_norm}", wide)


def mlp_width(s: Sizes, row: Mlp) -> int:
    """Elements between up and down."""
    if row.exact:
        return row.exact
    wide = s.maybe(*row.width) if row.times else s.number(*row.width)
    wide = wide or s.hidden * row.times
    return wide // 2 if row.half else wide


def feed_forward(
    hidden: int,
    width: int,
    row: Mlp,
    *,
    bias: bool = False,
    component: Component = "mlp",
    experts: int = 0,
    stacked: bool = False,
) -> Tensors:
    """The matrices of a feed-forward layer: `width` elements between them."""

    def matrix(name: str, outputs: int, inputs: int, role: str) -> Tensors:
        split = "row" if role == "down" else "column"
        return linear(name, outputs, inputs, role, component=component, split=split, bias=bias, experts=experts, stacked=stacked)  # type: ignore[arg-type]

    if row.fused:
        yield from matrix(row.fused, 2 * width, hidden, "gate_up")
    else:
        for name, role in zip(row.names, ("gate", "up") if len(row.names) == 3 else ("up",), strict=False):
            yield from matrix(name, width, hidden, role)
    yield from matrix(row.names[-1], hidden, width, "down")


Dense = Callable[[Sizes, int], bool]  # whether a layer has a dense feed-forward layer instead of experts


class Experts(NamedTuple):
    """A mixture of experts, and the dense layer that some layers have instead."""

    prefix: str = "mlp"
    number: tuple[str, ...] = ("num_experts", "num_local_experts", "n_routed_experts")
    width: tuple[str, ...] = ("moe_intermediate_size", "intermediate_size")
    names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    experts: str = "experts.{expert}"
    fused: str = ""  # the checkpoint's own one tensor for gate and up of all experts
    bias: bool | str = False  # of the experts
    router: str = "gate"
    router_extra: tuple[str, ...] = ()  # more choices than routed experts
    router_bias: bool | str = False
    correction: str = ""  # the name of the selection bias, a float32 for each expert
    correction_key: str = ""  # the switch that decides whether it is there
    correction_first: bool = False
    correction_is_parameter: bool = False
    shared: str = ""  # the shared experts' name
    shared_number: tuple[str, ...] = ()  # how many experts' widths they take together; empty: shared_width is whole
    shared_width: tuple[str, ...] = ()
    shared_gate: str = ""  # a gate of one output for the shared expert
    shared_fused: str = ""
    latent: tuple[str, ...] = ()  # the width that the routed experts work in, where it is not the hidden size
    after: str = ""  # a norm of the experts' outputs
    order: tuple[str, ...] = ("router", "experts", "shared")
    dense: Dense | None = None  # None: all layers have experts
    exact: tuple[int, int, int] | None = None  # number, width and shared width, where they differ by layer
    mlp: Mlp = Mlp()  # of the dense layers


def experts(s: Sizes, row: Experts) -> Tensors:
    """The experts of one layer under their prefix: router, routed experts, shared ones, in the class's order."""
    parts = {"router": _router, "experts": _routed, "shared": _shared}
    for name in row.order:
        yield from under(f"{row.prefix}." if row.prefix else "", parts[name](s, row))
    if row.after:
        yield from norm(f"{row.prefix}.{row.after}", s.hidden)


def _router(s: Sizes, row: Experts) -> Tensors:
    number = _number(s, row)
    bias = s.flag(row.router_bias)
    wanted = row.correction and (not row.correction_key or s.flag(row.correction_key))
    correction = vector(
        row.correction, number, role="router", component="experts", dtype="float32", buffer=not row.correction_is_parameter
    )
    if wanted and row.correction_first:
        yield from correction
    choices = number + (s.number(*row.router_extra) if row.router_extra else 0)
    yield from linear(row.router, choices, s.hidden, "router", component="experts", bias=bias, quantised=False)
    if wanted and not row.correction_first:
        yield from correction


def _routed(s: Sizes, row: Experts) -> Tensors:
    hidden = s.number(*row.latent) if row.latent else s.hidden
    shape = Mlp(names=row.names, fused=row.fused)
    tensors = feed_forward(
        hidden, row.exact[1] if row.exact else s.number(*row.width), shape, bias=s.flag(row.bias), component="experts",
        experts=_number(s, row), stacked=bool(row.fused),
    )  # fmt: skip
    if row.latent:
        yield from linear("latent_down_proj", hidden, s.hidden, "other", component="experts")
    yield from under(f"{row.experts}." if row.experts else "", tensors, "experts")
    if row.latent:
        yield from norm("latent_norm", hidden)
        yield from linear("latent_up_proj", s.hidden, hidden, "other", component="experts")


def _number(s: Sizes, row: Experts) -> int:
    return row.exact[0] if row.exact else s.number(*row.number)


def _shared(s: Sizes, row: Experts) -> Tensors:
    if not row.shared:
        return
    width = shared_width(s, row)
    if not width:
        return
    shape = Mlp(names=row.mlp.names if row.fused or row.shared_fused else row.names, fused=row.shared_fused)
    yield from under(f"{row.shared}.", feed_forward(s.hidden, width, shape, bias=s.flag(row.bias)), "mlp")
    if row.shared_gate:
        yield from linear(row.shared_gate, 1, s.hidden, "shared_gate", component="mlp", quantised=False)


def shared_width(s: Sizes, row: Experts) -> int:
    """Elements of the shared experts together; 0 where there are none."""
    if row.exact:
        return row.exact[2]
    if row.shared_number:
        number = s.maybe(*row.shared_number) or 0
        return number * s.number(*(row.shared_width or row.width)) if number else 0
    return s.maybe(*row.shared_width) or 0


def first_dense(*keys: str) -> Dense:
    """The first layers, as many as a key says, are dense."""

    def dense(s: Sizes, layer: int) -> bool:
        return layer < (s.maybe(*keys) or 0)

    return dense


def typed(inner: Dense) -> Dense:
    """`mlp_layer_types` decides where the config has it."""

    def dense(s: Sizes, layer: int) -> bool:
        kinds = s.c.texts("mlp_layer_types")
        if kinds and layer < len(kinds):
            return kinds[layer] == "dense"
        return inner(s, layer)

    return dense


def sparse_step(s: Sizes, layer: int) -> bool:
    """Qwen: layers of `mlp_only_layers`, and those that `decoder_sparse_step` skips, are dense."""
    only = s.c.integers("mlp_only_layers") or []
    step = s.maybe("decoder_sparse_step") or 1
    return layer in only or (layer + 1) % step != 0 or not (s.maybe("num_experts") or 0)
