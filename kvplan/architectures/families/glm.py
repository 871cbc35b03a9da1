"""GLM of Zhipu: ChatGLM, GLM-4 and 4.5 (plain), 4.7 Flash (a latent), 5 (an indexer), 5.3 Flash (KDA beside a latent).

The latents of GLM-5.3 Flash have no rotary keys, and an indexer scores pools of `index_kpool` tokens. Sources:
transformers 5.23 `configuration_glm*.py`; the remote code of THUDM/chatglm3-6b.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import DERIVED, MHA, Row, dividing, lenient, read_heads, width
from kvplan.architectures.kit.indexed import indexed
from kvplan.architectures.kit.kda import kda
from kvplan.architectures.kit.latent import Mla, latent
from kvplan.architectures.kit.layers import full
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.domain.model import Compressed, Full, Index


@reader
def _chatglm(c: Config, row: Row) -> Decoder:
    heads = read_heads(c, row)
    if not c.flag("multi_query_attention"):
        return full(c, heads)
    kv = c.integer("multi_query_group_num", default=1)
    return full(c, heads._replace(kv=dividing(c, "multi_query_group_num", heads.query, kv)))


def _pooled_index(c: Config) -> Index:
    """One index key for each pool of tokens; engines that pool late keep more (see theirs)."""
    pool = c.integer("index_kpool", default=16, maximum=2**20)
    return Index(dim=width(c, "index_head_dim", default=128), reach=Compressed(pool) if pool > 1 else Full())


def _every_fourth(_: Config, layers: int) -> set[int]:
    return set(range(3, layers, 4))


_CHATGLM: Final = MHA._replace(layers=("num_layers", "num_hidden_layers"), head_dim=("kv_channels",))
ROWS: Final[dict[str, Reader]] = {
    "chatglm": _chatglm(Row(28, 32, 4096, head_dim=128, names=_CHATGLM)),
    "glm": plain(Row(40, 32, 4096, 2, 128, refuses_null=("kv_heads",))),
    "glm4": plain(Row(40, 32, 4096, 2, 128, refuses_null=("kv_heads", "head_dim"))),
    "glm4_moe": plain(Row(46, 96, 4096, 8, refuses_null=("kv_heads",), drafts=1)),
    "glm4_moe_lite": latent(lenient(47, 20, 2048), Mla(nope_dim=192, value_dim=256)),
    "glm4v_moe_text": plain(Row(46, 96, 4096, 8, refuses_null=("kv_heads",))),
    "glm4v_text": plain(Row(40, 32, 4096, 2, names=DERIVED)),
    "glm5_next_text": kda(
        lenient(45, 64, 4096), Mla(rope_dim=0, nope_dim=256, value_dim=256), _every_fourth, index=_pooled_index
    ),
    "glm_moe_dsa": indexed(lenient(78, 64, 6144), Mla(nope_dim=192, value_dim=256)),
    "glm_ocr_text": plain(Row(16, 16, 1024, 8, refuses_null=("kv_heads",))),
}
