"""The converter's mapping: from a hub config the same context comes out as from the GGUF keys that llama.cpp wrote for it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from kvplan import architectures
from kvplan.allocation import Allocation, NotPredicted
from kvplan.engines import make_engine
from kvplan.engines.llama_context import Params, make_context
from kvplan.errors import KvplanError
from kvplan.gguf.convert import gguf_keys
from kvplan.gguf.convert_rows import BUILDERS, ROWS
from kvplan.gguf.hparams import read_hparams
from kvplan.gguf.known import KNOWN_ARCHITECTURES
from kvplan.loaders import load
from kvplan.model import Model
from kvplan.variants import variant
from kvplan.workload import Workload

TESTS = Path(__file__).resolve().parent.parent
CASES = [json.loads(line) for line in (TESTS / "golden" / "llama_cpp.jsonl").read_text(encoding="utf-8").splitlines()]
FROM_HUB = [case for case in CASES if "hf_config" in case and "python_kwargs" not in case["options"]]
CONVERTED = list({json.dumps([case["hf_config"], case["config"]], sort_keys=True): case for case in FROM_HUB}.values())
HUB = sorted((TESTS / "configs" / "hf").glob("*.json"))


def converted(config: dict[str, Any], name: str = "model") -> Any:
    return gguf_keys(architectures.read(config, source=name, name=name))


@pytest.mark.parametrize("case", FROM_HUB, ids=[case["id"] for case in FROM_HUB])
def test_a_hub_config_gives_the_recorded_context(case: dict[str, Any]) -> None:
    keys = converted(case["hf_config"], case["model"])
    assert not isinstance(keys, NotPredicted)
    params: Params[int] = Params(**{name: value for name, value in case["options"].items() if name != "offload_kqv"})
    assert make_context(read_hparams(keys), params) == make_context(read_hparams(case["config"]), params)


def test_there_are_as_many_as_were_recorded() -> None:
    assert len(FROM_HUB) >= 488
    assert len(CONVERTED) >= 60


@pytest.mark.parametrize("case", CONVERTED, ids=[case["model"] for case in CONVERTED])
def test_every_number_that_llama_cpp_reads_is_the_converters(case: dict[str, Any]) -> None:
    mine, theirs = read_hparams(converted(case["hf_config"], case["model"])), read_hparams(case["config"])
    for field in dataclasses.fields(mine):
        if field.name == "feed_forward":  # only whether a layer has one counts, and only in Nemotron-H
            if mine.arch.startswith("nemotron_h"):
                assert [bool(n) for n in mine.feed_forward] == [bool(n) for n in theirs.feed_forward]
        elif field.name != "keys":
            assert getattr(mine, field.name) == getattr(theirs, field.name), field.name


def test_every_row_names_an_architecture_that_llama_cpp_has() -> None:
    assert {row.arch for row in ROWS.values()} <= KNOWN_ARCHITECTURES
    assert {row.build for row in ROWS.values()} == set(BUILDERS)
    assert set(ROWS) <= set(architectures.known_model_types())


@pytest.mark.parametrize("path", HUB, ids=[path.stem for path in HUB])
def test_every_real_config_is_planned_or_refused_with_a_reason(path: Path) -> None:
    try:
        model = architectures.read(json.loads(path.read_text(encoding="utf-8")), source=path.name, name=path.stem)
    except KvplanError:
        return  # not this engine's business
    answer = make_engine("llama.cpp", {}).footprint(model, Workload(seq_len=32768))
    if isinstance(answer, NotPredicted):
        assert "converter" in answer.reason
        return
    exact = make_engine("ideal", {"kv_dtype": "f16"}).footprint(model, Workload(seq_len=32768))
    assert isinstance(exact, Allocation)
    assert answer.payload_bytes >= exact.payload_bytes
    assert answer.allocated_bytes >= answer.payload_bytes


def test_windows_that_llama_cpp_ignores_are_kept_whole() -> None:
    for name in ("mistralai/Mistral-7B-v0.1", "microsoft/Phi-3-mini-4k-instruct"):
        config = next(case["hf_config"] for case in FROM_HUB if case["model"] == name)
        model = architectures.read(config, name=name)
        answer = make_engine("llama.cpp", {}).footprint(model, Workload(seq_len=32768))
        exact = make_engine("ideal", {"kv_dtype": "f16"}).footprint(model, Workload(seq_len=32768))
        assert isinstance(answer, Allocation)
        assert isinstance(exact, Allocation)
        assert answer.payload_bytes > 7 * exact.payload_bytes


def test_a_catalogue_model_is_planned_by_name() -> None:
    answer = make_engine("llama.cpp", {}).footprint(load("llama-3.1-8b"), Workload(seq_len=8192, batch_size=4))
    assert isinstance(answer, Allocation)
    assert answer.total_bytes == 4 * 8192 * 32 * 2 * 2048


def test_what_has_no_gguf_keys_is_not_predicted() -> None:
    rewritten: Model = variant(load("llama-3.1-8b"), "mqa")
    spec = load(
        {"name": "x", "layers": [{"repeat": 2, "of": {"type": "softmax", "kv_heads": 1, "key_dim": 64, "value_dim": 64}}]}
    )
    unknown = architectures.read({"model_type": "opt", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64})
    for model, reason in ((rewritten, "no hub config"), (spec, "no hub config"), (unknown, "model type opt are not known")):
        answer = make_engine("llama.cpp", {}).footprint(model, Workload(seq_len=16))
        assert isinstance(answer, NotPredicted)
        assert reason in answer.reason


def test_a_granite_hybrid_without_mamba_layers_is_the_plain_architecture() -> None:
    base = next(case["hf_config"] for case in FROM_HUB if case["arch"] == "granitehybrid")
    plain = converted({**base, "layer_types": ["attention"] * 40})
    assert plain["general.architecture"] == "granitemoe"
    assert read_hparams(plain).context_length == 131072


def test_mimo_brings_three_prediction_layers_that_no_config_mentions() -> None:
    path = next(path for path in HUB if "MiMo-V2-Flash" in path.name)
    keys = converted(json.loads(path.read_text(encoding="utf-8")))
    h = read_hparams(keys)
    assert (h.n_layer_all - h.n_layer, h.head_count_kv[-3:], h.sliding[-3:]) == (3, (8, 8, 8), (True,) * 3)
