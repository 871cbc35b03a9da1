"""Kimi Delta Attention beside latent attention: a float32 square matrix a head in most layers, a latent in the rest.

Sources: arXiv 2510.26692; transformers 5.23 `configuration_kimi_linear.py`, `_bailing_hybrid.py`, `_glm5_next.py`.
"""

from collections.abc import Callable

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, layer_count, query_heads, width
from kvplan.architectures.kit.indexed import listed_or_periodic
from kvplan.architectures.kit.latent import Mla, read_latent
from kvplan.architectures.kit.layers import FULL, INDEXED, LINEAR, draft_count, layer_types
from kvplan.architectures.kit.reader import Decoder, reader
from kvplan.architectures.kit.states import kimi_delta, taps
from kvplan.domain.model import Index, Memory, Recurrent


def nested_delta(c: Config, row: Row) -> Recurrent:
    """Released checkpoints nest the sizes in `linear_attn_config`; configs saved later have them at top level."""
    nested = c.section("linear_attn_config")
    return kimi_delta(
        heads=width(nested, "num_heads", default=width(c, "linear_num_heads", default=row.heads)),
        head_dim=width(nested, "head_dim", default=width(c, "linear_head_dim", default=128)),
        kernel=taps(nested, "short_conv_kernel_size", default=taps(c, "linear_conv_kernel_dim", default=4)),
    )


@reader
def kda(
    c: Config,
    row: Row,
    mla: Mla,
    attending: Callable[[Config, int], set[int]],
    *,
    linear: Callable[[Config, Row], Recurrent] = nested_delta,
    index: Callable[[Config], Index] | None = None,
) -> Decoder:
    """A state in most layers, a latent in the rest.

    Args:
        c: the config.
        row: key names and class defaults.
        mla: the latent's class defaults.
        attending: which of so many layers attend where `layer_types` is absent.
        linear: the state of the other layers.
        index: the indexer of attending layers, where the class has one.
    """
    layers, heads = layer_count(c, row), query_heads(c, row)
    latent = read_latent(c, row, mla, heads)
    drafts = draft_count(c, default=row.drafts)
    implied = attending(c, layers)
    kinds = layer_types(c, layers, LINEAR, FULL, *((INDEXED,) if index is not None else ()))
    if kinds is None:
        kinds = [FULL if i in implied else LINEAR for i in range(layers)]
    state = linear(c, row)
    own: tuple[Memory, ...] = (latent,)
    rows: list[tuple[Memory, ...]] = [(state,) if kind == LINEAR else own for kind in kinds]
    draft = own
    if index is not None:
        draft = (latent, index(c))
        owners = listed_or_periodic(c, layers, drafts)
        rows = [draft if row == own and owner else row for row, owner in zip(rows, owners, strict=True)]
    return Decoder(layers=rows, heads=heads, drafts=[draft] * drafts)
