"""Nemotron-H: Mamba-2, attention, MLP and expert layers in one list; MLP and expert layers remember nothing.

The map is `hybrid_override_pattern` (M Mamba-2, * attention, - MLP, E experts) or `layers_block_type`; prediction
layers have a pattern of their own. Source: transformers 5.23 `configuration_nemotron_h.py`.
"""

from typing import Final

from kvplan.architectures.families.latent import draft_count
from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.shapes import FULL_NAMES, Decoder, attention, grouped_heads, head_size, layer_count, query_heads
from kvplan.architectures.kit.states import LINEAR_NAMES, mamba2, state_dtype, taps, width
from kvplan.domain.model import MAX_LAYERS, Memory

_LETTERS: Final = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_EMPTY_NAMES: Final = frozenset({"mlp", "moe"})
_DEFAULT: Final = ["mamba", "moe", "attention", "mlp"]


def read(c: Config, model_type: str) -> Decoder:
    """Each letter's memory."""
    heads = query_heads(c, default=32)
    keys = attention(
        grouped_heads(c, heads, default=8), head_size(c, heads, keys=("head_dim", "attention_head_dim"), default=128)
    )
    c.has("sliding_window")  # always null in real files, and the library's cache does not look at it
    state = mamba2(
        heads=width(c, "mamba_num_heads", default=128),
        head_dim=width(c, "mamba_head_dim", default=64),
        state_size=width(c, "ssm_state_size", default=128),
        groups=width(c, "mamba_n_groups", "n_groups", default=8),
        kernel=taps(c, "mamba_d_conv", "conv_kernel", default=4),
        dtype=state_dtype(c, "mamba_ssm_cache_dtype"),
    )

    def memories(kind: str) -> tuple[Memory, ...]:
        return () if kind in _EMPTY_NAMES else (state,) if kind in LINEAR_NAMES else (keys,)

    kinds = _kinds(c, ("layers_block_type", "layer_types"), "hybrid_override_pattern", _DEFAULT)
    if c.has("num_hidden_layers") and layer_count(c) != len(kinds):
        c.refuse("num_hidden_layers", f"is {c.data['num_hidden_layers']}, but the layer map has {len(kinds)} entries")
    predicted = _kinds(c, ("mtp_layers_block_type",), "mtp_hybrid_override_pattern", ["attention", "moe"])
    modules = draft_count(c)
    if modules * len(predicted) > MAX_LAYERS:
        c.refuse("num_nextn_predict_layers", f"times {len(predicted)} layers each is more than {MAX_LAYERS:,} layers")
    drafts = [memories(kind) for kind in predicted] * modules
    return Decoder(layers=[memories(kind) for kind in kinds], heads=heads, drafts=drafts)


def _kinds(c: Config, lists: tuple[str, ...], letters: str, default: list[str]) -> list[str]:
    """The list, else the pattern, else the class default.

    Raises:
        ConfigError: a letter or a name that is not known.
    """
    given = c.texts(*lists, allowed=LINEAR_NAMES | FULL_NAMES | _EMPTY_NAMES)
    if given is not None:
        return given
    spelled = c.text(letters, default=None)
    if spelled is None:
        return default
    for i, letter in enumerate(spelled):
        if letter not in _LETTERS:
            c.refuse(letters, f"has an unknown layer at position {i}: {letter!r}", hint="known: M, *, - and E")
    return [_LETTERS[letter] for letter in spelled]
