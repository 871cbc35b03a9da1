"""Models by Ollama's names: what a name means, and where its manifest and its blobs lie.

Source: ollama 0.32.15 (fb3076099), `types/model/name.go`, `manifest/paths.go`.
"""

import re
from posixpath import join, normpath
from typing import Final

from msgspec import Struct

#: Stands for a part that a separator promised and that is not there.
_MISSING: Final = "!MISSING!"
_HOST: Final = "registry.ollama.ai"
_NAMESPACE: Final = "library"
_TAG: Final = "latest"
_VALID: Final = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
}
_DIGEST: Final = re.compile(r"sha256[:-][0-9a-fA-F]{64}")


class Name(Struct, frozen=True, kw_only=True):
    """A model's name in its four parts; what was left out has Ollama's defaults."""

    host: str = _HOST
    namespace: str = _NAMESPACE
    model: str = ""
    tag: str = _TAG

    @property
    def valid(self) -> bool:
        """Whether every part is there and has only characters that such a part may have."""
        return all(pattern.fullmatch(getattr(self, part)) for part, pattern in _VALID.items())

    @property
    def full(self) -> str:
        """All four parts."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def shortest(self) -> str:
        """As `ollama ps` and `ollama list` print it: what is the default is left out."""
        if self.host.lower() != _HOST:
            return self.full
        before = "" if self.namespace.lower() == _NAMESPACE else f"{self.namespace}/"
        return f"{before}{self.model}:{self.tag}"

    @property
    def file(self) -> str:
        """The manifest's place below `manifests`; only of a valid name."""
        return join(self.host, self.namespace, self.model, self.tag)


def parse_name(text: str) -> Name:
    """The parts of `[host/][namespace/]model[:tag]`; whether they are a name says `valid`.

    >>> parse_name("llama3.1:8b").file
    'registry.ollama.ai/library/llama3.1/8b'
    >>> parse_name("hf.co/bartowski/Qwen3-8B-GGUF:Q4_K_M").shortest
    'hf.co/bartowski/Qwen3-8B-GGUF:Q4_K_M'
    """
    tag = namespace = host = ""
    if text.rfind(":") > text.rfind("/"):
        text, tag = _cut(text, ":")
    model = text
    if "/" in text:
        text, model = _cut(text, "/")
        namespace = text
        if "/" in text:
            text, namespace = _cut(text, "/")
            scheme, found, rest = text.partition("://")
            host = rest if found else scheme
    return Name(host=host or _HOST, namespace=namespace or _NAMESPACE, model=model, tag=tag or _TAG)


def _cut(text: str, separator: str) -> tuple[str, str]:
    before, _, after = text.rpartition(separator)
    return before or _MISSING, after or _MISSING


def manifest_path(models: str, name: Name) -> str:
    """Where the manifest of a valid name lies."""
    return normpath(join(models, "manifests", name.file))


def blob_path(models: str, digest: str) -> str | None:
    """Where a blob lies; None for what is no digest. Of no digest at all: the folder of blobs."""
    if digest and not _DIGEST.fullmatch(digest):
        return None
    return normpath(join(models, "blobs", digest.replace(":", "-")))
