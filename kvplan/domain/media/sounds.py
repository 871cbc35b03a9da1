"""Rules by which preprocessors turn a clip into tokens. Lengths are samples at `rate` a second."""

import math
from collections.abc import Sequence

from msgspec import Struct

from kvplan.domain.media.cost import Cost, NotTaken, Step, total
from kvplan.units import ceil_div


class SoundRule(Struct, frozen=True, kw_only=True):
    """What one clip costs."""

    rate: int = 16_000  # samples a second
    marks: int = 0

    def one(self, seconds: float) -> Cost:
        """A clip of so many seconds.

        Raises:
            NotTaken: it is too short.
        """
        return self.counted(round(seconds * self.rate))

    def of(self, clips: Sequence[float]) -> Cost:
        """All clips of one prompt, in seconds.

        Raises:
            NotTaken: one is too short.
        """
        known = {seconds: self.one(seconds) for seconds in dict.fromkeys(clips)}
        return total(known[seconds] for seconds in clips)

    def counted(self, samples: int) -> Cost:
        """A clip of so many samples.

        Raises:
            NotTaken: it is too short.
        """
        raise NotImplementedError

    def _samples(self, samples: int) -> str:
        return f"{samples / self.rate:g} s at {self.rate:,} samples a second"


def _mirrored(samples: int, fourier: int) -> None:
    """Half of a Fourier transform's samples is mirrored at both ends of a clip, which must be longer.

    Raises:
        NotTaken: it is not; the sentence is torch's.
    """
    half = fourier // 2
    if samples <= half:
        raise NotTaken(
            f"Padding size should be less than the corresponding input dimension, but got: padding ({half}, {half}) at "
            f"dimension 2 of input [1, 1, {samples}]"
        )


class Halved(SoundRule, frozen=True, kw_only=True):
    """Mel frames, halved by a convolution and by pooling (Qwen2-Audio, Qwen2.5-Omni; 25 a second)."""

    hop: int = 160
    most: int = 30_000  # mel frames

    def counted(self, samples: int) -> Cost:
        """`processing_qwen2_5_omni.py`, `modeling_qwen2_audio.py:_get_feat_extract_output_lengths`."""
        mel = min(ceil_div(samples, self.hop), self.most)
        count = ((mel - 1) // 2 + 1 - 2) // 2 + 1
        steps = (
            Step(f"{self._samples(samples)}, a frame each {self.hop}, at most {self.most:,}", f"{mel:,} frames"),
            Step("halved twice", f"{count:,}"),
        )
        return Cost(placeholders=count, marks=self.marks, steps=steps)


class Windowed(SoundRule, frozen=True, kw_only=True):
    """13 tokens for each window of 100 frames, the rest halved three times (Qwen3-Omni).

    Clips of one prompt are padded to the longest, and the last frame of that goes where it is not whole: of a clip alone only
    whole frames are left. Source: `qwen3_omni_moe/processing_qwen3_omni_moe.py:_get_feat_extract_output_lengths`,
    `whisper/feature_extraction_whisper.py:__call__`, `_torch_extract_fbank_features`.
    """

    hop: int = 160
    window: int = 100  # mel frames
    fourier: int = 400  # samples of a Fourier transform, half of which is mirrored at both ends

    def counted(self, samples: int) -> Cost:
        """A clip alone.

        Raises:
            NotTaken: it is too short to be mirrored.
        """
        return self._beside(samples, samples)

    def of(self, clips: Sequence[float]) -> Cost:
        """Each beside the longest of the prompt.

        Raises:
            NotTaken: the longest is too short to be mirrored.
        """
        samples = [round(seconds * self.rate) for seconds in clips]
        return total(self._beside(count, max(samples)) for count in samples)

    def _beside(self, samples: int, longest: int) -> Cost:
        _mirrored(longest, self.fourier)
        mel = min(ceil_div(samples, self.hop), longest // self.hop)
        rest = (mel % self.window - 1) // 2 + 1
        count = ((rest - 1) // 2 + 1 - 1) // 2 + 1 + mel // self.window * 13
        steps = (
            Step(f"{self._samples(samples)}, a frame each {self.hop}", f"{mel:,} frames"),
            Step(f"13 for each {self.window} frames, the rest halved three times", f"{count:,}"),
        )
        return Cost(placeholders=count, marks=self.marks, steps=steps)


class Constant(SoundRule, frozen=True, kw_only=True):
    """The same tokens whatever the length, which is padded or cut (Gemma 3n)."""

    placeholders: int

    def counted(self, samples: int) -> Cost:
        """The same for every length."""
        steps = (Step(f"{self._samples(samples)}, padded or cut to one length", f"{self.placeholders:,}"),)
        return Cost(placeholders=self.placeholders, marks=self.marks, steps=steps)


class Subsampled(SoundRule, frozen=True, kw_only=True):
    """Frames of the features, subsampled twice by two (Gemma 4)."""

    frame: int = 320
    hop: int = 160
    most_seconds: int = 30

    def counted(self, samples: int) -> Cost:
        """`gemma4/feature_extraction_gemma4.py`, `processing_gemma4.py:replace_audio_token`."""
        taken = min(samples, self.most_seconds * self.rate)
        frames = max(0, (taken + self.hop - self.frame - 1) // self.hop + 1)
        count = ((frames + 1) // 2 + 1) // 2
        steps = (
            Step(f"{self._samples(samples)}, at most {self.most_seconds} s", f"{frames:,} frames"),
            Step("halved twice", f"{count:,}"),
        )
        return Cost(placeholders=count, marks=self.marks, steps=steps)


class Compressed(SoundRule, frozen=True, kw_only=True):
    """Frames of a window, a token for each `compression` of them (Phi-4 multimodal; 12.5 a second)."""

    window: int = 400
    hop: int = 160
    compression: int = 8
    downsample: int = 1

    def counted(self, samples: int) -> Cost:
        """`phi4_multimodal/feature_extraction_phi4_multimodal.py:_compute_audio_embed_size`.

        Raises:
            NotTaken: it is shorter than a window.
        """
        if samples < self.window:
            raise NotTaken(f"maximum size for tensor at dimension 1 is {samples} but size is {self.window}")
        frames = (samples - self.window) // self.hop + 1
        count = ceil_div(ceil_div(frames, self.compression), self.downsample)
        steps = (
            Step(f"{self._samples(samples)}, windows of {self.window} each {self.hop}", f"{frames:,} frames"),
            Step(f"a token for each {self.compression * self.downsample}", f"{count:,}"),
        )
        return Cost(placeholders=count, marks=self.marks, steps=steps)


class Strided(SoundRule, frozen=True, kw_only=True):
    """A token for each `hop` samples, the last padded (VibeVoice; 7.5 a second)."""

    hop: int

    def counted(self, samples: int) -> Cost:
        """`vibevoice/processing_vibevoice.py:_process_audio`."""
        count = ceil_div(samples, self.hop)
        steps = (Step(f"{self._samples(samples)}, a token each {self.hop:,}", f"{count:,}"),)
        return Cost(placeholders=count, marks=self.marks, steps=steps)


class Chunked(SoundRule, frozen=True, kw_only=True):
    """Chunks of fixed length, padded: each the same tokens (Voxtral; 375 for each 30 s)."""

    chunk_seconds: int = 30
    per_chunk: int = 375
    positions: int = 1500  # a chunk

    def counted(self, samples: int) -> Cost:
        """`voxtral/processing_voxtral.py`."""
        chunks = ceil_div(samples, self.chunk_seconds * self.rate)
        count = chunks * self.per_chunk
        steps = (
            Step(f"{self._samples(samples)} in chunks of {self.chunk_seconds} s", f"{chunks:,}"),
            Step(f"{self.per_chunk:,} tokens each", f"{count:,}"),
        )
        return Cost(placeholders=count, marks=self.marks, positions=chunks * self.positions, tiles=chunks, steps=steps)


class Projected(SoundRule, frozen=True, kw_only=True):
    """Windows of encoder frames, each a few queries (Granite Speech)."""

    hop: int = 160
    window: int = 15
    downsample: int = 5
    fourier: int = 512

    def of(self, clips: Sequence[float]) -> Cost:
        """All clips of one prompt, which are padded to the longest.

        Raises:
            NotTaken: the longest is too short to be mirrored.
        """
        samples = [round(seconds * self.rate) for seconds in clips]
        _mirrored(max(samples), self.fourier)
        return total(self._beside(count) for count in samples)

    def counted(self, samples: int) -> Cost:
        """A clip alone.

        Raises:
            NotTaken: it is too short to be mirrored.
        """
        _mirrored(samples, self.fourier)
        return self._beside(samples)

    def _beside(self, samples: int) -> Cost:
        """`granite_speech/feature_extraction_granite_speech.py:_get_num_audio_features`."""
        frames = (samples // self.hop + 1) // 2
        count = math.ceil(frames / self.window) * (self.window // self.downsample)
        steps = (
            Step(f"{self._samples(samples)}, two frames each {2 * self.hop}", f"{frames:,} encoder frames"),
            Step(f"windows of {self.window}, {self.window // self.downsample} queries each", f"{count:,}"),
        )
        return Cost(placeholders=count, marks=self.marks, positions=frames, steps=steps)


class CrossFixed(SoundRule, frozen=True, kw_only=True):
    """An encoder of one length, padded or cut, that cross-attention reads (Whisper)."""

    positions: int

    def counted(self, samples: int) -> Cost:
        """The same for every length."""
        steps = (Step(f"{self._samples(samples)}, padded or cut", f"{self.positions:,} keys a cross-attention layer"),)
        return Cost(positions=self.positions, cross=self.positions, steps=steps)


class CrossConvolved(SoundRule, frozen=True, kw_only=True):
    """Three convolutions over the samples, whose output cross-attention reads (Moonshine)."""

    def counted(self, samples: int) -> Cost:
        """`moonshine/modeling_moonshine.py:MoonshineEncoder`, convolutions of 127, 7 and 3 with strides 64, 3 and 2.

        Raises:
            NotTaken: a convolution has nothing left to work on.
        """
        length = samples
        for kernel, stride in ((127, 64), (7, 3), (3, 2)):
            if length < kernel:
                raise NotTaken(
                    f"Calculated padded input size per channel: ({length}). Kernel size: ({kernel}). "
                    "Kernel size can't be greater than actual input size"
                )
            length = (length - kernel) // stride + 1
        steps = (Step(f"{self._samples(samples)} through three convolutions", f"{length:,} keys a cross-attention layer"),)
        return Cost(positions=length, cross=length, steps=steps)
