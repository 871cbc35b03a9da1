"""States of one sequence: their shapes on one device, and how many slots a budget pays for.

Source: sglang 0.5.23, `configs/mamba_utils.py`, `mem_cache/kv_cache_configurator.py:_handle_max_mamba_cache`,
`mem_cache/memory_pool.py:MambaPool`.
"""

from __future__ import annotations

from math import prod
from typing import Final

from msgspec import Struct

from kvplan.domain.model import Recurrent
from kvplan.domain.model import State as Part
from kvplan.engines.sglang import classes
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.layers import stage_layers
from kvplan.engines.sglang.tensors import item_size, stages
from kvplan.errors import OptionError, Refused

_CONV_ITEM: Final = 2  # bfloat16, whatever the model's dtype
#: Kind -> convolutions, and the dimensions of each recurrent part.
_FORMS: Final = {
    "mamba": (1, 2), "mamba2": (1, 3), "gated_delta": (1, 3), "kda": (1, 3), "linear": (0, 3), "short_conv": (1,),
}  # fmt: skip
GIB: Final = 1 << 30


class State(Struct, frozen=True, kw_only=True):
    """One layer's state of one sequence on one device."""

    conv: tuple[tuple[int, ...], ...]
    temporal: tuple[int, ...]
    item: int  # bytes of an element of the recurrent part
    window_axis: int  # of `conv`: where the kernel's window lies
    joined_windows: bool  # a drafter's windows overlap in memory

    @property
    def conv_elements(self) -> int:
        """Elements of the convolutions' windows."""
        return sum(prod(shape) for shape in self.conv)

    @property
    def parts(self) -> tuple[tuple[str, tuple[int, ...], int], ...]:
        """Name, shape and bytes of an element of every tensor that is not empty."""
        windows = tuple(("conv", window, _CONV_ITEM) for window in self.conv)
        return tuple(part for part in (*windows, ("temporal", self.temporal, self.item)) if prod(part[1]))

    @property
    def layer_bytes(self) -> int:
        """Bytes of one layer."""
        return self.conv_elements * _CONV_ITEM + prod(self.temporal) * self.item


class Slots(Struct, frozen=True, kw_only=True):
    """Slots that the budget pays for, and what is left of it in GiB."""

    size: int
    rest: float
    per_request: int  # bytes, of the stage with the most state layers


class States(Struct, frozen=True, kw_only=True):
    """Allocated states of one stage, in bytes."""

    size: int  # slots
    conv: int
    temporal: int
    draft_temporal: int
    draft_conv: int
    drafted: bool  # whether there are snapshots for drafts

    @property
    def total(self) -> int:
        """All of them."""
        return self.conv + self.temporal + self.draft_temporal + self.draft_conv


def state(args: Arguments) -> State | None:
    """The state's shapes on one device, None for models without states.

    Raises:
        OptionError: the devices do not divide it.
    """
    found = args.reading.state
    if found is None:
        return None
    whole = args.reading.architecture in classes.PURE_STATES or args.reading.text_type == "zaya"
    devices = args.options.tp_size if whole else args.options.attention_tp
    conv, temporal = _shapes(args, found, devices)
    return State(
        conv=conv,
        temporal=temporal,
        item=item_size(args.reading.state_dtype),
        window_axis=0 if found.kind == "kda" else 1,
        joined_windows=args.speculation.topk <= 1 and found.kind != "kda",
    )


def _shapes(args: Arguments, found: Recurrent, devices: int) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Convolution windows and the recurrent part of one layer, on one of `devices`."""
    if args.reading.text_type == "zaya":
        first = found.states[0].shape
        return ((_share(first[0], devices), first[1]), (args.reading.hidden_size, 1)), (1, 1, 0)
    conv, rest = _parts(found)
    windows: tuple[tuple[int, ...], ...] = ((0, 0),)
    if conv is not None:
        groups, elements = conv.groups, conv.group_elements
        if found.kind == "gated_delta" and rest is not None:
            elements = 2 * rest[1]
            groups = (conv.shape[0] - rest[0] * rest[2]) // elements
        more = (devices - groups) * elements if groups > 0 and groups % devices else 0  # every device needs its heads' groups
        width = _share(conv.shape[0] + more, devices)
        windows = ((conv.kernel - 1, width),) if found.kind == "kda" else ((width, conv.kernel - 1),)
    if rest is None:
        return windows, (1, args.reading.hidden_size, 0)
    if found.kind == "mamba":
        return windows, (_share(rest[0], devices), 1, rest[1])
    heads = _share(rest[0], devices)
    return windows, (heads, rest[2], rest[1]) if len(rest) == 3 and found.kind == "gated_delta" else (heads, *rest[1:])


def _parts(found: Recurrent) -> tuple[Part | None, tuple[int, ...] | None]:
    """The convolution, and the shape of the recurrent part.

    Raises:
        Refused: SGLang has no pool for such states.
    """
    convolutions = [part for part in found.states if part.kernel]
    others = [part.shape for part in found.states if not part.kernel]
    form = (len(convolutions), *(len(shape) for shape in others))
    if _FORMS.get(found.kind) != form or any(len(part.shape) != 1 for part in convolutions):
        raise Refused(f"SGLang has no pool for these states ({found.kind})")
    return next(iter(convolutions), None), next(iter(others), None)


def _share(total: int, devices: int) -> int:
    if total % devices:
        raise OptionError(
            f"{total} is not divisible by {devices}: SGLang cannot split the states of this model",
            hint="choose another tp_size",
            option="tp_size",
        )
    return total // devices


def slots(args: Arguments, one: State, rest: float) -> Slots:
    """How many slots `rest` GiB pay for, and what they leave. Sizes may be 0 or less: then the server does not start.

    The arithmetic is the engine's, in its order: its floats decide the last slot.
    """
    reading, options = args.reading, args.options
    count = len(reading.state_layers)
    largest = count
    if options.pp_size > 1 and count:
        spans = stages(reading.hidden_layers, options.pp_size)
        largest = max(sum(layer in span for layer in reading.state_layers) for span in spans)
    per_request = int(one.layer_bytes * count * (largest / max(count, 1)))
    drafted = _drafted(args)
    ratio, requests = args.slots_per_request, args.requests or 1
    if options.max_mamba_cache_size is not None:
        size = options.max_mamba_cache_size // args.groups
        running = min(requests, size // ratio)
    elif not args.radix and args.max_running_requests is not None:
        size = requests
        running = size
    else:
        share = rest * args.mamba_full_memory_ratio / (1 + args.mamba_full_memory_ratio)
        budget = share * GIB
        if per_request == 0:
            return Slots(size=0, rest=rest, per_request=0)
        if drafted:
            size = int((budget - per_request * (1 + drafted)) // (per_request * (1 + drafted / ratio)))
        else:
            size = int((budget - per_request) // per_request)
        running = min(requests, size // ratio)
    if drafted:
        rest = rest - (per_request * (running + 1) * drafted / GIB)
    if size > 0:
        rest = rest - (size + 1) * per_request / GIB
    return Slots(size=size, rest=rest, per_request=per_request)


def allocated(args: Arguments, one: State, size: int, requests: int, rank: int) -> States:
    """Bytes of one stage's pool of `size` slots. Verifying drafts takes snapshots for each of `requests` running requests."""
    layers = _layers(args, rank)
    temporal = prod(one.temporal) * one.item * layers
    drafted = _drafted(args)
    waiting = requests + args.extra_slots
    if args.options.disaggregation_mode == "decode":
        size = max(size, waiting * (1 + args.tracking_slots))
    return States(
        size=size,
        conv=one.conv_elements * _CONV_ITEM * layers * (size + 1),
        temporal=temporal * (size + 1),
        draft_temporal=temporal * (waiting + 1) * drafted,
        draft_conv=_window_bytes(args, one) * layers * (waiting + 1),
        drafted=drafted > 0,
    )


def reported_bytes(args: Arguments, one: State, found: States, requests: int, rank: int) -> int:
    """The states' bytes as their pool reports them: windows of drafted tokens that overlap in memory count each by itself.

    Source: `mem_cache/memory_pool.py:MambaPool.get_kv_size_bytes` (elements of a strided view).
    """
    whole = one.conv_elements * _drafted(args) * _CONV_ITEM
    return found.total - found.draft_conv + whole * _layers(args, rank) * (requests + args.extra_slots + 1)


def slot_bytes(args: Arguments, one: State, rank: int) -> int:
    """One slot in all layers of a stage."""
    return one.layer_bytes * _layers(args, rank)


def snapshot_bytes(args: Arguments, one: State) -> int:
    """What verifying drafts keeps of one request in one layer."""
    return prod(one.temporal) * one.item * _drafted(args) + _window_bytes(args, one)


def _layers(args: Arguments, rank: int) -> int:
    stage = stage_layers(args, rank)
    return sum(layer in stage for layer in args.reading.state_layers)


def _drafted(args: Arguments) -> int:
    """Tokens whose states are kept until they are verified; a prefill server verifies none."""
    return args.speculation.tokens if args.options.disaggregation_mode != "prefill" else 0


def _window_bytes(args: Arguments, one: State) -> int:
    """Convolution windows of the drafted tokens: one after the other they overlap, of a tree they do not."""
    drafted, size = _drafted(args), 0
    if not drafted:
        return 0
    for shape in one.conv:
        window = shape[one.window_axis]
        across = prod(shape) // window if window else 0
        size += across * (drafted + window - 1) if one.joined_windows else prod(shape) * drafted
    return size * _CONV_ITEM
