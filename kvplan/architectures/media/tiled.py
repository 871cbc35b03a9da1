"""Families whose images are cut into tiles, crops or slices. Source: transformers 5.24."""

from collections.abc import Mapping
from typing import Final

from kvplan.architectures.media import readers as r
from kvplan.architectures.media.values import From, Row, Values, audio, config, image, video


def _square(side: int) -> dict[str, From]:
    said = config("vision_config.image_size", default=side)
    return {"height": said, "width": said}


def _patch(default: int) -> From:
    return config("vision_config.patch_size", default=default)


def _seq(values: Values) -> int:
    name = "image_seq_length" if values.whole.has("image_seq_length") else "image_seq_len"
    return values.whole.whole(name, least=1, most=2**20)


def _smolvlm(files: str, types: tuple[str, ...], *, longest: int, tile: int, patch: int, tokens: int) -> Row:
    """One size of SmolVLM: images in tiles, videos a frame a tile; `tokens` stand for each."""
    return Row(
        types=types,
        source=f"{_IDEFICS} {files}; smolvlm/video_processing_smolvlm.py",
        image=image(
            r.edge_tiles, size={"longest_edge": longest}, max_image_size={"longest_edge": tile}, patch_size=_patch(patch)
        ),
        video=video(
            r.per_frame(_seq, r.patches_of("max_image_size"), frame_marks=3, way="smolvlm"),
            max_image_size={"longest_edge": tile},
            patch_size=_patch(patch),
            fps=1,
            num_frames=64,
        ),
        processor={"image_seq_len": tokens},
    )


def _patches(classes: int) -> r.Counted:
    """Positions of a frame: the patches of its size, and a class token."""
    return lambda values: (values.side("size") // values.side("patch_size")) ** 2 + classes


_LLAVA_NEXT: Final = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
_ONEVISION: Final = [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)]
#: Public configs of the family (granite-vision-3.1-2b-preview and later).
_GRANITE: Final = [
    *([384, 384 * n] for n in range(1, 11)), *([768, 384 * n] for n in range(1, 6)), *([1152, 384 * n] for n in (1, 2, 3)),
    *([1536, 384 * n] for n in (1, 2)), *([1920, 384 * n] for n in (1, 2)), *([384 * n, 384] for n in range(6, 11)),
]  # fmt: skip
#: (width, height): every grid of 384 pixels with at most nine tiles.
_DEEPSEEK: Final = [
    [384, 384], [384, 768], [768, 384], [384, 1152], [1152, 384], [384, 1536], [1536, 384], [768, 768], [384, 1920], [1920, 384],
    [384, 2304], [2304, 384], [768, 1152], [1152, 768], [384, 2688], [2688, 384], [384, 3072], [3072, 384], [768, 1536],
    [1536, 768], [384, 3456], [3456, 384], [1152, 1152],
]  # fmt: skip
_IDEFICS: Final = "idefics3/image_processing_idefics3.py, processing_idefics3.py; files of"

ROWS: Final[Mapping[str, Row]] = {
    "internvl": Row(
        types=("internvl", "internvl_chat"),
        source="got_ocr2/image_processing_got_ocr2.py, internvl/processing_internvl.py; conversion of InternVL 2.5 and 3",
        image=image(
            r.tiles(per_tile="image_seq_length", classes=1),
            size=_square(448),
            patch_size=_patch(14),
            min_patches=1,
            max_patches=12,
        ),
        video=video(r.per_frame(_seq, _patches(1), frame_marks=2), size=_square(448), patch_size=_patch(14)),
        processor={"image_seq_length": config("image_seq_length", default=256)},
    ),
    "aya_vision": Row(
        types=("aya_vision",),
        source="got_ocr2/image_processing_got_ocr2.py, aya_vision/processing_aya_vision.py",
        image=image(r.tiles(tile_marks=1), size=_square(364), patch_size=_patch(14), token_size=28, max_patches=12),
        assumed=True,
    ),
    "cohere2_vision": Row(
        types=("cohere2_vision",),
        source="cohere2_vision/image_processing_cohere2_vision.py, processing_cohere2_vision.py",
        image=image(
            r.tiles("least enlarging", tile_marks=1), size=_square(512), patch_size=_patch(16), token_size=32, max_patches=12
        ),
        assumed=True,
    ),
    "ovis2": Row(
        types=("ovis2",),
        source="ovis2/image_processing_ovis2.py, processing_ovis2.py",
        image=image(
            r.tiles("covering", per_tile="image_seq_length", marks=3, separators=True),
            size=_square(448),
            patch_size=_patch(14),
            max_patches=9,
        ),
        processor={"image_seq_length": 256},
        assumed=True,
    ),
    "lfm2_vl": Row(
        types=("lfm2_vl",),
        source="lfm2_vl/image_processing_lfm2_vl.py, processing_lfm2_vl.py; files of LFM2.5-VL",
        image=image(
            r.small_or_tiled,
            tile_size=512,
            min_tiles=2,
            max_tiles=10,
            min_image_tokens=64,
            max_image_tokens=256,
            encoder_patch_size=16,
            downsample_factor=config("downsample_factor", default=2),
        ),
    ),
    "llava_next": Row(
        types=("llava_next",),
        source="llava_next/image_processing_llava_next.py, processing_llava_next.py; files of LLaVA-NeXT",
        image=image(
            r.pinpoints(),
            crop_size=_square(336),
            patch_size=_patch(14),
            image_grid_pinpoints=config("image_grid_pinpoints", default=_LLAVA_NEXT),
        ),
        processor={"vision_feature_select_strategy": config("vision_feature_select_strategy", default="default")},
    ),
    "llava_next_video": Row(
        types=("llava_next_video",),
        source="llava_next_video/processing_llava_next_video.py; files of LLaVA-NeXT-Video",
        image=image(
            r.pinpoints(),
            crop_size=_square(336),
            patch_size=_patch(14),
            image_grid_pinpoints=config("image_grid_pinpoints", default=_LLAVA_NEXT),
        ),
        video=video(
            r.per_frame(
                lambda values: (values.side("crop_size") // values.side("patch_size")) ** 2 // 4,
                lambda values: (values.side("crop_size") // values.side("patch_size")) ** 2 + 1,
            ),
            crop_size=_square(336),
            patch_size=_patch(14),
        ),
        processor={"vision_feature_select_strategy": config("vision_feature_select_strategy", default="default")},
    ),
    "granite_vision": Row(
        types=(),
        source="llava_next/processing_llava_next.py with a SigLIP tower; public configs of Granite Vision",
        image=image(
            r.pinpoints(siglip=True),
            size=_square(384),
            patch_size=_patch(14),
            image_grid_pinpoints=config("image_grid_pinpoints", default=_GRANITE),
        ),
        assumed=True,
        processor={"vision_feature_select_strategy": config("vision_feature_select_strategy", default="full")},
    ),
    "llava_onevision": Row(
        types=("llava_onevision",),
        source="llava_onevision/image_processing_llava_onevision.py, processing_llava_onevision.py; files of OneVision",
        image=image(r.anyres, size=_square(384), image_grid_pinpoints=config("image_grid_pinpoints", default=_ONEVISION)),
        video=video(
            r.per_frame(r.halved_side("num_image_tokens"), r.processor_count("num_image_tokens"), more=1), size=_square(384)
        ),
        processor={"num_image_tokens": 729, "vision_aspect_ratio": config("vision_aspect_ratio", default="anyres_max_9")},
    ),
    "mllama": Row(
        types=("mllama",),
        source="mllama/image_processing_mllama.py, modeling_mllama.py; files of Llama 3.2 Vision",
        # the class default of the config says 448; the files of both checkpoints, and their vision towers, have 560
        image=image(r.cross_tiles, size={"height": 560, "width": 560}, patch_size=_patch(14), max_image_tiles=4),
    ),
    "llama4": Row(
        types=("llama4",),
        source="llama4/image_processing_llama4.py, processing_llama4.py; files of Llama 4",
        image=image(r.llama4_tiles, size=_square(336), patch_size=_patch(14), max_patches=16),
        processor={"pixel_shuffle_ratio": config("vision_config.pixel_shuffle_ratio", default=0.5)},
    ),
    "phi4_multimodal": Row(
        types=("phi4_multimodal", "phi4mm"),
        source="phi4_multimodal/image_processing_phi4_multimodal.py, feature_extraction_phi4_multimodal.py; files of Phi-4",
        image=image(r.dynamic_crops, size={"height": 448, "width": 448}, patch_size=14, dynamic_hd=36),
        audio=audio(r.compressed, win_length=400, hop_length=160, audio_compression_rate=8, sampling_rate=16_000),
    ),
    "phi3_v": Row(
        types=("phi3_v",),
        source="image_processing_phi3_v.py of the model's repository; num_crops of Phi-3.5-Vision (Phi-3-Vision: 16)",
        image=image(
            r.hd_crops,
            num_crops=config("num_crops", default=4),
            num_img_tokens=config("img_processor.num_img_tokens", default=144),
        ),
    ),
    "idefics2": Row(
        types=("idefics2",),
        source="idefics2/image_processing_idefics2.py, processing_idefics2.py",
        image=image(r.quarters, size={"shortest_edge": 378, "longest_edge": 980}, patch_size=_patch(14)),
        processor={"image_seq_len": config("perceiver_config.resampler_n_latents", default=64)},
        assumed=True,
    ),
    "idefics3": Row(
        types=("idefics3",),
        source=f"{_IDEFICS} Idefics3-8B",
        image=image(r.edge_tiles, size={"longest_edge": 1456}, max_image_size={"longest_edge": 364}, patch_size=_patch(14)),
        processor={"image_seq_len": 169},
    ),
    "smolvlm": _smolvlm("SmolVLM", ("smolvlm",), longest=1536, tile=384, patch=14, tokens=81),
    "smolvlm_256m": _smolvlm("SmolVLM-256M and -500M", (), longest=2048, tile=512, patch=16, tokens=64),
    "minicpmv4_6": Row(
        types=("minicpmv4_6",),
        source="minicpmv4_6/image_processing_minicpmv4_6.py, processing_minicpmv4_6.py, video_processing_minicpmv4_6.py",
        image=image(r.slices, scale_resolution=448, max_slice_nums=9, patch_size=_patch(14), use_image_id=True),
        video=video(
            r.as_images(r.frame_slices, "seconds", marks=2),
            scale_resolution=448,
            max_slice_nums=9,
            patch_size=_patch(14),
            max_num_frames=128,
        ),
        assumed=True,
    ),
    "molmo2": Row(
        types=("molmo2",),
        source="molmo2/image_processing_molmo2.py, processing_molmo2.py, video_processing_molmo2.py",
        image=image(
            r.overlapping, size=_square(378), patch_size=_patch(14), max_crops=8, overlap_margins=[4, 4], pooling_size=[2, 2]
        ),
        video=video(
            r.per_frame(r.pooled, _patches(0), frame_marks=2, way="fps cap"),
            size=_square(378),
            patch_size=_patch(14),
            pooling_size=[3, 3],
            num_frames=64,
            max_fps=2,
        ),
        assumed=True,
    ),
    "deepseek_ocr2": Row(
        types=("deepseek_ocr2",),
        source="deepseek_ocr2/image_processing_deepseek_ocr2.py, processing_deepseek_ocr2.py",
        image=image(r.global_and_tiles, size={"height": 1024, "width": 1024}, tile_size=768, min_patches=2, max_patches=6),
        assumed=True,
    ),
    "deepseek_vl2": Row(
        types=("deepseek_vl_v2", "deepseek_vl2"),
        source="vllm 0.33, model_executor/models/deepseek_vl2.py:get_num_image_tokens; processor_config.json of DeepSeek-VL2",
        image=image(
            r.candidates, tile_size=384, patch_size=14, candidate_resolutions=config("candidate_resolutions", default=_DEEPSEEK)
        ),
        processor={"downsample_ratio": 2},
    ),
    "step3p7": Row(
        types=("step3p7",),
        source="step3p7/image_processing_step3p7.py, processing_step3p7.py",
        image=image(r.sliding_crops, size={"height": 728, "width": 728}, patch_size=504, max_image_size=3024),
        assumed=True,
    ),
    "perception_lm": Row(
        types=("perception_lm",),
        source="perception_lm/image_processing_perception_lm.py, processing_perception_lm.py",
        image=image(r.enlarging_tiles, tile_size=448, max_num_tiles=36, patch_size=_patch(14)),
        video=video(r.per_frame(r.pooled_frame, tiles=False), size={"height": 448, "width": 448}, patch_size=_patch(14)),
        processor={"pooling_ratio": config("projector_pooling_ratio", default=2)},
        assumed=True,
    ),
}
