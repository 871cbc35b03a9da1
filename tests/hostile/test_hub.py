"""HOSTILE.md 3 and 16: a hub that lies writes nothing outside its cache, holds nobody, and ends in one sentence.

`Hub` is HOSTILE.md's `hub.py` with more modes. Elsewhere: an honest hub, its refusals and the cache in
tests/loading/test_hub.py; ranges of GGUF files in tests/loading/test_gguf_hub.py.
"""

import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from doors import SMALL, End, answered, forked, refused

pytest.importorskip("huggingface_hub", reason="the hub extra is not installed")

CONFIG = json.dumps(SMALL).encode()
HEADERS = {
    "list": b'["a"]',
    "null": b"null",
    "minus": b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [10000000000, 0]}}',
    "text": b'{"a": {"dtype": "F32", "shape": ["1"], "data_offsets": ["0", "4"]}}',
}


class Hub(BaseHTTPRequestHandler):
    """One repository, `a/b`, of a server in a mode."""

    protocol_version = "HTTP/1.1"
    mode = ""
    seen: list[tuple[str, str]]  # host, token

    def do_GET(self) -> None:
        mode, file, get = self.mode, self.path.rpartition("/")[2], self.command == "GET"
        self.seen.append((self.headers.get("Host", ""), self.headers.get("Authorization", "")))
        header = HEADERS.get(mode, b"")
        config, weights = file == "config.json", bool(header) and file == "model.safetensors"
        body = CONFIG if config else struct.pack("<Q", len(header)) + header if weights else b""
        status = 206 if weights and get else 200 if config or weights else 404
        more: dict[str, object] = {"ETag": f'"{len(body)}"', "X-Repo-Commit": "0" * 40, "Content-Length": len(body)}
        match mode:
            case "etag":
                more["ETag"] = '"../../../../x"'
            case "absolute":
                more["ETag"] = '"/tmp/kvplan-hostile-etag"'
            case "commit":
                more["X-Repo-Commit"] = "../../x"
            case "wait":
                status, more["Retry-After"] = 429, "999999"
            case "redirect":
                status, more["Location"] = 302, "file:///etc/passwd"
            case "circle":
                status, more["Location"] = 302, self.path
            case "away":
                status, more["Location"] = 302, f"http://localhost:{self.server.server_port}/elsewhere"  # type: ignore[attr-defined]
            case "cut":
                more["Content-Length"] = len(body) + 500
            case "huge":
                more["Content-Length"] = 10**12
            case "html":
                body = b"<html>\x1b[31m</html>"
                more["Content-Length"] = len(body)
            case "drop":
                self.close_connection = True
                return
        if mode == "away" and self.path == "/elsewhere":
            status = 200
            more.pop("Location")
            more["Content-Length"] = len(CONFIG)
            body = CONFIG
        if not body:
            more["X-Error-Code"] = "EntryNotFound"
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, str(value))
        if mode == "endless" and get and config:
            self.endless()
            return
        self.end_headers()
        if get and mode == "drip":
            self.drip(body)
        elif get:
            self.wfile.write(body)
        self.close_connection = self.close_connection or mode in {"cut", "huge"}

    do_HEAD = do_GET  # noqa: N815 - as http.server names it

    def endless(self) -> None:
        """A config without an end, as fast as it is taken."""
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        piece = b" " * 2**20
        try:
            for _ in range(2000):
                self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
        except OSError:
            self.close_connection = True

    def drip(self, body: bytes) -> None:
        """A byte now and then."""
        try:
            for i in range(len(body)):
                self.wfile.write(body[i : i + 1])
                self.wfile.flush()
                time.sleep(0.5)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def hub(mode: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A hub in a mode: its address, and what was asked of it."""
    seen: list[tuple[str, str]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("InMode", (Hub,), {"mode": mode, "seen": seen}))
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


def ask(endpoint: str, folder: Path, *arguments: str, **environment: str) -> End:
    """A command that asks that hub, with a home of its own."""
    cleared = {name: None for name in os.environ if name.startswith(("HF_", "HUGGING")) or name.lower().endswith("_proxy")}
    return forked(
        *arguments,
        cwd=folder,
        **{**cleared, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home"), "NO_PROXY": "*", **environment},
    )


def outside(folder: Path) -> list[str]:
    """What lies beside the library's home."""
    return [path.name for path in folder.iterdir() if path.name != "home"]


@pytest.mark.parametrize("mode", ["etag", "absolute", "commit", "away"])
def test_names_that_a_hub_gives_are_names_or_nothing(mode: str, tmp_path: Path) -> None:
    with hub(mode) as (endpoint, seen):
        answered(ask(endpoint, tmp_path, "estimate", "a/b", HF_TOKEN="hf_secret"))
    assert outside(tmp_path) == []
    assert not Path("/tmp/kvplan-hostile-etag").exists()
    kept = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert all(path.name in {"config.json", "main"} for path in kept)
    assert all(path.is_relative_to(tmp_path / "home" / "hub" / "models--a--b") for path in kept)
    assert any(token for _, token in seen)
    assert all(host.startswith("127.0.0.1") for host, token in seen if token)  # a token goes to the hub alone


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("wait", "asks to wait 999999 s"),
        ("redirect", "no web address"),
        ("circle", "redirects more than 5 times"),
        ("cut", ""),
        ("huge", "too large"),
        ("endless", "too large"),
        ("html", ""),
        ("drop", "out of reach"),
    ],
)
def test_what_a_hub_may_answer_ends_in_one_sentence(mode: str, words: str, tmp_path: Path) -> None:
    start = time.monotonic()
    with hub(mode) as (endpoint, seen):
        refused(ask(endpoint, tmp_path, "estimate", "a/b"), (2, 3), words)
    assert time.monotonic() - start < 20
    assert 1 <= len(seen) <= 7
    assert outside(tmp_path) == []
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 2**20


def test_a_byte_now_and_then_does_not_hold_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of a question, shortened; the bytes would take more than a minute."""
    from kvplan.errors import EnvironmentMissing
    from kvplan.limits import question_deadline
    from kvplan.loading.fetch import HubFile

    class Library:
        """What `HubFile` asks of huggingface_hub."""

        class constants:  # noqa: N801 - the library's name
            HF_HUB_OFFLINE, HF_HUB_CACHE = False, str(tmp_path)

        def hf_hub_url(self, repo: str, file: str) -> str:
            return f"{endpoint}/{repo}/{file}"

        def get_token(self) -> None:
            return None

        def try_to_load_from_cache(self, *_: str) -> None:
            return None

    with hub("drip") as (endpoint, _):
        monkeypatch.setattr("kvplan.loading.fetch._library", lambda _: Library())
        token = question_deadline.set(time.monotonic() + 1.5)
        start = time.monotonic()
        with pytest.raises(EnvironmentMissing, match="did not answer within"):
            HubFile("a/b", "config.json").whole(2**20)
        question_deadline.reset(token)
    assert time.monotonic() - start < 30  # the bytes would take more than a minute
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", sorted(HEADERS))
def test_a_header_that_contradicts_itself_is_no_weight(mode: str, tmp_path: Path) -> None:
    with hub(mode) as (endpoint, _):
        end = ask(endpoint, tmp_path, "fit", "a/b", "--gpu", "h100-80gb", "-s", "1k")
    refused(end, (2, 3))


@pytest.mark.parametrize(
    ("typed", "environment", "code"),
    [
        ("a/b", {"HF_ENDPOINT": "http://[::1"}, 3),
        ("a/b", {"HF_ENDPOINT": "http://127.0.0.1:99999"}, 3),
        ("a/b", {"HF_ENDPOINT": "file:///etc"}, 3),
        ("a/b", {"HF_HUB_DOWNLOAD_TIMEOUT": "x"}, 3),
        ("a/b/../../c.gguf", {}, 2),
    ],
)
def test_what_is_typed_or_set_wrong_is_one_sentence(typed: str, environment: dict[str, str], code: int, tmp_path: Path) -> None:
    end = ask(environment.get("HF_ENDPOINT", "http://127.0.0.1:1"), tmp_path, "estimate", typed, **environment)
    refused(end, (code,))


@pytest.mark.parametrize(
    "typed", ["../b", "a/%2e%2e", "a/b?x", "a/b#x", "a/\x1b[31m", "a/\u202eb", "-a/b", "a/..", "a/b/\udcff.gguf"]
)
def test_ids_that_are_none_ask_nobody(typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from doors import here

    def nobody(*_: object) -> None:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("kvplan.loading.fetch.HubFile._once", nobody)
    refused(here(capsys, "estimate", "--", typed))
