"""Models by the names of a local install: found, read with what is said of them, and hostile ones refused in a sentence."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from doors import End, here, refused
from local_install import TINY, pulled

import kvplan
from kvplan.errors import KvplanError, UnknownModel
from kvplan.loading.weights.find import find_weights


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The install's folder."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.mark.parametrize(
    ("place", "names", "shown"),
    [
        ("registry.ollama.ai/library/tiny/1b", ("tiny:1b", "library/tiny:1b", "registry.ollama.ai/library/tiny:1b"), "tiny:1b"),
        ("registry.ollama.ai/library/tiny/latest", ("tiny", "tiny:latest"), "tiny:latest"),
        ("registry.ollama.ai/me/tiny/1b", ("me/tiny:1b",), "me/tiny:1b"),
        ("hf.co/me/Tiny-GGUF/Q4_K_M", ("hf.co/me/Tiny-GGUF:Q4_K_M",), "hf.co/me/Tiny-GGUF:Q4_K_M"),
    ],
)
def test_a_model_by_its_names(models: Path, place: str, names: tuple[str, ...], shown: str) -> None:
    pulled(models, place)
    for name in names:
        model = kvplan.load(name)
        assert model.name == shown
        assert model.gguf.startswith(str(models / "blobs"))
        assert find_weights(name, model).basis == "measured"


def test_what_the_install_says_of_it_decides(models: Path) -> None:
    pulled(models, config={"model_family": "qwen35"}, parameters={"num_ctx": 1024, "stop": ["</s>"]}, more={"projector": b"GGUF"})
    model = kvplan.load("tiny:1b")
    assert "its projector: not counted" in model.notes
    found = kvplan.estimate(model, engine="ollama")
    assert (found.workload.seq_len, found.workload.batch_size) == (2048, 1)  # who sees has 2,048 tokens at least
    assert "one slot" in kvplan.try_estimate(model, engine="ollama", batch_size=2).reason  # type: ignore[union-attr]


def test_a_draft_layer_is_read_for_its_architecture(models: Path) -> None:
    pulled(models, more={"draft": TINY})
    assert "draft-mtp" in kvplan.estimate("tiny:1b", engine="ollama").facts.to_dict()["arguments"]  # type: ignore[union-attr]


def test_the_users_own_folder_where_no_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    pulled(tmp_path / ".ollama" / "models")
    assert kvplan.load("tiny:1b").name == "tiny:1b"


def test_a_blob_by_its_path_is_called_what_the_file_says(models: Path) -> None:
    manifest = pulled(models).manifest
    path = models / "blobs" / manifest["layers"][0]["digest"].replace(":", "-")
    assert not kvplan.load(path).name.startswith("sha256-")
    nameless = TINY.replace(b"general.name", b"general.nama")
    path = models / "blobs" / pulled(models, gguf=nameless).manifest["layers"][0]["digest"].replace(":", "-")
    assert len(kvplan.load(path).name) == 20


def test_a_name_that_is_not_there_says_where_was_looked(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(here(capsys, "estimate", "tiny:7b", "-e", "ollama"), words=str(models)[:40])


Broken = dict[str, Any]


def damaged(models: Path, change: Any) -> None:
    """The manifest with one thing changed."""
    path, manifest = pulled(models)
    text = change(manifest)
    path.write_bytes(text if isinstance(text, bytes) else json.dumps(manifest).encode())


def _digest(text: object) -> Any:
    def change(manifest: Broken) -> None:
        manifest["layers"][0]["digest"] = text

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: b"{", id="cut"),
        pytest.param(lambda m: b"[]", id="list"),
        pytest.param(lambda m: b"", id="empty"),
        pytest.param(lambda m: b"[" * 100_000, id="deep"),
        pytest.param(lambda m: b'{"a":"' + b"x" * 2**21 + b'"}', id="huge"),
        pytest.param(lambda m: b"\xff\xfe{}", id="bytes"),
        pytest.param(lambda m: m.update(layers=[]), id="no layers"),
        pytest.param(lambda m: m.update(layers=m["layers"] * 300), id="many layers"),
        pytest.param(lambda m: m.update(layers={"0": 1}), id="no list"),
        pytest.param(lambda m: m.update(layers=[1, None]), id="no objects"),
        pytest.param(lambda m: m["layers"][0].update(size="big"), id="size"),
        pytest.param(lambda m: m["layers"][0].update(size=10**40), id="large size"),
        pytest.param(lambda m: m["layers"][0].update(mediaType="application/vnd.ollama.image.tensor"), id="tensors"),
        pytest.param(_digest("../../../../etc/passwd"), id="path"),
        pytest.param(_digest("sha256:" + "0" * 64), id="absent"),
        pytest.param(_digest(""), id="nothing"),
        pytest.param(_digest(7), id="number"),
        pytest.param(lambda m: m["config"].update(digest="sha256:" + "1" * 64), id="config absent"),
        pytest.param(lambda m: m.update(config=[]), id="config"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(models: Path, capsys: pytest.CaptureFixture[str], change: Any) -> None:
    damaged(models, change)
    end: End = here(capsys, "estimate", "tiny:1b", "-e", "ollama")
    refused(end)


@pytest.mark.parametrize(
    ("config", "parameters"), [(b"[", b"{}"), (b"{}", b"[1]"), (b"{}", b"\x00"), (b'{"model_family": 5}', b"{}")]
)
def test_a_damaged_blob_beside_it_is_one_sentence(models: Path, config: bytes, parameters: bytes) -> None:
    _, manifest = pulled(models, parameters={"num_ctx": 1})
    for layer, data in ((manifest["config"], config), (manifest["layers"][1], parameters)):
        (models / "blobs" / layer["digest"].replace(":", "-")).write_bytes(data)
    with pytest.raises(KvplanError) as caught:
        kvplan.load("tiny:1b")
    assert str(caught.value).isprintable()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_the_place_of_a_blob_does_not_hang(models: Path) -> None:
    _, manifest = pulled(models)
    path = models / "blobs" / manifest["config"]["digest"].replace(":", "-")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnknownModel, match="not a regular file"):
        kvplan.load("tiny:1b")


@pytest.mark.parametrize("name", ["a/../b:c", "..:..", "/etc/passwd:x", "a:b/../../c:d", "x" * 400 + ":y", "a b:c", "é:é"])
def test_a_name_never_leads_out_of_the_install(models: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pulled(models)
    refused(here(capsys, "estimate", name, "-e", "ollama"), codes=(2, 3))


@pytest.mark.parametrize(
    ("name", "entry", "basis", "words"),
    [
        ("llama3.1:8b", "llama-3.1-8b", "assumed", "Q4_K_M, as most tags are"),
        ("qwen3:8b-q8_0", "qwen3-8b", "assumed", "Q8_0, as its tag says"),
        ("llama3.1:8b-instruct-fp16", "llama-3.1-8b", "assumed", "FLOAT16, as its tag says"),
        ("gpt-oss:20b", "gpt-oss-20b", "rule", "mxfp4"),
    ],
)
def test_a_name_that_is_not_pulled_is_the_catalogues(models: Path, name: str, entry: str, basis: str, words: str) -> None:
    model, known = kvplan.load(name), kvplan.load(entry)
    assert model.layers == known.layers
    assert f"is not pulled here: this is {entry} of the catalogue" in model.notes[0]
    line = find_weights(name, model)
    assert (line.basis, words in line.source) == (basis, True)
    assert f"ollama run {name}" in " ".join(kvplan.estimate(model, engine="ollama", num_ctx=4096).needs)


@pytest.mark.parametrize("name", ["llama9:1b", "hf.co/me/x:Q4_K_M", "me/llama3.1:8b", "llama3.1:8bb", "llama3.1:latest"])
def test_a_name_that_nothing_is_called_is_refused(models: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(here(capsys, "estimate", name, "-e", "ollama"), codes=(2, 3))
