"""What projects a tower's outputs to the text model's width, by wrapper.

Source: transformers 5.23 `modeling_*.py` of each (`*MultiModalProjector`, `*Connector`, `*Adapter`).
"""

from collections.abc import Callable
from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, table, vector
from kvplan.architectures.parameters.sizes import Section, Sizes, part
from kvplan.architectures.parameters.towers import vision
from kvplan.architectures.parameters.towers.vit import tower
from kvplan.domain.parameters import Component

Projector = Callable[[Sizes, Section, Config], Tensors]  # the text model, the tower's section, the whole config


def projector(
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


def llava_width(tower: Section, c: Config) -> int:
    """The width of a tower's output: of several layers side by side where the config lists them."""
    layers = c.data.get("vision_feature_layer")
    return tower.hidden * (len(layers) if isinstance(layers, list) else 1)


def llava(s: Sizes, tower: Section, c: Config) -> Tensors:
    """LLaVA: two layers."""
    bias = c.flag("multimodal_projector_bias", default=True)
    name = "model.multi_modal_projector"
    width = llava_width(tower, c)
    yield from linear(f"{name}.linear_1", s.hidden, width, "projector", component="vision", split="column", bias=bias)
    yield from linear(f"{name}.linear_2", s.hidden, s.hidden, "projector", component="vision", split="row", bias=bias)


def vipllava(s: Sizes, tower: Section, c: Config) -> Tensors:
    """VipLLaVA: the outputs of five layers side by side, a norm, two layers."""
    layers = c.items("vision_feature_layers") or [-2, -5, -8, -11, 6]
    width = tower.hidden * len(layers)
    yield from norm("model.multi_modal_projector.projector_layernorm", width, bias=True)
    yield from linear("model.multi_modal_projector.linear_1", s.hidden, width, "projector", component="vision", bias=True)
    yield from linear("model.multi_modal_projector.linear_2", s.hidden, s.hidden, "projector", component="vision", bias=True)


def newline(s: Sizes, tower: Section, c: Config) -> Tensors:
    """LLaVA-NeXT: a vector that ends each row of patches, and LLaVA's two layers."""
    yield from vector("model.image_newline", s.hidden, role="projector", component="vision")
    yield from llava(s, tower, c)


def merged(name: str, *, merge: str = "spatial_merge_size", bias: bool | str = False) -> Projector:
    """Mistral 3: norm, patches merged at the tower's width, two layers."""

    def build(s: Sizes, tower: Section, c: Config) -> Tensors:
        factor, width = Section(c).number(merge, default=2) ** 2, tower.hidden
        wide = Section(c).flag(bias)
        yield from norm(f"{name}.norm", width)
        yield from linear(f"{name}.patch_merger.merging_layer", width, factor * width, "projector", component="vision")
        yield from linear(f"{name}.linear_1", s.hidden, width, "projector", component="vision", split="column", bias=wide)
        yield from linear(f"{name}.linear_2", s.hidden, s.hidden, "projector", component="vision", split="row", bias=wide)

    return build


def gemma3(s: Sizes, tower: Section, c: Config) -> Tensors:
    """Gemma 3: a matrix and a norm."""
    yield from vector(
        "model.multi_modal_projector.mm_input_projection_weight", tower.hidden, s.hidden, role="projector", component="vision"
    )
    yield from norm("model.multi_modal_projector.mm_soft_emb_norm", tower.hidden, component="vision")


def one(name: str, *, bias: bool = True) -> Projector:
    """One layer."""

    def build(s: Sizes, tower: Section, c: Config) -> Tensors:
        yield from linear(name, s.hidden, tower.hidden, "projector", component="vision", bias=bias)

    return build


def gemma4(component: Component) -> Projector:
    """Gemma 4: one layer without a bias."""

    def build(s: Sizes, tower: Section, c: Config) -> Tensors:
        width = tower.maybe("output_proj_dims") or tower.hidden
        name = f"model.embed_{component}.embedding_projection"
        yield from linear(name, s.hidden, width, "projector", component=component)

    return build


#: timm's `mobilenetv5_300m_enc`, whose layers no config lists: what the counts of both Gemma 3n checkpoints leave for it.
MOBILENET_V5: Final = 294_126_912


def gemma3n(component: Component) -> Projector:
    """Gemma 3n: an embedding of the sense's own words, its norms, and a layer to the text model's width."""

    def build(s: Sizes, tower: Section, c: Config) -> Tensors:
        name = f"model.embed_{component}"
        yield from table(f"{name}.embedding", tower.number("vocab_size"), tower.hidden, component=component, split="none")
        yield from norm(f"{name}.hard_embedding_norm", tower.hidden, component=component)
        yield from norm(f"{name}.soft_embedding_norm", tower.hidden, component=component)
        yield from linear(f"{name}.embedding_projection", s.hidden, tower.hidden, "projector", component=component)

    return build


def clip_phi3(s: Sizes, outer: Config) -> Tensors:
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


def shuffled(
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


def idefics3(s: Sizes, tower: Section, c: Config) -> Tensors:
    """Idefics 3: one layer over patches folded in squares."""
    fold = Section(c).number("scale_factor", default=2) ** 2
    name = "model.connector.modality_projection.proj"
    yield from linear(name, s.hidden, tower.hidden * fold, "projector", component="vision")


def kimi(s: Sizes, tower: Section, c: Config) -> Tensors:
    """Kimi-VL: a norm, then two layers over four patches."""
    width = tower.hidden
    kernel = tower.c.integers("merge_kernel_size") or [2, 2]
    wide = width * kernel[0] * kernel[1]
    yield from norm("model.mm_projector.pre_norm", width, bias=True)
    yield from linear("model.mm_projector.in_proj", wide, wide, "projector", component="vision", bias=True)
    yield from linear("model.mm_projector.out_proj", s.hidden, wide, "projector", component="vision", bias=True)


def kimi_k3(s: Sizes, tower: Section, c: Config) -> Tensors:
    """Kimi K3: as Kimi-VL, without biases."""
    kernel = tower.c.integers("merge_kernel_size") or [2, 2]
    width = tower.number("mm_hidden_size", "vt_hidden_size")
    wide = width * kernel[0] * kernel[1]
    yield from norm("mm_projector.pre_norm", width)
    yield from linear("mm_projector.proj.0", wide, wide, "projector", component="vision")
    yield from linear("mm_projector.proj.2", s.hidden, wide, "projector", component="vision")


def llama4(s: Sizes, tower: Section, c: Config) -> Tensors:
    """Llama 4: one layer from the tower's own output width."""
    width = tower.number("vision_output_dim")
    yield from linear("multi_modal_projector.linear_1", s.hidden, width, "projector", component="vision")


def mllama(s: Sizes, tower: Section, c: Config) -> Tensors:
    """Llama 3.2: one layer from the tower's own output width, with a bias."""
    width = tower.number("vision_output_dim")
    yield from linear("model.multi_modal_projector", s.hidden, width, "projector", component="vision", bias=True)


def minimax(s: Sizes, tower: Section, c: Config) -> Tensors:
    """MiniMax: two layers a patch, two more over four patches."""
    name, merge = "model.multi_modal_projector", tower.number("spatial_merge_size", default=2) ** 2
    middle = Section(c).maybe("projector_hidden_size") or s.hidden
    yield from linear(f"{name}.linear_1", middle, tower.hidden, "projector", component="vision", bias=True)
    yield from linear(f"{name}.linear_2", s.hidden, middle, "projector", component="vision", bias=True)
    yield from linear(f"{name}.merge_linear_1", middle, merge * s.hidden, "projector", component="vision", bias=True)
    yield from linear(f"{name}.merge_linear_2", s.hidden, middle, "projector", component="vision", bias=True)


def step(s: Sizes, tower: Section, c: Config) -> Tensors:
    """Step: one layer over four channels' worth of patches."""
    bias = c.flag("projector_bias")
    yield from linear("model.multi_modal_projector", s.hidden, 4 * tower.hidden, "projector", component="vision", bias=bias)


def muse(s: Sizes, tower: Section, c: Config) -> Tensors:
    """Muse: an adapter of two layers over four patches, and a layer to the text model's width."""
    fold, wide = tower.number("spatial_merge_size", default=2) ** 2, 4096
    wide = (
        tower.maybe("adapter_hidden_size", "projector_hidden_size", "output_dim")
        or Section(c).maybe("vision_adapter_dim")
        or wide
    )
    yield from linear("model.vision_adapter.fc1", wide, fold * tower.hidden, "projector", component="vision")
    yield from linear("model.vision_adapter.fc2", wide, wide, "projector", component="vision")
    yield from linear("model.vision_projection", s.hidden, wide, "projector", component="vision")


def molmo2(s: Sizes, tower: Section, c: Config) -> Tensors:
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


def paddle(s: Sizes, tower: Section, c: Config) -> Tensors:
    """PaddleOCR-VL: a norm, then two layers over four patches."""
    wide = tower.hidden * tower.number("spatial_merge_size", default=2) ** 2
    yield from norm("model.projector.pre_norm", tower.hidden, bias=True)
    yield from linear("model.projector.linear_1", wide, wide, "projector", component="vision", bias=True)
    yield from linear("model.projector.linear_2", s.hidden, wide, "projector", component="vision", bias=True)


def cosmos_edge(s: Sizes, tower: Section, c: Config) -> Tensors:
    """Cosmos 3: a norm, then two layers over patches folded in squares."""
    wide = tower.hidden * Section(c).number("projector_spatial_merge_size", "spatial_merge_size", default=2) ** 2
    middle = Section(c).number("projector_hidden_size", default=11520)
    yield from norm("model.projector.norm", tower.hidden, bias=True)
    yield from linear("model.projector.linear_fc1", middle, wide, "projector", component="vision", bias=True)
    yield from linear("model.projector.linear_fc2", s.hidden, middle, "projector", component="vision", bias=True)


def readout(s: Sizes, tower: Section, c: Config) -> Tensors:
    """VideoLLaMA 3: two layers."""
    yield from linear("model.projector.readout.0", s.hidden, tower.hidden, "projector", component="vision", bias=True)
    yield from linear("model.projector.readout.2", s.hidden, s.hidden, "projector", component="vision", bias=True)


def deepseek_vl(s: Sizes, tower: Section, c: Config) -> Tensors:
    """DeepSeek-VL: two layers."""
    yield from linear("model.aligner.linear1", s.hidden, tower.hidden, "projector", component="vision", bias=True)
    yield from linear("model.aligner.linear2", s.hidden, s.hidden, "projector", component="vision", bias=True)


def ovis(s: Sizes, tower: Section, c: Config) -> Tensors:
    """Ovis: a table of visual words."""
    width = Section(c).number("hidden_size", default=s.hidden)
    yield from table("model.visual_embeddings_table", tower.number("vocab_size"), width, split="none")


def hyperclova(s: Sizes, tower: Section, c: Config) -> Tensors:
    """HyperCLOVA X: one layer."""
    width = tower.number("out_hidden_size")
    yield from linear("model.projector", s.hidden, width, "projector", component="vision", bias=True)


def audio(name: str, *, fold: str = "", middle: str = "", bias: bool = True, second: bool = True) -> Projector:
    """Frames, folded where `fold` says how, to the text model's width."""

    def build(s: Sizes, tower: Section, c: Config) -> Tensors:
        width = tower.number(fold) if fold else tower.hidden
        wide = Section(c).number(middle) if middle else s.hidden
        yield from linear(f"{name}.linear_1", wide, width, "projector", component="audio", bias=bias)
        if second:
            yield from linear(f"{name}.linear_2", s.hidden, wide, "projector", component="audio", bias=bias)

    return build


def glmasr(s: Sizes, tower: Section, c: Config) -> Tensors:
    """GLM-ASR: two layers over folded frames."""
    name, wide = "model.multi_modal_projector", 2 * s.hidden
    yield from linear(f"{name}.linear_1", wide, tower.number("intermediate_size"), "projector", component="audio", bias=True)
    yield from linear(f"{name}.linear_2", s.hidden, wide, "projector", component="audio", bias=True)


def qwen3_asr(s: Sizes, tower: Section, c: Config) -> Tensors:
    """Qwen3-ASR: two layers."""
    name, out = "model.multi_modal_projector", tower.number("output_dim", default=s.hidden)
    yield from linear(f"{name}.linear_1", tower.hidden, tower.hidden, "projector", component="audio", bias=True)
    yield from linear(f"{name}.linear_2", out, tower.hidden, "projector", component="audio", bias=True)


def ernie(s: Sizes, tower: Section, c: Config) -> Tensors:
    """ERNIE-VL's resampler: patches folded in space, then in time."""
    wide = tower.hidden * tower.number("spatial_merge_size", default=2) ** 2
    frames = tower.number("temporal_merge_size", default=2)
    for name, inputs in (("spatial_linear", wide), ("temporal_linear", frames * wide)):
        yield from linear(f"model.resampler_model.{name}.fc1", wide, inputs, "projector", component="vision", bias=True)
        yield from linear(f"model.resampler_model.{name}.fc2", wide, wide, "projector", component="vision", bias=True)
        yield from norm(f"model.resampler_model.{name}.ln", wide, bias=True, component="vision")
    yield from linear("model.resampler_model.mlp", s.hidden, wide, "projector", component="vision", bias=True)
    yield from norm("model.resampler_model.after_norm", s.hidden, component="vision")
