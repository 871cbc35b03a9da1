"""MPT of MosaicML and DBRX of Databricks: KV heads in `attn_config`.

Sources: `configuration_mpt.py`, `configuration_dbrx.py` of transformers 5.23.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Heads, Names, Row, count, dividing, read_heads
from kvplan.architectures.kit.layers import full
from kvplan.architectures.kit.reader import Decoder, Reader, reader

_NAMES: Final = Names(("n_layers", "num_hidden_layers"), ("n_heads", "num_attention_heads"), (), (), ("d_model", "hidden_size"))
_MPT: Final = Row(24, 16, 2048, names=_NAMES)


@reader
def _mpt(c: Config, row: Row) -> Decoder:
    """Multi-head, unless `attn_config` says otherwise (its remote code and vLLM read it; transformers does not)."""
    heads = read_heads(c, row)
    inner = c.section("attn_config")
    single = inner.text("attn_type", default=None) == "multiquery_attention"
    return _with(inner, heads, inner.integer("kv_n_heads", default=1 if single else heads.query))


@reader
def _dbrx(c: Config, row: Row) -> Decoder:
    heads = read_heads(c, row)
    inner = c.section("attn_config")
    return _with(inner, heads, count(inner, ("kv_n_heads",), 1))


def _with(inner: Config, heads: Heads, kv: int) -> Decoder:
    return full(inner, heads._replace(kv=dividing(inner, "kv_n_heads", heads.query, kv)))


ROWS: Final[dict[str, Reader]] = {"dbrx": _dbrx(_MPT), "mpt": _mpt(_MPT)}
