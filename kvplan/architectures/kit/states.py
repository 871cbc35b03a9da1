"""Recurrent states that several families share: Mamba, Mamba-2, gated DeltaNet, KDA, short convolutions.

Shapes are those of one sequence. A convolution names its channels and its taps; how many columns are kept is the
engine's choice. State matrices are float32 where the reference implementation computes and keeps them so, whatever
the model's dtype (transformers 5.23 `modeling_*.py`, the `torch_*_rule` and `selective_scan` functions).
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, hidden_size, width
from kvplan.domain.model import Recurrent, State

MAX_TAPS: Final = 4096
_STATE_DTYPES: Final = frozenset({"float32", "bfloat16", "float16"})


def taps(c: Config, *keys: str, default: int) -> int:
    """The width of a short convolution."""
    return c.integer(*keys, default=default, maximum=MAX_TAPS)


def expanded(c: Config, key: str, row: Row) -> int:
    """The inner width of a state-space layer: the factor under `key`, which is 2 where it is absent, times the hidden size."""
    return c.integer(key, default=2, maximum=4096) * hidden_size(c, row)


def width_or_auto(c: Config, key: str, derived: int) -> int:
    """A dimension that may be spelled "auto", which means `derived`."""
    if c.data.get(key) == "auto":
        c.has(key)
        c.note(key, derived, "derived from `auto`")
        return derived
    return width(c, key, default=derived)


def state_dtype(c: Config, *keys: str, default: str = "float32") -> str:
    """The dtype that a config asks for its recurrent state.

    Raises:
        ConfigError: not float32, bfloat16 or float16.
    """
    name = c.text(*keys, default=default)
    if name not in _STATE_DTYPES:
        c.refuse(keys[0], f"is not a dtype of a recurrent state: `{name[:40]}`", hint="float32, bfloat16 and float16 are")
    return name


def conv(channels: int, kernel: int, *, groups: int = 0, group_elements: int = 0) -> State:
    """A short causal convolution over `channels`."""
    return State(name="conv", shape=(channels,), kernel=kernel, groups=groups, group_elements=group_elements)


def short_conv(channels: int, kernel: int) -> Recurrent:
    """A layer that is nothing but a short convolution (LFM2)."""
    return Recurrent(kind="short_conv", states=(conv(channels, kernel),))


def mamba1(inner: int, state_size: int, kernel: int) -> Recurrent:
    """Mamba: `inner` channels, each with `state_size` numbers. Source: arXiv 2312.00752, section 3."""
    return Recurrent(kind="mamba", states=(conv(inner, kernel), State(name="ssm", shape=(inner, state_size), dtype="float32")))


def mamba2(*, heads: int, head_dim: int, state_size: int, groups: int, kernel: int, dtype: str = "float32") -> Recurrent:
    """Mamba-2: the convolution also runs over B and C, `2 * groups * state_size` channels. Source: arXiv 2405.21060."""
    convolution = conv(heads * head_dim + 2 * groups * state_size, kernel, groups=groups, group_elements=2 * state_size)
    return Recurrent(kind="mamba2", states=(convolution, State(name="ssm", shape=(heads, head_dim, state_size), dtype=dtype)))


def gated_delta(
    *, key_heads: int, key_dim: int, value_heads: int, value_dim: int, kernel: int, dtype: str = "float32"
) -> Recurrent:
    """Gated DeltaNet: one convolution over queries, keys and values; one matrix a value head. Source: arXiv 2412.06464."""
    convolution = conv(2 * key_heads * key_dim + value_heads * value_dim, kernel)
    return Recurrent(
        kind="gated_delta", states=(convolution, State(name="delta", shape=(value_heads, key_dim, value_dim), dtype=dtype))
    )


def kimi_delta(*, heads: int, head_dim: int, kernel: int) -> Recurrent:
    """Kimi Delta Attention: as gated DeltaNet, with square heads. Source: arXiv 2510.26692, section 3."""
    states = (conv(3 * heads * head_dim, kernel), State(name="delta", shape=(heads, head_dim, head_dim), dtype="float32"))
    return Recurrent(kind="kda", states=states)
