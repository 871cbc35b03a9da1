"""The process around a command: streams that are closed or cannot take a character, and signals that end it."""

import os
import signal
import sys
from typing import Any, Final

#: What stands in for characters that an output's encoding does not have.
_PLAIN: Final = str.maketrans(
    {"─": "-", "│": "|", "·": "-", "×": "x", "…": "~", "█": "#", "—": "-", "–": "-", "→": ">", "≤": "<", "≥": ">"}
    | dict.fromkeys("▏▎▍▌▋▊▉", "#")
)


#: Signals that were to end the command. What a handler raises is swallowed where no exception can leave: a finaliser, a
#: callback of C code. `still_wanted` raises it again.
_HEARD: Final[list[int]] = []


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
    _HEARD.clear()
    for name, default in (("SIGTERM", signal.SIG_DFL), ("SIGHUP", signal.SIG_DFL), ("SIGINT", signal.default_int_handler)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == default:
            signal.signal(number, _end)


def _end(number: int, frame: object) -> None:
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_IGN)  # once is enough; what cleans up is left to finish
    _HEARD.append(number)
    still_wanted()


def still_wanted() -> None:
    """Called now and then by what takes long.

    Raises:
        KeyboardInterrupt: Ctrl-C was typed.
        Ended: another signal was to end the command.
    """
    if _HEARD:
        raise KeyboardInterrupt if _HEARD[-1] == signal.SIGINT else Ended(_HEARD[-1])


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
