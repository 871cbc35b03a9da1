"""Nemotron of NVIDIA: plain; Nemotron-NAS, each layer with its own KV heads or none; Nemotron-H, four kinds of layers.

Nemotron-H puts Mamba-2, attention, MLP and expert layers in one list; MLP and expert layers remember nothing. The map
is `hybrid_override_pattern` (M Mamba-2, * attention, - MLP, E experts) or `layers_block_type`; prediction layers have a
pattern of their own. Sources: transformers 5.23 `configuration_nemotron_h.py`; the remote code of
nvidia/Llama-3_3-Nemotron-Super-49B-v1 (`block_config.py`).
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import (
    STANDARD,
    Row,
    divided,
    head_dim,
    ignored,
    kv_heads,
    layer_count,
    lenient,
    query_heads,
    width,
)
from kvplan.architectures.kit.layers import FULL, LINEAR, attention, draft_count, layer_types
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.states import mamba2, state_dtype, taps
from kvplan.domain.model import MAX_LAYERS, Full, Memory, Reach, Window

_LETTERS: Final = {"M": LINEAR, "*": FULL, "-": "mlp", "E": "moe"}


@reader
def _nas(c: Config, row: Row) -> Decoder:
    """`block_configs` gives each layer its KV heads, or no attention at all."""
    layers, query = layer_count(c, row), query_heads(c, row)
    ignored(c, "num_key_value_heads", "`block_configs` gives each layer its own")
    dim = head_dim(c, row, query)
    blocks = c.sections("block_configs", length=layers)
    return Decoder(layers=[_block(block.section("attention"), query, dim) for block in blocks], heads=query)


def _block(block: Config, query: int, dim: int) -> tuple[Memory, ...]:
    if block.flag("no_op") or block.flag("replace_with_linear"):
        return ()
    group = block.integer("n_heads_in_group")
    window = block.integer("window_length", default=None)
    seen: Reach = Window(window) if window else Full()
    return (attention(divided(block, "n_heads_in_group", query, group, "heads in a group"), dim, seen),)


@reader
def _hybrid(c: Config, row: Row) -> Decoder:
    """Each letter's memory."""
    heads = query_heads(c, row)
    keys = attention(kv_heads(c, row, heads), head_dim(c, row, heads))
    c.has("sliding_window")  # always null in real files, and the library's cache does not look at it
    state = mamba2(
        heads=width(c, "mamba_num_heads", default=128),
        head_dim=width(c, "mamba_head_dim", default=64),
        state_size=width(c, "ssm_state_size", default=128),
        groups=width(c, "mamba_n_groups", "n_groups", default=8),
        kernel=taps(c, "mamba_d_conv", "conv_kernel", default=4),
        dtype=state_dtype(c, "mamba_ssm_cache_dtype"),
    )
    memories: dict[str, tuple[Memory, ...]] = {LINEAR: (state,), FULL: (keys,), "mlp": (), "moe": ()}
    kinds = layer_kinds(c)
    if c.has("num_hidden_layers") and layer_count(c, row) != len(kinds):
        c.refuse("num_hidden_layers", f"is {c.data['num_hidden_layers']}, but the layer map has {len(kinds)} entries")
    predicted = draft_kinds(c)
    modules = draft_count(c, default=row.drafts)
    if modules * len(predicted) > MAX_LAYERS:
        c.refuse("num_nextn_predict_layers", f"times {len(predicted)} layers each is more than {MAX_LAYERS:,} layers")
    drafts = [memories[kind] for kind in predicted] * modules
    return Decoder(layers=[memories[kind] for kind in kinds], heads=heads, drafts=drafts)


def layer_kinds(c: Config) -> list[str]:
    """What each layer is: `linear_attention` (Mamba-2), `full_attention`, `mlp` or `moe`."""
    return _kinds(c, ("layers_block_type", "layer_types"), "hybrid_override_pattern", [LINEAR, "moe", FULL, "mlp"])


def draft_kinds(c: Config) -> list[str]:
    """What the layers of one prediction module are."""
    return _kinds(c, ("mtp_layers_block_type",), "mtp_hybrid_override_pattern", [FULL, "moe"])


def _kinds(c: Config, lists: tuple[str, ...], letters: str, default: list[str]) -> list[str]:
    """The list, else the pattern, else the class default.

    Raises:
        ConfigError: a letter or a name that is not known.
    """
    given = layer_types(c, None, LINEAR, FULL, "mlp", "moe", keys=lists)
    if given is not None:
        return given
    spelled = c.text(letters, default=None)
    if spelled is None:
        return default
    for i, letter in enumerate(spelled):
        if letter not in _LETTERS:
            c.refuse(letters, f"has an unknown layer at position {i}: {letter!r}", hint="known: M, *, - and E")
    return [_LETTERS[letter] for letter in spelled]


ROWS: Final[dict[str, Reader]] = {
    "nemotron": plain(Row(32, 48, 6144)),
    "nemotron-nas": _nas(Row(32, 32, 4096)),
    "nemotron_h": _hybrid(lenient(None, 32, None, 8, 128, names=STANDARD._replace(head_dim=("head_dim", "attention_head_dim")))),
}
