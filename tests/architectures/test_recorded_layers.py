"""Heads, head sizes and windows of every layer, against the tensors that transformers 5.23 really kept."""

from collections.abc import Iterator
from typing import Any

import golden
import pytest
from each import each
from model_types import KEYS_AND_VALUES, with_wrappers

from kvplan import architectures
from kvplan.domain.model import Chunk, Cross, Memory, Shared, Softmax, Window

TYPES = with_wrappers(KEYS_AND_VALUES)

# What this engine does to the model's memories, so that its tensors differ from them for a reason.
BROADCASTS_HEADS = {"transformers/tiiuae/falcon-40b", "transformers/tiiuae/falcon-180B"}  # new decoder architecture
MASKS_ONLY = {"gpt_neo"}  # local layers keep every token all the same
KEEPS_THE_PROMPT = {"unlimited_ocr"}  # a layer class of its own: the prompt, and a window of what was generated


def cases() -> Iterator[Any]:
    for case in golden.cases("transformers"):
        quantized = case["options"]["cache_implementation"] == "quantized"
        if case["config"]["model_type"] in TYPES and not quantized:
            yield pytest.param(case, id=case["id"])


CASES = list(cases())


def test_the_recorded_cases_of_these_families_are_many() -> None:
    assert len(CASES) > 600


def memory_of(memories: tuple[Memory, ...], part: str | None, position: int) -> Memory | None:
    """The memory that a recorded tensor belongs to; a layer that only looks at the encoder has one memory."""
    kind = Cross if part == "cross" else Softmax
    found = [m for m in memories if isinstance(m, kind)] or [m for m in memories if isinstance(m, Cross)]
    assert len(found) <= 1, position
    return found[0] if found else None


def check_layer(case: dict[str, Any], entry: dict[str, Any], memories: tuple[Memory, ...], position: int) -> None:
    kind, shapes = entry["kind"], entry["shapes"]
    if kind == "DummyLayer":
        assert all(isinstance(m, Shared) for m in memories), position
        return
    memory = memory_of(memories, entry.get("part"), position)
    if not shapes:  # a cross-attention layer that saw no image
        assert isinstance(memory, Cross), position
        return
    assert isinstance(memory, Softmax | Cross), position
    heads = memory.kv_heads
    if case["id"].rsplit("/", 1)[0] in BROADCASTS_HEADS:
        heads = case["config"]["num_attention_heads"]
    assert (heads, memory.key_dim, memory.value_dim) == (shapes["keys"][1], shapes["keys"][3], shapes["values"][3]), position
    without_config = "without_config" in case["options"]["cache_implementation"]
    if case["model_type"] not in MASKS_ONLY | KEEPS_THE_PROMPT and not without_config:
        assert isinstance(memory.reach, Window | Chunk) == ("Sliding" in kind), position


@each("case", CASES)
def test_every_layer_is_as_recorded(case: dict[str, Any]) -> None:
    model = architectures.read(case["config"], source=case["id"])
    seen = set()
    for entry in case["expected"]["per_layer"]:
        first, last = entry["layers"]
        for position in range(first, last + 1):
            check_layer(case, entry, model.layers[position].memories, position)
            seen.add(position)
    assert seen == {layer.index for layer in model.layers}


STATIC = [case for case in CASES if case.values[0]["options"]["cache_implementation"] == "static"]


@each("case", STATIC)
def test_a_static_sliding_layer_holds_exactly_the_window(case: dict[str, Any]) -> None:
    """The one place where the library keeps the config's own window, neither one more nor one less."""
    model = architectures.read(case["config"], source=case["id"])
    length = case["workload"]["max_cache_len"]
    for entry in case["expected"]["per_layer"]:
        if entry["kind"] != "StaticSlidingWindowLayer" or entry.get("part") == "cross":
            continue
        for position in range(entry["layers"][0], entry["layers"][1] + 1):
            (memory,) = (m for m in model.layers[position].memories if isinstance(m, Softmax))
            assert isinstance(memory.reach, Window | Chunk)
            assert min(memory.reach.size, length) == entry["shapes"]["keys"][2]
