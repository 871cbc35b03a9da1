"""The process around a command: streams that are closed or cannot take a character, and signals that end it."""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

#: What stands in for characters that an output's encoding does not have.
_PLAIN: Final = str.maketrans(
    {"─": "-", "│": "|", "·": "-", "×": "x", "…": "~", "█": "#", "—": "-", "–": "-", "→": ">", "≤": "<", "≥": ">"}
    | dict.fromkeys("▏▎▍▌▋▊▉", "#")
)


#: Signals that were to end the command, the first one first.
_HEARD: Final[list[int]] = []

#: Those of them that were raised in vain: no exception leaves a finaliser, a callback of C code, or what Python does when
#: a module's import ends. Raised again a moment later, or by `still_wanted`.
_LOST: Final[list[int]] = []
_MOMENT_SECONDS: Final = 0.01

#: Not empty while no signal may raise.
_HELD: Final[list[bool]] = []

#: What is told of any other exception that could not be raised.
_OTHERS: Final[list[Callable[["sys.UnraisableHookArgs"], object]]] = []


class Ended(BaseException):
    """SIGTERM or SIGHUP: raised as Ctrl-C is, so that what was begun is cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class StdoutClosed(Exception):
    """Something was to be written to a stdout that is not there."""


class _Closed:
    """A stdout that is not there: whoever writes to it is told."""

    encoding, errors, closed = "utf-8", "replace", False

    def write(self, text: str) -> int:
        raise StdoutClosed

    def flush(self) -> None:
        """Nothing to do."""

    def isatty(self) -> bool:
        return False

    @property
    def buffer(self) -> Any:
        raise StdoutClosed


def prepare() -> None:
    """Make every stream there is writable, whatever its encoding, and let signals raise.

    A stdout that is closed says so when something is written to it; a closed stderr swallows what it is told.
    """
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (as long as the process)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if not _LOST:
        _HEARD.clear()
    if sys.unraisablehook is not _unraisable:
        _OTHERS[:] = [sys.unraisablehook]
        sys.unraisablehook = _unraisable
    for name, default in (("SIGTERM", signal.SIG_DFL), ("SIGHUP", signal.SIG_DFL), ("SIGINT", signal.default_int_handler)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == default:
            signal.signal(number, _end)


def watched(command: Callable[[], int], say: Callable[[str], object]) -> int:
    """The exit code of `command`, or of the signal that ended it; `say` is told a word for that."""
    prepare()
    try:
        return command()
    except KeyboardInterrupt:
        say("interrupted")
        return 128 + signal.SIGINT
    except Ended as ended:
        say("ended")
        return 128 + ended.number


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Signals wait until what is in it has ended: an extension module that was interrupted while it loads is left half
    made, and Python crashes later in it."""
    _HELD.append(True)
    try:
        yield
    finally:
        _HELD.pop()
    still_wanted()


def _end(number: int, frame: object) -> None:
    if number in _HEARD and number != signal.SIGINT and not _LOST:
        return  # once is enough; what cleans up is left to finish
    _HEARD.append(number)
    if not _HELD:
        still_wanted()


def still_wanted() -> None:
    """Called now and then by what takes long.

    Raises:
        KeyboardInterrupt: Ctrl-C was typed.
        Ended: another signal was to end the command.
    """
    if _HEARD:
        _LOST.clear()
        raise KeyboardInterrupt if _HEARD[0] == signal.SIGINT else Ended(_HEARD[0])


def _unraisable(told: "sys.UnraisableHookArgs") -> None:
    if _HEARD and issubclass(told.exc_type, KeyboardInterrupt | Ended):
        _LOST[:] = _HEARD[:1]
        again = threading.Timer(_MOMENT_SECONDS, _raise_lost)
        again.daemon = True
        with contextlib.suppress(RuntimeError):  # no thread begins while Python ends, and then nothing is left to end
            again.start()
    elif _OTHERS:
        _OTHERS[0](told)


def _raise_lost() -> None:
    for number in _LOST:
        if hasattr(signal, "pthread_kill"):  # also wakes what waits
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        else:
            _thread.interrupt_main(signal.Signals(number))


def plain(text: str, encoding: str | None) -> str:
    """`text` in characters that an encoding has: rules, dots and bars in ASCII where it has no others."""
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return text.translate(_PLAIN)
    except LookupError:
        return text.translate(_PLAIN)
    return text


def mute_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush cannot fail again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):  # a stream that is no file
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
