"""The catalogue's specs as they were parsed when the index was made: loading the YAML parser costs more than most answers.

`model_specs/parsed.jsonl` has one line an entry, by `make index`: its name, a checksum of its text, and the nodes. A spec that
was changed since has another checksum, and is parsed as any other file.
"""

from functools import cache
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec
from msgspec import Struct

from kvplan.loading.yaml_spec.nodes import MapNode

FILE: Final = "parsed.jsonl"


class Parsed(Struct, frozen=True, array_like=True):
    """One entry: `checksum` is of the text that `root` was parsed from."""

    name: str
    checksum: int
    root: MapNode


def checksum(raw: bytes) -> int:
    """What tells one text of a spec from another."""
    return crc32(raw)


def parsed(folder: Path, name: str, raw: bytes) -> MapNode | None:
    """The nodes of the entry `name` of the catalogue in `folder`, whose text is `raw`; None where none were kept of it."""
    lines = _lines(folder / FILE)
    start = lines.find(b"\n[" + msgspec.json.encode(name) + b",") + 1
    if not start:
        return None
    kept = msgspec.json.decode(lines[start : lines.index(b"\n", start)], type=Parsed)
    return kept.root if kept.checksum == checksum(raw) else None


@cache
def _lines(path: Path) -> bytes:
    """Every line, each with a line break before and behind it."""
    return b"\n" + path.read_bytes() if path.is_file() else b""
