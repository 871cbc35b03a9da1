"""Front ends: from a hub config to what the model must remember. One small module a family.

A family module has `read(c, model_type) -> Decoder`: each layer's memories in order, under the key names and class
defaults of that family. It is imported only when a config asks for it. Third parties add families through the
entry-point group `kvplan.architectures` (name = model type, value = module).
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from kvplan.architectures.config import Config
from kvplan.architectures.shapes import Decoder
from kvplan.errors import ConfigError, UnknownArchitecture
from kvplan.model import Layer, Model, ModelError

#: Family module -> the model types that it reads. A new family is one file and one row here.
FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "plain": ("llama", "gpt2"),
}
_MODULE_OF: Final[dict[str, str]] = {model_type: module for module, types in FAMILIES.items() for model_type in types}

#: Wrapper model type -> (where its text part is, the text part's model type when that part does not say).
WRAPPERS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "llava": (("text_config",), "llama"),
}
#: Where a wrapper that is not in the table keeps its text part, tried in this order.
_TEXT_SECTIONS: Final = ("text_config", "language_config", "llm_config", "thinker_config")

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
    outer = Config(data, source)
    model_type = outer.text("model_type", default="") or _from_architectures(outer)
    text, text_type = _text_part(outer, model_type)
    inferred = False
    try:
        decoder = _family(text_type, source, infer=infer).read(text, text_type)
    except UnknownArchitecture:
        if not infer:
            raise
        inferred = True
        decoder = import_module("kvplan.architectures.infer").read(text, text_type)
    return _model(outer, text, model_type, decoder, name=name or model_type, inferred=inferred)


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
        section = outer
        for key in path:
            # a flat config of a wrapper type describes the text model at top level (Qwen2-VL)
            section = section.section(key) if section.has(key) or (len(path) == 1 and not _describes_layers(outer)) else section
        if section is not outer:
            return section, section.text("model_type", default=implied)
        return outer, implied
    if model_type in _MODULE_OF:
        return outer, model_type
    for key in _TEXT_SECTIONS:
        if isinstance(outer.data.get(key), Mapping):
            section = outer.section(key)
            inner = section.text("model_type", default="")
            if inner in _MODULE_OF:
                outer.note("model_type", model_type, f"unknown wrapper, read through `{key}`")
                return section, inner
    return outer, model_type


def _describes_layers(c: Config) -> bool:
    return any(key in c.data for key in ("num_hidden_layers", "n_layer", "num_layers", "n_layers"))


def _family(model_type: str, source: str, *, infer: bool) -> Any:
    module = _MODULE_OF.get(model_type)
    if module is not None:
        return import_module(f"kvplan.architectures.{module}")
    from importlib.metadata import entry_points  # costs 30 ms, so only for what kvplan itself does not know

    for point in entry_points(group="kvplan.architectures"):
        if point.name == model_type:
            return point.load()
    raise UnknownArchitecture(model_type, known_model_types(), source)


def _model(outer: Config, text: Config, model_type: str, decoder: Decoder, *, name: str, inferred: bool) -> Model:
    try:
        return Model(
            name=name,
            model_type=model_type,
            layers=tuple(Layer(index=i, memories=m) for i, m in enumerate(decoder.layers)),
            drafts=tuple(Layer(index=i, memories=m) for i, m in enumerate(decoder.drafts)),
            dtype=_dtype(outer, text),
            max_tokens=_max_tokens(outer, text),
            attention_heads=decoder.heads,
            inferred=inferred,
            notes=decoder.notes,
            provenance=outer.facts,
            config=outer.data,
        )
    except ModelError as error:
        raise ConfigError(f"{outer.source}: {error}", hint="check the config's layer map") from error


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
