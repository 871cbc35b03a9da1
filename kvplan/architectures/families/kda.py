"""Kimi Delta Attention beside latent attention: Kimi-Linear, Kimi K3, Ling 3 (`bailing_hybrid`), GLM-5.3 Flash.

The linear layers keep a float32 square matrix a head and one convolution over queries, keys and values; the others an
MLA latent, in GLM-5.3 without rotary keys and with an indexer that scores pools of `index_kpool` tokens.
Sources: arXiv 2510.26692; transformers 5.23 `configuration_kimi_linear.py`, `_bailing_hybrid.py`, `_glm5_next.py`;
Ling 2.5: vLLM `models/bailing_moe_linear.py`.
"""

from typing import Final

from kvplan.architectures.families.indexed import INDEXED_NAMES, owns_indexer
from kvplan.architectures.families.latent import Defaults, draft_count, read_latent
from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.shapes import FULL_NAMES, Decoder, layer_count, pattern, query_heads
from kvplan.architectures.kit.states import LINEAR_NAMES, kimi_delta, taps, width
from kvplan.domain.model import Compressed, Full, Index, Memory, Recurrent, State

ROWS: Final[dict[str, Defaults]] = {
    "kimi_linear": Defaults(27, 32, hidden=2304),
    "bailing_hybrid": Defaults(42, 32, hidden=2560, drafts=1),
    "glm5_next_text": Defaults(45, 64, rope_dim=0, nope_dim=256, value_dim=256),
}


def read(c: Config, model_type: str) -> Decoder:
    """A state in most layers, a latent in the rest."""
    row = ROWS[model_type]
    layers = layer_count(c, default=row.layers)
    heads = query_heads(c, default=row.heads)
    latent = read_latent(c, row, heads)
    drafts = draft_count(c, default=row.drafts)
    kinds = _kinds(c, model_type, layers)
    linear = _bailing_linear(c, heads) if model_type == "bailing_hybrid" else _linear(c, row.heads)
    rows: list[tuple[Memory, ...]] = [(linear,) if kind in LINEAR_NAMES else (latent,) for kind in kinds]
    draft: tuple[Memory, ...] = (latent,)
    if model_type == "glm5_next_text":
        index = _pooled_index(c)
        owners = owns_indexer(c, model_type, layers, drafts)
        rows = [(*r, index) if r == (latent,) and owner else r for r, owner in zip(rows, owners, strict=True)]
        draft = (latent, index)
    return Decoder(layers=rows, heads=heads, drafts=[draft] * drafts)


def _pooled_index(c: Config) -> Index:
    """One index key for each pool of tokens; engines that pool late keep more (see theirs)."""
    pool = c.integer("index_kpool", default=16, maximum=2**20)
    return Index(dim=width(c, "index_head_dim", default=128), reach=Compressed(pool) if pool > 1 else Full())


def _linear(c: Config, heads: int) -> Recurrent:
    """Released checkpoints nest the sizes in `linear_attn_config`; configs saved later have them at top level."""
    nested = c.section("linear_attn_config")
    return kimi_delta(
        heads=width(nested, "num_heads", default=width(c, "linear_num_heads", default=heads)),
        head_dim=width(nested, "head_dim", default=width(c, "linear_head_dim", default=128)),
        kernel=taps(nested, "short_conv_kernel_size", default=taps(c, "linear_conv_kernel_dim", default=4)),
    )


def _bailing_linear(c: Config, heads: int) -> Recurrent:
    """`head_dim` of a released config is the linear layers'; a saved one has `linear_head_dim` and the rotary width."""
    heads, head_dim = width(c, "linear_num_heads", default=heads), width(c, "linear_head_dim", "head_dim", default=128)
    if _is_lightning(c):
        return Recurrent(kind="linear", states=(State(name="linear", shape=(heads, head_dim, head_dim), dtype="float32"),))
    return kimi_delta(
        heads=heads, head_dim=head_dim, kernel=taps(c, "linear_conv_kernel_dim", "short_conv_kernel_size", default=4)
    )


def _is_lightning(c: Config) -> bool:
    """Ling and Ring 2.5 share the model type, with lightning attention: a group norm, no convolution, no KDA keys."""
    delta = any(c.has(key) for key in ("short_conv_kernel_size", "linear_conv_kernel_dim", "kda_safe_gate", "kda_lower_bound"))
    return c.has("group_norm_size") and not delta


def _kinds(c: Config, model_type: str, layers: int) -> list[str]:
    if model_type == "bailing_hybrid":
        group = c.integer("layer_group_size", default=6)
        full = {i for i in range(layers) if (i + 1) % group == 0}
        if _is_lightning(c):  # there, layers beyond the last whole group attend too
            full |= set(range(layers // group * group, layers))
    elif model_type == "glm5_next_text":
        full = set(range(3, layers, 4))
    else:
        full = set(range(4, layers, 4))
        if not c.has("layer_types"):
            full = _numbered_layers(c, layers, full)
    names = LINEAR_NAMES | FULL_NAMES | (INDEXED_NAMES if model_type == "glm5_next_text" else frozenset())
    return pattern(c, layers, lambda i: "full_attention" if i in full else "linear_attention", allowed=names)


def _numbered_layers(c: Config, layers: int, implied: set[int]) -> set[int]:
    """The full layers of `linear_attn_config`, whose two lists count from 1 and must name every layer once."""
    nested = c.section("linear_attn_config")
    full = nested.integers("full_attn_layers", minimum=1, maximum=layers)
    linear = nested.integers("kda_layers", minimum=1, maximum=layers)
    if full is None or linear is None:
        return implied
    if sorted([*full, *linear]) != list(range(1, layers + 1)):
        nested.refuse("full_attn_layers", f"and `kda_layers` must name each of the {layers} layers once")
    return {number - 1 for number in full}
