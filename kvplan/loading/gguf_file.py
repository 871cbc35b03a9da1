"""GGUF files as models: on disk, in several parts, or on the hub; only the header is read, never the weights."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from kvplan.domain.model import Fact, Model
from kvplan.domain.stored import SideFile
from kvplan.errors import GgufError, UnknownArchitecture, printable
from kvplan.gguf.header import GgufHeader, read_header
from kvplan.gguf.known import KNOWN_ARCHITECTURES, UNREAD
from kvplan.gguf.memories import model_from_keys
from kvplan.limits import GGUF_HEADER_BYTES, GGUF_PARTS, WEIGHTS_BYTES
from kvplan.units import human_bytes

_PART: Final = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE | re.DOTALL)

#: A file that is named by its digest, as local installs keep them.
_BLOB: Final = re.compile(r"sha256-[0-9a-f]{64}", re.IGNORECASE)

#: Reads bytes start..end of a file.
ReadRange = Callable[[int, int], bytes]


class Budget:
    """Bytes that the headers of all parts of a model may take together; vocabularies of half a million strings take 15 MB."""

    def __init__(self, left: int = GGUF_HEADER_BYTES) -> None:
        self.left = left


class Prefix:
    """The beginning of a file, fetched as it is asked for."""

    def __init__(self, size: int, read: ReadRange, budget: Budget | None = None) -> None:
        self.size = size
        self._read = read
        self._buffer = bytearray()
        self._budget = budget or Budget()

    def first(self, end: int) -> bytearray:
        """The first `end` bytes, or all there are, but never more than headers may take."""
        have = len(self._buffer)
        end = min(end, self.size, have + self._budget.left)
        if end > have:
            self._budget.left -= end - have
            self._buffer += self._read(have, end)
        return self._buffer


_DESCRIBE: Final = "describe what it keeps in YAML (docs/guides/specs.md)"


def load_gguf(path: Path, *, infer: bool = False) -> Model:
    """Read a GGUF file, and the other parts of a split one beside it.

    Args:
        path: the file, or the first part of a split model.
        infer: read an architecture that llama.cpp did not have as plain attention.

    Raises:
        GgufError: not GGUF, damaged, big-endian, or its metadata is not a model's.
        UnknownArchitecture: llama.cpp has no such architecture.
    """

    budget, known = Budget(), set[tuple[int, int]]()

    def header_of(name: str) -> tuple[GgufHeader, int] | None:
        part = path.with_name(name)
        if part != path and not part.is_file():
            return None
        with opened(part) as (size, identity, read):
            if identity in known:
                raise GgufError(f"`{part}` is the same file as another part", hint="is the model complete?")
            known.add(identity)
            return read_header(Prefix(size, read, budget), str(part), keys=part == path), size

    return model_of(path.name, header_of, source=str(path), infer=infer)


@contextmanager
def opened(path: Path) -> Iterator[tuple[int, tuple[int, int], ReadRange]]:
    """A regular file's size, what it is on its disk, and a reader of its ranges."""
    try:
        # non-blocking, so that a named pipe cannot hang the tool before it is seen not to be a file
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as problem:
        raise GgufError(f"cannot read `{path}`: {problem.strerror or problem}", hint="check the path") from problem
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise GgufError(f"`{path}` is not a regular file", hint="give a .gguf file")

        def read(start: int, end: int) -> bytes:
            try:
                return os.pread(descriptor, end - start, start)
            except OSError as problem:
                raise GgufError(f"cannot read `{path}`: {problem.strerror or problem}", hint="check the disk") from problem

        yield status.st_size, (status.st_dev, status.st_ino), read
    finally:
        os.close(descriptor)


def load_side_file(path: Path) -> SideFile:
    """A projector or an adapter: its keys and tensors.

    Raises:
        GgufError: not GGUF, or damaged.
    """
    with opened(path) as (size, _, read):
        header = read_header(Prefix(size, read), str(path))
    return SideFile(name=path.name, typed=str(path), keys=header.keys, tensors=header.tensors)


def model_of(name: str, header_of: Callable[[str], tuple[GgufHeader, int] | None], *, source: str, infer: bool) -> Model:
    """A model from a file's header and those of its other parts.

    Args:
        name: the file's name.
        header_of: header and size of the file of that name in the same place; None when there is none.
        source: what errors call the file.
        infer: see `load_gguf`.
    """
    part = _PART.fullmatch(name)
    count = int(part["count"]) if part else 1
    if part and int(part["number"]) != 1:
        raise GgufError(
            f"{source}: is part {int(part['number'])} of {count}; the metadata is in the first part",
            hint=f"give {part['stem']}-00001-of-{part['count']}.gguf, as for llama.cpp",
        )
    first = header_of(name)
    if first is None:
        raise GgufError(f"cannot read `{source}`", hint="check the path")
    header, size = first
    arch = _architecture(header, source, infer=infer)
    headers, notes = [header], []
    if part and count > 1:
        if count > GGUF_PARTS:
            raise GgufError(f"{source}: is one of {count:,} parts, and at most {GGUF_PARTS} are read", hint="is it the file?")
        found = [header_of(f"{part['stem']}-{i:05d}-of-{part['count']}.gguf") for i in range(2, count + 1)]
        headers += [other[0] for other in found if other is not None]
        if len(headers) < count:
            notes.append(f"{len(headers)} of {count} parts are here: the weights are not known, and llama.cpp would not load it")
    elif size < header.data_end:
        notes.append(f"the file ends before its weights do ({size:,} of {header.data_end:,} bytes): llama.cpp would not load it")
    if arch not in KNOWN_ARCHITECTURES:
        only_read(header.keys, arch, source)
    weights = sum(h.tensor_bytes for h in headers)
    if weights > WEIGHTS_BYTES:
        raise GgufError(f"{source}: its tensors take {weights:.1e} bytes together, which cannot be", hint="is the file damaged?")
    model = model_from_keys(
        header.keys,
        source=source,
        name=part["stem"] if part else _named(name, header),
        weights_bytes=weights if len(headers) == count and weights else None,
        notes=tuple(notes),
    )
    return _with_facts(model, headers, arch, inferred=arch not in KNOWN_ARCHITECTURES)


def _named(file: str, header: GgufHeader) -> str:
    """A model's name: its file's, or for a blob that is named by its digest, what the file itself says."""
    if not _BLOB.fullmatch(file):
        return re.sub(r"\.gguf$", "", file, flags=re.IGNORECASE) or file
    said = header.keys.get("general.name")
    return printable(said.strip(), 80) if isinstance(said, str) and said.strip() else f"{file[:19]}…"


def _architecture(header: GgufHeader, source: str, *, infer: bool) -> str:
    arch = header.keys.get("general.architecture")
    if not isinstance(arch, str) or not arch:
        raise GgufError(f"{source}: `general.architecture` is missing", hint="is it a language model's GGUF file?")
    if arch == "clip" or header.keys.get("general.type") in {"mmproj", "adapter"}:
        raise GgufError(
            f"{source}: holds a projector or an adapter, which keeps no cache of its own", hint="give the language model's file"
        )
    if arch in UNREAD and not infer:
        raise GgufError(f"{source}: `general.architecture` is {arch}: {UNREAD[arch]}", hint=_DESCRIBE)
    if arch not in KNOWN_ARCHITECTURES and not infer:
        raise UnknownArchitecture(arch, KNOWN_ARCHITECTURES, source)
    return arch


#: Keys that decide the cache of an architecture that nobody knows, read as llama.cpp reads them for all; and those beside.
_READ: Final = frozenset({
    "block_count", "nextn_predict_layers", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.causal",
    "attention.kv_lora_rank", "attention.key_length_mla", "attention.value_length_mla",
})  # fmt: skip


def only_read(keys: Mapping[str, Any], arch: str, source: str) -> None:
    """Refuse an unknown architecture whose keys may mean more than plain attention of the heads that they name.

    Raises:
        GgufError: a key of a state, an indexer, a loop …, or sliding layers that are wider than the others.
    """
    from kvplan.architectures.unread import unread

    own = {key.removeprefix(f"{arch}."): value for key, value in keys.items() if key.startswith(f"{arch}.")}
    layers = own.get("block_count")
    for part in ("key", "value"):
        wide, all_of_them = own.get(f"attention.{part}_length_swa"), own.get(f"attention.{part}_length")
        if wide is None or (isinstance(wide, int) and isinstance(all_of_them, int) and wide <= all_of_them):
            continue
        raise GgufError(f"{source}: `{arch[:40]}.attention.{part}_length_swa` is wider than the other layers'", hint=_DESCRIBE)
    heads = own.get("attention.head_count_kv")
    if isinstance(heads, list | tuple) and 0 in heads:
        words = f"is 0 for some layers, and llama.cpp has no architecture `{arch[:40]}` to say what they keep"
        raise GgufError(f"{source}: `{arch[:40]}.attention.head_count_kv` {words}", hint=_DESCRIBE)
    windowed = bool(own.get("attention.sliding_window"))
    for other in unread(own, _READ, layers if isinstance(layers, int) else 0):
        if other.meaning != "bound" and not (other.meaning == "pattern" and windowed):
            words = f"may decide the cache, and llama.cpp has no architecture `{arch[:40]}` to say how"
            raise GgufError(f"{source}: `{arch[:40]}.{other.path[:60]}` {words}", hint=_DESCRIBE)


def _with_facts(model: Model, headers: list[GgufHeader], arch: str, *, inferred: bool) -> Model:
    """What the tensors take, beside the keys; and the mark of an architecture that is not known."""
    from msgspec.structs import replace

    by_type: dict[str, int] = {}
    for header in headers:
        for kind, size in header.bytes_by_type.items():
            by_type[kind] = by_type.get(kind, 0) + size
    largest = sorted(by_type.items(), key=lambda item: -item[1])
    words = ", ".join(f"{kind} {human_bytes(size)}" for kind, size in largest[:4])
    fact = Fact(key="tensors", value=f"{sum(h.n_tensors for h in headers):,}: {words}"[:80], origin="GGUF")
    notes = (
        (*model.notes, f"architecture `{arch[:40]}` is not one of llama.cpp's: read as its keys suggest")
        if inferred
        else model.notes
    )
    listed = tuple(
        replace(tensor, part=part) if part else tensor for part, header in enumerate(headers) for tensor in header.tensors
    )
    return replace(model, provenance=(*model.provenance, fact), notes=notes, inferred=inferred, tensors=listed)
