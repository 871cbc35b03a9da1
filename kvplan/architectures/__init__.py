"""Front ends: from a hub config to what the model must remember. One small module a family.

A family module has `read(c, model_type) -> Decoder`: each layer's memories in order, under the key names and class
defaults of that family. It is imported only when a config asks for it. Third parties add families through the
entry-point group `kvplan.architectures` (name = model type, value = module).
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from kvplan.architectures.index import FAMILIES, WRAPPERS
from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.shapes import Decoder
from kvplan.domain.model import Layer, Model, ModelError
from kvplan.domain.origin import Origin
from kvplan.errors import ConfigError, UnknownArchitecture

__all__ = ["FAMILIES", "WRAPPERS", "known_model_types", "read", "read_config"]

_MODULE_OF: Final[dict[str, str]] = {model_type: module for module, types in FAMILIES.items() for model_type in types}

#: Where a wrapper that is not in the table keeps its text part, tried in this order.
_TEXT_SECTIONS: Final = ("text_config", "language_config", "llm_config", "decoder_config", "thinker_config")

_DTYPES: Final = {
    "float32": "float32", "fp32": "float32", "float16": "float16", "fp16": "float16", "half": "float16",
    "bfloat16": "bfloat16", "bf16": "bfloat16", "float64": "float32", "float8_e4m3fn": "bfloat16", "auto": "bfloat16",
}  # fmt: skip


def known_model_types() -> list[str]:
    """Every model type that a config may name, wrappers included."""
    return sorted({*_MODULE_OF, *WRAPPERS})


def read(data: Mapping[str, Any], *, source: str = "config.json", name: str = "", infer: bool = False) -> Model:
    """Read a hub config.

    Args:
        data: the parsed config.json.
        source: what errors call it.
        name: the model's name; the model type when empty.
        infer: read an unknown model type by the shape of its keys; the result is marked.

    Raises:
        ConfigError: a key is missing, of the wrong type, or contradicts another.
        UnknownArchitecture: no family claims the model type and `infer` is false.
    """
    return read_config(Config(data, source), name=name, infer=infer)


def read_config(outer: Config, *, name: str = "", infer: bool = False) -> Model:
    """As `read`, for a `Config` that the caller holds: afterwards it says which keys were read."""
    source = outer.source
    model_type = outer.text("model_type", default="") or _from_architectures(outer)
    text, text_type = _text_part(outer, model_type)
    inferred = False
    try:
        family = _family(text_type, source, infer=infer)
    except UnknownArchitecture:
        if not infer:
            raise
        inferred = True
        family = import_module("kvplan.architectures.infer")
    try:
        decoder = family.read(text, text_type)
        return _model(outer, text, (model_type, text_type), decoder, name=name or model_type, inferred=inferred)
    except ModelError as error:
        raise ConfigError(f"{source}: {error}", hint="check the config's sizes and its layer map") from error


def _from_architectures(c: Config) -> str:
    """A config without a model type may still name its class; without either there is nothing to go by."""
    if not c.data:
        c.refuse("model_type", "is missing: the config is empty", hint="give a model's real config.json")
    names = c.items("architectures") or []
    shown = f" (architectures: `{str(names[0])[:60]}`)" if names else ""
    c.refuse(
        "model_type",
        f"is missing{shown}, so the architecture is unknown",
        hint='add it, as in {"model_type": "llama", …}, or describe the layers in YAML (docs/guides/specs.md)',
    )


def _text_part(outer: Config, model_type: str) -> tuple[Config, str]:
    """The section that describes the text decoder, and its model type."""
    if model_type in WRAPPERS:
        path, implied = WRAPPERS[model_type]
        section = _section_at(outer, path)
        if section is outer:
            return outer, implied
        inner = section.text("model_type", default=implied)
        completed = import_module("kvplan.architectures.wrappers").with_defaults(section, model_type)
        return completed, implied if inner in WRAPPERS else inner
    if model_type in _MODULE_OF and (_describes_layers(outer) or not any(key in outer.data for key in _TEXT_SECTIONS)):
        return outer, model_type
    for key in _TEXT_SECTIONS:
        if isinstance(outer.data.get(key), Mapping):
            section = outer.section(key)
            inner = section.text("model_type", default="")
            if inner in _MODULE_OF:
                outer.note("model_type", model_type, f"read through `{key}`")
                return section, inner
    return outer, model_type


def _section_at(outer: Config, path: tuple[str, ...]) -> Config:
    """The section at `path`; `outer` itself where a wrapper's config is flat, as Qwen2-VL's is."""
    section = outer
    for key in path:
        if section.has(key):
            section = section.section(key)
    if section is not outer or _describes_layers(outer):
        return section
    for key in _TEXT_SECTIONS:
        if isinstance(outer.data.get(key), Mapping):  # VibeVoice: `decoder_config` on the hub
            return outer.section(key)
    return outer.section(path[-1])  # absent: the text part is its class's defaults


def _describes_layers(c: Config) -> bool:
    keys = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers", "num_decoder_layers")
    return any(key in c.data for key in keys)


def _family(model_type: str, source: str, *, infer: bool) -> Any:
    module = _MODULE_OF.get(model_type)
    if module is not None:
        return import_module(f"kvplan.architectures.families.{module}")
    from importlib.metadata import entry_points  # costs 30 ms, so only for what kvplan itself does not know

    for point in entry_points(group="kvplan.architectures"):
        if point.name == model_type:
            return point.load()
    raise UnknownArchitecture(model_type, known_model_types(), source)


def _model(outer: Config, text: Config, types: tuple[str, str], decoder: Decoder, *, name: str, inferred: bool) -> Model:
    return Model(
        name=name,
        model_type=types[0],
        layers=tuple(Layer(index=i, memories=m) for i, m in enumerate(decoder.layers)),
        drafts=tuple(Layer(index=i, memories=m) for i, m in enumerate(decoder.drafts)),
        dtype=_dtype(outer, text),
        max_tokens=_max_tokens(outer, text),
        attention_heads=decoder.heads,
        inferred=inferred,
        notes=decoder.notes,
        provenance=outer.facts,
        origin=Origin(config=outer.data, text_config=text.data, text_type=types[1], source=outer.source),
    )


def _dtype(outer: Config, text: Config) -> str:
    """The dtype of the activations: the text part's, else the wrapper's, else assumed bfloat16."""
    for section in (text, outer):
        value = section.text("dtype", "torch_dtype", default=None)
        if value is not None:
            found = _DTYPES.get(value.removeprefix("torch."))
            if found is None:
                section.refuse("torch_dtype", f"is not a dtype that kvplan knows: `{value[:40]}`")
            return found
    outer.note("torch_dtype", "bfloat16", "assumed: the config names no dtype")
    return "bfloat16"


def _max_tokens(outer: Config, text: Config) -> int | None:
    keys = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len", "model_max_length")
    for section in (text, outer):
        for key in keys:
            value = section.data.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40:
                section.note(key, value, "config")
                return value
    return None
