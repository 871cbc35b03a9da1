"""`fit --max-seqs`: the largest number of requests at once that a server can be told, and still starts; never one more."""

import json
from typing import Any

import pytest
from each import each

import kvplan
from kvplan.cli.app import main
from kvplan.errors import OptionError

HYBRID = "falcon-h1-7b"


def found(model: str = HYBRID, gpu: str = "rtx-4090-24gb", **more: Any) -> kvplan.Fit:
    fit = kvplan.fit(model, gpu, context="32k", max_seqs=True, **more)
    assert fit.seqs is not None
    return fit


@pytest.mark.parametrize("options", [{}, {"max_num_batched_tokens": 24}])
def test_the_largest_number_starts_and_one_more_does_not(options: dict[str, Any]) -> None:
    fit = found(**options)
    seqs = fit.seqs
    assert seqs is not None
    assert 0 < seqs.low <= seqs.most <= seqs.high
    card = fit.question.gpu.id
    told, beyond = (kvplan.try_fit(HYBRID, card, context="32k", max_num_seqs=seqs.most + n, **options).pool for n in (0, 1))
    assert told is not None
    assert beyond is not None
    assert told.refused == ""
    assert beyond.refused == seqs.stops != ""
    assert fit.to_dict()["max_seqs"] == seqs.to_dict()


def test_states_stop_a_hybrid_and_a_step_stops_the_others() -> None:
    states, eager = found().seqs, found(enforce_eager=True).seqs
    assert states is not None
    assert eager is not None
    assert f"lower max_num_seqs to at most {states.most} " in states.stops
    assert "max_num_batched_tokens (2048) must be greater than or equal to max_num_seqs (2049)" in eager.stops
    assert eager.most == 2048 > states.most


def test_what_does_not_start_with_one_says_why() -> None:
    fit = kvplan.try_fit("llama-3.1-70b", "rtx-4090-24gb", context="8k", max_seqs=True)
    assert fit.seqs is not None
    assert fit.seqs.most == 0
    assert fit.seqs.stops.startswith("No available memory")


def test_nobody_asks_nobody_is_told() -> None:
    fit = kvplan.fit(HYBRID, "rtx-4090-24gb", context="32k")
    assert fit.seqs is None
    assert fit.to_dict()["max_seqs"] is None


@each(
    ("options", "words"),
    [
        ({"engine": "ideal"}, "is not told how many requests"),
        ({"engine": "transformers"}, "is not told how many requests"),
        ({"engine": "llama.cpp"}, "is not told how many requests"),
        ({"max_num_seqs": 4}, "leave out|it is given"),
        ({"max_num_batched_tokens": -1}, "max_num_batched_tokens"),
    ],
)
def test_engines_without_such_a_number_and_numbers_that_are_given_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        kvplan.fit(HYBRID, "rtx-4090-24gb", context="32k", max_seqs=True, **options)


def test_the_command_line_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["fit", HYBRID, "--gpu", "4090", "-s", "32k", "--max-seqs"]
    assert main(typed) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert main([*typed, "-f", "json"]) == 0
    seqs = json.loads(capsys.readouterr().out)["fits"][0]["max_seqs"]
    assert f"the largest max_num_seqs that starts for requests of up to 32,768 tokens is {seqs['most']}" in out
    assert f"with one more vllm would say: {seqs['stops']}" in out
    without = [word for word in typed if word not in {"-s", "32k"}]
    for wrong in (["-s", "8k,32k"], ["-s", "32k", "-e", "ideal"], ["-s", "32k", "--set", "max_num_seqs=3"]):
        assert main([*without, *wrong]) == 2
        assert "--max-seqs" in capsys.readouterr().err
