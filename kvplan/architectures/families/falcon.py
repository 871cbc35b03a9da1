"""Falcon of TII: the first, by `multi_query` or `num_kv_heads`; Falcon-Mamba; Falcon-H1, attention and a state in every layer.

Sources: `configuration_falcon*.py` of transformers 5.23.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import MHA, Row, dividing, ignored, layer_count, lenient, query_heads, read_heads
from kvplan.architectures.kit.layers import full
from kvplan.architectures.kit.mamba import grouped, mamba, read_mamba2
from kvplan.architectures.kit.reader import Decoder, Reader, reader


@reader
def _falcon(c: Config, row: Row) -> Decoder:
    """The new architecture has `num_kv_heads`; the old one has one KV head, or one for each query head.

    transformers broadcasts the new architecture's heads before it caches them: that is the engine's business.
    """
    heads = read_heads(c, row)
    if c.flag("new_decoder_architecture"):
        ignored(c, "multi_query", "the new decoder architecture has `num_kv_heads`")
        kv = c.integer("num_kv_heads", "n_head_kv", default=heads.query)
        return full(c, heads._replace(kv=dividing(c, "num_kv_heads", heads.query, kv)))
    ignored(c, "num_kv_heads", "only the new decoder architecture reads it")
    return full(c, heads._replace(kv=1 if c.flag("multi_query", default=True) else heads.query))


@reader
def _h1(c: Config, row: Row) -> Decoder:
    layers, heads = layer_count(c, row), query_heads(c, row)
    memory = (grouped(c, row, heads), read_mamba2(c, row, inner_key="mamba_d_ssm", inner=1024))
    return Decoder(layers=[memory] * layers, heads=heads)


_FALCON: Final = _falcon(
    Row(32, 71, 4544, names=MHA._replace(layers=("num_hidden_layers", "n_layer"), heads=("num_attention_heads", "n_head")))
)
ROWS: Final[dict[str, Reader]] = {
    "RefinedWeb": _FALCON,
    "RefinedWebModel": _FALCON,
    "falcon": _FALCON,
    "falcon_h1": _h1(lenient(32, 32, 4096, 8)),
    "falcon_mamba": mamba(lenient(32, hidden=768)),
}
