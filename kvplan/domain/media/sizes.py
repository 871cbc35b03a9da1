"""Sizes that an image is brought to: height and width in pixels, in and out. Arithmetic of floats as the processors do it.

Only multiplications, divisions and roots whose results are rounded at once; rounding to even is Python's own.
"""

import math
from struct import pack, unpack

from kvplan.domain.media.cost import NotTaken

#: `smart_resize` refuses images whose longer side is more than so many times the shorter.
RATIO = 200


def single(value: float) -> float:
    """The nearest number of 32 bits, for code that computes in them.

    >>> single(0.1) == 0.1
    False
    """
    found: float = unpack("f", pack("f", value))[0]
    return found


def refuse_ratio(height: float, width: float) -> None:
    """The test of the ratio of the sides.

    Raises:
        NotTaken: the longer side is over 200 times the shorter.
    """
    if max(height, width) / min(height, width) > RATIO:
        raise NotTaken(f"absolute aspect ratio must be smaller than {RATIO}, got {max(height, width) / min(height, width)}")


def within(height: int, width: int, factor: int, least: int, most: int, *, frames: int = 1, rounded: int = 0) -> tuple[int, int]:
    """Multiples of `factor` whose product, over `frames`, is between `least` and `most` pixels.

    `rounded` are the frames that count for the comparison, where those are not `frames`.
    Source: `qwen2_vl/image_processing_qwen2_vl.py:smart_resize`, `qwen3_vl/video_processing_qwen3_vl.py:smart_resize`.

    >>> within(1080, 1920, 28, 3136, 12845056)
    (1092, 1932)
    """
    high, wide = round(height / factor) * factor, round(width / factor) * factor
    pixels = (rounded or frames) * high * wide
    if pixels > most:
        scale = math.sqrt(frames * height * width / most)
        high = max(factor, math.floor(height / scale / factor) * factor)
        wide = max(factor, math.floor(width / scale / factor) * factor)
    elif pixels < least:
        scale = math.sqrt(least / (frames * height * width))
        high, wide = math.ceil(height * scale / factor) * factor, math.ceil(width * scale / factor) * factor
    return high, wide


def pixel_range(height: int, width: int, factor: int, least: int, most: int) -> tuple[int, int]:
    """An image by its number of pixels.

    Raises:
        NotTaken: its sides are too unequal.
    """
    refuse_ratio(height, width)
    return within(height, width, factor, least, most)


def frame_range(frames: int, height: int, width: int, factor: int, least: int, most: int, group: int = 2) -> tuple[int, int]:
    """A video, or an image that counts as one, by the pixels of all its frames; small ones are enlarged first.

    Source: `qwen3_vl/video_processing_qwen3_vl.py`, `glm4v/image_processing_glm4v.py: smart_resize`.

    Raises:
        NotTaken: too few frames, or sides that are too unequal.
    """
    if frames < group:
        raise NotTaken(f"t:{frames} must be larger than temporal_factor:{group}")
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    refuse_ratio(height, width)
    return within(height, width, factor, least, most, frames=frames, rounded=round(frames / group) * group)


def grown(height: int, width: int, factor: int) -> tuple[int, int]:
    """A side shorter than `factor` grows to it, the other with it (`paddleocr_vl/image_processing_paddleocr_vl.py`)."""
    if height < factor:
        width, height = round(width * factor / height), factor
    if width < factor:
        height, width = round(height * factor / width), factor
    return height, width


def longest_edge(height: int, width: int, edge: int, most: int) -> tuple[int, int]:
    """The longer side becomes `edge`, the other keeps the ratio and is even; at most `most` a side.

    Source: `idefics3/image_processing_idefics3.py:_resize_output_size_rescale_to_max_len`,
    `_resize_output_size_scale_below_upper_bound`.
    """
    ratio = width / height
    if width >= height:
        width = edge
        height = int(width / ratio)
        height += height % 2
    else:
        height = edge
        width = int(height * ratio)
        width += width % 2
    height, width = max(height, 1), max(width, 1)
    ratio = width / height
    if width >= height and width > most:
        width = most
        height = int(width / ratio)
    elif height > width and height > most:
        height = most
        width = int(height * ratio)
    return max(height, 1), max(width, 1)


def native(height: int, width: int, patch: int, merge: int, patches: int, side: int) -> tuple[int, int]:
    """Patches of the image as it is: made smaller to hold at most `patches`, and `side` a side; padded to whole groups.

    Source: `kimi_k25/image_processing_kimi_k25.py:navit_resize`.
    """
    count = max(1.0, height // patch) * max(1.0, width // patch)
    scale = min(1.0, math.sqrt(patches / count), side * patch / height, side * patch / width)
    factor = patch * merge
    sides = (min(max(1, int(n * scale)), side * patch) for n in (height, width))
    high, wide = ((factor - n % factor) % factor + n for n in sides)
    return high, wide


def soft(height: int, width: int, patch: int, pool: int, tokens: int) -> tuple[int, int]:
    """As many pixels as `tokens` pooled patches hold, the ratio kept.

    Source: `gemma4/image_processing_gemma4.py:get_aspect_ratio_preserving_size`.

    Raises:
        NotTaken: nothing is left of a side.
    """
    unit, pixels = pool * patch, tokens * pool**2 * patch**2
    scale = math.sqrt(pixels / (height * width))
    high, wide = math.floor(scale * height / unit) * unit, math.floor(scale * width / unit) * unit
    if high == 0 and wide == 0:
        raise NotTaken(
            "Attempting to resize to a 0 x 0 image. Resized height should be divisible by "
            f"`pooling_kernel_size * patch_size`={unit}."
        )
    if high == 0:
        high, wide = unit, min(math.floor(width / height) * unit, tokens * unit)
    elif wide == 0:
        wide, high = unit, min(math.floor(height / width) * unit, tokens * unit)
    return high, wide


def ensured(length: float, unit: int) -> int:
    """The nearest multiple of `unit`, at least one (`minicpmv4_6/image_processing_minicpmv4_6.py:ensure_divide`)."""
    return max(round(length / unit) * unit, unit)


def shrunk(height: int, width: int, edge: int) -> tuple[int, int]:
    """No longer than `edge` (`pixtral/image_processing_pixtral.py:get_resize_output_image_size`)."""
    ratio = max(height / edge, width / edge)
    if ratio > 1:
        height, width = math.floor(height / ratio), math.floor(width / ratio)
    return height, width


def nearest_grid(height: int, width: int, unit: int, most: int) -> tuple[int, int]:
    """Rows and columns of `unit` pixels, at most `most` together, of the ratio that is nearest to the image's.

    Of equal ones the first in the order of a CPython set of tuples, as the processor has them.
    Source: `muse_glimmer/image_processing_muse_glimmer.py:smart_resize`.
    """
    rows, columns = height / unit, width / unit
    ratio = columns / rows
    if rows * columns > most:
        rows = (most / ratio) ** 0.5
        columns = rows * ratio
    around = [(r, c) for r in (math.floor(rows), math.ceil(rows)) for c in (math.floor(columns), math.ceil(columns))]
    found = [(r, c) for r, c in list(set(around)) if r >= 1 and c >= 1 and r * c <= most]
    found = found or [(max(1, round(rows)), max(1, round(columns)))]
    return min(found, key=lambda grid: abs(grid[0] / grid[1] - height / width))


def padded_up(frames: int, height: int, width: int, factor: int, least: int, most: int, group: int = 2) -> tuple[int, int]:
    """Multiples of `factor` that hold the image whole, over `frames` between `least` and `most` tokens of `group` frames.

    Source: `glm5_next/image_processing_glm5_next.py:smart_resize`.

    Raises:
        NotTaken: not one patch of every frame is within `most`.
    """

    def up(length: int) -> int:
        return -(-length // factor) * factor

    pixels = group * factor**2
    least, most, aligned = least * pixels, most * pixels, max(group, round(frames / group) * group)
    high, wide = up(height), up(width)
    if aligned * high * wide < least:
        scale = math.sqrt(least / (frames * height * width))
        high, wide = up(max(1, math.ceil(height * scale))), up(max(1, math.ceil(width * scale)))
    if aligned * high * wide <= most:
        return high, wide
    if most < aligned * factor**2:
        raise NotTaken(
            f"max_pixels={most} is too small. At least {aligned * factor**2} pixels are required for one aligned patch."
        )
    low, top, best = 1, height, (factor, factor)
    while low <= top:
        middle = (low + top) // 2
        high, wide = up(middle), up(max(1, math.floor(width * middle / height)))
        if aligned * high * wide <= most:
            best, low = (high, wide), middle + 1
        else:
            top = middle - 1
    return best


def no_side(height: int, width: int) -> NotTaken:
    """What transformers says of a size of which nothing is left: `image_processing_backends.py:resize`."""
    return NotTaken(
        "Size must contain 'height' and 'width' keys, or 'max_height' and 'max_width', or 'shortest_edge' key. Got "
        f"SizeDict(height={height}, width={width}, longest_edge=None, shortest_edge=None, max_height=None, max_width=None, "
        "min_pixels=None, max_pixels=None)."
    )
