"""Formats of a stored matrix: its packed weights, and the scales, zero points and indices beside it. Pure.

Sources: compressed-tensors `compressors/` (pack-quantized, nvfp4-pack-quantized), modelopt `export/quant_utils.py`, AutoAWQ and
AutoGPTQ `QuantLinear`, bitsandbytes `functional.py: QuantState.as_dict`, transformers `integrations/finegrained_fp8.py` and
`integrations/mxfp4.py`, mlx `nn.QuantizedLinear`.
"""

from math import prod
from typing import Final, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from kvplan.units import ceil_div

#: What one scale stands for: nothing, the whole matrix, an output row, `group` inputs of a row, a square of `group` each way.
Scales = Literal["none", "matrix", "row", "group", "block"]

_BNB_NESTED: Final = 256  # absmax values that share a second scale (bitsandbytes `quantize_4bit`, `compress_statistics`)
_BNB_MAPS: Final = 16 + 256  # float32: quant_map and nested_quant_map; the state's JSON, about 150 bytes, is not counted


class Stored(NamedTuple):
    """What tensors take in files, and their elements as files count them (packed weights are items, scales are elements)."""

    bytes: int
    elements: int

    def times(self, copies: int) -> "Stored":
        """As many of them."""
        return Stored(self.bytes * copies, self.elements * copies)


class Format(Struct, frozen=True, kw_only=True):
    """How one matrix is stored.

    Attributes:
        name: what people call it.
        bits: bits of a weight.
        item_bytes: bytes of the items that packed weights are stored as (4: int32).
        scales: what one scale stands for; `group` inputs (or a square's side); `scale_bytes` each.
        offsets: a second value of `scale_bytes` beside each scale (mlx's biases).
        zeros: packed zero points, `bits` each, in the items of the weights.
        index: a 4-byte number for each input (GPTQ's g_idx).
        extras: (elements, bytes of each) that every matrix has: global and input scales, a shape.
        nested: bitsandbytes: the scales are bytes that have scales of their own.
    """

    name: str
    bits: int
    item_bytes: int = 1
    scales: Scales = "none"
    group: int = 0
    scale_bytes: int = 4
    offsets: bool = False
    zeros: bool = False
    index: bool = False
    extras: tuple[tuple[int, int], ...] = ()
    nested: bool = False

    def stored(self, shape: tuple[int, ...]) -> Stored:
        """One matrix of `shape` (outputs, inputs), or a stack of them.

        >>> Format(name="fp8", bits=8, scales="block", group=128).stored((256, 300))
        Stored(bytes=76824, elements=76806)
        """
        rows, columns = prod(shape[:-1]), shape[-1]
        items = ceil_div(rows * columns * self.bits, 8 * self.item_bytes)
        parts = [(items, self.item_bytes), *self._scale_parts(rows, columns), *self.extras]
        if self.index:
            parts.append((columns, 4))
        return Stored(sum(count * size for count, size in parts), sum(count for count, _ in parts))

    def _scale_parts(self, rows: int, columns: int) -> list[tuple[int, int]]:
        if self.nested:
            scales = ceil_div(rows * columns, self.group)
            return [(scales, 1), (ceil_div(scales, _BNB_NESTED), 4), (_BNB_MAPS, 4)]
        if self.scales == "none":
            return []
        count = {
            "matrix": 1,
            "row": rows,
            "group": rows * ceil_div(columns, self.group or columns),
            "block": ceil_div(rows, self.group or 1) * ceil_div(columns, self.group or 1),
        }[self.scales]
        parts = [(count, self.scale_bytes)] * (2 if self.offsets else 1)
        if self.zeros:
            parts.append((ceil_div(count * self.bits, 8 * self.item_bytes), self.item_bytes))
        return parts


def plain(shape: tuple[int, ...], item_bytes: int) -> Stored:
    """A tensor that is stored as it is."""
    return Stored(prod(shape) * item_bytes, prod(shape))


_SHAPE: Final = (2, 8)  # compressed-tensors' weight_shape: two int64
_SCALAR: Final = (1, 4)

FP8_BLOCK: Final = Format(name="fp8", bits=8, scales="block", group=128)
FP8_MATRIX: Final = Format(name="fp8", bits=8, scales="matrix")
FP8_ROW: Final = Format(name="fp8", bits=8, scales="row", scale_bytes=2)
INT8_ROW: Final = Format(name="int8", bits=8, scales="row", scale_bytes=2)
MXFP8: Final = Format(name="mxfp8", bits=8, scales="group", group=32, scale_bytes=1)
MXFP4: Final = Format(name="mxfp4", bits=4, scales="group", group=32, scale_bytes=1)
NVFP4: Final = Format(name="nvfp4", bits=4, scales="group", group=16, scale_bytes=1, extras=(_SCALAR, _SCALAR))
NVFP4_WEIGHTS: Final = replace(NVFP4, extras=(_SCALAR,))
BNB_4BIT: Final = Format(name="bnb-4bit", bits=4, group=64, nested=True)
BNB_4BIT_PLAIN: Final = Format(name="bnb-4bit", bits=4, scales="group", group=64, extras=((16, 4),))
BNB_8BIT: Final = Format(name="bnb-8bit", bits=8, scales="row")


def packed_int(bits: int, group: int, *, zeros: bool = False, row: bool = False) -> Format:
    """compressed-tensors' packed integers: int32 items, scales in the model's 16-bit type, the shape."""
    return Format(
        name=f"int{bits}", bits=bits, item_bytes=4, scales="row" if row else "group", group=group, scale_bytes=2, zeros=zeros,
        extras=(_SHAPE,),
    )  # fmt: skip


def awq(bits: int = 4, group: int = 128) -> Format:
    """AutoAWQ: int32 items of weights and zero points, float16 scales."""
    return Format(name="awq", bits=bits, item_bytes=4, scales="group", group=group, scale_bytes=2, zeros=True)


def gptq(bits: int = 4, group: int = 128) -> Format:
    """AutoGPTQ: as AWQ, and the group of each input."""
    return Format(name="gptq", bits=bits, item_bytes=4, scales="group", group=group, scale_bytes=2, zeros=True, index=True)


def mlx(bits: int = 4, group: int = 64) -> Format:
    """mlx's affine quantisation: int32 items, a scale and an offset of 16 bits for each group."""
    return Format(name=f"mlx-{bits}bit", bits=bits, item_bytes=4, scales="group", group=group, scale_bytes=2, offsets=True)
