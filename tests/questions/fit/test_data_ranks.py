"""Data ranks: a cache and requests of each, one model's experts over all of them; what is typed is what was counted."""

import json
import shlex

import pytest
from each import each

import kvplan
from kvplan.api.fit import questions_of
from kvplan.api.memory import known_weights
from kvplan.cli.app import main
from kvplan.errors import OptionError
from kvplan.questions.fit.answer import answer
from kvplan.questions.fit.question import Fit, Question

MODEL = "deepseek-v3"


def question(gpu: str, engine: str = "vllm", model: str = MODEL, **asked: object) -> Question:
    loaded = kvplan.load(model)
    options = asked.pop("options", {})
    (found,) = questions_of(
        model, loaded, known_weights(model, loaded, None, None), gpu, engine=engine, context="8k", options=options, **asked
    )
    return found


def fit(gpu: str, engine: str = "vllm", model: str = MODEL, **asked: object) -> Fit:
    return answer(question(gpu, engine, model, **asked), brief=True)


@each(
    ("asked", "devices", "caches", "split"),
    [
        ({"data_parallel": 8, "expert_parallel": True}, 8, 8, 1),
        ({"data_parallel": "all", "expert_parallel": True}, 8, 8, 1),
        ({"data_parallel": "4"}, 8, 4, 2),
        ({"data_parallel": 2, "tensor_parallel": 2}, 4, 4, 2),  # two copies
        ({"expert_parallel": True}, 8, 1, 8),
        ({"options": {"data_parallel_size": "8", "enable_expert_parallel": "true"}}, 8, 8, 1),
        ({"tensor_parallel": 2}, 2, 4, 2),  # replicas
    ],
)
def test_devices_are_ranks_times_those_that_split(asked: dict[str, object], devices: int, caches: int, split: int) -> None:
    q = question("h200:8", **asked)
    assert (q.devices, q.caches, q.tensor_parallel, q.gpus) == (devices, caches, split, 8)


def test_without_a_number_of_gpus_there_are_as_many_as_the_ranks_take() -> None:
    assert question("h200", data_parallel=8, tensor_parallel=2).gpus == 16
    assert question("h200", "sglang", data_parallel=8, expert_parallel=True).gpus == 8


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_rank_holds_requests_of_its_own(engine: str) -> None:
    found = fit("b200:8", engine, data_parallel=8, expert_parallel=True)
    split = fit("b200:8", engine)
    assert found.batch_size % 8 == 0
    assert found.batch_size > 3 * split.batch_size  # the latents once, and not eight times
    assert split.budget.weights.bytes < found.budget.weights.bytes < 2 * split.budget.weights.bytes


def test_sglang_is_told_the_requests_of_all_groups_and_vllm_those_of_one() -> None:
    for engine, flag in (("sglang", "--max-running-requests"), ("vllm", "--max-num-seqs")):
        found = kvplan.fit(MODEL, "b200:8", engine=engine, context="8k", data_parallel=8, expert_parallel=True)
        words = shlex.split(found.flags)
        told = int(words[words.index(flag) + 1])
        assert told == (found.batch_size if engine == "sglang" else found.batch_size // 8)
        expected = {
            "sglang": "--tp-size 8 --attn-dp-size 8 --ep-size 8",
            "vllm": "--data-parallel-size 8 --enable-expert-parallel",
        }
        assert found.flags.endswith(expected[engine])


def test_replicas_of_a_mixture_are_servers_of_their_own_and_dense_ones_are_not() -> None:
    mixture = kvplan.fit("mixtral-8x7b", "h100:4", engine="vllm", context="8k", tensor_parallel=2)
    assert "--data-parallel-size" not in mixture.flags  # it would spread the experts over all four
    assert any("one of the 2 replicas" in note for note in mixture.notes)
    dense = kvplan.fit("llama-3.1-8b", "h100:4", engine="vllm", context="8k", tensor_parallel=2)
    assert dense.flags.endswith("--data-parallel-size 2")
    assert not any("one of the 2 replicas" in note for note in dense.notes)


def test_given_weights_are_shared_as_the_counted_ones_are() -> None:
    counted = fit("h200:8", data_parallel=8, expert_parallel=True)
    loaded = kvplan.load(MODEL)
    line = known_weights(MODEL, loaded, "1376GB", None)  # about twice what is counted
    (q,) = questions_of(
        MODEL, loaded, line, "h200:8", weights_flag="--weights 1376GB", engine="vllm", context="8k", data_parallel=8,
        expert_parallel=True, options={},
    )  # fmt: skip
    assert answer(q, brief=True).budget.weights.bytes == pytest.approx(2 * counted.budget.weights.bytes, rel=0.02)


def test_data_ranks_are_offered_as_a_fix_and_the_command_fits(capsys: pytest.CaptureFixture[str]) -> None:
    found = kvplan.fit(MODEL, "h200:8", engine="vllm", target="150 users at 8k")
    assert not found.fits
    assert any("--dp 8 --ep" in note for note in found.notes)
    fix = next(fix for fix in found.fixes if "data ranks" in fix.change)
    capsys.readouterr()
    assert main([*shlex.split(fix.command)[1:], "-f", "json"]) == 0
    (again,) = json.loads(capsys.readouterr().out)["fits"]
    assert again["fits"]
    dense = kvplan.fit("llama-3.3-70b", "h100:2", engine="vllm", target="150 users at 8k")
    assert not any("data ranks" in fix.change for fix in dense.fixes)


@each(
    ("engine", "asked", "words"),
    [
        ("llama.cpp", {"data_parallel": 2}, "no data ranks"),
        ("vllm", {"data_parallel": 3}, "not a multiple"),
        ("vllm", {"data_parallel": 0}, "at least 1"),
        ("vllm", {"data_parallel": 10**11}, "from 1 to 65,536"),
        ("vllm", {"data_parallel": "many"}, "whole number"),
        ("vllm", {"data_parallel": 8, "options": {"data_parallel_size": 4}}, "given twice"),
    ],
)
def test_what_cannot_be_is_refused(engine: str, asked: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        fit("h200:8", engine, **asked)
