"""Front ends: from a hub config to what the model must remember. One file a family, named as people name models.

A family file in `families/` has `ROWS`: model type -> reader. A reader is what the row is read by, one of `kit/` or the
family's own, with the key names and class defaults of that type; `reader.read(c)` gives each layer's memories in order.
A family is imported only when a config asks for it. Third parties add families through the entry-point group
`kvplan.architectures`: the name is a model type, the value a module with `ROWS`, or with `read(c, model_type) -> Decoder`.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from kvplan.architectures.index import FAMILIES, FAMILY_OF
from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.wrappers import WRAPPERS, text_part
from kvplan.domain.model import Layer, Model, ModelError
from kvplan.domain.origin import Origin
from kvplan.errors import ConfigError, UnknownArchitecture, shown

__all__ = ["FAMILIES", "WRAPPERS", "known_model_types", "read", "read_config", "reader_of", "text_part"]

_DESCRIBE: Final = "describe what it keeps in YAML (docs/guides/specs.md)"
_DTYPES: Final = {
    "float32": "float32", "fp32": "float32", "float16": "float16", "fp16": "float16", "half": "float16",
    "bfloat16": "bfloat16", "bf16": "bfloat16", "float64": "float32", "float8_e4m3fn": "bfloat16", "auto": "bfloat16",
}  # fmt: skip


def known_model_types() -> list[str]:
    """Every model type that a config may name, wrappers included."""
    return sorted({*FAMILY_OF, *WRAPPERS})


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
    text, text_type = text_part(outer, model_type)
    family, inferred = _reader(text_type, outer, infer=infer)
    try:
        decoder = family.read(text)
        return _model(outer, text, (model_type, text_type), decoder, name=name or model_type, inferred=inferred)
    except ModelError as error:
        raise ConfigError(f"{source}: {error}", hint="check the config's sizes and its layer map") from error


def _from_architectures(c: Config) -> str:  # noqa: RET503 (a refusal ends it)
    """A config without a model type is read by the class that it names; without either there is nothing to go by."""
    if not c.data:
        c.refuse("model_type", "is missing: the config is empty", hint="give a model's real config.json")
    names = c.items("architectures") or []
    for name in names[:1]:
        if isinstance(name, str):
            from kvplan.architectures.classes import REFUSED, TYPE_OF

            if name in TYPE_OF:
                c.note("model_type", TYPE_OF[name], f"of the class `{name}`")
                return TYPE_OF[name]
            if name in REFUSED:
                c.refuse("architectures", f"names {name}, which is {REFUSED[name]}", hint=_DESCRIBE)
    said = f" (architectures: {shown(names[0])})" if names else ""
    c.refuse(
        "model_type",
        f"is missing{said}, so the architecture is unknown",
        hint='add it, as in {"model_type": "llama", …}, or describe the layers in YAML (docs/guides/specs.md)',
    )


def reader_of(model_type: str, source: str = "config.json") -> Reader:
    """How the family of a model type, kvplan's own or a third party's, reads a config.

    Raises:
        UnknownArchitecture: no family claims it.
    """
    found = _found(model_type)
    if found is None:
        raise UnknownArchitecture(model_type, known_model_types(), source)
    return found


def _found(model_type: str) -> Reader | None:
    family = FAMILY_OF.get(model_type)
    if family is not None:
        found: Reader = import_module(f"kvplan.architectures.families.{family}").ROWS[model_type]
        return found
    from importlib.metadata import entry_points  # costs 30 ms, so only for what kvplan itself does not know

    for point in entry_points(group="kvplan.architectures"):
        if point.name == model_type:
            module = point.load()
            rows: Mapping[str, Reader] | None = getattr(module, "ROWS", None)
            return rows[model_type] if rows is not None else reader(module.read)(model_type)
    return None


def _reader(model_type: str, outer: Config, *, infer: bool) -> tuple[Reader, bool]:
    """The family's reader, or by shape on request; and whether it is that."""
    if infer:
        from kvplan.architectures.infer import by_shape

        found = _found(model_type)
        return (found, False) if found is not None else (by_shape(model_type), True)
    try:
        return reader_of(model_type, outer.source), False
    except UnknownArchitecture:
        from kvplan.architectures.classes import REFUSED

        for name in (outer.items("architectures") or [])[:1]:
            if isinstance(name, str) and name in REFUSED:
                outer.refuse("architectures", f"names {name}, which is {REFUSED[name]}", hint=_DESCRIBE)
        raise


def _model(outer: Config, text: Config, types: tuple[str, str], decoder: Decoder, *, name: str, inferred: bool) -> Model:
    return Model(
        name=name,
        model_type=types[0],
        layers=tuple(Layer(index=i, memories=m) for i, m in enumerate(decoder.layers)),
        drafts=tuple(Layer(index=i, memories=m) for i, m in enumerate(decoder.drafts)),
        loop=decoder.loop,
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
