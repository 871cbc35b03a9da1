"""Families that bring every image to one size. Source: transformers 5.24."""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.architectures.media import readers as r
from kvplan.architectures.media.values import From, Row, audio, config, image


def _square(side: int) -> dict[str, From]:
    said = config("vision_config.image_size", default=side)
    return {"height": said, "width": said}


def _patch(default: int) -> From:
    return config("vision_config.patch_size", default=default)


_PALIGEMMA: Final = "paligemma/processing_paligemma.py, siglip/image_processing_siglip.py"


def _paligemma(side: int) -> dict[str, Any]:
    return {"size": _square(side), "patch_size": _patch(14)}


ROWS: Final[Mapping[str, Row]] = {
    "llava": Row(
        types=("llava",),
        source="llava/processing_llava.py, clip/image_processing_clip.py; files of LLaVA 1.5",
        image=image(r.clip, crop_size=_square(336), patch_size=_patch(14)),
        processor={"vision_feature_select_strategy": config("vision_feature_select_strategy", default="default")},
    ),
    "gemma3": Row(
        types=("gemma3", "shieldgemma2"),
        source="gemma3/image_processing_gemma3.py, processing_gemma3.py; files of Gemma 3",
        image=image(r.pan_and_scan, size=_square(896), patch_size=_patch(14)),
        processor={"image_seq_length": config("mm_tokens_per_image", default=256)},
    ),
    "gemma3n": Row(
        types=("gemma3n",),
        source="gemma3n/processing_gemma3n.py; files of Gemma 3n",
        image=image(r.fixed("image_seq_length", marks=2), size={"height": 768, "width": 768}, patch_size=16),
        audio=audio(r.constant, sampling_rate=16_000),
        processor={
            "image_seq_length": config("vision_soft_tokens_per_image", default=256),
            "audio_seq_length": config("audio_soft_tokens_per_image", default=188),
        },
    ),
    "paligemma": Row(types=("paligemma",), source=_PALIGEMMA, image=image(r.fixed(square=True), **_paligemma(224))),
    "paligemma_224": Row(types=(), source=_PALIGEMMA, image=image(r.fixed(square=True), **_paligemma(224))),
    "paligemma_448": Row(types=(), source=_PALIGEMMA, image=image(r.fixed(square=True), **_paligemma(448))),
    "paligemma_896": Row(types=(), source=_PALIGEMMA, image=image(r.fixed(square=True), **_paligemma(896))),
    "florence2": Row(
        types=("florence2",),
        source="florence2/processing_florence2.py",
        image=image(r.fixed("image_seq_length"), image_seq_length=577, crop_size={"height": 768, "width": 768}),
    ),
    "kosmos2": Row(
        types=("kosmos-2",),
        source="kosmos2/processing_kosmos2.py",
        image=image(
            r.fixed("num_patch_index_tokens", marks=2, square=True, classes=1),
            crop_size=_square(224),
            patch_size=_patch(14),
            num_patch_index_tokens=config("latent_query_num", default=64),
        ),
    ),
    "chameleon": Row(
        types=("chameleon",),
        source="chameleon/processing_chameleon.py",
        image=image(r.fixed("image_seq_length", marks=2, tiles=False), crop_size={"height": 512, "width": 512}),
        processor={"image_seq_length": 1024},
    ),
    "aria": Row(
        types=("aria",),
        source="aria/processing_aria.py",
        image=image(r.split, max_image_size=980),
        processor={"size_conversion": {"490": 128, "980": 256}},
    ),
}
