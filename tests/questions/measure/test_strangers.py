"""Twenty classes of transformers as strangers' files: what is measured of each is what kvplan's own row says of the real type.

They run in this process, on a thread; tests/questions/measure/test_apart.py runs one in a process of its own.
"""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import strangers

if importlib.util.find_spec("transformers") is None:
    pytest.skip("transformers is not installed (dependency group `oracle`): no classes to measure", allow_module_level=True)

import kvplan
from kvplan.domain.allocation import Allocation
from kvplan.domain.model import Chunk, Cross, Index, Latent, Memory, Softmax, Window
from kvplan.loading.yaml_spec.read import parse_spec
from kvplan.loading.yaml_spec.write import dump_spec
from kvplan.questions.measure.measured import Measured, measured
from kvplan.questions.measure.stack import observe_class
from kvplan.questions.measure.strange import Stranger

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own
#: Lengths that no run had, shorter and longer than every window.
LENGTHS = (6, 19, 50, 1000)
ENCODER = 23
LATENT = Latent(rank=20, rope_dim=4, heads=4, nope_dim=10, value_dim=6)
#: What some of the layers must be called, beside their bytes.
EXPECTED: dict[str, tuple[Memory, ...]] = {
    "deepseek_v3": (LATENT,),
    "deepseek_v32": (LATENT, Index(dim=16)),
    "mistral": (Softmax(kv_heads=2, key_dim=12, value_dim=12, reach=Window(9)),),
    "llama4_text": (Softmax(kv_heads=2, key_dim=12, value_dim=12, reach=Chunk(8)),),
    "bart": (Cross(kv_heads=4, key_dim=8, value_dim=8),),
}


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """A stranger's modules leave this process again."""
    import torch

    torch.set_num_threads(1)
    modules, path, writes = set(sys.modules), list(sys.path), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    yield
    for name in [name for name in sys.modules if name not in modules and "kvplan_measured" in name]:
        del sys.modules[name]
    sys.path[:], sys.dont_write_bytecode = path, writes


def found(folder: Path, model_type: str) -> Measured:
    file, name = strangers.stranger(folder, model_type)
    config = {**strangers.config_of(model_type), "model_type": "zorb", "architectures": [name]}
    return measured(observe_class(Stranger(str(file), name), config, seconds=600))


def total(model: object, tokens: int, engine: str, encoder: int) -> int:
    answer = kvplan.estimate(model, seq_len=tokens, batch_size=3, engine=engine, encoder_len=encoder)  # type: ignore[arg-type]
    assert isinstance(answer, Allocation)
    return answer.total_bytes


def test_there_are_twenty_of_every_kind() -> None:
    assert len(strangers.ROWS) == 20
    assert {row.kind for row in strangers.ROWS.values()} == {"plain", "windowed", "MLA", "hybrid", "cross", "shared", "looped"}


@pytest.mark.parametrize("model_type", strangers.ROWS)
def test_a_stranger_is_measured_as_its_own_row_says(model_type: str, tmp_path: Path) -> None:
    seen = found(tmp_path, model_type)
    assert seen.passed, seen.failure()
    assert {run.seq_len for run in seen.runs}.isdisjoint(LENGTHS)
    assert len(seen.depths) == (3 if model_type in strangers.DEEP else 0), seen.remarks
    assert not seen.depths or max(seen.depths) < len(seen.model.layers)
    again = parse_spec(dump_spec(seen.model).encode(), "zorb.yaml")
    encoder = ENCODER if seen.facts.encoder else 0
    own = [total(strangers.config_of(model_type), tokens, "transformers", encoder) for tokens in LENGTHS]
    assert [total(again, tokens, "ideal", encoder) for tokens in LENGTHS] == own
    assert [total(again, tokens, "transformers", encoder) for tokens in LENGTHS] == own
    assert set(EXPECTED.get(model_type, ())) <= {memory for layer in seen.model.layers for memory in layer.memories}
    layers = kvplan.estimate(strangers.config_of(model_type), seq_len=50, engine="transformers", encoder_len=encoder).layers
    mine = kvplan.estimate(again, seq_len=50, encoder_len=encoder).layers
    assert [layer.bytes for layer in mine] == [layer.bytes for layer in layers]
