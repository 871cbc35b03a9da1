"""Which projector the converter writes into the mmproj file of a model type, and its hyperparameters.

Source: llama.cpp 0c1e57098, `conversion/*.py` (`MmprojModel.set_gguf_parameters`), `tools/mtmd/clip-impl.h`.
"""

import math
from typing import Any, Final

from kvplan.domain.media import images, tiles
from kvplan.domain.media.images import ImageRule

_QWEN3: Final = ("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
#: Model type -> projector.
PROJECTOR_OF: Final[dict[str, str]] = {
    "qwen2_vl": "qwen2vl",
    "qwen2_5_vl": "qwen25vl",
    **dict.fromkeys(_QWEN3, "qwen3vl"),
    **dict.fromkeys(("glm4v", "glm4v_moe", "glm46v"), "glm4v"),
    "kimi_vl": "kimivl",
    "kimi_k25": "kimik25",
    **dict.fromkeys(("pixtral", "mistral3"), "pixtral"),
    "gemma3": "gemma3",
    "gemma4": "gemma4v",
    **dict.fromkeys(("llava", "llava_next"), "mlp"),
    **dict.fromkeys(("internvl", "internvl_chat"), "internvl"),
    "llama4": "llama4",
    **dict.fromkeys(("idefics3", "smolvlm"), "idefics3"),
    "lfm2_vl": "lfm2",
    "minicpmv4_6": "minicpmv4_6",
}


def hyperparameters(rule: ImageRule) -> dict[str, Any]:
    """What `clip.hparams` holds of the model whose own processor is `rule`; what is not here is the projector's default."""
    match rule:
        case images.PixelRange() | images.Native() | images.Capped() | images.Edge():
            return {"patch_size": rule.patch, "n_merge": rule.merge}
        case images.Soft():
            return {"patch_size": rule.patch, "n_merge": rule.pool}
        case images.PanAndScan():
            return {"n_merge": math.isqrt(max(1, rule.positions // rule.per_view))}
        case images.Fixed(side=int(side)):
            return {"image_size": side, "patch_size": max(1, side // max(1, math.isqrt(rule.placeholders)))}
        case tiles.Tiles():
            return {"image_size": rule.tile, "preproc_max_tiles": rule.most}
        case tiles.Pinpoints(most=None):
            pairs = [(wide, high) for high, wide in rule.candidates]
            return {"image_size": rule.tile, "patch_size": rule.tile // rule.side, "image_grid_pinpoints": pairs}
        case tiles.Llama4Tiles():
            return {"image_size": rule.tile, "patch_size": rule.patch, "n_merge": round(1 / rule.shuffle)}
        case tiles.EdgeTiles():
            merge = math.isqrt((rule.tile // rule.patch) ** 2 // rule.per_tile)
            return {"image_size": rule.tile, "patch_size": rule.patch, "n_merge": max(1, merge), "image_longest_edge": rule.edge}
        case tiles.SmallOrTiled():
            return {"patch_size": rule.patch, "n_merge": rule.merge}
        case tiles.Slices():
            return {"image_size": rule.scale, "patch_size": rule.patch}
        case _:
            return {}
