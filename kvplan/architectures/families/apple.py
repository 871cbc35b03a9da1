"""Apple: OpenELM, whose layers differ in their heads, and AFM, whose last layers read the keys and values of an earlier one.

Sources: the remote code of apple/OpenELM; mlx-lm 0.32 `afm7.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Names, Row, count, dividing, layer_count, read_heads
from kvplan.architectures.kit.layers import attention
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.domain.model import Memory, Shared

_AFM: Final = Names(("num_layers", "num_hidden_layers"), ("num_heads",), ("num_kv_heads",), (), ("hidden_dim", "hidden_size"))


@reader
def _openelm(c: Config, row: Row) -> Decoder:
    """Layer by layer: `num_kv_heads` and `num_query_heads` are lists."""
    layers = layer_count(c, row)
    query = c.integers("num_query_heads", length=layers, minimum=1)
    kv_heads = c.integers("num_kv_heads", length=layers, minimum=1)
    if query is None or kv_heads is None:
        c.refuse("num_query_heads", "and `num_kv_heads` must be lists of one number a layer")
    dim = count(c, row.names.head_dim, row.head_dim)
    for i, (q, kv) in enumerate(zip(query, kv_heads, strict=True)):
        dividing(c, f"num_kv_heads[{i}]", q, kv)
    return Decoder(layers=[(attention(kv, dim),) for kv in kv_heads], heads=query[0] if len(set(query)) == 1 else None)


@reader
def _afm(c: Config, row: Row) -> Decoder:
    """The last `num_kv_reuse_layers` layers read the keys and values of the last layer before them."""
    heads = read_heads(c, row)
    reusing = c.integer("num_kv_reuse_layers", default=0, minimum=0)
    if reusing >= heads.layers:
        c.refuse("num_kv_reuse_layers", f"{reusing} of {heads.layers} layers leaves no owner")
    owners = heads.layers - reusing
    own: tuple[Memory, ...] = (attention(heads.kv, heads.dim),)
    return Decoder(layers=[own] * owners + [(Shared(source=owners - 1),)] * reusing, heads=heads.query)


ROWS: Final[dict[str, Reader]] = {
    "afm7": _afm(Row(32, 16, 2048, names=_AFM)),
    "openelm": _openelm(Row(12, head_dim=128, names=Names(("num_transformer_layers", "num_hidden_layers")))),
}
