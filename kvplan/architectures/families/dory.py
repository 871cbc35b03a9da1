"""Dory of NVIDIA (Nemotron Labs): layers before, in and after a section that runs several times.

Each loop keeps keys and values of its own (`recurrent_kv_cache_mode` `per_loop`), or only the last one's are kept
(`last_loop`). Every fourth layer is full and the others slide. Released configs count blocks: `layer_types` then lists an
`mlp` after each attention, and all counts are twice those of the layers. Files in vLLM's words have a sign for each block
(`hybrid_layer_pattern`), and one loop over all of them unless they say otherwise.
Source: transformers 5.24 `configuration_dory.py`, `DoryModel.forward`; vLLM 0.33 `transformers_utils/configs/dory.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Names, Row, read_heads
from kvplan.architectures.kit.layers import FULL, SLIDING, attention, layer_types, reach
from kvplan.architectures.kit.loops import MAX_PASSES, looped
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.sliding import every
from kvplan.domain.model import MAX_LAYERS

_MLP: Final = "mlp"
_SIGNS: Final = {"S": SLIDING, "*": FULL, "-": _MLP}


@reader
def _dory(c: Config, row: Row) -> Decoder:
    signs = c.text("hybrid_layer_pattern", default="")
    if set(signs) - set(_SIGNS):
        c.refuse("hybrid_layer_pattern", "must have one S, * or - for each block")
    listed = [_SIGNS[sign] for sign in signs] or layer_types(c, None, FULL, SLIDING, _MLP)
    blocks = 2 if listed is not None and _MLP in listed else 1
    heads = read_heads(c, row)
    layers = heads.layers // blocks
    kinds = listed[::blocks] if listed is not None else [SLIDING if s else FULL for s in every(4)(c, layers)]
    if len(kinds) != layers or _MLP in kinds:
        c.refuse("layer_types", f"lists {len(listed or ())} blocks for {heads.layers}, or not an attention and an `mlp` in turn")
    counts = [
        c.integer(key, default=0 if signs else 8, minimum=0, maximum=MAX_LAYERS) // blocks
        for key in ("n_input_layers", "n_output_layers")
    ]
    rest = layers - sum(counts)
    said = c.integer("n_recurrent_layers", default=None, minimum=0, maximum=MAX_LAYERS)
    recurrent = rest if said is None else said // blocks
    if recurrent != rest or rest < 0:
        c.refuse("n_recurrent_layers", f"{recurrent} with {counts[0]} before and {counts[1]} after are not the {layers} layers")
    mode = c.text("recurrent_kv_cache_mode", default="per_loop")
    if mode not in {"per_loop", "last_loop"}:
        c.refuse("recurrent_kv_cache_mode", f"must be per_loop or last_loop, got `{mode[:40]}`")
    window = c.integer("swa_window_size" if signs else "sliding_window", default=row.window)
    own = {kind: (attention(heads.kv, heads.dim, reach(c, kind, window)),) for kind in dict.fromkeys(kinds)}
    return looped(
        c,
        "n_recurrent_loops",
        [own[kind] for kind in kinds],
        c.integer("n_recurrent_loops", default=1 if signs else 2, maximum=MAX_PASSES),
        heads=heads.query,
        first=counts[0],
        stop=counts[0] + recurrent,
        kept="last" if mode == "last_loop" else "each",
    )


ROWS: Final[dict[str, Reader]] = {
    "dory": _dory(
        Row(
            36,
            16,
            2560,
            4,
            256,
            window=1024,
            names=Names(head_dim=("head_dim", "attention_head_dim")),
            refuses_null=("kv_heads", "head_dim"),
        )
    ),
}
