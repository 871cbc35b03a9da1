"""Which frames of a video a processor keeps, where it picks them itself: how many are left.

Frames of the file are counted at its own rate; a sampler's numbers are those of its processor.
"""

import math
from typing import Literal

from msgspec import Struct

from kvplan.domain.media.cost import NotTaken

#: How a processor picks frames.
Way = Literal["all", "rate", "glm4v", "glm46v", "walk", "smolvlm", "fps cap", "exactly", "kimi", "seconds"]


class Sampling(Struct, frozen=True, kw_only=True):
    """How frames are picked: `way`, and the processor's numbers for it."""

    way: Way = "all"
    rate: float = 2.0  # frames a second
    least: int = 4
    most: int = 768
    count: int = 32  # frames asked for
    group: int = 2  # frames a temporal patch
    seconds: float = 300.0  # the longest video that is sampled by rate

    def kept(self, frames: int, fps: float) -> int:
        """How many of `frames` at `fps` the processor keeps.

        Raises:
            NotTaken: it asks for more frames than there are.
        """
        if self.way == "rate":  # qwen3_vl/video_processing_qwen3_vl.py:sample_frames
            return min(max(int(frames / fps * self.rate), self.least), self.most, frames)
        if self.way == "glm4v":
            return _glm4v(frames, fps, self.rate, self.seconds)
        if self.way == "glm46v":
            duration = min(frames / fps, 2400)
            rate = 3 if duration <= 30 else 1 if duration <= 300 else 0.5
            return _walk(frames, fps, rate * self.group, duration, 640)
        if self.way == "walk":  # glm5_next/video_processing_glm5_next.py:sample_frames
            return _walk(frames, fps, self.rate, frames / fps, self.most)
        if self.way == "smolvlm":
            return _smolvlm(frames, fps, self.rate, self.count)
        if self.way == "fps cap":  # molmo2/video_processing_molmo2.py:sample_frames
            wanted = self.count if fps <= self.rate else min(self.count, int(frames / fps * self.rate))
            wanted = max(min(wanted, frames), 1)
            return math.ceil(frames / (frames / wanted))
        if self.way in {"exactly", "kimi"}:  # video_utils.py:default_sample_indices_fn
            wanted = self.count if self.way == "exactly" else max(1, int(frames / fps * self.rate))
            if wanted > frames:
                raise NotTaken(
                    f"When loading the video with num_frames={wanted}, the requested number of frames exceeds "
                    f"total_num_frames={frames}. Please set num_frames or fps to a smaller value."
                )
            return wanted
        if self.way == "seconds":  # minicpmv4_6/video_processing_minicpmv4_6.py:sample_frames
            duration = frames / fps
            return math.ceil(duration) if duration <= self.most else min(int(duration / 0.1), self.most)
        return frames


def _spread(start: int, stop: int, count: int) -> list[int]:
    """`numpy.linspace(start, stop, count, dtype=int)`."""
    if count == 1:
        return [start]
    step = (stop - start) / (count - 1)
    return [*(math.floor(i * step + start) for i in range(count - 1)), stop]


def _even(indices: list[int]) -> int:
    """Each frame once, and the last again where their number is odd."""
    found = len(set(indices))
    return found + (found & 1)


def _glm4v(frames: int, fps: float, rate: float, seconds: float) -> int:
    """`glm4v/video_processing_glm4v.py:sample_frames`."""
    last, duration = frames - 1, frames / fps
    if duration <= seconds:
        count = max(math.floor(duration * rate), 1)
        return _even([min(last, math.ceil(i * fps / rate)) for i in range(count)])
    count = int(seconds * rate)
    if count >= frames:
        return _even(list(range(frames)))
    step = duration / (count - 1)
    return _even([min(last, math.ceil((i * step if i < count - 1 else duration) * fps)) for i in range(count)])


def _walk(frames: int, fps: float, rate: float, duration: float, most: int) -> int:
    """A walk over the frames at `rate` a second, spread evenly where that gives another number than it should.

    Source: `glm46v/video_processing_glm46v.py:sample_frames`.
    """
    wanted = min(int(duration * rate), most)
    if frames < wanted:
        found = _spread(0, frames - 1, wanted)
    else:
        found, second, each, gap = [], 0.0, 1 / fps, 1 / rate
        for index in range(frames):
            if index * each >= second:
                second += gap
                found.append(index)
                if second >= int(frames / fps):
                    break
    if len(found) < wanted:
        start, end = (found[0], found[-1]) if found else (0, max(frames - 1, 0))
        found = _spread(start, end, wanted)
    elif len(found) > wanted:
        found = _spread(0, frames - 1, wanted) if wanted else []
    return _even(found)


def _smolvlm(frames: int, fps: float, rate: float, most: int) -> int:
    """`smolvlm/video_processing_smolvlm.py:sample_frames`: a second is left out at both ends of long videos."""
    duration = frames / fps
    wanted = max(min(round(rate * duration), most), 1)
    start, end = 0, frames - 1
    if duration - 2 > most * rate:
        start, end = int(fps), min(int(frames - fps), frames - 1)
    if start >= end:
        start, end = 0, frames - 1
    return len(set(_spread(start, end, wanted)))
