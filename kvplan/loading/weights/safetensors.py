"""What a checkpoint's tensors take, from safetensors headers or their index: no tensor is read.

Source: the safetensors format (huggingface/safetensors `README.md`): eight bytes of header length, little-endian, then JSON
that maps each tensor to `dtype`, `shape` and `data_offsets`.
"""

import re
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from kvplan.errors import InputError
from kvplan.files import read_bounded
from kvplan.limits import FILE_NAME_BYTES, SAFETENSORS_HEADER_BYTES, SAFETENSORS_INDEX_BYTES, SHARDS, WEIGHTS_BYTES

_INDEX: Final = "model.safetensors.index.json"
_SHARD: Final = r"model-(\d{5})-of-(\d{5})\.safetensors"
#: Bits of one element. Source: safetensors/src/tensor.rs: Dtype::bitsize.
_BITS: Final[dict[str, int]] = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


class _Entry(Struct, frozen=True):
    """One tensor of a header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class _Index(Struct, frozen=True):
    """An index: which tensor is in which file, and what they take together."""

    weight_map: dict[str, str] = {}
    metadata: dict[str, object] = {}


class TensorBytes(Struct, frozen=True, kw_only=True):
    """What a checkpoint's tensors take; `elements` are as stored (packed types count storage items), None when unknown."""

    bytes: int
    elements: int | None
    source: str


def checkpoint_bytes(folder: Path) -> TensorBytes | None:
    """The tensors of the checkpoint in `folder`, or None when there is no safetensors file.

    Shards that lie beside the index are read (their headers); the index's own total stands for those that do not.

    Raises:
        InputError: a header or index that is not what it says.
    """
    index = folder / _INDEX
    if index.is_file():
        return index_bytes(index)
    whole = folder / "model.safetensors"
    if whole.is_file():
        size, elements = header_bytes(whole)
        return TensorBytes(bytes=size, elements=elements, source=f"the header of {whole.name}")
    shards = sorted(path for path in folder.glob("model-*-of-*.safetensors") if re.fullmatch(_SHARD, path.name))[:SHARDS]
    matches = [match for path in shards if (match := re.fullmatch(_SHARD, path.name))]
    if not shards or len(shards) != int(matches[0][2]):
        return None
    return _summed(shards)


def index_bytes(path: Path) -> TensorBytes:
    """A sharded checkpoint by its index.

    Raises:
        InputError: not such an index.
    """
    raw = read_bounded(path, SAFETENSORS_INDEX_BYTES, InputError, "a safetensors index")
    names = set(_index(raw, str(path)).weight_map.values())
    if len(names) > SHARDS:
        raise InputError(f"{path}: names {len(names):,} files, and at most {SHARDS:,} are read", hint="is it the right file?")
    usable = all(Path(name).name == name and len(name.encode("utf-8", "replace")) <= FILE_NAME_BYTES for name in names)
    shards = [path.parent / name for name in sorted(names)] if usable and names else []
    if shards and all(shard.is_file() for shard in shards):
        return _summed(shards)
    return index_total(raw, str(path), path.name)


def index_total(raw: bytes, source: str, name: str) -> TensorBytes:
    """What an index says that its files take together.

    Raises:
        InputError: it does not say, or not an index.
    """
    total = _index(raw, source).metadata.get("total_size")
    if isinstance(total, float) and total.is_integer():  # transformers 4.5x wrote floats
        total = int(total)
    if isinstance(total, bool) or not isinstance(total, int) or not 0 < total <= WEIGHTS_BYTES:
        raise InputError(f"{source}: has no `metadata.total_size`, and its shards are not here", hint="give «weights SIZE»")
    return TensorBytes(bytes=total, elements=None, source=f"total_size in {name}")


def _index(raw: bytes, source: str) -> _Index:
    try:
        return msgspec.json.decode(raw, type=_Index)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError(f"{source}: not a safetensors index: {problem}", hint="is the download complete?") from problem


def _summed(shards: Iterable[Path]) -> TensorBytes:
    """The headers of several files, each file once, whatever the names that lead to it."""
    sizes: dict[tuple[int, int], tuple[int, int]] = {}
    count = 0
    for shard in shards:
        status = shard.stat()
        count += 1
        identity = (status.st_dev, status.st_ino)
        if identity not in sizes:
            sizes[identity] = header_bytes(shard)
    total = sum(size for size, _ in sizes.values())
    if total > WEIGHTS_BYTES:
        raise InputError(f"the tensors of {count:,} files take {total:.1e} bytes, which cannot be", hint="give «weights SIZE»")
    word = "header" if count == 1 else "headers"
    return TensorBytes(
        bytes=total,
        elements=sum(elements for _, elements in sizes.values()),
        source=f"the {word} of {count} safetensors file{'s' if count > 1 else ''}",
    )


def header_bytes(path: Path) -> tuple[int, int]:
    """(bytes, elements) of the tensors in one file, by its header.

    Raises:
        InputError: unreadable, truncated, or a header that contradicts itself or the file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
            if not 2 <= length <= min(SAFETENSORS_HEADER_BYTES, size - 8):
                raise InputError(f"`{path}` is not a safetensors file, or it is cut short", hint="is the download complete?")
            header = file.read(length)
    except OSError as problem:
        raise InputError(f"cannot read `{path}`: {problem.strerror or problem}", hint="check the path") from problem
    return tensors_of(header, size - 8 - length, str(path))


def tensors_of(header: bytes, data_bytes: int, source: str) -> tuple[int, int]:
    """(bytes, elements) of the tensors that a header describes, in a file with `data_bytes` of data.

    Raises:
        InputError: not a header, or one that contradicts itself or the file: a tensor that ends after the data, whose bytes
            are not those of its shape, or tensors that together take more than there is.
    """
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError(f"`{source}`: its header is not a JSON object", hint="is the download complete?") from problem
    total = elements = 0
    decoder = msgspec.json.Decoder(_Entry)
    for name, raw in entries.items():
        if name == "__metadata__":
            continue
        size, count = _tensor(decoder, raw, name, data_bytes, source)
        total, elements = total + size, elements + count
    if total > data_bytes:
        raise InputError(
            f"`{source}`: its tensors take {total:,} bytes together, and the file has {data_bytes:,} for them",
            hint="is it a safetensors file?",
        )
    return total, elements


def _tensor(decoder: "msgspec.json.Decoder[_Entry]", raw: msgspec.Raw, name: str, room: int, source: str) -> tuple[int, int]:
    """(bytes, elements) of one tensor."""
    try:
        entry = decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError(
            f"`{source}`: tensor `{name[:60]}` has no usable shape and offsets", hint="is it a safetensors file?"
        ) from problem
    start, end = entry.data_offsets
    if len(entry.shape) > 64 or min(entry.shape, default=0) < 0 or not 0 <= start <= end:
        raise InputError(f"`{source}`: tensor `{name[:60]}` has no usable shape and offsets", hint="is it a safetensors file?")
    if end > room:
        raise InputError(f"`{source}`: tensor `{name[:60]}` ends after the file does", hint="is the download complete?")
    count = prod(entry.shape)
    bits = _BITS.get(entry.dtype)
    if -(-count * bits // 8) != end - start if bits is not None else count > 8 * (end - start):  # an element has a bit at least
        raise InputError(
            f"`{source}`: tensor `{name[:60]}` takes {end - start:,} bytes, and its shape is of another size",
            hint="is it a safetensors file?",
        )
    return end - start, count
