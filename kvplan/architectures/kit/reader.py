"""What a family gives back, and how a row says how it is read."""

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec

from msgspec import Struct

from kvplan.architectures.kit.config import Config
from kvplan.domain.model import Loop, Memory

P = ParamSpec("P")


class Decoder(Struct, frozen=True, kw_only=True):
    """What a family read: each layer's memories in order, the query heads, MTP layers, a loop, and remarks for people."""

    layers: Sequence[tuple[Memory, ...]]
    heads: int | None = None
    drafts: Sequence[tuple[Memory, ...]] = ()
    loop: Loop | None = None
    notes: tuple[str, ...] = ()


class Reader(Struct, frozen=True):
    """One row: a function of the config, and the class defaults and rules that it is given with it."""

    function: Callable[..., Decoder]
    given: tuple[Any, ...] = ()
    named: tuple[tuple[str, Any], ...] = ()

    def read(self, c: Config) -> Decoder:
        """Each layer's memories, under the key names and class defaults of this row.

        Raises:
            ConfigError: a key is missing, of the wrong type, or contradicts another.
            ModelError: a size that no model can have.
        """
        return self.function(c, *self.given, **dict(self.named))


def reader(function: Callable[Concatenate[Config, P], Decoder]) -> Callable[P, Reader]:
    """Make a function of a config, and of what else it is given, one that rows call without the config.

    >>> @reader
    ... def silent(c: Config, layers: int) -> Decoder:
    ...     return Decoder(layers=[()] * layers)
    >>> silent(3).read(Config({})).layers
    [(), (), ()]
    """

    def row(*given: P.args, **named: P.kwargs) -> Reader:
        return Reader(function, given, tuple(named.items()))

    return row
