"""A question in pieces that do not know of each other: where they are computed is for whoever asks to say.

An answer is put together from its pieces in their order, so it is the same wherever they were computed.
"""

from collections.abc import Callable, Iterable
from typing import Any

#: What is done with a piece, the pieces -> what came of each, in that order. Both can be sent to another process.
Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def here(task: Callable[[Any], Any], pieces: Iterable[Any]) -> Iterable[Any]:
    """One after the other, in this process."""
    return map(task, pieces)
