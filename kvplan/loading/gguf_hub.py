"""GGUF files on the hub, by `owner/name/file.gguf`: their first megabytes over HTTP range requests, never the weights."""

from __future__ import annotations

from kvplan.domain.model import Model
from kvplan.errors import UnknownModel
from kvplan.gguf.header import GgufHeader, read_header
from kvplan.loading.fetch import HubFile
from kvplan.loading.gguf_file import Budget, Prefix, load_gguf, model_of


def load_gguf_from_hub(text: str, *, infer: bool = False) -> Model:
    """Read the header of a GGUF file on the hub, or the file itself when it is in the local cache.

    `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are honoured.

    Args:
        text: `owner/name/file.gguf`; the file may be in a folder of the repository.
        infer: see `kvplan.loading.gguf_file.load_gguf`.

    Raises:
        EnvironmentMissing: huggingface_hub is not installed, or the hub is out of reach.
        UnknownModel: no such repository or file.
        GgufError: the file is damaged, or not a model's.
    """
    parts = text.split("/")
    if len(parts) < 3 or not all(parts):
        raise UnknownModel(f"`{text[:120]}` is not owner/name/file.gguf", hint="name the repository and the file in it")
    repo_id, folder, name = "/".join(parts[:2]), "/".join(parts[2:-1]), parts[-1]

    def file(part: str) -> HubFile:
        return HubFile(repo_id, f"{folder}/{part}" if folder else part)

    cached = file(name).cached()
    if cached is not None:
        return load_gguf(cached, infer=infer)
    budget = Budget()

    def header_of(part: str) -> tuple[GgufHeader, int] | None:
        remote = file(part)
        try:
            size = remote.size()
        except UnknownModel:
            if part == name:
                raise
            return None
        return read_header(Prefix(size, remote.read, budget), remote.label, keys=part == name), size

    return model_of(name, header_of, source=file(name).label, infer=infer)
