"""vLLM: what it refuses by release, and the numbers beside: state slots, backends, uneven stages, the offline word."""

from typing import Any

import pytest
from each import each

import kvplan
from kvplan.engines import make_engine, option_names
from kvplan.engines.vllm.backends import BACKENDS, takers
from kvplan.engines.vllm.engine import Vllm
from kvplan.engines.vllm.plan import make_plan
from kvplan.errors import OptionError, Refused

GIB = 2**30
HYBRID = kvplan.load("qwen3-next-80b-a3b")
LATENT = kvplan.load("deepseek-v3")


def pool(version: str, **options: Any) -> Any:
    engine = make_engine(f"vllm@{version}", options)
    assert isinstance(engine, Vllm)
    return engine.on(HYBRID).reserved((12 * GIB,))


@each(
    ("version", "options", "refused"),
    [
        ("0.33.0", {}, True),
        ("0.33.0", {"max_num_seqs": 910}, False),
        ("0.33.0", {"max_num_seqs": 911}, True),
        ("0.33.0", {"enforce_eager": True}, False),
        ("0.33.0", {"cudagraph_mode": "PIECEWISE"}, False),
        ("0.19.1", {}, False),
    ],
)
def test_more_requests_at_once_than_blocks_of_states_are_refused(version: str, options: dict[str, Any], refused: bool) -> None:
    found = pool(version, **options)
    assert bool(found.refused) == refused
    if refused:
        assert "exceeds available Mamba cache blocks (910)" in found.refused


@each("dtype", ["int4_per_token_head", "int8_per_token_head", "fp8_e5m2", "nvfp4", "float32"])
def test_no_number_rests_on_a_dtype_that_no_backend_of_latents_takes(dtype: str) -> None:
    with pytest.raises(Refused, match="no attention backend takes"):
        make_engine("vllm", {"kv_cache_dtype": dtype}).on(LATENT)


def test_no_fix_rests_on_a_refused_combination() -> None:
    answer = kvplan.fit("deepseek-v3", "h200", gpus=8, engine="vllm", target="64 users at 32k", weights="688GB")
    assert {other.kv_dtype for other in answer.alternatives} == {"bfloat16", "fp8_e4m3"}
    assert not any("int4" in fix.command or "e5m2" in fix.command for fix in answer.fixes)


def test_every_kind_of_heads_has_a_backend_for_its_own_dtype_on_every_card() -> None:
    for capability in (80, 86, 89, 90, 100, 103, 120, 121):
        assert takers("softmax", "auto", capability)
        assert takers("latent", "auto", capability)
    assert all(row.source and row.dtypes for row in BACKENDS)


def test_a_dtype_is_refused_before_the_release_that_has_it() -> None:
    model = kvplan.load("llama-3.1-8b")
    make_engine("vllm@0.26.0", {"kv_cache_dtype": "int4_per_token_head"}).on(model)
    with pytest.raises(Refused, match=r"it has no kv_cache_dtype int4_per_token_head: vLLM 0\.25"):
        make_engine("vllm@0.24.0", {"kv_cache_dtype": "int4_per_token_head"}).on(model)


def test_stages_may_have_layers_of_their_own_number() -> None:
    model = kvplan.load("llama-3.1-8b")
    engine = make_engine("vllm", {"pipeline_parallel_size": 2, "pp_layer_partition": "10,22"})
    assert isinstance(engine, Vllm)
    assert [len(stage[0].members) for stage in engine.on(model).plan.stages] == [10, 22]
    with pytest.raises(OptionError, match="one a pipeline stage"):
        make_engine("vllm", {"pipeline_parallel_size": 3, "pp_layer_partition": "10,22"})
    with pytest.raises(OptionError, match="are not the model's 32"):
        make_engine("vllm", {"pipeline_parallel_size": 2, "pp_layer_partition": "10,23"}).on(model)


def test_offline_is_a_word_of_the_engines_that_know_it() -> None:
    assert "offline" in option_names("vllm")
    assert make_engine("vllm", {"offline": True}).options.usage_context == "LLM_CLASS"
    assert make_engine("vllm", {"offline": "no"}).options.usage_context == "OPENAI_API_SERVER"
    with pytest.raises(OptionError, match="no other defaults offline"):
        make_engine("llama.cpp", {"offline": True})


def test_the_layout_is_the_same_for_any_number_of_requests() -> None:
    engines = [make_engine("vllm", {"max_num_seqs": n, "max_model_len": 4096}) for n in (1, 1000)]
    plans = [make_plan(HYBRID, engine.options, engine.release) for engine in engines]
    assert plans[0].groups == plans[1].groups
    assert [plan.scheduling.max_num_seqs for plan in plans] == [1, 1000]
    assert [plan.scheduling.batch_tokens for plan in plans] == [4096, 8192]


def test_the_budget_of_fit_is_that_of_the_command_that_it_prints() -> None:
    answer = kvplan.fit("llama-3.1-8b", "h100-80gb", engine="vllm", context="8k", weights="15GiB")
    told = int(answer.flags.split("--max-num-seqs ")[1].split()[0])
    again = kvplan.fit("llama-3.1-8b", "h100-80gb", engine="vllm", context="8k", weights="15GiB", max_num_seqs=told)
    default = kvplan.fit("llama-3.1-8b", "h100-80gb", engine="vllm", context="8k", weights="15GiB", max_num_seqs=1024)
    assert answer.budget.cache_bytes == again.budget.cache_bytes > default.budget.cache_bytes
    assert answer.batch_size == again.batch_size == told


def test_mimo_v2_drafts_with_its_first_layer_alone() -> None:
    import json

    from golden import CONFIGS

    from kvplan import architectures

    config = json.loads((CONFIGS / "hf" / "XiaomiMiMo__MiMo-V2-Flash.json").read_text(encoding="utf-8"))
    for tokens in (1, 3):
        options = {"speculative_config": json.dumps({"method": "mtp", "num_speculative_tokens": tokens})}
        engine = make_engine("vllm", options)
        assert isinstance(engine, Vllm)
        drafts = [held for held in engine.on(architectures.read(config)).plan.caches if held.draft]
        assert [held.spec.kind for held in drafts] == ["sliding"]


def test_sparse_latents_are_rows_of_fp8_unasked_in_0_11_alone() -> None:
    model = kvplan.load("deepseek-v3.2")
    dtypes = {}
    for version in ("0.11.0", "0.12.0", "0.33.0"):
        engine = make_engine(f"vllm@{version}", {})
        assert isinstance(engine, Vllm)
        dtypes[version] = engine.on(model).plan.cache_dtype
    assert dtypes == {"0.11.0": "fp8_ds_mla", "0.12.0": "auto", "0.33.0": "auto"}
