"""`fit` is the inverse of `estimate`: it fits at n and not at n + 1, whatever the engine; nothing is guessed silently."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from each import each
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import kvplan
from kvplan.api.fit import parse_target
from kvplan.cli.app import main
from kvplan.domain.budget import gpu_memory
from kvplan.domain.gpus import Gpu, gpu, gpus
from kvplan.domain.ledger import Line
from kvplan.engines import PREDICTED, about, make_engine, option_names
from kvplan.engines.kernel.engine import Served
from kvplan.engines.kernel.tensors import At
from kvplan.errors import OptionError
from kvplan.questions.commands import fit_command as command
from kvplan.questions.fit.answer import answer
from kvplan.questions.fit.question import Question
from kvplan.questions.reserve import reserved
from kvplan.report.answers.fit import verdict
from kvplan.units import GIB, MIB, parse_count, parse_size
from kvplan.units import short_count as count
from kvplan.units import short_size as size

NAMES = ("llama-3.1-8b", "gemma-3-27b", "qwen3-next-80b-a3b", "deepseek-v2-lite", "falcon-h1-7b")
CARD = Gpu(id="card", vendor="any", arch="", memory_kind="discrete", marketed_gb=(1,), sources=(), reported_bytes=2**40)
NOTHING = Line(name="weights", bytes=0, basis="given", source="test")
MODELS = {name: kvplan.load(name) for name in NAMES}

models = st.sampled_from(NAMES)
engines = st.sampled_from(sorted(PREDICTED))
budgets = st.integers(MIB, 60 * GIB)


def question(name: str, engine: str, budget_bytes: int, **more: Any) -> Question:
    return Question(
        model=MODELS[name],
        weights=NOTHING,
        gpu=CARD,
        engine=engine,
        memory_bytes=budget_bytes,
        reserve_bytes=0,
        utilization=share_of(engine),
        **more,
    )


def share_of(engine: str) -> float:
    """All of the memory, or of what is free the most that an engine takes which measures that itself."""
    return 0.9 if about(engine).share.meaning == "of free after loading" else 1.0


def holds(name: str, engine: str, budget_bytes: int, batch_size: int, context: int) -> bool:
    """The estimate's word: the cache is not larger than what the engine makes of the budget."""
    roles, names = about(engine).roles, option_names(engine)
    told: dict[str, Any] = {"memory": budget_bytes, "context": context, "sequences": batch_size, "utilization": share_of(engine)}
    options = {roles[role]: value for role, value in told.items() if roles.get(role) in names}
    estimated = kvplan.try_estimate(MODELS[name], seq_len=context, batch_size=batch_size, engine=engine, **options)
    if isinstance(estimated, kvplan.NotPredicted):  # llama.cpp holds at most 256 sequences, Ollama one of some families
        assert "n_seq_max" in estimated.reason or "one slot" in estimated.reason
        return False
    pool, at = reserved(MODELS[name], engine, options, budget_bytes), At(context, batch_size, 0)
    prepared = make_engine(engine, options).on(MODELS[name])
    if not isinstance(pool, kvplan.Pool) or not isinstance(prepared, Served):  # it allocates what it is told
        limit = budget_bytes
    elif not prepared.one_pool:  # bytes alone do not say
        return prepared.holds(pool, at)
    else:
        limit = pool.usable_bytes
    assert prepared.most_bytes(at) >= estimated.total_bytes  # a prompt may need more on the way
    return prepared.most_bytes(at) <= limit


@settings(deadline=None)
@given(models, engines, budgets, st.integers(1, 32768))
def test_the_most_requests_fit_and_one_more_does_not(name: str, engine: str, budget_bytes: int, context: int) -> None:
    fit = answer(question(name, engine, budget_bytes, context=context), brief=True)
    assume(not fit.not_predicted)
    if fit.fits:
        assert holds(name, engine, budget_bytes, fit.batch_size, context)
    else:
        assert fit.batch_size == 0
    assert not holds(name, engine, budget_bytes, fit.batch_size + 1, context)


@settings(deadline=None)
@given(models, engines, budgets, st.integers(1, 64))
def test_the_longest_context_fits_and_one_token_more_does_not(name: str, engine: str, budget_bytes: int, batch_size: int) -> None:
    fit = answer(question(name, engine, budget_bytes, batch_size=batch_size), brief=True)
    assume(not fit.not_predicted)
    assert fit.fits is (fit.context > 0)
    if fit.fits:
        assert holds(name, engine, budget_bytes, batch_size, fit.context)
    if fit.limited_by == "memory":
        assert not holds(name, engine, budget_bytes, batch_size, fit.context + 1)
    else:
        assert (fit.limited_by, fit.context) == ("model", MODELS[name].max_tokens)


@settings(deadline=None)
@given(models, engines, budgets, st.integers(1, 64), st.integers(1, 16384))
def test_a_target_fits_exactly_when_its_requests_do(name: str, engine: str, budget_bytes: int, users: int, context: int) -> None:
    most = answer(question(name, engine, budget_bytes, context=context), brief=True)
    assume(not most.not_predicted)
    target = answer(question(name, engine, budget_bytes, context=context, batch_size=users), brief=True)
    if "sequences" in about(engine).roles:  # started for the requests asked about: what is set aside first may halve in between
        assert target.fits is holds(name, engine, budget_bytes, users, context)
    else:
        assert target.fits is (users <= most.batch_size)


def test_an_engine_may_take_fewer_requests_than_the_memory_would(capsys: pytest.CaptureFixture[str]) -> None:
    """llama.cpp has at most 256 sequences (`LLAMA_MAX_SEQ`)."""
    asked = ("mamba-2.8b", "--gpu", "h100-80gb", "-e", "llama.cpp", "--context", "1k")
    assert run(*asked) == 0
    assert "256 such requests at once" in " ".join(capsys.readouterr().out.split())
    assert run(*asked, "--reserve", "1GiB") == 0
    assert "256 x 1,024 tokens; the engine takes no more" in capsys.readouterr().out


@pytest.mark.parametrize("engine", ["ideal", "vllm"])
def test_every_row_of_the_table_is_the_answer_to_its_own_question(engine: str) -> None:
    table = kvplan.fit("gemma-3-27b", "h100-80gb", engine=engine)
    assert sum(row.decisive for row in table.rows) == 1
    for row in table.rows:
        assert kvplan.fit("gemma-3-27b", "h100-80gb", engine=engine, context=row.context).batch_size == row.batch_size


@given(
    st.lists(st.integers(0, 2**40), min_size=3, max_size=3),
    st.sampled_from([0.25, 0.5, 0.9, 0.92, 1.0]),
    st.sampled_from([1, 2, 8]),
)
def test_the_lines_of_a_budget_add_up(parts: list[int], utilization: float, devices: int) -> None:
    memory, weights, reserve = parts
    assume(memory)
    asked = Question(
        model=MODELS["llama-3.1-8b"],
        weights=Line(name="weights", bytes=weights, basis="given", source="test"),
        gpu=CARD, memory_bytes=memory, reserve_bytes=reserve, utilization=utilization, gpus=devices, tensor_parallel=devices,
        context=1024,
    )  # fmt: skip
    budget = answer(asked, brief=True).budget
    assert sum(line.bytes for line in budget.lines) == budget.cache_bytes
    assert budget.weights.bytes == -(-weights // devices)
    assert {line.basis for line in budget.lines} <= {"measured", "derived", "assumed", "given"}
    assert all(line.source for line in budget.lines)


def test_a_recorded_run_of_vllm_leaves_the_recorded_blocks() -> None:
    """Llama 3.1 8B on an RTX 4090, vLLM 0.19: 2,588 blocks; what neither weights nor cache took is given as the reserve."""
    free = 22_725_564_826 - 16_060_522_496 - 2588 * 2 * MIB
    memory, weights = 25_250_627_584, 16_060_522_496
    fit = kvplan.fit(
        "llama-3.1-8b", "rtx-4090", engine="vllm@0.19.0", context="32k",
        reserve=free, utilization=0.9, memory=memory, weights=weights,
    )  # fmt: skip
    assert fit.pool is not None
    assert (fit.pool.num_blocks, fit.pool.num_tokens) == (2588, 41408)


def test_splitting_a_model_divides_weights_and_heads() -> None:
    one = kvplan.fit("llama-3.1-8b", "h100-80gb", engine="ideal", context="32k", batch_size=1)
    two = kvplan.fit("llama-3.1-8b", "h100-80gb:2", engine="ideal", context="32k", batch_size=1)
    assert (two.question.tensor_parallel, two.cache_bytes * 2) == (2, one.cache_bytes)
    assert two.budget.weights.bytes * 2 == one.budget.weights.bytes


def test_pipeline_stages_divide_weights_and_layers() -> None:
    one = kvplan.fit("llama-3.1-8b", "h100-80gb", engine="vllm", context="32k", batch_size=1)
    two = kvplan.fit("llama-3.1-8b", "h100-80gb", engine="vllm", context="32k", batch_size=1, pipeline_parallel_size="2")
    assert (two.question.gpus, two.question.replicas, two.cache_bytes * 2) == (2, 1, one.cache_bytes)
    assert one.budget.weights.bytes <= two.budget.weights.bytes * 2 < 1.01 * one.budget.weights.bytes  # two rotary tables
    assert "--pipeline-parallel-size 2" in two.flags


def test_a_shared_pool_holds_more_short_requests() -> None:
    fit = kvplan.fit("gemma-3-27b", "h100-80gb", engine="vllm", context="32k", average="4k")
    assert fit.typical is not None
    assert fit.pool is not None

    def needed(batch_size: int) -> int:
        options: dict[str, Any] = {"max_model_len": 32768, "device_memory_bytes": fit.budget.memory.bytes}
        return kvplan.estimate("gemma-3-27b", seq_len=4096, batch_size=batch_size, engine="vllm", **options).total_bytes  # type: ignore[union-attr]

    assert needed(fit.typical) <= fit.pool.usable_bytes < needed(fit.typical + 1)
    assert fit.typical > fit.batch_size
    assert kvplan.fit("gemma-3-27b", "h100-80gb", engine="vllm", context="32k", average="32k").typical == fit.batch_size
    assert kvplan.fit("gemma-3-27b", "h100-80gb", engine="ideal", context="32k", average="4k").typical is None


def test_replicas_share_the_requests() -> None:
    one = kvplan.fit("llama-3.1-8b", "h100-80gb", engine="ideal", context="32k")
    four = kvplan.fit("llama-3.1-8b", "h100-80gb:4", engine="ideal", context="32k", tensor_parallel=1)
    assert (four.batch_size, four.cache_bytes) == (4 * one.batch_size, one.cache_bytes)


def test_the_smallest_gpu_that_serves_is_chosen() -> None:
    best = kvplan.fit("llama-3.1-8b", "all", engine="vllm", target="32 users at 32k")
    assert best.fits
    memory = best.budget.memory.bytes * best.question.gpus
    smaller = [f for f in best.tried if f.budget.memory.bytes * f.question.gpus < memory]
    assert smaller
    assert not any(f.fits for f in smaller)
    assert {f.question.gpu.id for f in best.tried} <= {g.id for g in gpus()}


@pytest.mark.parametrize("engine", ["vllm", "transformers", "llama.cpp", "ideal"])
def test_every_fix_is_a_command_that_fits(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    import shlex

    users = 16 if engine == "transformers" else 64  # whose prompts go through together: no card takes more
    fit = kvplan.fit("llama-3.1-8b", "rtx-4090", engine=engine, target=f"{users} users at 16k")
    assert not fit.fits
    assert len(fit.fixes) >= 3
    for fix in fit.fixes:
        words = shlex.split(fix.command)
        assert words[:2] == ["kvplan", "fit"]
        assert main([*words[1:], "-f", "json"]) == 0, fix
        answers = json.loads(capsys.readouterr().out)
        found = answers["laid" if engine == "llama.cpp" else "fits"][0]  # it deals layers out: the answer is by device
        requests = found["requests" if engine == "llama.cpp" else "batch_size"]
        assert found["fits"]
        assert f"{requests:,} x {found['context']:,} tokens" == fix.result


def test_nothing_is_typed_for_layers_that_no_checkpoint_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A paper's row, a rewritten model and a description have none; a description that names one on the hub has."""
    spec = tmp_path / "mine.yaml"
    spec.write_text("name: mine\nlayers: 4\nparameters: 1000000\nattention: {kv_heads: 2, head_dim: 128, attention_heads: 16}\n")
    designs = ["cla-paper/1b-h128-gqa2", kvplan.variant("llama-3.1-8b", "cla=2"), str(spec)]
    for model in designs:
        found = kvplan.fit(model, "h100", engine="vllm", context="8k", weights="2GiB")
        assert (found.fits, found.flags, found.needs) == (True, "", ()), model
        assert any("no checkpoint has these layers" in note for note in found.notes)
        assert kvplan.estimate(model, engine="lmdeploy").typed == ""
    assert main(["fit", designs[0], "--gpu", "h100", "--context", "8k", "--emit", "shell"]) == 2
    assert "no checkpoint of cla-paper/1b-h128-gqa2" in capsys.readouterr().err
    spec.write_text("hub: acme/mine\n" + spec.read_text())
    assert kvplan.fit(str(spec), "h100", engine="vllm", context="8k").flags.startswith("vllm serve acme/mine ")


def test_the_flags_are_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "llama-3.1-8b", "--gpu", "h100-80gb:2", "--context", "32k", "--kv-dtype", "fp8", "-f", "json"]) == 0
    fit = json.loads(capsys.readouterr().out)["fits"][0]
    assert fit["flags"] == (
        f"vllm serve meta-llama/Llama-3.1-8B --max-model-len 32768 --max-num-seqs {fit['batch_size']} "
        "--gpu-memory-utilization 0.92 --kv-cache-dtype fp8 --tensor-parallel-size 2"
    )


def test_what_to_type_is_safe_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shlex

    folder = tmp_path / "a b;rm x"
    folder.mkdir()
    config = {
        "model_type": "llama",
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "hidden_size": 512,
    }
    (folder / "config.json").write_text(json.dumps(config))
    for target, code in (("1 at 1k", 0), ("999999 at 1k", 1)):
        assert run(str(folder), "--gpu", "l4", "--weights", "1GB", "--target", target, "-f", "json") == code
        fit = json.loads(capsys.readouterr().out)["fits"][0]
        typed = [fit["flags"]] if code == 0 else [fix["command"] for fix in fit["fixes"]]
        assert all(shlex.split(text)[2] == str(folder) for text in typed)
        assert typed


@given(st.integers(1, 2**53))
def test_counts_and_sizes_in_commands_are_exact(amount: int) -> None:
    assert parse_count(count(amount)) == amount
    assert parse_size(size(amount)) == amount


def test_a_command_asks_the_same_question() -> None:
    asked = question("llama-3.1-8b", "ideal", 3 * GIB, context=32768, batch_size=2, options={"kv_dtype": "fp8"})
    assert command(asked) == (
        "kvplan fit llama-3.1-8b --gpu card -e ideal --context 32k --batch 2 --reserve 0B --memory 3GiB "
        "--utilization 1 --kv-dtype fp8"
    )


def run(*words: str) -> int:
    return main(["fit", *words])


def test_what_does_not_fit_exits_with_1_and_says_so_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("llama-3.1-70b", "--gpu", "h100-80gb", "--target", "32 users at 32k") == 1
    out = capsys.readouterr().out
    assert out.startswith("DOES NOT FIT on h100-sxm-80gb")
    assert "FIX: " in out
    assert run("llama-3.1-70b", "--gpu", "h100-80gb:8", "--target", "32 users at 32k") == 0
    assert capsys.readouterr().out.startswith("FITS on 8 x h100-sxm-80gb: 32 x 32,768 tokens")


def test_unknown_weights_are_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    by_hand = tmp_path / "mine.yaml"
    by_hand.write_text("name: mine\nlayers: 4\nattention: {kv_heads: 2, head_dim: 64}\nmax_tokens: 4096\n", encoding="utf-8")
    assert run(str(by_hand), "--gpu", "rtx-4090") == 2
    err = capsys.readouterr().err
    assert "the weights of mine are not known" in err
    assert "--weights" in err
    assert run(str(by_hand), "--gpu", "rtx-4090", "--weights", "13GB") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpu", "h1000"], "unknown GPU `h1000`"),
        (["--gpu", "a100"], "may be several GPUs"),
        (["--gpu", "apple-m3-max"], "--memory"),
        (["--gpu", ","], "no GPU was named"),
        (["--gpu", "l4:2", "--gpus", "3"], "differ"),
        (["--gpu", "l4:3", "--tp", "2"], "not a multiple"),
        (["--gpu", "l4:0"], "NAME:N"),
        (["--gpu", "l4", "--target", "lots"], "32 users at 32k"),
        (["--gpu", "l4", "--target", "1 at 1k", "--context", "1k"], "leave out"),
        (["--gpu", "l4", "--weights", "16"], "size with its unit"),
        (["--gpu", "l4", "--weights", "1GB", "--weights-dtype", "fp8"], "two answers"),
        (["--gpu", "l4", "--weights-dtype", "fp9"], "unknown format"),
        (["--gpu", "l4", "--utilization", "1.5"], "at most 1"),
        (["--gpu", "l4", "--utilization", "nan"], "at most 1"),
        (["--gpu", "l4", "-e", "vlm"], "did you mean `vllm`"),
        (["--gpu", "l4:2", "--tp", "2", "-e", "transformers"], "does not split"),
        (["--gpu", "l4", "--context", "0"], "at least 1"),
        (["--gpu", "l4", "--set", "max_model_leng=1"], "max_model_len"),
    ],
)
def test_bad_questions_get_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("llama-3.1-8b", *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("error: ")


def test_a_machine_without_a_gpu_is_told_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert run("llama-3.1-8b", "--gpu", "local") == 3
    assert "no GPU was found" in capsys.readouterr().err


def test_the_local_gpu_is_what_torch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    card(monkeypatch, name="Some Card", total=24 * GIB, free=20 * GIB, capability=(8, 9))
    fit = kvplan.fit("llama-3.1-8b", "local", engine="ideal", context="8k")
    line = fit.budget.memory
    assert (line.bytes, line.basis) == (24 * GIB, "measured")
    assert "Some Card, torch.cuda.mem_get_info" in line.source
    assert f"{4 * GIB:,} bytes are in use now" in line.source


#: An idle H200 as it answered: nvidia-smi's total is more than torch's, and an empty process takes a context.
H200 = {"name": "NVIDIA H200", "total": 150_109_880_320, "free": 149_557_477_376, "capability": (9, 0)}
SMI_TOTAL = 143_771 * MIB


def card(
    monkeypatch: pytest.MonkeyPatch, *, name: str, total: int, free: int, capability: tuple[int, int], used: int | None = None
) -> None:
    """A machine whose torch, and where `used` is said whose driver, answer so."""
    from types import SimpleNamespace

    cuda = SimpleNamespace(
        is_available=lambda: True,
        mem_get_info=lambda index: (free, total),
        get_device_capability=lambda index: capability,
        get_device_name=lambda index: name,
    )
    nvml = SimpleNamespace(
        nvmlMemory_v2=2,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: name.encode(),
        nvmlDeviceGetMemoryInfo=lambda handle, version: SimpleNamespace(total=SMI_TOTAL, used=used),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, version=SimpleNamespace(hip=None)))
    monkeypatch.setitem(sys.modules, "pynvml", None if used is None else nvml)


def test_the_local_gpu_says_what_is_free_and_what_a_context_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    card(monkeypatch, **H200, used=0)
    fit = kvplan.fit("llama-3.1-8b", "local", engine="vllm@0.26.0", context="8k")
    assert fit.question.free == (150_109_880_320,)
    assert (fit.question.learned.total, fit.question.learned.context) == (150_109_880_320, 552_402_944)
    memory, by_name = fit.budget.memory, {line.name: line for line in fit.budget.lines}
    assert (memory.bytes, memory.low, memory.high, memory.basis) == (150_109_880_320,) * 3 + ("measured",)
    assert by_name["non-torch"].basis == "measured"  # the driver's name says that it is an H200, for which it is known
    assert not fit.budget.refused


def test_the_local_gpu_is_shown_with_its_total_free_and_context(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card(monkeypatch, **{**H200, "free": H200["free"] - GIB}, used=GIB)
    run("llama-3.1-8b", "-e", "vllm@0.26.0", "--gpu", "local", "--context", "8k")
    said = " ".join(capsys.readouterr().out.split())
    assert "measured now: 138.80 GiB are free before this process" in said
    assert "GPU memory (local) 139.80 measured" in said
    assert "context, not in that sum 0.514 measured torch.cuda.mem_get_info" in said
    for engine, inside in (("vllm@0.26.0", False), ("transformers", True), ("mlx-lm", True)):
        run("llama-3.1-8b", "-e", engine, "--gpu", "local", "--context", "8k", "-f", "json")
        [fit] = json.loads(capsys.readouterr().out)["fits"]
        rows = [line for line in fit["budget" if inside else "beside"] if line["name"] == "context"]
        said = [(abs(line["bytes"]), line["basis"], line["source"]) for line in rows]
        assert said == [(552_402_944, "measured", "torch.cuda.mem_get_info")], engine
        assert fit["context_bytes"] == 552_402_944
        others = [line["bytes"] for line in fit["budget"] if line["name"] == "other processes"]
        assert others == ([-(2**30)] if engine == "transformers" else [])
        taken = sum(line["bytes"] for line in fit["budget"] if line["name"] in {"context", "activations and runtime"})
        assert engine != "mlx-lm" or taken == -(2**30)  # the assumed line has a context in it
    assert run("llama-3.1-8b", "-e", "vllm@0.26.0", "--gpu", "h200", "--context", "8k") == 0
    assert "measured now" not in capsys.readouterr().out


def test_transformers_leaves_what_the_pass_of_these_requests_does_not_take() -> None:
    """The same number in the verdict, the lines and the fields; the exit code's side is the band's low end."""
    fit = kvplan.fit("llama-3.1-8b", "h100", engine="transformers", context="8k")
    assert fit.span is not None
    low, high = fit.span
    assert 0 < low < fit.batch_size < high
    assert fit.budget.ledger is not None
    assert [line.name for line in fit.budget.lines if line.basis == "assumed" and line.low] == ["context", "libraries"]
    for batch_size, fits, unsure in ((low, True, False), (low + 1, False, True), (high, False, True), (high + 1, False, False)):
        one = kvplan.fit("llama-3.1-8b", "h100", engine="transformers", context="8k", batch_size=batch_size)
        assert (one.fits, one.unsure) == (fits, unsure), batch_size
        cache = one.budget.cache
        assert (cache.low >= one.cache_bytes, cache.high >= one.cache_bytes) == (fits, fits or unsure)
        words = verdict(one)  # by the best value, whatever the ends of the band
        assert words.startswith("FITS on" if cache.bytes >= one.cache_bytes else "DOES NOT FIT on"), words
        assert (" if transformers leaves " in words or " unless transformers leaves " in words) is unsure
    short = kvplan.fit("llama-3.1-8b", "h100", engine="transformers", context="8k", prompt_len=512)
    assert short.batch_size > 1.5 * fit.batch_size
    assert any("prompt_len" in note for note in fit.notes)
    assert not any("prompt_len" in note for note in short.notes)


def test_a_reserve_that_is_given_replaces_what_transformers_needs_beside_its_weights() -> None:
    fit = kvplan.fit("llama-3.1-8b", "h100", engine="transformers", context="8k", reserve="2GiB")
    assert fit.span is None or fit.span[1] - fit.span[0] <= 1  # the card's total alone has a band
    assert fit.batch_size == fit.budget.cache.bytes // 2**30


def test_what_others_use_of_the_local_gpu_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 100 * GIB
    card(monkeypatch, **{**H200, "free": H200["free"] - taken}, used=taken)
    fit = kvplan.fit("llama-3.1-8b", "local", engine="vllm@0.26.0", context="8k")
    assert fit.question.free == (150_109_880_320 - taken,)
    assert fit.question.learned.context == 552_402_944
    assert "39.8" in fit.budget.refused
    assert not fit.fits
    told = kvplan.fit("llama-3.1-8b", "local", engine="vllm@0.26.0", context="8k", free="139GiB")
    assert told.fits


def test_json_and_csv_carry_whole_bytes_and_the_same_answer(capsys: pytest.CaptureFixture[str]) -> None:
    import csv
    import io

    words = ["llama-3.1-8b", "qwen2.5-7b", "--gpu", "h100-80gb", "--context", "32k"]
    assert run(*words, "-f", "json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == 2
    assert [fit["model"] for fit in data["fits"]] == ["llama-3.1-8b", "qwen2.5-7b"]
    assert run(*words, "-f", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for fit in data["fits"]:
        assert sum(line["bytes"] for line in fit["budget"]) == fit["budget_bytes"]
        [decisive] = [row for row in rows if row["model"] == fit["model"] and row["decisive"] == "True"]
        assert (int(decisive["batch_size"]), int(decisive["cache_bytes"])) == (fit["batch_size"], fit["cache_bytes"])


def test_a_report_goes_to_a_file(tmp_path: Path) -> None:
    for fmt in ("table", "markdown", "json", "csv"):
        assert run("llama-3.1-8b", "--gpu", "l4", "-f", fmt, "-o", str(tmp_path / fmt)) == 0
        assert "llama-3.1-8b" in (tmp_path / fmt).read_text()


@pytest.mark.parametrize(
    ("text", "pair"), [("32 users at 32k", (32, 32768)), ("1x8192", (1, 8192)), ("1,000 requests @ 4k tokens", (1000, 4096))]
)
def test_targets_are_read_in_words(text: str, pair: tuple[int, int]) -> None:
    assert parse_target(text) == pair


@each("entry", [entry for entry in gpus() if len(entry.marketed_gb) == 1], ids=lambda entry: entry.id)
def test_a_gpus_memory_is_near_the_number_on_its_box(entry: Gpu) -> None:
    line = gpu_memory(entry)
    assert line.basis == ("measured" if entry.reported_bytes or entry.cuda_total_bytes else "assumed")
    assert 0.85 < line.bytes / (entry.marketed_gb[0] * 10**9) < 1.1


@each("entry", [entry for entry in gpus() if len(entry.marketed_gb) > 1], ids=lambda entry: entry.id)
def test_a_gpu_of_several_sizes_asks_which(entry: Gpu) -> None:
    with pytest.raises(OptionError) as problem:
        gpu_memory(entry)
    assert problem.value.hint.startswith("say which with memory, such as memory='")


def test_a_name_alone_means_the_module() -> None:
    assert gpu("h100-80gb").id == "h100-sxm-80gb"
    assert gpu("a100-80gb").id == "a100-sxm-80gb"
    with pytest.raises(OptionError):
        gpu("a100")
