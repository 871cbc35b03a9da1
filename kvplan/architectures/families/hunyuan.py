"""Hunyuan of Tencent: cross-layer attention in Hunyuan-Large and A13B, Hy 3 (plain), Hy 4 (an indexer over a latent).

With `use_cla`, layers share within groups of `cla_share_factor`; the factor stays in the file of models that do not
share (`use_cla: false`), where it means nothing. Sources: the remote code of tencent/Tencent-Hunyuan-Large (`use_cla`);
transformers 5.24 `configuration_hy*.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import STANDARD, Row, ignored, lenient
from kvplan.architectures.kit.indexed import indexed, listed
from kvplan.architectures.kit.latent import Mla
from kvplan.architectures.kit.layers import CROSS_LAYER_NOTE
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.domain.model import Shared

_HUNYUAN: Final = Row(32, 32, 4096, names=STANDARD._replace(head_dim=("head_dim", "attention_head_dim")))


@reader
def _cross_layer(c: Config, row: Row) -> Decoder:
    """Owners in order, and between them layers that share."""
    if c.flag("use_mla"):
        c.refuse("use_mla", "is true, and no published Hunyuan model says how it caches", hint="describe the layers in YAML")
    for key in ("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        ignored(c, key, "`use_mla` is false")
    own = plain(row).read(c)
    factor = c.integer("cla_share_factor", default=1)
    if not c.flag("use_cla") or factor == 1:
        return own
    layers = [(Shared(source=i - i % factor),) if i % factor else memories for i, memories in enumerate(own.layers)]
    return Decoder(layers=layers, heads=own.heads, drafts=own.drafts, notes=(CROSS_LAYER_NOTE,))


def _one_of_four(c: Config, layers: int, drafts: int) -> list[bool]:
    """`indexer_types`, else the first layer and each fourth after it."""
    return listed(c, layers) or [i == 0 or (i - 1) % 4 == 0 for i in range(layers)]


ROWS: Final[dict[str, Reader]] = {
    # Every published checkpoint of the remote code has heads of 128, Hunyuan-Large's 80 heads over 6,400 included
    # (arXiv 2411.02265; vLLM 0.32 builds it so), whether or not a copy of its config spells `attention_head_dim`.
    "hunyuan": _cross_layer(_HUNYUAN._replace(head_dim=128)),
    "hunyuan_v1_dense": _cross_layer(_HUNYUAN),
    "hunyuan_v1_moe": _cross_layer(_HUNYUAN),
    "hunyuan_vl_text": _cross_layer(_HUNYUAN),
    "hy_v3": plain(Row(80, 64, 4096, 8, 128, refuses_null=("kv_heads", "head_dim"))),
    "hy_v4_vl_text": indexed(lenient(78, 64, 6144), Mla(nope_dim=192, value_dim=256), _one_of_four),
    "hy_v4": indexed(lenient(34, 32, 2816), Mla(nope_dim=192, value_dim=256), _one_of_four),
}
