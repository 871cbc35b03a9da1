"""Logs of Ollama's server: its own engine's caches, the estimate before llama.cpp, the default context; and llama.cpp's lines.

The loads are public ones, shortened: gpt-oss:120b on ROCm with 0.11.10, Qwen3-Coder-30B-A3B on a CPU with 0.16.
"""

from pathlib import Path

import pytest
from each import each

import kvplan
from kvplan.cli.app import main
from kvplan.engines.kernel.verdicts import Result
from kvplan.engines.ollama.own_engine import cells
from kvplan.gguf.hparams import Hparams, read_hparams

STAMP = "time=2025-09-11T00:42:49.558+02:00 level=INFO source=x.go:1"
RUNNER = f'{STAMP} msg="starting runner" cmd="/usr/bin/ollama runner --ollama-engine --model /x/blobs/sha256-90a6 --port 43263"'


def load(
    kv_size: int, *, parallel: int = 1, flash: str = "true", kind: str = "", layers: str = "37[ID:0 Layers:37(0..36)]"
) -> str:
    return (
        f'{STAMP} msg=load request="{{Operation:commit LoraPath:[] Parallel:{parallel} BatchSize:512 FlashAttention:{flash} '
        f'KvSize:{kv_size} KvCacheType:{kind} NumThreads:16 GPULayers:{layers} MultiUserCache:false MainGPU:0 UseMmap:false}}"'
    )


def cache(device: str, size: str) -> str:
    return f'{STAMP} msg="kv cache" device={device} size="{size}"'


GPT_OSS = [
    f'{STAMP} msg="Listening on [::]:11434 (version 0.11.10-0-g5994e8e)"', RUNNER, load(8192),
    f'{STAMP} msg="model weights" device=ROCm0 size="59.8 GiB"', cache("ROCm0", "450.0 MiB"),
]  # fmt: skip
QWEN = [RUNNER, load(4096, flash="Enabled", layers="[]"), cache("CPU", "384.0 MiB")]


def audited(tmp_path: Path, lines: list[str], model: str | None) -> tuple[Result, ...]:
    (tmp_path / "ollama.log").write_text("\n".join(lines), encoding="utf-8")
    return kvplan.audit(tmp_path / "ollama.log", model=model).results


@pytest.mark.parametrize(("lines", "model"), [(GPT_OSS, "gpt-oss-120b"), (QWEN, "qwen3-30b-a3b")], ids=["gpt-oss", "qwen3"])
def test_a_published_load_is_exact(tmp_path: Path, lines: list[str], model: str) -> None:
    (result,) = audited(tmp_path, lines, model)
    assert result.status == "exact", result
    assert result.engine == "ollama"
    assert "by reading" in result.reason
    (other,) = audited(tmp_path, [line.replace("8192", "16384").replace("KvSize:4096", "KvSize:5120") for line in lines], model)
    assert other.status == "differs"


def test_several_devices_hold_their_layers(tmp_path: Path) -> None:
    lines = [RUNNER, load(4096, flash="Enabled", layers="20[ID:a Layers:12(28..39) ID:b Layers:8(40..47)]")]
    lines += [cache("CUDA0", "96.0 MiB"), cache("CUDA1", "64.0 MiB"), cache("CPU", "224.0 MiB")]
    (result,) = audited(tmp_path, lines, "qwen3-30b-a3b")
    assert [fact.predicted for fact in result.facts] == ["96.0 MiB", "64.0 MiB", "224.0 MiB"]
    assert result.status == "exact"


def test_a_log_without_its_model_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """USABILITY.md, A17: it was six times `not valid JSON`."""
    (result,) = audited(tmp_path, GPT_OSS, None)
    assert (result.status, result.facts[0].recorded) == ("not_predicted", "450.0 MiB")
    assert "--model" in result.reason
    assert main(["audit", str(tmp_path / "ollama.log")]) == 1
    assert "JSON" not in capsys.readouterr().out


def test_an_architecture_that_was_not_read_is_said(tmp_path: Path) -> None:
    (result,) = audited(tmp_path, QWEN, "qwen3-next-80b-a3b")
    assert result.status == "not_predicted"
    assert result.reason.startswith("Ollama's own engine is not predicted for qwen3next")


def test_the_estimate_before_llama_cpp_is_told_from_an_allocation(tmp_path: Path) -> None:
    lines = [
        f'{STAMP} msg="starting runner" cmd="/usr/bin/ollama runner --model /x/blobs/sha256-816 --port 1"',
        cache("Metal", "1.0 GiB"), f'{STAMP} msg="starting go runner"',
        load(8192, flash="Enabled", layers="33[ID:0 Layers:33(0..32)]"),
        "llama_context: n_seq_max     = 1", "llama_context: n_ctx         = 8192",
        "llama_kv_cache: size = 1024.00 MiB (  8192 cells,  32 layers,  1/1 seqs), K (f16):  512.00 MiB, V (f16):  512.00 MiB",
    ]  # fmt: skip
    estimate, allocated = sorted(audited(tmp_path, lines, "llama-3.1-8b"), key=lambda result: result.engine == "llama.cpp")
    assert (estimate.engine, estimate.status, estimate.facts[0].name) == ("ollama", "exact", "estimated_kv_cache[Metal]")
    assert (allocated.engine, allocated.status) == ("llama.cpp", "exact")


@pytest.mark.parametrize(
    ("printed", "default", "status"),
    [("23.5 GiB", 32768, "exact"), ("22.5 GiB", 4096, "exact"), ("23.0 GiB", 4096, "exact"), ("23.0 GiB", 32768, "exact"),
     ("47.9 GiB", 262144, "exact"), ("0 B", 4096, "exact"), ("12.0 GiB", 32768, "differs")],
)  # fmt: skip
def test_the_default_context_of_the_log(tmp_path: Path, printed: str, default: int, status: str) -> None:
    line = f'{STAMP} msg="vram-based default context" total_vram="{printed}" default_num_ctx={default}'
    (result,) = audited(tmp_path, [line], None)
    assert result.status == status
    assert result.facts[0].recorded == default


def gemma() -> Hparams:
    from kvplan.engines.llama_cpp.convert import gguf_keys

    return read_hparams(gguf_keys(kvplan.load("gemma-3-4b")), "gemma")


@each(
    ("release", "slots", "num_ctx", "flash", "full", "sliding"),
    [
        ((0, 5, 13), 1, 4096, True, 4096, 4096),
        ((0, 6, 3), 1, 4096, True, 4096, 1536),
        ((0, 6, 3), 1, 1024, True, 1024, 1536),
        ((0, 12, 4), 1, 1024, True, 1024, 1024),
        ((0, 12, 4), 4, 4096, True, 16384, 4864),  # 4 x 1,025 + 512
        ((0, 12, 4), 4, 4096, False, 16384, 4640),
        ((0, 13, 2), 4, 4096, False, 16384, 4864),
    ],
)
def test_cells_of_the_own_engine_by_release(
    release: tuple[int, ...], slots: int, num_ctx: int, flash: bool, full: int, sliding: int
) -> None:
    h = gemma()
    more = {"num_ctx": num_ctx, "slots": slots, "batch": 512, "flash": flash, "release": release}
    assert (cells(h, 5, **more), cells(h, 0, **more)) == (full, sliding)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        load(10**9, parallel=0), load(0), cache("x" * 200, "1 GiB"), cache("CUDA0", "1.2.3 GiB"), f"{RUNNER}{'x' * 20000}",
        'msg="vram-based default context" total_vram="...... GiB" default_num_ctx=1',
    ],
)  # fmt: skip
def test_odd_lines_do_no_harm(tmp_path: Path, line: str) -> None:
    found = audited(tmp_path, [RUNNER, line, *GPT_OSS[2:]], "gpt-oss-120b")
    assert all(result.status in {"exact", "differs", "not_predicted"} for result in found)
