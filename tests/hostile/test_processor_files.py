"""A processor's files beside a config, and media as they are typed: one sentence or an answer, in bounded time."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from doors import answered, here, refused
from golden import CONFIGS

QWEN = CONFIGS / "hf" / "Qwen__Qwen2.5-VL-7B-Instruct.json"
IMAGES = ("--images", "1x480x640")
RAW = "\x1b[31m\x00\u202e\u2028x"


def folder(path: Path, text: str | bytes) -> str:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_bytes(QWEN.read_bytes())
    (path / "preprocessor_config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[1]", "null", '{"patch_size": 14, "patch_size": 7}', "[" * 100_000, b"\xff\xfe", '{"size": ' + "9" * 5000 + "}",
        " " * 2**21, '{"min_pixels": 1e999}', '{"size": [1, 2]}', '{"merge_size": true}', '{"patch_size": 100000000000}',
        json.dumps({"patch_size": RAW}), json.dumps({"size": {"shortest_edge": RAW}}), '{"max_pixels": -1}',
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_in_a_sentence(
    text: str | bytes, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    refused(here(capsys, "estimate", folder(tmp_path / "m", text), *IMAGES))


@pytest.mark.parametrize(
    "values",
    [
        {"patch_size": 65536}, {"merge_size": 65536, "patch_size": 65536}, {"max_pixels": 2**40},
        {"min_pixels": 2**40, "max_pixels": 2**40},
        {"size": {}}, {"size": {"longest_edge": 3}, "min_pixels": 1}, {RAW: RAW}, {"video_processor_type": "x" * 10_000},
    ],
)  # fmt: skip
def test_odd_numbers_are_answered_or_refused(values: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    end = here(capsys, "estimate", folder(tmp_path / "m", json.dumps(values)), *IMAGES)
    answered(end) if end.code in {0, 1} else refused(end)


def test_what_is_no_regular_file_is_not_waited_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    named = folder(tmp_path / "m", "{}")
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (tmp_path / "m" / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / "m" / name)
    (tmp_path / "m" / "processor_config.json").mkdir()
    answered(here(capsys, "estimate", named, *IMAGES), codes={0})


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--images", "10000x8x8," * 12_000 + "1x8x8"), ("--images", RAW), ("--images", "9" * 5000),
        ("--images", "10000x1x1,1x70000x1"),
        ("--video", "9" * 400 + "s@1fps@8x8"),
        ("--video", "1s@1fps@8x8@8x8"), ("--audio", "-1s"), ("--audio", "nan"), ("--audio", ""),
    ],
)  # fmt: skip
def test_media_that_are_none_are_refused_in_a_sentence(flag: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(here(capsys, "estimate", "qwen2.5-vl-7b", flag, text))


def test_the_most_that_is_taken_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    for engine in ("vllm", "llama.cpp", "transformers"):
        answered(here(capsys, "estimate", "qwen2.5-vl-7b", "-e", engine, "--images", "10000x65536x65536"))
    answered(here(capsys, "estimate", "glm-4.1v-9b", "--video", "1000000f@24fps@65536x65536"))
