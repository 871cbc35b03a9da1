"""`validate --against exllamav3`: ten families where the library is installed; elsewhere what it says, and a stand-in library."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from each import each
from typer.testing import CliRunner

import kvplan
from kvplan.cli.app import app
from kvplan.domain.model import Layer, Model, Softmax
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.errors import EnvironmentMissing, InputError
from kvplan.questions.validate.against_exllamav3 import validate_against_exllamav3
from kvplan.questions.validate.choosing import open_device
from kvplan.questions.validate.compare import Validation
from kvplan.questions.validate.ranks import Ranks

INSTALLED = importlib.util.find_spec("exllamav3") is not None
FAMILIES = (
    "llama-3.1-8b", "qwen3-8b", "gpt-oss-20b", "qwen3.6-27b", "qwen3-next-80b-a3b", "lfm2-1.2b", "glm-4.7-flash",
    "deepseek-v4-flash", "kimi-k2", "phi-4", "llama-3.3-nemotron-super-49b",
)  # fmt: skip
#: Enough of exllamav3's surface for one attention layer; `EXTRA` bytes too many make a wrong library.
LIBRARY = """
import json, os, torch
EXTRA = {extra}
class Config:
    @staticmethod
    def from_directory(folder, **more):
        with open(os.path.join(folder, "config.json")) as file:
            config = json.load(file)
        if "rms_norm_eps" not in config:
            raise ValueError("Missing any of the following keys: ['rms_norm_eps']")
        if config.get("hidden_act") == "gelu":
            raise ValueError("Key hidden_act expected to have value silu but was gelu")
        return config
class Model:
    @staticmethod
    def from_config(config, **more):
        return config
class Layer:
    def __init__(self, shape): self.shape = shape
    def alloc(self, device): self.held = [torch.zeros(self.shape, dtype=torch.half, device=device) for _ in range(2)]
    def get_tensors(self): return self.held
    def free(self): self.held = None
class CacheLayer_quant: pass
class Cache:
    def __init__(self, model, max_num_tokens, **more):
        shape = (max_num_tokens // 256, 256, model["num_key_value_heads"], model["head_dim"] + EXTRA)
        self.layers = {{(i, 0): Layer(shape) for i in range(model["num_hidden_layers"])}}
        self.recurrent_layers = {{}}
"""
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "hidden_size": 256,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1000,
}  # fmt: skip


def validated(model: Any, version: str | None = None, **options: Any) -> Validation:
    engine = make_engine("exllamav3" + (f"@{version}" if version else ""), options)
    return validate_against_exllamav3(
        kvplan.load(model), Workload(seq_len=300, batch_size=2), engine, open_device("cpu", Ranks())
    )


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts a stand-in library in the way of the real one."""

    def put(extra: int = 0, version: str = "1.6.5") -> None:
        package = tmp_path / "exllamav3"
        package.mkdir()
        (package / "__init__.py").write_text(LIBRARY.format(extra=extra), encoding="utf-8")
        (package / "version.py").write_text(f'__version__ = "{version}"\n', encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        for name in [name for name in sys.modules if name.partition(".")[0] == "exllamav3"]:
            monkeypatch.delitem(sys.modules, name)

    yield put
    for name in [name for name in sys.modules if name.partition(".")[0] == "exllamav3"]:
        del sys.modules[name]


def test_equal_tensors_pass_layer_by_layer_and_the_report_says_what_was_filled_in(library: Any) -> None:
    library()
    found = validated(CONFIG)
    assert found.passed
    assert [buffer.real_bytes for buffer in found.buffers] == [4 * 256 * 2 * 64 * 2 * 2] * 2
    assert found.device_name == "exllamav3 1.6.5"
    assert any("filled in: rms_norm_eps" in note for note in found.allocation.notes)
    assert any("without the compiled kernels" in note for note in found.allocation.notes)


def test_a_tensor_of_another_shape_is_a_difference(library: Any) -> None:
    library(extra=8)
    found = validated(CONFIG)
    assert not found.passed
    assert found.failure().startswith("layer 0, keys")
    assert any(buffer.name == "a tensor of another shape" for buffer in found.buffers)


def test_another_release_and_other_options_are_refused(library: Any) -> None:
    library(version="1.4.1")
    with pytest.raises(InputError, match=r"exllamav3 1\.4\.1 is installed"):
        validated(CONFIG)
    for options in ({"tensor_parallel": 2}, {"draft_mode": "mtp"}, {"draft": kvplan.load(CONFIG)}):
        with pytest.raises(InputError, match="one card's main cache"):
            validated(CONFIG, **options)
    with pytest.raises(InputError, match="compares the engine exllamav3"):
        validate_against_exllamav3(
            kvplan.load(CONFIG), Workload(seq_len=1), make_engine("ideal", {}), open_device("cpu", Ranks())
        )


def test_what_the_library_refuses_is_said_in_its_words(library: Any) -> None:
    library()
    with pytest.raises(InputError, match=r"not predicted: .*expected to have value silu but was gelu"):
        validated({**CONFIG, "hidden_act": "gelu"})
    layer = Layer(index=0, memories=(Softmax(kv_heads=1, key_dim=64, value_dim=64),))
    with pytest.raises(InputError, match="a list of layers"):
        validated(Model(name="m", model_type="spec", layers=(layer,)))


def test_a_library_that_does_not_start_is_one_sentence(library: Any, tmp_path: Path) -> None:
    library()
    (tmp_path / "exllamav3" / "__init__.py").write_text("raise RuntimeError('no nvcc\\nlong story')", encoding="utf-8")
    with pytest.raises(EnvironmentMissing, match=r"cannot be imported: RuntimeError: no nvcc$"):
        validated(CONFIG)


def test_the_modules_that_stood_in_are_gone_afterwards(library: Any) -> None:
    library()
    before = set(sys.meta_path)
    validated(CONFIG)
    assert set(sys.meta_path) == before
    assert "exllamav3_ext" not in sys.modules


@pytest.mark.skipif(INSTALLED, reason="exllamav3 is installed")
def test_without_the_library_it_says_that_nothing_was_compared(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="exllamav3 is not installed, so nothing was compared"):
        validated(CONFIG)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    done = CliRunner().invoke(app, ["validate", str(tmp_path), "--against", "exllamav3", "--device", "cpu"])
    assert isinstance(done.exception, EnvironmentMissing)
    assert done.exception.exit_code == 3


@pytest.mark.skipif(not INSTALLED, reason="exllamav3 is not installed")
@each("name", FAMILIES)
@each("mode", ["FP16", "Q4", "8,5"])
def test_ten_families_hold_what_was_predicted(name: str, mode: str) -> None:
    found = validated(name, cache_mode=mode)
    assert found.passed, found.failure()
    assert found.buffers
