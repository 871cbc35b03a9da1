"""Encoders: attention that looks both ways, so that nothing is kept for a next token."""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, read_heads
from kvplan.architectures.kit.reader import Decoder, Reader, reader

NOTE: Final = "encoder only: keeps no cache"
#: Words in the name of a class that generates.
_WRITES: Final = ("CausalLM", "LMHead", "Generation", "Decoder")


@reader
def encoder(c: Config, row: Row) -> Decoder:
    """Layers that keep nothing."""
    heads = read_heads(c, row)
    return Decoder(layers=[()] * heads.layers, heads=heads.query, notes=(NOTE,))


@reader
def either(c: Config, row: Row, writer: Reader) -> Decoder:
    """A decoder where the config says so (`is_decoder`) or names a class that writes; an encoder where it names another class.

    A config that names none may be either, and is read as a decoder.
    """
    return writer.read(c) if writes(c) else encoder(row).read(c)


def writes(c: Config) -> bool:
    """Whether a config of a family that has both is a decoder's."""
    names = class_names(c)
    return not names or c.flag("is_decoder") or any(word in name for name in names for word in _WRITES)


def class_names(c: Config) -> list[str]:
    """The classes that a config names."""
    return [name for name in c.items("architectures") or [] if isinstance(name, str)]
