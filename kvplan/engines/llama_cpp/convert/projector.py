"""Which projector the converter writes into the mmproj file of a model type, and its hyperparameters.

Source: llama.cpp 0c1e57098, `conversion/*.py` (`MmprojModel.set_gguf_parameters`), `tools/mtmd/clip-impl.h`.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.media import images, tiles
from kvplan.domain.media.images import ImageRule
from kvplan.domain.stored import SideFile
from kvplan.errors import GgufError, Refused

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
    "gemma3n": "gemma3nv",
    "minimax_m3_vl": "minimax_m3",
    "exaone4_5": "exaone4_5",
    "hunyuan_vl": "hunyuanvl",
    "paddleocr_vl": "paddleocr",
    "muse_glimmer": "muse-glimmer",
    "deepseek_ocr2": "deepseekocr2",
}


#: Projectors whose file holds the range of pixels of the model's own files.
_RANGED: Final = frozenset({"exaone4_5", "hunyuanvl", "paddleocr"})


def ranged(projector: str, rule: ImageRule) -> dict[str, Any]:
    """`hyperparameters`, and the range of pixels where the converter writes it."""
    found = hyperparameters(rule) if projector != "gemma3nv" else {}  # MobileNet has no patches: the projector's default
    if projector in _RANGED and isinstance(rule, images.PixelRange):
        found |= {"image_min_pixels": rule.least, "image_max_pixels": rule.most}
    return found


def hyperparameters(rule: ImageRule) -> dict[str, Any]:
    """What `clip.hparams` holds of the model whose own processor is `rule`; what is not here is the projector's default."""
    match rule:
        case images.PixelRange() | images.Native() | images.Capped() | images.Edge():
            return {"patch_size": rule.patch, "n_merge": rule.merge}
        case images.Soft():
            return {"patch_size": rule.patch, "n_merge": rule.pool}
        case images.NearestGrid():
            return {"patch_size": rule.patch, "n_merge": rule.merge}
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


#: What a projector file calls its type (`clip-impl.h: PROJECTOR_TYPE_NAMES`) -> the projector, where another name.
_FILED: Final[Mapping[str, str]] = {
    "resampler": "minicpmv",
    "qwen2vl_merger": "qwen2vl",
    "qwen2.5vl_merger": "qwen25vl",
    "qwen2.5o": "qwen25vl",
    "qwen3vl_merger": "qwen3vl",
}
#: Projectors whose merging is `clip.vision.spatial_merge_size`; that of the others is `clip.vision.projector.scale_factor`.
_SPATIAL: Final = frozenset({
    "qwen2vl", "qwen25vl", "qwen3vl", "ling3vl", "glm4v", "glm5v", "pixtral", "lightonocr", "minimax_m3", "muse-glimmer",
    "mimovl", "youtuvl", "dots3note_v", "exaone4_5", "hunyuanvl",
})  # fmt: skip
#: Projectors whose merging no file says.
_FIXED: Final = frozenset({"paddleocr", "phi4"})
_VISION: Final = "clip.vision."
#: `clip.hparams` -> key, where a file says it.
_KEYS: Final[Mapping[str, str]] = {
    "image_size": f"{_VISION}image_size",
    "patch_size": f"{_VISION}patch_size",
    "image_longest_edge": f"{_VISION}preproc_image_size",
    "image_min_pixels": f"{_VISION}image_min_pixels",
    "image_max_pixels": f"{_VISION}image_max_pixels",
    "preproc_min_tiles": f"{_VISION}preproc_min_tiles",
    "preproc_max_tiles": f"{_VISION}preproc_max_tiles",
    "minicpmv_version": "clip.minicpmv_version",
    "minicpmv_query_num": "clip.minicpmv_query_num",
}
#: A tensor of Pixtral files whose rows end in a break.
_BREAK: Final = "v.token_embd.img_break"
#: A tensor of GLM-Edge files: the tower gives tokens of begin and end itself.
_BEGIN: Final = "adapter.boi"


def filed(name: str) -> str:
    """The projector that a file calls so.

    >>> filed("qwen2vl_merger")
    'qwen2vl'
    """
    return _FILED.get(name, name)


def of_file(file: SideFile) -> tuple[str, dict[str, Any]]:
    """The projector of a file, and what `clip.hparams` holds of it (`clip.cpp:load_hparams`).

    Raises:
        GgufError: it is no projector's.
        Refused: it has no vision encoder.
    """
    said = file.keys.get(f"{_VISION}projector_type") or file.keys.get("clip.projector_type")
    if not isinstance(said, str) or not said:
        raise GgufError(
            f"{file.name}: `clip.projector_type` is missing", hint="is it a projector (mmproj-*.gguf), not the language model?"
        )
    if file.keys.get("clip.has_vision_encoder") is False:
        raise Refused(f"{file.name} has no vision encoder: it is for audio", see="name the projector that is for images")
    projector = filed(said)
    found = {name: file.keys[key] for name, key in _KEYS.items() if key in file.keys}
    merge = f"{_VISION}spatial_merge_size" if projector in _SPATIAL else f"{_VISION}projector.scale_factor"
    if merge in file.keys and projector not in _FIXED:
        found["n_merge"] = file.keys[merge]
    sides = file.keys.get(f"{_VISION}image_grid_pinpoints")
    if isinstance(sides, list | tuple) and sides:
        if len(sides) % 2:
            raise GgufError(
                f"{file.name}: image_grid_pinpoints must have an even number of elements, got {len(sides)}",
                hint="llama.cpp refuses it, too",
            )
        found["image_grid_pinpoints"] = [list(sides[i : i + 2]) for i in range(0, len(sides), 2)]
    if projector == "pixtral":
        found["image_break"] = any(tensor.name == _BREAK for tensor in file.tensors)
    if projector == "adapter":
        found["boi"] = any(tensor.name == _BEGIN for tensor in file.tensors)
    return projector, found
