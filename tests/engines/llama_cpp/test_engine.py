"""`-e llama.cpp`: options and front ends, buffers that are the engine's tensors, the log's own lines, sweeps."""

import json
from typing import Any

import numpy as np
import pytest
from each import each
from golden import cases
from hypothesis import given, settings
from hypothesis import strategies as st

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.dtypes import lookup
from kvplan.domain.model import Model, Shared
from kvplan.domain.workload import Workload
from kvplan.engines.llama_cpp.engine import LlamaCpp
from kvplan.engines.llama_cpp.log import mib
from kvplan.engines.llama_cpp.memory import CACHE_TYPES
from kvplan.engines.llama_cpp.options import LlamaCppOptions
from kvplan.errors import GgufError, OptionError
from kvplan.gguf.known import KNOWN_ARCHITECTURES
from kvplan.gguf.memories import model_from_keys
from kvplan.questions.estimate import predict
from kvplan.questions.sweep.grid import Sweep

CASES = cases("llama_cpp")
PYTHON = [case for case in CASES if "python_kwargs" in case["options"]]
BY_MODEL = {case["model"]: case for case in CASES if "python_kwargs" not in case["options"]}
_PRINTED = ("llama_kv_cache: size", "llama_memory_recurrent: size", "llama_dsv4_comp_state: csa r",
            "llama_dsv4_comp_state: hca r", "llama_dsv4_comp_state: lid r")  # fmt: skip


def model_of(case: dict[str, Any]) -> Model:
    return model_from_keys(case["config"], source=case["id"], name=case["model"])


MODELS = [model_of(case) for case in BY_MODEL.values()]
LLAMA = next(model for model in MODELS if model.name == "meta-llama/Meta-Llama-3.1-8B")
GEMMA = next(model for model in MODELS if model.name == "google/gemma-3-27b-it")


def recorded_options(o: dict[str, Any]) -> LlamaCppOptions:
    return LlamaCppOptions(
        frontend="library", ctx_size=o["n_ctx"], parallel=o["n_seq_max"], batch=o["n_batch"], ubatch_size=o["n_ubatch"],
        cache_type_k=o["type_k"], cache_type_v=o["type_v"], flash_attn=o["flash_attn"], swa_full=o["swa_full"],
        kv_unified=o["kv_unified"], n_rs_seq=o["n_rs_seq"], ctx_type=o["ctx_type"], embeddings=o.get("embeddings", False),
    )  # fmt: skip


def planned(model: Model, seq_len: int = 8192, batch_size: int = 1, **options: Any) -> Allocation:
    answer = predict(LlamaCpp(LlamaCppOptions(**options)), model, Workload(seq_len=seq_len, batch_size=batch_size))
    assert isinstance(answer, Allocation), answer
    return answer


@each("case", CASES, ids=[case["id"] for case in CASES])
def test_the_buffers_and_the_printed_lines_are_the_engines(case: dict[str, Any]) -> None:
    answer = predict(LlamaCpp(recorded_options(case["options"])), model_of(case), Workload(seq_len=100))
    expected = case["expected"]
    assert isinstance(answer, Allocation) == expected["ok"]
    if isinstance(answer, NotPredicted):
        assert answer.reason.startswith("llama.cpp refuses: ")
        return
    assert list(answer.log) == [line for line in expected["log"] if line.startswith(_PRINTED)]
    if "parts" in expected:
        assert answer.total_bytes == expected["total_bytes"] == sum(b.padded_bytes for b in answer.buffers)
        assert answer.state_bytes == expected["state_bytes"]
        assert answer.details["backend_buffer_bytes"]["cpu"] == sum(part["buffer_bytes"] for part in expected["parts"])
    assert answer.payload_bytes <= answer.total_bytes
    for buffer in answer.buffers:
        assert buffer.padded_bytes == int(np.prod(buffer.shape)) * _item(buffer.dtype) * buffer.count


def _item(dtype: str) -> int:
    return 1 if dtype == "uint8" else lookup(dtype).block_bytes


@each("case", PYTHON, ids=[case["id"] for case in PYTHON])
def test_the_python_front_end_has_its_own_defaults(case: dict[str, Any]) -> None:
    given_here = dict(case["options"]["python_kwargs"])
    options: dict[str, Any] = {"frontend": "python", "ctx_size": given_here.get("n_ctx", 512)}
    options |= {"batch": given_here["n_batch"]} if "n_batch" in given_here else {}
    options |= {"embeddings": given_here["embedding"]} if "embedding" in given_here else {}
    options |= {"flash_attn": "on"} if given_here.get("flash_attn") else {}
    options |= {"swa_full": given_here["swa_full"]} if "swa_full" in given_here else {}
    options |= {"kv_dtype": "q8_0"} if "type_k" in given_here else {}
    answer, expected = planned(model_of(case), 1, **options), case["expected"]
    names = ("n_ctx", "n_ctx_seq", "n_seq_max", "n_batch", "n_ubatch", "flash_attn")
    assert {n: answer.details[n] for n in names} == {n: expected[n] for n in names}
    assert list(answer.log) == [line for line in expected["log"] if line.startswith(_PRINTED)]


def test_front_ends_differ_where_the_engine_says_so() -> None:
    by_default = {name: planned(GEMMA, 8192, frontend=name).total_bytes for name in ("server", "cli", "library", "python")}
    assert by_default["server"] == by_default["cli"] < by_default["library"] == by_default["python"]
    auto = planned(GEMMA, 8192, frontend="server", parallel=-1).details
    assert (auto["n_seq_max"], auto["kv_unified"]) == (4, True)
    assert (planned(GEMMA, frontend="cli", parallel=-1).details["n_seq_max"]) == 1


def test_by_default_every_sequence_holds_its_tokens() -> None:
    for batch in (1, 3, 8):
        details = planned(LLAMA, 5000, batch).details
        assert details["n_ctx_seq"] >= 5000
        assert details["n_seq_max"] == batch
    short = planned(LLAMA, 5000, 2, ctx_size=4096)
    assert "holds 2,048 tokens a sequence, not 5,000" in short.notes[-1]


def test_more_sequences_than_the_context_has_are_not_predicted() -> None:
    answer = predict(LlamaCpp(LlamaCppOptions(parallel=2)), LLAMA, Workload(batch_size=3, seq_len=10))
    assert isinstance(answer, NotPredicted)
    assert "n_seq_max" in answer.reason
    assert isinstance(predict(LlamaCpp(LlamaCppOptions(frontend="python")), LLAMA, Workload(batch_size=2)), NotPredicted)


def test_a_drafter_is_not_predicted() -> None:
    keys = {key.replace("llama.", "eagle3."): value for key, value in BY_MODEL[LLAMA.name]["config"].items()}
    model = model_from_keys({**keys, "general.architecture": "eagle3"}, source="x", name="x")
    answer = predict(LlamaCpp(), model, Workload(seq_len=16))
    assert isinstance(answer, NotPredicted)
    assert "another model's context" in answer.reason


@each("kind", sorted(CACHE_TYPES))
def test_a_kv_dtype_sets_both_cache_types(kind: str) -> None:
    answer = planned(LLAMA, kv_dtype=kind)
    assert answer.total_bytes == planned(LLAMA, cache_type_k=kind, cache_type_v=kind).total_bytes
    assert answer.total_bytes == 8192 * 32 * 2 * lookup(kind).row_bytes(1, 1024)
    assert answer.kv_dtype == lookup(kind).name


def test_keys_and_values_may_differ() -> None:
    mixed = planned(LLAMA, cache_type_k="q8_0")
    assert mixed.kv_dtype == "q8_0/float16"
    assert mixed.typed == f"llama-server -m {mixed.model.gguf} -c 8192 -np 1 -ctk q8_0 -ctv f16"


@each(
    ("options", "message"),
    [
        ({"kv_dtype": "fp8"}, "keeps no cache in fp8"),
        ({"cache_type_k": "q8"}, "there is no `q8`"),
        ({"frontend": "sever"}, "there is no `sever`"),
        ({"flash_attn": "maybe"}, "there is no `maybe`"),
        ({"ctx_type": "draft"}, "there is no `draft`"),
        ({"parallel": -2}, "must be from -1"),
        ({"batch": 0}, "must be from 1"),
        ({"ctx_size": 2**31}, "must be from 0"),
    ],
)
def test_options_that_llama_cpp_does_not_have_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        LlamaCppOptions(**options)


def test_the_flags_give_the_same_context() -> None:
    assert planned(LLAMA, 8192, 4, kv_dtype="q4_0", ubatch_size=1024).typed == (
        f"llama-server -m {LLAMA.gguf} -c 32768 -np 4 -ctk q4_0 -ctv q4_0 -ub 1024"
    )
    assert planned(LLAMA, frontend="python", kv_dtype="q8_0", flash_attn="on").typed == (
        "Llama(n_ctx=8192, type_k=8, type_v=8, flash_attn=True)"
    )
    assert planned(LLAMA, frontend="library", kv_unified=True).typed == "n_ctx = 8192, n_seq_max = 1, kv_unified = true"
    assert planned(LLAMA, ctx_size=0, parallel=-1).typed == f"llama-server -m {LLAMA.gguf} -c 0"


def test_payload_is_what_the_tokens_need() -> None:
    one = planned(LLAMA, 1000)
    assert one.payload_bytes == 1000 * 32 * 2 * 2048
    assert one.total_bytes == 1024 * 32 * 2 * 2048
    assert one.bytes_per_token == 32 * 2 * 2048
    far = planned(GEMMA, 100_000)
    assert far.bytes_per_token == 10 * 2 * 2 * 16 * 128
    assert far.payload_bytes == 2 * 2 * 16 * 128 * (10 * 100_000 + 52 * 1024)


def test_values_are_padded_to_the_widest_layer_without_flash_attention() -> None:
    model = next(m for m in MODELS if m.name == "nvidia/Llama-3_3-Nemotron-Super-49B-v1")
    on, off = planned(model), planned(model, flash_attn="off")
    assert off.total_bytes > on.total_bytes
    assert off.payload_bytes == on.payload_bytes


@each("model", MODELS, ids=[m.name for m in MODELS])
def test_every_layer_is_named_and_the_buffers_belong_to_layers(model: Model) -> None:
    answer = planned(model)
    assert sum(layer.bytes for layer in answer.layers) == answer.total_bytes
    assert sum(group.count for group in answer.groups) == len(answer.kinds)
    assert all((layer.kind in {"no cache", "shared"}) == (layer.bytes == 0) for layer in answer.layers)
    json.dumps(answer.to_dict(per_layer=True))


def test_layers_that_share_read_the_layers_that_the_engine_recorded() -> None:
    seen = 0
    for case in BY_MODEL.values():
        model = model_of(case)
        for part in case["expected"].get("parts", []):
            for layer, source in part.get("reuse", []):
                assert model.layers[layer].memories == (Shared(source=source),)
                seen += 1
    assert seen > 20


@given(
    st.sampled_from(MODELS),
    st.lists(st.integers(0, 1 << 20), min_size=1, max_size=5),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from([{}, {"parallel": 9}, {"ctx_size": 5000}, {"kv_unified": True}, {"swa_full": True}, {"flash_attn": "off"}]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_sweep_equals_the_single_estimate(
    model: Model, lengths: list[int], batches: list[int], options: dict[str, Any]
) -> None:
    sweep = Sweep(models=[model], engines=["llama.cpp"], seq_lens=lengths, batch_sizes=batches, options=options)
    frame = sweep.to_frame()
    assert len(frame) == len(lengths) * len(batches)
    for row in frame.itertuples():
        answer = planned(model, row.seq_len, row.batch_size, **options)
        assert (row.total_bytes, row.payload_bytes, row.state_bytes, row.bytes_per_token) == (
            answer.total_bytes, answer.payload_bytes, answer.state_bytes, answer.bytes_per_token,
        )  # fmt: skip


def test_the_log_rounds_as_a_float_does() -> None:
    assert mib(16_777_217) == "  16.00"
    assert mib(10_737_444_403) == "10240.03"  # 10240.0249… becomes 10240.0254 as a float
    assert mib(0) == "   0.00"
    assert mib(2**40 + 2**30) == "1049600.00"


def test_a_file_on_cuda_needs_more_than_the_log_says() -> None:
    sizes = planned(GEMMA, kv_dtype="q8_0").details["backend_buffer_bytes"]
    assert sizes["cpu"] == planned(GEMMA, kv_dtype="q8_0").total_bytes == sizes["cuda"]
    odd = next(m for m in MODELS if m.name == "deepseek-ai/DeepSeek-V2-Lite")  # rows of 576 elements
    sizes = planned(odd, kv_dtype="q8_0").details["backend_buffer_bytes"]
    assert sizes["cuda"] - sizes["cpu"] == 27 * 512  # a tail of 448 elements is 476 bytes, padded to 128


VALUES: list[Any] = [
    0, 1, 2, 3, 7, 64, 128, 512, 2**31 - 1, 2**31, 2**40, -1, 1.0, 1.5, float("nan"), float("inf"), True, False, "x", "", [], [0],
    [1] * 4, [0] * 40, [1] * 400, [2**31] * 40, ["a"] * 30, [True, False] * 20, [1.5] * 40,
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {}, {"flash_attn": "off"}, {"ctx_type": "mtp"}, {"kv_dtype": "q8_0"}, {"swa_full": True, "kv_unified": True, "parallel": 3},
    {"ctx_size": 0}, {"n_rs_seq": 3}, {"frontend": "python", "embeddings": True},
]  # fmt: skip


@given(st.data())
@settings(max_examples=600, deadline=None)
def test_absurd_metadata_is_planned_or_refused(data: st.DataObject) -> None:
    keys = dict(data.draw(st.sampled_from(list(BY_MODEL.values())))["config"])
    if data.draw(st.booleans()):
        old, new = keys["general.architecture"], data.draw(st.sampled_from(sorted(KNOWN_ARCHITECTURES)))
        keys = {key.replace(f"{old}.", f"{new}.", 1): value for key, value in keys.items()} | {"general.architecture": new}
    for key in data.draw(st.lists(st.sampled_from(sorted(keys)), min_size=1, max_size=3)):
        keys[key] = data.draw(st.sampled_from(VALUES))
    try:
        model = model_from_keys(keys, source="x", name="x")
    except GgufError:
        return
    engine = LlamaCpp(LlamaCppOptions(**data.draw(st.sampled_from(OPTIONS))))
    seq_len, batch_size = data.draw(st.sampled_from([0, 1, 1000, 2**20])), data.draw(st.sampled_from([0, 1, 3]))
    answer = predict(engine, model, Workload(seq_len=seq_len, batch_size=batch_size))
    if isinstance(answer, Allocation):
        assert 0 <= answer.payload_bytes <= answer.total_bytes == sum(layer.bytes for layer in answer.layers)
