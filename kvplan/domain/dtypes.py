"""Cache element types: how many bytes one row of elements takes, scales included.

Adding a type is adding a row to `DTYPES`.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct

from kvplan.errors import OptionError, nearest
from kvplan.units import ceil_div


class DType(Struct, frozen=True, kw_only=True):
    """How a cache stores its elements: `block` elements in `block_bytes` bytes.

    `head_scale_bytes` is added once per head and token, for formats that keep a scale there.
    `torch` names the torch type of one storage item; packed formats are stored as bytes (`uint8`).
    """

    name: str
    block: int = 1  # elements
    block_bytes: int  # bytes, scales included
    head_scale_bytes: int = 0  # bytes per head and token
    torch: str = "uint8"
    scales: str = ""  # where the scales are, in words

    def __repr__(self) -> str:
        return f"<DType {self.name}: {self.block} elements in {self.block_bytes} bytes>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: a block's elements and bytes, the bits of a bare element, and where scales are."""
        bits = self.block_bytes * 8 / self.block
        return {
            "name": self.name,
            "block_elements": self.block,
            "block_bytes": self.block_bytes,
            "bits_per_element": int(bits) if bits.is_integer() else bits,
            "head_scale_bytes": self.head_scale_bytes,
            "torch": self.torch,
            "scales": self.scales,
        }

    @property
    def packed(self) -> bool:
        """Whether one element is not one torch item."""
        return self.torch == "uint8"

    def row_bytes(self, heads: int, dim: int) -> int:
        """Bytes of one token's row of `heads * dim` elements (one of K or V).

        >>> lookup("q8_0").row_bytes(8, 128)
        1088
        """
        if heads == 0 or dim == 0:
            return 0
        return ceil_div(heads * dim, self.block) * self.block_bytes + heads * self.head_scale_bytes


def _ggml(name: str, block_bytes: int) -> DType:
    return DType(
        name=name,
        block=32,
        block_bytes=block_bytes,
        scales="fp16 scale in each block of 32 (source: ggml-common.h)",
    )


_ROWS = (
    DType(name="float32", block_bytes=4, torch="float32"),
    DType(
        name="bfloat16",
        block_bytes=2,
        torch="bfloat16",
    ),
    DType(
        name="float16",
        block_bytes=2,
        torch="float16",
    ),
    DType(
        name="fp8_e4m3",
        block_bytes=1,
        torch="float8_e4m3fn",
        scales="one per tensor or head, outside the cache",
    ),
    DType(
        name="fp8_e5m2",
        block_bytes=1,
        torch="float8_e5m2",
        scales="none",
    ),
    DType(
        name="int8",
        block_bytes=1,
        torch="int8",
        scales="one per tensor, outside the cache",
    ),
    DType(name="int4", block=2, block_bytes=1, scales="none counted: two elements a byte"),
    DType(
        name="fp8_per_token_head",
        block_bytes=1,
        head_scale_bytes=4,
        scales="one fp32 per token and head, beside each of K and V",
    ),
    DType(
        name="int8_per_token_head",
        block_bytes=1,
        head_scale_bytes=4,
        scales="one fp32 per token and head, beside each of K and V",
    ),
    DType(
        name="int4_per_token_head",
        block=2,
        block_bytes=1,
        head_scale_bytes=4,
        scales="one fp32 per token and head, beside each of K and V",
    ),
    DType(
        name="hqq_int4",
        block=64,
        block_bytes=36,
        scales="16-bit scale and zero for each group of 64",
    ),
    DType(
        name="hqq_int2",
        block=64,
        block_bytes=20,
        scales="16-bit scale and zero for each group of 64",
    ),
    _ggml("q8_0", 34),
    DType(name="q6_0", block=32, block_bytes=26, scales="fp16 scale in each block of 32 (source: exllamav3 cache/quant.py)"),
    _ggml("q5_1", 24),
    _ggml("q5_0", 22),
    _ggml("q4_1", 20),
    _ggml("q4_0", 18),
    _ggml("iq4_nl", 18),
    DType(
        name="nvfp4",
        block=16,
        block_bytes=9,
        scales="one fp8 for each 16 elements",
    ),
    DType(
        name="mxfp4",
        block=32,
        block_bytes=17,
        scales="one e8m0 byte for each 32 elements",
    ),
)
DTYPES: Final[dict[str, DType]] = {row.name: row for row in _ROWS}
ALIASES: Final[dict[str, str]] = {
    "fp32": "float32", "f32": "float32", "float": "float32", "bf16": "bfloat16", "fp16": "float16", "f16": "float16",
    "half": "float16", "16-bit": "bfloat16", "fp8": "fp8_e4m3", "fp8e4m3": "fp8_e4m3", "float8_e4m3fn": "fp8_e4m3",
    "float8_e5m2": "fp8_e5m2", "fp8e5m2": "fp8_e5m2", "i8": "int8", "i4": "int4", "fp4": "nvfp4",
    "fp8_e4m3fn": "fp8_e4m3", "float8_e4m3": "fp8_e4m3", "e4m3": "fp8_e4m3", "e4m3fn": "fp8_e4m3", "e5m2": "fp8_e5m2",
}  # fmt: skip
#: What is typed and may be several types -> which.
_MEANT: Final[dict[str, str]] = {
    "float8": "`fp8` (e4m3) or `fp8_e5m2`", "bfloat": "`bf16`",
    "8bit": "`fp8`, `int8` or `q8_0`", "8-bit": "`fp8`, `int8` or `q8_0`",
    "4bit": "`int4`, `q4_0` or `nvfp4`", "4-bit": "`int4`, `q4_0` or `nvfp4`", "2bit": "`hqq_int2`", "int2": "`hqq_int2`",
    "16bit": "`bf16` or `fp16`", "q8": "`q8_0`", "q6": "`q6_0`", "q5": "`q5_0` or `q5_1`", "q4": "`q4_0` or `q4_1`",
}  # fmt: skip
#: State tensors and model weights may have these types too; they are never cache element types.
STATE_ITEM_BYTES: Final[dict[str, int]] = {"float64": 8, "int64": 8, "int32": 4}


def lookup(name: str, *, what: str = "kv_dtype") -> DType:
    """The row for `name` or one of its spellings (`bf16`, `fp8`, `f16`, `torch.bfloat16` …).

    Raises:
        OptionError: no such type; the message names the nearest.
    """
    row = DTYPES.get(name)
    if row is not None:
        return row
    key = name.strip().lower().removeprefix("torch.")
    row = DTYPES.get(ALIASES.get(key, key))
    if row is None:
        near = alike(key, (*DTYPES, *ALIASES))
        meant = _MEANT.get(key) or (f"`{near}`" if near else "")
        raise OptionError(
            f"{what}: unknown dtype `{name[:40]}`",
            hint=f"did you mean {meant}?" if meant else "see `kvplan dtypes` for all of them",
            option=what.strip("«»"),
        )
    return row


def alike(name: str, known: Iterable[str]) -> str | None:
    """The known dtype that looks most like `name`; one of another width is never what was meant.

    >>> alike("fp8_e4m4", ("float32", "fp8_e4m3")), alike("float8", ("float32", "float16"))
    ('fp8_e4m3', None)
    """
    bits = _bits(name)
    return nearest(name, [each for each in known if _bits(each) == bits])


def _bits(name: str) -> str:
    """The first number in a name."""
    digits = "".join(c if c.isdigit() else " " for c in name[:80]).split()
    return digits[0] if digits else ""


def item_bytes(name: str) -> int:
    """Bytes of one element of a plain (unpacked) type, for state tensors."""
    return STATE_ITEM_BYTES.get(name) or lookup(name).block_bytes


def torch_name(name: str) -> str:
    """The torch dtype of a plain type, for state tensors."""
    return name if name in STATE_ITEM_BYTES else lookup(name).torch
