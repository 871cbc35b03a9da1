"""Inputs that want something: nothing is run or expanded, every bound is a sentence, and no file of the input is opened."""
# ruff: noqa: E501  inputs stand as they are pasted

from pathlib import Path

import pytest
from doors import answered, here, refused, steady

from kvplan.errors import KvplanError
from kvplan.loading.servers.edits import replaced
from kvplan.loading.servers.forms.dotenv import pairs
from kvplan.loading.servers.read import servers_of


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve $(touch pwned) `touch pwned` ; touch pwned\n",
        "MODEL=$(touch pwned); eval 'touch pwned'; sh -c 'touch pwned; vllm serve a/b'\n",
        'docker run vllm/vllm-openai --model "$(touch pwned)"\n',
        "bash <(touch pwned) && cat > pwned <<EOF\nvllm serve a/b\nEOF\n",
    ],
)
def test_nothing_is_run(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.sh").write_text(text)
    steady(here(capsys, "check", "a.sh", "--gpu", "h100", most=3))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bomb.yaml", "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{c}: &{c} [" + ",".join([f"*{p}"] * 9) + "]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)) + "model: {x: *i}\n"),
        ("deep.yaml", "[" * 500),
        ("tag.yaml", "!!python/object/apply:os.system ['touch pwned']\n"),
        ("alias.yml", "services: {a: *nobody}\n"),
        ("words.sh", "vllm serve a/b " + "x " * 60_000),
        ("braces.sh", "vllm serve " + "${A:-" * 500 + "\n"),
        ("doubling.sh", "A=xxxxxxxx\n" + "A=$A$A$A$A\n" * 30 + "vllm serve $A\n"),
        ("nested.sh", "sh -c " * 40 + "'vllm serve a/b'\n"),
        ("macros.yaml", "macros: {a: '${b} ${b}', b: '${a} ${a}'}\nmodels: {m: {cmd: '${a}'}}\n"),
        ("quotes.sh", "'\"`$(${\"'" * 2000),
        ("heredocs.sh", "cat <<A <<B <<C\n" * 2000),
        ("json.sh", "vllm serve a/b --hf-overrides '" + "[" * 5000 + "]" * 5000 + "'\n"),
        ("numbers.sh", "vllm serve a/b --max-model-len " + "9" * 5000 + " --gpu-memory-utilization 1e999\n"),
    ],
    ids=lambda value: value if len(value) < 20 else "",
)  # fmt: skip
def test_what_grows_without_end_gets_a_sentence(name: str, text: str, tmp_path: Path) -> None:
    said: list[KvplanError] = []
    try:
        servers_of(text, name)
    except KvplanError as problem:
        said.append(problem)
    assert all(str(problem).isprintable() and problem.hint for problem in said)
    assert not (tmp_path / "pwned").exists()


def test_no_path_of_an_input_is_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64}')
    (tmp_path / "a.sh").write_text("vllm serve ./secret --config ./secret/config.yaml\n")
    end = here(capsys, "check", "a.sh", "--gpu", "h100", most=3)
    answered(end, (2,))
    assert "is a local path or private" in end.out.replace("\n", " ")


def test_names_are_printable_wherever_they_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.sh").write_text("vllm serve 'a\x1b[31m/b\u202e' --served-model-name '=1+1'\n")
    for form in ("table", "csv", "md", "html", "github", "sarif"):
        end = here(capsys, "check", "a.sh", "--gpu", "h100", "-f", form, most=3)
        assert "\x1b" not in end.out + end.err
        assert "\u202e" not in end.out + end.err


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"\x00" * 100, b"", b"\x80\x81"])
def test_what_is_no_text_is_refused(raw: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.sh").write_bytes(raw)
    refused(here(capsys, "check", "a.sh", "--gpu", "h100", most=2))


def test_a_long_run_of_blanks_is_looked_at_once() -> None:
    """Two neighbouring parts of a pattern that match the same blanks try every pair of places, three of them every three: hours."""
    blanks = " " * 30_000
    read = {
        "a.env": f"VLLM_A=x{blanks}y\nVLLM_B='x'{blanks}#\nVLLM_C=x{blanks}# y\n",
        "a.bat": f'set A=x{blanks}y\n{blanks}\nset "B=c/d"{blanks}\nvllm serve %B%\n',
        "a.ps1": f"$A = x{blanks}y;{blanks}\n$env:A = x{blanks};\n$B = 'c/d' ;{blanks}\nvllm serve $B\n",
        "b.ps1": "\n" * 30_000 + "vllm serve c/d\n",
        "b.bat": "\n" * 30_000 + "vllm serve c/d\n",
        "b": "FROM c/d\n" + "\n" * 30_000,
    }
    models = {name: [each.model for each in servers_of(text, name).servers] for name, text in read.items()}
    assert models == {"a.env": [], "a.bat": ["c/d"], "a.ps1": ["c/d"], "b.ps1": ["c/d"], "b.bat": ["c/d"], "b": ["c/d"]}
    assert pairs(read["a.env"])["VLLM_C"].text == "x"
    assert replaced(f"vllm serve c/d --max-model-len{blanks}[", 1, ["--max-model-len"], "1") is None
    assert replaced(f"--max-model-len{blanks}= 8", 1, ["--max-model-len"], "1") == f"--max-model-len{blanks}= 1"
