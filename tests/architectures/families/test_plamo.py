"""PLaMo 2: states and windows in turn."""

from shipped import states_of

from kvplan.architectures import read
from kvplan.domain.model import Full, Softmax, Window


def test_plamo_2_alternates_states_and_windows():
    model = read({"model_type": "plamo2", "full_attention_idx": [3]})
    states = states_of(model)[0].states
    assert sum(3 * state.shape[0] for state in states if state.kernel) * 16 * 4 == 1_572_864  # R of llama.cpp, float32
    assert [i for i, layer in enumerate(model.layers) if isinstance(layer.memories[0], Softmax)] == list(range(1, 32, 2))
    assert [model.layers[i].memories[0].reach for i in (1, 3)] == [Window(2048), Full()]
