"""Any model as YAML and back."""

import pytest
from each import each
from hypothesis import given, settings
from strategies import models

from kvplan import architectures
from kvplan.domain.model import Layer, Model, Shared, Softmax, Window
from kvplan.errors import KvplanError
from kvplan.loading.yaml_spec.read import SHARING_NOTE, parse_spec
from kvplan.loading.yaml_spec.text import scalar
from kvplan.loading.yaml_spec.write import dump_spec


@given(models)
@settings(max_examples=300, deadline=None)
def test_reading_what_was_written_gives_the_same_model(model: Model) -> None:
    again = parse_spec(dump_spec(model).encode(), "x.yaml")
    assert again == model
    assert dump_spec(again) == dump_spec(model)


def softmax(window: int | None = None) -> Softmax:
    if window is None:
        return Softmax(kv_heads=4, key_dim=64, value_dim=64)
    return Softmax(kv_heads=4, key_dim=64, value_dim=64, reach=Window(window))


def model(*memories: Softmax | Shared, name: str = "m", notes: tuple[str, ...] = ()) -> Model:
    layers = tuple(Layer(index=i, memories=(memory,)) for i, memory in enumerate(memories))
    return Model(name=name, model_type="spec", layers=layers, notes=notes)


def test_equal_layers_take_the_short_form() -> None:
    assert dump_spec(model(*[softmax()] * 32)) == (
        "name: m\ndtype: bfloat16\nlayers: 32\nattention: {kv_heads: 4, head_dim: 64}\n"
    )  # fmt: skip


def test_sharing_takes_its_shortest_spelling() -> None:
    head = "name: m\ndtype: bfloat16\nlayers: 4\nattention: {kv_heads: 4, head_dim: 64}\ncross_layer_sharing: "
    own, shared = softmax(), Shared(source=0)
    assert dump_spec(model(own, shared, own, Shared(source=2))) == head + "2\n"
    assert dump_spec(model(own, own, Shared(source=1), Shared(source=1))) == head + "{groups: [1, 3]}\n"
    assert dump_spec(model(own, own, shared, Shared(source=1))) == head + "[0, 1, 0, 1]\n"


def test_patterns_and_runs_are_folded_and_the_rest_follows() -> None:
    near, far = softmax(1024), softmax()
    written = dump_spec(model(*([near] * 5 + [far]) * 10, near, near))
    assert (
        written
        == """\
name: m
dtype: bfloat16
layers:
  - repeat: 10
    layers:
      - repeat: 5
        of: {type: softmax, kv_heads: 4, head_dim: 64, sliding_window: 1024}
      - {type: softmax, kv_heads: 4, head_dim: 64}
  - repeat: 2
    of: {type: softmax, kv_heads: 4, head_dim: 64, sliding_window: 1024}
"""
    )


def test_a_pattern_that_covers_everything_is_one_key() -> None:
    assert "pattern: 8\nlayers:\n  - {type: softmax" in dump_spec(model(*[softmax(8), softmax()] * 8))


def test_sharing_inside_a_pattern_is_written_by_distance() -> None:
    kept = [softmax(8), Shared(source=0), softmax(), softmax(8), Shared(source=3), softmax()]
    assert "pattern: 2\n" in dump_spec(model(*kept))
    assert "{type: shared, back: 1}" in dump_spec(model(*kept))


def test_own_notes_are_kept_and_the_automatic_one_is_not_doubled() -> None:
    before = model(softmax(), Shared(source=0), notes=("mine: [odd] 'text'", SHARING_NOTE))
    assert parse_spec(dump_spec(before).encode(), "x").notes == before.notes


def test_a_hostile_name_stays_a_name() -> None:
    for name in (
        "a: b",
        "- x",
        "# no",
        "yes",
        "null",
        "8k",
        "1e3",
        '"',
        "a\\n",
        "{x}",
        "*a",
        "&a",
        "!t",
        "\x1b[31m",
        "\u2028",
        "=1+1",
    ):
        assert parse_spec(dump_spec(model(softmax(), name=name)).encode(), "x").name == name


def test_words_that_some_reader_takes_for_another_type_are_quoted() -> None:
    assert [scalar(text) for text in ("yes", "null", "on", "1.5", "bf16")] == ['"yes"', '"null"', '"on"', '"1.5"', "bf16"]


@pytest.mark.parametrize("kept", ["each", "last"])
def test_a_loop_is_written_and_read_back(kept: str) -> None:
    keys = {"num_hidden_layers": 8, "n_input_layers": 2, "n_output_layers": 2, "n_recurrent_loops": 3, "sliding_window": 8}
    mode = "per_loop" if kept == "each" else "last_loop"
    model = architectures.read({"model_type": "dory", "recurrent_kv_cache_mode": mode, **keys})
    text = dump_spec(model)
    assert f"loop: {{first: 2, stop: 6, passes: 3, kept: {kept}}}" in text
    back = parse_spec(text.encode(), "looped.yaml")
    assert (back.loop, back.layers) == (model.loop, model.layers)
    assert back.looped(1).layers == model.own_layers


@each(
    "loop",
    [
        "{first: 2, stop: 6, passes: 0, kept: each}", "{first: 6, stop: 2, passes: 2, kept: each}", "{first: 2, passes: 2}",
        "{first: 2, stop: 6, passes: 99999999999, kept: each}", "{first: 2, stop: 6, passes: 3, kept: first}", "3",
        "{first: 0, stop: 8, passes: 9, kept: each}", "{first: -1, stop: 6, passes: 3, kept: each}",
    ],
)  # fmt: skip
def test_loops_that_a_model_cannot_have_are_refused(loop: str) -> None:
    text = dump_spec(architectures.read({"model_type": "dory", "num_hidden_layers": 20}))
    line = next(line for line in text.splitlines() if line.startswith("loop: "))
    with pytest.raises(KvplanError):
        parse_spec(text.replace(line, f"loop: {loop}").encode(), "looped.yaml")
