"""`kvplan validate --against transformers`: the library's own cache beside the prediction."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from kvplan import architectures
from kvplan.cli.app import main
from kvplan.domain.model import Layer, Model, Softmax
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.tensors import At, Piece
from kvplan.engines.transformers.engine import Transformers, TransformersOn
from kvplan.engines.transformers.options import TransformersOptions
from kvplan.errors import InputError

if importlib.util.find_spec("transformers") is None:
    pytest.skip("transformers is not installed (dependency group `oracle`): nothing to compare with", allow_module_level=True)

from kvplan.questions.validate import against_transformers as against
from kvplan.questions.validate.choosing import open_device
from kvplan.questions.validate.library_model import shrunk, with_layers
from kvplan.questions.validate.ranks import Ranks

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own
GEMMA: dict[str, Any] = {
    "model_type": "gemma3_text", "num_hidden_layers": 6, "sliding_window": 16, "hidden_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.fixture
def config_file(tmp_path: Path) -> Callable[[dict[str, Any]], str]:
    def write(config: dict[str, Any]) -> str:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        return str(path)

    return write


def test_the_command_says_equal_and_exits_0(config_file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            ["validate", config_file(GEMMA), "--against", "transformers", "-s", "50", "-b", "2", "--device", "cpu", "-f", "json"]
        )
        == 0
    )
    (found,) = json.loads(capsys.readouterr().out)["validations"]
    assert found["equal"]
    assert {check["name"] for check in found["checks"]} == {"elements kept", "tensor storage", "bookkeeping"}
    assert all(check["real_bytes"] == check["predicted_bytes"] for check in found["checks"])
    assert {buffer["name"] for buffer in found["buffers"]} == {"keys", "values"}


def test_a_wrong_prediction_names_the_layer_and_exits_1(
    config_file: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = TransformersOn.tensors

    def wrong(self: TransformersOn, at: At[int]) -> Iterator[Piece[int]]:
        first, *rest = right(self, at)
        yield from (replace(first, padded=first.padded - 1), *rest)

    monkeypatch.setattr(TransformersOn, "tensors", wrong)
    assert main(["validate", config_file(GEMMA), "--against", "transformers", "-s", "50", "--device", "cpu"]) == 1
    assert "layer 0, keys, shape (1, 2, 16, 16) of bfloat16: predicted 1,023 bytes, real 1,024" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [["cache=static", "max_cache_len=64"], ["cache=plain"], ["prompt_len=20"], ["prompt_len=3"]])
def test_every_kind_of_cache_can_be_asked_for(config_file: Any, settings: list[str]) -> None:
    options = [part for setting in settings for part in ("--set", setting)]
    assert main(["validate", config_file(GEMMA), "--against", "transformers", "-s", "20", "--device", "cpu", *options]) == 0


@pytest.mark.parametrize(
    ("name", "room", "words"),
    [
        ("llama-3.1-8b", against.MAX_BYTES, "meta device"),
        ("deepseek-v2-lite", 2**20, "meta device"),
        ("gemma-3-270m", against.MAX_BYTES, "equal"),
    ],
)
def test_true_sizes_are_run_where_they_fit(
    name: str, room: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(against, "MAX_BYTES", room)
    assert main(["validate", name, "--against", "transformers", "-s", "40", "--device", "cpu"]) == 0
    assert words in " ".join(capsys.readouterr().out.split())


def test_the_librarys_refusal_is_told_in_its_words(config_file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    broken = {**GEMMA, "hidden_act": "no-such-function", "hidden_activation": "no-such-function"}
    assert main(["validate", config_file(broken), "--against", "transformers", "-s", "8", "--device", "cpu"]) == 2
    assert "no-such-function" in capsys.readouterr().err


def test_another_engine_and_another_release_are_refused(config_file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = config_file(GEMMA)
    assert main(["validate", path, "--against", "transformers", "-e", "transformers@4.50.0", "--device", "cpu"]) == 2
    assert "is installed, and the prediction is for 4.50.0" in capsys.readouterr().err
    assert main(["validate", path, "--against", "transformers", "-e", "vllm", "--device", "cpu"]) == 2
    assert "engine transformers" in capsys.readouterr().err


def test_a_list_of_layers_is_no_model_of_the_library() -> None:
    memory = Softmax(kv_heads=1, key_dim=8, value_dim=8)
    model = Model(name="m", model_type="spec", layers=(Layer(index=0, memories=(memory,)),))
    with pytest.raises(InputError, match=r"config\.json"):
        against.validate_against_library(model, Workload(seq_len=8), Transformers(), open_device("cpu", Ranks()))


def test_shrinking_leaves_the_layers_alone() -> None:
    config = {"model_type": "mamba", "vocab_size": 50_000, "intermediate_size": 3000, "hidden_size": 768, "num_hidden_layers": 2}
    small = shrunk(config, architectures.read(config))
    assert small["vocab_size"] < 1000
    assert small["intermediate_size"] == 3000  # a Mamba layer's state is as wide


def test_a_model_is_cut_with_all_its_lists() -> None:
    config = {**GEMMA, "layer_types": ["sliding_attention"] * 5 + ["full_attention"]}
    cut = with_layers(config, architectures.read(config), 2)
    assert cut is not None
    assert (len(cut[1].layers), cut[0]["layer_types"]) == (2, ["sliding_attention"] * 2)


def test_a_quantized_cache_is_run_where_its_backend_is_installed() -> None:
    config = {**GEMMA, "model_type": "llama", "sliding_window": None}
    engine = Transformers(TransformersOptions(cache="quantized", backend="fp8", prompt_len=20))
    workload = Workload(batch_size=2, seq_len=30)
    found = against.validate_against_library(architectures.read(config), workload, engine, open_device("cpu", Ranks()))
    assert found.passed, found.failure()
