"""A stranger's class in a process of its own: bounded in time and memory, heard only through its answer, and gone afterwards."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from kvplan import limits
from kvplan.errors import EnvironmentMissing
from kvplan.questions.measure.child import Answered, Asked, too_much
from kvplan.questions.measure.observed import NotMeasured, Observation

#: Seconds on the wall for each of processor time, and beyond: the machine has other work, and libraries are loaded. The runs
#: end by themselves after half of the first (`observe.Clock`); what is then under way, and building all layers, is the rest.
_WALL: Final = 4.0
_START: Final = 60.0
_CHUNK: Final = 2**16
#: What the process gets of this one's environment.
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONHOME")


def observed_apart(file: Path, name: str, config: Mapping[str, Any], *, seconds: float, memory_bytes: int) -> Observation:
    """Run `name` of `file` in another process.

    Args:
        file: its code is run.
        name: a class in it.
        config: what the class is built from.
        seconds: about how much processor time its runs may take.
        memory_bytes: what the process may take.

    Raises:
        NotMeasured: the code fails, or is ended at a bound.
        EnvironmentMissing: torch, or what the file needs of transformers, is not there.
    """
    asked = Asked(file=str(file), name=name, config=dict(config), seconds=seconds, memory_bytes=memory_bytes)
    raw, code = _run(msgspec.json.encode(asked), _WALL * seconds + _START)
    if raw is None:
        raise NotMeasured(
            f"{file.name}: {name} had no answer after {_WALL * seconds + _START:g} seconds and was ended",
            hint="give it more with «seconds»",
        )
    return understood(raw, code, file, name, memory_bytes)


def understood(raw: bytes, code: int, file: Path, name: str, memory_bytes: int) -> Observation:
    """What the process answered, as far as it can be one: a stranger's code ran there.

    Raises:
        NotMeasured: it is no answer, or says why there is none.
        EnvironmentMissing: as the process says.
    """
    try:
        answer = msgspec.json.decode(raw, type=Answered)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _ended(file, name, code, memory_bytes) from None
    if answer.seen is None:
        if answer.missing:
            raise EnvironmentMissing(answer.problem, hint=answer.hint)
        raise NotMeasured(answer.problem or f"{file.name}: {name} gave no answer", hint=answer.hint)
    return answer.seen


def _ended(file: Path, name: str, code: int, memory_bytes: int) -> NotMeasured:
    """A process that ended without an answer."""
    if code in {-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV}:
        return NotMeasured(
            f"{file.name}: the process of {name} was ended by signal {-code}, as when {too_much(memory_bytes)}",
            hint="give it more with «memory», or a smaller config",
        )
    return NotMeasured(
        f"{file.name}: the process of {name} ended by itself before it had an answer (exit code {code})",
        hint="a class may not end the program",
    )


def _run(request: bytes, seconds: float) -> tuple[bytes | None, int]:
    """(what the process answered, its exit code); None where it had no answer in time."""
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="kvplan-measure-", ignore_cleanup_errors=True) as folder, _process(folder) as process:
        if process.stdin is None or process.stdout is None:  # both are pipes
            return None, -1
        with contextlib.suppress(OSError):
            process.stdin.write(request)
            process.stdin.close()
        answer = _read(process.stdout, deadline)
        if answer is None:
            return None, -1
        try:
            return answer, process.wait(timeout=max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return answer, -1


def _read(stream: Any, deadline: float) -> bytes | None:
    """All that a pipe gives until it is closed; None after the deadline or beyond what an answer can be."""
    parts: list[bytes] = []
    size = 0
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or size > limits.MEASURE_BYTES:
                return None
            if selector.select(timeout=left):
                part = os.read(stream.fileno(), _CHUNK)
                if not part:
                    return b"".join(parts)
                parts.append(part)
                size += len(part)


@contextlib.contextmanager
def _process(folder: str) -> Iterator[subprocess.Popen[bytes]]:
    """The child, in a folder that is thrown away; it and what it started are ended in any case."""
    home = str(Path(__file__).resolve().parents[3])
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    environment |= dict.fromkeys(("HOME", "TMPDIR", "HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "TRITON_CACHE_DIR"), folder)
    environment |= {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    environment |= {"PYTHONPATH": os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH", "")])])}
    process = subprocess.Popen(
        [sys.executable, "-m", "kvplan.questions.measure.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
