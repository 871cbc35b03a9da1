"""Modules of one's own: each law, what fits none, and nothing left on the module that was measured."""

import importlib.util

import pytest
from each import each

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

import modules_by_hand as modules
import torch

import kvplan
from kvplan.domain.model import Compressed, Recurrent, Softmax, State, Steps, Window
from kvplan.loading.yaml_spec.read import parse_spec
from kvplan.loading.yaml_spec.write import dump_spec
from kvplan.questions.measure import observe
from kvplan.questions.measure.measured import Measured
from kvplan.questions.measure.observed import NotMeasured
from kvplan.questions.measure.strange import Keys

WIDTH, SPAN, GROUP, RECENT = (modules.CONFIG[name] for name in ("width", "span", "group", "recent"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def measured(kind: type[torch.nn.Module]) -> Measured:
    return kvplan.measure(kind(Keys(modules.CONFIG)), config=modules.CONFIG)


def test_a_cache_in_a_python_list_is_kept_per_token() -> None:
    found = measured(modules.ListCache)
    assert found.passed
    assert [layer.memories for layer in found.model.layers] == [(Softmax(kv_heads=2, key_dim=6, value_dim=6),)] * 3
    for tokens in (7, 1234):
        assert kvplan.estimate(found.model, seq_len=tokens, batch_size=3).total_bytes == 3 * tokens * 3 * 2 * 12 * 4


def test_a_ring_buffer_on_the_module_is_a_state() -> None:
    found = measured(modules.Ring)
    assert found.passed
    kept = [Recurrent(states=(State(name=f"blocks[{i}].ring", shape=(SPAN, WIDTH)),)) for i in range(3)]
    assert [layer.memories for layer in found.model.layers] == [(memory,) for memory in kept]
    assert kvplan.estimate(found.model, seq_len=5, batch_size=7).total_bytes == 7 * 3 * SPAN * WIDTH * 4


def test_a_compressed_memory_is_a_window_and_one_entry_a_group() -> None:
    found = measured(modules.Compressive)
    assert found.passed
    reaches = {memory.reach for memory in found.model.layers[0].memories}
    assert reaches == {Window(RECENT), Compressed(GROUP)}
    for tokens in (3, 9, 1001):
        kept = min(tokens, RECENT) + tokens // GROUP
        assert kvplan.estimate(found.model, seq_len=tokens).total_bytes == 3 * kept * WIDTH * 4


def test_room_that_grows_in_steps_is_counted_in_steps() -> None:
    found = measured(modules.Steps)
    assert found.passed
    (memory,) = found.model.layers[0].memories
    assert memory == Softmax(kv_heads=3, key_dim=8, value_dim=8, reach=Steps(16))
    assert kvplan.estimate(found.model, seq_len=33).total_bytes == 48 * 2 * 3 * 8 * 4
    assert kvplan.estimate(found.model, seq_len=33).bytes_per_token == 2 * 3 * 8 * 4


@pytest.mark.parametrize("kind", [modules.ListCache, modules.Compressive, modules.Steps, modules.Ring])
def test_the_description_reads_back_as_the_same_model(kind: type[torch.nn.Module]) -> None:
    model = kvplan.measure(kind(Keys(modules.CONFIG)), config=modules.CONFIG, name="mine", seconds=5).model
    again = parse_spec(dump_spec(model).encode(), "mine.yaml")
    assert again == model
    assert any("measured" in note for note in again.notes)


def test_what_is_made_for_a_fixed_batch_is_refused_with_its_numbers() -> None:
    found = measured(modules.FixedBatch)
    assert not found.passed
    assert "does not grow with the batch" in found.failure()
    assert f"2x3: {8 * SPAN * WIDTH * 4:,} B" in found.unexplained[0].numbers


def test_what_follows_no_law_is_refused_with_its_numbers() -> None:
    found = measured(modules.Square)
    assert not found.passed
    assert "follows no law" in found.failure()
    assert "2x8: 512 B" in found.unexplained[0].numbers


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (modules.Forgets, "Forgets keeps no tensor"),
        (modules.Unrun, "Unrun does not run on 3 tokens: RuntimeError: no second step"),
    ],
)
def test_a_class_that_does_not_run_is_told_in_a_sentence(kind: type[torch.nn.Module], words: str) -> None:
    with pytest.raises(NotMeasured, match=words):
        measured(kind)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is too large to be run with numbers, unless it must be."""
    monkeypatch.setattr(observe, "_SMALL", 0)


def distant(**more: object) -> Measured:
    config = {**modules.CONFIG, "num_layers": 1, "sliding_window": 4096, "max_seq_len": 8192, **more}
    return kvplan.measure(modules.Distant(Keys(config)), config=config)


@pytest.mark.usefixtures("large")
def test_a_large_model_is_run_without_numbers_and_beyond_its_window() -> None:
    found = distant()
    assert found.passed
    assert found.facts.device == "meta"
    assert max(run.seq_len for run in found.runs) > 4096
    assert [memory.reach for memory in found.model.layers[0].memories] == [Window(4096)]


@pytest.mark.usefixtures("large")
def test_a_model_that_looks_at_its_numbers_gets_some() -> None:
    found = distant(looks=True, sliding_window=50)
    assert found.passed
    assert found.facts.device == "cpu"
    assert any("meta device does not do" in remark for remark in found.remarks)


def test_a_window_that_no_run_reached_is_said() -> None:
    found = distant(most=300)
    assert any("its config names lengths that no run reached (4,096 tokens)" in note for note in found.model.notes)
    assert any("Distant does not run on 688 tokens: ValueError: too long" in remark for remark in found.remarks)


def test_nothing_is_left_on_the_module_that_was_measured() -> None:
    module = modules.Ring(Keys(modules.CONFIG))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert kvplan.measure(module).passed
    assert module.seen == 0
    assert all(block.ring is None for block in module.blocks)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@each("given", [7, torch.nn.Linear, "x.py", "x:Y", None])
def test_what_is_no_module_is_refused(given: object) -> None:
    with pytest.raises(kvplan.InputError):
        kvplan.measure(given)
