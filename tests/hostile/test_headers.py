"""HOSTILE.md 4: headers that contradict themselves weigh nothing, and what `spec` writes `load` takes.

Elsewhere: damaged GGUF files in tests/loading/test_gguf.py; the rules of a safetensors header in tests/loading/test_weights.py.
The hub's headers: tests/hostile/test_hub.py.
"""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from doors import answered, config, here, refused
from golden import GOLDEN

import kvplan
from kvplan.errors import InputError, KvplanError
from kvplan.limits import HEADS, MEMORIES
from kvplan.loading.weights.safetensors import header_bytes, tensors_of


def safetensors(path: Path, header: Any, data: int) -> None:
    """A file with that header, and `data` bytes that are not there."""
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)
    os.truncate(path, 8 + len(raw) + data)


def test_a_thousand_tensors_on_the_same_bytes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config(tmp_path / "config.json")
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**33]}
    safetensors(tmp_path / "model.safetensors", {f"t{i}": entry for i in range(1000)}, 2**33)
    refused(here(capsys, "fit", str(tmp_path), "--gpu", "h100-80gb", "--context", "4k"))


@pytest.mark.parametrize(
    "tensors",
    [
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        },
        {"a": {"dtype": "F32", "shape": [2**59] * 64, "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
        {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2**70], "data_offsets": [0, 2**72]}},
        {"a": {"dtype": "F99", "shape": [2**59] * 64, "data_offsets": [0, 8]}},
        ["a"],
    ],
    ids=["same", "deep", "back", "minus", "before", "shape", "beyond", "new", "list"],
)
def test_shapes_and_offsets_must_agree(tensors: Any, tmp_path: Path) -> None:
    good = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    assert tensors_of(json.dumps(good).encode(), 8, "x") == (8, 2)
    with pytest.raises(InputError) as caught:
        tensors_of(json.dumps(tensors).encode(), 8, "x")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("length", [0, 1, 2**25 + 1, 2**63, 2**64 - 1])
def test_a_length_that_cannot_be_is_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(InputError, match="not a safetensors file"):
        header_bytes(path)


def text(raw: bytes) -> bytes:
    """A GGUF text."""
    return struct.pack("<Q", len(raw)) + raw


def gguf(path: Path, heads: int, shapes: list[list[int]], kind: int = 1) -> str:
    """A small llama file with a number of heads, and tensors."""
    numbers = {"block_count": 2, "context_length": 64, "embedding_length": 64, "attention.head_count": heads,
               "attention.head_count_kv": 2, "attention.key_length": 16, "attention.value_length": 16,
               "rope.dimension_count": 16, "feed_forward_length": 64}  # fmt: skip
    keys = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
    keys += b"".join(text(b"llama." + name.encode()) + struct.pack("<II", 4, value) for name, value in numbers.items())
    tensors = b"".join(
        text(b"t%d" % i) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, 0)
        for i, shape in enumerate(shapes)
    )
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(numbers) + 1) + keys + tensors + bytes(64))
    return str(path)


@pytest.mark.parametrize("shapes", [[[2**60]], [[2**58]] * 9, [[2**32, 2**32]], [[2**63, 2**63, 2**63, 2**63]]])
def test_gguf_tensors_that_cannot_be_are_refused(
    shapes: list[list[int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(here(capsys, "estimate", gguf(tmp_path / "x.gguf", 4, shapes)))
    refused(here(capsys, "spec", str(tmp_path / "x.gguf")))


@pytest.mark.parametrize("heads", [HEADS + 1, 2**31 - 1])
def test_more_heads_than_a_description_can_hold_are_refused(
    heads: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(here(capsys, "spec", gguf(tmp_path / "x.gguf", heads, [])), words="attention_heads")


@pytest.mark.parametrize("shape", [[1], [2**57], [2**50, 2**7]])
def test_what_spec_writes_load_takes(shape: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = gguf(tmp_path / "x.gguf", HEADS, [shape])
    end = here(capsys, "spec", path)
    answered(end)
    (tmp_path / "y.yaml").write_text(end.out)
    assert kvplan.load(tmp_path / "y.yaml").weights_bytes == kvplan.load(path).weights_bytes


def test_memories_of_all_layers_are_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = "[" + ", ".join(["{type: softmax, kv_heads: 1, head_dim: 1}"] * 1000) + "]"
    path = tmp_path / "m.yaml"
    path.write_text(f"layers:\n- repeat: 10000\n  of:\n    {layer}\n")
    refused(here(capsys, "estimate", str(path)), words=f"{MEMORIES:,} memories")
    memory = kvplan.load({"layers": 1, "attention": {"kv_heads": 1, "head_dim": 1}}).layers[0].memories[0]
    with pytest.raises(ValueError, match="memories together"):
        kvplan.Model(
            name="x",
            model_type="x",
            layers=tuple(kvplan.domain.model.Layer(index=i, memories=(memory,) * 11) for i in range(10_000)),
        )


def test_every_truncation_of_a_header_is_a_sentence(tmp_path: Path) -> None:
    raw = sorted((GOLDEN / "gguf").glob("*.gguf"))[0].read_bytes()
    path = tmp_path / "x.gguf"
    for end in range(0, min(len(raw), 4000), 37):
        path.write_bytes(raw[:end])
        with pytest.raises(KvplanError):
            kvplan.load(path)
