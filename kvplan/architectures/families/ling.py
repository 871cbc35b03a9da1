"""Ling and Ring of Ant Group (`bailing`): 1 is plain, 2.5 and 3 keep a linear state in most layers and a latent in the rest.

Sources: transformers 5.23 `configuration_bailing_hybrid.py`; Ling 2.5: vLLM `models/bailing_moe_linear.py`; with softmax
layers (`bailing_moe_linear`): mlx-lm 0.32 `models/bailing_moe_linear.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, lenient, query_heads, read_heads, width
from kvplan.architectures.kit.kda import kda
from kvplan.architectures.kit.latent import Mla
from kvplan.architectures.kit.layers import attention
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.states import kimi_delta, taps
from kvplan.domain.model import Memory, Recurrent, State


def _linear(c: Config, row: Row) -> Recurrent:
    """`head_dim` of a released config is the linear layers'; a saved one has `linear_head_dim` and the rotary width."""
    heads = width(c, "linear_num_heads", default=query_heads(c, row))
    dim = width(c, "linear_head_dim", "head_dim", default=128)
    if _is_lightning(c):
        return Recurrent(kind="linear", states=(State(name="linear", shape=(heads, dim, dim), dtype="float32"),))
    return kimi_delta(heads=heads, head_dim=dim, kernel=taps(c, "linear_conv_kernel_dim", "short_conv_kernel_size", default=4))


def _is_lightning(c: Config) -> bool:
    """Ling and Ring 2.5 share the model type, with lightning attention: a group norm, no convolution, no KDA keys."""
    delta = any(c.has(key) for key in ("short_conv_kernel_size", "linear_conv_kernel_dim", "kda_safe_gate", "kda_lower_bound"))
    return c.has("group_norm_size") and not delta


def _attending(c: Config, layers: int) -> set[int]:
    """The last layer of each group of `layer_group_size`; in 2.5 also the layers beyond the last whole group."""
    group = c.integer("layer_group_size", default=6)
    chosen = {i for i in range(layers) if (i + 1) % group == 0}
    return chosen | set(range(layers // group * group, layers)) if _is_lightning(c) else chosen


@reader
def _moe_linear(c: Config, row: Row) -> Decoder:
    """Each group of linear layers ends in a softmax one, and so do the layers beyond the last whole group."""
    heads = read_heads(c, row)
    group = c.integer("layer_group_size", default=1)
    whole = heads.layers // group * group
    state = State(name="linear", shape=(heads.query, heads.dim, heads.dim), dtype="float32")
    linear: tuple[Memory, ...] = (Recurrent(kind="linear", states=(state,)),)
    softmax: tuple[Memory, ...] = (attention(heads.kv, heads.dim),)
    layers = [softmax if (i + 1) % group == 0 or i >= whole else linear for i in range(heads.layers)]
    return Decoder(layers=layers, heads=heads.query)


_HYBRID: Final = kda(lenient(42, 32, 2560, drafts=1), Mla(), _attending, linear=_linear)
ROWS: Final[dict[str, Reader]] = {
    "bailing_hybrid": _HYBRID,
    "bailing_moe": plain(Row(28, 16, 2048)),
    "bailing_moe_v3": _HYBRID,  # mlx-lm's name for the later ones
    "bailing_moe_linear": _moe_linear(Row(20, 16, 2048)),
}
