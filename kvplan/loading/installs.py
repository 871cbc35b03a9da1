"""Models by the names that a local install of an engine knows them by: its manifest, then the file that it names.

Strangers' files: bounded, regular, read once. What a manifest means is the engine's (`About.installs`).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from kvplan.domain.model import Fact, Model
from kvplan.engines import ABOUTS, located
from kvplan.errors import UnknownModel
from kvplan.files import read_bounded
from kvplan.gguf.header import read_header
from kvplan.limits import INSTALL_BYTES


def load_installed(text: str, *, infer: bool = False) -> Model | None:
    """The model that an install has under this name; None where none has.

    Raises:
        UnknownModel: a manifest that is damaged, or whose file is not there.
        GgufError: the file is not a model's.
    """
    for module in _modules():
        if not module.names_one(text):
            continue
        for models in module.folders(os.environ, str(_home())):
            path = Path(module.manifest_of(models, text))
            try:
                there = path.is_file()
            except (OSError, ValueError):
                continue
            if there:
                return _load(module, module.read_manifest(_read(path, "a manifest"), models, text), infer=infer)
    return None


def not_pulled(text: str) -> Model | None:
    """The catalogue's model of the same name, of a `name:tag` that no install has: `llama3.1:8b` is `llama-3.1-8b`.

    Its weights are in the format that the tag names; else in the one that the install's library has under most tags, which is
    assumed, and said. None: no such name, or no entry of that name.
    """
    module = next((module for module in _modules() if module.names_one(text)), None)
    parts = module.parts(text) if module is not None else None
    if module is None or parts is None:
        return None
    from kvplan.architectures.weights import quantised, weights_at
    from kvplan.loading.catalogue import folder, load_entry, names

    name, size, dtype = parts
    wanted = _squashed(f"{name}{size}")
    entry = next((known for known in names() if "/" not in known and _squashed(known) == wanted), None)
    if entry is None:
        return None
    model = load_entry(folder() / f"{entry}.yaml")
    words = f"`{module.shortest(text)}` is not pulled here: this is {entry} of the catalogue"
    weighed = None if quantised(model) and not dtype else weights_at(model, dtype or module.USUAL_FORMAT)
    if weighed is not None:
        said = f"{(dtype or module.USUAL_FORMAT).upper()}, as {'its tag says' if dtype else 'most tags are'}"
        model = replace(
            model, weights_bytes=weighed.bytes, provenance=(*model.provenance, Fact(key="weights", value=said, origin="assumed"))
        )
        words += f", its weights in {said}"
    origin = None if model.origin is None else replace(model.origin, store={"name": module.shortest(text)})
    return replace(model, name=module.shortest(text), origin=origin, notes=(words, *model.notes))


def _squashed(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def looked_in(text: str) -> str:
    """Where a name was looked for, in words; empty for what can be no such name."""
    places = [models for module in _modules() if module.names_one(text) for models in module.folders(os.environ, str(_home()))]
    return " or ".join(f"`{place}`" for place in places[:2])


def _modules() -> Iterator[Any]:
    return (located(about.installs) for about in ABOUTS.values() if about.installs)


def _home() -> Path:
    try:
        return Path.home()
    except (RuntimeError, OSError):
        return Path("/")


def _read(path: Path, what: str) -> bytes:
    return read_bounded(path, INSTALL_BYTES, UnknownModel, what)


def _load(module: Any, found: Any, *, infer: bool) -> Model:
    from kvplan.loading.gguf_file import load_gguf

    path = Path(found.model)
    if not path.is_file():
        raise UnknownModel(f"{found.name}: its file `{path}` is not there", hint=f"`ollama pull {found.name}`")
    model = load_gguf(path, infer=infer)
    config, parameters = (_read(Path(name), "JSON") if name else b"" for name in (found.config, found.parameters))
    store = module.said(found, config, parameters, path.stat().st_size, _architecture(found.draft))
    origin = None if model.origin is None else replace(model.origin, store=store)
    named = Fact(key="name", value=str(model.name)[:80], origin="GGUF")
    beside = tuple(
        f"{what}: not counted" for what, there in (("its projector", found.projector), ("adapters", found.adapters)) if there
    )
    return replace(model, name=found.name, origin=origin, provenance=(named, *model.provenance), notes=(*model.notes, *beside))


def _architecture(path: str) -> str:
    """The architecture that a further GGUF file of the model is of; empty where there is none."""
    if not path:
        return ""
    from kvplan.loading.gguf_file import Prefix, opened

    with opened(Path(path)) as (size, _, read):
        found = read_header(Prefix(size, read), path).keys.get("general.architecture", "")
    return str(found)[:60]
