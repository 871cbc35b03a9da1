"""Mistakes in a YAML description: one sentence with file, line, path and value, then a hint."""

from pathlib import Path

import pytest
from each import each

import kvplan
from kvplan.cli.app import main
from kvplan.errors import SpecError
from kvplan.loading.yaml_spec.nodes import MAX_BYTES
from kvplan.loading.yaml_spec.read import model_from_data, parse_spec

SHORT = "layers: 4\nattention: {kv_heads: 1, head_dim: 128}\n"
MISTAKES = {
    "an unknown key, with the nearest": (
        "layers: 4\nattention:\n  kv_head: 1\n",
        "x.yaml:3: unknown key `attention.kv_head`",
        "did you mean `kv_heads`?",
    ),
    "an unknown key at the top": (SHORT + "dtyp: bf16\n", "x.yaml:3: unknown key `dtyp`", "did you mean `dtype`?"),
    "an assumed count outside what is assumed": (
        SHORT + "parameters: {assumed: 5, low: 6, high: 7, because: x}\n",
        "x.yaml:1: the description is not consistent: `parameters` 5 do not lie from the low to the high that is assumed",
        "see docs/guides/specs.md",
    ),
    "an assumed count turned round": (
        SHORT + "parameters: {assumed: 5, low: 9, high: 1, because: x}\n",
        "x.yaml:3: `parameters` is not consistent: an assumed count needs 1 <= low <= high, got 9 and 1",
        "see docs/guides/specs.md",
    ),
    "an assumed count without a reason": (
        SHORT + "parameters: {assumed: 5, low: 4, high: 7}\n",
        "x.yaml:3: `parameters` needs `because`",
        "add `because: …`",
    ),
    "a key of another type of memory": (
        "layers:\n  - {type: softmax, kv_heads: 1,\n     rank: 2, head_dim: 8}\n",
        "x.yaml:3: `layers[0].rank` is not a key of type `softmax`",
        "known here: type, kv_heads, head_dim, key_dim, value_dim, reach, sliding_window",
    ),
    "a missing key": (
        "layers: 4\nattention:\n  kv_heads: 1\n",
        "x.yaml:3: `attention` needs `head_dim` (or `key_dim`)",
        "add `head_dim: …`",
    ),
    "all that a latent lacks": (
        "layers: 4\nattention: {type: latent, rank: 256, rope_dim: 32, attention_heads: 32}\n",
        "x.yaml:2: `attention` needs `nope_dim` and `value_dim`",
        "add `nope_dim: …, value_dim: …`",
    ),
    "a window with a unit of its own": (
        "layers: 4\nattention: {kv_heads: 1, head_dim: 8, sliding_window: 1kk}\n",
        "x.yaml:2: `attention.sliding_window` must be an integer, got `1kk`",
        "write it as digits, such as 1024",
    ),
    "a count with a suffix, deep inside": (
        "layers:\n  - {type: none}\n  - {type: recurrent,\n     states: [{name: a, shape: [8k]}]}\n",
        "x.yaml:4: `layers[1].states[0].shape[0]` must be an integer, got `8k`",
        "write it as digits, such as 1024",
    ),
    "a quoted number": (
        SHORT.replace("4", "'4'", 1),
        "x.yaml:1: `layers` must be an integer, got `'4'`",
        "write it as digits, such as 1024",
    ),
    "no type": (
        "layers:\n  - {kv_heads: 1}\n",
        "x.yaml:2: `layers[0]` needs `type`",
        "add `type: …`",
    ),
    "another type": (
        "layers:\n  - {type: sofmax, kv_heads: 1}\n",
        "x.yaml:2: `layers[0].type` must be one of softmax, latent, index, recurrent, cross, shared, none, got `sofmax`",
        "did you mean `softmax`?",
    ),
    "a map that points forward": (
        SHORT + "cross_layer_sharing:\n  - 0\n  - 2\n  - 2\n  - 3\n",
        "x.yaml:5: `cross_layer_sharing[1]` says that layer 1 reads layer 2, which is a later layer",
        "a layer reads itself (it owns) or an earlier owner",
    ),
    "a map to a layer that owns none": (
        SHORT + "cross_layer_sharing: [0, 0, 1, 3]\n",
        "x.yaml:3: `cross_layer_sharing[2]` says that layer 2 reads layer 1, which owns none: it reads layer 0",
        "a layer reads itself (it owns) or an earlier owner",
    ),
    "a map out of range": (
        SHORT + "cross_layer_sharing: [0, 0, 9, 3]\n",
        "x.yaml:3: `cross_layer_sharing[2]` says that layer 2 reads layer 9, which is a later layer",
        "a layer reads itself (it owns) or an earlier owner",
    ),
    "a map with a negative entry": (
        SHORT + "cross_layer_sharing: [0, -1, 2, 3]\n",
        "x.yaml:3: `cross_layer_sharing[1]` must be an integer from 0 to 10,000, got `-1`",
        "write it as digits, such as 1024",
    ),
    "a map of another length": (
        SHORT + "cross_layer_sharing: [0, 0, 2]\n",
        "x.yaml:3: `cross_layer_sharing` has 3 entries for 4 layers",
        "check that key",
    ),
    "groups that do not add up": (
        SHORT + "cross_layer_sharing: {groups: [2, 3]}\n",
        "x.yaml:3: `cross_layer_sharing` has groups of 5 layers together, and there are 4",
        "check that key",
    ),
    "a shared layer that points forward": (
        "layers:\n  - {type: shared, source: 3}\n",
        "x.yaml:2: `layers[0].source` layer 0 shares layer 3, which is not earlier",
        "check that key",
    ),
    "a shared layer that points before the first": (
        "layers:\n  - {type: shared, back: 1}\n",
        "x.yaml:2: `layers[0].back` 1 points before the first layer, from layer 0",
        "check that key",
    ),
    "heads that do not divide": (
        "layers: 4\nattention: {kv_heads: 3, head_dim: 128, attention_heads: 16}\n",
        "x.yaml:2: `attention.kv_heads` 3 does not divide the 16 query heads",
        "check that key",
    ),
    "two ways to say the window": (
        "layers:\n  - {type: softmax, kv_heads: 1, head_dim: 8, sliding_window: 4, reach: full}\n",
        "x.yaml:2: `layers[0].reach` and `sliding_window` say the same thing",
        "keep one of the two",
    ),
    "two reaches at once": (
        "layers:\n  - {type: softmax, kv_heads: 1, head_dim: 8, reach: {window: 4, chunk: 4}}\n",
        "x.yaml:2: `layers[0].reach` needs one of `window`, `chunk`, `steps`, `compressed` (which may have `overlap`)",
        "see docs/guides/specs.md",
    ),
    "a packed dtype": (
        SHORT + "dtype: q8_0\n",
        "x.yaml:3: `dtype` must be a plain type, got the packed format `q8_0`",
        "such as bfloat16 or float32",
    ),
    "an unknown dtype": (
        SHORT + "dtype: bfloat61\n",
        "x.yaml:3: `dtype` is not a dtype that kvplan knows: `bfloat61`",
        "see `kvplan dtypes` for all of them",
    ),
    "a state whose groups are too large": (
        "layers:\n  - {type: recurrent, states: [{name: s, shape: [4], groups: 2, group_elements: 3}]}\n",
        "x.yaml:2: `layers[0].states[0]` is not consistent: state `s`: its groups are larger than its first dimension",
        "see docs/guides/specs.md",
    ),
    "neither form": ("name: x\n", "x.yaml:1: the description needs `layers` (or `config`)", "add `layers: …`"),
    "both forms": (
        "config: {model_type: llama}\nlayers: 3\n",
        "x.yaml:2: `layers` cannot stand beside `config`",
        "give a hub config, or layers, not both",
    ),
    "a pattern of a number": (
        SHORT + "pattern: 3\n",
        "x.yaml:3: `pattern` goes with a list of layers, and `layers` is a number",
        "list the layers, or drop it",
    ),
    "too many layers by repetition": (
        "pattern: 10000\nlayers: [{repeat: 10000, of: {type: none}}]\n",
        "x.yaml:1: `pattern` makes 100,000,000 layers, and at most 10,000 are allowed",
        "check that key",
    ),
    "too many layers by nesting": (
        "layers: [{repeat: 200, layers: [{repeat: 200, of: {type: none}}]}]\n",
        "x.yaml:1: `layers[0].repeat` makes 40,000 layers, and at most 10,000 are allowed",
        "check that key",
    ),
    "no layers": (
        "layers: []\n",
        "x.yaml:1: `layers` must be a list with at least one entry, got an empty list",
        "check that key",
    ),
    "an ambiguous repetition": (
        "layers:\n  - repeat: 3\n",
        "x.yaml:2: `layers[0]` needs `of` (one layer) or `layers` (several), and not both",
        "add `of: {type: softmax, …}`",
    ),
    "yes is a text": (
        SHORT + "inferred: yes\n",
        "x.yaml:3: `inferred` must be true or false, got `yes`",
        "`yes` and `no` are texts in YAML 1.2",
    ),
    "a mistake in the config": (
        "name: x\nconfig:\n  model_type: llama\n  num_hidden_layers: yes\n",
        "x.yaml:2: `num_hidden_layers` must be a whole number from 1 to 10,000, got `yes`",
        "check that key of the config",
    ),
    "a duplicate key": ("layers: 4\nlayers: 5\n", "x.yaml:2: `layers` is given twice", "it stands on line 1 already"),
    "an anchor": (
        "layers: &n 4\n",
        "x.yaml:1: anchors and aliases are not allowed",
        "write the value out, or use `repeat` or `pattern`",
    ),
    "a tag": (
        "layers: !!python/object:os.system 4\n",
        "x.yaml:1: the tag `tag:yaml.org,2002:python/object:os.system` is not allowed",
        "write a plain value",
    ),
    "a second document": (
        "layers: 4\n---\nlayers: 5\n",
        "x.yaml:2: a second document starts here",
        "one file describes one model",
    ),
    "broken YAML": ("layers: [1,\n", "x.yaml:2: not valid YAML: did not find expected node content", "check the indentation"),
    "a key that is a list": ("? [a, b]\n: 1\n", "x.yaml:1: a key must be a plain text", "write `key: value`, without anchors"),
    "a list at the top": (
        "- 1\n",
        "x.yaml:1: the description must be a mapping (`key: value`), got a list of 1",
        "see docs/guides/specs.md",
    ),
    "only a comment": ("# nothing\n", "x.yaml: holds no YAML value", "give a YAML model description"),
    "a control character": (
        "layers: \x01\n",
        "x.yaml: not valid YAML: control characters are not allowed",
        "is it the right file?",
    ),
}  # fmt: skip


@each(("text", "sentence", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_answered_with_its_place_and_a_way_out(text: str, sentence: str, hint: str) -> None:
    with pytest.raises(kvplan.InputError) as caught:
        parse_spec(text.encode(), "x.yaml")
    assert caught.value.render() == f"error: {sentence}\n\nhint: {hint}"
    assert caught.value.exit_code == 2


@each(
    "number",
    ["yes", "8k", "1e3", "0x10", "0o17", "010", "1_000", "+4", "1.5", "4.0", ".nan", ".inf", "1" + "0" * 400, "-3", "0", "~"],
)
def test_only_digits_are_an_integer(number: str) -> None:
    with pytest.raises(SpecError, match=r"^x.yaml:1: (`layers` must be|the description needs `layers`)"):
        parse_spec(f"layers: {number}\nattention: {{kv_heads: 1, head_dim: 8}}\n".encode(), "x.yaml")


BOMBS = {
    "aliases": b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nlayers: *c\n",
    "deep flow": b"layers: " + b"[" * 100_000,
    "deep block": b"\n".join(b" " * i + b"a:" for i in range(1000)),
    "deep mappings": b"{a: " * 50_000,
    "many values": b"layers:\n" + b"- {}\n" * 120_000,
    "a long key": b"k" * 900_000 + b": 1",
    "a long text": b"name: " + b"n" * 900_000 + b"\nlayers: 1",
    "not UTF-8": b"\xff\xfel\x00a\x00",
    "merge keys": b"<<: {layers: 4}\n",
}


@each("raw", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_with_a_short_sentence(raw: bytes) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(raw, "x.yaml")
    assert len(caught.value.render()) < 400


def test_files_that_are_not_descriptions_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"empty": b" \n", "binary": b"GGUF\0\0\0", "huge": b"#" * (MAX_BYTES + 1)}
    wanted = {"empty": "is empty", "binary": "is binary, not a YAML model description", "huge": "is too large for a YAML model"}
    for name, content in files.items():
        path = tmp_path / f"{name}.yaml"
        path.write_bytes(content)
        assert main(["estimate", str(path)]) == 2
        shown = capsys.readouterr()
        assert wanted[name] in shown.err
        assert shown.out == ""


def test_a_missing_spec_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spec", "./no-such.yaml"]) == 2
    assert "no-such.yaml" in capsys.readouterr().err


HOSTILE_DICTS = {
    "a key that is a number": ({"layers": 4, 3: 1}, "dict: a key must be a text, got `3`"),
    "a value of another type": ({"layers": object()}, "dict: cannot hold a value of type `object`"),
    "a huge number": ({"layers": 10**400, "attention": {}}, "dict: `layers` must be an integer from 1 to 10,000, got a num"),
    "a number as text": ({"layers": "8", "attention": {}}, "dict: `layers` must be an integer, got `'8'`"),
    "a fraction": ({"layers": 1.5, "attention": {}}, "dict: `layers` must be an integer, got `1.5`"),
    "not a number": ({"layers": float("nan"), "attention": {}}, "dict: `layers` must be an integer, got `nan`"),
    "true": ({"layers": True, "attention": {}}, "dict: `layers` must be an integer, got `true`"),
}  # fmt: skip


@each(("data", "start"), HOSTILE_DICTS.values(), ids=HOSTILE_DICTS)
def test_a_dict_is_checked_like_a_file(data: dict, start: str) -> None:
    with pytest.raises(SpecError) as caught:
        model_from_data(data)
    assert str(caught.value).startswith(start)


def test_a_dict_that_holds_itself_is_refused() -> None:
    data: dict = {"layers": 4}
    data["attention"] = data
    with pytest.raises(SpecError, match="nested too deeply"):
        model_from_data(data)
