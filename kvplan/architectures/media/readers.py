"""Readers of rows: a processor's values to the rule. A row of another family names one of these and its own numbers."""

import math
from collections.abc import Callable
from typing import Literal

from kvplan.architectures.media.values import Values
from kvplan.domain.media import images as i
from kvplan.domain.media import sounds as s
from kvplan.domain.media import tiles as t
from kvplan.domain.media import videos as v
from kvplan.domain.media.frames import Sampling, Way


def candidates(values: Values) -> i.ImageRule:
    """DeepSeek-VL2: resolutions are (width, height)."""
    patch, shrink = values.side("patch_size"), values.whole.whole("downsample_ratio", 2, least=1, most=64)
    tile = values.side("tile_size")
    pairs = values.sizes("candidate_resolutions", tile)
    side = math.ceil(tile // patch / shrink)
    return t.Candidates(tile=tile, side=side, candidates=tuple((high, wide) for wide, high in pairs))


def capped(values: Values) -> i.ImageRule:
    """Kimi-VL."""
    merge = values.side("merge_kernel_size")
    return i.Capped(patch=values.side("patch_size"), merge=merge, patches=values.count("in_token_limit", most=2**24), marks=3)


def padded_range(values: Values) -> i.ImageRule:
    """GLM-5 Next."""
    least, most = values.count("min_image_tokens", most=2**24), values.count("max_image_tokens", most=2**24)
    return i.PaddedRange(patch=values.side("patch_size"), merge=values.side("merge_size"), least=least, most=most, marks=2)


def padded_groups(values: Values) -> v.VideoRule:
    """GLM-5 Next: groups of frames."""
    return v.FrameGroups(
        patch=values.side("patch_size"),
        merge=values.side("merge_size"),
        least=values.count("min_image_tokens", most=2**24),
        most=values.count("max_image_tokens", most=2**24),
        padded=True,
        group_marks=2,
        marks=2,
        sampling=sampling(values, "walk"),
    )


def sliding_crops(values: Values) -> i.ImageRule:
    """Step 3.7: a token for each square of the tower's patches and its stride."""
    stride = values.count("vision_patch_size", 14) * values.count("downsampler_stride", 4, most=64)
    side, crop = values.side("size"), values.side("patch_size")
    return t.SlidingCrops(
        side=side,
        crop=crop,
        most=values.count("max_image_size"),
        view=max(1, (side // stride) ** 2),
        per_crop=max(1, (crop // stride) ** 2),
    )


#: A number of a frame, read from a processor's values.
Counted = Callable[[Values], int]


def pixel_range(
    marks: int = 2, how: Literal["plain", "frames", "grown"] = "plain", *, breaks: bool = False
) -> Callable[[Values], i.ImageRule]:
    """Multiples of patch x merge within a range of pixels."""

    def read(values: Values) -> i.ImageRule:
        least, most = values.pixels()
        patch, merge = values.side("patch_size"), values.side("merge_size")
        return i.PixelRange(patch=patch, merge=merge, least=least, most=most, marks=marks, how=how, breaks=breaks)

    return read


def nearest_grid(values: Values) -> i.ImageRule:
    """Rows x columns of the nearest ratio."""
    patch, merge = values.side("patch_size"), values.side("merge_size")
    return i.NearestGrid(patch=patch, merge=merge, most=values.count("max_image_tokens", most=2**24), marks=2)


def native(values: Values) -> i.ImageRule:
    """Native resolution, shrunk to limits of patches: by the names of transformers, or of Moonshot's own `media_proc_cfg`."""

    def named(key: str, own: str) -> str:
        return own if values.part.has(own) else key

    if values.part.has("fixed_output_tokens") and values.part.data["fixed_output_tokens"] is not None:
        count = values.count("fixed_output_tokens", most=2**24)
        return i.Fixed(placeholders=count, marks=3, tiles=None)
    return i.Native(
        patch=values.side("patch_size"),
        merge=values.side(named("merge_size", "merge_kernel_size")),
        patches=values.count(named("max_patches", "in_patch_limit"), most=2**24),
        side=values.side(named("size", "patch_limit_on_one_side")),
        marks=3,
    )


def within(values: Values) -> i.ImageRule:
    """Fuyu: a canvas that images are made to fit."""
    size, patch = values.part.section("size"), values.side("patch_size")
    high, wide = (size.whole(key, least=patch, most=2**16) for key in ("height", "width"))
    for key, side in (("height", high), ("width", wide)):
        if side % patch:
            size.refuse(key, f"must be divisible by {patch} (`patch_size`), got {side:,}")
    return i.Within(height=high, width=wide, patch=patch)


def hd_crops(values: Values) -> i.ImageRule:
    """Phi-3-Vision: crops of a CLIP tower, four patches a token."""
    crop, tokens = 336, values.count("num_img_tokens")
    return t.HdCrops(crop=crop, most=values.count("num_crops", most=256), per_crop=tokens, positions=(crop // 14) ** 2 + 1)


def soft(values: Values) -> i.ImageRule:
    """A budget of pooled patches."""
    patch, pool = values.side("patch_size"), values.side("pooling_kernel_size")
    return i.Soft(patch=patch, pool=pool, tokens=values.count("max_soft_tokens"), marks=2)


def edge(values: Values) -> i.ImageRule:
    """A limit of the longest edge, a break a row."""
    merge = values.whole.whole("spatial_merge_size", 1, least=1, most=64)
    return i.Edge(edge=values.side("size"), patch=values.side("patch_size"), merge=merge)


def fixed(
    key: str = "", *, marks: int = 0, square: bool = False, classes: int = 0, tiles: bool = True
) -> Callable[[Values], i.ImageRule]:
    """One size: `key` of the processor or of the image processor is the number of tokens, or the patches of the size.

    `square`: the tower's positions are the patches of the size, and `classes` more.
    """

    def read(values: Values) -> i.ImageRule:
        side = values.side("crop_size" if values.part.has("crop_size") else "size")
        patches = (side // values.side("patch_size", 14)) ** 2
        section = values.whole if key and values.whole.has(key) else values.part
        count = section.whole(key, least=1, most=2**20) if key else patches
        positions = patches + classes if square else None
        return i.Fixed(placeholders=count, side=side, positions=positions, marks=marks, tiles=1 if tiles else None)

    return read


def clip(values: Values) -> i.ImageRule:
    """One view of a CLIP tower: the patches of its size; the strategy `full` keeps the class token."""
    side, patch = values.patched("crop_size")
    more = values.whole.whole("num_additional_image_tokens", 1, most=1)
    full = values.whole.text("vision_feature_select_strategy", "default") == "full"
    patches = (side // patch) ** 2
    return i.Fixed(placeholders=patches + more - (not full), side=side, positions=patches + more)


def split(values: Values) -> i.ImageRule:
    """Aria: one view of the largest size (`processing_aria.py`: the class says that images are not split)."""
    side = values.count("max_image_size")
    return i.Fixed(placeholders=values.whole.section("size_conversion").whole(str(side), 256, least=1), side=side, tiles=None)


def tiles(
    choice: Literal["closest", "least enlarging", "covering"] = "closest",
    *,
    per_tile: str = "",
    classes: int = 0,
    marks: int = 2,
    tile_marks: int = 0,
    separators: bool = False,
) -> Callable[[Values], i.ImageRule]:
    """Tiles of one size and a thumbnail; `per_tile` names the processor's number of tokens a tile, else merged patches."""

    def read(values: Values) -> i.ImageRule:
        side, patch = values.patched("size")
        each = values.whole.whole(per_tile, least=1, most=2**20) if per_tile else (side // values.count("token_size")) ** 2
        return t.Tiles(
            tile=side,
            least=values.count("min_patches", 1, most=256),
            most=values.count("max_patches", most=256),
            per_tile=each,
            positions=(side // patch) ** 2 + classes,
            choice=choice,
            marks=marks,
            tile_marks=tile_marks,
            separators=separators,
        )

    return read


def small_or_tiled(values: Values) -> i.ImageRule:
    """LFM2-VL."""
    return t.SmallOrTiled(
        tile=values.side("tile_size"),
        least_tiles=values.count("min_tiles", most=256),
        most_tiles=values.count("max_tiles", most=256),
        least=values.count("min_image_tokens"),
        most=values.count("max_image_tokens"),
        patch=values.side("encoder_patch_size"),
        merge=values.side("downsample_factor"),
        tolerance=values.part.number("max_pixels_tolerance", 2.0),
        split=values.part.flag("do_image_splitting", True),
        thumbnail=values.part.flag("use_thumbnail", True),
        marks=2,
    )


def pinpoints(*, siglip: bool = False) -> Callable[[Values], i.ImageRule]:
    """LLaVA-NeXT and its kin; `siglip`: the tower has no class token."""

    def read(values: Values) -> i.ImageRule:
        tile, patch = values.patched("crop_size" if values.part.has("crop_size") else "size")
        side = tile // patch
        more = values.whole.whole("num_additional_image_tokens", 0 if siglip else 1, most=1)
        full = values.whole.text("vision_feature_select_strategy", "full" if siglip else "default") == "full"
        return t.Pinpoints(
            tile=tile,
            side=side,
            candidates=values.sizes("image_grid_pinpoints", tile),
            overview=side**2 + more - (not full),
            positions=side**2 + (0 if siglip else 1),
        )

    return read


def anyres(values: Values) -> i.ImageRule:
    """LLaVA-OneVision: features beyond so many tiles are shrunk."""
    tile, tokens = values.side("size"), values.whole.whole("num_image_tokens", least=1, most=2**20)
    ratio = values.whole.text("vision_aspect_ratio", "anyres_max_9").removeprefix("anyres_max_")
    if not ratio.isdecimal() or not 0 < len(ratio) < 5 or not int(ratio):
        values.whole.refuse("vision_aspect_ratio", "must be `anyres_max_` and a number of tiles")
    full = values.whole.text("vision_feature_select_strategy", "full") == "full"
    return t.Pinpoints(
        tile=tile,
        side=math.isqrt(tokens),
        candidates=values.sizes("image_grid_pinpoints", tile),
        overview=tokens - (not full),
        positions=tokens,
        most=int(ratio),
    )


def cross_tiles(values: Values) -> i.ImageRule:
    """Llama 3.2 Vision."""
    return t.CrossTiles(tile=values.side("size"), most=values.count("max_image_tiles", most=64), patch=values.side("patch_size"))


def llama4_tiles(values: Values) -> i.ImageRule:
    """Llama 4."""
    return t.Llama4Tiles(
        tile=values.side("size"),
        most=values.count("max_patches", most=256),
        patch=values.side("patch_size"),
        shuffle=min(max(values.whole.number("pixel_shuffle_ratio", 0.5), 0.01), 1.0),
    )


def pan_and_scan(values: Values) -> i.ImageRule:
    """Gemma 3."""
    side, patch = values.patched("size")
    return i.PanAndScan(
        per_view=values.whole.whole("image_seq_length", least=1, most=2**20),
        positions=(side // patch) ** 2,
        crops=values.part.flag("do_pan_and_scan", False),
        least_side=values.count("pan_and_scan_min_crop_size", 256),
        most_crops=values.count("pan_and_scan_max_num_crops", 4, most=256),
        ratio=max(values.part.number("pan_and_scan_min_ratio_to_activate", 1.2), 1.0),
    )


def dynamic_crops(values: Values) -> i.ImageRule:
    """Phi-4 multimodal."""
    return t.DynamicCrops(crop=values.side("size"), most=values.count("dynamic_hd", most=256), patch=values.side("patch_size"))


def quarters(values: Values) -> i.ImageRule:
    """Idefics 2."""
    size = values.part.section("size")
    return i.Quarters(
        per_view=values.whole.whole("image_seq_len", least=1, most=2**20),
        shortest=size.whole("shortest_edge", 378, least=1, most=2**16),
        longest=size.whole("longest_edge", 980, least=1, most=2**16),
        patch=values.side("patch_size"),
        split=values.part.flag("do_image_splitting", True),
    )


def edge_tiles(values: Values) -> i.ImageRule:
    """Idefics 3, SmolVLM."""
    return t.EdgeTiles(
        edge=values.side("size"),
        tile=values.side("max_image_size"),
        per_tile=values.whole.whole("image_seq_len", least=1, most=2**20),
        patch=values.side("patch_size"),
        split=values.part.flag("do_image_splitting", True),
    )


def slices(values: Values) -> t.Slices:
    """MiniCPM-V 4.6."""
    coarse = values.part.text("downsample_mode", "16x") != "4x"
    return t.Slices(
        scale=values.count("scale_resolution"),
        most=values.count("max_slice_nums", most=256),
        patch=values.side("patch_size"),
        merge=4 if coarse else 2,
        shrink=16 if coarse else 4,
        slice=values.part.flag("slice_mode", True),
        marks=2 * values.part.flag("use_image_id", True),
    )


def overlapping(values: Values) -> i.ImageRule:
    """Molmo 2."""
    margins = values.part.items("overlap_margins", most=2)
    side, patch = values.patched("size")
    if len(margins) != 2 or not all(isinstance(n, int) and n >= 0 for n in margins) or sum(margins) >= side // patch:
        values.part.refuse("overlap_margins", f"must be two numbers of patches, less than {side // patch} together")
    return t.Overlapping(
        side=side,
        patch=patch,
        most=values.count("max_crops", most=256),
        margins=(margins[0], margins[1]),
        pool=values.side("pooling_size"),
    )


def global_and_tiles(values: Values) -> i.ImageRule:
    """DeepSeek-OCR 2: a query for each 64 x 64 pixels."""
    side, tile = values.side("size"), values.side("tile_size")
    return t.GlobalAndTiles(
        side=side,
        tile=tile,
        least=values.count("min_patches", most=256),
        most=values.count("max_patches", most=256),
        view=math.ceil(side / 16 / 4) ** 2 + 1,
        per_tile=math.ceil(tile / 16 / 4) ** 2,
        crop=values.part.flag("crop_to_patches", True),
    )


def enlarging_tiles(values: Values) -> i.ImageRule:
    """Perception LM."""
    tile, patch = values.patched("tile_size")
    pooling = values.whole.whole("pooling_ratio", 2, least=1, most=64)
    thumbnail = values.part.text("vision_input_type", "thumb+tile") == "thumb+tile"
    return t.EnlargingTiles(
        tile=tile,
        most=values.count("max_num_tiles", most=256),
        per_tile=(tile // patch // pooling) ** 2,
        thumbnail=thumbnail,
    )


def frame_groups(
    *, over_frames: bool = False, group_marks: int = 0, way: Way = "all", marks: int = 2
) -> Callable[[Values], v.VideoRule]:
    """Groups of frames, each the tokens of an image."""

    def read(values: Values) -> v.VideoRule:
        least, most = values.pixels()
        group = values.side("temporal_patch_size", 2)
        capped = values.part.flag("cap_pixels_per_frame", False)
        return v.FrameGroups(
            patch=values.side("patch_size"),
            merge=values.side("merge_size"),
            least=least,
            most=most,
            group=group,
            over_frames=over_frames,
            cap=values.count("max_video_tokens", 128_000, most=2**30) if capped else None,
            group_marks=group_marks,
            marks=marks,
            sampling=sampling(values, way, group=group),
        )

    return read


def omni_frames(values: Values) -> v.VideoRule:
    """Qwen-Omni: 128 to 768 tokens a frame by the processor's `videos_kwargs`, over any file (`processing_qwen2_5_omni.py`)."""
    patch, merge = values.side("patch_size"), values.side("merge_size")
    pixels = (patch * merge) ** 2
    return v.FrameGroups(
        patch=patch, merge=merge, least=128 * pixels, most=768 * pixels, group=values.side("temporal_patch_size", 2), marks=2
    )


def sampling(values: Values, way: Way, *, group: int = 2) -> Sampling:
    """How frames are picked, by the video processor's numbers."""
    rate = values.part.number("max_fps" if way == "fps cap" else "fps", 2.0)
    return Sampling(
        way=way,
        rate=min(max(rate, 0.01), 1000.0),
        least=values.count("min_frames", 4, most=2**20),
        most=values.count("max_num_frames" if way == "seconds" else "max_frames", 768, most=2**20),
        count=values.count("num_frames", 32, most=2**20),
        group=group,
        seconds=min(max(values.part.number("max_duration", 300.0), 1.0), 1e6),
    )


def per_frame(
    tokens: Counted,
    positions: Counted | None = None,
    *,
    frame_marks: int = 0,
    more: int = 0,
    way: Way = "all",
    tiles: bool = True,
) -> Callable[[Values], v.VideoRule]:
    """The same tokens for every frame."""

    def read(values: Values) -> v.VideoRule:
        return v.PerFrame(
            per_frame=tokens(values),
            positions=None if positions is None else positions(values),
            frame_marks=frame_marks,
            more=more,
            tiles=tiles,
            sampling=sampling(values, way),
        )

    return read


def processor_count(key: str) -> Counted:
    """A number of tokens that the processor itself says."""
    return lambda values: values.whole.whole(key, least=1, most=2**20)


def halved_side(key: str) -> Counted:
    """A frame's features, pooled two by two."""
    return lambda values: math.ceil(math.isqrt(processor_count(key)(values)) / 2) ** 2


def patches_of(key: str) -> Counted:
    """The patches of a size."""
    return lambda values: (values.side(key) // values.side("patch_size")) ** 2


def pooled(values: Values) -> int:
    """Molmo 2's tokens of a frame."""
    return math.ceil(values.side("size") // values.side("patch_size") / values.side("pooling_size")) ** 2


def pooled_frame(values: Values) -> int:
    """Perception LM's tokens of a frame."""
    pooling = values.whole.whole("pooling_ratio", 2, least=1, most=64)
    return (values.side("size") // values.side("patch_size") // pooling) ** 2


def frame_slices(values: Values) -> i.ImageRule:
    """MiniCPM-V 4.6's frame: an image without its number."""
    rule = slices(values)
    return t.Slices(scale=rule.scale, most=rule.most, patch=rule.patch, merge=rule.merge, shrink=rule.shrink, slice=rule.slice)


def as_images(
    image: Callable[[Values], i.ImageRule], way: Way, *, group: int = 1, frames: bool = False, marks: int = 0
) -> Callable[[Values], v.VideoRule]:
    """Each group of frames costs what an image does; `frames`: the tower sees all of them."""

    def read(values: Values) -> v.VideoRule:
        many = values.side("temporal_patch_size", group) if group > 1 else 1
        return v.AsImages(
            image=image(values),
            group=many,
            each="frame" if frames else "group",
            marks=marks,
            sampling=sampling(values, way),
        )

    return read


def halved(values: Values) -> s.SoundRule:
    """Qwen2-Audio, Qwen2.5-Omni."""
    most = values.count("chunk_length", most=10_000) * _rate(values) // values.count("hop_length")
    return s.Halved(rate=_rate(values), hop=values.count("hop_length"), most=most, marks=2)


def windowed(values: Values) -> s.SoundRule:
    """Qwen3-Omni."""
    return s.Windowed(
        rate=_rate(values),
        hop=values.count("hop_length"),
        window=2 * values.count("n_window", most=10_000),
        fourier=values.count("n_fft", 400),
        marks=2,
    )


def constant(values: Values) -> s.SoundRule:
    """Gemma 3n."""
    return s.Constant(rate=_rate(values), placeholders=values.whole.whole("audio_seq_length", least=1, most=2**20), marks=2)


def subsampled(values: Values) -> s.SoundRule:
    """Gemma 4."""
    return s.Subsampled(rate=_rate(values), frame=values.count("frame_length"), hop=values.count("hop_length"), marks=2)


def compressed(values: Values) -> s.SoundRule:
    """Phi-4 multimodal."""
    return s.Compressed(
        rate=_rate(values),
        window=values.count("win_length"),
        hop=values.count("hop_length"),
        compression=values.count("audio_compression_rate", most=1000),
        downsample=values.count("audio_downsample_rate", 1, most=1000),
    )


def chunked(values: Values) -> s.SoundRule:
    """Voxtral."""
    seconds, positions = values.count("chunk_length", most=10_000), values.count("max_source_positions")
    return s.Chunked(rate=_rate(values), chunk_seconds=seconds, per_chunk=positions // 4, positions=positions, marks=1)


def strided(values: Values) -> s.SoundRule:
    """VibeVoice."""
    return s.Strided(rate=_rate(values), hop=values.count("pad_to_multiple_of", most=10**6), marks=2)


def projected(values: Values) -> s.SoundRule:
    """Granite Speech."""
    return s.Projected(
        rate=_rate(values),
        hop=values.part.section("melspec_kwargs").whole("hop_length", 160, least=1, most=2**16),
        fourier=values.part.section("melspec_kwargs").whole("n_fft", 512, least=2, most=2**20),
        window=values.count("projector_window_size"),
        downsample=values.count("projector_downsample_rate"),
    )


def cross_fixed(values: Values) -> s.SoundRule:
    """Whisper."""
    return s.CrossFixed(rate=_rate(values), positions=values.count("max_source_positions"))


def cross_convolved(values: Values) -> s.SoundRule:
    """Moonshine."""
    return s.CrossConvolved(rate=_rate(values))


def _rate(values: Values) -> int:
    return values.count("sampling_rate", 16_000, most=10**6)
