"""Documentation that cannot rot: its commands run, its outputs are what they print, its generated pages are current."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from forks import Forks

from kvplan.cli.app import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ASKED = "; echo $?"  # the exit code is shown, too
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
Shell = Callable[[str, list[str]], tuple[int, str, str]]
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def sessions() -> "list[tuple[str, list[str]]]":
    return [
        (f"{page.relative_to(ROOT)}:{n}", block.splitlines())
        for page in PAGES
        for n, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if "$ kvplan" in block
    ]


@pytest.fixture(scope="module")
def forked() -> Iterator[Callable[[str], Forks]]:
    """The process that forks a command's; what `validate` needs is loaded for it alone."""
    with ExitStack() as ends:

        @cache
        def forks(command: str) -> Forks:
            made = Forks(*(["torch"] if command == "validate" else []))
            ends.callback(made.end)
            return made

        yield lambda word: forks("validate" if word == "validate" else "")


@pytest.fixture
def shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forked: Callable[[str], Forks]
) -> Shell:
    """Runs a command of a page: README's in a process each, as a reader would, the guides' in this one, which is quicker."""
    environment = {"PATH": "", "COLUMNS": "100", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}

    def in_a_process(words: list[str]) -> tuple[int, str, str]:
        end = forked(words[0]).run(words, tmp_path, environment)
        return end.code, end.out, end.err

    def here(words: list[str]) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = main(words)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    # what `validate` measures of a process is of one that has done nothing else
    return lambda page, words: (in_a_process if page.startswith("README.md") or words[0] == "validate" else here)(words)


@pytest.mark.parametrize(("name", "lines"), sessions(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_console_session_runs_and_prints_what_it_shows(name: str, lines: list[str], tmp_path: Path, shell: Shell) -> None:
    guides = ROOT / "docs" / "guides"
    for example in (*guides.glob("*.yaml"), *guides.glob("*.csv")):
        (tmp_path / example.name).write_text(example.read_text(encoding="utf-8"))
    for header in ("gpt-oss-20b-mxfp4.gguf", "llama-3.1-8b-q4km-like.gguf"):
        (tmp_path / header).write_bytes((ROOT / "tests" / "golden" / "gguf" / header).read_bytes())
    position = 0
    while position < len(lines):
        assert lines[position].startswith("$ "), f"{name}: a session starts with `$ `"
        command, position = lines[position][2:], position + 1
        while command.endswith("\\"):
            command, position = command[:-1] + lines[position].strip(), position + 1
        shown = []
        while position < len(lines) and not lines[position].startswith("$ "):
            shown.append(lines[position].rstrip())
            position += 1
        words = shlex.split(command.removesuffix(ASKED))
        if words[0] != "kvplan":
            continue
        code, out, err = shell(name, words[1:])
        assert code == 0 or command.endswith(ASKED), f"{name}: {command}\n{err}"
        printed = [line.rstrip() for line in out.strip("\n").splitlines()]
        printed += [str(code)] if command.endswith(ASKED) else []
        shown = "\n".join(shown).strip("\n").splitlines()
        if shown and shown[-1] == "…":
            printed, shown = printed[: len(shown) - 1], shown[:-1]
        if shown:
            assert printed == shown, f"{name}: {command}"


def test_python_examples_run() -> None:
    for page in PAGES:
        if page.name == "contributing.md":  # tests/architectures/test_contributing.py puts its files where they belong
            continue
        for block in PYTHON.findall(page.read_text(encoding="utf-8")):
            exec(compile(block, str(page), "exec"), {})


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_python_examples_pass_the_strictest_type_checks(tmp_path: Path) -> None:
    files = []
    for page in PAGES:
        if page.name == "contributing.md":
            continue
        for n, block in enumerate(PYTHON.findall(page.read_text(encoding="utf-8"))):
            files.append(tmp_path / f"{page.stem.replace('-', '_').lower()}_{n}.py")
            files[-1].write_text(block, encoding="utf-8")
    assert len(files) >= 5
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *files],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "MYPYPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "make_reference.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_is_documented_and_has_help() -> None:
    guides = "\n".join(p.read_text(encoding="utf-8") for p in PAGES if p.name != "cli.md")
    for command in COMMANDS:
        assert f"kvplan {command}" in guides, f"no guide shows `kvplan {command}`"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
