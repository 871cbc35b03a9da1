"""The converter's mapping: from a hub config the same context comes out as from the GGUF keys that llama.cpp wrote for it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from each import each
from golden import CONFIGS, cases
from msgspec import structs

from kvplan import architectures
from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.model import Latent, Model
from kvplan.domain.variants import variant
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.engines.llama_cpp.context import make_context
from kvplan.engines.llama_cpp.convert import attention as convert_builders
from kvplan.engines.llama_cpp.convert import gguf_keys
from kvplan.engines.llama_cpp.convert import latent as convert_latent
from kvplan.engines.llama_cpp.convert.row import plain
from kvplan.engines.llama_cpp.convert.rows import ROWS
from kvplan.engines.llama_cpp.memory import Params
from kvplan.errors import KvplanError, Refused
from kvplan.gguf.hparams import read_hparams
from kvplan.gguf.known import KNOWN_ARCHITECTURES
from kvplan.gguf.memories import model_from_keys
from kvplan.loading import load
from kvplan.questions.estimate import predict

FROM_HUB = [case for case in cases("llama_cpp") if "hf_config" in case and "python_kwargs" not in case["options"]]
CONVERTED = list({json.dumps([case["hf_config"], case["config"]], sort_keys=True): case for case in FROM_HUB}.values())
RUNS = cases("llama_convert")
HUB = sorted((CONFIGS / "hf").glob("*.json"))


def converted(config: dict[str, Any], name: str = "model") -> Mapping[str, Any]:
    return gguf_keys(architectures.read(config, source=name, name=name))


@each("case", FROM_HUB, ids=[case["id"] for case in FROM_HUB])
def test_a_hub_config_gives_the_recorded_context(case: dict[str, Any]) -> None:
    keys = converted(case["hf_config"], case["model"])
    params: Params[int] = Params(**{name: value for name, value in case["options"].items() if name != "offload_kqv"})
    assert make_context(read_hparams(keys), params) == make_context(read_hparams(case["config"]), params)


def test_there_are_as_many_as_were_recorded() -> None:
    assert len(FROM_HUB) >= 488
    assert len(CONVERTED) >= 60


@each("case", CONVERTED, ids=[case["model"] for case in CONVERTED])
def test_every_number_that_llama_cpp_reads_is_the_converters(case: dict[str, Any]) -> None:
    mine, theirs = read_hparams(converted(case["hf_config"], case["model"])), read_hparams(case["config"])
    for field in structs.fields(mine):
        if field.name == "feed_forward":  # only whether a layer has one counts, and only in Nemotron-H
            if mine.arch.startswith("nemotron_h"):
                assert [bool(n) for n in mine.feed_forward] == [bool(n) for n in theirs.feed_forward]
        elif field.name != "keys":
            assert getattr(mine, field.name) == getattr(theirs, field.name), field.name


def config_of(run: dict[str, Any]) -> dict[str, Any]:
    name = run.get("config_file")
    return json.loads((CONFIGS / "hf" / name).read_text(encoding="utf-8")) if name else run["config"]  # type: ignore[no-any-return]


@each("run", RUNS, ids=[run["id"] for run in RUNS])
def test_what_decides_the_cache_is_what_the_real_converter_wrote(run: dict[str, Any]) -> None:
    keys = converted(config_of(run), run["id"])
    mine, theirs = read_hparams(keys), read_hparams(run["keys"])
    for field in structs.fields(mine):
        if field.name in {"keys", "feed_forward", "conv_kernel"} or (field.name == "n_vocab" and not theirs.n_vocab):
            continue  # the vocabulary may come from a tokenizer
        assert getattr(mine, field.name) == getattr(theirs, field.name), field.name


def test_nearly_every_row_was_run_through_the_converter() -> None:
    known = {run["model_type"] for run in RUNS} | {case["hf_config"]["model_type"] for case in FROM_HUB}
    rest = {kind for kind in ROWS if kind not in known and "/" not in kind}
    # Classes that exist only as code beside the weights, or whose saved form the converter does not take.
    assert rest == {
        "dbrx", "gemma4_unified_text", "gpt-sw3", "grok-1", "minimax_m1", "minimax_m3", "openelm", "qwen2_5_omni_text",
        "qwen3_omni_moe_text", "spark2_5", "step3p5", "talkie",
    }, sorted(rest)  # fmt: skip


def new_form(model_type: str) -> dict[str, Any]:
    return json.loads(
        json.dumps(next(config_of(run) for run in RUNS if run["model_type"] == model_type and "released" in run["id"]))
    )  # type: ignore[no-any-return]


@each(
    ("model_type", "changed", "reason"),
    [
        ("bailing_hybrid", {"no_kda_lora": False}, "`no_kda_lora: false`"),
        ("bailing_hybrid", {"kda_safe_gate": False}, "`kda_safe_gate: false`"),
        ("hy_v4", {"indexer_types": ["shared"] * 34}, ""),
        ("hy_v4", {"indexer_types": ["shared", *["full"] * 33]}, "layer 0 has no indexer"),
        ("dots3_note_text", {"swa_qk_rope_head_dim": 32, "swa_head_dim": 224}, "rotary parts differ"),
        ("dots3_note_text", {"use_dsa": False}, "use_dsa"),
        ("glm5_next_text", {"qk_rope_head_dim": 64}, "rotary keys"),
        ("qwen4_exp_text", {"indexer_head_dim": None}, "no indexer"),
        ("qwen4_exp_text", {"ple_layer_ids": [1, 2]}, "n-gram embeddings"),
    ],
)
def test_what_the_converter_refuses_is_refused(model_type: str, changed: dict[str, Any], reason: str) -> None:
    config = new_form(model_type)
    part = config.get("text_config", config)
    part.update(changed)
    if not reason:
        assert converted(config)["general.architecture"]
        return
    with pytest.raises(Refused) as refused:
        converted(config)
    assert reason in refused.value.reason


def test_the_sliding_latents_of_dots3_have_their_own_width() -> None:
    model = model_from_keys(converted(new_form("dots3_note_text")), source="x", name="x")
    ideal = make_engine("ideal", {"kv_dtype": "f16"})
    read = architectures.read(new_form("dots3_note_text"), name="x")
    widths = [
        sorted(
            (m.rank, m.rope_dim, m.nope_dim, m.value_dim, m.reach) for x in y.layers for m in x.memories if isinstance(m, Latent)
        )
        for y in (model, read)
    ]
    assert repr(widths[0]) == repr(widths[1])
    assert isinstance(predict(ideal, model, Workload(seq_len=8192)), Allocation)


def test_the_models_own_length_must_be_known_to_ask_for_it() -> None:
    config = {"model_type": "baichuan", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "vocab_size": 10}
    model = architectures.read(config, name="x")
    answer = predict(make_engine("llama.cpp", {"ctx_size": 0}), model, Workload(seq_len=16))
    assert isinstance(answer, NotPredicted)
    assert "length is not known" in answer.reason
    assert isinstance(predict(make_engine("llama.cpp", {"ctx_size": 512}), model, Workload(seq_len=16)), Allocation)


def is_builder(function: Any) -> bool:
    return list(getattr(function, "__annotations__", {})) == ["w", "row", "return"]


def test_every_row_names_an_architecture_that_llama_cpp_has() -> None:
    assert {row.arch for row in ROWS.values()} <= KNOWN_ARCHITECTURES
    builders = {
        f for module in (convert_builders, convert_latent) for f in vars(module).values() if callable(f) and is_builder(f)
    }
    assert {row.build for row in ROWS.values()} == builders | {plain}
    assert {part for kind in ROWS for part in kind.split("/")} <= set(architectures.known_model_types())


@each("path", HUB, ids=[path.stem for path in HUB])
def test_every_real_config_is_planned_or_refused_with_a_reason(path: Path) -> None:
    try:
        model = architectures.read(json.loads(path.read_text(encoding="utf-8")), source=path.name, name=path.stem)
    except KvplanError:
        return  # not this engine's business
    answer = predict(make_engine("llama.cpp", {}), model, Workload(seq_len=32768))
    if isinstance(answer, NotPredicted):
        assert "converter" in answer.reason
        return
    exact = predict(make_engine("ideal", {"kv_dtype": "f16"}), model, Workload(seq_len=32768))
    assert isinstance(exact, Allocation)
    if model.model_type != "laguna":  # llama.cpp has windows of its own there
        assert answer.payload_bytes >= exact.payload_bytes
    assert answer.allocated_bytes >= answer.payload_bytes


def test_windows_that_llama_cpp_ignores_are_kept_whole() -> None:
    for name in ("mistralai/Mistral-7B-v0.1", "microsoft/Phi-3-mini-4k-instruct"):
        config = next(case["hf_config"] for case in FROM_HUB if case["model"] == name)
        model = architectures.read(config, name=name)
        answer = predict(make_engine("llama.cpp", {}), model, Workload(seq_len=32768))
        exact = predict(make_engine("ideal", {"kv_dtype": "f16"}), model, Workload(seq_len=32768))
        assert isinstance(answer, Allocation)
        assert isinstance(exact, Allocation)
        assert answer.payload_bytes > 7 * exact.payload_bytes


def test_a_catalogue_model_is_planned_by_name() -> None:
    answer = predict(make_engine("llama.cpp", {}), load("llama-3.1-8b"), Workload(seq_len=8192, batch_size=4))
    assert isinstance(answer, Allocation)
    assert answer.total_bytes == 4 * 8192 * 32 * 2 * 2048


def test_what_has_no_gguf_keys_is_not_predicted() -> None:
    rewritten: Model = variant(load("llama-3.1-8b"), "mqa")
    spec = load(
        {"name": "x", "layers": [{"repeat": 2, "of": {"type": "softmax", "kv_heads": 1, "key_dim": 64, "value_dim": 64}}]}
    )
    unknown = architectures.read({"model_type": "opt", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64})
    for model, reason in ((rewritten, "no hub config"), (spec, "no hub config"), (unknown, "model type opt are not known")):
        answer = predict(make_engine("llama.cpp", {}), model, Workload(seq_len=16))
        assert isinstance(answer, NotPredicted)
        assert reason in answer.reason


def test_prediction_layers_that_llama_cpp_holds_are_said() -> None:
    answer = predict(make_engine("llama.cpp", {}), load("ling-3.0-flash"), Workload(seq_len=8192))
    assert isinstance(answer, Allocation)
    assert any("1 prediction layer(s) counted" in note for note in answer.notes)
    assert answer.layers[-1].bytes == 8192 * 576 * 2
    plain = predict(make_engine("llama.cpp", {}), load("deepseek-v3"), Workload(seq_len=8192))
    assert isinstance(plain, Allocation)
    assert not any("prediction" in note for note in plain.notes)


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
