"""RWKV 4 to 7: no attention; the previous token's input of both blocks, and sums (4) or a matrix a head (5 to 7).

Sources: `modeling_rwkv.py` of transformers 5.23 (five vectors a layer); the remote code of RWKV-5.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, divided, hidden_size, layer_count, lenient, width
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.domain.model import Recurrent, State


@reader
def _rwkv4(c: Config, row: Row) -> Decoder:
    hidden = hidden_size(c, row)
    inner = width(c, "attention_hidden_size", default=hidden)
    sums = tuple(State(name=name, shape=(inner,), dtype="float32") for name in ("numerator", "denominator", "maximum"))
    return Decoder(layers=[(Recurrent(kind="rwkv", states=(*_shifts(hidden), *sums)),)] * layer_count(c, row))


@reader
def _rwkv(c: Config, row: Row) -> Decoder:
    hidden = hidden_size(c, row)
    inner = width(c, "attention_hidden_size", default=hidden)
    size = width(c, "head_size", "head_dim", default=64)
    matrix = State(name="wkv", shape=(divided(c, "head_size", inner, size, "elements a head"), size, size), dtype="float32")
    return Decoder(layers=[(Recurrent(kind="rwkv", states=(*_shifts(hidden), matrix)),)] * layer_count(c, row))


def _shifts(hidden: int) -> tuple[State, State]:
    """The previous token's input of the two blocks; every device needs all of it."""
    return (State(name="shift_ffn", shape=(hidden,), shard=False), State(name="shift_attention", shape=(hidden,), shard=False))


ROWS: Final[dict[str, Reader]] = {
    "rwkv": _rwkv4(lenient(32, hidden=4096)),
    "rwkv5": _rwkv(lenient()),
    "rwkv6": _rwkv(lenient()),
    "rwkv7": _rwkv(lenient()),
}
