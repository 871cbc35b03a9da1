"""How the hostile tests come in: the command line in this process or in one of its own, and what a good end looks like."""

import atexit
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from forks import Forks

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

    It may take no more processor time and memory than limits.md says. Where neither streams nor what Python reads when it starts
    are the question, `forked` asks the same in half a second less.
    """
    command = [sys.executable, "-m", "kvplan", *arguments]
    with tempfile.NamedTemporaryFile() as peak:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        inner = ["sh", "-c", f'exec "$@" {shell}', "sh", *command] if shell else command
        done = subprocess.run(
            [sys.executable, "-S", "-c", MEASURE, peak.name, *inner],
            cwd=cwd,
            env=_environment(environment),
            capture_output=True,
            check=False,
            timeout=90,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        resident = int(peak.read() or 0)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _bounded(
        End(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), seconds),
        resident, most, megabytes,
    )  # fmt: skip


def forked(*arguments: str, cwd: Path, most: float = 10.0, megabytes: int = 500, **environment: str | None) -> End:
    """As `there`, in a process that is forked from one which has loaded the command line and done nothing else."""
    with tempfile.TemporaryDirectory() as told:
        end = _forks().run([*arguments], cwd, _environment(environment), Path(told))
    return _bounded(End(end.code, end.out, end.err, end.seconds), end.peak, most, megabytes)


@cache
def _forks() -> Forks:
    """The process that forks, which ends with this one."""
    made = Forks()
    atexit.register(made.end)
    return made


def _environment(changed: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment with some names changed, or without them."""
    return {name: value for name, value in {**os.environ, **changed}.items() if value is not None}


def _bounded(end: End, resident: int, most: float, megabytes: int) -> End:
    """What ended, if it kept to its bounds."""
    assert end.seconds < most
    assert resident < megabytes * (2**20 if sys.platform == "darwin" else 1024)
    return end


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
