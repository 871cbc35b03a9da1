"""HOSTILE.md 7 (64 bits), 8 (keys that only an engine reads), 9 (numbers and lists too long to show), 10 (raw characters).

Elsewhere: every cell of a sweep equals the single estimate in tests/questions/sweep; mutated configs in
tests/test_hostile_input.py.
"""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doors import SMALL, config, here, refused
from each import each

import kvplan
from kvplan import NotPredicted
from kvplan.engines import PREDICTED
from kvplan.errors import KvplanError, shown, written
from kvplan.limits import HINT, MESSAGE

HUGE = 10**5000
RAW = "\x1b[31m\x00\u202e\u2028x"


def deep(levels: int) -> list[Any]:
    """Lists in lists."""
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


def one_sentence(ask: Callable[[], object]) -> None:
    """An answer, or a message and hint that are printable and bounded."""
    try:
        found = ask()
    except KvplanError as problem:
        for text, most in ((str(problem), MESSAGE), (problem.hint, HINT)):
            assert text.isprintable()
            assert len(text) <= most + 50  # a parameter's name may be longer as Python writes it
    else:
        if isinstance(found, NotPredicted):
            assert (found.reason + found.see).isprintable()


@pytest.mark.parametrize("exponent", [50, 52, 53])
def test_a_sweep_is_the_estimate_or_refused(exponent: int, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("-e", "llama.cpp", "--set", "ctx_size=4096", "-s", str(2**exponent), "-b", "7", "-f", "csv")
    swept, single = here(capsys, "sweep", "gpt2", *asked), here(capsys, "estimate", "gpt2", *asked)
    assert swept.code == single.code == 0
    rows = [next(csv.DictReader(io.StringIO(end.out))) for end in (swept, single)]
    assert int(rows[0]["total_bytes"]) == int(rows[1]["total_bytes"]) == 198180864


KEYS = [
    ({"mamba_ssm_cache_dtype": [1]}, "transformers", "`mamba_ssm_cache_dtype` must be"),
    ({"rope_scaling": {"rope_type": {}, "factor": 2}}, "vllm", "`rope_scaling.rope_type` must be a short text, got an object"),
    (
        {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 10**400}},
        "vllm",
        "got a number of more than 18 digits",
    ),
    ({"model_type": "bailing_moe", "architectures": 5, "head_dim": 16}, "llama.cpp", "`architectures` must be"),
]


@pytest.mark.parametrize(("keys", "engine", "words"), KEYS, ids=[row[1] for row in KEYS])
def test_a_key_that_an_engine_reads_is_checked(
    keys: dict[str, Any], engine: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(here(capsys, "estimate", config(tmp_path / "c.json", **keys), "-e", engine), words=words)


def test_a_number_of_encoder_layers_is_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "e5.json"
    path.write_text(
        '{"is_encoder_decoder":true,"model_type":"t5","vocab_size":8,"d_model":64,"d_kv":16,"d_ff":64,"num_layers":"x",'
        '"num_decoder_layers":2,"num_heads":4}'
    )
    refused(here(capsys, "estimate", str(path), "-e", "transformers"), words="`num_layers` must be")


@each("engine", PREDICTED)
def test_any_value_under_a_key_that_engines_read(engine: str) -> None:
    keys = ("rope_scaling", "architectures", "quantization_config", "mamba_ssm_cache_dtype", "layer_types", "text_config",
            "sliding_window", "max_position_embeddings", "tie_word_embeddings", "torch_dtype", "auto_map")  # fmt: skip
    for key in keys:
        for value in ([1], {}, "x", 5, -1, 1.5, True, 10**400, HUGE, [None], [{}], {"a": []}, RAW, float("nan"), deep(2000)):
            one_sentence(lambda key=key, value=value: kvplan.estimate({**SMALL, key: value}, engine=engine))  # type: ignore[misc]


PYTHON: dict[str, Callable[[], object]] = {
    "seq_len": lambda: kvplan.estimate(SMALL, seq_len=HUGE),
    "batch_size": lambda: kvplan.estimate(SMALL, batch_size=HUGE),
    "tensor_parallel": lambda: kvplan.estimate(SMALL, tensor_parallel=HUGE),
    "q_group_size": lambda: kvplan.estimate(SMALL, engine="transformers", q_group_size=HUGE),
    "utilization": lambda: kvplan.estimate(SMALL, engine="vllm", gpu_memory_utilization=10**400),
    "block_size": lambda: kvplan.estimate(SMALL, engine="vllm", block_size=HUGE),
    "ctx_size": lambda: kvplan.estimate(SMALL, engine="llama.cpp", ctx_size=-HUGE),
    "4,000 digits": lambda: kvplan.estimate(SMALL, engine="llama.cpp", ctx_size=10**4000),
    "hidden_size": lambda: kvplan.load({**SMALL, "hidden_size": HUGE}),
    "deep": lambda: kvplan.load({**SMALL, "num_key_value_heads": deep(5000)}),
    "architectures": lambda: kvplan.load({"architectures": [HUGE]}),
    "description": lambda: kvplan.load({"layers": 1, "attention": {"kv_heads": HUGE, "head_dim": 1}}),
    "deep description": lambda: kvplan.load({"layers": 1, "attention": {"kv_heads": deep(5000), "head_dim": 1}}),
    "context": lambda: kvplan.fit(SMALL, "h100-80gb", context=HUGE),
    "weights": lambda: kvplan.fit(SMALL, "h100-80gb", weights=HUGE),
    "fit's utilization": lambda: kvplan.fit(SMALL, "h100-80gb", utilization=HUGE),
    "memory": lambda: kvplan.reserve(SMALL, memory=HUGE),
    "scale": lambda: kvplan.committee({"gpu": "rtx-4090", "members": [{"name": "a", "weights": "1GB"}]}, scale=HUGE),
    "kv_dtype": lambda: kvplan.estimate(SMALL, kv_dtype=RAW),
    "engine": lambda: kvplan.estimate(SMALL, engine=RAW),
    "model": lambda: kvplan.load(RAW.replace("\x00", "")),
    "model_type": lambda: kvplan.load({**SMALL, "model_type": RAW}),
    "text": lambda: kvplan.load({**SMALL, "hidden_size": RAW}),
    "gpu": lambda: kvplan.fit(SMALL, RAW),
    "cache": lambda: kvplan.estimate(SMALL, engine="transformers", cache=RAW),
    "cache_type_k": lambda: kvplan.estimate(SMALL, engine="llama.cpp", cache_type_k=RAW),
    "kv_cache_dtype": lambda: kvplan.estimate(SMALL, engine="vllm", kv_cache_dtype=RAW),
    "version": lambda: kvplan.estimate(SMALL, engine="vllm", engine_version=RAW),
    "size": lambda: kvplan.fit(SMALL, "h100-80gb", weights=RAW),
}


@each("name", PYTHON)
def test_python_values_that_cannot_be_shown_are_one_sentence(name: str) -> None:
    with pytest.raises(KvplanError):
        PYTHON[name]()
    one_sentence(PYTHON[name])


def test_a_value_that_nobody_reads_is_no_matter() -> None:
    kvplan.load({**SMALL, "other": HUGE})
    kvplan.load({**SMALL, "rope_scaling": deep(5000)})


def test_every_value_is_shown_in_a_few_words() -> None:
    for value in (
        None,
        True,
        1,
        HUGE,
        -HUGE,
        1.5,
        float("nan"),
        "",
        "8",
        "9" * 5000,
        "1." + "0" * 5000,
        RAW,
        [HUGE],
        deep(5000),
        {"a": HUGE},
    ):
        assert shown(value).isprintable()
        assert len(shown(value)) < 60
        assert len(written(value)) <= 80


def test_a_reason_is_printable_too() -> None:
    found = NotPredicted(reason=RAW + "x" * 5000, see=RAW)
    assert (found.reason + found.see).isprintable()
    assert len(found.reason) <= MESSAGE
    assert str(KvplanError(RAW)).isprintable()
    assert json.dumps(found.reason)
