"""Files of a hub repository, fetched by kvplan itself: bounded in size and in time, and nothing is written but the cache.

huggingface_hub says where things are (`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_OFFLINE`); its cache is read, and
files that kvplan fetched are put into it under names that were checked. Its downloads are not used: they believe the
server's ETag as a path, wait as long as a server says, and write without a limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from http.client import HTTPException
from io import StringIO
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from time import monotonic, sleep
from typing import Any, Final, NoReturn, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from msgspec import Struct

from kvplan.errors import EnvironmentMissing, UnknownModel
from kvplan.files import is_hub_id
from kvplan.limits import HUB_REDIRECTS, HUB_SECONDS, question_deadline

T = TypeVar("T")
_FILE: Final = re.compile(r"(?!.*(?:^|/)\.\.?(?:/|$))[A-Za-z0-9._\- +=@()]{1,255}(?:/[A-Za-z0-9._\- +=@()]{1,255}){0,15}")
_SAFE: Final = re.compile(r"(?!\.)[0-9A-Za-z._-]{1,128}")
_CHUNK: Final = 2**18


class Answer(Struct, frozen=True, kw_only=True):
    """What a server said: its status and headers (names in lower case), where that was, and the body."""

    status: int
    headers: Mapping[str, str]
    url: str
    body: bytes = b""


class HubFile:
    """One file of a repository, under one clock.

    Raises:
        UnknownModel: not a hub id, or not the name of a file in a repository.
        EnvironmentMissing: huggingface_hub is not installed.
    """

    def __init__(self, repo_id: str, filename: str) -> None:
        if not is_hub_id(repo_id):
            raise UnknownModel(f"`{repo_id[:120]}` is not a valid hub id", hint="a hub id is owner/name")
        if not _FILE.fullmatch(filename):
            raise UnknownModel(f"`{filename[:120]}` is not a file of a hub repository", hint="name a file, without `..`")
        self.repo_id, self.filename = repo_id, filename
        self.label = f"{repo_id}/{filename}"
        self._library = _library(repo_id)
        self._deadline = question_deadline.get() or monotonic() + HUB_SECONDS
        self._where: str | None = None  # after redirects
        self._size = -1

    def cached(self) -> Path | None:
        """The file in the library's cache."""
        with suppress(Exception):  # whatever the library makes of a damaged cache: then it is not there
            found = self._library.try_to_load_from_cache(self.repo_id, self.filename)
            return Path(found) if isinstance(found, str) else None
        return None

    def whole(self, limit: int) -> bytes:
        """The file, at most `limit` bytes; kept in the library's cache, and taken from there when the hub is out of reach.

        Raises:
            UnknownModel: no such repository or file, a gated one, or one that is too large.
            EnvironmentMissing: the hub is out of reach, too slow, or answers with something else.
        """
        kept = self.cached()
        if self._offline():
            if kept is None:
                raise self._unreachable("offline mode is on (HF_HUB_OFFLINE)")
            return _read(kept, limit, self.label)
        try:
            answer = self._timed(lambda: self._ask("GET", self._address(), limit=limit))
        except EnvironmentMissing:
            if kept is None:
                raise
            return _read(kept, limit, self.label)
        if answer.status != 200:
            self._refuse(answer)
        self._keep(answer)
        return answer.body

    def size(self) -> int:
        """Bytes of the file.

        Raises:
            UnknownModel, EnvironmentMissing: see `whole`.
        """
        if self._size < 0:
            if self._offline():
                raise self._unreachable("offline mode is on (HF_HUB_OFFLINE)")
            answer = self._timed(lambda: self._ask("HEAD", self._address(), limit=0))
            if answer.status not in {200, 301, 302, 303, 307, 308}:
                self._refuse(answer)
            told = answer.headers.get("x-linked-size") or answer.headers.get("content-length", "")
            if not told.isdecimal() or not 0 < len(told) < 19:
                raise self._odd("does not say how large it is")
            self._where, self._size = answer.url, int(told)
        return self._size

    def read(self, start: int, end: int) -> bytes:
        """Bytes start..end.

        Raises:
            EnvironmentMissing: the server does not answer, or with something else.
        """
        self.size()
        where = self._where or self._address()
        ranged = {"Range": f"bytes={start}-{end - 1}"}
        try:
            answer = self._timed(lambda: self._ask("GET", where, limit=end, headers=ranged, cut=True))
        except EnvironmentMissing as problem:
            raise EnvironmentMissing(
                f"cannot fetch bytes {start:,}-{end:,} of {self.label}: {problem}",
                hint="try again, or download the file and give its path",
            ) from problem
        if answer.status == 206:
            return answer.body[: end - start]
        if answer.status == 200:  # a server without ranges sends the file from its beginning
            return answer.body[start:end]
        raise EnvironmentMissing(
            f"cannot fetch bytes {start:,}-{end:,} of {self.label}: the server answers {answer.status}",
            hint="try again, or download the file and give its path",
        )

    # How it is asked.

    def _address(self) -> str:
        try:
            found: str = self._library.hf_hub_url(self.repo_id, self.filename)
        except Exception as problem:  # HF_ENDPOINT may be anything
            raise self._odd("has no usable address") from problem
        return found

    def _timed(self, ask: Callable[[], T]) -> T:
        """`ask` in a thread of its own, so that neither a slow name server nor one byte a second can hold the process."""
        answers: Queue[T | BaseException] = Queue()

        def work() -> None:
            try:
                answers.put(ask())
            except BaseException as problem:
                answers.put(problem)

        Thread(target=work, daemon=True).start()
        try:
            found = answers.get(timeout=max(0.01, self._deadline - monotonic()))
        except Empty as problem:
            raise self._unreachable(f"it did not answer within {HUB_SECONDS:.0f} s,") from problem
        if isinstance(found, EnvironmentMissing | UnknownModel):
            raise found
        if isinstance(found, OSError | URLError | HTTPException):
            raise self._unreachable("the hub is out of reach") from found
        if isinstance(found, BaseException):  # ValueError and whatever else a hostile answer brings about
            raise self._odd("answers with something else") from found
        return found

    def _ask(self, method: str, url: str, *, limit: int, headers: Mapping[str, str] | None = None, cut: bool = False) -> Answer:
        """One request, its redirects followed by hand: a token goes to the hub itself and nowhere else."""
        home = urlsplit(self._address()).netloc
        for _ in range(HUB_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise self._odd("sends its readers to something that is no web address")
            token = self._library.get_token() if parts.netloc == home else None
            sent = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {}), "Accept-Encoding": "identity"}
            answer = self._once(method, url, sent, limit, cut=cut)
            if answer.status not in {301, 302, 303, 307, 308} or not answer.headers.get("location"):
                return answer
            url = urljoin(url, answer.headers["location"])
            if method == "HEAD" and answer.headers.get("x-linked-size"):  # that is all that was asked
                if urlsplit(url).scheme not in {"http", "https"}:
                    raise self._odd("sends its readers to something that is no web address")
                return Answer(status=answer.status, headers=answer.headers, url=url)
        raise self._odd(f"redirects more than {HUB_REDIRECTS} times")

    def _once(self, method: str, url: str, headers: Mapping[str, str], limit: int, *, cut: bool) -> Answer:
        while True:
            left = self._deadline - monotonic()
            if left <= 0:
                raise self._unreachable(f"it did not answer within {HUB_SECONDS:.0f} s,")
            request = Request(url, headers=dict(headers), method=method)  # noqa: S310 - the scheme was checked
            try:
                with build_opener(_NoRedirect).open(request, timeout=min(left, 10.0)) as reply:
                    body = self._body(reply, limit, cut=cut) if method == "GET" else b""
                    return Answer(status=reply.status, headers=_lower(reply.headers), url=url, body=body)
            except HTTPError as problem:
                found = Answer(status=problem.code, headers=_lower(problem.headers), url=url)
                if problem.code != 429:
                    return found
                self._wait(found.headers.get("retry-after", "1"))

    def _body(self, reply: Any, limit: int, *, cut: bool) -> bytes:
        """The answer's bytes: no more than `limit`, whatever it says of its length."""
        told = reply.headers.get("Content-Length", "")
        if not cut and told.isdecimal() and int(told[:19]) > limit:
            raise UnknownModel(f"{self.label} on the hub is too large: {int(told[:19]):,} bytes, and at most {limit:,} are read")
        found = bytearray()
        while len(found) <= limit and (piece := reply.read(min(_CHUNK, limit + 1 - len(found)))):
            found += piece
            if cut and len(found) >= limit:
                break
            if self._deadline < monotonic():
                raise self._unreachable(f"it did not answer within {HUB_SECONDS:.0f} s,")
        if len(found) > limit and not cut:
            raise UnknownModel(f"{self.label} on the hub is too large: at most {limit:,} bytes are read")
        if told.isdecimal() and reply.status == 200 and not cut and len(found) < int(told[:19]):
            raise self._odd("sends less than it says")
        return bytes(found)

    def _wait(self, told: str) -> None:
        seconds = int(told) if told.isdecimal() and len(told) < 9 else 10**9
        if monotonic() + seconds >= self._deadline:
            raise EnvironmentMissing(
                f"the hub asks to wait {told[:20]} s before `{self.repo_id}` is asked for again",
                hint="try again later, or download the file and give its path",
            )
        sleep(seconds)

    # What it answers.

    def _refuse(self, answer: Answer) -> NoReturn:
        """The hub's refusals as kvplan's own.

        Raises:
            UnknownModel: no such repository or file, or a gated one.
            EnvironmentMissing: anything else.
        """
        code, where = answer.headers.get("x-error-code", ""), f"the hub repository `{self.repo_id}`"
        if code == "GatedRepo":
            raise UnknownModel(f"{where} is gated", hint="accept its terms on the hub, then set HF_TOKEN")
        if code == "RepoNotFound" or answer.status == 401:
            raise UnknownModel(
                f"the hub has no repository `{self.repo_id}` (or it is private)",
                hint="check the spelling; private ones need HF_TOKEN",
            )
        if code in {"EntryNotFound", "RevisionNotFound"}:
            what = "no config.json" if self.filename == "config.json" else f"no file `{self.filename}`"
            raise UnknownModel(f"{where} has {what}", hint="is it a model repository?")
        if answer.status >= 500:
            raise self._unreachable("the hub is out of reach")
        raise self._odd(f"answers {answer.status}")

    def _offline(self) -> bool:
        return bool(self._library.constants.HF_HUB_OFFLINE)

    def _unreachable(self, reason: str) -> EnvironmentMissing:
        return EnvironmentMissing(
            f"cannot fetch `{self.repo_id}` from the hub: {reason} and it is not in the cache",
            hint=f"download its {self.filename} and give the path, or check HF_ENDPOINT and HF_HUB_OFFLINE",
        )

    def _odd(self, problem: str) -> EnvironmentMissing:
        return EnvironmentMissing(
            f"cannot fetch {self.label}: the hub {problem}", hint="check HF_ENDPOINT, or download the file and give its path"
        )

    def _keep(self, answer: Answer) -> None:
        """Put the file into the library's cache, where the names that the server gives are names; else nowhere."""
        commit = answer.headers.get("x-repo-commit", "")
        if not _SAFE.fullmatch(commit):
            return
        root = Path(self._library.constants.HF_HUB_CACHE) / f"models--{self.repo_id.replace('/', '--')}"
        with suppress(OSError):  # a cache that cannot be written is no reason to fail
            kept = root / "snapshots" / commit / self.filename
            _put(kept, answer.body)
            _put(root / "refs" / "main", commit.encode())


def _put(path: Path, content: bytes) -> None:
    """Written aside and renamed."""
    from tempfile import NamedTemporaryFile

    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, delete=False) as file:
        aside = Path(file.name)
        try:
            file.write(content)
            file.close()
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def _library(repo_id: str) -> Any:
    try:
        with redirect_stdout(StringIO()):  # it prints what it cannot import
            import huggingface_hub

            for name in ("hf_hub_url", "get_token", "try_to_load_from_cache", "constants"):  # the last comes with the others
                getattr(huggingface_hub, name)
    except ImportError as problem:
        raise EnvironmentMissing(
            f"`{repo_id[:120]}` looks like a hub id, and huggingface_hub is not installed",
            hint="pip install 'kvplan-exact[hub]', or give a local config.json",
        ) from problem
    except Exception as problem:  # it reads its environment variables when it is imported
        raise EnvironmentMissing(
            f"huggingface_hub does not start: {problem}", hint="check the environment variables that begin with HF_"
        ) from problem
    import logging

    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    return huggingface_hub


def _read(path: Path, limit: int, label: str) -> bytes:
    """A file of the cache."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as problem:
        raise EnvironmentMissing(f"cannot read {label} in the cache: {problem.strerror}", hint="check HF_HOME") from problem
    if len(data) > limit:
        raise UnknownModel(f"{label} in the cache is too large: at most {limit:,} bytes are read")
    return data


def _lower(headers: Any) -> dict[str, str]:
    return {str(name).lower()[:100]: str(value)[:4096] for name, value in list(headers.items())[:200]}


class _NoRedirect(HTTPRedirectHandler):
    """Redirects are followed by hand: the library's handler would take the headers along."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Never."""
