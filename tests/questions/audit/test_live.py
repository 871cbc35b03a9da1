"""`kvplan audit http://…`: servers on this machine that replay what engines answer, and those that want something."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from each import each
from golden import GOLDEN

import kvplan
import kvplan.loading.live as live
from kvplan.api.live import audit_live
from kvplan.cli.app import main

METRICS = (
    '# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{block_size="16",cache_dtype="auto",enable_prefix_caching="True",'
    'gpu_memory_utilization="0.9",num_gpu_blocks="24100",user_specified_block_size="False"} 1.0\n'
)
#: Engine -> path -> answer.
ANSWERS: dict[str, dict[str, Any]] = {
    "vllm": {
        "/version": {"version": "0.33.0"},
        "/v1/models": {"data": [{"id": "chat", "root": "Qwen/Qwen3-8B", "max_model_len": 32768}]},
        "/metrics": METRICS,
    },
    "sglang": {
        "/get_server_info": {
            "model_path": "Qwen/Qwen3-8B", "tp_size": 1, "mem_fraction_static": 0.85, "version": "0.5.23",
            "max_total_num_tokens": 370000, "context_length": None,
        },
        "/metrics": 'sglang:max_total_num_tokens{model_name="Qwen/Qwen3-8B"} 370000.0\n',
    },
    "llama.cpp": {
        "/props": {"default_generation_settings": {"n_ctx": 8192}, "total_slots": 4, "model_path": "/m/Qwen3-8B-Q4_K_M.gguf"},
        "/slots": [{"id": number} for number in range(4)],
    },
    "ollama": {
        "/api/version": {"version": "0.32.15"},
        "/api/ps": {"models": [{"name": "qwen3:8b", "size_vram": 6_400_000_000, "context_length": 8192, "details": {}}]},
        '/api/show {"model": "qwen3:8b"}': {
            "parameters": "num_gpu                        99\nstop                           \"<|im_end|>\"",
            "model_info": {"general.architecture": "qwen3", "general.name": "Qwen3 8B"},
        },
    },
    "exllamav3": {"/v1/model": {"id": "Qwen3-8B", "parameters": {"max_seq_len": 8192, "cache_size": 32768, "cache_mode": "Q8"}}},
}  # fmt: skip


@contextmanager
def server(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


class Quiet(BaseHTTPRequestHandler):
    seen: list[str]

    def log_message(self, *arguments: object) -> None:
        pass


def replaying(answers: dict[str, Any]) -> type[Quiet]:
    class Replay(Quiet):
        seen: list[str] = []  # noqa: RUF012

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.path = f"{self.path} {sent}"
            self.do_GET()

        def do_GET(self) -> None:
            found = answers.get(self.path)
            body = (found if isinstance(found, str) else json.dumps(found)).encode() if found is not None else b""
            self.seen.append(self.headers.get("Authorization", ""))
            self.send_response(200 if found is not None else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Replay


@each("engine", ANSWERS)
def test_what_a_server_says_is_held_against_the_prediction(engine: str) -> None:
    with server(replaying(ANSWERS[engine])) as address:
        (found,) = audit_live(address, gpu="h100").results
    assert found.engine.startswith(engine)
    assert found.facts
    assert all(fact.predicted is not None for fact in found.facts)
    assert found.status == "exact", found.facts


def test_what_a_server_is_asked_further() -> None:
    with server(replaying(ANSWERS["ollama"])) as address:
        _, (found,) = live.ask(live.Address(address))
    assert found.options == {"num_gpu": 99, "num_ctx": 8192}
    assert "its file says it is Qwen3 8B" in found.notes
    with server(replaying(ANSWERS["sglang"])) as address:
        _, (found,) = live.ask(live.Address(address))
    assert [(one.name, one.value) for one in found.printed] == [
        ("max_total_num_tokens", 370000),
        ("sglang:max_total_num_tokens", 370000),
    ]
    pages = {**ANSWERS["sglang"], "/metrics": 'sglang:cache_config_info{page_size="16",num_pages="23125"} 1.0\n'}
    with server(replaying(pages)) as address:
        _, (found,) = live.ask(live.Address(address))
    assert found.printed[1].value == 370000


def test_a_number_outside_its_band_differs(capsys: pytest.CaptureFixture[str]) -> None:
    other = {**ANSWERS["vllm"], "/metrics": METRICS.replace("24100", "9000")}
    with server(replaying(other)) as address:
        assert main(["audit", address, "--gpu", "h100", "-f", "json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["results"]
    assert found["status"] == "differs"
    assert found["facts"][0]["recorded"] == 9000
    assert found["facts"][0]["low"] < found["facts"][0]["predicted"] < found["facts"][0]["high"]


def test_credentials_are_those_that_were_given() -> None:
    handler = replaying(ANSWERS["exllamav3"])
    with server(handler) as address:
        audit_live(address, gpu="h100")
        assert set(handler.seen) == {""}
        audit_live(address, gpu="h100", key="secret")
        assert handler.seen[-1] == "Bearer secret"
        audit_live(address.replace("//", "//a:b@"), gpu="h100")
        assert handler.seen[-1] == "Basic YTpi"


class Redirects(Quiet):
    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()


class Endless(Quiet):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"x" * 65536)
        except OSError:
            pass


class Slow(Quiet):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass


class NoHttp(Quiet):
    def handle(self) -> None:
        self.request.sendall(b"\x16\x03\x01\x00 no HTTP at all\r\n\r\n")


@pytest.mark.parametrize("handler", [Redirects, Endless, Slow, NoHttp])
def test_a_server_that_wants_something_gets_a_sentence(
    handler: type[Quiet], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "LIVE_SECONDS", 0.5)
    monkeypatch.setattr(live, "LIVE_BYTES", 2**20)
    with server(handler) as address:
        assert main(["audit", address, "--gpu", "h100"]) in {2, 3}
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")


@pytest.mark.parametrize("text", ["http://", "http://[::1", "https://a:99999", "http://127.0.0.1:1"])
def test_no_address_or_nobody_there(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", text, "--gpu", "h100"]) in {2, 3}
    assert capsys.readouterr().err.startswith("error: ")


def test_a_card_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with server(replaying(ANSWERS["sglang"])) as address:
        assert main(["audit", address]) == 2
    assert "--gpu NAME" in capsys.readouterr().err


LIVE = [json.loads(line) for line in (GOLDEN / "live" / "servers.jsonl").read_text(encoding="utf-8").splitlines()]


@each("case", LIVE, ids=lambda case: case["id"])
def test_what_real_servers_said_is_predicted(case: dict[str, Any], tmp_path: Path) -> None:
    """Servers of tiny random models on a CPU: what they answer over HTTP, and what their logs print."""
    model, log = str(GOLDEN / "live" / case["model"]), tmp_path / "server.log"
    log.write_text(case["log"])
    with server(replaying(case["answers"])) as address:
        (found,) = audit_live(address, gpu=None if case["engine"] == "vllm" else "h100", model=model).results
    assert found.status == "exact", found.facts
    assert len(found.facts) == 3
    (printed,) = kvplan.audit([log], model=model).results
    assert printed.status == "exact", printed.facts
    assert printed.facts
