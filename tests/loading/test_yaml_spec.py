"""YAML descriptions: what each form means."""

import re
from pathlib import Path

import golden
import pytest

import kvplan
from kvplan.domain.model import Chunk, Compressed, Cross, Index, Latent, Layer, Model, Recurrent, Shared, Softmax, State, Window
from kvplan.loading.yaml_spec.read import SHARING_NOTE, model_from_data, parse_spec


def spec(text: str) -> Model:
    return parse_spec(text.encode(), "x.yaml")


KEPT = Softmax(kv_heads=1, key_dim=128, value_dim=128)


def test_a_factor_shares_within_groups_and_the_last_group_may_be_short() -> None:
    model = spec("layers: 5\nattention: {kv_heads: 1, head_dim: 128}\ncross_layer_sharing: 2\n")
    expected = [KEPT, Shared(source=0), KEPT, Shared(source=2), KEPT]
    assert [layer.memories[0] for layer in model.layers] == expected


UNEVEN = """\
name: acme/cla-uneven
dtype: bfloat16
max_tokens: 32768
layers: 8
attention:
  kv_heads: 2
  head_dim: 128
  attention_heads: 16
# layers 0, 1, 4 and 7 own; 2 and 3 read layer 1; 5 reads 4, and 6 goes back to 0
cross_layer_sharing: [0, 1, 1, 1, 4, 4, 0, 7]
"""


def test_ten_lines_describe_a_new_sharing_variant_with_an_uneven_map() -> None:
    model = spec(UNEVEN)
    assert len(UNEVEN.splitlines()) <= 10
    sources = [m.source if isinstance(m := layer.memories[0], Shared) else layer.index for layer in model.layers]
    assert sources == [0, 1, 1, 1, 4, 4, 0, 7]
    estimate = kvplan.estimate(model, seq_len=1000)
    assert estimate.bytes_per_token == 4 * 2 * 2 * 128 * 2
    assert SHARING_NOTE in model.notes


def test_groups_of_any_sizes_are_the_same_map_written_shorter() -> None:
    head = "layers: 6\nattention: {kv_heads: 1, head_dim: 64}\ncross_layer_sharing: "
    assert spec(head + "{groups: [1, 3, 2]}") == spec(head + "[0, 1, 1, 1, 4, 4]")


def test_every_layer_its_own_map_shares_nothing_and_says_nothing() -> None:
    model = spec("layers: 3\nattention: {kv_heads: 1, head_dim: 128}\ncross_layer_sharing: [0, 1, 2]\n")
    assert model == spec("layers: 3\nattention: {kv_heads: 1, head_dim: 128}\n")
    assert model.notes == ()


HYBRID = """\
name: acme/hybrid-9b
dtype: bfloat16
pattern: 12
layers:
  - repeat: 3
    of: {type: recurrent, kind: gated_delta, states: [
        {name: conv, shape: [8192], kernel: 4}, {name: delta, shape: [32, 128, 128], dtype: float32}]}
  - {type: softmax, kv_heads: 2, key_dim: 256, value_dim: 256}
"""


def test_pattern_and_repeat_write_layers_out() -> None:
    model = spec(HYBRID)
    delta = Recurrent(
        states=(State(name="conv", shape=(8192,), kernel=4), State(name="delta", shape=(32, 128, 128), dtype="float32")),
        kind="gated_delta",
    )
    full = Softmax(kv_heads=2, key_dim=256, value_dim=256)
    assert [layer.memories for layer in model.layers] == [(delta,), (delta,), (delta,), (full,)] * 12


def test_repeats_nest_and_sharing_by_distance_repeats_with_them() -> None:
    text = """
    layers:
      - repeat: 2
        layers:
          - {type: softmax, kv_heads: 4, head_dim: 64, sliding_window: 512}
          - repeat: 2
            of: {type: shared, back: 1}
    """
    with pytest.raises(kvplan.KvplanError, match="owns no keys and values"):
        spec(text)  # the second of the two reads a layer that owns none
    model = spec(text.replace("{type: shared, back: 1}", "{type: shared, source: 0}"))
    assert [layer.memories[0] for layer in model.layers][1:3] == [Shared(source=0)] * 2


ALL_KINDS = """
model_type: acme
attention_heads: 16
layers:
  - {type: softmax, kv_heads: 4, key_dim: 96, value_dim: 64, reach: {chunk: 8192}}
  - - {type: latent, rank: 512, rope_dim: 64, heads: 16, nope_dim: 128, value_dim: 128}
    - {type: index, dim: 128, heads: 2, dtype: fp8}
  - [{type: softmax, kv_heads: 1, head_dim: 512, value_dim: 0, reach: {compressed: 4, overlap: true}}]
  - {type: cross, kv_heads: 8, head_dim: 64, tokens: 1500, reach: {window: 128}}
  - {type: none}
  - []
  - {type: shared, back: 3}
drafts:
  - {type: softmax, kv_heads: 4, head_dim: 96, reach: full}
"""


def test_every_kind_of_memory_can_be_written() -> None:
    model = spec(ALL_KINDS)
    assert [layer.memories for layer in model.layers] == [
        (Softmax(kv_heads=4, key_dim=96, value_dim=64, reach=Chunk(8192)),),
        (
            Latent(rank=512, rope_dim=64, heads=16, nope_dim=128, value_dim=128),
            Index(dim=128, heads=2, dtype="fp8_e4m3"),
        ),
        (Softmax(kv_heads=1, key_dim=512, value_dim=0, reach=Compressed(4, overlap=True)),),
        (Cross(kv_heads=8, key_dim=64, value_dim=64, tokens=1500, reach=Window(128)),),
        (),
        (),
        (Shared(source=3),),
    ]
    assert model.drafts == (Layer(index=0, memories=(Softmax(kv_heads=4, key_dim=96, value_dim=96),)),)
    assert (model.model_type, model.attention_heads) == ("acme", 16)


CONFIG = """
name: my-llama
dtype: float16
max_tokens: 4096
weights_bytes: 16060522496
notes: a note of mine
config:
  model_type: llama
  torch_dtype: bfloat16
  num_hidden_layers: 4
  num_attention_heads: 8
  hidden_size: 1024
  rms_norm_eps: 1e-05
"""


def test_a_hub_config_stands_under_its_key_and_the_description_has_the_last_word() -> None:
    model = spec(CONFIG)
    expected = Model(
        name="my-llama",
        model_type="llama",
        layers=tuple(Layer(index=i, memories=(Softmax(kv_heads=8, key_dim=128, value_dim=128),)) for i in range(4)),
        dtype="float16",
        max_tokens=4096,
        attention_heads=8,
        weights_bytes=16060522496,
    )
    assert model == expected
    assert model.notes[-1] == "a note of mine"
    assert model.origin is not None
    assert model.origin.config["rms_norm_eps"] == 1e-05


def test_a_dict_of_the_same_form_means_the_same() -> None:
    data = {
        "name": "acme/cla-uneven", "dtype": "bfloat16", "max_tokens": 32768, "layers": 8,
        "attention": {"kv_heads": 2, "head_dim": 128, "attention_heads": 16}, "cross_layer_sharing": (0, 1, 1, 1, 4, 4, 0, 7),
    }  # fmt: skip
    assert kvplan.load(data) == model_from_data(data) == spec(UNEVEN)


def test_a_dict_with_a_model_type_is_a_description_when_it_lists_layers() -> None:
    data = {"model_type": "llama", "layers": [{"type": "softmax", "kv_heads": 1, "head_dim": 8}]}
    assert len(kvplan.load(data).layers) == 1


def test_numbers_say_which_line_gave_them() -> None:
    facts = {fact.key: (fact.value, fact.origin) for fact in spec(UNEVEN).provenance}
    assert facts["attention.kv_heads"] == ("2", "x.yaml:6")
    assert facts["layers"] == ("8", "x.yaml:4")


def test_a_file_without_a_name_is_called_after_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("\ufefflayers: 2\nattention: {kv_heads: 1, head_dim: 8}\n", encoding="utf-8")
    assert kvplan.load(path).name == "mine"
    assert kvplan.load(str(path)) == kvplan.load(path)


def test_the_guide_shows_descriptions_that_load() -> None:
    guide = golden.GUIDES / "specs.md"
    blocks = re.findall(r"```yaml\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    assert [len(spec(block).layers) for block in blocks] == [20, 48, 32]


def test_infer_reaches_a_config_inside_a_description(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(
        "config: {model_type: nonesuch, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8}\n"
    )
    with pytest.raises(kvplan.InputError, match="no architecture for model_type `nonesuch`"):
        kvplan.load(path)
    assert kvplan.load(path, infer=True).inferred


def test_tokens_are_written_as_people_say_them_and_a_latents_heads_are_the_attentions() -> None:
    text = "name: a\nmax_tokens: 128k\nlayers: 2\nattention: {kv_heads: 1, head_dim: 8, sliding_window: 4K}\n"
    model = parse_spec(text.encode(), "x.yaml")
    assert model.max_tokens == 131072
    assert model.layers[0].memories == (Softmax(kv_heads=1, key_dim=8, value_dim=8, reach=Window(4096)),)
    chunk = text.replace("sliding_window: 4K", "reach: {chunk: 1M}")
    assert parse_spec(chunk.encode(), "x.yaml").layers[0].memories[0].reach == Chunk(2**20)  # type: ignore[union-attr]
    latent = (
        "name: a\nlayers: 1\nattention: {type: latent, rank: 8, rope_dim: 2, attention_heads: 4, nope_dim: 3, value_dim: 5}\n"
    )
    assert parse_spec(latent.encode(), "x.yaml").layers[0].memories == (
        Latent(rank=8, rope_dim=2, heads=4, nope_dim=3, value_dim=5),
    )
