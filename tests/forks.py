"""Command lines in a process each, forked from one that has loaded kvplan and done nothing else.

A process of `python -m kvplan` costs half a second before it does anything, one that loads torch three; its start is held by
tests/test_startup.py. `Forks("torch")` has loaded torch, too.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
#: After which a command is ended by the system: nobody waits for one that hangs.
SECONDS = 90


class Ended(NamedTuple):
    """How a process ended: its exit code (below zero: a signal), what it printed and said, and what it took at most."""

    code: int
    out: str
    err: str
    seconds: float  # of processor time
    peak: int  # of resident memory, as getrusage counts it: in KiB, on macOS in bytes


class Started:
    """A command that runs."""

    def __init__(self, forks: "Forks", pid: int, folder: Path) -> None:
        self.pid = pid
        self._forks = forks
        self._folder = folder

    def end(self) -> Ended:
        """Wait for it."""
        code, seconds, peak = self._forks.ask({"wait": self.pid})
        said = [(self._folder / name).read_text(encoding="utf-8", errors="replace") for name in (".out", ".err")]
        return Ended(code, *said, seconds, peak)


class Forks:
    """The process that forks."""

    def __init__(self, *modules: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
        command = [sys.executable, __file__, "kvplan.cli.app", *modules]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def start(self, words: list[str], folder: Path, environment: Mapping[str, str], told: Path | None = None) -> Started:
        """A command line begun in `folder`; what it prints and says goes to `.out` and `.err` of `told`, or of `folder`."""
        told = told or folder
        files = [str(told / ".out"), str(told / ".err")]
        pid = self.ask({"words": words, "folder": str(folder), "environment": dict(environment), "files": files})
        return Started(self, pid, told)

    def run(self, words: list[str], folder: Path, environment: Mapping[str, str], told: Path | None = None) -> Ended:
        """A command line from its start to its end."""
        return self.start(words, folder, environment, told).end()

    def ask(self, asked: dict[str, Any]) -> Any:
        """One question to the process that forks, and its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        """No more commands."""
        self._process.communicate(timeout=60)


def serve() -> None:
    """For every line of stdin fork and answer with the child's number, or wait for one and answer with how it ended."""
    from kvplan.cli.app import main

    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            _, status, took = os.wait4(asked["wait"], 0)
            answer: Any = [os.waitstatus_to_exitcode(status), took.ru_utime + took.ru_stime, took.ru_maxrss]
            print(json.dumps(answer), flush=True)
            continue
        child = os.fork()
        if not child:
            signal.alarm(SECONDS)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, file in enumerate(asked["files"], start=1):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.chdir(asked["folder"])
            os.environ.clear()
            os.environ.update(asked["environment"])
            sys.argv = [str(ROOT / "kvplan" / "__main__.py"), *asked["words"]]
            sys.exit(main(asked["words"]))
        print(child, flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        import_module(name)
    serve()
