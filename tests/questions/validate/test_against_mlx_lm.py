"""`validate --against mlx-lm`: the library's own prompt cache where it is installed, a clear word where it is not."""

import importlib.util

import pytest
from each import each
from typer.testing import CliRunner

import kvplan
from kvplan.cli.app import app
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.errors import InputError
from kvplan.questions.validate.against_mlx_lm import validate_against_mlx_lm

INSTALLED = importlib.util.find_spec("mlx_lm") is not None
needs_library = pytest.mark.skipif(not INSTALLED, reason="mlx-lm is not installed: its caches are not compared")
#: Ten families: plain, sliding, shared, latent, expanded latent, indexed, chunked, hybrids of three kinds, convolutions.
MODELS = (
    "llama-3.1-8b", "gemma-3-12b", "gemma-3n-e4b", "gpt-oss-20b", "deepseek-v3", "glm-5", "llama-4-scout-17b-16e",
    "qwen3-next-80b-a3b", "falcon-h1-7b", "granite-4.0-h-tiny", "lfm2-1.2b", "minimax-m2",
)  # fmt: skip


@needs_library
@each("name", MODELS)
def test_the_library_holds_what_is_predicted_entry_by_entry(name: str) -> None:
    answer = validate_against_mlx_lm(kvplan.load(name), Workload(seq_len=2500), make_engine("mlx-lm", {"prompt_len": 2400}))
    assert answer.passed, answer.failure()
    assert sum(check.predicted_bytes for check in answer.buffers) == answer.allocation.allocated_bytes > 0


@needs_library
@pytest.mark.parametrize("options", [{"kv_bits": 4, "quantized_kv_start": 0}, {"max_kv_size": 512}, {"prefill_step_size": 300}])
def test_options_reach_the_library(options: dict[str, object]) -> None:
    answer = validate_against_mlx_lm(kvplan.load("qwen3-8b"), Workload(seq_len=1500), make_engine("mlx-lm", options))
    assert answer.passed, answer.failure()


@needs_library
def test_a_batch_is_the_librarys_own() -> None:
    answer = validate_against_mlx_lm(kvplan.load("gemma-3-12b"), Workload(seq_len=700, batch_size=3), make_engine("mlx-lm", {}))
    assert answer.passed, answer.failure()
    assert {check.name for check in answer.buffers} == {"BatchKVCache", "BatchRotatingKVCache"}


@needs_library
def test_another_release_or_engine_is_refused() -> None:
    model = kvplan.load("qwen3-8b")
    with pytest.raises(InputError, match="is installed"):
        validate_against_mlx_lm(model, Workload(seq_len=10), make_engine("mlx-lm@0.1.0", {}))
    with pytest.raises(InputError, match="compares the engine mlx-lm"):
        validate_against_mlx_lm(model, Workload(seq_len=10), make_engine("ideal", {}))


@pytest.mark.skipif(INSTALLED, reason="mlx-lm is installed")
def test_where_the_library_is_missing_the_skip_is_said() -> None:
    result = CliRunner().invoke(app, ["validate", "qwen3-8b", "--against", "mlx-lm"])
    assert result.exit_code != 0
    assert "mlx-lm is not installed, so its caches were not compared" in str(result.exception)
