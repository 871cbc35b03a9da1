"""`kvplan.capacity(model, engine, gpu, flags)`: a value that other programs can trust, or an error."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.engines import make_engine
from kvplan.engines.kernel.engine import Served
from kvplan.errors import InputError, OptionError, Refused
from kvplan.questions.oracle import Capacity


def held(*more: Any, **kwargs: Any) -> Capacity:
    found = kvplan.capacity("llama-3.1-8b", "vllm", "h100-80gb", *more, **kwargs)
    assert isinstance(found, Capacity)
    return found


def test_it_is_the_server_that_receipt_starts() -> None:
    found = held("--max-model-len 32768 --max-num-seqs 64")
    receipt = kvplan.receipt("llama-3.1-8b", "h100-80gb", max_model_len=32768, max_num_seqs=64)
    assert receipt.pool is not None
    assert (found.num_blocks, found.num_tokens) == (receipt.pool.num_blocks, receipt.pool.num_tokens)
    assert found.low_blocks < found.num_blocks < found.high_blocks
    assert (found.max_model_len, found.max_num_seqs, found.tokens_per_block) == (32768, 64, 16)
    words = held(["--max-model-len", "32768", "--max-num-seqs=64"])
    named = held({"max_model_len": 32768, "max_num_seqs": 64})
    assert found == words == named
    assert kvplan.capacity("llama-3.3-70b", "vllm", "h100:4", "--max-model-len 8192").tensor_parallel == 4


@each(
    ("model", "options"),
    [
        ("llama-3.1-8b", {}),
        ("gpt-oss-20b", {"max_num_batched_tokens": 512}),
        ("llama-4-maverick-17b-128e", {"tensor_parallel_size": 8, "max_num_batched_tokens": 2048}),
        ("qwen3-next-80b-a3b", {"tensor_parallel_size": 4}),
        ("deepseek-v2-lite", {}),
    ],
)
def test_a_requests_blocks_are_the_engines(model: str, options: dict[str, Any]) -> None:
    prepared = make_engine("vllm", {"max_model_len": 65536, **options}).on(kvplan.load(model))
    assert isinstance(prepared, Served)
    plan = prepared.plan  # type: ignore[attr-defined]
    for tokens in (1, 15, 16, 17, 511, 512, 513, 8191, 16400, 65535, 65536):
        assert sum(share.blocks(tokens) for share in prepared.shares) == plan.blocks(tokens)


ONE = kvplan.capacity("gpt-oss-20b", "vllm", "l40s", "--max-model-len 16k --max-num-batched-tokens 2048")


@given(st.lists(st.integers(1, 16_000), max_size=40), st.integers(1, 16_000))
def test_what_is_admitted_fits(running: list[int], tokens: int) -> None:
    blocks = sum(map(ONE.blocks_of, [*running, tokens]))
    assert ONE.admits(tokens, running) == (blocks <= ONE.low_blocks - ONE.null_blocks)
    assert ONE.requests_of(tokens) * ONE.blocks_of(tokens) <= ONE.usable_blocks
    assert ONE.servers_for([*running, tokens]) * ONE.usable_blocks >= blocks
    if running:
        assert not ONE.admits(tokens, running) or ONE.admits(tokens, running[1:])


def test_its_json_is_the_value_and_nothing_else_is() -> None:
    data = json.loads(json.dumps(ONE.to_dict()))
    assert Capacity.from_dict(data) == ONE
    assert hash(Capacity.from_dict(data)) == hash(ONE)
    assert ONE.usable_blocks == ONE.low_blocks - ONE.null_blocks < ONE.num_blocks - ONE.null_blocks
    shares = [{**data["shares"][0], "block_tokens": 0}]
    for wrong in (
        {}, {**data, "num_blocks": "many"}, {**data, "schema": 2}, {**data, "low_blocks": data["num_blocks"] + 1},
        {**data, "null_blocks": -1}, {**data, "shares": shares}, {**data, "num_blocks": 10**30},
    ):  # fmt: skip
        with pytest.raises(InputError):
            Capacity.from_dict(wrong)


def test_it_fails_closed() -> None:
    for tokens in (0, -1, 20_000, True, 1.5, "8k", None):
        with pytest.raises(InputError, match="a request has from 1 to"):
            ONE.admits(tokens)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="a request has from 1 to"):
            ONE.admits(1, [tokens])  # type: ignore[list-item]
    with pytest.raises(Refused, match="does not surely start"):
        kvplan.capacity("llama-3.3-70b", "vllm", "h100-80gb")
    with pytest.raises(Refused, match="reserves no pool"):
        kvplan.capacity("llama-3.1-8b", "transformers", "h100-80gb")
    with pytest.raises(OptionError, match="has no --bogus"):
        held("--bogus 3")
    with pytest.raises(OptionError, match="expected a whole number"):
        held("--max-model-len nine")
    with pytest.raises(OptionError, match=r"[Qq]uot"):
        held("--max-model-len '9")
    with pytest.raises(OptionError, match="needs lengths"):
        kvplan.capacity("llama-3.1-8b", "h100-80gb")
    other = kvplan.capacity("llama-3.1-8b", "sglang", "h100-80gb")
    assert other.num_tokens > 0
    with pytest.raises(Refused, match="not known"):
        other.admits(100)
    assert not held("--max-num-seqs 2").admits(10, [10, 10])


def test_threads_get_the_same_answers() -> None:
    asked = [(model, card) for model in ("llama-3.1-8b", "qwen3-8b", "gpt-oss-20b") for card in ("h100", "l40s", "a100-80gb")]

    def ask(pair: tuple[str, str]) -> dict[str, Any]:
        return kvplan.capacity(pair[0], "vllm", pair[1], "--max-model-len 8192").to_dict()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, asked * 3)) == [ask(pair) for pair in asked] * 3
