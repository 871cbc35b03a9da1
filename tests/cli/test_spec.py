"""`kvplan spec` through the real entry point."""

from pathlib import Path

import pytest

import kvplan
from kvplan.cli.app import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "gemma-3-27b", "deepseek-v3", "qwen3-next-80b-a3b", "hunyuan-large", "whisper-large-v3"]
)
def test_a_printed_spec_loads_as_the_same_model(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    path = tmp_path / "again.yaml"
    code, out, _ = run(capsys, "spec", name)
    path.write_text(out, encoding="utf-8")
    assert code == 0
    assert kvplan.load(path) == kvplan.load(name)
    assert run(capsys, "spec", name, "-o", str(path)) == (0, "", f"wrote {path}: yaml, {len(out.encode())} bytes\n")
    assert path.read_text(encoding="utf-8") == out


def test_a_spec_is_short_and_readable(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(capsys, "spec", "cla-paper/1b-h128-mqa-cla2-densefront")[1]
        == """\
name: cla-paper/1b-h128-mqa-cla2-densefront
source: "arXiv 2405.12981 (Cross-Layer Attention), Table 1"
dtype: bfloat16
parameters: {assumed: 1050564608, low: 947638272, high: 1072252928, because: "the paper names no feed-forward width: 8/3 of \
the hidden size in Llama's way, GPT-NeoX's vocabulary"}
layers: 20
attention: {kv_heads: 1, head_dim: 128, attention_heads: 16}
cross_layer_sharing: {groups: [1, 1, 1, 1, 1, 1, 1, 1, 1, 10, 1]}
"""
    )
