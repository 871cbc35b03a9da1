"""Rules by which preprocessors turn a video into tokens; `frames.py` says which frames are left."""

import math
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.media import sizes
from kvplan.domain.media.cost import Cost, Step
from kvplan.domain.media.frames import Sampling
from kvplan.domain.media.images import ImageRule


class VideoRule(Struct, frozen=True, kw_only=True):
    """What one video costs; `sampling` is how its frames are picked, `marks` the special tokens around it."""

    sampling: Sampling = Sampling()
    marks: int = 0

    def one(self, frames: int, height: int, width: int, fps: float, *, sampled: bool = True) -> Cost:
        """A video of so many frames; `sampled`: the processor picks from them.

        Raises:
            NotTaken: the processor refuses it.
        """
        kept = self.sampling.kept(frames, fps) if sampled else frames
        cost = self.counted(kept, height, width)
        first = Step(f"{frames:,} frames of {height:,} x {width:,} at {fps:g} a second", f"{kept:,} kept")
        return replace(cost, steps=(first, *cost.steps))

    def counted(self, frames: int, height: int, width: int) -> Cost:
        """The cost of the frames that are left.

        Raises:
            NotTaken: the processor refuses them.
        """
        raise NotImplementedError


class FrameGroups(VideoRule, frozen=True, kw_only=True):
    """Frames in groups of `group`, each group an image's tokens (Qwen-VL, GLM).

    `over_frames`: the range of pixels is over all frames (Qwen3-VL, GLM), else for each. `cap`: patches that a frame may
    have at most, where `cap_pixels_per_frame` is on. `group_marks`: special tokens a group.
    Source: `qwen2_vl/video_processing_qwen2_vl.py`, `qwen3_vl/…`, `glm4v/…`.
    """

    patch: int
    merge: int
    least: int  # pixels
    most: int
    group: int = 2
    over_frames: bool = False
    padded: bool = False  # up to whole groups of patches, the range in tokens (GLM-5 Next)
    cap: int | None = None
    group_marks: int = 0

    def counted(self, frames: int, height: int, width: int) -> Cost:
        """Groups times the tokens of one."""
        factor, most = self.patch * self.merge, self.most
        if self.cap is not None and self.over_frames:
            most = max(min(self.cap * factor**2, most // frames), int(self.least * 1.05)) * frames
        elif self.cap is not None:
            most = max(min(most, int(self.cap * factor**2 * 0.9) * 2 // frames), int(self.least * 1.05))
        if self.padded:
            high, wide = sizes.padded_up(frames, height, width, factor, self.least, most, self.group)
        elif self.over_frames:
            high, wide = sizes.frame_range(frames, height, width, factor, self.least, most, self.group)
        else:
            high, wide = sizes.pixel_range(height, width, factor, self.least, most)
        groups, patches = math.ceil(frames / self.group), (high // self.patch) * (wide // self.patch)
        each = patches // self.merge**2
        steps = (
            Step(
                f"multiples of {factor}, {self.least:,} to {most:,} {'tokens' if self.padded else 'pixels'} "
                f"{'of all frames' if self.over_frames or self.padded else 'a frame'}",
                f"{high:,} x {wide:,}",
            ),
            Step(f"groups of {self.group} frames", f"{groups:,}, {patches:,} patches each"),
            Step(f"merged {self.merge} x {self.merge}", f"{groups:,} x {each:,} = {groups * each:,}"),
        )
        return Cost(
            placeholders=groups * each, marks=self.marks + groups * self.group_marks, positions=groups * patches, steps=steps
        )


class PerFrame(VideoRule, frozen=True, kw_only=True):
    """The same tokens a frame, whatever its size (InternVL, LLaVA, SmolVLM, Molmo 2, Perception LM)."""

    per_frame: int
    frame_marks: int = 0
    more: int = 0  # placeholders of the whole video
    positions: int | None = None  # a frame
    tiles: bool = True

    def counted(self, frames: int, height: int, width: int) -> Cost:
        """Frames times the tokens of one."""
        count = frames * self.per_frame + self.more
        steps = (Step(f"{self.per_frame:,} tokens a frame{f', {self.more} more' if self.more else ''}", f"{count:,}"),)
        return Cost(
            placeholders=count,
            marks=self.marks + frames * self.frame_marks,
            positions=None if self.positions is None else frames * self.positions,
            tiles=frames if self.tiles else None,
            steps=steps,
        )


class AsImages(VideoRule, frozen=True, kw_only=True):
    """Each group of `group` frames costs what an image of that size does (Gemma 4, Kimi K2.5, MiniCPM-V 4.6).

    `each`: the tower sees every frame of a group.
    """

    image: ImageRule
    group: int = 1
    each: Literal["group", "frame"] = "group"

    def counted(self, frames: int, height: int, width: int) -> Cost:
        """Groups times one image."""
        one, groups = self.image.one(height, width), math.ceil(frames / self.group)
        count = frames if self.each == "frame" else groups
        step = Step(f"{groups:,} x the tokens of one", f"{groups * one.placeholders:,}")
        return Cost(
            placeholders=groups * one.placeholders,
            marks=self.marks + groups * one.marks,
            positions=None if one.positions is None else count * one.positions,
            tiles=None if one.tiles is None else count * one.tiles,
            steps=(*one.steps, step),
        )
