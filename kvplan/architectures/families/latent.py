"""Multi-head latent attention in every layer: DeepSeek V2 and V3, Kimi K2, GLM-4.7 Flash, LongCat-Flash, MiniCPM3 …

Each token leaves `kv_lora_rank` + `qk_rope_head_dim` elements that all heads share (arXiv 2405.04434, section 2.1);
`num_key_value_heads` and `head_dim` say nothing about the cache. LongCat-Flash runs two attention blocks a layer.
Sources: transformers 5.23 `configuration_*.py` of each for the class defaults.
"""

from typing import Final, NamedTuple

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.shapes import Decoder, attention, divided, grouped_heads, layer_count, query_heads
from kvplan.architectures.kit.states import width
from kvplan.domain.model import MAX_LAYERS, Latent, Memory


class Defaults(NamedTuple):
    """What a config class assumes when a key is absent."""

    layers: int
    heads: int
    rank: int = 512
    rope_dim: int = 64
    nope_dim: int = 128
    value_dim: int | None = 128  # None: hidden size / heads
    hidden: int = 4096
    drafts: int = 0


_V3: Final = Defaults(61, 128, hidden=7168, drafts=1)
_YOUTU: Final = Defaults(32, 16, hidden=2048)
ROWS: Final[dict[str, Defaults]] = {
    "deepseek_v2": Defaults(32, 32),
    "deepseek_v3": _V3,
    "kimi_k2": _V3._replace(drafts=0),
    "glm4_moe_lite": Defaults(47, 20, nope_dim=192, value_dim=256, hidden=2048),
    "mistral4": Defaults(36, 32, rank=256, nope_dim=64),
    "axk1": Defaults(61, 64, hidden=7168),
    "youtu": _YOUTU,
    "youtu_llm": _YOUTU,
    "minicpm3": Defaults(62, 40, rank=256, rope_dim=32, nope_dim=64, value_dim=None, hidden=2560),
    "longcat_flash": Defaults(28, 64, hidden=6144, drafts=1),
}


def read_latent(c: Config, row: Defaults, heads: int, *, rope_dim: int | None = None) -> Latent:
    """The latent that the MLA keys describe.

    Raises:
        ConfigError: a dimension is missing or out of range.
    """
    value_dim = row.value_dim
    if value_dim is None and not c.has("v_head_dim"):
        value_dim = divided(c, "hidden_size", width(c, "hidden_size", default=row.hidden), heads, "query heads")
    return Latent(
        rank=width(c, "kv_lora_rank", default=row.rank),
        rope_dim=width(c, "qk_rope_head_dim", default=row.rope_dim, minimum=0) if rope_dim is None else rope_dim,
        heads=heads,
        nope_dim=width(c, "qk_nope_head_dim", default=row.nope_dim, minimum=0),
        value_dim=width(c, "v_head_dim", default=value_dim),
    )


def draft_count(c: Config, *keys: str, default: int = 0) -> int:
    """Number of multi-token-prediction layers that the checkpoint carries."""
    names = keys or ("num_nextn_predict_layers", "num_mtp_layers")
    found: int = c.integer(*names, default=default, minimum=0, maximum=MAX_LAYERS)
    return found


def read(c: Config, model_type: str) -> Decoder:
    """The same latent in every attention block."""
    row = ROWS[model_type]
    layers = _longcat_blocks(c, row.layers) if model_type == "longcat_flash" else layer_count(c, default=row.layers)
    heads = query_heads(c, default=row.heads)
    memory: tuple[Memory, ...]
    if model_type == "deepseek_v2" and not c.flag("use_mla", default=True):
        # DeepSeek-OCR and -VL2-Tiny carry V2 text parts that run ordinary attention and zero MLA sizes
        head_dim = divided(c, "hidden_size", width(c, "hidden_size", default=row.hidden), heads, "query heads")
        memory = (attention(grouped_heads(c, heads), head_dim),)
    else:
        memory = (read_latent(c, row, heads),)
    return Decoder(layers=[memory] * layers, heads=heads, drafts=[memory] * draft_count(c, default=row.drafts))


def _longcat_blocks(c: Config, default: int) -> int:
    """Attention blocks: two a layer. `num_hidden_layers` already counts blocks (`LongcatFlashConfig.num_hidden_layers`)."""
    if not c.has("num_layers") and c.has("num_hidden_layers"):
        blocks = layer_count(c)
        if blocks % 2:
            c.refuse("num_hidden_layers", f"counts two attention blocks a layer, so it must be even, got {blocks}")
        return blocks
    return 2 * layer_count(c, "num_layers", default=default)
