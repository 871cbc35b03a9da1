"""The Python API: what the issue's users type, one value or several, and displays."""

import io
from importlib import import_module

import kvplan


def test_estimate_is_what_the_readme_says() -> None:
    answer = kvplan.estimate("llama-3.1-8b", seq_len=8192, batch_size=4, kv_dtype="bf16", engine="ideal")
    assert isinstance(answer, kvplan.Allocation)
    assert answer.total_bytes == 4_294_967_296
    assert answer.bytes_per_token == 131_072
    assert len(answer.layers) == 32
    assert sum(layer.bytes for layer in answer.layers) == answer.total_bytes
    assert answer.to_dict(per_layer=True)["layers"][0] == {"index": 0, "kind": "GQA 8x128", "bytes": 134_217_728}


def test_sweep_takes_one_value_several_or_the_command_lines_spelling() -> None:
    one = kvplan.sweep("llama-3.1-8b", seq_len=1024).to_frame()
    several = kvplan.sweep("llama-3.1-8b", seq_len=[1024, 2048], batch_size=(1, 2), kv_dtype=["bf16", "fp8"]).to_frame()
    spelled = kvplan.sweep("llama-3.1-8b", seq_len="1k:2k:x2", batch_size="1,2", kv_dtype="bf16,fp8").to_frame()
    assert len(one) == 1
    assert several.equals(spelled)
    assert several["total_bytes"].sum() == (1024 + 2048) * 3 * (131_072 + 65_536)


def test_a_dict_a_path_and_a_model_load_alike(tmp_path) -> None:  # type: ignore[no-untyped-def]
    config = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    from json import dumps

    (tmp_path / "config.json").write_text(dumps(config))
    models = [kvplan.load(config), kvplan.load(tmp_path), kvplan.load(str(tmp_path / "config.json"))]
    assert len({model.layers for model in models}) == 1
    assert kvplan.load(models[0]) is models[0]


def test_every_public_name_is_there_and_nothing_else() -> None:
    assert sorted(kvplan.__all__) == list(kvplan.__all__)
    for name in kvplan.__all__:
        assert callable(getattr(kvplan, name))
    # whatever modules were imported meanwhile, the functions are not shadowed by them
    import_module("kvplan.loading.yaml_spec.read")
    assert kvplan.load("gpt2").name == "gpt2"


def test_an_answer_shows_itself_in_a_notebook_and_on_a_terminal() -> None:
    from rich.console import Console

    answer = kvplan.estimate("gemma-3-1b", seq_len=4096)
    html = answer._repr_html_()  # type: ignore[union-attr]
    assert html.startswith("<table>")
    assert "MQA 1x256, window 512" in html
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(answer)
    assert "MQA 1x256, window 512" in console.export_text()
    assert "gemma-3-1b" in kvplan.sweep("gemma-3-1b", seq_len="1k:4k:x2")._repr_html_()
