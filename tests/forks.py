"""Command lines in a process each, forked from one that has loaded kvplan and done nothing else.

A process of `python -m kvplan` costs half a second before it does anything, one that loads torch three; its start is held by
tests/test_startup.py. `Forks("torch")` has loaded torch, too.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Forks:
    """The process that forks."""

    def __init__(self, *modules: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
        command = [sys.executable, __file__, "kvplan.cli.app", *modules]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def run(self, words: list[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
        """What a command line ended with, printed and said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        out, err = folder / ".out", folder / ".err"
        asked = {"words": words, "folder": str(folder), "environment": environment, "files": [str(out), str(err)]}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()), out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")

    def end(self) -> None:
        """No more commands."""
        self._process.communicate(timeout=60)


def serve() -> None:
    """Fork for every line of stdin, and answer with the exit code."""
    from kvplan.cli.app import main

    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, file in enumerate(asked["files"], start=1):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.chdir(asked["folder"])
            os.environ.clear()
            os.environ.update(asked["environment"])
            sys.argv = [str(ROOT / "kvplan" / "__main__.py"), *asked["words"]]
            sys.exit(main(asked["words"]))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        import_module(name)
    serve()
