"""Errors name parameters: as Python does from Python, as flags on the command line, and never the other way round."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

import kvplan
from kvplan.cli.app import COMMANDS, app, main
from kvplan.cli.options import flag
from kvplan.errors import KvplanError, OptionError, SpecError

ROOT = Path(kvplan.__file__).parent
BELOW = [p for p in sorted(ROOT.rglob("*.py")) if p.relative_to(ROOT).parts[0] not in {"cli", "__main__.py"}]

#: What an error's class, or what makes one, ends in.
KINDS = ("Error", "UnknownModel", "Missing", "DoesNotFit", "Mismatch", "super().__init__")


def texts_of_errors(path: Path) -> Iterator[str]:
    """Every text inside the making of an error, and every `what=`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(KINDS):
            inside: list[ast.AST] = [node]
        elif isinstance(node, ast.keyword) and node.arg in {"what", "hint"}:
            inside = [node.value]
        else:
            continue
        for part in inside:
            yield from (x.value for x in ast.walk(part) if isinstance(x, ast.Constant) and isinstance(x.value, str))


def test_no_error_below_the_command_line_speaks_flags() -> None:
    own = {option for command in COMMANDS for option in flags_of(command)}
    assert len(own) > 30
    found = {
        f"{path.relative_to(ROOT)}: {text}"
        for path in BELOW
        for text in texts_of_errors(path)
        for word in re.findall(r"--[a-z][a-z-]*", text)
        if word in own
    }
    assert not found


def flags_of(command: str) -> set[str]:
    found = get_command(app).get_command(None, command)  # type: ignore[attr-defined]
    return {option for parameter in found.params for option in parameter.opts}


def test_every_parameter_that_an_error_names_is_a_flag_of_some_command() -> None:
    flags = {option for command in COMMANDS for option in flags_of(command)}
    named = {n for p in BELOW for n in re.findall("«([a-z][a-z0-9_]*)", p.read_text(encoding="utf-8")) if p.name != "errors.py"}
    assert len(named) > 20
    assert {name: flag(name) for name in named if flag(name) not in flags} == {}


def test_one_sentence_serves_both() -> None:
    problem = OptionError("«weights_dtype fp9»: unknown; «gpus 3» of «gpu NAME»", hint="give «weights 16GB» or «context»")
    assert str(problem) == "weights_dtype='fp9': unknown; gpus=3 of gpu=NAME"
    assert problem.hint == "give weights='16GB' or context"
    assert problem.render() == f"error: {problem}\n\nhint: {problem.hint}"
    assert problem.render(flag) == (
        "error: --weights-dtype fp9: unknown; --gpus 3 of --gpu NAME\n\nhint: give --weights 16GB or --context"
    )


def test_text_that_names_no_parameter_stays() -> None:
    assert str(SpecError("«Größe», « x», «A» and ««»")) == "«Größe», « x», «A» and ««»"


@pytest.mark.parametrize(
    ("python", "typed", "words", "flags"),
    [
        ({"target": "8 users at 32k", "context": "8k"}, ("--target", "8 users at 32k", "--context", "8k"),
         ("target says both the requests and the context", "leave out context and batch_size"),
         ("--target says both the requests and the context", "leave out --context and --batch")),
        ({"context": "x"}, ("--context", "x"), ("context: expected",), ("--context: expected",)),
        ({"batch_size": "x"}, ("--batch", "x"), ("batch_size: expected",), ("--batch: expected",)),
        ({"weights": "16"}, ("--weights", "16"), ("weights: expected a size",), ("--weights: expected a size",)),
        ({"weights": "16GB", "weights_dtype": "fp8"}, ("--weights", "16GB", "--weights-dtype", "fp8"),
         ("weights and weights_dtype are two answers",), ("--weights and --weights-dtype are two answers",)),
        ({"weights_dtype": "fp9"}, ("--weights-dtype", "fp9"),
         ("weights_dtype: unknown",), ("--weights-dtype: unknown",)),
        ({"utilization": 2}, ("--utilization", "2"), ("utilization: expected a share",), ("--utilization: expected a share",)),
        ({"gpus": 3, "tensor_parallel": 2}, ("--gpus", "3", "--tp", "2"), ("gpus=3 is not a multiple of tensor_parallel=2",),
         ("--gpus 3 is not a multiple of --tp 2",)),
        ({"memory": "x"}, ("--memory", "x"), ("memory: expected a size",), ("--memory: expected a size",)),
        ({"average": "0"}, ("--average", "0"), ("average: expected",), ("--average: expected",)),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, dict) else "",
)  # fmt: skip
def test_fit_names_what_was_given_in_the_words_of_whoever_asks(
    python: dict, typed: tuple[str, ...], words: tuple[str, ...], flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KvplanError) as caught:
        kvplan.fit("llama-3.1-8b", "h100-80gb", **python)
    said = f"{caught.value}\n{caught.value.hint}"
    assert all(word in said for word in words)
    assert "--" not in said
    assert main(["fit", "llama-3.1-8b", "--gpu", "h100-80gb", *typed]) == 2
    printed = capsys.readouterr().err
    assert all(word in printed for word in flags)
    assert "«" not in printed


def test_reserve_names_what_was_given_in_the_words_of_whoever_asks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError) as caught:
        kvplan.reserve("llama-3.1-8b", memory="16GiB", weights="16GB")
    assert "go with gpu" in str(caught.value)
    assert main(["reserve", "llama-3.1-8b", "--memory", "16GiB", "--weights", "16GB"]) == 2
    assert "go with --gpu" in capsys.readouterr().err
