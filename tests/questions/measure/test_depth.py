"""Few layers for all: which may be left out, what tells that they may not, and that what is said of all is then right."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kvplan.questions.measure.depth import Cut, chosen_in_code, cut, learned, unlike
from kvplan.questions.measure.observed import Held, Observation, Point

F, S, L = "full_attention", "sliding_attention", "linear_attention"


def found(**config: Any) -> Cut:
    made = cut(config)
    assert isinstance(made, Cut), made
    return made


def test_every_layer_is_like_the_one_that_stands_for_it() -> None:
    configs: dict[str, dict[str, Any]] = {
        "plain": {"num_hidden_layers": 40},
        "each fourth": {"num_hidden_layers": 48, "layer_types": [L, L, L, F] * 12},
        "a rest": {"num_hidden_layers": 62, "layer_types": ([S] * 5 + [F]) * 10 + [S, S]},
        "dense first": {"num_hidden_layers": 61, "first_k_dense_replace": 3, "kinds_of_layer": [F] * 3 + [S] * 58},
        "both ends": {"n_layer": 43, "compress_ratios": [0, 0, *[4, 128] * 20, 4, 0]},
        "from one": {"num_hidden_layers": 27, "full_attn_layers": [4, 8, 12, 16, 20, 24, 27]},
        "from nought": {"num_hidden_layers": 32, "attn_layer_indices": list(range(3, 32, 4))},
        "a word": {"num_hidden_layers": 52, "hybrid_override_pattern": "M-M*-" * 10 + "M-"},
        "shared": {"num_hidden_layers": 60, "layer_types": ([S] * 4 + [F]) * 12, "num_kv_shared_layers": 15},
    }
    wrong = []
    for name, config in configs.items():
        made = found(**config)
        depths = made.depths()
        if depths is None:
            wrong.append(f"{name}: all layers")
            continue
        layers = made.layers
        for depth in depths:
            small = made.config(config, depth)
            for key, value in config.items():
                if key in made.lists and any(value[i] != small[key][made.place(i, depth, layers)] for i in range(layers)):
                    wrong.append(f"{name}: {key} of {depth}")
                if key in made.places:
                    first = int(max(value) == layers)
                    mine = [(i + first in value) == (made.place(i, depth, layers) + first in small[key]) for i in range(layers)]
                    wrong += [] if all(mine) else [f"{name}: {key} of {depth} at {mine.index(False)}"]
            if len({made.place(i, depth, layers) for i in range(layers)}) > depth or layers in small.values():
                wrong.append(f"{name}: {depth}")
    assert not wrong, "\n".join(wrong)
    assert found(**configs["each fourth"]).depths() == (8, 12, 16)
    assert found(**configs["shared"]).tail >= 20  # the shared ones, and the last of each kind that owns


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_hidden_layers": 12}, ""),
        ({"width": 12}, ""),
        ({"num_hidden_layers": 40, "layer_types": [f"{i * i % 79}" for i in range(40)]}, "do not repeat themselves"),
        ({"num_hidden_layers": 40, "n_recurrent_layers": 38}, "do not repeat themselves"),
        ({"num_hidden_layers": 40, "layer_groups": [7, 9, 3]}, "`layer_groups` is a list that is not understood"),
        ({"num_hidden_layers": 14, "heads": {str(i): i for i in range(14)}}, "`heads` is a mapping of numbers"),
    ],
)
def test_layers_that_cannot_be_told_are_all_run(config: dict[str, Any], words: str) -> None:
    made = cut(config)
    assert isinstance(made, str)
    assert words in made


def test_what_is_not_worth_it_is_not_done() -> None:
    assert found(num_hidden_layers=13).depths() is not None
    assert found(num_hidden_layers=24, layer_types=[S, S, S, F] * 6).depths() is not None
    assert found(num_hidden_layers=16, layer_types=[S, S, S, S, S, S, S, F] * 2).depths() is None


def test_a_section_and_what_lies_in_it_are_cut_where_they_are() -> None:
    config = {
        "text_config": {"num_hidden_layers": 20, "linear": {"kda_layers": list(range(1, 20, 2))}},
        "vision_config": {"depth": 9},
    }
    made = cut(config["text_config"], ("text_config",))
    assert isinstance(made, Cut)
    before = json.dumps(config)
    small = made.config(config, 8)
    assert small == {
        "text_config": {"num_hidden_layers": 8, "linear": {"kda_layers": [1, 3, 5, 7]}},
        "vision_config": {"depth": 9},
    }
    assert json.dumps(config) == before


@pytest.mark.parametrize(
    ("line", "chooses"),
    [
        ("full = layer_idx % 4 == 3", True),
        ("full = self.layer_idx in (3, 7)", True),
        ("x = y if self.layer_id >= 20 else z", True),
        ("n = (layer_number + 1) // 2", True),
        ("full = config.layer_types[layer_idx] == 'full'", False),
        ("dense = layer_idx < config.first_k_dense_replace", False),
        ("first = layer_idx == 0 or layer_idx % config.every == 1", False),
        ("if (", False),
    ],
)
def test_code_that_chooses_by_the_number_is_found_by_its_line(line: str, chooses: bool) -> None:
    assert chosen_in_code(f"# a model\n{line}\n") == (2 if chooses else None)


def run(depth: int, *, stacked: bool = True, wide: int = 4) -> Point:
    held = [
        Held(
            path=("layers", f"#{i}/{depth}", "keys"),
            shape=(2, wide if i % 2 else 3, 8),
            dtype="float32",
            view_bytes=1,
            storage_bytes=i % 2,
        )
        for i in range(depth)
    ]
    held += [
        Held(path=("all",), shape=(2, 3 * depth, 5), dtype="float32", view_bytes=30 * depth, storage_bytes=120 * depth)
    ] * stacked
    return Point(batch_size=2, seq_len=3, prompt_len=2, held=tuple(held))


def test_runs_of_few_layers_are_written_as_runs_of_more() -> None:
    even = Cut(layers=40, head=0, period=2, tail=0)
    deeper = learned(even, [run(6)], [run(8)], (6, 8))
    assert unlike(deeper.point(run(6), 6), run(6)) == ""
    assert unlike(deeper.point(run(6), 12), run(12)) == ""
    assert deeper.point(run(6), 40).held[0].shape == (2, 120, 5)
    assert unlike(deeper.point(run(6), 12), run(12, wide=5)) == "a tensor of layer 1"
    assert unlike(deeper.point(run(6), 12), run(12, stacked=False)) == "fewer tensors"
    assert unlike(deeper.point(run(6), 13), run(12)) == "a tensor of layer 0"


MODULE = """
import torch
from torch import nn
class Block(nn.Module):
    def __init__(self, config, at):
        super().__init__()
        self.at, self.window = at, WINDOW
        self.lin = nn.Linear(config["width"], config["width"])
    def forward(self, x, past):
        x = self.lin(x)
        kept = x if past is None else torch.cat([past, x], 1)
        return x, kept[:, -FORWARD:].clone()
class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed = nn.Embedding(20, config["width"])
        self.blocks = nn.ModuleList([Block(config, i) for i in range(config["num_layers"])])
    def forward(self, input_ids, past=None):
        x, new = self.embed(input_ids), []
        for i, block in enumerate(self.blocks):
            x, kept = block(x, None if past is None else past[i])
            new.append(kept)
        return x, new
"""


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize(
    ("window", "forward", "every", "why", "nine"),
    [
        ("5", "self.window", 1, None, ()),
        ("5 if at % config['every'] else 9", "self.window", 4, None, range(0, 24, 4)),
        ("5 if at != 20 else 9", "self.window", 1, "layer 20 is made otherwise than the config lets expect", (20,)),
        ("5", "(5 if self.at != 7 else 9)", 1, "of 8 layers, a tensor of layer 7 is not as 5 layers say", (7,)),
        ("{'a': 5}[config['name']] if config['num_layers'] > 20 else 5", "self.window", 1, None, ()),
    ],
)
def test_what_few_layers_do_not_tell_is_asked_of_all(
    window: str, forward: str, every: int, why: str | None, nine: Sequence[int], tmp_path: Path
) -> None:
    from kvplan.questions.measure.measured import measured
    from kvplan.questions.measure.stack import observe_class
    from kvplan.questions.measure.strange import Stranger

    path = tmp_path / "strange.py"
    path.write_text(MODULE.replace("WINDOW", window).replace("FORWARD", forward))
    config = {"num_layers": 24, "width": 16, "every": every, "name": "a"}
    seen: Observation = observe_class(Stranger(str(path), "Model"), config, seconds=600)
    done = measured(seen)
    assert done.passed, done.failure()
    assert len(done.model.layers) == 24
    if why is None:
        assert len(seen.depths) == 3, seen.remarks
        assert "24 layers from" in " ".join(done.model.notes)
    else:
        assert seen.depths == ()
        assert f"all 24 layers were run: {why}" in seen.remarks
    sizes = [9 if i in nine else 5 for i in range(24)]
    assert [layer.memories[0].reach.size for layer in done.model.layers] == sizes  # type: ignore[union-attr]
