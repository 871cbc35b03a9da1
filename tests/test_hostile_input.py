"""Strangers' files: whatever a config or spec holds, `load` answers with a model or with a `KvplanError`."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from each import each

import kvplan
from kvplan.errors import KvplanError
from kvplan.loading.config_json import parse_config
from kvplan.loading.yaml_spec.read import parse_spec

HERE = Path(__file__).parent
CONFIGS = [p for p in sorted((HERE / "configs" / "hf").glob("*.json")) if p.stat().st_size < 20_000]
SPECS = sorted((HERE.parent / "model_specs").rglob("*.yaml"))

#: Each is wrong for a number, a list, a text, a flag or an object, or all of them.
NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 7, 1.5, 32.0, float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), 2**31, 2**63,
    "", "8", "8k", "full_attention", "=1+1", "\x1b[31m", "\u202e", "x" * 5000,
    [], [1], [None] * 3, ["full_attention"] * 7, [[[[]]]], {}, {"a": {"b": 1}},
    [10**400], {"model_type": "llama"}, "llama", "deepseek_v4", "mamba2", "whisper",
]  # fmt: skip


INSERTED = [b"{", b"}", b"[", b"]", b'"', b":", b"&a ", b"*a", b"!!python/object:x ", b"- ", b"\x00", b"\xff", b"? "]


def survive(source: Any, action: Any) -> bool:
    """Whether it loaded; anything but a KvplanError fails the test with the input that caused it."""
    try:
        model = action(source)
        answer = kvplan.try_estimate(model, seq_len=4097, batch_size=3)
        assert isinstance(answer, kvplan.NotPredicted) or answer.total_bytes >= 0
    except KvplanError as refused:
        problem_lines = str(refused).splitlines()
        if len(problem_lines) != 1:
            raise AssertionError(f"not one sentence: {problem_lines}") from refused
        return False
    except Exception as problem:
        raise AssertionError(f"{type(problem).__name__}: {problem}\nfor {str(source)[:2000]!r}") from problem
    return True


def mutated(config: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The config with one to three values, at any depth, replaced, removed or moved."""
    copy: dict[str, Any] = json.loads(json.dumps(config))
    for _ in range(rng.randint(1, 3)):
        place: Any = copy
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            inner = place[key]
            if isinstance(inner, dict | list) and inner and rng.random() < 0.6:
                place = inner
                continue
            if isinstance(place, dict) and rng.random() < 0.15:
                del place[key]
            elif isinstance(inner, int) and not isinstance(inner, bool) and rng.random() < 0.4:
                place[key] = rng.choice([inner + 1, inner * 2, inner * 3 + 1, max(1, inner // 2), -inner])
            else:
                place[key] = rng.choice(NASTY)
            break
    return copy


@each("seed", range(8))
def test_twelve_thousand_mutated_configs_only_ever_raise_kvplan_errors(seed: int) -> None:
    rng = random.Random(seed)
    configs = [json.loads(p.read_text()) for p in CONFIGS]
    loaded = sum(survive(mutated(rng.choice(configs), rng), kvplan.load) for _ in range(1500))
    assert 100 < loaded < 1500  # the mutations neither spare everything nor break everything


def scrambled(text: bytes, rng: random.Random) -> bytes:
    """The text with a few bytes changed, cut out, doubled or inserted."""
    data = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[at:at] = rng.choice(INSERTED)
            case 1:
                del data[at : at + rng.randint(1, 40)]
            case 2:
                data[at:at] = data[at : at + 60]
            case 3:
                data[at:at] = rng.choice([b"1e999", b"-1", b"9" * 5000, b"NaN", b"0x10", b"null", b"true", b"~", b"1_000"])
            case _:
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_five_thousand_scrambled_json_texts_only_ever_raise_kvplan_errors(seed: int) -> None:
    rng = random.Random(seed)
    texts = [p.read_bytes() for p in CONFIGS if p.stat().st_size < 4000]
    for _ in range(1250):
        survive(scrambled(rng.choice(texts), rng), lambda raw: kvplan.load(parse_config(raw, "config.json")))


@pytest.mark.parametrize("seed", range(4))
def test_five_thousand_scrambled_specs_only_ever_raise_kvplan_errors(seed: int) -> None:
    rng = random.Random(seed)
    texts = [p.read_bytes() for p in SPECS]
    for _ in range(1250):
        survive(scrambled(rng.choice(texts), rng), lambda raw: parse_spec(raw, "spec.yaml"))
