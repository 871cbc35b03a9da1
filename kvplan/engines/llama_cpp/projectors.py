"""What each projector of llama.cpp does with an image: by the type that the mmproj file names, and its hyperparameters.

Every type of `tools/mtmd/clip-impl.h: PROJECTOR_TYPE_NAMES` is here: with its rule (`PROJECTORS`), or with why there is none
(`NOT_READ`). Source: llama.cpp 0c1e57098, `clip.cpp:load_hparams` (limits), `clip_n_output_tokens` (counts),
`mtmd.cpp:init_vision` (which preprocessor, tokens around).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from kvplan.domain.media import images
from kvplan.domain.media.images import ImageRule, Size
from kvplan.domain.origin import Settings
from kvplan.engines.llama_cpp.media import (
    Canvas,
    DynamicSize,
    EdgeTiles,
    GlobalAndTiles,
    LongestEdge,
    NearestGrid,
    PinpointTiles,
    PixelSize,
    SlidingCrops,
    SmallOrTiled,
    Stepped,
    UhdSlices,
)
from kvplan.errors import Refused

_SIDE: Final = 2**16
_PIXELS: Final = 2**31 - 1


class Projector(Struct, frozen=True, kw_only=True):
    """What a projector does with images: a rule of its own numbers (`clip.hparams`), and the tokens around each image."""

    rule: Callable[[Settings, "Limits", int], ImageRule]
    marks: int = 2


class Limits(Struct, frozen=True, kw_only=True):
    """`--image-min-tokens` and `--image-max-tokens`, where given."""

    least: int | None = None
    most: int | None = None


def _side(h: Settings, key: str, default: int = 0) -> int:
    return h.whole(key, default, least=1, most=_SIDE)


def _dynamic(least: int, most: int, patch: int = 14, merge: int = 2) -> Callable[[Settings, Limits, int], ImageRule]:
    def rule(h: Settings, limits: Limits, marks: int) -> ImageRule:
        return DynamicSize(
            patch=_side(h, "patch_size", patch),
            merge=_side(h, "n_merge", merge),
            least=limits.least or least,
            most=limits.most or most,
            breaks=h.flag("image_break", False),
            marks=marks,
        )

    return rule


def _pixels(
    patch: int = 14, merge: int = 2, range_: tuple[int, int] = (0, 0), *, rows_end: bool = False, around: int = 0
) -> Callable[[Settings, Limits, int], ImageRule]:
    """A range of pixels that the file must say, or else `range_` tokens; the limits of tokens count only for the latter."""

    def rule(h: Settings, limits: Limits, marks: int) -> ImageRule:
        size, fold = _side(h, "patch_size", patch), _side(h, "n_merge", merge)
        tokens = limits.least or range_[0], limits.most or range_[1]
        least, most = (
            h.whole(key, count * (size * fold) ** 2 if range_[1] else 0, least=1, most=_PIXELS) or h.refuse(key, "is missing")
            for key, count in zip(("image_min_pixels", "image_max_pixels"), tokens, strict=True)
        )
        return PixelSize(patch=size, merge=fold, least=least, most=most, rows_end=rows_end, around=around, marks=marks)

    return rule


def _kimi(h: Settings, limits: Limits, marks: int) -> ImageRule:
    """Kimi K2.5: the range of pixels of its file, where that has both; limits of tokens only for older files."""
    said = h.has("image_min_pixels") and h.has("image_max_pixels")
    return (_pixels() if said else _dynamic(2, 4096))(h, limits, marks)


def _unified(h: Settings, limits: Limits, marks: int) -> ImageRule:
    """Gemma 4 unified: merging is done by the patches themselves."""
    patch = _side(h, "patch_size", 16) * _side(h, "n_merge", 3)
    return DynamicSize(patch=patch, merge=1, least=limits.least or 70, most=limits.most or 1120, marks=marks)


def _longest(h: Settings, limits: Limits, marks: int) -> ImageRule:
    edge = _side(h, "image_longest_edge", _side(h, "image_size", 1540))
    patch, merge = _side(h, "patch_size", 14), _side(h, "n_merge", 1)
    return LongestEdge(patch=patch, merge=merge, edge=edge, least=limits.least, most=limits.most, marks=marks)


def _stepped(h: Settings, limits: Limits, marks: int) -> ImageRule:
    patch, merge = _side(h, "patch_size", 16), _side(h, "n_merge", 2)
    return Stepped(patch=patch, merge=merge, most=(limits.most or 62_500) * (patch * merge) ** 2, marks=marks)


def _canvas(h: Settings, limits: Limits, marks: int) -> ImageRule:
    patch, merge = _side(h, "patch_size", 14), _side(h, "n_merge", 2)
    area = (patch * merge) ** 2
    least, most = (
        given * area if given else h.whole(key, 0, least=1, most=_PIXELS) or h.refuse(key, "is missing")
        for key, given in (("image_min_pixels", limits.least), ("image_max_pixels", limits.most))
    )
    return Canvas(patch=patch, merge=merge, least=least, most=most, marks=marks)


def _grid(h: Settings, limits: Limits, marks: int) -> ImageRule:
    return NearestGrid(unit=_side(h, "patch_size", 14) * _side(h, "n_merge", 2), most=limits.most or 4096, marks=marks)


def _global_and_tiles(h: Settings, limits: Limits, marks: int) -> ImageRule:
    least, most = h.whole("preproc_min_tiles", 2, 1, 256), h.whole("preproc_max_tiles", 6, 1, 256)
    return GlobalAndTiles(side=1024, tile=768, patch=16, least=least, most=most, marks=marks)


def _sliding(h: Settings, limits: Limits, marks: int) -> ImageRule:
    side, unit = _side(h, "image_size", 728), _side(h, "patch_size", 14) * _side(h, "n_merge", 4)
    crop, edge = 504, _side(h, "image_longest_edge", 3024)
    view, each = ((length // unit) ** 2 for length in (side, crop))
    return SlidingCrops(side=side, crop=crop, most=edge, view=view, per_crop=each, marks=marks)


def _whole(fold: int = 1, around: int = 0) -> Callable[[Settings, Limits, int], ImageRule]:
    """One view: its patches over `fold`, and tokens of the tower around them."""

    def rule(h: Settings, limits: Limits, marks: int) -> ImageRule:
        side = _side(h, "image_size")
        patches = (side // _side(h, "patch_size", 14)) ** 2
        count = patches // fold + around + 2 * h.flag("boi", False)
        return images.Fixed(placeholders=count, side=side, positions=patches, marks=marks)

    return rule


def _merged(h: Settings, limits: Limits, marks: int) -> ImageRule:
    side, merge = _side(h, "image_size", 512), _side(h, "n_merge", 2)
    patches = (side // _side(h, "patch_size", 16)) ** 2
    return images.Fixed(placeholders=patches // merge**2, side=side, positions=patches, marks=marks)


def _mobile(h: Settings, limits: Limits, marks: int) -> ImageRule:
    """Gemma 3n: one row of patches of the side is what MobileNet gives (256)."""
    side = _side(h, "image_size", 768)
    return images.Fixed(placeholders=side // _side(h, "patch_size", 3), side=side, marks=marks)


def _pooled(h: Settings, limits: Limits, marks: int) -> ImageRule:
    return images.Fixed(placeholders=64, side=_side(h, "image_size"), marks=marks)


def _pixtral(h: Settings, limits: Limits, marks: int) -> ImageRule:
    return DynamicSize(
        patch=_side(h, "patch_size", 16),
        merge=_side(h, "n_merge", 1),
        least=limits.least or 8,
        most=limits.most or 1024,
        breaks=h.flag("image_break", True),
        marks=marks,
    )


def _fixed(h: Settings, limits: Limits, marks: int) -> ImageRule:
    side, merge = _side(h, "image_size", 896), _side(h, "n_merge", 4)
    patches = (side // _side(h, "patch_size", 14)) ** 2
    return images.Fixed(placeholders=patches // merge**2, side=side, positions=patches, marks=marks)


def _tiles(
    candidates: Callable[[Settings, int], tuple[Size, ...]], side: int, merge: int
) -> Callable[[Settings, Limits, int], ImageRule]:
    def rule(h: Settings, limits: Limits, marks: int) -> ImageRule:
        tile = _side(h, "image_size", side)
        return PinpointTiles(
            tile=tile,
            patch=_side(h, "patch_size", 14),
            merge=_side(h, "n_merge", merge),
            candidates=candidates(h, tile),
            marks=marks,
        )

    return rule


def _internvl_candidates(h: Settings, tile: int) -> tuple[Size, ...]:
    """`set_internvl_dhr_res_candidates`: by columns, then rows."""
    least, most = h.whole("preproc_min_tiles", 1, 1, 64), h.whole("preproc_max_tiles", 12, 1, 256)
    found = [
        (rows * tile, columns * tile)
        for columns in range(1, most + 1)
        for rows in range(1, most // columns + 1)
        if rows * columns >= least
    ]
    return tuple(found) or ((tile, tile),)


def _square_candidates(h: Settings, tile: int) -> tuple[Size, ...]:
    """`set_llava_uhd_res_candidates(3)`: every grid up to 3 x 3, more than one tile."""
    return tuple((rows * tile, columns * tile) for columns in (1, 2, 3) for rows in (1, 2, 3) if rows * columns > 1)


def _mlp(h: Settings, limits: Limits, marks: int) -> ImageRule:
    """LLaVA: pinpoints make it 1.6, without it is one view."""
    pairs = h.items("image_grid_pinpoints", most=400)
    side, patch = _side(h, "image_size", 336), _side(h, "patch_size", 14)
    patches = (side // patch) ** 2
    if not pairs:
        return images.Fixed(placeholders=patches, side=side, positions=patches, marks=marks)
    if not all(
        isinstance(p, list | tuple) and len(p) == 2 and all(isinstance(n, int) and 0 < n <= _SIDE for n in p) for p in pairs
    ):
        h.refuse("image_grid_pinpoints", "must hold pairs of sides in pixels")
    candidates = tuple((high, wide) for wide, high in pairs)
    return PinpointTiles(tile=side, patch=patch, merge=1, candidates=candidates, marks=marks)


def _minicpm(h: Settings, limits: Limits, marks: int) -> ImageRule:
    version = h.whole("minicpmv_version", 3, 1, 100_046)
    queries = h.whole("minicpmv_query_num", 96 if version == 2 else 64, 1, _SIDE)
    patch = _side(h, "patch_size", 14)
    return UhdSlices(side=_side(h, "image_size", 448), patch=patch, unit=patch, queries=queries, marks=marks)


def _minicpm46(h: Settings, limits: Limits, marks: int) -> ImageRule:
    patch, merge = _side(h, "patch_size", 14), _side(h, "n_merge", 4)
    return UhdSlices(side=_side(h, "image_size", 448), patch=patch, unit=patch * merge, shrink=merge**2, marks=marks)


def _idefics3(h: Settings, limits: Limits, marks: int) -> ImageRule:
    tile, patch, merge = _side(h, "image_size", 384), _side(h, "patch_size", 14), _side(h, "n_merge", 3)
    return EdgeTiles(
        edge=_side(h, "image_longest_edge", 4 * tile),
        tile=tile,
        per_tile=(tile // patch // merge) ** 2,
        patch=patch,
        merge=merge,
        least=limits.least,
        most_tokens=limits.most,
    )


def _lfm2(h: Settings, limits: Limits, marks: int) -> ImageRule:
    return SmallOrTiled(
        tile=512,
        least_tiles=2,
        most_tiles=10,
        least=limits.least or 64,
        most=limits.most or 256,
        patch=_side(h, "patch_size", 16),
        merge=_side(h, "n_merge", 2),
        marks=marks,
    )


#: Projector type of the mmproj file -> what it does with images.
PROJECTORS: Final[Mapping[str, Projector]] = {
    "qwen2vl": Projector(rule=_dynamic(8, 4096)),
    "qwen25vl": Projector(rule=_dynamic(8, 4096)),
    "qwen3vl": Projector(rule=_dynamic(8, 4096, patch=16)),
    "glm4v": Projector(rule=_dynamic(8, 4096)),
    "kimivl": Projector(rule=_dynamic(8, 1024)),
    "kimik25": Projector(rule=_kimi),
    "pixtral": Projector(rule=_pixtral, marks=1),
    "gemma4v": Projector(rule=_dynamic(70, 1120, patch=16, merge=3)),
    "gemma3": Projector(rule=_fixed),
    "mlp": Projector(rule=_mlp, marks=0),
    "internvl": Projector(rule=_tiles(_internvl_candidates, 448, 2)),
    "llama4": Projector(rule=_tiles(_square_candidates, 336, 2)),
    "minicpmv": Projector(rule=_minicpm),
    "minicpmv4_6": Projector(rule=_minicpm46),
    "idefics3": Projector(rule=_idefics3),
    "lfm2": Projector(rule=_lfm2),
    "ling3vl": Projector(rule=_dynamic(8, 4096, patch=16)),
    "minimax_m3": Projector(rule=_dynamic(8, 576)),
    "gemma4uv": Projector(rule=_unified),
    "exaone4_5": Projector(rule=_pixels()),
    "mimovl": Projector(rule=_pixels()),
    "paddleocr": Projector(rule=_pixels()),
    "dots_ocr": Projector(rule=_pixels()),
    "dots3note_v": Projector(rule=_pixels()),
    "phi4": Projector(rule=_pixels(patch=16, merge=1), marks=0),
    "hunyuanvl": Projector(rule=_pixels(16, 2, (256, 16_384), rows_end=True, around=2)),
    "glm5v": Projector(rule=_canvas),
    "youtuvl": Projector(rule=_stepped),
    "lightonocr": Projector(rule=_longest),
    "muse-glimmer": Projector(rule=_grid),
    "deepseekocr2": Projector(rule=_global_and_tiles, marks=1),
    "step3vl": Projector(rule=_sliding, marks=0),
    "gemma3nv": Projector(rule=_mobile),
    "nemotron_v2_vl": Projector(rule=_merged, marks=0),
    "yasa2": Projector(rule=_pooled),
    "janus_pro": Projector(rule=_whole(), marks=0),
    "cogvlm": Projector(rule=_whole(around=2), marks=0),
    "ldp": Projector(rule=_whole(fold=4), marks=0),
    "ldpv2": Projector(rule=_whole(fold=4), marks=0),
    "adapter": Projector(rule=_whole(fold=4), marks=0),
}
_HEARS: Final = "it is for audio, whose tokens were not read"
_SPEAKS: Final = "it makes speech and takes no images"
#: Projector type -> why there is no rule.
NOT_READ: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "gemma3na", "gemma4a", "gemma4ua", "ultravox", "qwen2a", "qwen3a", "glma", "voxtral", "meralion", "musicflamingo",
            "dots3note_a", "lfm2a", "granite_speech", "mimo_audio", "parakeet",
        ),
        _HEARS,
    ),
    **dict.fromkeys(("qwen3tts_spkenc", "qwen3tts_gen", "pockettts_spkenc", "pockettts_gen"), _SPEAKS),
    "deepseekocr": "which of two equally near grids it takes is left to the C++ library's sorting",
    "deepseek4v": "its solver of sizes was not read",
    "granite4_vision": "its unpadded grid of windows was not read",
}  # fmt: skip
#: Kinds that take the limits of tokens.
_LIMITED: Final = (DynamicSize, EdgeTiles, SmallOrTiled)


def rule_of(projector: str, hparams: Mapping[str, Any], limits: Limits, source: str = "mmproj") -> ImageRule:
    """What a projector does with an image.

    Raises:
        Refused: no rule of this projector was read.
        ConfigError: one of its numbers is out of range.
    """
    row = PROJECTORS.get(projector)
    if row is None:
        why = NOT_READ.get(projector, "it is not among those of the release that was read")
        raise Refused(
            f"llama.cpp's projector `{projector[:40]}` was not read: {why}",
            see="the rules cover " + ", ".join(sorted(PROJECTORS)),
        )
    return row.rule(Settings(hparams, source), limits, row.marks)


def takes_limits(rule: ImageRule) -> bool:
    """Whether `--image-max-tokens` changes anything."""
    return isinstance(rule, _LIMITED)
