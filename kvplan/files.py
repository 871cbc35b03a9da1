"""Strangers' files and paths: bounded, regular files only, one clear error each."""

import os
import re
import stat
from pathlib import Path
from typing import Final

from kvplan.errors import InputError


def expanded(text: str | Path, error: type[InputError] = InputError) -> Path:
    """A path as it was typed, with `~` and `~user` spelled out.

    Raises:
        error: there is no such user, or it is no path.
    """
    if "\0" in str(text):
        raise error("a path cannot hold a NUL character", hint="check the path")
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError, OSError) as problem:
        raise error(f"no such user: `{str(text)[:80]}`", hint="write the path without `~`") from problem


_ID: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}"


def is_hub_id(text: str) -> bool:
    """Whether a text can be the name of a repository on the hub: owner/name."""
    return bool(re.fullmatch(_ID, text)) and ".." not in text and "--" not in text


def resolved(path: Path, error: type[InputError] = InputError) -> Path:
    """Where a path leads in the end.

    Raises:
        error: a link that leads to itself, or something that is no path.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as problem:
        raise error(f"`{path}` leads nowhere: {problem}", hint="check the path and its links") from problem


def open_regular(path: Path, error: type[InputError], what: str) -> int:
    """A descriptor of a regular file, opened so that a named pipe cannot hang the tool before it is seen not to be a file.

    Raises:
        error: missing, unreadable, or not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise error(f"cannot read `{path}`: {reason}", hint=f"give {what}") from problem
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise error(f"`{path}` is not a regular file", hint=f"give {what}")
    return descriptor


def read_bounded(path: Path, limit: int, error: type[InputError], what: str) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises:
        error: missing, unreadable, not a regular file, empty, too large, or binary (NUL bytes).
    """
    with os.fdopen(open_regular(path, error, what), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise error(
                f"`{path}` is too large for {what}: {size:,} bytes, and at most {limit:,} are read",
                hint="is it the right file?",
            )
        data = file.read((size or limit) + 1)
    if not data or data.isspace():
        raise error(f"`{path}` is empty", hint=f"give {what}")
    if b"\0" in data[:65536] or len(data) > limit:
        raise error(f"`{path}` is binary, not {what}", hint="is it the right file?")
    return data
