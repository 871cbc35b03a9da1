"""Reading an unknown model type by the shape of its keys: never less than the class keeps."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import shipped
from each import each
from golden import cases

from kvplan import architectures
from kvplan.architectures.unread import meaning_of
from kvplan.domain.model import Chunk, Full, Latent, Model, Softmax, Window
from kvplan.domain.workload import Workload
from kvplan.errors import ConfigError, GgufError, UnknownArchitecture
from kvplan.gguf.memories import model_from_keys
from kvplan.loading.gguf_file import only_read
from kvplan.questions.estimate import plan

SHAPE = {"model_type": "acme-7", "num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 512, "rms_norm_eps": 1e-6}
CUT = {key: value for key, value in SHAPE.items() if key != "rms_norm_eps"}  # no key that every saved file has


def test_an_unknown_type_is_refused_unless_it_may_be_inferred() -> None:
    with pytest.raises(UnknownArchitecture):
        architectures.read(SHAPE)
    model = architectures.read(SHAPE, infer=True)
    assert model.inferred
    assert "acme-7" in model.notes[0]
    assert {layer.memories for layer in model.layers} == {(Softmax(kv_heads=8, key_dim=64, value_dim=64),)}


def test_a_known_type_is_not_marked_inferred() -> None:
    assert not architectures.read({"model_type": "llama"}, infer=True).inferred


@each(
    ("keys", "expected"),
    [
        ({"num_key_value_heads": 2}, Softmax(kv_heads=2, key_dim=64, value_dim=64)),
        ({"n_kv_heads": 2, "head_dim": 96}, Softmax(kv_heads=2, key_dim=96, value_dim=96)),
        ({"sliding_window": 128}, Softmax(kv_heads=8, key_dim=64, value_dim=64)),
        ({"attention_chunk_size": 256}, Softmax(kv_heads=8, key_dim=64, value_dim=64)),
        (
            {"attention_chunk_size": 256, "layer_types": ["chunked_attention"] * 4},
            Softmax(kv_heads=8, key_dim=64, value_dim=64, reach=Chunk(256)),
        ),
        ({"sliding_window": 128, "use_sliding_window": False}, Softmax(kv_heads=8, key_dim=64, value_dim=64)),
        (
            {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128},
            Latent(rank=512, rope_dim=64, heads=8, nope_dim=128, value_dim=128),
        ),
    ],
)  # fmt: skip
def test_common_keys_mean_what_they_usually_mean(keys: dict[str, Any], expected: object) -> None:
    model = architectures.read({**SHAPE, **keys}, infer=True)
    assert {layer.memories for layer in model.layers} == {(expected,)}


@each("key", ["sliding_window", "attention_chunk_size"])
def test_a_window_in_a_cut_file_is_refused_where_nothing_says_of_which_layers(key: str) -> None:
    with pytest.raises(ConfigError, match=f"`{key}` .*cut"):
        architectures.read({**CUT, key: 128}, infer=True)
    with pytest.raises(ConfigError, match=f"`text_config.{key}` .*cut"):
        architectures.read({"model_type": "acme-vl", "text_config": {**CUT, key: 128}}, infer=True)
    kind = "sliding_attention" if key == "sliding_window" else "chunked_attention"
    for more in (
        {"layer_types": [kind] * 4},
        {"transformers_version": "9.9"},
        {"hidden_act": "silu"},
        {"torch_dtype": "bfloat16"},
    ):
        assert architectures.read({**CUT, key: 128, **more}, infer=True).inferred
    assert architectures.read({**CUT, "sliding_window": 128, "use_sliding_window": False}, infer=True).inferred


def test_layer_types_decide_by_shape_too() -> None:
    types = ["sliding_attention", "full_attention"] * 2
    model = architectures.read({**SHAPE, "layer_types": types, "sliding_window": 64}, infer=True)
    reaches = [m.reach for layer in model.layers for m in layer.memories if isinstance(m, Softmax)]
    assert reaches == [Window(64), Full()] * 2


def test_the_text_part_of_an_unknown_wrapper_is_found() -> None:
    known = architectures.read({"model_type": "acme-vl", "text_config": {**SHAPE, "model_type": "llama"}})
    unknown = architectures.read({"model_type": "acme-vl", "text_config": SHAPE}, infer=True)
    assert (len(known.layers), known.inferred) == (4, False)
    assert (len(unknown.layers), unknown.inferred) == (4, True)


@pytest.mark.parametrize("missing", ["num_hidden_layers", "num_attention_heads", "hidden_size"])
def test_nothing_is_assumed_about_an_unknown_class(missing: str) -> None:
    config = {key: value for key, value in SHAPE.items() if key != missing}
    with pytest.raises(ConfigError, match=missing):
        architectures.read(config, infer=True)


@each(
    ("key", "value"),
    [
        ("mamba_d_state", 16),
        ("linear_num_value_heads", 16),
        ("index_head_dim", 16),
        ("encoder_layers", 4),
        ("cross_attention_layers", [1, 3]),
        ("conv_L_cache", 3),
        ("n_input_layers", 0),
        ("layers_block_type", ["a", "b", "a", "b"]),
        ("schedule", [0, 1, 0, 1]),
        ("full_attention_interval", 4),
        ("new_decoder_architecture", True),
        ("loop_mode", "per_loop"),
        ("kv_source_layers", [1]),
        ("per_layer_config", {"03": {"recurrent": {"width": 9}}}),
        ("talker", {"num_hidden_layers": 4}),
    ],
)
def test_a_key_that_may_mean_more_is_refused_by_its_name(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        architectures.read({**SHAPE, key: value}, infer=True)
    assert "YAML" in caught.value.hint


@each(
    ("more", "expected"),
    [
        ({"sliding_window": 16}, (8, 64, 64)),
        ({"sliding_window": 16, "layer_period": 4}, (8, 64, 64)),
        ({"num_kv_shared_layers": 2}, (8, 64, 64)),
        ({"multi_query": True}, (8, 64, 64)),
        ({"num_key_value_heads": 2, "swa_num_key_value_heads": 4}, (4, 64, 64)),
        ({"num_key_value_heads": 2, "swa_num_attention_heads": 16, "swa_num_key_value_heads": 4}, (4, 64, 64)),
        ({"head_dim": 64, "global_head_dim": 96}, (8, 96, 96)),
        ({"head_dim": 64, "v_head_dim": 32, "swa_v_head_dim": 48}, (8, 64, 48)),
        ({"per_layer_config": {"02": {"num_key_value_heads": 16, "head_dim": 80}}}, (16, 80, 80)),
        ({"hidden_size": 640}, (8, 128, 128)),
    ],
)
def test_a_key_that_can_only_save_leaves_an_upper_bound_that_names_it(more: dict[str, Any], expected: tuple[int, ...]) -> None:
    model = architectures.read({**SHAPE, **more}, infer=True)
    assert {(m.kv_heads, m.key_dim, m.value_dim, m.reach) for m in shipped.owners(model)} == {(*expected, Full())}
    assert "upper bound" in model.notes[1]
    assert next(reversed(more)).partition("_")[0] in model.notes[1] or "hidden_size" in more


def test_windows_that_are_listed_are_no_upper_bound_and_the_widest_counts() -> None:
    types = ["sliding_attention", "full_attention"] * 2
    config = {**SHAPE, "layer_types": types, "sliding_window": 64, "sliding_window_pattern": 2}
    assert len(architectures.read(config, infer=True).notes) == 1
    wider = architectures.read(config | {"local_window_size": 128}, infer=True)
    assert [m.reach for m in shipped.owners(wider)] == [Window(128), Full()] * 2


@pytest.mark.parametrize(
    "more",
    [
        {"num_layers": 8},  # beside num_hidden_layers
        {"num_heads": 4},
        {"hidden_size": 256},  # 32 elements a head: a class that leaves it out assumes more
        {"kv_lora_rank": 64, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "swa_head_dim": 8},
    ],
)
def test_what_contradicts_itself_or_leaves_too_much_open_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        architectures.read({**SHAPE, **more}, infer=True)


def test_a_latent_whose_layers_are_counted_in_other_words_may_be_two_a_layer() -> None:
    latent = {"kv_lora_rank": 64, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
    config = {key: value for key, value in SHAPE.items() if key != "num_hidden_layers"} | latent | {"num_layers": 4}
    with pytest.raises(ConfigError, match="num_hidden_layers"):
        architectures.read(config, infer=True)


@each("key", ["mlp_bias", "rope_theta", "moe_layer_freq", "attn_pdrop", "vision_encoder", "use_cache", "d_ff"])
def test_keys_about_what_no_cache_holds_are_beside_it(key: str) -> None:
    assert meaning_of(key) == "beside"


def test_a_key_of_loops_multiplies_every_layer_as_the_most_that_it_can_mean() -> None:
    keys = {"model_type": "nobody", "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 8, "hidden_size": 32}
    for more in ({"n_recurrent_loops": 3}, {"total_ut_steps": 3}, {"loop_config": {"core_start": 1, "num_passes": 3}}):
        model = architectures.read(keys | more, infer=True)
        assert len(model.layers) == 9
        assert model.inferred


def test_loops_of_several_keys_multiply_and_a_loop_without_a_count_is_refused() -> None:
    keys = {**SHAPE, "n_recurrent_loops": 2, "loop_num_passes": 3, "loop_layer_index_end": 30}
    assert len(architectures.read(keys, infer=True).layers) == 4 * 6
    with pytest.raises(ConfigError, match="loop_layer_index_end"):
        architectures.read({**SHAPE, "loop_layer_index_end": 3}, infer=True)


# Every known type, renamed to an unknown word.


def _renamed(value: Any) -> Any:
    """The same config of a class that nobody knows."""
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if key != "architectures"}
        return {key: f"acme-{inner}" if key == "model_type" else _renamed(inner) for key, inner in kept.items()}
    return [_renamed(inner) for inner in value] if isinstance(value, list) else value


class _Known(NamedTuple):
    """A config of a type that kvplan reads, and the caches that are asked of it."""

    name: str
    config: dict[str, Any]
    asked: set[Workload]


def _known() -> Iterator[_Known]:
    """The hub's configs at two lengths, and every recorded config at the lengths of its records."""
    for name in shipped.NAMES:
        if shipped.raw(name).get("model_type"):
            yield _Known(name, shipped.raw(name), {Workload(seq_len=1_000), Workload(seq_len=40_000)})
    recorded: dict[str, _Known] = {}
    for file in ("transformers", "transformers_524", "transformers_versions"):
        for case in cases(file):
            known = recorded.setdefault(json.dumps(case["config"]), _Known(case["id"], case["config"], set()))
            asked = case["workload"]
            known.asked.add(
                Workload(seq_len=asked["seq_len"], batch_size=asked["batch"], encoder_len=asked.get("encoder_seq_len") or 0)
            )
    yield from recorded.values()


def _verdict(known: Model, guessed: Model, asked: Workload) -> str:
    """How the guess stands to the truth."""
    truth, guess = plan(known, asked).total_bytes, plan(guessed, asked).total_bytes
    return "under" if guess < truth else "exact" if guess == truth else "near" if guess <= 2 * truth else "far"


def test_every_known_cache_under_an_unknown_name_is_never_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: ()
    )  # none has these types; asking 500 times takes a while
    found: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}  # of the hub, recorded
    under = []
    for name, config, asked in _known():
        tally = found[name in shipped.NAMES]
        try:
            guessed = architectures.read(_renamed(config), source=name, infer=True)
        except ConfigError:
            tally["refused"] += len(asked)
            continue
        assert guessed.inferred
        known = architectures.read(config, source=name)
        for workload in asked:
            verdict = _verdict(known, guessed, workload)
            tally[verdict] += 1
            under += [(name, workload.seq_len)] * (verdict == "under")
    assert under == []
    for tally in found.values():
        assert tally["refused"] * 2 < tally.total()
    both = found[True] + found[False]
    assert (both["exact"] + both["near"]) * 10 >= (both.total() - both["refused"]) * 9


#: Files that say nothing of the states that llama.cpp's class makes of their heads.
_SILENT = frozenset({"minimax-01"})


def test_every_architecture_of_llama_cpp_under_an_unknown_name_is_never_too_little() -> None:
    under, answered = set(), 0
    for case in cases("llama_cpp"):
        keys, arch = case["config"], case["config"]["general.architecture"]
        known = model_from_keys(keys, source=arch, name=arch)
        new = {f"acme{key[len(arch) :]}" if key.startswith(f"{arch}.") else key: value for key, value in keys.items()}
        try:
            only_read(new, "acme", arch)
        except GgufError:
            continue
        guessed = model_from_keys(new | {"general.architecture": "acme"}, source=arch, name=arch)
        answered += 1
        under |= {arch for tokens in (1_000, 40_000) if _verdict(known, guessed, Workload(seq_len=tokens)) == "under"}
    assert under == _SILENT
    assert answered > 100
