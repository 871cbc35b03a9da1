"""GGUF headers: metadata and tensor infos, without the data and without building vocabularies.

A header may hold a vocabulary of a quarter of a million strings; its arrays are walked past, not read. Only the file's
first megabytes are needed, so a prefix, or HTTP ranges of a file on the hub, will do.

Source: the GGUF specification (ggml `docs/gguf.md`) and llama.cpp `ggml/src/gguf.cpp` (`gguf_init_from_file`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final, NoReturn, Protocol

from msgspec import Struct

from kvplan.domain.stored import StoredTensor
from kvplan.errors import GgufError
from kvplan.gguf.ggml import GGML_TYPES
from kvplan.limits import GGUF_KEYS, GGUF_NUMBERS, GGUF_TENSORS, WEIGHTS_BYTES

_MAGIC: Final = b"GGUF"
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
#: Value type -> (format, bytes); 8 is a string, 9 an array.
_SCALARS: Final = {
    0: ("<B", 1), 1: ("<b", 1), 2: ("<H", 2), 3: ("<h", 2), 4: ("<I", 4), 5: ("<i", 4), 6: ("<f", 4), 7: ("<?", 1),
    10: ("<Q", 8), 11: ("<q", 8), 12: ("<d", 8),
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_MAX_TEXT: Final = 65_535  # bytes of a key or kept value (`GGUF_MAX_STRING_LENGTH` is far above)
_KEPT_ARRAY: Final = 16_384  # entries of one array: per-layer arrays are kept, vocabularies are not
_NAME: Final = 128  # characters of a tensor's name that are kept (GGML_MAX_NAME is 64)
_MAX_DIMS: Final = 4  # GGML_MAX_DIMS


class Bytes(Protocol):
    """Where the header's bytes come from: `size` of the whole file, and at least its first `end` bytes on request."""

    size: int

    def first(self, end: int) -> Any:
        """A buffer of at least the first `end` bytes, or all there are."""
        ...


class SkippedArray(Struct, frozen=True):
    """An array that was walked past: its length is known, its values were not built."""

    length: int


class GgufHeader(Struct, frozen=True, kw_only=True):
    """One file's metadata, and what its tensors take by type (bytes of the data, without alignment padding)."""

    version: int
    keys: Mapping[str, Any]
    n_tensors: int
    tensor_bytes: int
    bytes_by_type: Mapping[str, int]
    tensors: tuple[StoredTensor, ...]
    data_end: int  # where the last tensor's data ends in a complete file


def read_header(source: Bytes, name: str, *, keys: bool = True) -> GgufHeader:
    """Read a header; without `keys` only the tensors are kept (parts of a split model after the first).

    Raises:
        GgufError: not GGUF, big-endian, an unknown version or type, truncated, or out of all bounds.
    """
    return _Reader(source, name, keys=keys).header()


class _Reader:
    """A cursor over a growing prefix of the file."""

    def __init__(self, source: Bytes, name: str, *, keys: bool) -> None:
        self.source = source
        self.name = name
        self.kept_keys = keys
        self.numbers = GGUF_NUMBERS if keys else 0  # of arrays, that may still be kept
        self.buffer: Any = source.first(1 << 20)
        self.at = 0

    def refuse(self, problem: str, hint: str = "is the file complete? download it again") -> NoReturn:
        raise GgufError(f"{self.name}: {problem}", hint=hint)

    def need(self, end: int) -> None:
        """Make the first `end` bytes available."""
        if end <= len(self.buffer):
            return
        if end <= self.source.size:
            self.buffer = self.source.first(min(max(end, 2 * len(self.buffer)), self.source.size))
        if len(self.buffer) < end <= self.source.size:
            self.refuse(f"its header goes on beyond {len(self.buffer):,} bytes, further than any model's")
        if end > len(self.buffer):
            self.refuse(f"ends inside its header: {end:,} bytes are needed, {len(self.buffer):,} are there")

    def u32(self) -> int:
        self.need(self.at + 4)
        (value,) = _U32.unpack_from(self.buffer, self.at)
        self.at += 4
        return int(value)

    def u64(self) -> int:
        self.need(self.at + 8)
        (value,) = _U64.unpack_from(self.buffer, self.at)
        self.at += 8
        return int(value)

    def text(self, limit: int = _MAX_TEXT) -> str:
        length = self.u64()
        if length > self.source.size - self.at:
            self.refuse(f"holds a string of {length:,} bytes at offset {self.at:,}, longer than the file")
        end = self.at + length
        kept = bytes(self._slice(min(length, limit)))
        self.need(end)
        self.at = end
        return kept.decode("utf-8", "replace")

    def _slice(self, length: int) -> Any:
        self.need(self.at + length)
        return self.buffer[self.at : self.at + length]

    def header(self) -> GgufHeader:
        if bytes(self._slice(4)) != _MAGIC:
            self.refuse("is not a GGUF file: it does not begin with `GGUF`", hint="give a .gguf file")
        self.at = 4
        version = self.u32()
        if version & 0xFFFF == 0:
            self.refuse(
                f"GGUF file version {version} is extremely large, is there a mismatch between the host and model endianness?",
                hint="the file is big-endian; llama.cpp refuses it on this machine too",
            )
        if version not in {2, 3}:
            self.refuse(f"is GGUF version {version}; versions 2 and 3 are read", hint="convert it again with a current llama.cpp")
        n_tensors, n_keys = self.u64(), self.u64()
        left = self.source.size - self.at
        for count, most, least, what in ((n_keys, GGUF_KEYS, 13, "metadata keys"), (n_tensors, GGUF_TENSORS, 24, "tensors")):
            if count > most:
                self.refuse(f"says that it has {count:,} {what}, which cannot be")
            if count * least > left:
                self.refuse(f"says that it has {count:,} {what}, and only {left:,} bytes follow: it is cut off or damaged")
        keys: dict[str, Any] = {}
        for _ in range(n_keys):
            key = self.text()
            if key in keys:
                self.refuse(f"has the metadata key `{key[:60]}` twice")
            keys[key] = self.value(self.u32(), key)
        by_type, last, listed = self.tensors(n_tensors)
        alignment = keys.get("general.alignment", 32)
        if isinstance(alignment, bool) or not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            self.refuse(f"key `general.alignment` must be a power of two, got `{str(alignment)[:40]}`")
        return GgufHeader(
            version=version,
            keys=keys if self.kept_keys else {},
            n_tensors=n_tensors,
            tensor_bytes=sum(by_type.values()),
            bytes_by_type=by_type,
            tensors=tuple(listed),
            data_end=-(-self.at // alignment) * alignment + last if n_tensors else self.at,
        )

    def value(self, kind: int, key: str) -> Any:
        if kind in _SCALARS:
            form, size = _SCALARS[kind]
            self.need(self.at + size)
            (value,) = struct.unpack_from(form, self.buffer, self.at)
            self.at += size
            return value
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            self.refuse(f"key `{key[:60]}` has the unknown value type {kind}")
        kind, length = self.u32(), self.u64()
        if kind == _ARRAY:
            self.refuse(f"key `{key[:60]}` is an array of arrays, which llama.cpp does not read either")
        if kind == _STRING:
            self.skip_strings(length, key)
            return SkippedArray(length)
        if kind not in _SCALARS:
            self.refuse(f"key `{key[:60]}` is an array of the unknown type {kind}")
        form, size = _SCALARS[kind]
        if length * size > self.source.size - self.at:
            self.refuse(f"key `{key[:60]}` is an array of {length:,} entries, longer than the file")
        start, self.at = self.at, self.at + length * size
        self.need(self.at)
        if length > min(_KEPT_ARRAY, self.numbers) or key.startswith("tokenizer."):
            return SkippedArray(length)
        self.numbers -= length
        return list(struct.unpack_from(f"<{length}{form[1]}", self.buffer, start))

    def skip_strings(self, length: int, key: str) -> None:
        """Walk past strings; the loop is the reader's hot path (a vocabulary and its merges: half a million rounds)."""
        if length * 8 > self.source.size - self.at:
            self.refuse(f"key `{key[:60]}` is an array of {length:,} strings, longer than the file")
        unpack, buffer, at = _U64.unpack_from, self.buffer, self.at
        while length:
            try:
                while length:
                    at += 8 + unpack(buffer, at)[0]
                    length -= 1
            except (struct.error, OverflowError):  # the prefix ends here: get more of the file, or refuse
                self.need(at + 8)
                buffer = self.buffer
        self.at = at
        self.need(at)

    def tensors(self, n_tensors: int) -> tuple[dict[str, int], int, list[StoredTensor]]:
        """Bytes of the tensors' data, by type, where in the data section the last of them ends, and each of them."""
        by_type: dict[str, int] = {}
        last, names, listed = 0, set[str](), list[StoredTensor]()
        for _ in range(n_tensors):
            name = self.text()
            dims = self.u32()
            if dims > _MAX_DIMS:
                self.refuse(f"tensor `{name[:60]}` has {dims} dimensions; at most {_MAX_DIMS} are possible")
            shape = [self.u64() for _ in range(dims)]
            kind, offset = self.u32(), self.u64()
            row = GGML_TYPES.get(kind)
            if row is None:
                self.refuse(f"tensor `{name[:60]}` has the unknown type {kind}", hint="a newer kvplan may know it")
            label, block, size = row
            elements = 1
            for extent in shape:
                elements *= extent
            data_bytes = elements // block * size
            if data_bytes > WEIGHTS_BYTES or (shape and shape[0] % block):
                self.refuse(f"tensor `{name[:60]}` has an impossible shape for type {label}")
            if name in names:  # `gguf_init_from_file` refuses it too
                self.refuse(f"has the tensor `{name[:60]}` twice")
            names.add(name)
            listed.append(StoredTensor(name=name[:_NAME], type=label, dims=tuple(shape) or (1,), bytes=data_bytes, offset=offset))
            by_type[label] = by_type.get(label, 0) + data_bytes
            last = max(last, offset + data_bytes)
        return by_type, last, listed
