"""Rules of preprocessors that cut an image into tiles, crops or slices."""

import math
from collections.abc import Sequence
from typing import Literal

from kvplan.domain.media import grids, sizes
from kvplan.domain.media.cost import Cost, NotTaken, Step, total
from kvplan.domain.media.images import ImageRule, Size, sized


class Tiles(ImageRule, frozen=True, kw_only=True):
    """Tiles of one size and a thumbnail (InternVL, Aya Vision, Command A Vision, Ovis 2).

    `choice`: how the grid is found (`grids.py`). `tile_marks`: special tokens a tile; `separators`: between columns and rows.
    """

    tile: int
    least: int
    most: int
    per_tile: int  # placeholders
    positions: int | None = None  # a tile
    choice: Literal["closest", "least enlarging", "covering"] = "closest"
    tile_marks: int = 0
    separators: bool = False
    thumbnail: bool = True
    crop: bool = True

    def grid(self, height: int, width: int) -> grids.Grid:
        """(columns, rows)."""
        if not self.crop:
            return 1, 1
        if self.choice == "least enlarging":
            return grids.least_enlarging(height, width, self.tile, self.most)
        if self.choice == "covering":
            rows, columns = grids.covering(height, width, self.tile, self.most)
            return columns, rows
        return grids.closest(height, width, self.tile, self.least, self.most)

    def one(self, height: int, width: int) -> Cost:
        """Tiles, the thumbnail where there are several, and what stands between them."""
        columns, rows = self.grid(height, width)
        tiles = columns * rows + (self.thumbnail and columns * rows > 1)
        between = (columns - 1) * rows + rows - 1 if self.separators else 0
        steps = [
            Step(
                f"{sized(height, width)} in tiles of {self.tile}, {self.least} to {self.most}",
                f"{rows} x {columns} (rows x columns)",
            )
        ]
        if tiles > columns * rows:
            steps.append(Step("and a thumbnail", f"{tiles} tiles"))
        steps.append(Step(f"{self.per_tile:,} tokens a tile", f"{tiles * self.per_tile:,}"))
        return Cost(
            placeholders=tiles * self.per_tile,
            marks=self.marks + tiles * self.tile_marks + between,
            positions=None if self.positions is None else tiles * self.positions,
            tiles=tiles,
            steps=tuple(steps),
        )


class SmallOrTiled(ImageRule, frozen=True, kw_only=True):
    """Small images by a pixel range, large ones in tiles with a thumbnail (LFM2-VL).

    Source: `lfm2_vl/image_processing_lfm2_vl.py`, `processing_lfm2_vl.py:_build_image_tokens`.
    """

    tile: int
    least_tiles: int
    most_tiles: int
    least: int  # tokens
    most: int
    patch: int
    merge: int
    tolerance: float = 2.0
    split: bool = True
    thumbnail: bool = True

    def small(self, height: int, width: int) -> Size:
        """The size of a small image, or of the thumbnail."""
        unit = self.patch * self.merge
        high, wide = max(unit, round(height / unit) * unit), max(unit, round(width / unit) * unit)
        most, least = self.most * unit**2, self.least * unit**2
        if least <= high * wide <= most:
            return high, wide
        if high * wide > most:
            scale = math.sqrt(height * width / most)
            return max(unit, math.floor(height / scale / unit) * unit), max(unit, math.floor(width / scale / unit) * unit)
        scale = math.sqrt(least / (height * width))
        return math.ceil(height * scale / unit) * unit, math.ceil(width * scale / unit) * unit

    def large(self, height: int, width: int) -> bool:
        """Whether it is cut."""
        unit = self.patch * self.merge
        high, wide = (max(self.patch, round(side / unit) * unit) for side in (height, width))
        return self.split and high * wide > self.most * unit**2 * self.tolerance

    def one(self, height: int, width: int) -> Cost:
        """One view, or tiles of equal size and a thumbnail."""
        high, wide = self.small(height, width)
        view = math.ceil(high // self.patch / self.merge) * math.ceil(wide // self.patch / self.merge)
        positions = (high // self.patch) * (wide // self.patch)
        first = Step(
            f"{sized(height, width)} to {self.least} to {self.most} tokens of {self.patch * self.merge}", sized(high, wide)
        )
        columns, rows = (
            grids.closest(height, width, self.tile, self.least_tiles, self.most_tiles) if self.large(height, width) else (1, 1)
        )
        if columns * rows == 1:
            return Cost(
                placeholders=view,
                marks=self.marks,
                positions=positions,
                tiles=1,
                steps=(first, Step("tokens of it", f"{view:,}")),
            )
        side = self.tile // self.patch
        each, count, shown = math.ceil(side / self.merge) ** 2, columns * rows, int(self.thumbnail)
        steps = (
            Step(
                f"{sized(height, width)} is large: tiles of {self.tile}",
                f"{rows} x {columns} (rows x columns), {each:,} tokens each",
            ),
            Step("and a thumbnail", f"{sized(high, wide)}, {view:,} tokens"),
        )
        return Cost(
            placeholders=count * each + shown * view,
            marks=self.marks + count + shown,
            positions=count * side**2 + shown * positions,
            tiles=count + shown,
            steps=steps,
        )


class Pinpoints(ImageRule, frozen=True, kw_only=True):
    """One of several resolutions, without the padding's features, and an overview (LLaVA-NeXT, Granite Vision, OneVision).

    `overview`: tokens of the overview. `most`: OneVision shrinks features beyond so many tiles; several images are one tile
    each there. Source: `llava_next/processing_llava_next.py`, `llava_onevision/processing_llava_onevision.py`.
    """

    tile: int
    side: int  # features of a tile's side
    candidates: tuple[Size, ...]
    overview: int
    positions: int  # a tile
    most: int | None = None  # tiles

    def one(self, height: int, width: int) -> Cost:
        """Features of the grid, a newline a row, the overview."""
        high, wide = grids.pinpoint(height, width, self.candidates)
        scale = high // self.tile, wide // self.tile
        rows, columns = grids.unpadded(height, width, self.side * scale[0], self.side * scale[1])
        tiles = scale[0] * scale[1] + 1
        steps = [
            Step(
                f"{sized(height, width)}: of {len(self.candidates)} resolutions",
                f"{sized(high, wide)}, {tiles - 1} tiles of {self.tile}",
            ),
            Step("features without padding", f"{rows} x {columns}"),
        ]
        if self.most is not None:
            ratio = math.sqrt(rows * columns / (self.most * self.side**2))
            if ratio > 1.1:
                rows, columns = int(rows // ratio), int(columns // ratio)
                steps.append(Step(f"shrunk to those of {self.most} tiles", f"{rows} x {columns}"))
        count = rows * columns + rows + self.overview
        steps.append(Step(f"a newline a row, {self.overview:,} of the overview", f"{count:,}"))
        return Cost(placeholders=count, marks=self.marks, positions=tiles * self.positions, tiles=tiles, steps=tuple(steps))

    def of(self, images: Sequence[Size]) -> Cost:
        """OneVision: several images of one prompt are one tile and a newline each."""
        if self.most is None or len(images) < 2:
            return super().of(images)
        count, tiles = len(images), len(images)
        steps = (Step("several images: one tile and a newline each", f"{count} x {self.overview + 1:,}"),)
        return Cost(placeholders=count * (self.overview + 1), positions=tiles * self.positions, tiles=tiles, steps=steps)


class CrossTiles(ImageRule, frozen=True, kw_only=True):
    """Tiles that cross-attention reads: one token in the text, keys beside it (Llama 3.2 Vision).

    Keys are kept for `most` tiles whatever the image needs: those of padding are encoded too.
    Source: `mllama/image_processing_mllama.py`, `modeling_mllama.py`.
    """

    tile: int
    most: int
    patch: int

    def one(self, height: int, width: int) -> Cost:
        """One token; the keys of all tiles."""
        columns, rows = grids.smallest_canvas(height, width, self.tile, self.most)
        each = (self.tile // self.patch) ** 2 + 1
        steps = (
            Step(f"{sized(height, width)} in tiles of {self.tile}, at most {self.most}", f"{rows} x {columns} (rows x columns)"),
            Step(f"padded to {self.most} tiles of {each:,} positions", f"{each * self.most:,} keys a cross-attention layer"),
        )
        return Cost(placeholders=1, positions=each * self.most, tiles=columns * rows, cross=each * self.most, steps=steps)


class Llama4Tiles(ImageRule, frozen=True, kw_only=True):
    """Tiles by the least enlarging canvas, separators between, and one global tile (Llama 4)."""

    tile: int
    most: int
    patch: int
    shuffle: float

    def one(self, height: int, width: int) -> Cost:
        """Tokens a tile after the pixel shuffle."""
        columns, rows = grids.smallest_canvas(height, width, self.tile, self.most, singly=True)
        count = columns * rows
        tiles = count + 1 if count > 1 else 1
        each = int((self.tile // self.patch) ** 2 * self.shuffle**2)
        between = (columns - 1) * rows + rows if count > 1 else 0
        steps = (
            Step(f"{sized(height, width)} in tiles of {self.tile}, at most {self.most}", f"{rows} x {columns} (rows x columns)"),
            Step(f"{each:,} tokens a tile{', one global tile more' if count > 1 else ''}", f"{tiles * each:,}"),
        )
        return Cost(
            placeholders=tiles * each,
            marks=3 + between,
            positions=tiles * ((self.tile // self.patch) ** 2 + 1),
            tiles=tiles,
            steps=steps,
        )


class DynamicCrops(ImageRule, frozen=True, kw_only=True):
    """Crops that cover the image, padding left out, and a global view (Phi-4 multimodal).

    `refuses`: a resized side under 10 pixels is refused (transformers; vLLM counts on).
    Source: `phi4_multimodal/image_processing_phi4_multimodal.py:dynamic_preprocess, _preprocess`.
    """

    crop: int
    most: int
    patch: int
    refuses: bool = True

    def layout(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Crops across and down, and the padding's pixels right and below.

        Raises:
            NotTaken: a side is nearly nothing.
        """
        columns, rows = math.ceil(width / self.crop), math.ceil(height / self.crop)
        if columns * rows > self.most:
            columns, rows = grids.closest(height, width, self.crop, 1, self.most)
        wide, high = self.crop * columns, self.crop * rows
        across, down = wide / width, high / height
        size = (wide, int(height * across)) if across < down else (int(width * down), high)
        if self.refuses and min(size) < 10:
            raise NotTaken(f"the aspect ratio is very extreme {size}")
        return columns, rows, wide - size[0], high - size[1]

    def one(self, height: int, width: int) -> Cost:
        """Every second position of each crop, a newline a row, and 273 of the global view."""
        columns, rows, right, below = self.layout(height, width)
        side = self.crop // self.patch
        kept = [
            sum(
                1
                for crop in range(crops)
                for position in range(0, side, 2)
                if crop * side + position < crops * side - (padding // self.patch if padding >= self.patch else 0)
            )
            for crops, padding in ((rows, below), (columns, right))
        ]
        view = (side // 2) ** 2
        count = view + 1 + kept[0] * kept[1] + kept[0] + side // 2
        crops = columns * rows
        steps = (
            Step(f"{sized(height, width)} in crops of {self.crop}, at most {self.most}", f"{rows} x {columns} (rows x columns)"),
            Step("positions without padding, every second", f"{kept[0]} x {kept[1]}, a newline a row"),
            Step(f"and the global view, {view + 1 + side // 2}", f"{count:,}"),
        )
        return Cost(placeholders=count, positions=side**2 * (crops + 1), tiles=crops + 1, steps=steps)

    def of(self, images: Sequence[Size]) -> Cost:
        """All are padded to the most crops of one."""
        found = [self.one(height, width) for height, width in images]
        most = max((cost.tiles or 0 for cost in found), default=0)
        together = total(found)
        return Cost(
            placeholders=together.placeholders,
            positions=(self.crop // self.patch) ** 2 * most * len(found),
            tiles=most * len(found),
            steps=together.steps,
        )


class EdgeTiles(ImageRule, frozen=True, kw_only=True):
    """The longest edge becomes one length, then tiles of one size and the whole (Idefics 3, SmolVLM).

    Source: `idefics3/image_processing_idefics3.py`, `processing_idefics3.py:replace_image_token`.
    """

    edge: int
    tile: int
    per_tile: int
    patch: int
    split: bool = True
    limit: int = 4096

    def grid(self, height: int, width: int) -> Size:
        """Rows and columns of tiles; none when all fits into one."""
        if not self.split:
            return 0, 0
        high, wide = sizes.longest_edge(height, width, self.edge, self.limit)
        ratio = wide / high
        if wide >= high:
            wide = math.ceil(wide / self.tile) * self.tile
            high = math.ceil(int(wide / ratio) / self.tile) * self.tile
        else:
            high = math.ceil(high / self.tile) * self.tile
            wide = math.ceil(int(high * ratio) / self.tile) * self.tile
        if high <= self.tile and wide <= self.tile:
            return 0, 0
        return high // self.tile, wide // self.tile

    def one(self, height: int, width: int) -> Cost:
        """Tiles and the whole; small images are enlarged too."""
        rows, columns = self.grid(height, width)
        tiles = rows * columns + 1
        steps = (
            Step(
                f"{sized(height, width)}: the longer side becomes {self.edge:,}, tiles of {self.tile}",
                f"{rows} x {columns}, and the whole",
            ),
            Step(f"{self.per_tile} tokens a tile", f"{tiles * self.per_tile:,}"),
        )
        return Cost(
            placeholders=tiles * self.per_tile,
            marks=2 * rows * columns + 3,
            characters=rows + 1 if rows else 0,
            positions=tiles * (self.tile // self.patch) ** 2,
            tiles=tiles,
            steps=steps,
        )


class Slices(ImageRule, frozen=True, kw_only=True):
    """An overview and slices of about one resolution (MiniCPM-V 4.6).

    Source: `minicpmv4_6/image_processing_minicpmv4_6.py`, `processing_minicpmv4_6.py:replace_image_token`.
    """

    scale: int
    most: int
    patch: int
    merge: int  # patches of a resized size's unit
    shrink: int  # tokens: patches over this
    slice: bool = True

    def best(self, height: float, width: float, *, enlarge: bool) -> Size:
        """`find_best_resize`."""
        if height * width > self.scale * self.scale or enlarge:
            ratio = width / height
            high = int(self.scale / math.sqrt(ratio))
            height, width = high, int(high * ratio)
        unit = self.patch * self.merge
        return sizes.ensured(height, unit), sizes.ensured(width, unit)

    def views(self, height: int, width: int) -> tuple[list[Size], grids.Grid | None]:
        """Patches of each view, and the grid of slices."""
        grid = grids.sliced(height, width, self.scale, self.most) if self.slice else None
        found = [self.best(height, width, enlarge=grid is None)]
        if grid is not None:
            rows, columns = grid
            piece = self.best(sizes.ensured(height, rows) / rows, sizes.ensured(width, columns) / columns, enlarge=True)
            found += [piece] * (rows * columns)
        return [(high // self.patch, wide // self.patch) for high, wide in found], grid

    def one(self, height: int, width: int) -> Cost:
        """The overview's tokens and the slices'."""
        views, grid = self.views(height, width)
        counts = [rows * columns // self.shrink for rows, columns in views]
        cut = "not cut" if grid is None else f"{grid[0]} x {grid[1]} slices (rows x columns)"
        steps = (
            Step(f"{sized(height, width)} in slices of about {self.scale}², at most {self.most}", cut),
            Step(f"the overview: {views[0][0]} x {views[0][1]} patches, {self.shrink} a token", f"{counts[0]:,}"),
            *((Step(f"each slice: {views[1][0]} x {views[1][1]} patches", f"{counts[1]:,}"),) if grid else ()),
        )
        return Cost(
            placeholders=sum(counts),
            marks=2 * len(views) + self.marks,
            positions=sum(rows * columns for rows, columns in views),
            tiles=len(views),
            steps=steps,
        )


class Overlapping(ImageRule, frozen=True, kw_only=True):
    """Overlapping crops pooled together, column tokens after each row, and a low-resolution view (Molmo 2).

    Source: `molmo2/image_processing_molmo2.py:compute_crop_geometry`, `processing_molmo2.py:replace_image_token`.
    """

    side: int
    patch: int
    most: int
    margins: tuple[int, int]
    pool: int

    def one(self, height: int, width: int) -> Cost:
        """Pooled rows and columns of the crops, and those of the view."""
        patches, overlap = self.side // self.patch, sum(self.margins)
        window = patches - overlap
        tiled = grids.windows(height - overlap * self.patch, width - overlap * self.patch, window * self.patch, self.most)
        rows, columns = (math.ceil((window * count + overlap) / self.pool) for count in tiled)
        view, crops = math.ceil(patches / self.pool), tiled[0] * tiled[1] + 1
        steps = (
            Step(f"{sized(height, width)} in overlapping crops of {self.side}, at most {self.most}", f"{tiled[0]} x {tiled[1]}"),
            Step(f"pooled {self.pool} x {self.pool}", f"{rows} x {columns}, a column token a row"),
            Step("and the low-resolution view", f"{view} x {view}"),
        )
        return Cost(
            placeholders=rows * columns + view**2,
            marks=rows + view + 4,
            positions=crops * patches**2,
            tiles=crops,
            steps=steps,
        )


class GlobalAndTiles(ImageRule, frozen=True, kw_only=True):
    """A padded global view, and tiles of images that are longer than one (DeepSeek-OCR 2)."""

    side: int
    tile: int
    least: int
    most: int
    view: int  # tokens of the global view, with its separator
    per_tile: int
    crop: bool = True

    def one(self, height: int, width: int) -> Cost:
        """The view, and tiles.

        Raises:
            NotTaken: nothing is left of the shorter side.
        """
        scale = (self.side if self.crop else self.tile) / max(height, width)
        high, wide = round(height * scale), round(width * scale)
        if not high or not wide:
            raise sizes.no_side(high, wide)
        tiles, cut = 0, "none"
        if self.crop and max(height, width) > self.tile:
            columns, rows = grids.closest(height, width, self.tile, self.least, self.most)
            tiles, cut = columns * rows, f"{rows} x {columns} (rows x columns)"
        count = self.view + tiles * self.per_tile
        steps = (
            Step(f"{sized(height, width)}: the padded view of {self.side}", f"{self.view:,}"),
            Step(f"tiles of {self.tile}, {self.per_tile} tokens each", cut),
            Step("together", f"{count:,}"),
        )
        return Cost(placeholders=count, marks=self.marks, steps=steps)


class EnlargingTiles(ImageRule, frozen=True, kw_only=True):
    """Tiles of the canvas that enlarges most, and a thumbnail (Perception LM)."""

    tile: int
    most: int
    per_tile: int
    thumbnail: bool = True

    def one(self, height: int, width: int) -> Cost:
        """Tokens of all tiles."""
        columns, rows = grids.enlarging_canvas(height, width, self.tile, self.most)
        tiles = columns * rows + self.thumbnail
        steps = (
            Step(f"{sized(height, width)} in tiles of {self.tile}, at most {self.most}", f"{rows} x {columns} (rows x columns)"),
            Step(f"{self.per_tile} tokens a tile, one thumbnail more", f"{tiles * self.per_tile:,}"),
        )
        return Cost(placeholders=tiles * self.per_tile, marks=self.marks, tiles=tiles, steps=steps)


class Candidates(ImageRule, frozen=True, kw_only=True):
    """One of several resolutions in tiles, a newline a row, a global view and a separator (DeepSeek-VL2).

    Three images and more of one prompt are a view each. Source: vllm 0.33, `deepseek_vl2.py:get_num_image_tokens`.
    """

    tile: int
    side: int  # features of a tile's side
    candidates: tuple[Size, ...]

    def one(self, height: int, width: int) -> Cost:
        """The view, the tiles, the separator."""
        high, wide = grids.pinpoint(height, width, self.candidates)
        return self._counted(
            f"{sized(height, width)}: of {len(self.candidates)} resolutions", high // self.tile, wide // self.tile
        )

    def of(self, images: Sequence[Size]) -> Cost:
        """More than two images are not cut."""
        if len(images) <= 2:
            return super().of(images)
        return total(self._counted("more than two images: one tile each", 1, 1) for _ in images)

    def _counted(self, what: str, rows: int, columns: int) -> Cost:
        n = self.side
        view, tiles = n * (n + 1), rows * n * (columns * n + 1)
        steps = (
            Step(what, f"{rows} x {columns} tiles of {self.tile} (rows x columns)"),
            Step(f"tiles of {n} x {n} features, a newline a row", f"{tiles:,}"),
            Step(f"and the view, {view:,}, and a separator", f"{view + tiles + 1:,}"),
        )
        return Cost(placeholders=view + tiles + 1, tiles=rows * columns + 1, steps=steps)


class SlidingCrops(ImageRule, frozen=True, kw_only=True):
    """Crops of a sliding window and a global view (Step 3.7; `step3p7/image_processing_step3p7.py:_plan_patches`)."""

    side: int  # of the view
    crop: int
    most: int  # pixels of the longer side
    view: int  # tokens of the view
    per_crop: int

    def grid(self, height: int, width: int) -> Size:
        """Rows and columns of crops; none where the view is enough."""
        if min(width, height) < 32 and max(width / height, height / width) > 4:
            width = height = max(width, height)
        if max(height, width) > self.most:
            scale = self.most / max(height, width)
            width, height = int(width * scale), int(height * scale)
        shorter, longer = min(height, width), max(height, width)
        if longer <= self.side:
            window = shorter if longer / shorter > 1.5 else 0
        else:
            window = min(shorter, self.crop) if longer / shorter > 4 else self.crop
        if not window:
            return 0, 0
        kept = [window * (n // window + (n % window > 0.2 * window)) if n >= window else n for n in (height, width)]
        return max(1, kept[0] // window), max(1, kept[1] // window)

    def one(self, height: int, width: int) -> Cost:
        """Tokens of the crops, a newline between rows, the view."""
        rows, columns = self.grid(height, width)
        crops = rows * columns
        steps = (
            Step(
                f"{sized(height, width)} in crops of {self.crop}",
                f"{rows} x {columns} (rows x columns), {self.per_crop} tokens each",
            ),
            Step(f"and the view of {self.side}, {self.view}", f"{crops * self.per_crop + self.view:,}"),
        )
        return Cost(
            placeholders=crops * self.per_crop + self.view,
            marks=2 * crops + max(0, rows - 1) + 2,
            tiles=crops + 1,
            steps=steps,
        )


class HdCrops(ImageRule, frozen=True, kw_only=True):
    """The longer side becomes as many crops as `most` allow, the other is padded to whole crops (Phi-3-Vision, Phi-3.5-Vision).

    Source: `image_processing_phi3_v.py` of the models' repositories: `calc_hd_transform_size`,
    `calc_num_image_tokens_from_image_size`; the same in vllm 0.5, `model_executor/models/phi3v.py`.
    """

    crop: int
    most: int
    per_crop: int
    positions: int  # a crop

    def one(self, height: int, width: int) -> Cost:
        """The crops and the whole; a separator ends each row of features, one more stands between both.

        Raises:
            NotTaken: nothing is left of the shorter side.
        """
        longer, shorter = max(height, width), min(height, width)
        ratio, along = longer / shorter, 1
        while along * math.ceil(along / ratio) <= self.most:
            along += 1
        along = max(along - 1, 1)
        across = math.ceil(int(along * self.crop / ratio) / self.crop)
        if not across:
            raise NotTaken("height and width must be > 0")
        rows, columns = (across, along) if width >= height else (along, across)
        side = math.isqrt(self.per_crop)
        breaks = (rows + 1) * side + 1
        count = (rows * columns + 1) * self.per_crop
        steps = (
            Step(f"{sized(height, width)} in at most {self.most} crops of {self.crop}", f"{rows} x {columns} (rows x columns)"),
            Step(f"{self.per_crop:,} tokens a crop, and of the whole", f"{count:,}"),
            Step("separators", f"{breaks:,}"),
        )
        views = self.most + 1  # those that are missing are padded, and seen all the same
        return Cost(placeholders=count + breaks, marks=self.marks, positions=views * self.positions, tiles=views, steps=steps)
