"""The Python API: what the issue's users type, one value or several, and displays."""

import inspect
import io
import json
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from doors import here
from each import each
from golden import GOLDEN

import kvplan


def test_estimate_is_what_the_readme_says() -> None:
    answer = kvplan.estimate("llama-3.1-8b", seq_len=8192, batch_size=4, kv_dtype="bf16", engine="ideal")
    assert isinstance(answer, kvplan.Allocation)
    assert answer.total_bytes == 4_294_967_296
    assert answer.bytes_per_token == 131_072
    assert len(answer.layers) == 32
    assert sum(layer.bytes for layer in answer.layers) == answer.total_bytes
    assert answer.to_dict(per_layer=True)["layers"][0] == {"index": 0, "kind": "GQA 8x128", "bytes": 134_217_728}


def test_sweep_takes_one_value_several_or_the_command_lines_spelling() -> None:
    one = kvplan.sweep("llama-3.1-8b", seq_len=1024).to_frame()
    several = kvplan.sweep("llama-3.1-8b", seq_len=[1024, 2048], batch_size=(1, 2), kv_dtype=["bf16", "fp8"]).to_frame()
    spelled = kvplan.sweep("llama-3.1-8b", seq_len="1k:2k:x2", batch_size="1,2", kv_dtype="bf16,fp8").to_frame()
    assert len(one) == 1
    assert several.equals(spelled)
    assert several["total_bytes"].sum() == (1024 + 2048) * 3 * (131_072 + 65_536)


def test_a_dict_a_path_and_a_model_load_alike(tmp_path) -> None:  # type: ignore[no-untyped-def]
    config = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    models = [kvplan.load(config), kvplan.load(tmp_path), kvplan.load(str(tmp_path / "config.json"))]
    assert len({model.layers for model in models}) == 1
    assert kvplan.load(models[0]) is models[0]


def test_every_public_name_is_there_and_nothing_else() -> None:
    assert sorted(kvplan.__all__) == list(kvplan.__all__)
    for name in kvplan.__all__:
        assert callable(getattr(kvplan, name))
    # whatever modules were imported meanwhile, the functions are not shadowed by them
    import_module("kvplan.loading.yaml_spec.read")
    assert kvplan.load("gpt2").name == "gpt2"


def test_an_answer_shows_itself_in_a_notebook_and_on_a_terminal() -> None:
    from rich.console import Console

    answer = kvplan.estimate("gemma-3-1b", seq_len=4096)
    html = answer._repr_html_()  # type: ignore[union-attr]
    assert html.startswith('<div class="kvplan"><style>')
    assert "MQA 1x256, window 512" in html
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(answer)
    assert "MQA 1x256, window 512" in console.export_text()
    assert "gemma-3-1b" in kvplan.sweep("gemma-3-1b", seq_len="1k:4k:x2")._repr_html_()


# One door for every question, and one way to be told no.

MEMBER = {"name": "a", "weights": "2GB", "cache": "1GB", "engine": "vllm"}
ANSWERS: dict[str, Callable[[], Any]] = {
    "estimate": lambda: kvplan.estimate("llama-3.1-8b", engine="vllm", seq_len=4096),
    "not predicted": lambda: kvplan.try_estimate("llama-3.1-8b", engine="vllm", tensor_parallel=3),
    "compare": lambda: kvplan.compare("llama-3.1-8b", variant="cla=2", engine=["ideal", "vllm"]),
    "a row": lambda: kvplan.compare("llama-3.1-8b").rows[0],
    "explain": lambda: kvplan.explain("gemma-3-27b", engine="vllm"),
    "fit": lambda: kvplan.fit("llama-3.1-8b", "h100-80gb", context="32k"),
    "capacity": lambda: kvplan.capacity("llama-3.1-8b", "h100-80gb", context=["8k", numpy.int64(32768)]),
    "reserve": lambda: kvplan.reserve("llama-3.1-8b", memory="20GiB"),
    "receipt": lambda: kvplan.receipt("llama-3.1-8b", "h100-80gb"),
    "committee": lambda: kvplan.committee({"gpu": "l4", "members": [MEMBER]}),
    "audit": lambda: kvplan.audit({"id": "a", "engine": "ideal", "expected": {}}),
    "conformance": lambda: kvplan.conformance({}, recorded=[GOLDEN / "papers.jsonl"]),
    "model": lambda: kvplan.load("gemma-3-27b"),
    "workload": lambda: kvplan.Workload(seq_len=8192),
    "a buffer": lambda: kvplan.estimate("llama-3.1-8b").buffers[0],
    "a card": lambda: kvplan.gpus("h100*")[0],
    "a dtype": lambda: kvplan.dtypes("q8_0")[0],
    "an entry": lambda: kvplan.models("gemma-3-27b")[0],
}  # fmt: skip


@each("ask", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_short_hashable_and_a_dict_for_json(ask: Callable[[], Any]) -> None:
    answer, again = ask(), ask()
    assert answer == again
    assert hash(answer) == hash(again)
    assert len(repr(answer)) < 300
    json.dumps(answer.to_dict(), allow_nan=False)


def test_every_answer_shows_itself_in_a_notebook() -> None:
    more = {
        "one server": lambda: kvplan.capacity("llama-3.1-8b", "vllm", "h100"),
        "a check": lambda: kvplan.check(text="vllm serve Qwen/Qwen3-8B", gpu="l4"),
        "a diff": lambda: kvplan.diff("vllm@0.26", "vllm@0.33", ["jamba"]),
        "a page": lambda: kvplan.page("gpt2", "rtx-4090", engine="ideal", kv_dtype="auto", seq_len="1k", batch_size="1"),
        "a sweep": lambda: kvplan.sweep("gpt2", seq_len="1k"),
        "a row without an answer": lambda: kvplan.compare("gpt2", kv_dtype="auto,q8_0", engine="vllm").rows[1],
    }
    wrong = []
    for name, ask in {**ANSWERS, **more}.items():
        if name in {"workload", "a buffer"}:  # what is asked, and a part of an answer
            continue
        shown = ask()._repr_html_()
        framed = shown.startswith(('<div class="kvplan"><style>', "<iframe "))
        says = "<table" in shown or "not predicted" in shown or "srcdoc" in shown
        if not framed or not says or "<script" in shown:
            wrong.append((name, shown[:200]))
    assert not wrong


def test_a_sweep_is_a_dict_of_columns() -> None:
    sweep = kvplan.sweep("gpt2", seq_len=["1k", numpy.int64(2048)], batch_size=numpy.array([1, 2]))
    columns = sweep.to_dict()["columns"]
    assert columns["seq_len"] == [1024, 1024, 2048, 2048]
    assert json.dumps(columns["total_bytes"]) == "[37748736, 75497472, 75497472, 150994944]"


def typed(count: int) -> str:
    return f"{count // 1024}k"


@each("of", [int, numpy.int64, numpy.uint16, str, typed], ids=lambda of: of.__name__)
def test_counts_are_taken_from_every_library_and_as_they_are_typed(of: Callable[[int], Any]) -> None:
    plain = kvplan.estimate("llama-3.1-8b", seq_len=8192, batch_size=1024, engine="vllm")
    assert kvplan.estimate("llama-3.1-8b", seq_len=of(8192), batch_size=of(1024), engine="vllm") == plain
    assert kvplan.explain("llama-3.1-8b", seq_len=of(8192), batch_size=of(1024), engine="vllm").answer == plain
    row = kvplan.compare("llama-3.1-8b", seq_len=of(8192), batch_size=of(1024), engine="vllm").rows[0]
    assert row.total_bytes == plain.total_bytes
    assert len(kvplan.sweep("gpt2", seq_len=of(8192), batch_size=[of(1024)])) == 1
    assert kvplan.fit("llama-3.1-8b", "h100-80gb", context=of(8192)).context == 8192
    assert kvplan.estimate("llama-3.1-8b", encoder_len=of(1024)).workload.encoder_len == 1024


def test_whole_numbers_of_other_libraries_are_kept_as_pythons() -> None:
    kept = kvplan.Workload(seq_len=numpy.int64(8), batch_size=numpy.uint8(2))
    assert [type(value) for value in kept.to_dict().values()] == [int, int, int]
    assert kvplan.reserve("llama-3.1-8b", memory=numpy.int64(20 * 2**30)).num_blocks == 10_240


@each("value", [1.5, True, None, -1, numpy.float64(2.5), numpy.array([1, 2]), "8 k k", b"8"], ids=str)
def test_what_is_no_count_is_refused(value: Any) -> None:
    with pytest.raises(kvplan.InputError, match="whole number"):
        kvplan.estimate("gpt2", seq_len=value)


REFUSALS: dict[str, Callable[[], Any]] = {
    "estimate": lambda: kvplan.estimate("llama-3.1-8b", engine="vllm", tensor_parallel=3),
    "explain": lambda: kvplan.explain("llama-3.1-8b", engine="vllm", tensor_parallel=3),
    "fit": lambda: kvplan.fit("llama-3.1-8b", "h100-80gb:3", context="8k"),
    "reserve": lambda: kvplan.reserve("llama-3.1-8b", memory="20GiB", tensor_parallel=3),
    "validate": lambda: kvplan.validate("llama-3.1-8b", engine="vllm", tensor_parallel=3, device="cpu"),
}


@each("ask", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_raised_with_its_reason(ask: Callable[[], Any]) -> None:
    with pytest.raises(kvplan.Refused, match="do not divide by tensor_parallel_size 3"):
        ask()


def test_a_refusal_is_a_value_where_that_is_asked_for() -> None:
    reason = "do not divide by tensor_parallel_size 3"
    found = kvplan.try_estimate("llama-3.1-8b", engine="vllm", tensor_parallel=3)
    assert isinstance(found, kvplan.NotPredicted)
    assert reason in found.reason
    with pytest.raises(AttributeError, match=reason):  # an answer's field, asked of what is none
        _ = found.total_bytes
    assert reason in kvplan.try_fit("llama-3.1-8b", "h100-80gb:3", context="8k").not_predicted
    assert isinstance(kvplan.try_reserve("llama-3.1-8b", memory="20GiB", tensor_parallel=3), kvplan.NotPredicted)
    assert isinstance(kvplan.try_explain("llama-3.1-8b", engine="vllm", tensor_parallel=3).answer, kvplan.NotPredicted)


SLIPS: list[Callable[[], Any]] = [
    lambda: kvplan.estimate("gpt2", engine=["vllm"]),
    lambda: kvplan.estimate("gpt2", kv_dtype=8),
    lambda: kvplan.estimate(3),
    lambda: kvplan.estimate(b"gpt2"),
    lambda: kvplan.variant("gpt2", 2),
    lambda: kvplan.compare("gpt2", engine=[]),
    lambda: kvplan.validate("gpt2", against="torch"),
    lambda: kvplan.load(SimpleNamespace(to_dict=list)),
]


@each("ask", SLIPS)
def test_a_slip_is_one_sentence_and_no_traceback_from_inside(ask: Callable[[], Any]) -> None:
    with pytest.raises(kvplan.InputError):
        ask()


@each("name", ["estimate", "compare", "sweep", "explain", "fit", "reserve", "receipt", "validate"])
def test_an_editor_completes_what_every_question_takes(name: str) -> None:
    taken = inspect.signature(getattr(kvplan, name)).parameters
    assert {"engine", "kv_dtype", "tensor_parallel", "infer"} <= taken.keys()
    assert getattr(kvplan, name).__name__ == name


def test_a_config_object_is_a_model() -> None:
    config = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}
    found = kvplan.load(SimpleNamespace(to_dict=lambda: config, name_or_path="acme/tiny"))
    assert found.name == "tiny"
    assert found.layers == kvplan.load(config).layers
    assert kvplan.fit(SimpleNamespace(to_dict=lambda: config), "h100-80gb", weights="1GB", context="1k").fits


def test_the_same_question_from_python_and_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    compared = kvplan.compare(["llama-3.1-8b", "gemma-3-27b"], variant="cla=2", engine="ideal,vllm", seq_len="32k")
    end = here(
        capsys, "compare", "llama-3.1-8b", "gemma-3-27b", "--variant", "cla=2", "-e", "ideal,vllm", "-s", "32k", "-f", "json"
    )
    assert [row.total_bytes for row in compared.rows] == [row["total_bytes"] for row in json.loads(end.out)["comparison"]]
    listed = json.loads(here(capsys, "gpus", "h100*", "-f", "json").out)["gpus"]
    assert [card.to_dict() for card in kvplan.gpus("h100*")] == listed
    models = json.loads(here(capsys, "models", "qwen3-8*", "-f", "json").out)["models"]
    assert [entry.to_dict() for entry in kvplan.models("qwen3-8*")] == models
