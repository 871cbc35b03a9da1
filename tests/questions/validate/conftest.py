"""Small models of every kind of memory, a config.json, and a watch over every tensor that is allocated."""

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvplan.domain.allocation import Allocation
from kvplan.domain.model import Cross, Index, Latent, Layer, Memory, Model, Recurrent, Shared, Softmax, State, Window
from kvplan.domain.workload import Workload
from kvplan.questions.estimate import plan

GQA = Softmax(kv_heads=2, key_dim=64, value_dim=64)
SLIDING = Softmax(kv_heads=2, key_dim=64, value_dim=64, reach=Window(16))
MLA = Latent(rank=96, rope_dim=32, heads=4, nope_dim=32, value_dim=32)
MAMBA = Recurrent(
    kind="mamba2",
    states=(State(name="conv", shape=(96,), kernel=4), State(name="ssm", shape=(8, 16, 24), dtype="float32")),
)
KINDS: dict[str, tuple[tuple[Memory, ...], ...]] = {
    "gqa": ((GQA,),) * 4,
    "uneven": ((Softmax(kv_heads=3, key_dim=48, value_dim=40),),) * 3,
    "sliding": ((SLIDING,), (SLIDING,), (GQA,)),
    "mla": ((MLA,), (MLA, Index(dim=32, dtype="fp8_e4m3"))),
    "hybrid": ((MAMBA,), (MAMBA, GQA), ()),
    "cla": ((GQA,), (Shared(source=0),), (GQA,), (Shared(source=2),)),
    "encoder-decoder": ((GQA, Cross(kv_heads=2, key_dim=64, value_dim=64)),) * 2,
}


def small_model(kind: str, dtype: str = "bfloat16") -> Model:
    layers = tuple(Layer(index=i, memories=memories) for i, memories in enumerate(KINDS[kind]))
    return Model(name=kind, model_type="test", layers=layers, dtype=dtype, attention_heads=8)


@pytest.fixture
def model_of() -> Callable[..., Model]:
    return small_model


@pytest.fixture
def predicted() -> Callable[..., Allocation]:
    def answer(kind: str, *, seq_len: int = 40, batch_size: int = 3, encoder_len: int = 7, **options: Any) -> Allocation:
        found = plan(small_model(kind), Workload(seq_len=seq_len, batch_size=batch_size, encoder_len=encoder_len), **options)
        assert isinstance(found, Allocation)
        return found

    return answer


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    config = {
        "model_type": "llama", "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4,
        "hidden_size": 512, "torch_dtype": "bfloat16",
    }  # fmt: skip
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
def born(monkeypatch: pytest.MonkeyPatch) -> "list[weakref.ref[Any]]":
    """Weak references to every tensor that `torch.empty` makes."""
    import torch

    seen: list[weakref.ref[Any]] = []
    real = torch.empty

    def watched(*args: Any, **kwargs: Any) -> Any:
        tensor = real(*args, **kwargs)
        seen.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(torch, "empty", watched)
    return seen
