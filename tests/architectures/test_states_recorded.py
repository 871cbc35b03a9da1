"""Latents, indexers, compressed entries and states match the tensors that transformers 5.23 really held.

Each recorded case lists every tensor of every layer. The memories that kvplan reads from the same config must name the
same layers, widths, heads, taps and dtypes. (transformers keeps all taps of a convolution as columns.)
"""

import re

import golden
import pytest
from each import each
from library_tensors import Tensors, held_tensors
from model_types import OTHER_MEMORIES

from kvplan.architectures import read

#: Recorded nowhere: no class in the library, not runnable there, or held in cases of their own.
UNRECORDED = OTHER_MEMORIES - {
    "axk1", "axk2", "bailing_hybrid", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "dots3_note_text",
    "falcon_h1", "inkling_text", "jamba", "kimi_linear", "lfm2_moe", "longcat_flash", "mamba", "mamba2", "minicpm3",
    "minimax", "minimax_m3_vl_text", "nemotron_h", "qwen3_5_text", "qwen3_next", "recurrent_gemma", "rwkv",
    "xlstm", "zamba", "zamba2", "zaya",
}  # fmt: skip


def cases() -> list[dict]:
    return [row for row in golden.cases("transformers") if row.get("text_model_type") in OTHER_MEMORIES]


CASES = cases()


def test_every_recorded_type_of_these_families_is_compared():
    assert {row["text_model_type"] for row in CASES} == OTHER_MEMORIES - UNRECORDED


def recorded(row: dict) -> tuple[dict[int, tuple[str, Tensors]], list[dict]]:
    """The tensors of each layer (name -> shape without the batch, dtype), and the entries that are no layer's."""
    layers: dict[int, tuple[str, Tensors]] = {}
    loose = []
    for entry in row["expected"]["per_layer"]:
        tensors = {name: (tuple(shape[1:]), dtype_of(entry, name)) for name, shape in entry["shapes"].items()}
        first, last = entry["layers"]
        if first is None:
            loose.append({**entry, "tensors": tensors})
            continue
        for layer in range(first, last + 1):
            layers[layer] = (entry["kind"], tensors)
    return layers, loose


def dtype_of(entry: dict, name: str) -> str:
    dtype = entry["dtype"]
    return dtype if isinstance(dtype, str) else dtype[name]


def per_layer_cases() -> list[dict]:
    return [row for row in CASES if row["text_model_type"] not in {"rwkv", "xlstm"}]


@each("row", per_layer_cases(), ids=lambda row: row["id"])
def test_each_layer_remembers_what_the_library_held(row):
    model = read({**row["config"], "torch_dtype": row["options"]["kv_dtype"]}, source=row["id"])
    layers, loose = recorded(row)
    apart = states_held_apart(loose)
    assert set(layers) | set(apart) == set(range(len(model.layers)))
    for layer in range(len(model.layers)):
        kind, tensors = layers.get(layer, ("", {}))
        length = row["workload"]["max_cache_len"] if "Static" in kind else row["workload"]["seq_len"]
        found, tensors = held_tensors(model, layer, kind, length), tensors | apart.get(layer, {})
        if model.model_type == "deepseek_v4":
            forgo_twins_and_buffers(found, tensors)
        assert found == tensors, layer


def forgo_twins_and_buffers(found: Tensors, tensors: Tensors) -> None:
    """Keys are values here: the library stores them twice in plain sliding layers. Buffers hold what is not yet an entry."""
    assert found.pop("values")[0][-1] == 0
    if "values" in tensors:
        assert tensors.pop("values") == tensors["keys"]
    for name in [name for name in tensors if name.startswith(("buffer_", "overlap_"))]:
        tensors.pop(name)


def states_held_apart(loose: list[dict]) -> dict[int, Tensors]:
    """MiniMax's linear cache and RecurrentGemma's modules, by layer, under the names of ordinary layers."""
    layers: dict[int, Tensors] = {}
    for entry in loose:
        for name, (shape, dtype) in entry["tensors"].items():
            if entry["kind"] == "MiniMaxCache":
                layers[int(name.split(".")[1])] = {"recurrent_states.0": (shape, dtype)}
                continue
            layer = int(re.search(r"layers\.(\d+)", entry["module"])[1])
            if name == "conv1d_state":  # this module keeps kernel - 1 columns
                layers.setdefault(layer, {})["conv_states.0"] = ((shape[0], shape[1] + 1), dtype)
            else:
                layers.setdefault(layer, {})["recurrent_states.0"] = (shape, dtype)
    return layers


@pytest.mark.parametrize("row", [row for row in CASES if row["text_model_type"] == "rwkv"], ids=lambda row: row["id"])
def test_rwkv_keeps_two_shifts_and_three_float32_vectors_a_layer(row):
    model = read({**row["config"], "torch_dtype": row["options"]["kv_dtype"]}, source=row["id"])
    (entry,) = row["expected"]["per_layer"]
    (memory,) = {layer.memories for layer in model.layers}
    states = memory[0].states
    assert [[row["workload"]["batch"], *s.shape, len(model.layers)] for s in states] == list(entry["shapes"].values())
    assert [s.dtype or model.dtype for s in states] == list(entry["dtype"].values())


@pytest.mark.parametrize("row", [row for row in CASES if row["text_model_type"] == "xlstm"], ids=lambda row: row["id"])
def test_xlstm_keeps_a_matrix_a_normalizer_and_a_maximum_a_head(row):
    model = read({**row["config"], "torch_dtype": row["options"]["kv_dtype"]}, source=row["id"])
    (entry,) = row["expected"]["per_layer"]
    for layer in model.layers:
        for i, state in enumerate(layer.memories[0].states):
            name = f"rnn_state.{layer.index}.{i}"
            assert [row["workload"]["batch"], *state.shape] == entry["shapes"][name]
            assert (state.dtype or model.dtype) == dtype_of(entry, name)
