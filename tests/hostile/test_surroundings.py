"""HOSTILE.md 17 (streams that are closed), 18 (encodings), 19 (little memory), 21 (Ctrl-C while starting).

Elsewhere: a library that leaves, and the width of a pipe, in tests/cli/test_app.py.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doors import answered, refused, steady, there

SOME = (("estimate", "gpt2"), ("--version",), ("fit", "--help"), ("sweep", "gpt2", "-s", "1k", "-q"))


@pytest.mark.parametrize("command", SOME, ids=" ".join)
def test_a_closed_stdout_is_said(command: tuple[str, ...], tmp_path: Path) -> None:
    refused(there(*command, cwd=tmp_path, shell=">&-"), words="stdout is closed")


def test_with_all_three_closed_only_the_code_is_left(tmp_path: Path) -> None:
    end = there("estimate", "gpt2", cwd=tmp_path, shell="<&- >&- 2>&-")
    assert (end.code, end.out, end.err) == (2, "", "")


def test_a_file_can_be_written_without_a_stdout(tmp_path: Path) -> None:
    end = there("estimate", "gpt2", "-f", "csv", "-o", "f.csv", cwd=tmp_path, shell=">&- 2>&-")
    assert end.code == 0
    assert (tmp_path / "f.csv").read_text().startswith("model,")


def test_a_closed_stderr_swallows_what_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("1\n")
    answered(there("audit", "a.jsonl", cwd=tmp_path, shell="2>&-"), (1,))
    end = there("estimate", "no such model", cwd=tmp_path, shell="2>&-")
    assert (end.code, end.out) == (2, "")
    answered(there("estimate", "gpt2", cwd=tmp_path, shell="<&-"))


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "latin-1", "cp1252", "C"],
)
def test_an_encoding_without_rules_gets_plain_ones(environment: dict[str, str], tmp_path: Path) -> None:
    end = there("estimate", "gpt2", cwd=tmp_path, **environment)
    answered(end, (0,))
    assert "---" in end.out
    assert "?" not in end.out
    assert "─" not in end.out


def test_little_memory_is_said(tmp_path: Path) -> None:
    def limited(kilobytes: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-c", f'ulimit -v {kilobytes}; exec "$@"', "sh", sys.executable, "-m", "kvplan", *arguments],
            capture_output=True, text=True, cwd=tmp_path, check=False, timeout=60, env=threads,
        )  # fmt: skip

    # as many threads as the machine has (conftest.py asks for one): what they reserve is part of it
    threads = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    for kilobytes, arguments in (
        (61_440, ("sweep", "gpt2", "-s", "1k", "-f", "csv")),
        (204_800, ("sweep", "gpt2", "-s", "1k", "-f", "csv")),
        (614_400, ("validate", "gpt2", "-s", "16", "--device", "cpu")),
    ):
        done = limited(kilobytes, *arguments)
        assert done.returncode in {0, 2, 3}, (kilobytes, done)
        assert "Traceback" not in done.stderr
        assert done.returncode == 0 or done.stderr.startswith("error: "), done.stderr


def test_few_open_files_are_enough(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 12; exec {sys.executable} -m kvplan estimate gpt2 -f csv"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("delay", [0.06, 0.12, 0.2, 0.3])
def test_ctrl_c_while_starting_is_an_interruption(delay: float, tmp_path: Path) -> None:
    """What Python does before `run` is not ours: the signal comes when `kvplan` is being imported, or later."""
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "kvplan",
        "sweep",
        "llama-3.1-8b",
        "-s",
        "1:2000000:1",
        "-o",
        "o.csv",
        "-q",
    ]
    # unbuffered: `communicate` reads the pipe itself, and half a line would stay behind in a buffer of ours
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert running.stderr is not None
    for line in running.stderr:
        if b"| kvplan" in line:
            break
    time.sleep(delay)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    told = [line for line in said.splitlines() if not line.startswith(b"import time:")]
    assert running.returncode == 130, told
    assert told == [b"interrupted"]
    assert list(tmp_path.iterdir()) == []


SWALLOWED = """
import signal, sys, time
from kvplan.cli.progress import progress
from kvplan.cli.surroundings import watched

class Dying:
    def __del__(self):
        signal.raise_signal(signal.{name})

def command():
    Dying()
    if "{then}" == "nothing":
        time.sleep(600)
    with progress("rows", 1) as advance:
        advance(1)
    return 0

sys.exit(watched(command, lambda word: print(word, file=sys.stderr)))
"""


@pytest.mark.parametrize(("name", "code", "said"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "ended")])
@pytest.mark.parametrize("then", ["progress", "nothing"])
def test_a_signal_that_a_finaliser_swallowed_still_ends_what_is_long(name: str, code: int, said: str, then: str) -> None:
    """As when one comes while Python drops a module's lock: it was printed as ignored, and the command went on."""
    script = SWALLOWED.format(name=name, then=then)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"{said}\n")


def test_ctrl_c_while_extension_modules_load_waits_for_them() -> None:
    """msgspec that is interrupted while it loads is left half made, and Python crashes in it later."""
    code = "import signal, sys; from kvplan.cli.surroundings import held, watched\n" \
        "def load():\n with held():\n  signal.raise_signal(signal.SIGINT); print('loaded')\n print('answered'); return 0\n" \
        "sys.exit(watched(load, lambda word: print(word, file=sys.stderr)))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "loaded\n", "interrupted\n")


def test_ctrl_c_in_text_that_is_executed_is_the_same_exit_code(tmp_path: Path) -> None:
    """Python remembers it, and `python -m` would end by the signal: -2 for who waits for the process, not 130."""
    code = "import kvplan.__main__ as started\ndef answer():\n exec('raise KeyboardInterrupt')\n" \
        "started._answer = answer\nstarted.run()\n"  # fmt: skip
    (tmp_path / "as_module.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "as_module"], capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_what_fails_because_it_was_interrupted_is_an_interruption() -> None:
    """Python 3.11 makes a RuntimeError of Ctrl-C while a class is made, and libraries make an ImportError of it."""
    code = "import signal, sys\nimport kvplan.cli.app as app\ndef broken(*a, **k):\n try: signal.raise_signal(signal.SIGINT)\n" \
        " except KeyboardInterrupt: raise ImportError('half')\napp.app = broken\nsys.exit(app.main(['models']))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


BARE = {name: None for name in os.environ if name not in {"PYTHONPATH", "PATH"}}


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": None},
        {"TERM": None, "PATH": None},
        {"COLUMNS": "-5"},
        {"COLUMNS": "999999999"},
        {"COLUMNS": "٣"},
        {"PYTHONWARNINGS": "error"},
        {"PYTHONOPTIMIZE": "2"},
        {"RANK": "x", "WORLD_SIZE": "y"},
        BARE,
    ],
    ids=["home", "path", "minus", "wide", "digits", "warnings", "OO", "rank", "empty"],
)
def test_odd_environments_are_no_matter(environment: dict[str, str | None], tmp_path: Path) -> None:
    end = there("estimate", "gpt2", cwd=tmp_path, **environment)
    answered(end, (0,))
    steady(end)
