"""The MODEL argument: whatever a person has, turned into a `Model`.

First match wins, and the error lists what was tried: a name with a tag in a local install (`llama3.1:8b`), a YAML spec, a GGUF
file, a folder or config.json, a name in the catalogue (also by hub id), a name in a local install, a repository on the hub, a
GGUF file on the hub.
"""

import re
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final, Protocol

from kvplan.domain.model import Model
from kvplan.errors import UnknownModel, nearest, shown
from kvplan.files import expanded

#: Addresses of the hub's pages, and of its mirrors'.
_HUBS: Final = frozenset({"huggingface.co", "hf.co", "hf-mirror.com"})
_NO_MODELS: Final = frozenset({"datasets", "spaces", "papers", "docs", "collections"})
_ADDRESS: Final = re.compile(
    r"(?:https?://(?P<host>[^/\s]+)|(?P<bare>(?:www\.)?(?:huggingface\.co|hf\.co)))(?P<path>/\S*)?", re.IGNORECASE
)


class HasConfig(Protocol):
    """A config object, as transformers has them."""

    def to_dict(self) -> dict[str, Any]:
        """The keys of its config.json."""
        ...


def load(source: "str | PathLike[str] | Mapping[str, Any] | Model | HasConfig", *, infer: bool = False) -> Model:
    """Load a model.

    Args:
        source: a catalogue name (`llama-3.1-8b`), a hub id (`meta-llama/Llama-3.1-8B`), a path to a YAML spec,
            a config.json or its folder, a dict (a hub config, or a spec), a config object of transformers, or a `Model`
            (returned as it is).
        infer: read an unknown architecture by the shape of its config; the result is marked `inferred`.

    Raises:
        UnknownModel: nothing answers to that name.
        ConfigError, SpecError, GgufError, UnknownArchitecture: the file is there but cannot be read as a model.
        EnvironmentMissing: a hub id, and the hub (or huggingface_hub) is out of reach.
    """
    if isinstance(source, Model):
        return source
    if isinstance(source, Mapping):
        return _load_mapping(source, infer=infer)
    if not isinstance(source, str | PathLike):
        return _load_object(source, infer=infer)
    tagged = _load_tagged(source, infer=infer) if isinstance(source, str) else None
    if tagged is not None:
        return tagged
    text = hub_name(source) if isinstance(source, str) else fspath(source)
    if not isinstance(text, str):
        raise UnknownModel("a path is text, not bytes", hint="decode it first")
    if not text or len(text) > 4096 or "\0" in text:
        raise UnknownModel("a model name or path of 1 to 4,096 characters is needed", hint="try `kvplan models`")
    found = _load_file(text, infer=infer) if not isinstance(source, str) or _looks_like_path(text) else None
    if found is not None:
        return found
    from kvplan.loading.catalogue import find, load_entry

    entry = find(text)
    if entry is not None:
        from kvplan.loading.copies import as_asked

        return as_asked(load_entry(entry), text, entry)
    found = _load_file(text, infer=infer)
    if found is not None:
        return found
    return _load_remote(text, infer=infer)


def _load_tagged(text: str, *, infer: bool) -> Model | None:
    """The model of a `name:tag` that a local install has; None for other texts."""
    if text.rfind(":") <= text.rfind("/") or "://" in text or _looks_like_path(text) or len(text) > 700:
        return None
    from kvplan.loading.installs import load_installed, not_pulled

    return load_installed(text, infer=infer) or not_pulled(text)


def hub_name(text: str) -> str:
    """A page of the hub as the name that it is of: `owner/name`, or `owner/name/file.gguf`; other texts as they are.

    Raises:
        UnknownModel: an address of another site, or a page of something else.

    >>> hub_name("https://huggingface.co/Qwen/Qwen3-8B/tree/main")
    'Qwen/Qwen3-8B'
    """
    address = _ADDRESS.fullmatch(text.strip())
    if address is None:
        return text
    host, path = (address["host"] or address["bare"]).lower(), re.split("[?#]", address["path"] or "")[0].strip("/")
    parts = path.split("/")
    if (
        host.removeprefix("www.") not in _HUBS
        or len(parts) < 2
        or parts[0] in {"datasets", "spaces", "papers", "docs", "collections"}
    ):
        raise UnknownModel(
            f"`{text[:120]}` is not the page of a model on the hub", hint="give `owner/name`, or a downloaded file or folder"
        )
    file = parts[4:] if len(parts) > 4 and parts[2] in {"blob", "resolve", "raw"} else []
    return "/".join([*parts[:2], *file] if file and file[-1].lower().endswith(".gguf") else parts[:2])


def _looks_like_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~")) or text.lower().endswith((".yaml", ".yml", ".json", ".gguf"))


def _names_hub_file(text: str) -> bool:
    """Whether a path without a file behind it can be `owner/name/file` on the hub."""
    return text.count("/") >= 2 and not text.startswith(("/", ".", "~"))


def _load_mapping(data: Mapping[str, Any], *, infer: bool) -> Model:
    from kvplan import architectures

    if _is_spec(data):
        from kvplan.loading.yaml_spec.read import model_from_data

        return model_from_data(data, source="dict", infer=infer)
    from kvplan.loading.foreign import as_hub_config

    return architectures.read(as_hub_config(data, "dict"), source="dict", infer=infer)


def _load_object(source: object, *, infer: bool) -> Model:
    """A config object, by its `to_dict()`; its name is the repository's that it was read from, where it says so."""
    from kvplan import architectures

    asked = getattr(source, "to_dict", None)
    data = asked() if callable(asked) else None
    if not isinstance(data, Mapping):
        raise UnknownModel(
            f"{shown(source)} ({type(source).__name__[:60]}) is no model",
            hint="a name, a path, a dict, a config with `to_dict()`, or a `Model`",
        )
    said = getattr(source, "name_or_path", "")
    name = said.rstrip("/").rpartition("/")[2] if isinstance(said, str) else ""
    return architectures.read(data, source=type(source).__name__, name=name, infer=infer)


def _is_spec(data: Mapping[str, Any]) -> bool:
    """Whether a dict is a description rather than a hub config (which has a `model_type` and none of these)."""
    if "model_type" not in data:
        return any(key in data for key in ("layers", "attention", "config"))
    return isinstance(data.get("attention"), Mapping) or isinstance(data.get("layers"), list | tuple)


def _load_file(text: str, *, infer: bool) -> Model | None:
    """The model in a file or folder, or None when there is no such path."""
    path = expanded(text, UnknownModel)
    try:
        is_folder, is_file = path.is_dir(), path.exists()
    except (OSError, ValueError):
        return None
    if is_folder:
        return _load_folder(path, infer=infer)
    if is_file:
        return _load_by_suffix(path, infer=infer)
    return None


def _load_folder(path: Path, *, infer: bool) -> Model:
    from kvplan.loading.folders import config_in

    found = config_in(path)
    if found.suffix.lower() == ".gguf":
        from kvplan.loading.gguf_file import load_gguf

        return load_gguf(found, infer=infer)
    from kvplan.loading.config_json import load_config

    return load_config(found, infer=infer)


def _load_by_suffix(path: Path, *, infer: bool) -> Model:
    suffix = path.suffix.lower()
    if suffix == ".gguf" or _begins_as_gguf(path):
        from kvplan.loading.gguf_file import load_gguf

        return load_gguf(path, infer=infer)
    if suffix in {".yaml", ".yml"}:
        from kvplan.loading.yaml_spec.read import load_spec

        return load_spec(path, infer=infer)
    from kvplan.loading.config_json import load_config
    from kvplan.loading.foreign import refuse_file

    refuse_file(path)
    return load_config(path, infer=infer)


def _begins_as_gguf(path: Path) -> bool:
    """Whether a file without a suffix of its own is GGUF all the same, as Ollama keeps them (`blobs/sha256-…`)."""
    if path.suffix.lower() in {".json", ".yaml", ".yml"} or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def _load_remote(text: str, *, infer: bool) -> Model:
    """A hub id, or the error that says what was tried."""
    from kvplan.loading.catalogue import names

    if text.lower().endswith(".gguf") and (text.startswith("hf://") or _names_hub_file(text)):
        from kvplan.loading.gguf_hub import load_gguf_from_hub

        return load_gguf_from_hub(text.removeprefix("hf://"), infer=infer)
    from kvplan.loading.installs import load_installed, looked_in

    installed = load_installed(text, infer=infer)
    if installed is not None:
        return installed
    owner, slash, repository = text.partition("/")
    if slash and owner and repository and "/" not in repository and not _looks_like_path(text):
        from kvplan.loading.hub import load_from_hub

        return load_from_hub(text, infer=infer)
    near = like_name(text, names())
    where = looked_in(text) if ":" in text else ""
    raise UnknownModel(
        f"no model `{text[:120]}`: not a file or folder, not in the catalogue, not a hub id (owner/name)"
        + (f", and no manifest of that name in {where}" if where else ""),
        hint=(f"did you mean {near}? " if near else "") + "`kvplan models` lists the catalogue",
    )


def like_name(text: str, known: Sequence[str], most: int = 4) -> str:
    """Names that whoever typed `text` may have meant, in words; another family or size is never meant.

    >>> like_name("lama-3.1-8b", ["llama-3.1-8b", "llama-13b"]), like_name("gpt-4", ["gpt2"])
    ('`llama-3.1-8b`', '')
    >>> like_name("llama3", ["llama-13b", "llama-3-8b", "llama-3.1-8b"])
    '`llama-3-8b` or `llama-3.1-8b`'
    """
    plain, wanted = _squashed(text), _numbers(text)
    begun = [name for name in known if len(plain) > 3 and _squashed(name).startswith(plain)]
    if begun:
        return " or ".join(f"`{name}`" for name in begun[:most])
    near = nearest(text.lower(), [name for name in known if _numbers(name) == wanted], cutoff=0.75)
    return f"`{near}`" if near else ""


def _squashed(name: str) -> str:
    return "".join(c for c in name.lower()[:120] if c.isalnum())


def _numbers(name: str) -> list[str]:
    return "".join(c if c.isdigit() else " " for c in name[:120]).split()
