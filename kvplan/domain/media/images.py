"""Rules by which preprocessors turn an image into tokens: each a value whose fields are the model's numbers.

`rule.of(sizes)` is what all images of one prompt cost, `rule.one(height, width)` one alone. Sizes are pixels, height first.
"""

import math
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from kvplan.domain.media import sizes
from kvplan.domain.media.cost import Cost, NotTaken, Step, total

Size = tuple[int, int]


class ImageRule(Struct, frozen=True, kw_only=True):
    """What one image costs; several cost their sum unless a rule says otherwise."""

    marks: int = 0  # special tokens around each image

    def one(self, height: int, width: int) -> Cost:
        """One image alone in its prompt.

        Raises:
            NotTaken: the processor refuses it.
        """
        raise NotImplementedError

    def of(self, images: Sequence[Size]) -> Cost:
        """All images of one prompt.

        Raises:
            NotTaken: the processor refuses one.
        """
        known = {size: self.one(*size) for size in dict.fromkeys(images)}
        return total(known[size] for size in images)


def sized(height: int, width: int) -> str:
    """A size in words."""
    return f"{height:,} x {width:,}"


class Fixed(ImageRule, frozen=True, kw_only=True):
    """Every image is brought to one size: the same tokens whatever it was."""

    placeholders: int
    side: int | None = None  # pixels
    positions: int | None = None
    tiles: int | None = 1

    def one(self, height: int, width: int) -> Cost:
        """The same for every size."""
        size = sized(self.side, self.side) if self.side else "one size"
        steps = (Step(f"{sized(height, width)} resized, whatever its size", size), Step("tokens of it", f"{self.placeholders:,}"))
        return Cost(placeholders=self.placeholders, marks=self.marks, positions=self.positions, tiles=self.tiles, steps=steps)


class PixelRange(ImageRule, frozen=True, kw_only=True):
    """Multiples of patch x merge within a range of pixels (Qwen-VL and its kin).

    `how`: `plain`, `frames` (an image counts as two frames, GLM), `grown` (a short side grows first, PaddleOCR).
    `breaks`: one token a row and two around, all of them filled by the tower (HunYuan).
    Source: `qwen2_vl/image_processing_qwen2_vl.py:smart_resize`, `processing_qwen2_vl.py:replace_image_token`.
    """

    patch: int
    merge: int
    least: int  # pixels
    most: int
    how: Literal["plain", "frames", "grown"] = "plain"
    breaks: bool = False

    @property
    def factor(self) -> int:
        """Pixels of a token's side."""
        return self.patch * self.merge

    def resized(self, height: int, width: int) -> Size:
        """The size that is cut into patches.

        Raises:
            NotTaken: the sides are too unequal.
        """
        if self.how == "frames":
            return sizes.frame_range(2, height, width, self.factor, self.least, self.most)
        if self.how == "grown":
            height, width = sizes.grown(height, width, self.factor)
        return sizes.pixel_range(height, width, self.factor, self.least, self.most)

    def one(self, height: int, width: int) -> Cost:
        """Patches of the resized image, merged."""
        high, wide = self.resized(height, width)
        rows, columns = high // self.patch, wide // self.patch
        placeholders = rows * columns // self.merge**2
        steps = [
            Step(
                f"{sized(height, width)} to multiples of {self.factor} within {self.least:,} to {self.most:,} pixels"
                f"{' over two frames' if self.how == 'frames' else ''}",
                sized(high, wide),
            ),
            Step(f"patches of {self.patch}", f"{rows:,} x {columns:,} = {rows * columns:,}"),
        ]
        if self.merge > 1:
            steps.append(Step(f"merged {self.merge} x {self.merge}", f"{placeholders:,}"))
        if self.breaks:
            placeholders = (high // self.factor) * (wide // self.factor + 1) + 2
            steps.append(Step("a token a row, and two around", f"{placeholders:,}"))
        return Cost(placeholders=placeholders, marks=self.marks, positions=rows * columns, steps=tuple(steps))


class NearestGrid(ImageRule, frozen=True, kw_only=True):
    """The grid of the nearest ratio, with a limit of tokens (Muse Glimmer)."""

    patch: int
    merge: int
    most: int  # tokens

    def one(self, height: int, width: int) -> Cost:
        """Rows x columns."""
        unit = self.patch * self.merge
        rows, columns = sizes.nearest_grid(height, width, unit, self.most)
        steps = (
            Step(f"{sized(height, width)} over {unit} pixels, at most {self.most:,}", f"grid {rows:,} x {columns:,}"),
            Step("a token each", f"{rows * columns:,}"),
        )
        count = rows * columns
        return Cost(placeholders=count, marks=self.marks, positions=count * self.merge**2, steps=steps)


class Native(ImageRule, frozen=True, kw_only=True):
    """Native resolution, shrunk to a limit of patches and never enlarged (Kimi K2.5; `kimi_k25:navit_resize`)."""

    patch: int
    merge: int
    patches: int
    side: int  # patches

    def one(self, height: int, width: int) -> Cost:
        """Patches of the padded size, merged."""
        high, wide = sizes.native(height, width, self.patch, self.merge, self.patches, self.side)
        rows, columns = high // self.patch, wide // self.patch
        count = rows * columns // self.merge**2
        steps = (
            Step(f"{sized(height, width)} to at most {self.patches:,} patches of {self.patch}, padded", sized(high, wide)),
            Step(f"{rows:,} x {columns:,} patches merged {self.merge} x {self.merge}", f"{count:,}"),
        )
        return Cost(placeholders=count, marks=self.marks, positions=rows * columns, steps=steps)


class Soft(ImageRule, frozen=True, kw_only=True):
    """A budget of soft tokens (Gemma 4; `gemma4/image_processing_gemma4.py`)."""

    patch: int
    pool: int
    tokens: int

    def one(self, height: int, width: int) -> Cost:
        """Pooled patches of the size that the budget allows."""
        high, wide = sizes.soft(height, width, self.patch, self.pool, self.tokens)
        positions = (high // self.patch) * (wide // self.patch)
        count = positions // self.pool**2
        steps = (
            Step(
                f"{sized(height, width)} to the pixels of {self.tokens:,} tokens of {self.patch * self.pool}", sized(high, wide)
            ),
            Step(f"{positions:,} patches of {self.patch} pooled {self.pool} x {self.pool}", f"{count:,}"),
        )
        return Cost(placeholders=count, marks=self.marks, positions=positions, steps=steps)


class Edge(ImageRule, frozen=True, kw_only=True):
    """The longest edge has a limit; a break ends each row, the last is the end (Pixtral, Mistral 3)."""

    edge: int
    patch: int
    merge: int

    def one(self, height: int, width: int) -> Cost:
        """Rows and columns of tokens.

        Raises:
            NotTaken: nothing is left of the shorter side.
        """
        high, wide = sizes.shrunk(height, width, self.edge)
        if not high or not wide:
            raise sizes.no_side(high, wide)
        return self.counted(height, width, high, wide)

    def counted(self, height: int, width: int, high: int, wide: int) -> Cost:
        """The tokens of an image that became `high` x `wide`."""
        unit = self.patch * self.merge
        rows, columns = (high - 1) // unit + 1, (wide - 1) // unit + 1
        steps = (
            Step(f"{sized(height, width)} to at most {self.edge:,} a side", sized(high, wide)),
            Step(f"rows and columns of {unit}", f"{rows:,} x {columns:,} = {rows * columns:,}"),
            Step("a break ends each row", f"{rows:,}"),
        )
        return Cost(placeholders=rows * columns, marks=rows, positions=rows * columns * self.merge**2, steps=steps)


class PanAndScan(ImageRule, frozen=True, kw_only=True):
    """One view of fixed size, and crops of long images where that is switched on (Gemma 3).

    Source: `gemma3/image_processing_gemma3.py:pan_and_scan`.
    """

    per_view: int
    positions: int  # a view
    crops: bool = False
    least_side: int = 256
    most_crops: int = 4
    ratio: float = 1.2

    def cut(self, height: int, width: int) -> int:
        """How many crops."""
        longer, shorter = max(height, width), min(height, width)
        if not self.crops or longer / shorter < self.ratio:
            return 0
        count = math.floor(longer / shorter + 0.5)
        count = min(self.most_crops, max(2, min(longer // self.least_side, count)))
        return 0 if min(math.ceil(longer / count), shorter) < self.least_side else count

    def one(self, height: int, width: int) -> Cost:
        """The view, and crops."""
        crops = self.cut(height, width)
        views = crops + 1
        steps = [Step(f"{sized(height, width)} resized, whatever its size", "one view")]
        if crops:
            steps.append(Step("pan and scan", f"{crops} crops"))
        steps.append(Step(f"{self.per_view:,} tokens a view", f"{views * self.per_view:,}"))
        return Cost(
            placeholders=views * self.per_view,
            marks=2 * views,
            positions=views * self.positions,
            tiles=views,
            steps=tuple(steps),
        )


class Quarters(ImageRule, frozen=True, kw_only=True):
    """A resampler's queries for each view; the four quarters are views too (Idefics 2).

    Source: `idefics2/image_processing_idefics2.py`.
    """

    per_view: int
    shortest: int
    longest: int
    patch: int
    split: bool

    def resized(self, height: int, width: int) -> Size:
        """One view's size in pixels.

        Raises:
            NotTaken: a side of nothing.
        """
        if not height or not width:
            raise NotTaken("division by zero: a quarter of the image has no pixels")
        ratio = width / height
        if width >= height and width > self.longest:
            width = self.longest
            height = int(width / ratio)
        elif height > width and height > self.longest:
            height = self.longest
            width = int(height * ratio)
        return max(height, self.shortest), max(width, self.shortest)

    def views(self, height: int, width: int) -> list[Size]:
        """The sizes of the views."""
        found = [(height, width)]
        if self.split:
            top, left = height // 2, width // 2
            found = [(h, w) for h in (top, height - top) for w in (left, width - left)] + found
        return [self.resized(h, w) for h, w in found]

    def one(self, height: int, width: int) -> Cost:
        """The queries of each view."""
        return self.of([(height, width)])

    def of(self, images: Sequence[Size]) -> Cost:
        """All views are padded to the largest of the prompt; neighbouring marks are one."""
        views = [size for height, width in images for size in self.views(height, width)]
        high, wide = max(h for h, _ in views), max(w for _, w in views)
        each = len(views) // len(images)
        steps = (
            Step(f"{sized(*images[0])}{': four quarters and the whole' if self.split else ''}", f"{each} views"),
            Step("padded to the largest", sized(high, wide)),
            Step(f"{self.per_view} tokens a view", f"{each * self.per_view}"),
        )
        return Cost(
            placeholders=len(views) * self.per_view,
            marks=len(views) + 1,
            positions=len(views) * (high // self.patch) * (wide // self.patch),
            tiles=len(views),
            steps=steps,
        )


class Capped(ImageRule, frozen=True, kw_only=True):
    """Native resolution shrunk to a number of patches, padded to whole groups (Kimi-VL).

    Source: vllm 0.33, `kimi_vl.py:get_num_image_tokens`.
    """

    patch: int
    merge: int
    patches: int

    def one(self, height: int, width: int) -> Cost:
        """Groups across and down."""
        count, high, wide = (width // self.patch) * (height // self.patch), height, width
        if count > self.patches:
            scale = math.sqrt(self.patches / count)
            high, wide = int(height * scale), int(width * scale)
        unit = self.patch * self.merge
        rows, columns = math.ceil(high / unit), math.ceil(wide / unit)
        steps = (
            Step(f"{sized(height, width)} to at most {self.patches:,} patches of {self.patch}", sized(high, wide)),
            Step(f"padded, merged {self.merge} x {self.merge}", f"{rows} x {columns} = {rows * columns:,}"),
        )
        return Cost(placeholders=rows * columns, marks=self.marks, positions=rows * columns * self.merge**2, steps=steps)


class PaddedRange(ImageRule, frozen=True, kw_only=True):
    """Whole groups of patches that hold the image, within a range of tokens (GLM-5 Next; `glm5_next/image_processing_…`)."""

    patch: int
    merge: int
    least: int  # tokens
    most: int
    group: int = 2

    def one(self, height: int, width: int) -> Cost:
        """Patches of the padded size, merged."""
        high, wide = sizes.padded_up(self.group, height, width, self.patch * self.merge, self.least, self.most, self.group)
        rows, columns = high // self.patch, wide // self.patch
        count = rows * columns // self.merge**2
        steps = (
            Step(
                f"{sized(height, width)} up to multiples of {self.patch * self.merge}, {self.least:,} to {self.most:,} tokens",
                sized(high, wide),
            ),
            Step(f"{rows:,} x {columns:,} patches merged {self.merge} x {self.merge}", f"{count:,}"),
        )
        return Cost(placeholders=count, marks=self.marks, positions=rows * columns, steps=steps)


class Within(ImageRule, frozen=True, kw_only=True):
    """Made smaller to fit a canvas, never larger; patches in whole rows, a break ends each (Fuyu).

    Source: `fuyu/image_processing_fuyu.py:resize`, `processing_fuyu.py:_process_images`.
    """

    height: int  # of the canvas
    width: int
    patch: int

    def one(self, height: int, width: int) -> Cost:
        """Rows and columns of patches; nothing but a projection sees them.

        Raises:
            NotTaken: nothing is left of a side.
        """
        high, wide = height, width
        if height > self.height or width > self.width:
            scale = min(self.height / height, self.width / width)
            high, wide = int(height * scale), int(width * scale)
        if not high or not wide:
            raise sizes.no_side(high, wide)
        rows, columns = math.ceil(high / self.patch), math.ceil(wide / self.patch)
        steps = (
            Step(f"{sized(height, width)} to at most {sized(self.height, self.width)}, never larger", sized(high, wide)),
            Step(f"rows and columns of {self.patch}", f"{rows:,} x {columns:,} = {rows * columns:,}"),
            Step("a break ends each row", f"{rows:,}"),
        )
        return Cost(placeholders=rows * columns, marks=self.marks + rows, steps=steps)
