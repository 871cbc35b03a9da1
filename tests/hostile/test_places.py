"""What is typed of cards, layers and shares is answered or refused in one sentence: `fit`, `estimate` and `validate` by device.

Elsewhere: random ones in tools/attack.py (`placed`); plans with `cards` in tests/questions/committee/test_dealt.py.
"""

from pathlib import Path

import golden
import pytest
from doors import answered, here, refused

TINY = str(golden.GOLDEN / "gguf" / "tiny-llama-full-le.gguf")
#: What each command adds to a model on cards; the least that `validate` may take.
ASKED = {
    "fit": ("-b", "1"),
    "estimate": (),
    "validate": ("--device", "cpu", "--limit", "64MiB"),
}
WRONG = {
    ("--gpu", "rtx-4090:99999999999"): "at most 16 devices",
    ("--gpu", "rtx-4090," * 5000): "at most 16 devices are spread over, got 5,000",
    ("--gpu", "rtx-4090:0"): "",
    ("--gpu", "rtx-4090:-1"): "",
    ("--gpu", ","): "no GPU was named",
    ("--gpu", "\x1b[31m"): "unknown GPU",
    ("--gpu", "x" * 9999): "unknown GPU",
    ("--gpu", "rtx-4090,\u202egpu"): "unknown GPU",
    ("--gpu", "rtx-4090:2", "-ngl", "9" * 5000): "n_gpu_layers",
    ("--gpu", "rtx-4090:2", "-ngl", "1e9"): "n_gpu_layers",
    ("--gpu", "rtx-4090:2", "-ngl", "-3"): "n_gpu_layers",
    ("--gpu", "rtx-4090:2", "-ts", "1e999,nan"): "is no share",
    ("--gpu", "rtx-4090:2", "-ts", "-1,2"): "is no share",
    ("--gpu", "rtx-4090:2", "--free", "-5GiB"): "--free",
    ("--gpu", "rtx-4090:2", "--free", "1GiB,2GiB,3GiB"): "3 sizes for 2 devices",
    ("--gpu", "rtx-4090:2", "-s", "9" * 18): "expected a whole number",
    ("--gpu", "rtx-4090:2", "-b", "1" * 4400): "",
    ("--gpu", "rtx-4090", "--gpu", "rtx-3090", "-ngl", "1"): "--gpu is given twice",
}


@pytest.mark.parametrize("command", ASKED)
def test_hostile_cards_layers_and_shares_are_one_sentence(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for typed, words in WRONG.items():
        more = ASKED[command] if "-b" not in typed else ASKED[command][2:]
        refused(here(capsys, command, TINY, "-e", "llama.cpp", *typed, *more), codes=(2, 3), words=words)


def test_words_of_another_engine_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Ollama deals layers out, too, and is told so by `num_gpu`."""
    for typed in (("-ngl", "3"), ("-ts", "1,1"), ("-nkvo",)):
        refused(here(capsys, "fit", TINY, "-e", "ollama", "--gpu", "rtx-4090:2", *typed), words="is told nothing of")


def test_parts_are_allocated_within_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`validate --gpu` takes no more than it was told, whatever lies where; questions that are not its own are refused."""
    asked = ("validate", TINY, "-e", "llama.cpp", "--gpu", "rtx-4090:2", "--device", "cpu")
    for typed in (("-ts", "0,0"), ("-ngl", "2147483647"), ("-ngl", "0"), ("-nkvo",)):
        answered(here(capsys, *asked, "-s", "256", "--limit", "64MiB", *typed), codes=(0,))
    refused(here(capsys, *asked, "-s", "1M", "-b", "9", "--limit", "1MiB"), codes=(1,), words="limit allows")
    for typed in (("--probe-max", "--limit", "1GiB"), ("--against", "transformers"), ("--tp", "2")):
        refused(here(capsys, *asked, *typed), words="where things lie is validated of one process")
    refused(here(capsys, "validate", TINY, "-e", "vllm", "--gpu", "rtx-4090:2", "--device", "cpu"), words="deals no layers out")
    assert not list(tmp_path.iterdir())
