"""What was asked and is not what it looks like is said beside the number, through the command line, for every engine."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from kvplan.cli.app import main
from kvplan.engines import ABOUTS, PREDICTED

Notes = Callable[[str], list[str]]
BERT = {"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512}


@pytest.fixture
def notes(capsys: pytest.CaptureFixture[str]) -> Notes:
    def asked(line: str) -> list[str]:
        assert main([*shlex.split(line), "-f", "json"]) == 0
        data = json.loads(capsys.readouterr().out)
        found = [note for key in ("estimates", "fits", "rows") for answer in data.get(key, ()) for note in answer["notes"]]
        return [*found, *data.get("notes", ())]

    return asked


@pytest.mark.parametrize("engine", [name for name in PREDICTED if not ABOUTS[name].behind])
def test_a_length_beyond_the_model_is_said(engine: str, notes: Notes) -> None:
    said = "4,096 tokens are more than the model's own limit of 2,048 (-s max)"
    assert notes(f"estimate tinyllama-1.1b -s 4k -e {engine}").count(said) == 1
    assert said not in notes(f"estimate tinyllama-1.1b -s 2k -e {engine}")


def test_a_front_end_that_cuts_the_length_refuses_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "tinyllama-1.1b", "-s", "4k", "-e", "ollama"]) == 1
    assert "Ollama cuts num_ctx to the 2,048 tokens" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "line", ["sweep gpt2 -s 512,2k", "fit gpt2 --gpu h100 -e ideal -s 2k", "fit gpt2 --gpu h100 -e ideal -s 2k -b 1"]
)
def test_every_question_says_it_once(line: str, notes: Notes) -> None:
    assert [note for note in notes(line) if "own limit of 1,024" in note] == [
        "2,048 tokens are more than the model's own limit of 1,024 (-s max)"
    ]


def test_a_decoder_beside_an_encoder_has_a_limit_too(notes: Notes) -> None:
    assert any("own limit of 448" in note for note in notes("estimate whisper-large-v3"))


def test_a_description_without_a_limit_has_none(tmp_path: Path, notes: Notes) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text("layers: 2\nattention: {kv_heads: 4, head_dim: 64}\nattention_heads: 8\n")
    for engine in ("ideal", "vllm"):
        assert not any("max_model_len" in note or "limit" in note for note in notes(f"estimate {spec} -s 1M -e {engine}"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("estimate llama-3.2-11b-vision", "1 image of 1024x1024 is 1 token, and 6,404 keys of each cross-attention layer"),
        ("estimate t5-small -s 64", "cross-attention counts nothing"),
        ("estimate t5-small -s 64 -e transformers", "cross-attention counts nothing"),
        ("estimate qwen2.5-vl-7b --encoder-len 9", "encoder tokens change nothing: no layer has cross-attention"),
        ("estimate whisper-base -s 9 --encoder-len 9", "the model fixes them, 1,500"),
        ("estimate gpt2 -s 9 -e vllm --set block_size=17", "block_size 17 is no multiple of 16"),
        (
            """estimate gpt2 -s 9 -e vllm --set 'speculative_config={"method":"eagle3","num_speculative_tokens":3}'""",
            "the layers of the eagle3 drafter are not counted",
        ),
    ],
)
def test_what_changes_nothing_or_is_missing_is_said(line: str, said: str, notes: Notes) -> None:
    assert sum(said in note for note in notes(line)) == 1


@pytest.mark.parametrize("line", ["estimate t5-small -s 64 --encoder-len 64", "estimate gpt2 -s 9 -e vllm"])
def test_nothing_is_said_where_nothing_is_wrong(line: str, notes: Notes) -> None:
    assert notes(line) == []


@pytest.mark.parametrize("engine", [name for name in PREDICTED if name != "ideal"])
def test_a_release_of_which_nothing_was_read_is_said(engine: str, notes: Notes, capsys: pytest.CaptureFixture[str]) -> None:
    latest = ABOUTS[engine].latest
    newer = "99" + latest[latest.index(".") :]
    assert any(f"{newer} is newer than {latest}" in note for note in notes(f"estimate llama-3.1-8b -e {engine}@{newer}"))
    assert not any("newer" in note or "older" in note for note in notes(f"estimate llama-3.1-8b -e {engine}"))
    answered = main(shlex.split(f"estimate llama-3.1-8b -e {engine}@0.0.1 -f json")) == 0  # what was not studied may be refused
    if answered and ABOUTS[engine].recorded:
        assert "0.0.1 is older than" in capsys.readouterr().out


def test_theory_has_no_releases(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "gpt2", "-e", "ideal@2"]) == 2
    assert "has no versions" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["ideal", "transformers", "vllm"])
@pytest.mark.parametrize(
    ("keys", "keeps"),
    [
        ({"architectures": ["BertModel"]}, False),
        ({"architectures": ["BertForMaskedLM"]}, False),
        ({"architectures": ["BertModel"], "is_decoder": True}, True),
        ({"architectures": ["BertLMHeadModel"]}, True),
        ({}, True),
    ],
)
def test_an_encoder_keeps_no_cache(
    engine: str, keys: dict, keeps: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**BERT, **keys}))
    assert main(["estimate", str(path), "-s", "512", "-e", engine, "-f", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["estimates"]
    assert ("encoder only: keeps no cache" in found["notes"]) != keeps
    if engine != "vllm" or not keeps:
        assert (found["total_bytes"] > 0) == keeps


def test_the_next_token_costs_its_drafter_too(capsys: pytest.CaptureFixture[str]) -> None:
    per_token = {}
    for name, draft in (("alone", []), ("drafted", ["--set", "draft=llama-3.2-1b"])):
        assert main(["estimate", "llama-3.1-8b", "-e", "vllm", *draft, "-f", "json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["estimates"]
        per_token[name] = found["bytes_per_token"]
    assert per_token == {"alone": 131_072, "drafted": 163_840}
