"""Images in llama.cpp: its own preprocessors, by the projector of the mmproj file, with its own limits and tilings.

Everything is computed in 32-bit floats, halves are rounded away from zero. `--image-min-tokens` and `--image-max-tokens`
replace the limits of the kinds that have any. Source: llama.cpp 0c1e57098, `tools/mtmd/mtmd-image.cpp` (sizes),
`clip.cpp:load_hparams` (limits), `clip_n_output_tokens` (counts), `mtmd.cpp:init_vision` (tokens around).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from kvplan.domain.media import grids, images, tiles
from kvplan.domain.media.cost import Cost, Step
from kvplan.domain.media.images import ImageRule, Size
from kvplan.domain.media.sizes import single
from kvplan.domain.origin import Settings
from kvplan.errors import Refused

_SIDE: Final = 2**16
#: A limit of tokens that somebody gives at most.
_TOKENS: Final = 2**24
#: `mtmd_image_preprocessor_llava_uhd`: slices of one image at most.
_SLICES: Final = 9


def _rounded(value: float) -> int:
    """`std::round`: halves away from zero, of what is not negative."""
    return math.floor(value + 0.5)


def _divided(length: float, unit: int) -> float:
    return single(length / unit)


def preserved(height: int, width: int, unit: int, least: int, most: int) -> Size:
    """`img_tool::calc_size_preserved_ratio`: multiples of `unit` between `least` and `most` pixels; no test of the ratio.

    >>> preserved(3000, 4000, 28, 8 * 784, 4096 * 784)
    (1540, 2044)
    """
    high, wide = (max(unit, _rounded(_divided(side, unit)) * unit) for side in (height, width))
    if high * wide > most:
        scale = single(math.sqrt(single(single(height * width) / most)))
        high, wide = (max(unit, math.floor(_divided(single(side / scale), unit)) * unit) for side in (height, width))
    elif high * wide < least:
        scale = single(math.sqrt(single(single(least) / (height * width))))
        high, wide = (math.ceil(_divided(single(side * scale), unit)) * unit for side in (height, width))
    return high, wide


class DynamicSize(ImageRule, frozen=True, kw_only=True):
    """A range of tokens (Qwen-VL, Kimi, GLM, Pixtral, Gemma 4); `breaks`: a token a row but the last, which the tower fills."""

    patch: int
    merge: int
    least: int  # tokens
    most: int
    breaks: bool = False

    def one(self, height: int, width: int) -> Cost:
        """Rows and columns of the resized image."""
        unit = self.patch * self.merge
        high, wide = preserved(height, width, unit, self.least * unit**2, self.most * unit**2)
        rows, columns = high // unit, wide // unit
        count = rows * columns + (rows - 1 if self.breaks else 0)
        steps = (
            Step(f"{height:,} x {width:,} to {self.least:,} to {self.most:,} tokens of {unit} pixels", f"{high:,} x {wide:,}"),
            Step(
                f"rows and columns of {unit}{', a break between rows' if self.breaks else ''}",
                f"{rows:,} x {columns:,}: {count:,}",
            ),
        )
        return Cost(placeholders=count, marks=self.marks, positions=rows * columns * self.merge**2, tiles=1, steps=steps)


class PinpointTiles(ImageRule, frozen=True, kw_only=True):
    """Tiles of one of several resolutions and an overview, whole (LLaVA 1.6, InternVL, Llama 4); small images are one view."""

    tile: int
    patch: int
    merge: int
    candidates: tuple[Size, ...]

    def one(self, height: int, width: int) -> Cost:
        """The tokens of each tile."""
        rows = columns = 0
        if height > self.tile or width > self.tile:
            high, wide = grids.pinpoint(height, width, self.candidates, singly=True)
            rows, columns = high // self.tile, wide // self.tile
        count, side = rows * columns + 1, self.tile // self.patch
        each = (side // self.merge) ** 2
        steps = (
            Step(f"{height:,} x {width:,} in tiles of {self.tile}", f"{rows} x {columns} (rows x columns), and an overview"),
            Step(f"{each:,} tokens a tile", f"{count * each:,}"),
        )
        return Cost(placeholders=count * each, marks=self.marks, positions=count * side**2, tiles=count, steps=steps)


class UhdSlices(ImageRule, frozen=True, kw_only=True):
    """An overview and slices of about one resolution (MiniCPM-V); `queries` of each view, or its patches over `shrink`."""

    side: int
    patch: int
    unit: int  # pixels that sizes are multiples of
    queries: int | None = None
    shrink: int = 16

    def _best(self, height: int, width: int, *, enlarge: bool) -> Size:
        if height * width > self.side * self.side or enlarge:
            ratio = single(width / height)
            height = int(single(self.side / single(math.sqrt(ratio))))
            width = int(single(height * ratio))
        return _ensured(height, self.unit), _ensured(width, self.unit)

    def _grid(self, height: int, width: int) -> Size:
        """`get_best_grid`: (rows, columns), the first of equals by columns."""
        wanted = single(math.log(single(width / height)))
        count = min(math.ceil(single(single(single(width) * height) / (self.side * self.side))), _SLICES)
        best, error = (1, 1), math.inf
        for pieces in (count - 1, count, count + 1):
            if pieces == 1 or pieces > _SLICES:
                continue
            for columns in range(1, pieces + 1):
                if pieces % columns == 0:
                    rows = pieces // columns
                    apart = single(abs(wanted - math.log(columns / rows)))
                    if apart < error:
                        best, error = (rows, columns), apart
        return best

    def views(self, height: int, width: int) -> tuple[list[Size], Size]:
        """Pixels of each view, and the grid."""
        if height <= self.side and width <= self.side:
            return [(self.side, self.side)], (0, 0)
        rows, columns = self._grid(height, width)
        piece = self._best(_ensured(height, rows) // rows, _ensured(width, columns) // columns, enlarge=True)
        return [self._best(height, width, enlarge=False), *([piece] * (rows * columns))], (rows, columns)

    def one(self, height: int, width: int) -> Cost:
        """The tokens of all views."""
        views, grid = self.views(height, width)
        patches = [(high // self.patch) * (wide // self.patch) for high, wide in views]
        counts = [self.queries or n // self.shrink for n in patches]
        cut = f"{grid[0]} x {grid[1]} slices (rows x columns), and an overview" if grid[0] else "one view"
        each = f"{self.queries} queries each" if self.queries else f"{self.shrink} patches a token"
        steps = (
            Step(f"{height:,} x {width:,} in slices of about {self.side}², at most {_SLICES}", cut),
            Step(f"{len(views)} views, {each}", f"{sum(counts):,}"),
        )
        return Cost(placeholders=sum(counts), marks=self.marks, positions=sum(patches), tiles=len(views), steps=steps)


def _ensured(length: int, unit: int) -> int:
    """`ensure_divide`."""
    return max(_rounded(single(length / unit)) * unit, unit)


class EdgeTiles(tiles.EdgeTiles, frozen=True, kw_only=True):
    """Idefics3 and SmolVLM: always cut; with limits of tokens the resized size keeps to them."""

    merge: int
    least: int | None = None  # tokens
    most_tokens: int | None = None

    def grid(self, height: int, width: int) -> Size:
        """Rows and columns of tiles; none where nothing is left of the shorter side."""
        ratio = single(width / height)
        high = wide = self.edge
        if width >= height:
            high = int(single(self.edge / ratio))
            high += high % 2
        else:
            wide = int(single(self.edge * ratio))
            wide += wide % 2
        if self.least is not None or self.most_tokens is not None:
            area = (self.patch * self.merge) ** 2
            limits = (self.least or 1) * area, (self.most_tokens or _TOKENS) * area
            high, wide = preserved(max(high, 1), max(wide, 1), self.tile, *limits)
        return math.ceil(high / self.tile), math.ceil(wide / self.tile)


class SmallOrTiled(tiles.SmallOrTiled, frozen=True, kw_only=True):
    """LFM2-VL: as its processor does, the small size in 32 bits."""

    def small(self, height: int, width: int) -> Size:
        """The size of a small image, or of the thumbnail."""
        unit = self.patch * self.merge
        return preserved(height, width, unit, self.least * unit**2, self.most * unit**2)


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
    "kimik25": Projector(rule=_dynamic(2, 4096)),
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
}
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
        raise Refused(
            f"llama.cpp's projector `{projector[:40]}` was not read", see="the rules cover " + ", ".join(sorted(PROJECTORS))
        )
    return row.rule(Settings(hparams, source), limits, row.marks)


def takes_limits(rule: ImageRule) -> bool:
    """Whether `--image-max-tokens` changes anything."""
    return isinstance(rule, _LIMITED)
