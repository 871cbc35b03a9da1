"""Audio towers by the model type of their config section.

Source: transformers 5.23 `modeling_*.py` of each; checked against `named_parameters()` by tools/check_parameters.py.
"""

from typing import Final

from kvplan.architectures.parameters.blocks import Tensors, convolution, linear, norm, over_layers, table, under, vector
from kvplan.architectures.parameters.sizes import Section
from kvplan.architectures.parameters.towers.vit import Tower


def _stem(s: Section) -> Tensors:
    """Whisper: two convolutions over the mel spectrogram."""
    mels = s.number("num_mel_bins", default=128)
    yield from convolution("conv1", s.hidden, mels, 3, role="patch", component="audio", bias=True)
    yield from convolution("conv2", s.hidden, s.hidden, 3, role="patch", component="audio", bias=True)


_WHISPER: Final = Tower(
    patch_kind="none", positions="embed_positions", position_rows=lambda s: s.number("max_source_positions", default=1500),
    after="layer_norm", stack="layers", norms=("self_attn_layer_norm", "final_layer_norm"), k_bias=False, mlp="", more=_stem,
)  # fmt: skip


def _omni(s: Section) -> Tensors:
    """Qwen2.5-Omni: positions are computed; begin and end have embeddings; a projection to the text model's width."""
    yield from _stem(s)
    out = s.number("output_dim")
    yield from table("audio_bos_eos_token", 2, out, "other", split="none")
    yield from linear("proj", out, s.hidden, "projector", component="audio", bias=True)


def _three_convolutions(s: Section) -> Tensors:
    """Qwen3's audio encoder: three convolutions in two dimensions, then one matrix."""
    inner, mels = s.number("downsample_hidden_size"), s.number("num_mel_bins")
    left = ((((mels + 1) // 2 + 1) // 2) + 1) // 2
    for name, inputs in (("conv2d1", 1), ("conv2d2", inner), ("conv2d3", inner)):
        yield from convolution(name, inner, inputs, 3, 3, role="patch", component="audio", bias=True)
    yield from linear("conv_out", s.hidden, inner * left, "projector", component="audio")


def _qwen3_omni(s: Section) -> Tensors:
    yield from _three_convolutions(s)
    out = s.number("output_dim")
    yield from linear("proj1", s.hidden, s.hidden, "projector", component="audio", bias=True)
    yield from linear("proj2", out, s.hidden, "projector", component="audio", bias=True)


def _voxtral_realtime(s: Section) -> Tensors:
    yield from under("embedder.", _stem(s))
    yield from over_layers(
        "layers", [0] * s.number("num_hidden_layers"), lambda _: vector("mlp.down_proj.bias", s.hidden, component="audio")
    )


def gemma3n_audio(s: Section) -> Tensors:
    """Gemma 3n's conformer: Gemma 4's, with other names and no projection at its end."""
    hidden, heads = s.hidden, s.number("conf_num_attention_heads")
    first, second = (s.c.integers("sscp_conv_channel_size") or [128, 32])[:2]

    def feed_forward(name: str) -> Tensors:
        yield from norm(f"{name}.pre_layer_norm", hidden)
        yield from linear(f"{name}.ffw_layer_1", 4 * hidden, hidden, "other", component="audio")
        yield from linear(f"{name}.ffw_layer_2", hidden, 4 * hidden, "other", component="audio")
        yield from norm(f"{name}.post_layer_norm", hidden)

    def layer(_: int) -> Tensors:
        yield from feed_forward("ffw_layer_start")
        for name in ("attn.relative_position_embedding.pos_proj", "attn.q_proj", "attn.k_proj", "attn.v_proj", "post"):
            yield from linear(f"attention.{name}", hidden, hidden, "other", component="audio")
        yield from vector("attention.attn.per_dim_scale", hidden // heads, component="audio")
        for name in ("attention.pre_attn_norm", "attention.post_norm", "lconv1d.pre_layer_norm", "lconv1d.conv_norm", "norm"):
            yield from norm(name, hidden)
        yield from linear("lconv1d.linear_start", 2 * hidden, hidden, "other", component="audio")
        yield from convolution("lconv1d.depthwise_conv1d", hidden, 1, s.number("conf_conv_kernel_size"), component="audio")
        yield from linear("lconv1d.linear_end", hidden, hidden, "other", component="audio")
        yield from feed_forward("ffw_layer_end")

    for place, (outputs, inputs) in enumerate(((first, 1), (second, first))):
        yield from convolution(f"subsample_conv_projection.conv_{place}.conv", outputs, inputs, 3, 3, component="audio")
        yield from norm(f"subsample_conv_projection.conv_{place}.norm", outputs)
    wide = s.number("input_feat_size") // 4 * second
    yield from linear("subsample_conv_projection.input_proj_linear", hidden, wide, "other", component="audio")
    yield from over_layers("conformer", [0] * s.number("conf_num_hidden_layers"), layer)


def gemma4_audio(s: Section) -> Tensors:
    """Gemma 4's conformer: two feed-forward layers around attention and a short convolution."""
    hidden, heads = s.hidden, s.number("num_attention_heads")
    first, second = (s.c.integers("subsampling_conv_channels") or [128, 32])[:2]

    def matrix(name: str, outputs: int, inputs: int) -> Tensors:
        return linear(f"{name}.linear", outputs, inputs, "other", component="audio")

    def feed_forward(name: str) -> Tensors:
        yield from matrix(f"{name}.ffw_layer_1", 4 * hidden, hidden)
        yield from matrix(f"{name}.ffw_layer_2", hidden, 4 * hidden)
        yield from norm(f"{name}.pre_layer_norm", hidden)
        yield from norm(f"{name}.post_layer_norm", hidden)

    def layer(_: int) -> Tensors:
        yield from feed_forward("feed_forward1")
        yield from feed_forward("feed_forward2")
        for name in ("q_proj", "k_proj", "v_proj", "post"):
            yield from matrix(f"self_attn.{name}", hidden, hidden)
        yield from linear("self_attn.relative_k_proj", hidden, hidden, "other", component="audio")
        yield from vector("self_attn.per_dim_scale", hidden // heads, component="audio")
        yield from matrix("lconv1d.linear_start", 2 * hidden, hidden)
        yield from matrix("lconv1d.linear_end", hidden, hidden)
        yield from convolution("lconv1d.depthwise_conv1d", hidden, 1, s.number("conv_kernel_size"), component="audio")
        for name in ("lconv1d.pre_layer_norm", "lconv1d.conv_norm", "norm_pre_attn", "norm_post_attn", "norm_out"):
            yield from norm(name, hidden)

    for name, outputs, inputs in (("layer0", first, 1), ("layer1", second, first)):
        yield from convolution(f"subsample_conv_projection.{name}.conv", outputs, inputs, 3, 3, component="audio")
        yield from norm(f"subsample_conv_projection.{name}.norm", outputs)
    yield from linear("subsample_conv_projection.input_proj_linear", hidden, first // 4 * second, "other", component="audio")
    yield from over_layers("layers", [0] * s.number("num_hidden_layers"), layer)
    yield from linear("output_proj", s.number("output_proj_dims"), hidden, "projector", component="audio", bias=True)


ROWS: Final[dict[str, Tower]] = {
    **dict.fromkeys(("voxtral_encoder", "qwen2_audio_encoder", "audioflamingo3_encoder", "whisper"), _WHISPER),
    "qwen2_5_omni_audio_encoder": _WHISPER._replace(positions="", after="ln_post", more=_omni),
    "qwen3_asr_encoder": _WHISPER._replace(positions="", after="ln_post", k_bias=True, more=_three_convolutions),
    "qwen3_omni_moe_audio_encoder": _WHISPER._replace(positions="", after="ln_post", k_bias=True, more=_qwen3_omni),
    "glmasr_encoder": _WHISPER._replace(
        positions="", after="norm", norms=("input_layernorm", "post_attention_layernorm"), mlp="mlp",
        names=("k_proj", "v_proj", "q_proj", "o_proj"),
    ),
    "voxtral_realtime_encoder": _WHISPER._replace(
        positions="", after="norm", norm_bias=False, mlp="mlp", mlp_names=("gate_proj", "up_proj", "down_proj"), mlp_bias=False,
        names=("k_proj", "v_proj", "q_proj", "o_proj"), more=_voxtral_realtime,
    ),
}  # fmt: skip
