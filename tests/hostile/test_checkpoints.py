"""HOSTILE.md 15: checkpoints that cost more than they are. Each within 3 s and 500 MiB, in smaller sizes where they do.

Elsewhere: damaged headers in tests/hostile/test_headers.py; parts that are missing in tests/loading/test_gguf.py.
"""

import os
import struct
from pathlib import Path

from doors import SMALL, End, answered, config, forked, refused, steady

from kvplan.limits import GGUF_PARTS, SHARDS

ARRAY = struct.pack("<IIQ", 9, 3, 16384) + struct.pack("<h", 300) * 16384


def text(raw: bytes) -> bytes:
    """A GGUF text."""
    return struct.pack("<Q", len(raw)) + raw


START = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")


def many(arrays: int, prefix: bytes = b"k") -> bytes:
    """A header of arrays of 16,384 numbers."""
    keys = b"".join(text(prefix + b"%d" % i) + ARRAY for i in range(arrays))
    return b"GGUF" + struct.pack("<IQQ", 3, 0, arrays + 1) + START + keys


def asked(folder: Path, name: str, megabytes: int = 500) -> End:
    """That file, or folder, in a process of its own."""
    if name.endswith(".gguf"):
        return forked("estimate", name, cwd=folder, most=4, megabytes=megabytes)
    return forked("fit", name, "--gpu", "h100-80gb", "-s", "4k", cwd=folder, most=4, megabytes=megabytes)


def folder(path: Path) -> Path:
    """A model's folder."""
    path.mkdir()
    config(path / "config.json")
    return path


def test_arrays_are_not_kept_as_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(many(600))  # 20 MB; as Python's numbers 400 MB
    (tmp_path / "b.gguf").write_bytes(many(600, b"llama.k"))
    refused(asked(tmp_path, "a.gguf", 200))
    refused(asked(tmp_path, "b.gguf", 200))


def test_parts_are_counted_and_each_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(many(100))
    for name, count in (("b", 1000), ("c", GGUF_PARTS)):
        for i in range(1, count + 1):
            (tmp_path / f"{name}-{i:05d}-of-{count:05d}.gguf").symlink_to("one")
    refused(asked(tmp_path, "b-00001-of-01000.gguf"), words="at most 100 are read")
    refused(asked(tmp_path, f"c-00001-of-{GGUF_PARTS:05d}.gguf"), words="same file")


def test_empty_texts_are_walked_once(tmp_path: Path) -> None:
    raw = b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + START + text(b"k") + struct.pack("<IIQ", 9, 8, 1_000_000) + bytes(8_000_000)
    (tmp_path / "one").write_bytes(raw)
    for i in range(1, 101):
        (tmp_path / f"c-{i:05d}-of-00100.gguf").symlink_to("one")
    refused(asked(tmp_path, "c-00001-of-00100.gguf"), words="same file")


def test_tensors_of_zeros_are_not_counted_to_a_million(tmp_path: Path) -> None:
    (tmp_path / "z.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 10**6, 1) + START)
    os.truncate(tmp_path / "z.gguf", 24 * 10**6 + 200)
    refused(asked(tmp_path, "z.gguf"))


def test_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    for name, keys in (("text", text(b"llama.k") + struct.pack("<IQ", 8, 99 * 10**9)), ("zeros", b"")):
        (tmp_path / f"{name}.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 3) + START + keys)
        os.truncate(tmp_path / f"{name}.gguf", 100 * 10**9)
        refused(asked(tmp_path, f"{name}.gguf"))


def test_a_header_of_empty_lists_is_refused_where_it_begins(tmp_path: Path) -> None:
    header = b'{"a":[' + b"[]," * 8_000_000 + b"[]]}"
    (folder(tmp_path / "m") / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (folder(tmp_path / "i") / "model.safetensors.index.json").write_bytes(b'{"weight_map":{"a":[' + b"[]," * 8_000_000 + b"[]]}}")
    refused(asked(tmp_path, "m", 200))
    refused(asked(tmp_path, "i", 200))


def test_names_in_an_index_are_counted_first(tmp_path: Path) -> None:
    rows = ",".join(f'"{i}":"m{i}"' for i in range(300_000))
    (folder(tmp_path / "n") / "model.safetensors.index.json").write_text(
        f'{{"metadata":{{"total_size":9}},"weight_map":{{{rows}}}}}'
    )
    refused(asked(tmp_path, "n"), words=f"at most {SHARDS:,} are read")


def test_a_shard_is_read_once_whatever_it_is_called(tmp_path: Path) -> None:
    where = folder(tmp_path / "q")
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (where / "one").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    for i in range(3000):
        (where / f"l{i}").symlink_to("one")
    rows = ",".join(f'"{i}":"l{i}"' for i in range(3000))
    (where / "model.safetensors.index.json").write_text(f'{{"weight_map":{{{rows}}}}}')
    answered(asked(tmp_path, "q"))


def test_a_name_that_no_file_can_have_is_said_as_such(tmp_path: Path) -> None:
    (folder(tmp_path / "o") / "model.safetensors.index.json").write_text(f'{{"weight_map":{{"a":"{"x" * 300}"}}}}')
    end = asked(tmp_path, "o")
    refused(end)
    assert "cannot write" not in end.err


def test_names_that_lead_elsewhere_are_not_opened(tmp_path: Path) -> None:
    for i, name in enumerate(("../m/model.safetensors", "/dev/zero", "..", "a/../../b", "p")):
        where = folder(tmp_path / f"e{i}")
        (where / "model.safetensors.index.json").write_text(f'{{"weight_map":{{"a":"{name}"}}}}')
        if name == "p":
            os.mkfifo(where / "p")
        end = asked(tmp_path, where.name)
        refused(end)
        steady(end)
    assert SMALL["model_type"] == "llama"
