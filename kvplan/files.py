"""Reading strangers' files: bounded, regular files only, one clear error each."""

import os
import stat
from pathlib import Path

from kvplan.errors import InputError


def read_bounded(path: Path, limit: int, error: type[InputError], what: str) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises:
        error: missing, unreadable, not a regular file, empty, too large, or binary (NUL bytes).
    """
    try:
        # non-blocking, so that a named pipe cannot hang the tool before it is seen not to be a file
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as problem:
        raise error(f"cannot read `{path}`: {problem.strerror or problem}", hint="check the path") from problem
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise error(f"`{path}` is not a regular file", hint=f"give {what}")
        if status.st_size > limit:
            raise error(
                f"`{path}` is too large for {what}: {status.st_size:,} bytes, and at most {limit:,} are read",
                hint="is it the right file?",
            )
        data = file.read((status.st_size or limit) + 1)
    if not data or data.isspace():
        raise error(f"`{path}` is empty", hint=f"give {what}")
    if b"\0" in data[:65536] or len(data) > limit:
        raise error(f"`{path}` is binary, not {what}", hint="is it the right file?")
    return data
