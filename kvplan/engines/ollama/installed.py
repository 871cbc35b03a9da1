"""What a local install of Ollama holds: where to look for a name, and what a manifest says. Nothing is read here.

Source: ollama 0.32.15 (fb3076099), `manifest/manifest.go`, `server/images.go` (`GetModel`), `types/model/config.go`.
"""

import json
import re
from collections.abc import Mapping
from posixpath import join
from typing import Any, Final

from msgspec import Struct

from kvplan.domain.origin import Settings
from kvplan.engines.ollama.environment import environment
from kvplan.engines.ollama.names import Name, blob_path, manifest_path, parse_name
from kvplan.errors import UnknownModel, printable
from kvplan.limits import INSTALL_LAYERS

#: Where a server keeps its models that runs as a service of its own.
_SERVICE: Final = "/usr/share/ollama/.ollama/models"
_KIND: Final = "application/vnd.ollama.image."
#: What is said of a model whose layers are tensors, not a GGUF file.
_TENSORS: Final = "its weights are no GGUF file (Ollama runs it with MLX), and what that allocates is not predicted"


class Found(Struct, frozen=True, kw_only=True):
    """What a manifest names: the model's blob and others, as paths. Empty where there is none."""

    name: str
    models: str  # the folder
    model: str
    config: str = ""
    parameters: str = ""
    draft: str = ""
    projector: str = ""
    adapters: int = 0
    size: int = 0  # of all layers


def names_one(text: str) -> bool:
    """Whether a text can be the name of a model in an install."""
    return parse_name(text).valid


#: What most tags of the library are quantised to.
USUAL_FORMAT: Final = "q4_k_m"
_TAG: Final = re.compile(
    r"(?P<size>[a-z0-9.]+?)(?:-(?:instruct|chat|text|it|base))?(?:-(?P<format>q\d\w*|fp16|f16|bf16|mxfp4))?", re.I
)
_PLAIN: Final = {"fp16": "float16", "f16": "float16", "bf16": "bfloat16"}


def parts(text: str) -> tuple[str, str, str] | None:
    """(model, size, format) of a name of the library: the tag's words; empty where it says none. None: another's name.

    >>> parts("llama3.1:8b"), parts("qwen3:8b-q8_0"), parts("hf.co/me/x:Q4_K_M")
    (('llama3.1', '8b', ''), ('qwen3', '8b', 'q8_0'), None)
    """
    name = parse_name(text)
    found = _TAG.fullmatch(name.tag)
    if (name.host, name.namespace) != (Name().host, Name().namespace) or found is None or name.tag == Name().tag:
        return None
    said = (found["format"] or "").lower()
    return name.model, found["size"], _PLAIN.get(said, said)


def shortest(text: str) -> str:
    """A name as Ollama prints it."""
    return parse_name(text).shortest


def folders(variables: Mapping[str, str], home: str) -> tuple[str, ...]:
    """Where models may lie: where the variable says, else in the user's folder and in the service's."""
    own = environment(variables, home).models
    return (own,) if variables.get("OLLAMA_MODELS") else (own, _SERVICE)


def manifest_of(models: str, text: str) -> str:
    """Where the manifest of a name lies below such a folder."""
    return manifest_path(models, parse_name(text))


def read_manifest(data: bytes, models: str, text: str) -> Found:
    """What a manifest names.

    Raises:
        UnknownModel: it is none, or one of a model without a GGUF file.
        ConfigError: a key is of another type.
    """
    where = f"the manifest of {printable(text, 120)}"
    manifest = Settings(_object(data, where), where)
    layers = manifest.items("layers", most=INSTALL_LAYERS)
    paths: dict[str, str] = {}
    adapters, size = 0, 0
    for number, layer in enumerate(layers):
        one = Settings(layer if isinstance(layer, Mapping) else {}, where, f"layers[{number}].")
        kind = one.text("mediaType").removeprefix(_KIND)
        size += one.whole("size", most=2**60)
        if kind == "tensor":
            raise UnknownModel(f"{where}: {_TENSORS}", hint="give the model's config.json")
        if kind in {"model", "params", "draft", "projector", "adapter"}:
            adapters += kind == "adapter"
            paths.setdefault(kind, _blob(models, one, where))
    if "model" not in paths:
        raise UnknownModel(
            f"{where} names no model (a cloud model, or one that was not pulled whole)", hint=f"`ollama pull {text}`"
        )
    config = manifest.section("config")
    return Found(
        name=shortest(text),
        models=models,
        model=paths["model"],
        config=_blob(models, config, where) if config.has("digest") else "",
        parameters=paths.get("params", ""),
        draft=paths.get("draft", ""),
        projector=paths.get("projector", ""),
        adapters=adapters,
        size=size,
    )


def _blob(models: str, layer: Settings, where: str) -> str:
    path = blob_path(models, layer.text("digest"))
    if path is None or path == join(models, "blobs"):
        raise UnknownModel(f"{where}: `{printable(layer.text('digest'), 80)}` is no digest", hint="pull the model again")
    return path


def said(found: Found, config: bytes, parameters: bytes, file_bytes: int, draft: str) -> dict[str, Any]:
    """What the install says of a model beside its file, as `Origin.store` keeps it.

    Args:
        config: the config blob, or nothing.
        parameters: the Modelfile's, or nothing.
        file_bytes: of the model's blob.
        draft: the architecture of the draft layer, or nothing.

    Raises:
        UnknownModel: one of them is no JSON object.
    """
    of = f"{found.name}'s config"
    told = Settings(_object(config, of) if config else {}, of)
    return {
        "name": found.name,
        "family": told.text("model_family"),
        "families": told.names("model_families"),
        "parameters": _object(parameters, f"{found.name}'s parameters") if parameters else {},
        "projector": bool(found.projector),
        "adapters": found.adapters,
        "draft": draft,
        "file_bytes": file_bytes,
    }


def _object(data: bytes, where: str) -> Mapping[str, Any]:
    try:
        read = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise UnknownModel(f"{where} is not JSON, or is cut short", hint="pull the model again") from problem
    if not isinstance(read, Mapping):
        raise UnknownModel(f"{where} is no JSON object", hint="pull the model again")
    return read
