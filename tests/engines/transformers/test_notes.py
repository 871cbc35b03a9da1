"""A value that the library changes without saying so is predicted as it behaves, and `explain` says so."""

import pytest

import kvplan
from kvplan.cli.app import main
from kvplan.engines.transformers.models import _CHANGES
from kvplan.engines.transformers.notes import _WHY

#: Model types that only older releases keep otherwise; the sentence for them is general.
OLDER = {"gemma3n_text", "olmo_hybrid", "lfm2", "lfm2_moe"}


def test_every_type_that_is_kept_otherwise_has_its_sentence() -> None:
    assert set(_WHY) == set(_CHANGES) - OLDER


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("falcon-40b", "broadcasts keys and values to every query head"),
        ("gpt-neo-1.3b", "local layers are only a mask"),
        ("hunyuan-large", "reads neither `use_cla` nor `cla_share_factor`"),
        ("mimo-v2-flash", "ignores the `swa_*` keys"),
    ],
)
def test_explain_says_what_the_library_does_otherwise(model: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", model, "-e", "transformers", "-f", "markdown"]) == 0
    assert words in capsys.readouterr().out.replace("\\", "")


def test_a_model_that_is_kept_as_it_says_has_no_such_note() -> None:
    answer = kvplan.estimate("llama-3.1-8b", seq_len=10, engine="transformers")
    assert answer.notes == ()  # type: ignore[union-attr]


def test_an_ignored_key_is_shown_with_its_reason() -> None:
    config = {"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False}
    model = kvplan.load(config)
    assert any(f.key == "sliding_window" and f.origin == "ignored: `use_sliding_window` is false" for f in model.provenance)
