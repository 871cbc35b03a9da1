"""GGUF files on the hub, by `owner/name/file.gguf`: their first megabytes over HTTP range requests, never the weights."""

from __future__ import annotations

from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from kvplan.domain.model import Model
from kvplan.errors import EnvironmentMissing, GgufError, UnknownModel
from kvplan.gguf.header import GgufHeader, read_header
from kvplan.loading.gguf_file import Prefix, load_gguf, model_of
from kvplan.loading.hub import hub_errors

_TIMEOUT: Final = 30.0  # seconds for one range


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
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError as problem:
        raise EnvironmentMissing(
            f"`{text[:120]}` looks like a file on the hub, and huggingface_hub is not installed",
            hint="pip install 'kvplan[hub]', or give a local file",
        ) from problem

    def filename(part: str) -> str:
        return f"{folder}/{part}" if folder else part

    with hub_errors(repo_id, filename(name)):
        cached = try_to_load_from_cache(repo_id, filename(name))
    if isinstance(cached, str):
        return load_gguf(Path(cached), infer=infer)

    def header_of(part: str) -> tuple[GgufHeader, int] | None:
        try:
            remote = _Remote(repo_id, filename(part))
        except UnknownModel:
            if part == name:
                raise
            return None
        return read_header(Prefix(remote.size, remote.read), f"{repo_id}/{filename(part)}"), remote.size

    return model_of(name, header_of, source=f"{repo_id}/{filename(name)}", infer=infer)


class _Remote:
    """One file on the hub: where it is in the end, its size, and reads of its ranges."""

    def __init__(self, repo_id: str, filename: str) -> None:
        from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url

        self.label = f"{repo_id}/{filename}"
        with hub_errors(repo_id, filename):
            url = hf_hub_url(repo_id, filename)
            try:
                found = get_hf_file_metadata(url)
            except Exception as problem:
                if type(problem).__module__.startswith("huggingface_hub") or isinstance(problem, ValueError):
                    raise
                raise OSError(str(problem)) from problem  # the transport's errors: their classes differ between releases
        if found.size is None:
            raise GgufError(f"{self.label}: the hub does not say how large it is", hint="download the file and give its path")
        self.size = found.size
        self.url = found.location
        own = urlsplit(self.url).netloc == urlsplit(url).netloc  # a token goes to the hub itself and nowhere else
        token = get_token() if own else None
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def read(self, start: int, end: int) -> bytes:
        """Bytes start..end.

        Raises:
            EnvironmentMissing: the server does not answer.
            GgufError: it answers with something else.
        """
        if urlsplit(self.url).scheme not in {"http", "https"}:
            raise GgufError(f"{self.label}: the hub names no web address for it", hint="download the file and give its path")
        request = Request(self.url, headers={**self.headers, "Range": f"bytes={start}-{end - 1}"})  # noqa: S310 - checked above
        try:
            with build_opener(_NoRedirect).open(request, timeout=_TIMEOUT) as answer:
                if answer.status == 206:
                    return bytes(answer.read(end - start))
                return bytes(answer.read(end)[start:end])  # a server without ranges sends the file from its beginning
        except (URLError, HTTPException, OSError) as problem:
            raise EnvironmentMissing(
                f"cannot fetch bytes {start:,}-{end:,} of {self.label}: {str(problem)[:120]}",
                hint="try again, or download the file and give its path",
            ) from problem


class _NoRedirect(HTTPRedirectHandler):
    """Redirects were followed when the address was asked for; another one here would take the headers along."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Never."""
