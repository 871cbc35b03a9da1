"""config.json files: each key once, and large tables of a quantiser read past."""

import json
from pathlib import Path

import pytest
from doors import here, refused

from kvplan.errors import ConfigError
from kvplan.loading.config_json import parse_config

CONFIG = '"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64'
#: A line for each of thousands of layers, as quantisers write: 200 kB.
BULK = {f"model.layers.{i}.mlp.up_proj": {"bits": 4} for i in range(5000)}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f'{{{CONFIG}, "num_hidden_layers": 3}}', "num_hidden_layers"),
        (f'{{{CONFIG}, "text_config": {{"head_dim": 64, "x": 1, "head_dim": 64}}}}', "head_dim"),
        (f'{{"hidden_size": 8, "quantization_config": {{"bits": 4, "m": {json.dumps(BULK)}, "bits": 8}}}}', "bits"),
        (f'{{{CONFIG}, "quantization_config": {{"m": {json.dumps(BULK)}}}, "hidden_size": 8}}', "hidden_size"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^config.json: `{key}` is given twice$"):
        parse_config(text.encode(), "config.json")


def test_the_command_line_says_it_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(f'{{{CONFIG}, "head_dim": 16, "head_dim": 32}}', encoding="utf-8")
    refused(here(capsys, "estimate", str(tmp_path)), words="config.json: `head_dim` is given twice")


def test_a_table_of_thousands_of_layers_is_read_past_and_the_rest_is_kept() -> None:
    text = json.dumps({"model_type": "llama", "quantization_config": {"bits": 4, "modules": BULK, "group_size": 64}, "x": [BULK]})
    read = parse_config(text.encode(), "config.json")
    assert read["quantization_config"] == {"bits": 4, "modules": None, "group_size": 64}
    assert read["x"] == [BULK]
