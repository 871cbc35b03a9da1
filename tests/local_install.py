"""A local install of Ollama, as a pull leaves it: manifests, and blobs that are named by their digest."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from golden import GOLDEN

KIND = "application/vnd.ollama.image."
TINY = (GOLDEN / "gguf" / "tiny-llama-full-le.gguf").read_bytes()


class Pulled(NamedTuple):
    """One model of an install: its manifest's place, and the manifest."""

    path: Path
    manifest: dict[str, Any]


def blob(models: Path, data: bytes) -> dict[str, Any]:
    """A blob, and what a manifest says of it."""
    digest = sha256(data).hexdigest()
    (models / "blobs").mkdir(parents=True, exist_ok=True)
    (models / "blobs" / f"sha256-{digest}").write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def pulled(
    models: Path,
    place: str = "registry.ollama.ai/library/tiny/1b",
    *,
    gguf: bytes = TINY,
    config: dict[str, Any] | None = None,
    parameters: dict[str, Any] | None = None,
    more: dict[str, bytes] | None = None,
) -> Pulled:
    """A model under a name; `more` are further layers by the last word of their kind."""
    layers = {"model": gguf, **({} if parameters is None else {"params": json.dumps(parameters).encode()}), **(more or {})}
    said = {"model_format": "gguf", "model_family": "llama", "model_families": ["llama"], **(config or {})}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **blob(models, json.dumps(said).encode())},
        "layers": [{"mediaType": KIND + kind, **blob(models, data)} for kind, data in layers.items()],
    }
    path = models / "manifests" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return Pulled(path, manifest)
