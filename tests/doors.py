"""How the hostile tests come in: the command line in this process or in one of its own, and what a good end looks like."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kvplan.cli.app import main

SMALL: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64,
    "vocab_size": 100,
}  # fmt: skip


#: Run by a small process, which ends as the command does: a child's peak counts the memory of the one that forked it.
MEASURE = """
import os, resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class End(NamedTuple):
    """How a command ended: its exit code, what it printed, what it said, and the processor time that it took."""

    code: int
    out: str
    err: str
    seconds: float


def here(capsys: pytest.CaptureFixture[str], *arguments: str, most: float = 10.0) -> End:
    """A command in this process, in bounded time."""
    capsys.readouterr()
    start = time.process_time()
    code = main(list(arguments))
    seconds = time.process_time() - start
    assert seconds < most
    shown = capsys.readouterr()
    return End(code, shown.out, shown.err, seconds)


def there(
    *arguments: str, cwd: Path, most: float = 10.0, shell: str = "", megabytes: int = 500, **environment: str | None
) -> End:
    """A command in a process of its own; `shell` is put behind it (redirections), `environment` over this one's.

    It may take no more processor time and memory than limits.md says.
    """
    kept = {**os.environ, **environment}
    command = [sys.executable, "-m", "kvplan", *arguments]
    with tempfile.NamedTemporaryFile() as peak:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        inner = ["sh", "-c", f'exec "$@" {shell}', "sh", *command] if shell else command
        done = subprocess.run(
            [sys.executable, "-S", "-c", MEASURE, peak.name, *inner],
            cwd=cwd,
            env={name: value for name, value in kept.items() if value is not None},
            capture_output=True,
            check=False,
            timeout=90,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        resident = int(peak.read() or 0)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < most
    assert resident < megabytes * (2**20 if sys.platform == "darwin" else 1024)
    return End(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), seconds)


def refused(end: End, codes: Collection[int] = (2,), words: str = "") -> None:
    """It ended with one printable sentence (and a hint), and nothing on stdout."""
    assert end.code in codes, end
    assert end.out == ""
    assert end.err.startswith("error: "), end.err
    message = end.err.partition("\n\nhint: ")[0]
    assert len(message) < 700
    assert "\n" not in message.strip()
    assert words in message
    steady(end)


def answered(end: End, codes: Collection[int] = (0, 1)) -> None:
    """It gave an answer, yes or no."""
    assert end.code in codes, end
    assert end.out
    steady(end)


def steady(end: End) -> None:
    """Nothing that could steer a terminal, no traceback, no bug."""
    text = end.out + end.err
    assert text.replace("\n", "").isprintable()
    assert "Traceback" not in text
    assert "bug in kvplan" not in text
    assert end.code in {0, 1, 2, 3, 130}


def config(path: Path, **keys: Any) -> str:
    """A small config with some keys changed, as a file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**SMALL, **keys}), encoding="utf-8")
    return str(path)


def left(folder: Path, what: Callable[[], object]) -> set[str]:
    """What `what` leaves in a folder that was not there before."""
    before = {str(path) for path in folder.rglob("*")}
    what()
    return {str(path) for path in folder.rglob("*")} - before
