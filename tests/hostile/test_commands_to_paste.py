"""HOSTILE.md 2: what stands in a model's name never runs when a command is pasted.

Elsewhere: the commands that engines take are typed in tests/questions/fit.
"""

import json
import shlex
from pathlib import Path

import pytest
from doors import SMALL, answered, here, refused

ENGINES = ("llama.cpp", "vllm", "sglang", "tensorrt-llm", "transformers")
NAMES = ("m; touch pwned #", "$(touch pwned)", "`touch pwned`", "a b'c", "-x --evil")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_folders_name_is_one_word_of_the_command(
    name: str, engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**SMALL, "max_position_embeddings": 4096}))
    end = here(capsys, "fit", f"./{name}", "-e", engine, "--gpu", "rtx-4090", "--weights", "1GB", "-s", "1k", "-f", "json")
    answered(end)
    typed = commands(json.loads(end.out))
    assert typed or engine == "transformers"
    for command in typed:
        words = shlex.split(command)
        assert "touch" not in words  # a word of its own would be a command of its own
        assert name.split()[0] not in words
        assert any(name in word for word in words) or (engine == "llama.cpp" and "FILE.gguf" in words)  # it takes no folder


def commands(value: object) -> list[str]:
    """Every command in an answer."""
    if isinstance(value, dict):
        return [
            inner for key, part in value.items() for inner in ([part] if key in {"flags", "command"} and part else commands(part))
        ]
    return [inner for part in value for inner in commands(part)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    "hub", ["a/b; touch pwned #", "a/$(id)", "../b", "a", "a/b/c", "-a/b", "a/b\n", "a b/c", "a/..", "a--b/c"]
)
def test_a_description_names_a_repository_or_nothing(hub: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"name: m\nhub: {json.dumps(hub)}\nconfig: {json.dumps({**SMALL, 'max_position_embeddings': 4096})}\n")
    end = here(capsys, "fit", str(path), "-e", "llama.cpp", "--gpu", "rtx-4090", "--weights", "1GB")
    refused(end, words="`hub` must be")
