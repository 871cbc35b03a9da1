"""Images in llama.cpp: its own preprocessors, by the projector of the mmproj file, with its own limits and tilings.

Everything is computed in 32-bit floats, halves are rounded away from zero. `--image-min-tokens` and `--image-max-tokens`
replace the limits of the kinds that have any. Source: llama.cpp 0c1e57098, `tools/mtmd/mtmd-image.cpp` (sizes),
`clip.cpp:load_hparams` (limits), `clip_n_output_tokens` (counts), `mtmd.cpp:init_vision` (tokens around).
"""

import math
from typing import Final

from kvplan.domain.media import grids, tiles
from kvplan.domain.media.cost import Cost, Step
from kvplan.domain.media.images import ImageRule, Size
from kvplan.domain.media.sizes import single

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


class PixelSize(DynamicSize, frozen=True, kw_only=True):
    """A range of pixels that the projector's file says, whatever `--image-max-tokens` says; `around`: tokens of the tower itself.

    `rows_end`: a token of the tower ends each row (HunYuan-VL).
    """

    rows_end: bool = False
    around: int = 0

    def one(self, height: int, width: int) -> Cost:
        """Rows and columns of the resized image; `least` and `most` are pixels here."""
        unit = self.patch * self.merge
        high, wide = preserved(height, width, unit, self.least, self.most)
        rows, columns = high // unit, wide // unit
        count = rows * (columns + self.rows_end) + self.around
        return _counted(height, width, (high, wide), unit, count, self.marks, rows * columns * self.merge**2)


class LongestEdge(ImageRule, frozen=True, kw_only=True):
    """The longer side becomes `edge`, enlarged too; `least` and `most` tokens where given (LightOnOCR)."""

    patch: int
    merge: int
    edge: int
    least: int | None = None
    most: int | None = None

    def one(self, height: int, width: int) -> Cost:
        """Rows and columns of the resized image."""
        unit = self.patch * self.merge
        scale = min(single(self.edge / width), single(self.edge / height))
        high, wide = (math.ceil(_divided(single(side * scale), unit)) * unit for side in (height, width))
        if self.most and high * wide > self.most * unit**2:
            shrink = single(math.sqrt(single(single(height * width) / (self.most * unit**2))))
            high, wide = (max(unit, math.floor(_divided(single(side / shrink), unit)) * unit) for side in (height, width))
        elif self.least and high * wide < self.least * unit**2:
            grow = single(math.sqrt(single(single(self.least * unit**2) / (height * width))))
            high, wide = (math.ceil(_divided(single(side * grow), unit)) * unit for side in (height, width))
        count = (high // unit) * (wide // unit)
        return _counted(height, width, (high, wide), unit, count, self.marks, count * self.merge**2)


class Stepped(ImageRule, frozen=True, kw_only=True):
    """Made smaller in steps of a fiftieth until its patches are few enough (Youtu-VL)."""

    patch: int
    merge: int
    most: int  # pixels

    def one(self, height: int, width: int) -> Cost:
        """Rows and columns of the resized image."""
        unit, scale = self.patch * self.merge, 1.0
        step, limit = single(0.02), self.most // self.patch**2
        high = wide = unit
        while scale > 0:
            high, wide = (max(unit, math.ceil(_divided(single(side * scale), unit)) * unit) for side in (height, width))
            if (high // self.patch) * (wide // self.patch) <= limit:
                break
            scale = single(scale - step)
        count = (high // unit) * (wide // unit)
        return _counted(height, width, (high, wide), unit, count, self.marks, count * self.merge**2)


class Canvas(ImageRule, frozen=True, kw_only=True):
    """Whole groups of patches that hold the image, of a height that is searched for where they are too many (GLM-5V)."""

    patch: int
    merge: int
    least: int  # pixels
    most: int

    def one(self, height: int, width: int) -> Cost:
        """Rows and columns of the canvas."""
        unit = self.patch * self.merge
        high, wide = (_aligned(side, unit) for side in (height, width))
        if high * wide < self.least:
            scale = math.sqrt(self.least / (height * width))
            high, wide = (_aligned(max(1, math.ceil(side * scale)), unit) for side in (height, width))
        if high * wide > self.most:
            low, top, (high, wide) = 1, height, (unit, unit)
            while low <= top:
                middle = (low + top) // 2
                tried = _aligned(middle, unit), _aligned(max(1, width * middle // height), unit)
                if tried[0] * tried[1] <= self.most:
                    (high, wide), low = tried, middle + 1
                else:
                    top = middle - 1
        count = (high // unit) * (wide // unit)
        return _counted(height, width, (high, wide), unit, count, self.marks, count * self.merge**2)


class NearestGrid(ImageRule, frozen=True, kw_only=True):
    """The grid of the nearest ratio within a limit, of equal ones the larger (Muse Glimmer)."""

    unit: int
    most: int  # tokens

    def one(self, height: int, width: int) -> Cost:
        """Rows and columns of the grid."""
        high, wide = height / self.unit, width / self.unit
        ratio = wide / high
        if high * wide > self.most:
            high = math.sqrt(self.most / ratio)
            wide = high * ratio
        tried = [(r, c) for r in (math.floor(high), math.ceil(high)) for c in (math.floor(wide), math.ceil(wide))]
        fit = [(r, c) for r, c in tried if r >= 1 and c >= 1 and r * c <= self.most]
        rows, columns = (
            min(fit, key=lambda grid: (abs(grid[0] / grid[1] - height / width), -grid[0] * grid[1]))
            if fit
            else (max(1, _rounded(high)), max(1, _rounded(wide)))
        )
        size = rows * self.unit, columns * self.unit
        return _counted(height, width, size, self.unit, rows * columns, self.marks, rows * columns * 4)


class GlobalAndTiles(ImageRule, frozen=True, kw_only=True):
    """A padded view, and tiles of the closest ratio where a side is longer than one (DeepSeek-OCR 2)."""

    side: int
    tile: int
    patch: int
    least: int
    most: int

    def one(self, height: int, width: int) -> Cost:
        """The view with its separator, and the tiles."""
        view, each = ((side // self.patch) ** 2 // 16 for side in (self.side, self.tile))
        columns = rows = 0
        if max(height, width) > self.tile:
            columns, rows = self._closest(height, width)
        count = view + 1 + columns * rows * each
        steps = (
            Step(f"{height:,} x {width:,}: the padded view of {self.side}", f"{view + 1:,}"),
            Step(f"tiles of {self.tile}, {each} tokens each", f"{rows} x {columns} (rows x columns)"),
            Step("together", f"{count:,}"),
        )
        return Cost(placeholders=count, marks=self.marks, tiles=columns * rows + 1, steps=steps)

    def order(self) -> list[tuple[int, int]]:
        """(columns, rows) as they are looked at: by tiles, then as the engine's growing squares meet them."""
        return sorted(grids.grids(self.least, self.most), key=lambda grid: (grid[0] * grid[1], max(*grid, self.least), grid))

    def _closest(self, height: int, width: int) -> tuple[int, int]:
        """`find_closest_aspect_ratio`: (columns, rows), in 32 bits."""
        ratio, best, difference = single(width / height), (1, 1), math.inf
        for columns, rows in self.order():
            apart = single(abs(ratio - single(columns / rows)))
            larger = single(height * width) > 0.5 * self.tile * self.tile * columns * rows
            if apart < difference or (apart == difference and larger):
                best = (columns, rows)
            difference = min(difference, apart)
        return best


class SlidingCrops(tiles.SlidingCrops, frozen=True, kw_only=True):
    """Step3-VL: as its processor does, in 32 bits."""

    def grid(self, height: int, width: int) -> Size:
        """Rows and columns of crops; none where the view is enough."""
        ratio = single(width / height)
        if min(width, height) < 32 and (ratio > 4 or ratio < 0.25):
            width = height = max(width, height)
        if max(height, width) > self.most:
            scale = single(self.most / max(height, width))
            width, height = (max(1, math.floor(single(side * scale))) for side in (width, height))
        shorter, longer = min(height, width), max(height, width)
        ratio = single(longer / shorter)
        window = (shorter if ratio > 1.5 else 0) if longer <= self.side else min(shorter, self.crop) if ratio > 4 else self.crop
        if not window:
            return 0, 0
        rows, columns = (self._pieces(length, window) for length in (height, width))
        return rows, columns

    @staticmethod
    def _pieces(length: int, window: int) -> int:
        ratio = single(length / window)
        extent = length if ratio < 1 else window * (math.floor(ratio) + (single(ratio - math.floor(ratio)) > single(0.2)))
        return 1 if extent <= window else math.ceil(single(single((extent - window) / window) + 1))


def _aligned(length: int, unit: int) -> int:
    return -(-length // unit) * unit


def _counted(height: int, width: int, size: Size, unit: int, count: int, marks: int, positions: int) -> Cost:
    """A resized image in groups of `unit` pixels."""
    high, wide = size
    steps = (
        Step(f"{height:,} x {width:,} resized", f"{high:,} x {wide:,}"),
        Step(f"rows and columns of {unit}", f"{high // unit:,} x {wide // unit:,}: {count:,}"),
    )
    return Cost(placeholders=count, marks=marks, positions=positions, tiles=1, steps=steps)


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
