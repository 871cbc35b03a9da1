"""The tensors that an allocation stands for, one by one, in the order in which layers are built."""

from typing import Final

from msgspec import Struct

from kvplan.domain.allocation import Allocation

#: Where a tensor belongs to no layer: a drafter's cache, padding.
NO_LAYER: Final = -1


class PlannedTensor(Struct, frozen=True, kw_only=True):
    """One tensor to allocate; `buffer` is the position of its `Buffer` in the allocation."""

    layer: int  # or NO_LAYER
    buffer: int
    name: str
    shape: tuple[int, ...]  # items of `dtype`
    dtype: str  # a torch dtype's name
    predicted_bytes: int


def tensor_plan(allocation: Allocation) -> tuple[PlannedTensor, ...]:
    """Every tensor of `allocation`, layer by layer; their predicted bytes add up to its `allocated_bytes`.

    >>> from kvplan.questions.estimate import plan
    >>> from kvplan.domain.workload import Workload
    >>> from kvplan.domain.model import Layer, Model, Softmax
    >>> layer = Layer(index=0, memories=(Softmax(kv_heads=2, key_dim=64, value_dim=64),))
    >>> answer = plan(Model(name="one", model_type="llama", layers=(layer,)), Workload(seq_len=16))
    >>> [(t.name, t.shape, t.predicted_bytes) for t in tensor_plan(answer)]
    [('keys', (1, 2, 16, 64), 4096), ('values', (1, 2, 16, 64), 4096)]
    """
    planned = []
    for position, buffer in enumerate(allocation.buffers):
        each, rest = divmod(buffer.padded_bytes, buffer.count)
        for number, layer in enumerate(buffer.layers or (NO_LAYER,)):
            planned.append(
                PlannedTensor(
                    layer=layer,
                    buffer=position,
                    name=buffer.name,
                    shape=buffer.shape,
                    dtype=buffer.dtype,
                    predicted_bytes=each + (number < rest),
                )
            )
    return tuple(sorted(planned, key=lambda tensor: (tensor.layer, tensor.buffer)))
