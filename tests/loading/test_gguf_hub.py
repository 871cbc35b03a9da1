"""GGUF files on the hub, against a local server with range requests: only headers travel, and a token stays at home."""

import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import golden
import pytest
from doors import End, forked

pytest.importorskip("huggingface_hub", reason="the hub extra is not installed")

FIXTURES = golden.GOLDEN / "gguf"
HEADER = (FIXTURES / "gpt-oss-20b-mxfp4.gguf").read_bytes()
SIZE = json.loads((FIXTURES / "INDEX.json").read_text())["gpt-oss-20b-mxfp4.gguf"]["tensor_bytes"] + len(HEADER)
COMMIT = "a" * 40
PLAIN = {
    "gpt-oss.gguf",
    "sub/folder/gpt-oss.gguf",
    *(f"big-0000{i}-of-00003.gguf" for i in (1, 2, 3)),
    "half-00001-of-00002.gguf",
}


class Hub(BaseHTTPRequestHandler):
    """`acme/models` holds 14 GB files of zeros behind a real header, on another host; `acme/plain` ignores ranges."""

    asked: list[tuple[str, str, str]] = []  # noqa: RUF012 - shared on purpose

    def _answer(self, *, body: bool) -> None:
        Hub.asked.append((self.path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        repository, _, name = self.path.lstrip("/").partition("/resolve/main/")
        if self.path.startswith("/cdn/"):
            start, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            self._send(206, (HEADER + b"\0" * (end + 1))[start : end + 1])
        elif repository == "acme/models" and name in PLAIN:
            port = self.server.server_address[1]
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{port}/cdn/{name}")
            self.send_header("X-Linked-Size", str(SIZE))
            self.send_header("X-Linked-ETag", '"0123"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif repository == "acme/plain":
            self._send(200, HEADER if body else b"", size=len(HEADER))
        elif repository == "acme/broken" and not body:
            self._send(200, b"", size=len(HEADER))
        else:
            self.send_response(500 if repository == "acme/broken" else 404)
            self.send_header("X-Error-Code", "EntryNotFound" if repository in {"acme/models", "acme/broken"} else "RepoNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, status: int, content: bytes, size: int | None = None) -> None:
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"0123"')
        self.send_header("Content-Length", str(len(content) if size is None else size))
        self.end_headers()
        self.wfile.write(content)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    Hub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(endpoint: str, home: Path, model: str, **environment: str) -> End:
    cleared = [k for k in os.environ if k.startswith(("HF_", "HUGGING", "http", "HTTP", "all_proxy", "ALL_PROXY"))]
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*", **environment}
    words = ("estimate", model, "-e", "llama.cpp", "-s", "4096", "-f", "json")
    return forked(*words, cwd=golden.ROOT, **{**dict.fromkeys(cleared), **hub})


@pytest.mark.parametrize(
    "name", ["acme/models/gpt-oss.gguf", "hf://acme/models/gpt-oss.gguf", "acme/models/sub/folder/gpt-oss.gguf"]
)
def test_only_the_header_travels_and_the_token_stays_at_home(endpoint: str, tmp_path: Path, name: str) -> None:
    done = ask(endpoint, tmp_path, name, HF_TOKEN="hf_secret")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["estimates"][0]["total_bytes"] == 119_537_664
    fetched = [(path, span, token) for path, span, token in Hub.asked if path.startswith("/cdn/")]
    assert [span for _, span, _ in fetched] == ["bytes=0-1048575"]
    assert [token for _, _, token in fetched] == [""]
    assert any(token == "Bearer hf_secret" for path, _, token in Hub.asked if not path.startswith("/cdn/"))


def test_the_parts_of_a_split_model_are_fetched(endpoint: str, tmp_path: Path) -> None:
    done = ask(endpoint, tmp_path, "acme/models/big-00001-of-00003.gguf")
    assert (done.code, done.err) == (0, "")
    assert len([path for path, _, _ in Hub.asked if path.startswith("/cdn/")]) == 3
    half = ask(endpoint, tmp_path, "acme/models/half-00001-of-00002.gguf")
    assert half.code == 0
    assert "1 of 2 parts are here" in half.out


def test_a_server_without_ranges_will_do(endpoint: str, tmp_path: Path) -> None:
    done = ask(endpoint, tmp_path, "acme/plain/x.gguf")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        ("acme/models/absent.gguf", 2, "error: the hub repository `acme/models` has no file `absent.gguf`"),
        ("acme/absent/x.gguf", 2, "error: the hub has no repository `acme/absent` (or it is private)"),
        ("acme/broken/x.gguf", 3, "error: cannot fetch bytes 0-29,056 of acme/broken/x.gguf"),
        ("acme//x.gguf", 2, "error: `acme//x.gguf` is not owner/name/file.gguf"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(endpoint: str, tmp_path: Path, name: str, code: int, sentence: str) -> None:
    done = ask(endpoint, tmp_path, name)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(sentence)
    assert "hint: " in done.err
    assert "Traceback" not in done.err


def test_offline_and_out_of_reach_say_so(endpoint: str, tmp_path: Path) -> None:
    offline = ask(endpoint, tmp_path, "acme/models/gpt-oss.gguf", HF_HUB_OFFLINE="1")
    assert offline.code == 3
    assert "offline mode is on" in offline.err
    away = ask("http://127.0.0.1:1", tmp_path, "acme/models/gpt-oss.gguf")
    assert away.code == 3
    assert "out of reach" in away.err


def test_a_file_in_the_local_cache_is_read_there(endpoint: str, tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "models--acme--models"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "snapshots" / COMMIT / "gpt-oss.gguf").write_bytes(HEADER)
    done = ask(endpoint, tmp_path, "acme/models/gpt-oss.gguf", HF_HUB_OFFLINE="1")
    assert done.code == 0, done.err
    assert json.loads(done.out)["estimates"][0]["total_bytes"] == 119_537_664
    assert Hub.asked == []
