"""GGUF files as models: good ones, split ones, damaged ones, hostile ones, and those on the hub."""

import contextlib
import itertools
import json
import random
import resource
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.cli.app import main
from kvplan.errors import GgufError, KvplanError, UnknownArchitecture
from kvplan.gguf.header import SkippedArray, read_header
from kvplan.gguf.known import KNOWN_ARCHITECTURES
from kvplan.gguf.memories import model_from_keys
from kvplan.loading.gguf_file import Prefix, load_gguf

FIXTURES = golden.GOLDEN / "gguf"
DUMPS = golden.CONFIGS / "gguf_kv.jsonl"
INDEX = json.loads((FIXTURES / "INDEX.json").read_text(encoding="utf-8"))
GOOD = [name for name, told in INDEX.items() if told["engine_meta"]["ok"]]
BAD = [name for name, told in INDEX.items() if not told["engine_meta"]["ok"]]
TINY = (FIXTURES / "tiny-llama-full-le.gguf").read_bytes()


def reader_of(data: bytes) -> Prefix:
    return Prefix(len(data), lambda start, end: data[start:end])


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def written(keys: dict[str, tuple[int, bytes]], *, version: int = 3, tensors: bytes = b"", n_tensors: int = 0) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, n_tensors, len(keys))
    return head + b"".join(text(key) + struct.pack("<I", kind) + value for key, (kind, value) in keys.items()) + tensors


LLAMA: dict[str, tuple[int, bytes]] = {
    "general.architecture": (8, text("llama")),
    "llama.block_count": (4, struct.pack("<I", 2)),
    "llama.context_length": (4, struct.pack("<I", 4096)),
    "llama.embedding_length": (4, struct.pack("<I", 256)),
    "llama.attention.head_count": (4, struct.pack("<I", 4)),
}


@each("name", GOOD)
def test_every_fixture_takes_what_the_engine_allocates_for_it(name: str) -> None:
    model = load_gguf(FIXTURES / name)
    told = INDEX[name]
    answer = kvplan.estimate(model, seq_len=4096, engine="llama.cpp", frontend="cli")
    assert answer.total_bytes == told["engine_meta"]["context_bytes_at_n_ctx_4096"]
    assert model.weights_bytes == told["tensor_bytes"]
    header = read_header(reader_of((FIXTURES / name).read_bytes()), name)
    assert (header.n_tensors, len(header.keys)) == (told["n_tensors"], told["n_kv"])
    assert {kind.upper() for kind in header.bytes_by_type} == set(told["tensor_types"])
    assert model.model_type == told["arch"]


@pytest.mark.parametrize("name", BAD)
def test_what_the_engine_refuses_is_refused_in_one_sentence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(FIXTURES / name)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n\nhint: ")) == ("", 1)
    assert name in err


def test_a_big_endian_file_is_recognized_in_the_engines_words() -> None:
    with pytest.raises(GgufError, match="GGUF file version 50331648 is extremely large, is there a mismatch"):
        load_gguf(FIXTURES / "tiny-llama-full-be.gguf")


def test_every_type_of_value_is_read() -> None:
    keys = read_header(reader_of(TINY), "tiny").keys
    import gguf  # the oracle

    known = gguf.GGUFReader(FIXTURES / "tiny-llama-full-le.gguf")
    assert {key for key in known.fields if not key.startswith("GGUF.")} == set(keys)
    seen = set()
    for key, field in known.fields.items():
        if key.startswith("GGUF."):
            continue
        seen |= {int(kind) for kind in field.types}
        value = keys[key]
        if isinstance(value, SkippedArray):
            assert value.length == len(field.data)
        else:
            assert value == field.contents()
    assert seen == set(range(13))


def test_tensor_sizes_are_the_gguf_packages(tmp_path: Path) -> None:
    from gguf.constants import GGML_QUANT_SIZES

    from kvplan.gguf.ggml import GGML_TYPES

    assert {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}.items() <= {
        kind: (block, size) for kind, (_, block, size) in GGML_TYPES.items()
    }.items()


def test_versions_two_and_three_are_read_and_others_refused() -> None:
    for version in (2, 3):
        assert read_header(reader_of(written(LLAMA, version=version)), "x").keys["llama.block_count"] == 2
    for version in (0, 1, 4, 99):
        with pytest.raises(GgufError, match="ersion"):
            read_header(reader_of(written(LLAMA, version=version)), "x")


def parts_of(folder: Path, count: int, *, missing: frozenset[int] = frozenset()) -> Path:
    for number in range(1, count + 1):
        if number not in missing:
            shutil.copy(FIXTURES / "tiny-llama-full-le.gguf", folder / f"m-{number:05d}-of-{count:05d}.gguf")
    return folder / f"m-00001-of-{count:05d}.gguf"


def test_the_parts_of_a_split_model_are_summed(tmp_path: Path) -> None:
    model = load_gguf(parts_of(tmp_path, 3))
    assert (model.name, model.weights_bytes) == ("m", 3 * INDEX["tiny-llama-full-le.gguf"]["tensor_bytes"])
    assert model.layers == load_gguf(FIXTURES / "tiny-llama-full-le.gguf").layers


def test_missing_parts_leave_the_weights_unknown(tmp_path: Path) -> None:
    model = load_gguf(parts_of(tmp_path, 4, missing=frozenset({2, 4})))
    assert model.weights_bytes is None
    assert "2 of 4 parts are here" in model.notes[0]


def test_another_part_names_the_first(tmp_path: Path) -> None:
    parts_of(tmp_path, 3)
    with pytest.raises(GgufError, match="part 2 of 3") as caught:
        load_gguf(tmp_path / "m-00002-of-00003.gguf")
    assert "m-00001-of-00003.gguf" in caught.value.hint


def test_a_file_without_its_data_says_so() -> None:
    assert "ends before its weights" in load_gguf(FIXTURES / "llama-3.2-1b.gguf").notes[0]
    assert load_gguf(FIXTURES / "tiny-llama-full-le.gguf").notes == ()


def test_an_unknown_architecture_is_refused_and_may_be_inferred(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(
        written(
            {key.replace("llama", "lama"): value for key, value in LLAMA.items()} | {"general.architecture": (8, text("lama"))}
        )
    )
    with pytest.raises(UnknownArchitecture) as caught:
        load_gguf(path)
    assert "did you mean `llama`" in caught.value.hint
    assert load_gguf(path, infer=True).inferred


def test_a_blob_without_a_suffix_is_recognized(tmp_path: Path) -> None:
    blob = tmp_path / "sha256-0123"
    shutil.copy(FIXTURES / "tiny-llama-full-le.gguf", blob)
    assert kvplan.load(str(blob)).layers == load_gguf(FIXTURES / "tiny-llama-full-le.gguf").layers


def test_a_projector_is_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(written({"general.architecture": (8, text("clip"))}))
    with pytest.raises(GgufError, match="projector"):
        load_gguf(path)


ARRAY = 9
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "array of 2**63": (lambda: written({**LLAMA, "x": (ARRAY, struct.pack("<IQ", 4, 2**63))}), "longer than the file"),
    "array of 2**63 strings": (lambda: written({**LLAMA, "x": (ARRAY, struct.pack("<IQ", 8, 2**63))}), "longer than the file"),
    "string of 2**40": (lambda: written({**LLAMA, "x": (8, struct.pack("<Q", 2**40))}), "longer than the file"),
    "string of 2**64 - 1": (lambda: written({**LLAMA, "x": (8, struct.pack("<Q", 2**64 - 1))}), "longer than the file"),
    "10**9 tensors": (lambda: written(LLAMA, n_tensors=10**9), "cannot be"),
    "cut off": (lambda: written(LLAMA)[:60], "and only 36 bytes follow"),
    "2**60 keys": (lambda: b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60) + b"\0" * 100, "cannot be"),
    "nested arrays": (lambda: written({**LLAMA, "x": (ARRAY, struct.pack("<IQ", ARRAY, 1) * 10_000)}), "array of arrays"),
    "unknown value type": (lambda: written({**LLAMA, "x": (13, b"")}), "unknown value type 13"),
    "unknown array type": (lambda: written({**LLAMA, "x": (ARRAY, struct.pack("<IQ", 77, 1))}), "unknown type 77"),
    "a key twice": (lambda: written(LLAMA)[:16] + struct.pack("<Q", 2) + (text("k") + struct.pack("<I", 0) + b"\1") * 2, "twice"),
    "alignment of 3": (
        lambda: written({**LLAMA, "general.alignment": (4, struct.pack("<I", 3))}),
        "must be a power of two",
    ),
    "five dimensions": (
        lambda: written(LLAMA, n_tensors=1, tensors=text("t") + struct.pack("<I5QIQ", 5, 1, 1, 1, 1, 1, 0, 0)),
        "5 dimensions",
    ),
    "unknown tensor type": (
        lambda: written(LLAMA, n_tensors=1, tensors=text("t") + struct.pack("<IQIQ", 1, 32, 999, 0)),
        "unknown type 999",
    ),
    "half a block": (
        lambda: written(LLAMA, n_tensors=1, tensors=text("t") + struct.pack("<IQIQ", 1, 33, 8, 0)),
        "impossible shape",
    ),
    "a tensor of 2**120 elements": (
        lambda: written(LLAMA, n_tensors=1, tensors=text("t") + struct.pack("<I4QIQ", 4, *[2**30] * 4, 0, 0)),
        "impossible shape",
    ),
    "empty": (lambda: b"", "ends inside its header"),
    "nothing but the magic": (lambda: b"GGUF", "ends inside its header"),
    "text": (lambda: b"# a readme\n" * 100, "is not a GGUF file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    make, message = HOSTILE[name]
    path = tmp_path / "x.gguf"
    path.write_bytes(make())
    assert main(["estimate", str(path), "-e", "llama.cpp"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") <= 4


@pytest.mark.parametrize("kind", ["array", "string", "strings"])
def test_a_sparse_file_of_a_terabyte_does_not_fill_the_memory(tmp_path: Path, kind: str) -> None:
    size = 2**40
    value = {
        "array": (ARRAY, struct.pack("<IQ", 0, size // 2)),
        "string": (8, struct.pack("<Q", size // 2)),
        "strings": (ARRAY, struct.pack("<IQ", 8, size // 16)),
    }[kind]
    path = tmp_path / "x.gguf"
    path.write_bytes(written({"x": value, **LLAMA}))
    with path.open("r+b") as file:
        file.truncate(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(GgufError, match="further than any model"):
        load_gguf(path)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 400 * 10**6


@pytest.mark.parametrize("name", ["missing.gguf", "folder.gguf"])
def test_what_is_not_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(GgufError):
        load_gguf(tmp_path / name)


def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(GgufError, match="not a regular file"):
        load_gguf(tmp_path / "pipe.gguf")


def mutated(random_: random.Random, data: bytearray) -> bytearray:
    """A copy with a few bytes changed, inserted, deleted, or cut off."""
    copy = bytearray(data)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(max(len(copy), 1))
        match random_.randrange(5):
            case 0:
                copy[at : at + 1] = bytes([random_.randrange(256)])
            case 1:
                copy[at : at + 8] = random_.choice((0, 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)).to_bytes(8, "little")
            case 2:
                del copy[at:]
            case 3:
                del copy[at : at + random_.randint(1, 9)]
            case _:
                copy[at:at] = random_.randbytes(random_.randint(1, 9))
    return copy


def test_fifty_thousand_mutations_see_only_kvplan_errors() -> None:
    random_ = random.Random(20_260_301)
    keys = {key: value for key, value in read_header(reader_of(TINY), "tiny").keys.items() if isinstance(value, int | str)}
    assert keys["general.architecture"] == "llama"
    array = (ARRAY, struct.pack("<IQ", 8, 3) + text("a") + text("bb") + text(""))
    numbers = (ARRAY, struct.pack("<IQ4i", 5, 4, 1, 1, 2, 2))
    tensors = b"".join(text(f"blk.{i}.w") + struct.pack("<I2QIQ", 2, 256, 4, 12, i * 576) for i in range(2))
    small = bytearray(
        written({**LLAMA, "tokenizer.ggml.tokens": array, "x.y": numbers}, tensors=tensors, n_tensors=2) + b"\0" * 64
    )
    whole = bytearray(TINY[:4096])
    outcomes, longest = {"model": 0, "refused": 0}, 0
    for i in range(50_000):
        data = bytes(mutated(random_, small if i % 10 else whole))
        try:
            header = read_header(reader_of(data), "x")
            model_from_keys(header.keys, source="x", name="x", weights_bytes=header.tensor_bytes)
            outcomes["model"] += 1
        except KvplanError as problem:
            longest = max(longest, len(str(problem)))
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 2_000, outcomes
    assert longest < 400


@given(st.binary(max_size=400))
def test_any_bytes_after_the_magic_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(GgufError):
        read_header(reader_of(b"GGUF\3\0\0\0" + data), "x")


@given(st.integers(0, len(TINY)))
def test_a_prefix_is_enough_once_it_holds_the_header(cut: int) -> None:
    whole = read_header(reader_of(TINY), "tiny")
    try:
        assert read_header(reader_of(TINY[:cut]), "tiny") == whole
    except GgufError:
        assert cut < len(TINY) - whole.tensor_bytes


def test_the_header_is_read_in_growing_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def read(start: int, end: int) -> bytes:
        asked.append((start, end))
        return vocabulary[start:end]

    vocabulary = written({"tokenizer.ggml.tokens": (ARRAY, struct.pack("<IQ", 8, 300_000) + text("token") * 300_000), **LLAMA})
    vocabulary += b"\0" * 2**20
    header = read_header(Prefix(10**12, read), "x")
    assert header.keys["tokenizer.ggml.tokens"] == SkippedArray(300_000)
    assert asked[0] == (0, 2**20)
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(asked))
    assert len(asked) <= 4


def test_all_recorded_dumps_load_or_say_what_is_missing() -> None:
    loaded, refused = [], []
    for line in DUMPS.read_text(encoding="utf-8").splitlines():
        dump = json.loads(line)
        keys = {k: SkippedArray(v["len"]) if isinstance(v, dict) else v for k, v in dump["kv"].items()}
        try:
            loaded.append((dump, model_from_keys(keys, source=dump["model"], name=dump["model"])))
        except GgufError as problem:
            refused.append((dump, keys, str(problem)))
    assert (len(loaded), len(refused)) == (25, 22)  # two incomplete dumps lack the sizes of their states
    for dump, model in loaded:
        assert len(model.layers) + len(model.drafts) == dump["kv"][f"{dump['arch']}.block_count"]
        assert dump["arch"] in KNOWN_ARCHITECTURES
    for dump, keys, problem in refused:
        key = problem.split("`")[1]
        assert key not in keys or isinstance(keys[key], SkippedArray), problem
        assert not dump["complete"], f"{dump['model']}: {problem}"


def test_gguf_models_answer_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(FIXTURES / "gemma-3-1b.gguf")
    for command in (
        ["estimate", path],
        ["compare", path, path],
        ["explain", path],
        ["sweep", path, "-s", "1k,2k"],
        ["spec", path],
    ):
        assert main(command) == 0, capsys.readouterr().err
        assert capsys.readouterr().out


def described(model: Any) -> str:
    return ", ".join(fact.key for fact in model.provenance)


def test_explain_knows_which_keys_counted() -> None:
    assert "gemma3.attention.sliding_window" in described(load_gguf(FIXTURES / "gemma-3-1b.gguf"))
