"""Hub ids, against a local server that speaks the hub's protocol; each case is a process of its own:
huggingface_hub reads its environment when it is imported.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from doors import forked
from golden import CONFIGS, ROOT

pytest.importorskip("huggingface_hub", reason="the hub extra is not installed")

CONFIG = json.dumps(
    {"model_type": "llama", "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 512}
).encode()
COMMIT = "a" * 40
_QWEN = (CONFIGS / "hf" / "Qwen__Qwen2.5-VL-7B-Instruct.json").read_bytes()
#: Repositories of models that see -> their files.
SEEING: dict[str, dict[str, bytes]] = {
    "acme/sees": {"config.json": _QWEN, "preprocessor_config.json": b'{"min_pixels": 3136, "max_pixels": 1003520}'},
    "acme/kimi": {
        "config.json": (CONFIGS / "hf" / "moonshotai__Kimi-K2.5.json").read_bytes(),
        "preprocessor_config.json": b'{"media_proc_cfg": {"in_patch_limit": 64, "patch_limit_on_one_side": 512, '
        b'"patch_size": 14, "merge_kernel_size": 2, "in_patch_limit_each_frame": 16, "temporal_merge_kernel_size": 4}}',
    },
    "acme/plain": {"config.json": _QWEN},
    "acme/torn": {"config.json": _QWEN, "preprocessor_config.json": b'{"min_pixels": 3136'},
    "acme/large": {"config.json": _QWEN, "processor_config.json": b" " * (2**20 + 1)},
}


class Hub(BaseHTTPRequestHandler):
    """`acme/tiny` is there, `acme/gated` is gated, `acme/bare` has no config.json, anything else is missing."""

    def _answer(self, *, body: bool) -> None:
        owner, _, rest = self.path.lstrip("/").partition("/")
        repository = f"{owner}/{rest.partition('/')[0]}"
        known = {
            **dict.fromkeys(SEEING),
            "acme/tiny": None,
            "acme/gated": "GatedRepo",
            "acme/bare": "EntryNotFound",
            "acme/bad": None,
        }
        error = known.get(repository, "RepoNotFound")
        if error:
            self.send_response(403 if error == "GatedRepo" else 404)
            self.send_header("X-Error-Code", error)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content: bytes | None = b"[1, 2]" if repository == "acme/bad" else CONFIG
        if repository in SEEING:
            content = SEEING[repository].get(self.path.rpartition("/")[2])
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"0123456789abcdef"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            with suppress(OSError):  # who asked has seen how large it is, and gone
                self.wfile.write(content)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(endpoint: str, home: Path, *args: str, program: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    """`kvplan estimate`, forked from a process that has loaded no huggingface_hub; or a program in a process of its own."""
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*", **environment}
    cleared = [k for k in os.environ if k.startswith(("HF_", "HUGGING", "http", "HTTP", "all_proxy", "ALL_PROXY"))]
    if not program:
        end = forked("estimate", *args, cwd=ROOT, **{**dict.fromkeys(cleared), **hub})
        return subprocess.CompletedProcess(args, end.code, end.out, end.err)
    kept = {k: v for k, v in os.environ.items() if k not in cleared}
    command = [sys.executable, "-c", program, *args]
    return subprocess.run(command, env={**kept, **hub}, capture_output=True, text=True, timeout=120, check=False)


def test_a_hub_id_is_fetched_and_then_served_from_the_cache_offline(endpoint: str, tmp_path: Path) -> None:
    first = ask(endpoint, tmp_path, "acme/tiny", "-s", "16", "-f", "csv")
    assert (first.returncode, first.stderr) == (0, "")
    header, row = first.stdout.splitlines()
    values = dict(zip(header.split(","), row.split(","), strict=True))
    assert values["model"] == "tiny"
    assert int(values["total_bytes"]) == 4 * 2 * 2 * 64 * 16 * 2
    offline = ask(endpoint, tmp_path, "acme/tiny", "-s", "16", "-f", "csv", HF_HUB_OFFLINE="1")
    assert offline.stdout == first.stdout


@pytest.mark.parametrize(
    ("repository", "code", "sentence"),
    [
        ("acme/gated", 2, "error: the hub repository `acme/gated` is gated"),
        ("acme/absent", 2, "error: the hub has no repository `acme/absent` (or it is private)"),
        ("acme/bare", 2, "error: the hub repository `acme/bare` has no config.json"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(endpoint: str, tmp_path: Path, repository: str, code: int, sentence: str) -> None:
    done = ask(endpoint, tmp_path, repository)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (code, "", sentence)
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_config_that_is_no_object_is_refused(endpoint: str, tmp_path: Path) -> None:
    done = ask(endpoint, tmp_path, "acme/bad")
    assert done.returncode == 2
    assert "expected a JSON object, got a list" in done.stderr


def test_offline_mode_without_the_file_says_so(endpoint: str, tmp_path: Path) -> None:
    done = ask(endpoint, tmp_path, "acme/other", HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: cannot fetch `acme/other` from the hub: offline mode is on (HF_HUB_OFFLINE)")


def test_an_unreachable_hub_says_so(tmp_path: Path) -> None:
    done = ask("http://127.0.0.1:1", tmp_path, "acme/tiny")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: cannot fetch `acme/tiny` from the hub: the hub is out of reach")


_FILES = """
import json, sys
import kvplan

def said(repository, **media):
    try:
        found = kvplan.estimate(repository, engine="transformers", seq_len=16, **media).media
    except kvplan.KvplanError as problem:
        return [type(problem).__name__, str(problem)]
    return [found.tokens, *found.notes]

big = {"images": "1x3000x4000"}
print(json.dumps({
    "sees": said("acme/sees", **big),
    "kimi": said("acme/kimi", images="1x1024x1024", video="4f@2fps@1024x1024"),
    "plain": said("acme/plain", **big),
    "torn": said("acme/torn", **big),
    "large": said("acme/large", **big),
}))
"""


def test_processor_files_come_with_a_model_of_the_hub(endpoint: str, tmp_path: Path) -> None:
    """One repository says a range of pixels, one has Moonshot's own names, one has no file, two have files that are none."""

    def told(**environment: str) -> dict[str, list[Any]]:
        done = ask(endpoint, tmp_path, program=_FILES, **environment)
        assert done.returncode == 0, done.stderr
        found: dict[str, list[Any]] = json.loads(done.stdout)
        return found

    found = told()
    assert found["sees"] == [1232, "the numbers are those of acme/sees: the processor's files"]
    assert found["kimi"][0] == 16 + 3 + 4 + 3
    assert found["plain"] == [15303]
    assert found["torn"][0] == "ConfigError"
    assert "acme/torn/preprocessor_config.json:1: not valid JSON" in found["torn"][1]
    assert "at most 1,048,576 are read" in found["large"][1]
    # offline: what was kept is read, and what is not there may have said something
    kept = told(HF_HUB_OFFLINE="1")
    assert kept["sees"][0] == 1232
    assert "video_preprocessor_config.json and processor_config.json of acme/sees may say otherwise and were" in kept["sees"][-1]
    assert kept["plain"][0] == 15303
