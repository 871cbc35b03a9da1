"""PLaMo of Preferred Networks: 1 says how many query heads share a KV head; 2 is Mamba-2 and attention in turn; 3 slides.

Sources: the remote code of pfnet/plamo-13b; vLLM `models/plamo2.py` (`is_mamba`, `Plamo2MambaMixer`); mlx-lm 0.32
`models/plamo3.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import (
    MHA,
    Names,
    Row,
    divided,
    head_dim,
    kv_heads,
    layer_count,
    lenient,
    query_heads,
    read_heads,
    width,
)
from kvplan.architectures.kit.layers import FULL, SLIDING, attention, decoder, full
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.states import conv, taps
from kvplan.domain.model import Memory, Recurrent, State, Window


@reader
def _plamo(c: Config, row: Row) -> Decoder:
    """`n_shared_head` query heads share one KV head."""
    heads = read_heads(c, row)
    shared = c.integer("n_shared_head", default=8)
    return full(c, heads._replace(kv=divided(c, "n_shared_head", heads.query, shared, "shared heads")))


@reader
def _plamo2(c: Config, row: Row) -> Decoder:
    """Every `mamba_step`-th layer attends, within a window unless `full_attention_idx` names it (`is_mamba`)."""
    layers, heads = layer_count(c, row), query_heads(c, row)
    dim = head_dim(c, row, heads)
    step = c.integer("mamba_step", default=2, minimum=2)
    chosen = {layers - 1} if layers <= step // 2 else set(range(step // 2, layers, step))
    if not c.flag("mamba_enabled", default=True):
        chosen = set(range(layers))
    kv = kv_heads(c, row, heads)
    window = Window(c.integer("attention_window_size", default=2048))
    whole = set(c.integers("full_attention_idx", maximum=layers - 1) or ())
    state_heads, state_size = width(c, "mamba_num_heads", default=64), width(c, "mamba_d_state", default=64)
    # B and C do not pass through the convolution here
    ssm = State(name="ssm", shape=(state_heads, dim, state_size), dtype="float32")
    state = Recurrent(kind="mamba2", states=(conv(state_heads * dim, taps(c, "mamba_d_conv", default=4)), ssm))
    rows: list[tuple[Memory, ...]] = [
        (attention(kv, dim, None if i in whole else window),) if i in chosen else (state,) for i in range(layers)
    ]
    return Decoder(layers=rows, heads=heads)


@reader
def _plamo3(c: Config, row: Row) -> Decoder:
    """All layers slide but each `sliding_window_pattern`-th (`is_full_attention`)."""
    heads = read_heads(c, row)
    window = c.integer("sliding_window", "window_size", default=row.window)
    every = c.integer("sliding_window_pattern", default=8)
    return decoder(c, heads, [SLIDING if (i + 1) % every else FULL for i in range(heads.layers)], window)


ROWS: Final[dict[str, Reader]] = {
    "plamo": _plamo(Row(40, 40, 5120, names=MHA)),
    "plamo2": _plamo2(lenient(32, 32, None, 4, 128, names=Names(head_dim=("hidden_size_per_head",)))),
    "plamo3": _plamo3(Row(32, 32, 4096, 4, 128, window=2048)),
}
