"""The edge: every way for a command to end becomes an exit code and, where something is wrong, a sentence."""

import sys
from typing import Any

import pytest

from kvplan.cli.app import LeftByLibrary, main
from kvplan.cli.output import terminal_width


@pytest.mark.parametrize(
    ("code", "said"), [(5, "exit code 5"), (0, "exit code 0"), (None, "no exit code"), ("a\x1b[31m", "code a")]
)
def test_a_library_that_leaves_is_no_answer(
    code: Any, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leave(*arguments: object, **options: object) -> None:
        sys.exit(code)

    monkeypatch.setattr("kvplan.questions.estimate.plan_media", leave)
    assert main(["estimate", "llama-3.1-8b"]) == 70
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: a library ended the command before it had an answer (")
    assert said in shown.err
    assert "hint: " in shown.err
    assert "\x1b" not in shown.err
    with pytest.raises(LeftByLibrary) as caught:
        main(["--debug", "estimate", "llama-3.1-8b"])
    assert isinstance(caught.value.__cause__, SystemExit)


def test_help_and_version_are_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == main(["fit", "--help"]) == main(["--version"]) == 0
    assert capsys.readouterr().err == ""


def test_a_pipe_is_80_columns_wide(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal_width() == 80
    assert main(["dtypes"]) == main(["explain", "gemma-3-27b"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    monkeypatch.setenv("COLUMNS", "120")
    assert terminal_width() == 120
