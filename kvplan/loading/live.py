"""Running servers, asked over HTTP: bounded in size and time, no redirects, no credentials but those given."""

import base64
import http.client
import ssl
from collections.abc import Iterator
from time import monotonic
from typing import Final
from urllib.parse import unquote, urlsplit

from kvplan.engines import live_askings
from kvplan.engines.kernel.live import Asking, Live
from kvplan.errors import EnvironmentMissing, InputError
from kvplan.limits import LIVE_BYTES, LIVE_SECONDS

_STEP: Final = 65_536
_ONE: Final = 5.0  # seconds, for one word of the server


class Address:
    """Where a server is, as it was typed."""

    def __init__(self, text: str, key: str = "") -> None:
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as problem:
            raise InputError(f"`{text[:120]}` is no address", hint="such as http://localhost:8000") from problem
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InputError(f"`{text[:120]}` is no address of a server", hint="such as http://localhost:8000")
        self.secure, self.host, self.port = parts.scheme == "https", parts.hostname, port
        self.base = parts.path.rstrip("/").removesuffix("/v1")
        self.name = f"{parts.scheme}://{parts.hostname}{f':{port}' if port else ''}{self.base}"
        self.headers = {"Accept": "*/*", "User-Agent": "kvplan", "Connection": "close"}
        if key:
            self.headers |= {"Authorization": f"Bearer {key}", "x-api-key": key}
        elif parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self.headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()

    def get(self, asked: str, until: float) -> str | None:
        """One answer, or None where the server has none at that path; what stands behind the path is sent to it.

        Raises:
            OSError: it cannot be reached, or takes too long.
        """
        left = min(_ONE, until - monotonic())
        if left <= 0:
            raise TimeoutError("it takes too long")
        connection = (
            http.client.HTTPSConnection(self.host, self.port, timeout=left, context=ssl.create_default_context())
            if self.secure
            else http.client.HTTPConnection(self.host, self.port, timeout=left)
        )
        try:
            path, _, sent = asked.partition(" ")
            told = self.headers | ({"Content-Type": "application/json"} if sent else {})
            connection.request("POST" if sent else "GET", self.base + path, body=sent.encode() or None, headers=told)
            answer = connection.getresponse()
            if answer.status != 200:  # a redirection is no answer, and is not followed
                return None
            read = bytearray()
            while len(read) <= LIVE_BYTES:
                if monotonic() > until:
                    raise TimeoutError("it takes too long")
                piece = answer.read1(_STEP)
                if not piece:
                    break
                read += piece
            return None if len(read) > LIVE_BYTES else read.decode("utf-8", "replace")
        except (http.client.HTTPException, ValueError) as problem:
            raise OSError(f"it does not answer as HTTP does: {type(problem).__name__}") from problem
        finally:
            connection.close()


def ask(address: Address) -> tuple[str, tuple[Live, ...]]:
    """(the engine behind an address, what it says of itself); each engine's own addresses are asked in turn.

    Raises:
        EnvironmentMissing: nobody answers.
        InputError: somebody does, and it is no server that kvplan knows.
    """
    until = monotonic() + LIVE_SECONDS
    try:
        for name, asking in live_askings():
            answers = dict(_answers(address, asking, until))
            if answers and asking.further is not None:
                more = ((path, address.get(path, until)) for path in asking.further(answers))
                answers |= {path: answer for path, answer in more if answer is not None}
            found = asking.read(answers)
            if found:
                return name, found
    except OSError as problem:
        reason = str(problem) or type(problem).__name__
        raise EnvironmentMissing(
            f"cannot ask {address.name}: {reason[:200]}", hint="is the server up, and the address right?"
        ) from problem
    raise InputError(
        f"{address.name} answers, and is no server whose words kvplan knows, or has no model loaded",
        hint=f"servers of {', '.join(name for name, _ in live_askings())} are asked; load a model first",
    )


def _answers(address: Address, asking: Asking, until: float) -> Iterator[tuple[str, str]]:
    for number, path in enumerate(asking.paths):
        found = address.get(path, until)
        if found is None and number == 0:
            return
        if found is not None:
            yield path, found
