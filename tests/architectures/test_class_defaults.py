"""Class defaults, against a recorded copy of the library's and against the installed library itself.

`tests/golden/transformers_class_defaults.json` is what transformers 5.23.0 assumes for each model type. With that
library installed (the `oracle` group), its config classes are also asked directly, with values drawn at random.
"""

import json
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import golden
import pytest
from each import each
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_types import DECODERS, KEYS_AND_VALUES, NO_CACHE, with_wrappers

from kvplan import architectures
from kvplan.domain.model import Chunk, Cross, Latent, Model, Softmax, Window
from kvplan.errors import ConfigError

DEFAULTS = json.loads((golden.GOLDEN / "transformers_class_defaults.json").read_text())
LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "layers")


def known_types() -> list[str]:
    return sorted(set(DEFAULTS) - NO_CACHE)


@each("model_type", known_types())
def test_every_model_type_that_generates_with_a_cache_has_a_family(model_type: str) -> None:
    assert model_type in architectures.known_model_types()


@each("model_type", sorted(NO_CACHE))
def test_a_model_type_without_such_a_cache_says_what_it_keeps_instead(model_type: str) -> None:
    with pytest.raises(ConfigError, match=f"`{model_type}`, which ") as caught:
        architectures.read({"model_type": model_type})
    assert "YAML" in caught.value.hint


def own_types() -> list[str]:
    return [t for t in known_types() if t in with_wrappers(KEYS_AND_VALUES) and DEFAULTS[t].get("defaults")]


@each("model_type", [t for t in own_types() if not DEFAULTS[t]["is_encoder_decoder"]])
def test_an_empty_config_means_the_recorded_defaults(model_type: str) -> None:
    expected = DEFAULTS[model_type]["defaults"]
    model = architectures.read({"model_type": model_type})
    layers = next((expected[key] for key in LAYER_KEYS if key in expected), len(model.layers))
    assert len(model.layers) == layers
    first = model.layers[0].memories[0]
    assert isinstance(first, Softmax)
    if expected.get("num_key_value_heads") is not None:
        doubled = 2 if model_type == "mimo_v2_flash" and isinstance(first.reach, Window) else 1
        assert first.kv_heads == expected["num_key_value_heads"] * doubled
    if isinstance(expected.get("head_dim"), int):
        assert first.key_dim == expected["head_dim"]
    kinds = expected.get("layer_types")
    if kinds and not isinstance(kinds[0], dict) and model_type not in {"unlimited_ocr"}:
        slides = [kind in {"sliding_attention", "chunked_attention"} for kind in kinds]
        assert [isinstance(owner.reach, Window | Chunk) for owner in map(own_or_shared(model), range(layers))] == slides


def own_or_shared(model: Model) -> Callable[[int], Any]:
    """The memory of a layer, or of the layer that it shares."""

    def find(index: int) -> Any:
        (memory,) = model.layers[index].memories
        return memory if isinstance(memory, Softmax) else find(memory.source)

    return find


# The library itself.


@cache
def library() -> Any:
    reason = "transformers is not installed (dependency group `oracle`), so its config classes cannot be asked"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers", reason=reason)
        if transformers.__version__ != "5.24.0":
            pytest.skip(f"transformers is {transformers.__version__}, and the rows were written from 5.24.0")
        from transformers.cache_utils import get_layer_types_and_kwargs
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        transformers.logging.set_verbosity_error()
    return CONFIG_MAPPING, get_layer_types_and_kwargs


# Types whose memories differ from the library's cache, or which it describes in another way: other tests cover them.
OWN_WAY = {
    "cpmant",  # its head size is called `dim_head`
    "gpt_neo",  # local layers are a mask only
    "mllama_text_model",  # cross-attention layers have no type of their own
    "unlimited_ocr_text",  # a prompt that is kept whole
    "hunyuan_v1_dense",  # keys of the remote code as well
    "hunyuan_v1_moe",
    "hunyuan_vl_text",
    "mimo_v2_flash",  # heads by layer in the model code
    "falcon",  # heads broadcast
    "gpt_bigcode",
    "dbrx",
    "mpt",
    "jetmoe",
    "trocr",  # looks at an encoder when `is_decoder`
    "dory",  # a layer that runs several times is held once a pass: tests/engines/test_loops.py
    # encoders, which keep nothing: tests/cli/test_typed.py
    "albert", "clip_text_model", "clip_vision_model", "deberta", "deberta-v2", "dinov2", "distilbert", "esm", "hubert", "mpnet",
    "siglip_text_model", "siglip_vision_model", "vit", "wav2vec2",
}  # fmt: skip


def askable() -> list[str]:
    """Decoders that read a bare config: those with an encoder have a cache of another layout."""
    return sorted(t for t in DECODERS if t not in OWN_WAY)


def build(model_type: str, values: dict[str, Any]) -> Any:
    """The library's config, or None when it refuses."""
    mapping, _ = library()
    try:
        return mapping[model_type](**values)
    except Exception:  # the strict classes raise a dozen kinds
        return None


def as_the_library_says(config: Any) -> list[tuple[int | None, int | None, int | None]] | None:
    """KV heads, head size and window of each layer; None where the cache cannot be laid out."""
    _, layer_types = library()
    try:
        types, kwargs = layer_types(config)
    except Exception:
        return None
    layers = list(config.per_layer_config) or [config] * len(types)
    rows: list[tuple[int | None, int | None, int | None]] = []
    for kind, extra, layer in zip(types, kwargs, layers, strict=True):
        heads = getattr(layer, "num_key_value_heads", None) or layer.num_attention_heads
        size = getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads
        rows.append((None, None, None) if kind == "dummy" else (heads, size, extra.get("sliding_window")))
    return rows


def as_kvplan_says(model: Model) -> list[tuple[int | None, int | None, int | None]]:
    rows: list[tuple[int | None, int | None, int | None]] = []
    for layer in model.layers:
        memory = layer.memories[0] if layer.memories else None
        if isinstance(memory, Softmax):
            rows.append((memory.kv_heads, memory.key_dim, getattr(memory.reach, "size", None)))
        else:
            assert not isinstance(memory, Cross | Latent)
            rows.append((None, None, None))
    return rows


def in_library(model_type: str) -> bool:
    return model_type in library()[0]


@each("model_type", askable())
def test_the_librarys_class_assumes_the_same(model_type: str) -> None:
    if not in_library(model_type):
        assert model_type not in DEFAULTS
        return
    config = build(model_type, {})
    assert config is not None
    expected = as_the_library_says(config)
    assert expected is not None
    assert as_kvplan_says(architectures.read({"model_type": model_type})) == expected


SPELLED = {
    "num_hidden_layers": st.integers(1, 9),
    "num_attention_heads": st.sampled_from([4, 8, 12]),
    "num_key_value_heads": st.sampled_from([1, 2, 4, None]),
    "head_dim": st.sampled_from([16, 64, None]),
    "hidden_size": st.sampled_from([384, 768, 1000]),
    "sliding_window": st.sampled_from([None, 7, 128]),
    "use_sliding_window": st.booleans(),
    "max_window_layers": st.integers(0, 9),
    "num_kv_shared_layers": st.integers(0, 6),
    "attention_chunk_size": st.sampled_from([64, 8192]),
    "no_rope_layer_interval": st.integers(1, 5),
    "global_attn_every_n_layers": st.integers(1, 5),
}


@each("model_type", askable())
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data())
def test_a_random_config_means_the_same_to_the_library(model_type: str, data: st.DataObject) -> None:
    if not in_library(model_type):
        return
    fields = set(build(model_type, {}).to_dict()) | {"num_hidden_layers", "num_attention_heads"}
    chosen = data.draw(st.sets(st.sampled_from(sorted(fields & set(SPELLED))), max_size=6))
    values = {key: data.draw(SPELLED[key], label=key) for key in sorted(chosen)}
    config = build(model_type, values)
    expected = as_the_library_says(config) if config is not None else None
    try:
        found = as_kvplan_says(architectures.read({"model_type": model_type, **values}))
    except ConfigError:
        return  # kvplan also refuses what the model code, not the config class, would trip over
    if expected is not None:
        assert found == expected, values
