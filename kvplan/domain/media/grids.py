"""Tilings: into how many tiles an image is cut. Grids are (columns, rows) unless said; sizes are height, then width."""

import math
from collections.abc import Sequence
from functools import cache

from kvplan.domain.media.sizes import single

Grid = tuple[int, int]


@cache
def grids(least: int, most: int) -> tuple[Grid, ...]:
    """Every (columns, rows) of `least` to `most` tiles, by number of tiles, then columns.

    Source: `got_ocr2/image_processing_got_ocr2.py:get_all_supported_aspect_ratios`.

    >>> grids(1, 3)
    ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1))
    """
    found = [(c, r) for c in range(1, most + 1) for r in range(1, most // c + 1) if c * r >= least]
    return tuple(sorted(found, key=lambda grid: grid[0] * grid[1]))


def closest(height: int, width: int, tile: int, least: int, most: int) -> Grid:
    """The grid of the ratio nearest to the image's; of equal ones the larger, while the image fills half of it.

    Source: `got_ocr2/image_processing_got_ocr2.py:get_optimal_tiled_canvas`.
    """
    ratio, best, difference = width / height, (1, 1), math.inf
    for grid in grids(least, most):
        apart = abs(ratio - grid[0] / grid[1])
        if apart < difference or (apart == difference and width * height > 0.5 * tile * tile * grid[0] * grid[1]):
            best = grid
        difference = min(difference, apart)
    return best


def least_enlarging(height: int, width: int, tile: int, most: int) -> Grid:
    """The canvas that enlarges the image least, or, where all are too small, the one that shrinks it least; the first of equals.

    Source: `cohere2_vision/image_processing_cohere2_vision.py:get_optimal_tiled_canvas`.
    """
    scales = [(min(c * tile / width, r * tile / height), (c, r)) for c, r in grids(1, most)]
    if all(scale < 1 for scale, _ in scales):
        return max(scales, key=lambda entry: entry[0])[1]
    return min(scales, key=lambda entry: entry[0] if entry[0] >= 1.0 else 10e9)[1]


def smallest_canvas(height: int, width: int, tile: int, most: int, *, singly: bool = False) -> Grid:
    """As `least_enlarging`, and of equal scales the smallest area; `singly`: in numbers of 32 bits.

    Source: `mllama/image_processing_mllama.py:get_optimal_tiled_canvas`, `llama4/image_processing_llama4.py:get_best_fit`.
    """
    exact = single if singly else float
    scales = [(min(exact(r * tile / height), exact(c * tile / width)), (c, r)) for c, r in grids(1, most)]
    over = [scale for scale, _ in scales if scale >= 1]
    chosen = min(over) if over else max(scale for scale, _ in scales)
    return min((grid for scale, grid in scales if scale == chosen), key=lambda grid: grid[0] * grid[1])


def windows(height: int, width: int, window: int, most: int) -> Grid:
    """(rows, columns) of windows, as `least_enlarging` in 32 bits, by number of windows and then rows.

    Source: `molmo2/image_processing_molmo2.py:select_tiling`.
    """
    order = sorted(((r, c) for c, r in grids(1, most)), key=lambda grid: (grid[0] * grid[1], grid[0]))
    scales = [(min(_scale(r * window, height), _scale(c * window, width)), (r, c)) for r, c in order]
    if all(scale < 1 for scale, _ in scales):
        return max(scales, key=lambda entry: entry[0])[1]
    return min(scales, key=lambda entry: entry[0] if entry[0] >= 1.0 else 1e10)[1]


def _scale(size: int, length: int) -> float:
    """In 32 bits, where a length of 0 gives infinity or nothing, and a negative one a negative scale."""
    return single(size / length) if length else math.inf


def covering(height: int, width: int, tile: int, most: int, threshold: float = 0.9) -> Grid:
    """(rows, columns): the fewest tiles that keep over `threshold` of the area, else those that keep most.

    Source: `ovis2/image_processing_ovis2.py:get_min_tile_covering_grid`.
    """

    def kept(wide: int, high: int) -> float:
        longer, shorter = max(wide, high), float(min(wide, high))
        if longer > tile:
            longer, shorter = tile, shorter / longer * tile
        return longer * shorter

    found: list[tuple[Grid, float]] = []
    for rows, columns in grids(1, most):
        high, wide = height // rows, width // columns
        regions = (
            ((width if c == columns - 1 else (c + 1) * wide) - c * wide, (height if r == rows - 1 else (r + 1) * high) - r * high)
            for r in range(rows)
            for c in range(columns)
        )
        found.append(((rows, columns), sum(kept(*region) for region in regions) / (width * height)))
    enough = [entry for entry in found if entry[1] > threshold]
    if enough:
        return min(enough, key=lambda entry: (entry[0][0] * entry[0][1], -entry[1]))[0]
    return min(found, key=lambda entry: (-entry[1], entry[0][0] * entry[0][1]))[0]


def pinpoint(height: int, width: int, candidates: Sequence[tuple[int, int]], *, singly: bool = False) -> tuple[int, int]:
    """Of (height, width) candidates the one that keeps most pixels, then wastes least; the first of equals.

    Source: `image_processing_utils.py:select_best_resolution`; in 32 bits `mtmd-image.cpp:select_best_resolution`.
    """
    exact = single if singly else float

    def fit(candidate: tuple[int, int]) -> tuple[int, int]:
        high, wide = candidate
        scale = min(exact(wide / width), exact(high / height))
        kept = min(int(exact(width * scale)) * int(exact(height * scale)), width * height)
        return kept, kept - high * wide

    return max(candidates, key=fit)


def unpadded(height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
    """The rows and columns of features that are left without those of padding.

    Source: `llava_next/processing_llava_next.py:_get_unpadded_features`.
    """
    if width / height > columns / rows:
        rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
    return rows, columns


def sliced(height: int, width: int, scale: int, most: int) -> Grid | None:
    """(rows, columns) of slices of about `scale`**2 pixels, or None: the image is not cut. Of equal ones the one of more rows.

    Source: `minicpmv4_6/image_processing_minicpmv4_6.py:get_sliced_grid`.
    """
    wanted = math.log(width / height)
    count = min(math.ceil(width * height / (scale * scale)), most)
    if count <= 1:
        return None
    best, error = (1, 1), math.inf
    for pieces in (count - 1, count, count + 1):
        if pieces == 1 or pieces > most:
            continue
        for rows in range(1, pieces + 1):
            if pieces % rows:
                continue
            apart = abs(wanted - math.log(pieces // rows / rows))
            if apart < error or (apart == error and rows > best[0]):
                best, error = (rows, pieces // rows), apart
    return best


def enlarging_canvas(height: int, width: int, tile: int, most: int) -> Grid:
    """Of the canvases that hold the image the one that enlarges it most, else the closest ratio below.

    Source: `perception_lm/image_processing_perception_lm.py:_fit_image_to_canvas, _find_closest_aspect_ratio`.
    """
    by_ratio: dict[float, list[Grid]] = {}
    for tiles in range(most, 0, -1):
        for columns in range(1, tiles + 1):
            if tiles % columns == 0:
                by_ratio.setdefault(columns / (tiles // columns), []).append((columns, tiles // columns))
    ratio, best, side = width / height, None, 0.0
    for grid in (grid for alike in by_ratio.values() for grid in alike):
        canvas = grid[0] * tile, grid[1] * tile
        if canvas[0] < width or canvas[1] < height:
            continue
        scale = min(canvas[0] / width, canvas[1] / height)
        if ratio > 1.0:
            fitted = float(math.floor(scale * width / ratio))
        else:
            fitted = math.floor(scale * height * ratio) if ratio < 1.0 else scale * height
        if best is None or fitted >= side:
            best, side = grid, fitted
    if best is not None:
        return best
    if ratio >= 1:
        nearest = min((k for k in by_ratio if k <= ratio), key=lambda k: abs(k - ratio))
        return max(by_ratio[nearest], key=lambda grid: grid[0])
    nearest = min((k for k in by_ratio if k > ratio), key=lambda k: abs(1 / k - 1 / ratio))
    return max(by_ratio[nearest], key=lambda grid: grid[1])
