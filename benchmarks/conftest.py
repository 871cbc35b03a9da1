"""What several benchmarks share."""

import pytest

from kvplan.domain.model import Full, Layer, Model, Softmax, Window


@pytest.fixture
def sliding_and_full() -> Model:
    """62 layers as Gemma 3 27B has them: five sliding ones, then a full one."""
    reaches = [Full() if i % 6 == 5 else Window(1024) for i in range(62)]
    memories = [Softmax(kv_heads=16, key_dim=128, value_dim=128, reach=reach) for reach in reaches]
    return Model(name="gemma", model_type="spec", layers=tuple(Layer(index=i, memories=(m,)) for i, m in enumerate(memories)))
