"""Families whose images are resized to a range of pixels, patches or tokens. Source: transformers 5.24."""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.architectures.media import readers as r
from kvplan.architectures.media.values import From, Row, audio, config, image, video


def _patch(default: int) -> From:
    return config("vision_config.patch_size", "thinker_config.vision_config.patch_size", default=default)


def _merge(default: int) -> From:
    return config("vision_config.spatial_merge_size", "thinker_config.vision_config.spatial_merge_size", default=default)


def _size(least: int, most: int) -> dict[str, int]:
    return {"shortest_edge": least, "longest_edge": most}


def _qwen(patch: int, least: int = 3136, most: int = 12_845_056) -> dict[str, Any]:
    return {"patch_size": _patch(patch), "merge_size": _merge(2), "size": _size(least, most)}


_WHISPER: Final = {"hop_length": 160, "sampling_rate": 16_000}


ROWS: Final[Mapping[str, Row]] = {
    "qwen2_vl": Row(
        types=("qwen2_vl",),
        source="qwen2_vl/image_processing_qwen2_vl.py:smart_resize; preprocessor_config.json of Qwen2-VL",
        image=image(r.pixel_range(), **_qwen(14)),
        video=video(r.frame_groups(), **_qwen(14)),
    ),
    "qwen2_5_vl": Row(
        types=("qwen2_5_vl",),
        source="qwen2_vl/image_processing_qwen2_vl.py:smart_resize; preprocessor_config.json of Qwen2.5-VL",
        image=image(r.pixel_range(), **_qwen(14)),
        video=video(r.frame_groups(), **_qwen(14)),
    ),
    "qwen3_vl": Row(
        types=("qwen3_vl", "qwen3_vl_moe"),
        source="qwen2_vl/image_processing_qwen2_vl.py, qwen3_vl/video_processing_qwen3_vl.py; files of Qwen3-VL",
        image=image(r.pixel_range(), **_qwen(16, 65_536, 16_777_216)),
        video=video(r.frame_groups(over_frames=True, group_marks=2, way="rate"), **_qwen(16, 4096, 25_165_824), fps=2),
    ),
    "qwen3_5": Row(
        types=("qwen3_5", "qwen3_5_moe"),
        source="qwen2_vl/image_processing_qwen2_vl.py, qwen3_vl/video_processing_qwen3_vl.py; files of Qwen3.5",
        image=image(r.pixel_range(), **_qwen(16, 65_536, 16_777_216)),
        video=video(r.frame_groups(over_frames=True, group_marks=2, way="rate"), **_qwen(16, 4096, 25_165_824), fps=2),
    ),
    "qwen4_exp": Row(
        types=("qwen4_exp",),
        source="auto/image_processing_auto.py, processing_auto.py: the classes of Qwen3-VL, taken with its numbers",
        image=image(r.pixel_range(), **_qwen(16, 65_536, 16_777_216)),
        video=video(r.frame_groups(over_frames=True, group_marks=2, way="rate"), **_qwen(16, 4096, 25_165_824), fps=2),
        assumed=True,
    ),
    "qwen2_5_omni": Row(
        types=("qwen2_5_omni", "qwen2_5_omni_thinker"),
        source="qwen2_5_omni/processing_qwen2_5_omni.py, whisper/feature_extraction_whisper.py; files of Qwen2.5-Omni",
        image=image(r.pixel_range(), **_qwen(14)),
        video=video(r.omni_frames, **_qwen(14)),
        audio=audio(r.halved, **_WHISPER, chunk_length=300),
    ),
    "qwen3_omni_moe": Row(
        types=("qwen3_omni_moe", "qwen3_omni_moe_thinker"),
        source="qwen3_omni_moe/processing_qwen3_omni_moe.py; files of Qwen3-Omni",
        image=image(r.pixel_range(), **_qwen(16)),
        video=video(r.omni_frames, **_qwen(16)),
        audio=audio(
            r.windowed, **_WHISPER, n_window=config("audio_config.n_window", "thinker_config.audio_config.n_window", default=50)
        ),
    ),
    "exaone4_5": Row(
        types=("exaone4_5",),
        source="qwen2_vl/image_processing_qwen2_vl.py; preprocessor_config.json of EXAONE 4.5",
        image=image(r.pixel_range(), **_qwen(14, 3136, 1_003_520)),
    ),
    "minimax_m3_vl": Row(
        types=("minimax_m3_vl",),
        source="minimax_m3_vl/image_processing_minimax_m3_vl.py; files of MiniMax-M3",
        image=image(r.pixel_range(), patch_size=_patch(14), merge_size=2, size=_size(3136, 451_584)),
    ),
    "video_llama_3": Row(
        types=("video_llama_3",),
        source="video_llama_3/image_processing_video_llama_3.py; files of VideoLLaMA 3",
        image=image(r.pixel_range(0), patch_size=_patch(14), merge_size=1, size=_size(3136, 1_003_520)),
    ),
    "paddleocr_vl": Row(
        types=("paddleocr_vl",),
        source="paddleocr_vl/image_processing_paddleocr_vl.py",
        image=image(r.pixel_range(2, "grown"), **_qwen(14, 147_456, 2_359_296)),
        assumed=True,
    ),
    "hunyuan_vl": Row(
        types=("hunyuan_vl",),
        source="hunyuan_vl/image_processing_hunyuan_vl.py, processing_hunyuan_vl.py",
        image=image(r.pixel_range(breaks=True), **_qwen(16, 262_144, 4_194_304)),
        assumed=True,
    ),
    "muse_glimmer": Row(
        types=("muse_glimmer",),
        source="muse_glimmer/image_processing_muse_glimmer.py:smart_resize",
        image=image(r.nearest_grid, patch_size=_patch(14), merge_size=2, max_image_tokens=4096),
    ),
    "glm4v": Row(
        types=("glm4v", "glm4v_moe"),
        source="glm4v/image_processing_glm4v.py, video_processing_glm4v.py; files of GLM-4.1V",
        image=image(r.pixel_range(2, "frames"), **_qwen(14, 12_544, 9_633_792)),
        video=video(
            r.frame_groups(over_frames=True, group_marks=2, way="glm4v"), **_qwen(14, 12_544, 47_040_000), fps=2, max_duration=300
        ),
    ),
    "glm46v": Row(
        types=("glm46v",),
        source="glm46v/image_processing_glm46v.py, video_processing_glm46v.py; files of GLM-4.6V",
        image=image(r.pixel_range(2, "frames"), **_qwen(14, 12_544, 9_633_792)),
        video=video(r.frame_groups(over_frames=True, group_marks=2, way="glm46v"), **_qwen(14, 12_544, 47_040_000)),
    ),
    "glm5_next": Row(
        types=("glm5_next",),
        source="glm5_next/image_processing_glm5_next.py, video_processing_glm5_next.py",
        image=image(r.padded_range, patch_size=_patch(14), merge_size=2, min_image_tokens=16, max_image_tokens=8000),
        video=video(
            r.padded_groups,
            patch_size=_patch(14),
            merge_size=2,
            min_image_tokens=16,
            max_image_tokens=240_000,
            fps=2,
            max_frames=2048,
        ),
        assumed=True,
    ),
    "kimi_k25": Row(
        types=("kimi_k25",),
        source="kimi_k25/image_processing_kimi_k25.py:navit_resize; media_proc_cfg of Kimi K2.5",
        image=image(
            r.native, patch_size=_patch(14), merge_size=2, max_patches=16_384, size={"max_height": 512, "max_width": 512}
        ),
        video=video(
            r.as_images(r.native, "kimi", group=4, frames=True),
            patch_size=_patch(14),
            merge_size=2,
            max_patches=4096,
            size={"max_height": 512, "max_width": 512},
            temporal_patch_size=4,
            fps=2,
        ),
    ),
    "kimi_k3": Row(
        types=("kimi_k3",),
        source="kimi_k3_vision_processing.py of the model's repository (media_proc_cfg of Kimi K3): the resizing of Kimi K2.5",
        image=image(
            r.native, patch_size=_patch(14), merge_size=2, max_patches=65_536, size={"max_height": 512, "max_width": 512}
        ),
    ),
    "kimi_vl": Row(
        types=("kimi_vl",),
        source="vllm 0.33, model_executor/models/kimi_vl.py:get_num_image_tokens; preprocessor_config.json of Kimi-VL",
        image=image(r.capped, patch_size=14, merge_kernel_size=[2, 2], in_token_limit=4096),
    ),
    "gemma4": Row(
        types=("gemma4",),
        source="gemma4/image_processing_gemma4.py, feature_extraction_gemma4.py; config of Gemma 4",
        image=image(
            r.soft,
            patch_size=_patch(16),
            pooling_kernel_size=config("vision_config.pooling_kernel_size", default=3),
            max_soft_tokens=config("vision_soft_tokens_per_image", default=280),
        ),
        video=video(
            r.as_images(r.soft, "exactly"),
            patch_size=_patch(16),
            pooling_kernel_size=config("vision_config.pooling_kernel_size", default=3),
            max_soft_tokens=70,
            num_frames=32,
        ),
        audio=audio(r.subsampled, frame_length=320, hop_length=160, sampling_rate=16_000),
    ),
    "fuyu": Row(
        types=("fuyu",),
        source="fuyu/image_processing_fuyu.py, processing_fuyu.py; its class's own size",
        image=image(r.within, size={"height": 1080, "width": 1920}, patch_size=30),
        assumed=True,
    ),
    "pixtral": Row(
        types=("pixtral",),
        source="pixtral/image_processing_pixtral.py, processing_pixtral.py; files of Pixtral 12B",
        image=image(r.edge, patch_size=_patch(16), size={"longest_edge": config("vision_config.image_size", default=1024)}),
        processor={"spatial_merge_size": config("spatial_merge_size", default=1)},
    ),
    "mistral3": Row(
        types=("mistral3",),
        source="pixtral/image_processing_pixtral.py, processing_pixtral.py; files of Mistral Small 3.1",
        image=image(r.edge, patch_size=_patch(14), size={"longest_edge": config("vision_config.image_size", default=1540)}),
        processor={"spatial_merge_size": config("spatial_merge_size", default=2)},
    ),
    "mistral_large4": Row(
        types=("mistral_large4", "ministral3"),
        section="vision_config",
        source="auto/image_processing_auto.py, processing_auto.py: the classes of Pixtral, with the config's sizes",
        image=image(r.edge, patch_size=_patch(14), size={"longest_edge": config("vision_config.image_size", default=1540)}),
        processor={"spatial_merge_size": config("spatial_merge_size", default=2)},
        assumed=True,
    ),
}
