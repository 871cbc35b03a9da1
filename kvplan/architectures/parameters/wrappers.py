"""Models in models: which towers a wrapper has, under which names, and what projects their outputs to the text model's width.

A wrapper that is not here is counted by its text part, and says which sections were not (`Counted.uncounted`).
Source: transformers 5.23 `modeling_*.py` of each (`*ForConditionalGeneration`); names as in the checkpoints.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, table, under, vector
from kvplan.architectures.parameters.sizes import Section, Sizes, part
from kvplan.architectures.parameters.towers import audio, vision
from kvplan.architectures.parameters.towers.vit import tower
from kvplan.domain.parameters import Component

Projector = Callable[[Sizes, Section, Config], Tensors]  # the text model, the tower's section, the whole config


class Wrapper(NamedTuple):
    """One wrapper: towers with their names, projectors, where its text part's names begin, and what its class adds."""

    towers: tuple[tuple[str, str], ...] = (("vision_config", "model.vision_tower."),)
    projectors: tuple[tuple[str, Projector], ...] = ()  # (section, builder)
    text: str | None = "model.language_model."
    head: str = ""


def _projector(
    name: str, *keys: str, outputs: str = "", bias: bool | str = True, second: bool = True, norm_name: str = ""
) -> Projector:
    """Two layers from a tower's width to the text model's; `keys` name the multiple of the width where patches are merged."""

    def build(s: Sizes, tower: Section, c: Config) -> Tensors:
        width = tower.hidden
        wide = Section(c).flag(bias)
        if norm_name:
            yield from norm(f"{name}.{norm_name}", width, bias=True)
        middle = Section(c).number(outputs) if outputs else s.hidden
        yield from linear(f"{name}.linear_1", middle, width, "projector", component="vision", split="column", bias=wide)
        if second:
            yield from linear(f"{name}.linear_2", s.hidden, middle, "projector", component="vision", split="row", bias=wide)

    return build


def _llava_width(tower: Section, c: Config) -> int:
    layers = c.data.get("vision_feature_layer")
    return tower.hidden * (len(layers) if isinstance(layers, list) else 1)


def _llava(s: Sizes, tower: Section, c: Config) -> Tensors:
    bias = c.flag("multimodal_projector_bias", default=True)
    name = "model.multi_modal_projector"
    width = _llava_width(tower, c)
    yield from linear(f"{name}.linear_1", s.hidden, width, "projector", component="vision", split="column", bias=bias)
    yield from linear(f"{name}.linear_2", s.hidden, s.hidden, "projector", component="vision", split="row", bias=bias)


def _vipllava(s: Sizes, tower: Section, c: Config) -> Tensors:
    layers = c.items("vision_feature_layers") or [-2, -5, -8, -11, 6]
    width = tower.hidden * len(layers)
    yield from norm("model.multi_modal_projector.projector_layernorm", width, bias=True)
    yield from linear("model.multi_modal_projector.linear_1", s.hidden, width, "projector", component="vision", bias=True)
    yield from linear("model.multi_modal_projector.linear_2", s.hidden, s.hidden, "projector", component="vision", bias=True)


def _newline(s: Sizes, tower: Section, c: Config) -> Tensors:
    yield from vector("model.image_newline", s.hidden, role="projector", component="vision")
    yield from _llava(s, tower, c)


def _merged(name: str, *, merge: str = "spatial_merge_size", bias: bool | str = False) -> Projector:
    """Mistral 3: norm, patches merged at the tower's width, two layers."""

    def build(s: Sizes, tower: Section, c: Config) -> Tensors:
        factor, width = Section(c).number(merge, default=2) ** 2, tower.hidden
        wide = Section(c).flag(bias)
        yield from norm(f"{name}.norm", width)
        yield from linear(f"{name}.patch_merger.merging_layer", width, factor * width, "projector", component="vision")
        yield from linear(f"{name}.linear_1", s.hidden, width, "projector", component="vision", split="column", bias=wide)
        yield from linear(f"{name}.linear_2", s.hidden, s.hidden, "projector", component="vision", split="row", bias=wide)

    return build


def _gemma3(s: Sizes, tower: Section, c: Config) -> Tensors:
    yield from vector(
        "model.multi_modal_projector.mm_input_projection_weight", tower.hidden, s.hidden, role="projector", component="vision"
    )
    yield from norm("model.multi_modal_projector.mm_soft_emb_norm", tower.hidden, component="vision")


def _one(name: str, *, bias: bool = True) -> Projector:
    def build(s: Sizes, tower: Section, c: Config) -> Tensors:
        yield from linear(name, s.hidden, tower.hidden, "projector", component="vision", bias=bias)

    return build


def _gemma4(component: Component) -> Projector:
    def build(s: Sizes, tower: Section, c: Config) -> Tensors:
        width = tower.maybe("output_proj_dims") or tower.hidden
        name = f"model.embed_{component}.embedding_projection"
        yield from linear(name, s.hidden, width, "projector", component=component)

    return build


#: timm's `mobilenetv5_300m_enc`, whose layers no config lists: what the counts of both Gemma 3n checkpoints leave for it.
_MOBILENET_V5: Final = 294_126_912


def _gemma3n(component: Component) -> Projector:
    """Gemma 3n: an embedding of the sense's own words, its norms, and a layer to the text model's width."""

    def build(s: Sizes, tower: Section, c: Config) -> Tensors:
        name = f"model.embed_{component}"
        yield from table(f"{name}.embedding", tower.number("vocab_size"), tower.hidden, component=component, split="none")
        yield from norm(f"{name}.hard_embedding_norm", tower.hidden, component=component)
        yield from norm(f"{name}.soft_embedding_norm", tower.hidden, component=component)
        yield from linear(f"{name}.embedding_projection", s.hidden, tower.hidden, "projector", component=component)

    return build


def _clip_phi3(s: Sizes, outer: Config) -> Tensors:
    """Phi-3 vision: CLIP-L at 336 pixels, then two layers over four patches (`modeling_phi3_v.py: Phi3ImageEmbedding`)."""
    clip = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336,
        "patch_size": 14, "num_channels": 3,
    }  # fmt: skip
    name = "model.vision_embed_tokens."
    row = vision.ROWS["clip_vision_model"]
    yield from tower(Section(Config(clip, outer.source)), row, f"{name}img_processor.vision_model.", "vision")
    yield from vector(f"{name}glb_GN", 1, 1, 4096, component="vision")
    yield from vector(f"{name}sub_GN", 1, 1, 1, 4096, component="vision")
    yield from linear(f"{name}img_projection.0", s.hidden, 4096, "projector", component="vision", bias=True)
    yield from linear(f"{name}img_projection.2", s.hidden, s.hidden, "projector", component="vision", bias=True)


def _shuffled(
    name: str, factor: str, *, first: str = "linear_1", second: str = "linear_2", normed: str = "layer_norm"
) -> Projector:
    """Patches folded by a factor on each side, a norm, two layers."""

    def build(s: Sizes, tower: Section, c: Config) -> Tensors:
        value = c.data.get(factor, 2)
        fold = round(1 / value) if isinstance(value, float) and value < 1 else int(value)
        wide = tower.hidden * fold * fold
        middle = Section(c).maybe("projector_hidden_size") or s.hidden
        bias = c.flag("projector_bias", default=True)
        if normed and c.flag("projector_use_layernorm", default=True):
            yield from norm(f"{name}.{normed}", wide, bias=True)
        yield from linear(f"{name}.{first}", middle, wide, "projector", component="vision", split="column", bias=bias)
        yield from linear(f"{name}.{second}", s.hidden, middle, "projector", component="vision", split="row", bias=bias)

    return build


def _idefics3(s: Sizes, tower: Section, c: Config) -> Tensors:
    fold = Section(c).number("scale_factor", default=2) ** 2
    name = "model.connector.modality_projection.proj"
    yield from linear(name, s.hidden, tower.hidden * fold, "projector", component="vision")


def _kimi(s: Sizes, tower: Section, c: Config) -> Tensors:
    width = tower.hidden
    kernel = tower.c.integers("merge_kernel_size") or [2, 2]
    wide = width * kernel[0] * kernel[1]
    yield from norm("model.mm_projector.pre_norm", width, bias=True)
    yield from linear("model.mm_projector.in_proj", wide, wide, "projector", component="vision", bias=True)
    yield from linear("model.mm_projector.out_proj", s.hidden, wide, "projector", component="vision", bias=True)


def _kimi_k3(s: Sizes, tower: Section, c: Config) -> Tensors:
    kernel = tower.c.integers("merge_kernel_size") or [2, 2]
    width = tower.number("mm_hidden_size", "vt_hidden_size")
    wide = width * kernel[0] * kernel[1]
    yield from norm("mm_projector.pre_norm", width)
    yield from linear("mm_projector.proj.0", wide, wide, "projector", component="vision")
    yield from linear("mm_projector.proj.2", s.hidden, wide, "projector", component="vision")


def _llama4(s: Sizes, tower: Section, c: Config) -> Tensors:
    width = tower.number("vision_output_dim")
    yield from linear("multi_modal_projector.linear_1", s.hidden, width, "projector", component="vision")


def _mllama(s: Sizes, tower: Section, c: Config) -> Tensors:
    width = tower.number("vision_output_dim")
    yield from linear("model.multi_modal_projector", s.hidden, width, "projector", component="vision", bias=True)


def _minimax(s: Sizes, tower: Section, c: Config) -> Tensors:
    name, merge = "model.multi_modal_projector", tower.number("spatial_merge_size", default=2) ** 2
    middle = Section(c).maybe("projector_hidden_size") or s.hidden
    yield from linear(f"{name}.linear_1", middle, tower.hidden, "projector", component="vision", bias=True)
    yield from linear(f"{name}.linear_2", s.hidden, middle, "projector", component="vision", bias=True)
    yield from linear(f"{name}.merge_linear_1", middle, merge * s.hidden, "projector", component="vision", bias=True)
    yield from linear(f"{name}.merge_linear_2", s.hidden, middle, "projector", component="vision", bias=True)


def _step(s: Sizes, tower: Section, c: Config) -> Tensors:
    bias = c.flag("projector_bias")
    yield from linear("model.multi_modal_projector", s.hidden, 4 * tower.hidden, "projector", component="vision", bias=bias)


def _muse(s: Sizes, tower: Section, c: Config) -> Tensors:
    fold, wide = tower.number("spatial_merge_size", default=2) ** 2, 4096
    wide = (
        tower.maybe("adapter_hidden_size", "projector_hidden_size", "output_dim")
        or Section(c).maybe("vision_adapter_dim")
        or wide
    )
    yield from linear("model.vision_adapter.fc1", wide, fold * tower.hidden, "projector", component="vision")
    yield from linear("model.vision_adapter.fc2", wide, wide, "projector", component="vision")
    yield from linear("model.vision_projection", s.hidden, wide, "projector", component="vision")


def _molmo2(s: Sizes, tower: Section, c: Config) -> Tensors:
    """Molmo 2: attention pools the patches of two depths, then a gated layer."""
    found = part(c, "molmo2", "adapter_config")
    adapter = Section(found[0]) if found else tower
    depths = len(adapter.c.items("vit_layers") or [0, 0])
    hidden, width = adapter.hidden, adapter.number("intermediate_size")
    pool = "model.multi_modal_projector.image_pooling_2d"
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from linear(f"{pool}.{name}", hidden, tower.hidden * depths, "projector", component="vision", bias=True)
    yield from linear(f"{pool}.o_proj", hidden, hidden, "projector", component="vision", bias=True)
    name = "model.multi_modal_projector.image_projector"
    for gate in ("gate_proj", "up_proj"):
        yield from linear(f"{name}.{gate}", width, hidden, "projector", component="vision")
    yield from linear(f"{name}.down_proj", adapter.number("text_hidden_size"), width, "projector", component="vision")


def _paddle(s: Sizes, tower: Section, c: Config) -> Tensors:
    wide = tower.hidden * tower.number("spatial_merge_size", default=2) ** 2
    yield from norm("model.projector.pre_norm", tower.hidden, bias=True)
    yield from linear("model.projector.linear_1", wide, wide, "projector", component="vision", bias=True)
    yield from linear("model.projector.linear_2", s.hidden, wide, "projector", component="vision", bias=True)


def _cosmos_edge(s: Sizes, tower: Section, c: Config) -> Tensors:
    wide = tower.hidden * Section(c).number("projector_spatial_merge_size", "spatial_merge_size", default=2) ** 2
    middle = Section(c).number("projector_hidden_size", default=11520)
    yield from norm("model.projector.norm", tower.hidden, bias=True)
    yield from linear("model.projector.linear_fc1", middle, wide, "projector", component="vision", bias=True)
    yield from linear("model.projector.linear_fc2", s.hidden, middle, "projector", component="vision", bias=True)


def _readout(s: Sizes, tower: Section, c: Config) -> Tensors:
    yield from linear("model.projector.readout.0", s.hidden, tower.hidden, "projector", component="vision", bias=True)
    yield from linear("model.projector.readout.2", s.hidden, s.hidden, "projector", component="vision", bias=True)


def _deepseek_vl(s: Sizes, tower: Section, c: Config) -> Tensors:
    yield from linear("model.aligner.linear1", s.hidden, tower.hidden, "projector", component="vision", bias=True)
    yield from linear("model.aligner.linear2", s.hidden, s.hidden, "projector", component="vision", bias=True)


def _ovis(s: Sizes, tower: Section, c: Config) -> Tensors:
    width = Section(c).number("hidden_size", default=s.hidden)
    yield from table("model.visual_embeddings_table", tower.number("vocab_size"), width, split="none")


def _hyperclova(s: Sizes, tower: Section, c: Config) -> Tensors:
    width = tower.number("out_hidden_size")
    yield from linear("model.projector", s.hidden, width, "projector", component="vision", bias=True)


def _audio(name: str, *, fold: str = "", middle: str = "", bias: bool = True, second: bool = True) -> Projector:
    """Frames, folded where `fold` says how, to the text model's width."""

    def build(s: Sizes, tower: Section, c: Config) -> Tensors:
        width = tower.number(fold) if fold else tower.hidden
        wide = Section(c).number(middle) if middle else s.hidden
        yield from linear(f"{name}.linear_1", wide, width, "projector", component="audio", bias=bias)
        if second:
            yield from linear(f"{name}.linear_2", s.hidden, wide, "projector", component="audio", bias=bias)

    return build


def _glmasr(s: Sizes, tower: Section, c: Config) -> Tensors:
    name, wide = "model.multi_modal_projector", 2 * s.hidden
    yield from linear(f"{name}.linear_1", wide, tower.number("intermediate_size"), "projector", component="audio", bias=True)
    yield from linear(f"{name}.linear_2", s.hidden, wide, "projector", component="audio", bias=True)


def _qwen3_asr(s: Sizes, tower: Section, c: Config) -> Tensors:
    name, out = "model.multi_modal_projector", tower.number("output_dim", default=s.hidden)
    yield from linear(f"{name}.linear_1", tower.hidden, tower.hidden, "projector", component="audio", bias=True)
    yield from linear(f"{name}.linear_2", out, tower.hidden, "projector", component="audio", bias=True)


def _ernie(s: Sizes, tower: Section, c: Config) -> Tensors:
    """ERNIE-VL's resampler: patches folded in space, then in time."""
    wide = tower.hidden * tower.number("spatial_merge_size", default=2) ** 2
    frames = tower.number("temporal_merge_size", default=2)
    for name, inputs in (("spatial_linear", wide), ("temporal_linear", frames * wide)):
        yield from linear(f"model.resampler_model.{name}.fc1", wide, inputs, "projector", component="vision", bias=True)
        yield from linear(f"model.resampler_model.{name}.fc2", wide, wide, "projector", component="vision", bias=True)
        yield from norm(f"model.resampler_model.{name}.ln", wide, bias=True, component="vision")
    yield from linear("model.resampler_model.mlp", s.hidden, wide, "projector", component="vision", bias=True)
    yield from norm("model.resampler_model.after_norm", s.hidden, component="vision")


_VISUAL: Final = (("vision_config", "model.visual."),)
_QWEN: Final = Wrapper(towers=_VISUAL)
_LLAVA: Final = Wrapper(projectors=(("vision_config", _llava),))
_IDEFICS3: Final = Wrapper(
    towers=(("vision_config", "model.vision_model."),), projectors=(("vision_config", _idefics3),), text="model.text_model."
)
_GEMMA3: Final = Wrapper(projectors=(("vision_config", _gemma3),))
_MISTRAL3: Final = Wrapper(
    projectors=(("vision_config", _merged("model.multi_modal_projector", bias="multimodal_projector_bias")),)
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
    "llava_next": Wrapper(projectors=(("vision_config", _newline),)),
    "llava_next_video": Wrapper(projectors=(("vision_config", _newline),)),
    "llava_onevision": Wrapper(projectors=(("vision_config", _newline),)),
    "vipllava": Wrapper(projectors=(("vision_config", _vipllava),)),
    **dict.fromkeys(("idefics3", "smolvlm"), _IDEFICS3),
    "gemma3": _GEMMA3,
    "shieldgemma2": _GEMMA3,
    "paligemma": Wrapper(projectors=(("vision_config", _one("model.multi_modal_projector.linear")),)),
    **dict.fromkeys(
        ("gemma4", "gemma4_unified"),
        Wrapper(
            towers=(("vision_config", "model.vision_tower."), ("audio_config", "model.audio_tower.")),
            projectors=(("vision_config", _gemma4("vision")), ("audio_config", _gemma4("audio"))),
        ),
    ),
    "mistral3": _MISTRAL3,
    "mistral_large4": Wrapper(projectors=(("vision_config", _merged("model.multi_modal_projector")),)),
    "lighton_ocr": Wrapper(
        towers=(("vision_config", "model.vision_encoder."),), projectors=(("vision_config", _merged("model.vision_projection")),)
    ),
    "internvl": Wrapper(projectors=(("vision_config", _shuffled("model.multi_modal_projector", "downsample_ratio")),)),
    "qianfan_ocr": Wrapper(projectors=(("vision_config", _shuffled("model.multi_modal_projector", "downsample_ratio")),)),
    "lfm2_vl": Wrapper(projectors=(("vision_config", _shuffled("model.multi_modal_projector", "downsample_factor")),)),
    "kimi_k3": Wrapper(projectors=(("vision_config", _kimi_k3),), towers=(("vision_config", "vision_tower."),), text="language_model.model.", head="language_model."),
    "kimi_k25": Wrapper(projectors=(("vision_config", _kimi),)),
    "llama4": Wrapper(
        towers=(("vision_config", "vision_model."),), projectors=(("vision_config", _llama4),), text="language_model.model.",
        head="language_model.",
    ),
    "mllama": Wrapper(towers=(("vision_config", "model.vision_model."),), projectors=(("vision_config", _mllama),)),
    "minimax_m3_vl": Wrapper(projectors=(("vision_config", _minimax),)),
    "step3p7": Wrapper(towers=(("vision_config", "model.vision_model."),), projectors=(("vision_config", _step),)),
    "muse_glimmer": Wrapper(projectors=(("vision_config", _muse),)),
    "molmo2": Wrapper(projectors=(("vision_config", _molmo2),)),
    "paddleocr_vl": Wrapper(
        towers=(("vision_config", "model.visual.vision_model."),), projectors=(("vision_config", _paddle),)
    ),
    "cosmos3_edge": Wrapper(towers=_VISUAL, projectors=(("vision_config", _cosmos_edge),)),
    "video_llama_3": Wrapper(towers=(("vision_config", "model.vision_model."),), projectors=(("vision_config", _readout),)),
    "deepseek_vl": Wrapper(towers=(("vision_config", "model.vision_model."),), projectors=(("vision_config", _deepseek_vl),)),
    "ovis2": Wrapper(projectors=(("vision_config", _ovis),)),
    "hyperclovax_vision_v2": Wrapper(
        towers=(("vision_config", "model.vision_model."),), projectors=(("vision_config", _hyperclova),)
    ),
    "ernie4_5_vl_moe": Wrapper(projectors=(("vision_config", _ernie),)),
    "voxtral": Wrapper(
        towers=_AUDIO,
        projectors=(("audio_config", _audio("model.multi_modal_projector", fold="intermediate_size", bias=False)),),
    ),
    "voxtral_realtime": Wrapper(
        towers=_AUDIO,
        projectors=(("audio_config", _audio("model.multi_modal_projector", fold="intermediate_size", bias=False)),),
    ),
    "audioflamingo3": Wrapper(towers=_AUDIO, projectors=(("audio_config", _audio("model.multi_modal_projector")),)),
    "musicflamingo": Wrapper(towers=_AUDIO, projectors=(("audio_config", _audio("model.multi_modal_projector")),)),
    "qwen2_audio": Wrapper(
        towers=_AUDIO, projectors=(("audio_config", _one("model.multi_modal_projector.linear")),)
    ),
    "glmasr": Wrapper(towers=_AUDIO, projectors=(("audio_config", _glmasr),)),
    "qwen3_asr": Wrapper(towers=_AUDIO, projectors=(("audio_config", _qwen3_asr),)),
    "qwen2_5_omni_thinker": Wrapper(towers=(*_AUDIO, *_VISUAL)),
    "qwen3_omni_moe_thinker": Wrapper(towers=(*_AUDIO, *_VISUAL)),
    "gemma3n": Wrapper(
        towers=(("vision_config", "model.vision_tower."), ("audio_config", "model.audio_tower.")),
        projectors=(("vision_config", _gemma3n("vision")), ("audio_config", _gemma3n("audio"))),
    ),
    "fuyu": Wrapper(towers=()),
    "phi3_v": Wrapper(towers=(), text="model."),
}  # fmt: skip


def towers_and_projectors(s: Sizes, outer: Config, wrapper: str) -> tuple[list[Tensors], list[Tensors], tuple[str, ...]]:
    """What stands before the text model, what stands after it, and the sections that no rule counts."""
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
            before.append(vector(f"{prefix}timm_model", _MOBILENET_V5, component="vision"))
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
        return before, [_clip_phi3(s, outer)], tuple(uncounted)
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
