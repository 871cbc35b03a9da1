"""Weights: what a checkpoint's headers say equals what its tensors take; what nobody knows is asked for."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.domain.ledger import Line
from kvplan.errors import ConfigError, InputError, OptionError
from kvplan.loading.weights.find import find_weights
from kvplan.loading.weights.safetensors import checkpoint_bytes, header_bytes

numpy = pytest.importorskip("numpy")
oracle = pytest.importorskip("safetensors.numpy")
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "torch_dtype": "bfloat16", "vocab_size": 100,
}  # fmt: skip
shapes = st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=5)


def tensors(sizes: "list[list[int]]") -> "dict[str, object]":
    kinds = ("float32", "float16", "int8", "int64")
    return {f"t{i}": numpy.zeros(size, dtype=kinds[i % 4]) for i, size in enumerate(sizes)}


@given(shapes)
def test_a_header_says_what_the_tensors_take(tmp_path_factory: pytest.TempPathFactory, sizes: "list[list[int]]") -> None:
    path = tmp_path_factory.mktemp("st") / "model.safetensors"
    saved = tensors(sizes)
    oracle.save_file(saved, path, metadata={"format": "pt"})
    assert header_bytes(path) == (sum(t.nbytes for t in saved.values()), sum(t.size for t in saved.values()))  # type: ignore[attr-defined]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of two shards with an index whose own total is wrong: the headers are nearer to the truth."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for n in (1, 2):
        oracle.save_file({f"w{n}": numpy.zeros((10, n), dtype="float16")}, tmp_path / f"model-0000{n}-of-00002.safetensors")
    index = {"metadata": {"total_size": 999}, "weight_map": {f"w{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path


def test_shards_that_are_there_are_read(folder: Path) -> None:
    line = find_weights(folder, kvplan.load(folder))
    assert (line.bytes, line.basis) == (60, "measured")
    assert find_weights(folder / "config.json", kvplan.load(folder)).bytes == 60
    assert find_weights(folder, kvplan.load(folder), dtype="fp8").bytes == 31  # 30 weights and what they have of a scale
    (folder / "model.safetensors.index.json").unlink()
    assert find_weights(folder, kvplan.load(folder)).bytes == 60


def test_an_index_stands_for_shards_that_are_not_there(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").unlink()
    line = find_weights(folder, kvplan.load(folder))
    assert (line.bytes, line.source) == (999, "total_size in model.safetensors.index.json")
    assert find_weights(folder, kvplan.load(folder), dtype="bf16").basis == "rule"  # an index counts no elements: the config does
    (folder / "model.safetensors.index.json").unlink()
    assert checkpoint_bytes(folder) is None


def test_a_given_size_wins(folder: Path) -> None:
    line = find_weights(folder, kvplan.load(folder), given_bytes=5)
    assert (line.bytes, line.basis) == (5, "given")


def test_the_catalogue_is_weighed_tensor_by_tensor() -> None:
    model = kvplan.load("llama-3.1-8b")
    line = find_weights("llama-3.1-8b", model)
    assert (line.bytes, line.basis) == (2 * 8_030_261_248, "rule")
    linear, whole = 6_979_321_856, 8_030_261_248  # tables and norms stay in 16 bits
    matrices = 32 * 7
    assert find_weights("llama-3.1-8b", model, dtype="awq").bytes == linear * (4 + 16 / 128 + 4 / 128) // 8 + 2 * (whole - linear)
    packed = linear * (4 + 16 / 128) // 8 + 16 * matrices
    assert find_weights("llama-3.1-8b", model, dtype="int4").bytes == packed + 2 * (whole - linear)
    assert find_weights("llama-3.1-8b", model, dtype="Q8_0").bytes == 8_532_934_912  # params.tsv: bartowski's file


def test_a_quantised_checkpoint_is_weighed_as_it_is_stored() -> None:
    plain = find_weights("q", kvplan.load(CONFIG))
    block = {**CONFIG, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    line = find_weights("q", kvplan.load(block))
    assert line.basis == "rule"
    assert "fp8" in line.source
    assert line.bytes < plain.bytes
    with pytest.raises(ConfigError, match=r"`quantization_config\.quant_method` is `newest`"):
        find_weights("q", kvplan.load({**CONFIG, "quantization_config": {"quant_method": "newest"}}))


def test_a_description_without_sizes_is_not_counted_at_the_dtype_of_a_quantised_checkpoint() -> None:
    config = {**CONFIG, "quantization_config": {"quant_method": "fp8"}}
    counted = kvplan.load({"name": "q", "parameters": 10, "config": config})  # its own count contradicts the config's sizes
    with pytest.raises(OptionError, match="quantised"):
        find_weights("q", counted)
    assert find_weights("q", counted, dtype="fp8").bytes == 11
    with pytest.raises(OptionError, match="number of parameters"):
        find_weights("q", kvplan.load({"layers": 2, "attention": {"kv_heads": 1, "head_dim": 8}}), dtype="fp8")


@each(
    ("hub", "gib"),
    [
        ("hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4", (37.0, 37.2)),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8", (8.4, 8.5)),
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", (5.2, 5.4)),
        ("mlx-community/Meta-Llama-3.1-8B-Instruct-4bit", (4.2, 4.25)),
        ("meta-llama/Llama-3.1-8B-Instruct", (14.9, 15.0)),
    ],
)  # fmt: skip
def test_a_hub_id_is_weighed_in_the_format_of_its_name(hub: str, gib: "tuple[float, float]") -> None:
    assert gib[0] < find_weights(hub, kvplan.load(hub)).bytes / 2**30 < gib[1]


@each(
    ("dtype", "size"),
    [
        ("bf16", 16e9), ("float32", 32e9), ("q8_0", 8e9 * 34 / 32), ("q4_k_m", 8e9 * 144 / 256), ("awq", 8e9 * 4.15625 / 8),
        ("mxfp4", 8e9 * 17 / 32), ("nvfp4", 8e9 * 9 / 16), ("int8", 8e9), ("mlx-4bit", 8e9 * 4.5 / 8),
    ],
)  # fmt: skip
def test_parameters_alone_are_weighed_at_the_bits_of_a_format(dtype: str, size: float) -> None:
    model = kvplan.load({"layers": 2, "attention": {"kv_heads": 1, "head_dim": 8}, "parameters": 8_000_000_000})
    line = find_weights({}, model, dtype=dtype)
    assert line.basis == "derived"
    assert line.bytes == pytest.approx(size, rel=0.001)


def weights_line(model: kvplan.Model) -> Line:
    """The weights in vLLM's ledger."""
    budget = kvplan.fit(model, gpu="h100", engine="vllm").budget
    return next(line for line in budget.lines if line.name == "weights")


def test_copies_in_several_formats_are_told_apart() -> None:
    """Models are equal whatever their weights are in, and yet each has its own."""
    plain = kvplan.load("meta-llama/Llama-3.1-8B-Instruct")
    copy = kvplan.load("hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4")
    assert plain == copy
    assert [find_weights("", model).bytes < 7e9 for model in (plain, copy, plain)] == [False, True, False]
    (note,) = copy.notes
    assert note == "read as llama-3.1-8b, its weights in awq by the name alone"
    sizes = {weights_line(model).bytes for model in (plain, copy)}
    assert len(sizes) == 2


def test_a_repository_of_gguf_files_is_asked_which() -> None:
    hub = "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"
    with pytest.raises(OptionError, match="several sizes"):
        find_weights(hub, kvplan.load(hub))
    assert find_weights(hub, kvplan.load(hub), dtype="q8_0").bytes == 8_532_934_912


@each("dtype", ["q4_k_xl", "fp7", "", "ud-q4_k_m", "x" * 1000])
def test_an_unknown_format_is_one_clear_error(dtype: str) -> None:
    with pytest.raises(OptionError, match="unknown format"):
        find_weights("llama-3.1-8b", kvplan.load("llama-3.1-8b"), dtype=dtype)


def test_a_descriptions_own_size_is_taken() -> None:
    model = kvplan.load({"layers": 2, "attention": {"kv_heads": 1, "head_dim": 8}, "weights_bytes": 77})
    assert find_weights({}, model).bytes == 77


ASSUMED: dict[str, Any] = {
    "layers": 2, "attention": {"kv_heads": 1, "head_dim": 8},
    "parameters": {"assumed": 1000, "low": 900, "high": 1100, "because": "no width is published"},
}  # fmt: skip


@pytest.mark.parametrize(("dtype", "bits"), [(None, 16), ("bf16", 16), ("float32", 32)])
def test_an_assumed_count_is_a_band_in_every_format(dtype: str | None, bits: int) -> None:
    found = find_weights({}, kvplan.load(ASSUMED), dtype=dtype)
    assert (found.low, found.bytes, found.high) == tuple(n * bits // 8 for n in (900, 1000, 1100))
    assert (found.basis, found.source) == ("assumed", "no width is published")


def test_what_the_paper_calls_1b_and_3b_is_in_the_band() -> None:
    """Of `cla-paper`, whose tables name no feed-forward width: the band is narrow, and its low has the wide share."""
    for name, said in (("cla-paper/1b-h128-mqa", 1e9), ("cla-paper/3b-h128-mqa", 3.2e9)):
        model = kvplan.load(name)
        assert model.assumed is not None
        assert model.assumed.low < said < model.assumed.high < 1.15 * model.assumed.low


def header(entries: object) -> bytes:
    raw = json.dumps(entries).encode()
    return len(raw).to_bytes(8, "little") + raw


GOOD = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\1", b"\xff" * 8, b"\xff" * 16, (2**40).to_bytes(8, "little") + b"{}", header([1]), header({"a": 1}),
        header({"a": GOOD}),
        header({"a": {**GOOD, "data_offsets": [4, 0]}}) + b"    ", header({"a": {**GOOD, "data_offsets": [0, 2**70]}}),
        header({"a": {**GOOD, "shape": [2**70]}}) + b"    ", header({"a": {**GOOD, "shape": [True]}}) + b"    ",
        header({"a": {"shape": [2]}}), (4).to_bytes(8, "little") + b"{{{{", (10**6).to_bytes(8, "little") + b"[" * 10**6,
    ],
)  # fmt: skip
def test_files_that_are_no_safetensors_get_one_clear_error(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError) as problem:
        header_bytes(path)
    assert str(path) in str(problem.value)
    assert problem.value.hint


@given(st.binary(max_size=200), st.integers(0, 300))
def test_a_mangled_header_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    data = header({"a": GOOD}) + b"    "
    path = tmp_path_factory.mktemp("st") / "model.safetensors"
    path.write_bytes(data[:at] + noise + data[at:])
    try:
        size, elements = header_bytes(path)
    except InputError:
        return
    assert 0 <= size <= path.stat().st_size
    assert elements >= 0


@pytest.mark.parametrize(
    "index", ["[]", "{}", '{"metadata": {"total_size": -1}}', '{"metadata": {"total_size": true}}', '{"weight_map": 3}']
)
def test_an_index_that_says_nothing_is_refused(index: str, folder: Path) -> None:
    for shard in folder.glob("*.safetensors"):
        shard.unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError):
        checkpoint_bytes(folder)


def test_an_index_cannot_lead_out_of_its_folder(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 7}, "weight_map": {"w1": "../model-00001-of-00002.safetensors"}})
    )
    found = checkpoint_bytes(folder / "sub")
    assert found is not None
    assert found.bytes == 7


class Hub(BaseHTTPRequestHandler):
    """`acme/sharded` has an index, `acme/whole` one file, `acme/none` only a config."""

    def _answer(self, *, body: bool) -> None:
        parts = self.path.lstrip("/").split("/")
        name, file = parts[1], parts[-1]
        files = {
            (
                "sharded",
                "model.safetensors.index.json",
            ): b'{"metadata": {"total_size": 4321}, "weight_map": {"a": "x.safetensors"}}',
            ("whole", "model.safetensors"): header({"a": GOOD}) + b"    ",
        }
        content = json.dumps(CONFIG).encode() if file == "config.json" else files.get((name, file))
        wanted = self.headers.get("Range", "")
        part = content
        if content is not None and wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last) + 1]
        self.send_response(404 if part is None else 206 if wanted else 200)
        if part is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", "b" * 40)
        self.send_header("ETag", f'"{file.encode().hex()}"')
        self.send_header("Content-Length", str(len(part or b"")))
        self.end_headers()
        if body and part is not None:
            self.wfile.write(part)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.mark.parametrize(
    ("repository", "said"),
    [
        ("sharded", "total_size in model.safetensors.index.json"),
        ("whole", "the header of model.safetensors on the hub"),
        ("none", ""),
    ],
)
def test_a_hub_repository_is_asked_for_its_index_or_its_header(repository: str, said: str, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "http", "HTTP", "all_proxy", "ALL_PROXY"))}
    hub = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "*",
    }  # fmt: skip
    words = ["fit", f"acme/{repository}", "--gpu", "l4", "-e", "ideal", "-f", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "kvplan", *words],
        env={**kept, **hub},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr
    [line] = [line for line in json.loads(done.stdout)["fits"][0]["budget"] if line["name"] == "weights"]
    if not said:  # no safetensors: its config is counted
        assert line["basis"] == "rule"
        return
    assert (line["basis"], line["source"], -line["bytes"]) == ("measured", said, {"sharded": 4321, "whole": 4}[repository])
