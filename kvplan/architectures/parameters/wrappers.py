"""Models in models: which towers a wrapper has, under which names, and what projects their outputs to the text model's width.

A wrapper that is not here is counted by its text part, and says which sections were not (`Counted.uncounted`).
Source: transformers 5.23 `modeling_*.py` of each (`*ForConditionalGeneration`); names as in the checkpoints.
"""

from typing import Final, NamedTuple

from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters.blocks import Tensors, linear, under, vector
from kvplan.architectures.parameters.sizes import Section, Sizes, part
from kvplan.architectures.parameters.towers import projectors as project
from kvplan.domain.parameters import Component


class Wrapper(NamedTuple):
    """One wrapper: towers with their names, projectors, where its text part's names begin, and what its class adds."""

    towers: tuple[tuple[str, str], ...] = (("vision_config", "model.vision_tower."),)
    projectors: tuple[tuple[str, project.Projector], ...] = ()  # (section, builder)
    text: str | None = "model.language_model."
    head: str = ""


_VISUAL: Final = (("vision_config", "model.visual."),)
_MODEL: Final = (("vision_config", "model.vision_model."),)
_QWEN: Final = Wrapper(towers=_VISUAL)
_LLAVA: Final = Wrapper(projectors=(("vision_config", project.llava),))
_IDEFICS3: Final = Wrapper(
    towers=(("vision_config", "model.vision_model."),),
    projectors=(("vision_config", project.idefics3),),
    text="model.text_model.",
)
_GEMMA3: Final = Wrapper(projectors=(("vision_config", project.gemma3),))
_MISTRAL3: Final = Wrapper(
    projectors=(("vision_config", project.merged("model.multi_modal_projector", bias="multimodal_projector_bias")),)
)
_AUDIO: Final = (("audio_config", "model.audio_tower."),)

WRAPPERS: Final[dict[str, Wrapper]] = {
    **dict.fromkeys(
        (
            "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen4_exp", "glm4v", "glm46v",
            "glm4v_moe", "glm_ocr", "glm5_next", "exaone4_5", "cosmos3_omni", "glmga",
        ),
        _QWEN,
    ),
    "llava": _LLAVA,
    "llava_next": Wrapper(projectors=(("vision_config", project.newline),)),
    "llava_next_video": Wrapper(projectors=(("vision_config", project.newline),)),
    "llava_onevision": Wrapper(projectors=(("vision_config", project.newline),)),
    "vipllava": Wrapper(projectors=(("vision_config", project.vipllava),)),
    **dict.fromkeys(("idefics3", "smolvlm"), _IDEFICS3),
    "gemma3": _GEMMA3,
    "shieldgemma2": _GEMMA3,
    "paligemma": Wrapper(projectors=(("vision_config", project.one("model.multi_modal_projector.linear")),)),
    **dict.fromkeys(
        ("gemma4", "gemma4_unified"),
        Wrapper(
            towers=(("vision_config", "model.vision_tower."), ("audio_config", "model.audio_tower.")),
            projectors=(("vision_config", project.gemma4("vision")), ("audio_config", project.gemma4("audio"))),
        ),
    ),
    "mistral3": _MISTRAL3,
    "mistral_large4": Wrapper(projectors=(("vision_config", project.merged("model.multi_modal_projector")),)),
    "lighton_ocr": Wrapper(
        towers=(("vision_config", "model.vision_encoder."),),
        projectors=(("vision_config", project.merged("model.vision_projection")),)
    ),
    "internvl": Wrapper(projectors=(("vision_config", project.shuffled("model.multi_modal_projector", "downsample_ratio")),)),
    "qianfan_ocr": Wrapper(projectors=(("vision_config", project.shuffled("model.multi_modal_projector", "downsample_ratio")),)),
    "lfm2_vl": Wrapper(projectors=(("vision_config", project.shuffled("model.multi_modal_projector", "downsample_factor")),)),
    "kimi_k3": Wrapper(
        projectors=(("vision_config", project.kimi_k3),),
        towers=(("vision_config", "vision_tower."),),
        text="language_model.model.",
        head="language_model.",
    ),
    "kimi_k25": Wrapper(projectors=(("vision_config", project.kimi),)),
    "llama4": Wrapper(
        towers=(("vision_config", "vision_model."),), projectors=(("vision_config", project.llama4),),
        text="language_model.model.",
        head="language_model.",
    ),
    "mllama": Wrapper(towers=(("vision_config", "model.vision_model."),), projectors=(("vision_config", project.mllama),)),
    "minimax_m3_vl": Wrapper(projectors=(("vision_config", project.minimax),)),
    "step3p7": Wrapper(towers=(("vision_config", "model.vision_model."),), projectors=(("vision_config", project.step),)),
    "muse_glimmer": Wrapper(projectors=(("vision_config", project.muse),)),
    "molmo2": Wrapper(projectors=(("vision_config", project.molmo2),)),
    "paddleocr_vl": Wrapper(
        towers=(("vision_config", "model.visual.vision_model."),), projectors=(("vision_config", project.paddle),)
    ),
    "cosmos3_edge": Wrapper(towers=_VISUAL, projectors=(("vision_config", project.cosmos_edge),)),
    "video_llama_3": Wrapper(towers=_MODEL, projectors=(("vision_config", project.readout),)),
    "deepseek_vl": Wrapper(towers=_MODEL, projectors=(("vision_config", project.deepseek_vl),)),
    "ovis2": Wrapper(projectors=(("vision_config", project.ovis),)),
    "hyperclovax_vision_v2": Wrapper(
        towers=(("vision_config", "model.vision_model."),), projectors=(("vision_config", project.hyperclova),)
    ),
    "ernie4_5_vl_moe": Wrapper(projectors=(("vision_config", project.ernie),)),
    "voxtral": Wrapper(
        towers=_AUDIO,
        projectors=(("audio_config", project.audio("model.multi_modal_projector", fold="intermediate_size", bias=False)),),
    ),
    "voxtral_realtime": Wrapper(
        towers=_AUDIO,
        projectors=(("audio_config", project.audio("model.multi_modal_projector", fold="intermediate_size", bias=False)),),
    ),
    "audioflamingo3": Wrapper(towers=_AUDIO, projectors=(("audio_config", project.audio("model.multi_modal_projector")),)),
    "musicflamingo": Wrapper(towers=_AUDIO, projectors=(("audio_config", project.audio("model.multi_modal_projector")),)),
    "qwen2_audio": Wrapper(
        towers=_AUDIO, projectors=(("audio_config", project.one("model.multi_modal_projector.linear")),)
    ),
    "glmasr": Wrapper(towers=_AUDIO, projectors=(("audio_config", project.glmasr),)),
    "qwen3_asr": Wrapper(towers=_AUDIO, projectors=(("audio_config", project.qwen3_asr),)),
    "qwen2_5_omni_thinker": Wrapper(towers=(*_AUDIO, *_VISUAL)),
    "qwen3_omni_moe_thinker": Wrapper(towers=(*_AUDIO, *_VISUAL)),
    "gemma3n": Wrapper(
        towers=(("vision_config", "model.vision_tower."), ("audio_config", "model.audio_tower.")),
        projectors=(("vision_config", project.gemma3n("vision")), ("audio_config", project.gemma3n("audio"))),
    ),
    "fuyu": Wrapper(towers=()),
    "phi3_v": Wrapper(towers=(), text="model."),
}  # fmt: skip


def row_of(wrapper: str) -> Wrapper | None:
    """The row of a model type; None where it is no wrapper whose towers are counted."""
    return WRAPPERS.get(wrapper)


def towers_and_projectors(s: Sizes, outer: Config, wrapper: str) -> tuple[list[Tensors], list[Tensors], tuple[str, ...]]:
    """What stands before the text model, what stands after it, and the sections that no rule counts."""
    from kvplan.architectures.parameters.towers import audio, vision
    from kvplan.architectures.parameters.towers.vit import tower

    row = WRAPPERS.get(wrapper)
    known = row.towers if row else ()
    before: list[Tensors] = []
    uncounted: list[str] = []
    sections: dict[str, Section] = {}
    for key, prefix in known:
        found = part(outer, wrapper, key)
        if found is None:
            continue
        section, kind = Section(found[0]), found[1]
        component: Component = "audio" if "audio" in key else "vision"
        if wrapper == "kimi_k3":
            before.append(under(prefix, vision.kimi_k3(section), "vision"))
        elif kind == "gemma3n_vision" and section.c.text("architecture", default="") == "mobilenetv5_300m_enc":
            before.append(vector(f"{prefix}timm_model", project.MOBILENET_V5, component="vision"))
        elif kind == "gemma3n_audio":
            before.append(under(prefix, audio.gemma3n_audio(section), "audio"))
        elif kind == "gemma4_audio":
            before.append(under(prefix, audio.gemma4_audio(section), "audio"))
        elif (tower_row := vision.ROWS.get(kind) or audio.ROWS.get(kind)) is not None:
            before.append(tower(section, tower_row, prefix, component))
        else:
            uncounted.append(key)
            continue
        sections[key] = section
    counted = {key for key, _ in known}
    uncounted += [key for key in _other_parts(outer, wrapper) if key not in counted]
    if wrapper == "fuyu":  # no tower: patches are projected
        side, channels = Section(outer).number("patch_size"), Section(outer).number("num_channels")
        after = [linear("model.vision_embed_tokens", s.hidden, side * side * channels, "patch", component="vision", bias=True)]
        return before, after, tuple(uncounted)
    if wrapper == "phi3_v":
        return before, [project.clip_phi3(s, outer)], tuple(uncounted)
    after = [build(s, sections[key], outer) for key, build in (row.projectors if row else ()) if key in sections]
    return before, after, tuple(uncounted)


def _other_parts(outer: Config, wrapper: str) -> list[str]:
    """Sections that hold a model beside the text part."""
    names = (
        "vision_config",
        "audio_config",
        "speech_config",
        "vq_config",
        "codec_config",
        "qformer_config",
        "talker_config",
        "dit_config",
    )
    return [key for key in names if part(outer, wrapper, key) is not None]
