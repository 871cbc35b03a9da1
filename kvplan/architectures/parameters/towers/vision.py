"""Vision towers by the model type of their config section.

Source: transformers 5.23 `modeling_*.py` of each; checked against `named_parameters()` by tools/check_parameters.py.
"""

from typing import Final

from kvplan.architectures.parameters.blocks import Tensors, linear, norm, over_layers, table, under, vector
from kvplan.architectures.parameters.sizes import Section
from kvplan.architectures.parameters.towers.vit import Tower, modules, patches


def _pooling_head(s: Section) -> Tensors:
    """SigLIP's head: one learned query attends over the patches. Language models switch it off (`vision_use_head`)."""
    if not s.c.flag("vision_use_head", default=True):
        return
    width = s.number("intermediate_size")
    yield from vector("head.probe", s.hidden, component="vision")
    yield from _multihead("head.attention", s.hidden)
    yield from norm("head.layernorm", s.hidden, bias=True)
    yield from linear("head.mlp.fc1", width, s.hidden, "up", component="vision", split="column", bias=True)
    yield from linear("head.mlp.fc2", s.hidden, width, "down", component="vision", split="row", bias=True)


def _multihead(name: str, width: int) -> Tensors:
    """torch's own multi-head attention: queries, keys and values in one matrix."""
    yield from vector(f"{name}.in_proj_weight", 3 * width, width, role="qkv", component="vision")
    yield from vector(f"{name}.in_proj_bias", 3 * width, role="qkv", component="vision")
    yield from linear(f"{name}.out_proj", width, width, "o", component="vision", bias=True)


def _qwen2_merger(s: Section) -> Tensors:
    """Qwen2-VL: norm, then two layers over four patches."""
    wide = s.number("embed_dim", "hidden_size") * s.number("spatial_merge_size") ** 2
    yield from norm("merger.ln_q", s.number("embed_dim", "hidden_size"), bias="embed_dim" in s.c.data)
    yield from linear("merger.mlp.0", wide, wide, "projector", component="vision", split="column", bias=True)
    yield from linear("merger.mlp.2", _out(s), wide, "projector", component="vision", split="row", bias=True)


def _out(s: Section) -> int:
    """The text model's width, by the key that each generation uses."""
    return s.number("hidden_size") if "embed_dim" in s.c.data else s.number("out_hidden_size")


def _qwen3_mergers(s: Section) -> Tensors:
    """Qwen3-VL: the merger, and one more for each depth that feeds the text model early."""
    wide = s.hidden * s.number("spatial_merge_size") ** 2
    out = s.number("out_hidden_size")
    yield from _qwen3_merger("merger", s.hidden, wide, out)
    for place in range(len(s.c.integers("deepstack_visual_indexes") or [])):
        yield from _qwen3_merger(f"deepstack_merger_list.{place}", wide, wide, out)


def _qwen3_merger(name: str, normed: int, wide: int, out: int) -> Tensors:
    yield from norm(f"{name}.norm", normed, bias=True)
    yield from linear(f"{name}.linear_fc1", wide, wide, "projector", component="vision", split="column", bias=True)
    yield from linear(f"{name}.linear_fc2", out, wide, "projector", component="vision", split="row", bias=True)


def _glm_merger(s: Section, width: int) -> Tensors:
    """GLM-4V: a strided convolution, then a gated layer at the text model's width."""
    out, merge = s.number("out_hidden_size"), s.number("spatial_merge_size")
    yield from linear("merger.proj", out, out, "projector", component="vision", split="column")
    yield from norm("merger.post_projection_norm", out, bias=True)
    yield from linear("merger.gate_proj", width, out, "gate", component="vision", split="column")
    yield from linear("merger.up_proj", width, out, "up", component="vision", split="column")
    yield from linear("merger.down_proj", out, width, "down", component="vision", split="row")
    yield from vector("downsample.weight", out, s.hidden, merge, merge, role="projector", component="vision")
    yield from vector("downsample.bias", out, role="projector", component="vision")


def _mllama(s: Section) -> Tensors:
    """Llama 3.2: gated layers after the others, and positions of the tile as well as in it."""
    tiles, ratios = s.number("max_num_tiles"), len(s.c.items("supported_aspect_ratios") or [0] * 8) + 1
    rows, hidden = patches(s) + 1, s.hidden
    yield from vector("gated_positional_embedding.gate", 1, component="vision")
    yield from vector("gated_positional_embedding.embedding", rows, hidden, role="positions", component="vision")
    yield from table("gated_positional_embedding.tile_embedding", ratios, tiles * rows * hidden, "positions", split="none")
    for name in ("pre_tile_positional_embedding", "post_tile_positional_embedding"):
        yield from vector(f"{name}.gate", 1, component="vision")
        yield from table(f"{name}.embedding", ratios, tiles * hidden, "positions", split="none")
    gated = _MLLAMA_LAYERS._replace(stack="global_transformer.layers", layers=("num_global_layers",), more=_mllama_gates)
    yield from modules(s, gated)


def _mllama_gates(s: Section) -> Tensors:
    def gates(_: int) -> Tensors:
        yield from vector("gate_attn", 1, component="vision")
        yield from vector("gate_ffn", 1, component="vision")

    yield from over_layers("global_transformer.layers", [0] * s.number("num_global_layers"), gates)


def _llama4(s: Section) -> Tensors:
    """Llama 4: patches are shuffled into fewer, wider ones and pass two layers."""
    width = s.number("projector_input_dim")
    out = s.number("projector_output_dim")
    yield from linear(
        "vision_adapter.mlp.fc1", width, s.number("intermediate_size"), "projector", component="vision", split="column"
    )
    yield from linear("vision_adapter.mlp.fc2", out, out, "projector", component="vision", split="row")


def _gemma4(s: Section) -> Tensors:
    """Gemma 4: two tables of positions, one a direction, and what the outputs are standardised by."""
    rows = s.number("position_embedding_size")
    yield from vector("patch_embedder.position_embedding_table", 2, rows, s.hidden, role="positions", component="vision")
    if s.c.flag("standardize"):
        yield from vector("std_bias", s.hidden, component="vision", buffer=True)
        yield from vector("std_scale", s.hidden, component="vision", buffer=True)
    more = ("post_attention_layernorm", "post_feedforward_layernorm")
    yield from over_layers(
        "encoder.layers", [0] * s.number("num_hidden_layers"), lambda _: (p for name in more for p in norm(name, s.hidden))
    )


def _step(s: Section) -> Tensors:
    """Step-3.7: two strided convolutions after the layers."""
    wide = s.hidden
    for name, inputs in (("downsampler1", wide), ("downsampler2", 2 * wide)):
        yield from vector(f"{name}.weight", 2 * inputs, inputs, 3, 3, role="projector", component="vision")
        yield from vector(f"{name}.bias", 2 * inputs, role="projector", component="vision")


def _ovis(s: Section) -> Tensors:
    """Ovis: the tower ends in the probabilities of visual tokens."""
    words = s.number("vocab_size") - s.number("num_visual_indicator_tokens")
    yield from linear("head_linear", words, s.hidden * s.number("hidden_stride") ** 2, "projector", component="vision")
    yield from norm("head_norm", words, bias=True)


def _moon_positions(s: Section) -> int:
    """MoonViT: a table of places in a grid."""
    return s.number("init_pos_emb_height", "pos_emb_height") * s.number("init_pos_emb_width", "pos_emb_width")


def kimi_k3(s: Section) -> Tensors:
    """Kimi K3's tower (a config without a model type): RMS norms, attention wider than the residual stream."""
    hidden, wide, width = s.number("vt_hidden_size"), s.number("qkv_hidden_size"), s.number("vt_intermediate_size")
    side = s.number("patch_size")
    yield from vector("patch_embed.proj.weight", hidden, 3, side, side, role="patch", component="vision")
    rows = s.number("init_pos_emb_height") * s.number("init_pos_emb_width")
    yield from table("patch_embed.pos_emb", rows, hidden, "positions", split="none")

    def layer(_: int) -> Tensors:
        yield from norm("norm0", hidden)
        yield from norm("norm1", hidden)
        yield from linear("wqkv", 3 * wide, hidden, "qkv", component="vision", split="column")
        yield from linear("wo", hidden, wide, "o", component="vision", split="row")
        yield from linear("mlp.fc0", width, hidden, "up", component="vision", split="column")
        yield from linear("mlp.fc1", hidden, width, "down", component="vision", split="row")

    yield from over_layers("encoder.blocks", [0] * s.number("vt_num_hidden_layers"), layer)
    yield from norm("encoder.final_layernorm", hidden)


_SIGLIP: Final = Tower(more=_pooling_head)
_CLIP: Final = Tower(
    class_vector="embeddings.class_embedding",
    patch_bias=False,
    before="pre_layrnorm",  # so spelled in the checkpoints
)
_QWEN2: Final = Tower(
    hidden=("embed_dim", "hidden_size"),
    patch="patch_embed.proj", patch_kind="conv3d", patch_bias=False, positions="", after="", stack="blocks",
    norms=("norm1", "norm2"), attention="attn", names=("qkv", "proj"), layers=("depth", "num_hidden_layers"),
    heads=("num_heads", "num_attention_heads"), more=_qwen2_merger,
)  # fmt: skip
_QWEN25: Final = _QWEN2._replace(norm_bias=False, mlp_names=("gate_proj", "up_proj", "down_proj"))
_QWEN3: Final = _QWEN2._replace(
    patch_bias=True, positions="pos_embed", position_rows=lambda s: s.number("num_position_embeddings"),
    mlp_names=("linear_fc1", "linear_fc2"), more=_qwen3_mergers,
)  # fmt: skip
_PIXTRAL: Final = Tower(
    patch="patch_conv", patch_bias=False, positions="", before="ln_pre", after="", stack="transformer.layers",
    norms=("attention_norm", "ffn_norm"), norm_bias=False, attention="attention", names=("k_proj", "v_proj", "q_proj", "o_proj"),
    bias=False, mlp="feed_forward", mlp_names=("gate_proj", "up_proj", "down_proj"), mlp_bias=False,
)  # fmt: skip
_INTERNVL: Final = Tower(
    patch="embeddings.patch_embeddings.projection", positions="embeddings.position_embeddings",
    class_vector="embeddings.cls_token", after="", stack="encoder.layer", norms=("layernorm_before", "layernorm_after"),
    attention="attention", names=("k_proj", "v_proj", "q_proj", "projection_layer"), bias="attention_bias", o_bias=True,
    scales=("lambda_1", "lambda_2"),
)  # fmt: skip
_GLM4V: Final = _QWEN25._replace(
    patch_bias=True, positions="embeddings.position_embedding", position_rows=patches, before="post_conv_layernorm",
    after="post_layernorm", bias="attention_bias", o_bias="attention_bias", mlp_bias="attention_bias",
    more=lambda s: _glm_merger(s, s.number("intermediate_size")),
    width=("out_hidden_size",),
)  # fmt: skip
_GLM_NEXT: Final = _GLM4V._replace(positions="", before="", qk_norm=("q_norm", "k_norm"), width=("intermediate_size",))
_MLLAMA_LAYERS: Final = Tower(
    patch_kind="none", positions="", after="", stack="transformer.layers", norms=("input_layernorm", "post_attention_layernorm"),
    names=("k_proj", "v_proj", "q_proj", "o_proj"), bias=False, heads=("attention_heads", "num_attention_heads"),
)  # fmt: skip
_MUSE: Final = Tower(
    patch="patch_embedder.patch_embedding", patch_kind="linear", patch_bias=False,
    positions="patch_embedder.position_embedding_table",
    position_rows=lambda s: s.number("num_position_embeddings", "num_patches", default=1024),
    before="ln_pre", after="ln_post", stack="layers", norms=("norm1", "norm2"), attention="attn",
    names=("k_proj", "v_proj", "q_proj", "proj"),
)  # fmt: skip

ROWS: Final[dict[str, Tower]] = {
    **dict.fromkeys(
        ("idefics2_vision", "idefics3_vision", "smolvlm_vision", "granite_docling_vision"), _SIGLIP._replace(more=None)
    ),
    "siglip_vision_model": _SIGLIP,
    "clip_vision_model": _CLIP,
    "siglip2_vision_model": _SIGLIP._replace(patch_kind="linear", position_rows=lambda s: s.number("num_patches")),
    "qwen2_vl_vision": _QWEN2,
    "qwen2_vl": _QWEN2,
    "qwen2_5_vl_vision": _QWEN25,
    "qwen2_5_vl": _QWEN25,
    "qwen2_5_omni_vision_encoder": _QWEN25._replace(names=("k", "v", "q", "proj")),
    "exaone4_5_vision": _QWEN25._replace(kv_heads=("num_key_value_heads",)),
    **dict.fromkeys(
        (
            "qwen3_vl_vision", "qwen3_vl", "qwen3_vl_moe_vision", "qwen3_vl_moe", "qwen3_5_vision", "qwen3_5",
            "qwen3_5_moe_vision", "qwen3_5_moe", "qwen4_exp_vision", "qwen3_omni_moe_vision_encoder",
        ),
        _QWEN3,
    ),
    "pixtral": _PIXTRAL,
    "internvl_vision": _INTERNVL,
    "qianfan_ocr_vision": _INTERNVL._replace(stack="layers"),
    "glm4v_vision": _GLM4V,
    "glm4v_moe_vision": _GLM4V,
    "glm_ocr_vision": _GLM_NEXT._replace(
        more=lambda s: _glm_merger(s, s.number("out_hidden_size") * s.number("in_channels", default=3))
    ),
    "glm5_next_vision": _GLM_NEXT._replace(more=lambda s: _glm_merger(s, s.number("projection_intermediate_size"))),
    "kimi_k25_vision": Tower(
        patch="patch_embed.proj", positions="patch_embed.pos_emb.position_embeddings",
        position_rows=_moon_positions,
        after="final_layernorm", stack="layers", norms=("norm1", "norm2"), attention="attn",
        names=("k_proj", "v_proj", "q_proj", "proj"),
    ),
    "mllama_vision_model": _MLLAMA_LAYERS._replace(
        patch="patch_embedding", patch_kind="conv2d", patch_bias=False, class_vector="class_embedding", before="layernorm_pre",
        after="layernorm_post", more=_mllama,
    ),
    "llama4_vision_model": Tower(
        patch="patch_embedding.linear", patch_kind="linear", patch_bias=False, positions="positional_embedding_vlm",
        class_vector="class_embedding", before="layernorm_pre", after="layernorm_post", stack="model.layers",
        norms=("input_layernorm", "post_attention_layernorm"), names=("k_proj", "v_proj", "q_proj", "o_proj"), more=_llama4,
    ),
    "gemma4_vision": Tower(
        patch="patch_embedder.input_proj", patch_kind="linear", patch_bias=False, positions="", after="",
        norms=("input_layernorm", "pre_feedforward_layernorm"), norm_bias=False,
        names=("k_proj", "v_proj", "q_proj", "o_proj"), bias=False, qk_norm=("q_norm", "k_norm"),
        mlp_names=("gate_proj", "up_proj", "down_proj"), mlp_bias=False, kv_heads=("num_key_value_heads",), more=_gemma4,
        linear_suffix=".linear",
    ),
    "minimax_m3_vl_vision": _CLIP._replace(
        class_vector="", patch="embeddings.proj", patch_kind="conv3d", positions="", after="", stack="layers"
    ),
    "step3p5_vision": Tower(
        patch_bias=False, before="pre_layernorm", after="", stack="layers", norms=("layernorm_before", "layernorm_after"),
        scales=("lambda_1", "lambda_2"), more=_step, by_ratio=True,
    ),
    "muse_glimmer_vision": _MUSE,
    "muse_spark_vision": _MUSE,
    "molmo2_vision": Tower(
        patch="patch_embedding", patch_kind="linear", positions="positional_embedding",
        position_rows=lambda s: s.number("image_num_pos", "num_position_embeddings", default=729), after="", stack="layers",
        names=("k_proj", "v_proj", "q_proj", "o_proj"),
    ),
    "ovis2_vision": Tower(
        after="transformer.rms_norm", patch="transformer.embeddings.patch_embedding",
        positions="transformer.embeddings.position_embedding", before="transformer.embeddings.rms_norm",
        stack="transformer.encoder.layers", norms=("rms_norm1", "rms_norm2"), norm_bias=False, attention="attention",
        names=("k_proj", "v_proj", "q_proj", "out_proj"), bias="qkv_bias", mlp="ffn",
        mlp_names=("gate_proj", "up_proj", "down_proj"), mlp_bias="mlp_bias", more=_ovis,
    ),
    "paddleocr_vl_vision": _SIGLIP._replace(more=None),
    "cosmos3_edge_vision": _SIGLIP._replace(
        patch_kind="linear", position_rows=lambda s: s.number("num_patches"), more=None
    ),
    "video_llama_3_vision": _SIGLIP._replace(positions="", more=None),
    "janus_vision_model": Tower(names=("k_proj", "v_proj", "q_proj", "projection_layer"), bias="attention_bias", o_bias=True),
    "ernie4_5_vl_moe_vision": _QWEN2._replace(patch_kind="linear", after="ln", more=None),
}  # fmt: skip

__all__ = ["ROWS", "over_layers", "table", "under"]
