"""What a checkpoint's tensors take, from safetensors headers or their index: no tensor is read.

Source: the safetensors format (huggingface/safetensors `README.md`): eight bytes of header length, little-endian, then JSON
that maps each tensor to `dtype`, `shape` and `data_offsets`.
"""

import json
import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Final, TypeGuard

from msgspec import Struct

from kvplan.errors import InputError
from kvplan.files import read_bounded

#: safetensors refuses larger headers itself (`safetensors/src/tensor.rs: MAX_HEADER_SIZE`).
MAX_HEADER_BYTES: Final = 100_000_000
_MAX_INDEX_BYTES: Final = 64 * 2**20
_MAX_SHARDS: Final = 10_000
_INDEX: Final = "model.safetensors.index.json"
_SHARD: Final = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")


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
    shards = sorted(path for path in folder.glob("model-*-of-*.safetensors") if _SHARD.fullmatch(path.name))[:_MAX_SHARDS]
    matches = [match for path in shards if (match := _SHARD.fullmatch(path.name))]
    if not shards or len(shards) != int(matches[0][2]):
        return None
    return _summed(shards)


def index_bytes(path: Path) -> TensorBytes:
    """A sharded checkpoint by its index.

    Raises:
        InputError: not such an index.
    """
    data = _object(read_bounded(path, _MAX_INDEX_BYTES, InputError, "a safetensors index"), str(path))
    names = sorted({str(name) for name in (data.get("weight_map") or {}).values()}) if _is_map(data.get("weight_map")) else []
    shards = [path.parent / name for name in names if Path(name).name == name]
    if shards and len(shards) == len(names) <= _MAX_SHARDS and all(shard.is_file() for shard in shards):
        return _summed(shards)
    metadata = data.get("metadata")
    total = metadata.get("total_size") if _is_map(metadata) else None
    if isinstance(total, float) and total.is_integer():  # transformers 4.5x wrote floats
        total = int(total)
    if isinstance(total, bool) or not isinstance(total, int) or not 0 < total < 2**60:
        raise InputError(f"{path}: has no `metadata.total_size`, and its shards are not here", hint="give «weights SIZE»")
    return TensorBytes(bytes=total, elements=None, source=f"total_size in {path.name}")


def _summed(shards: list[Path]) -> TensorBytes:
    sizes = [header_bytes(shard) for shard in shards]
    word = "header" if len(sizes) == 1 else "headers"
    return TensorBytes(
        bytes=sum(size for size, _ in sizes),
        elements=sum(elements for _, elements in sizes),
        source=f"the {word} of {len(sizes)} safetensors file{'s' if len(sizes) > 1 else ''}",
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
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise InputError(f"`{path}` is not a safetensors file, or it is cut short", hint="is the download complete?")
            entries = _object(file.read(length), str(path))
    except OSError as problem:
        raise InputError(f"cannot read `{path}`: {problem.strerror or problem}", hint="check the path") from problem
    total = elements = 0
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        start, end, shape = _entry(entry, name, path)
        total, elements = total + end - start, elements + prod(shape)
        if end > size - 8 - length:
            raise InputError(f"`{path}`: tensor `{name[:60]}` ends after the file does", hint="is the download complete?")
    return total, elements


def _entry(entry: Any, name: str, path: Path) -> tuple[int, int, list[int]]:
    """(start, end, shape) of one tensor."""
    offsets, shape = (entry.get("data_offsets"), entry.get("shape")) if _is_map(entry) else (None, None)
    if not _sizes(offsets, 2, 2) or not _sizes(shape, 0, 64) or offsets[0] > offsets[1]:
        what = f"tensor `{str(name)[:60]}` has no usable shape and offsets"
        raise InputError(f"`{path}`: {what}", hint="is it a safetensors file?")
    return offsets[0], offsets[1], shape


def _sizes(value: Any, least: int, most: int) -> TypeGuard[list[int]]:
    """Whether it is a list of `least` to `most` sizes."""
    return isinstance(value, list) and least <= len(value) <= most and all(type(n) is int and 0 <= n < 2**60 for n in value)


def _is_map(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _object(raw: bytes, source: str) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as problem:
        raise InputError(f"{source}: not valid JSON", hint="is the download complete?") from problem
    if not isinstance(data, dict):
        raise InputError(f"{source}: expected a JSON object", hint="is it the right file?")
    return data
