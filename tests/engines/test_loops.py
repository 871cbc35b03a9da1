"""Looped models in the engines that serve them: what each class really repeats, whatever the config says."""

from typing import Any

import pytest
from each import each

import kvplan
from kvplan import architectures
from kvplan.domain.model import Full, Model, Window
from kvplan.engines import make_engine
from kvplan.engines.vllm.loops import served
from kvplan.errors import KvplanError, Refused

TOKEN = 2 * 2 * 64 * 2  # bytes of a layer: keys and values of 2 heads of 64 in bfloat16
DORY = {
    "model_type": "dory", "num_hidden_layers": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "n_input_layers": 0, "n_output_layers": 0, "max_position_embeddings": 8192,
}  # fmt: skip
NANBEIGE = {
    "model_type": "nanbeige", "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 256,
    "num_loops": 3,
}  # fmt: skip
OURO = {"model_type": "ouro", "num_hidden_layers": 4, "num_attention_heads": 2, "hidden_size": 128}
LOOP_CODER = {
    "model_type": "iquestloopcoder", "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "hidden_size": 256, "loop_num": 2, "loop_window_size": 16,
}  # fmt: skip


def read(data: dict[str, Any], **more: Any) -> Model:
    return architectures.read({**data, **more})


def rows(model: Model) -> list[str]:
    return ["*" if layer.memories[0].reach == Full() else "S" for layer in served(model).layers]  # type: ignore[union-attr]


def cache(data: dict[str, Any], engine: str, **options: Any) -> int:
    answer = kvplan.estimate(read(data), seq_len=64, engine=engine, **options)
    return answer.payload_bytes


def refusal(data: dict[str, Any], engine: str, **options: Any) -> str:
    with pytest.raises(Refused) as problem:
        kvplan.estimate(read(data), seq_len=64, engine=engine, **options)
    return str(problem.value)


def test_vllm_counts_dorys_blocks_and_runs_them_once_unless_told() -> None:
    model = read(DORY)
    assert len(model.layers) == 32  # transformers: 16 layers, two loops
    assert rows(model) == ["S", "S", "S", "*"] * 2
    assert rows(read({"model_type": "dory"})) == ["S", "S", "S", "*"] * 9


@pytest.mark.parametrize(("mode", "copies"), [("per_loop", 2), ("last_loop", 0)])
def test_vllm_keeps_each_loop_of_the_recurrent_blocks_or_the_last(mode: str, copies: int) -> None:
    told = {**DORY, "n_input_layers": 4, "n_output_layers": 4, "n_recurrent_loops": 3, "recurrent_kv_cache_mode": mode}
    own = ["S", "S", "S", "*"] * 2
    assert rows(read(told)) == own + own[2:6] * copies
    assert cache(told, "vllm@0.33.0") == TOKEN * 64 * (8 + 4 * copies)


def test_vllms_own_words_for_dory_win() -> None:
    signs = {"hybrid_layer_pattern": "S-*-" * 2, "num_hidden_layers": 8, "attention_head_dim": 32, "swa_window_size": 48}
    told = {key: value for key, value in DORY.items() if key != "head_dim"} | signs
    model = served(read(told))
    assert rows(read(told)) == ["S", "*"] * 2
    assert model.layers[0].memories[0].reach == Window(48)  # type: ignore[union-attr]
    assert model.layers[0].memories[0].key_dim == 32  # type: ignore[union-attr]
    assert read(told).layers == model.layers  # a file in these words says the same to everybody


@each(
    "keys",
    [
        {"num_hidden_layers": 12},  # no whole period
        {"hybrid_layer_pattern": "S-"},
        {"hybrid_layer_pattern": "S-X-" * 4},
        {"n_input_layers": 10**9},
        {"n_recurrent_loops": 999, "num_hidden_layers": 2**12},
        {"attention_head_dim": -1},
        {"layer_types": ["full_attention"] * 3 + [7]},
    ],
)
def test_configs_that_vllms_dory_does_not_take_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(KvplanError):
        make_engine("vllm", {}).on(read({**DORY, **keys}))


def test_vllm_serves_dory_on_one_device() -> None:
    assert "tensor_parallel_size=1 only" in refusal(DORY, "vllm@0.33.0", tensor_parallel=2)


def test_vllms_transformers_backend_repeats_no_loop_of_nanbeige() -> None:
    assert cache(NANBEIGE, "ideal") == TOKEN * 64 * 12
    assert cache(NANBEIGE, "vllm@0.33.0") == TOKEN * 64 * 4
    notes = kvplan.estimate(read(NANBEIGE), seq_len=64, engine="vllm").notes
    assert [note for note in notes if "loops are not repeated" in note]
    assert not [note for note in notes if "cache of its own" in note]


def test_vllm_has_no_class_for_inkling_2s_loops() -> None:
    for model_type in ("inkling2_loop_text", "inkling2_text"):
        assert "no class for this type" in refusal({"model_type": model_type}, "vllm@0.33.0")


def test_ouro_ends_with_vllm_0_26() -> None:
    assert cache(OURO, "vllm@0.26.0") == TOKEN * 64 * 16
    assert "supported until v0.26.0" in refusal(OURO, "vllm@0.27.0")


@pytest.mark.parametrize(("loops", "layers"), [({"num_loops": 3}, 12), ({"num_loops": None, "loop_loss_weights": [1]}, 8)])
def test_sglang_multiplies_layers_by_loops_once(loops: dict[str, Any], layers: int) -> None:
    told = {**NANBEIGE, "architectures": ["NanbeigeForCausalLM"], **loops}
    assert len(read(told).layers) == layers
    many, one = (cache({**told, "num_loops": n or None}, "sglang") for n in (told["num_loops"] or 2, 1))
    assert many == one * (layers // 4)


def test_sglang_keeps_whole_windows_of_later_passes() -> None:
    assert cache(LOOP_CODER, "sglang") == 2 * cache({**LOOP_CODER, "loop_num": 1}, "sglang")


def test_mlx_lm_refuses_loops_that_its_modules_do_not_run() -> None:
    assert "runs its layers twice, and this model 3 times" in refusal({**LOOP_CODER, "loop_num": 3}, "mlx-lm")
    assert kvplan.estimate(read(LOOP_CODER), seq_len=64, engine="mlx-lm").total_bytes
    for key in ("loop_share_kv", "enable_double_loop_split"):
        assert f"does not take `{key}`" in refusal({**NANBEIGE, key: True}, "mlx-lm")
