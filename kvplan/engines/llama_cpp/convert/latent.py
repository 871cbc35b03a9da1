"""What llama.cpp's converter writes for latent and sparse attention, alone or beside linear attention.

Source: llama.cpp 0c1e57098, `conversion/*.py`; a builder names its file.
"""

from kvplan.domain.model import Compressed, Index, Latent, Layer, Recurrent, Softmax, Window
from kvplan.engines.llama_cpp.convert.row import Row
from kvplan.engines.llama_cpp.convert.written import Inconvertible, Written
from kvplan.errors import shown


def absorbed(w: Written, row: Row) -> None:
    """`deepseek.py`, `DeepseekV2Model`: one head of rank + rope; the MTP layer is dropped, but not in `glm.py` (lite)."""
    if row.drafts:
        w.with_drafts()
    w.absorbed()


def minicpm3(w: Written, row: Row) -> None:
    """`minicpm.py`, `MiniCPM3Model`: every head's keys; the value size is left to its default, width / heads."""
    latent = w.latent()
    w.put("attention.head_count_kv", w.number("num_key_value_heads", default=latent.heads))
    w.put("attention.key_length", latent.nope_dim + latent.rope_dim)


def dsa(w: Written, row: Row) -> None:
    """`deepseek.py` (`DeepseekV32Model`), `glm.py` (`GlmMoeDsaModel`): latent attention and an indexer."""
    w.with_drafts()
    w.absorbed()
    w.put("attention.indexer.key_length", w.index().dim)
    if row.arch == "glm-dsa":
        w.put("attention.indexer.types", list(w.indexed()[: len(w.model.layers)]))


def msa(w: Written, row: Row) -> None:
    """`minimax.py`: an indexer on the layers after the dense ones."""
    w.attention()
    index = w.index()
    first = w.indexed().index(True)
    if not all(w.indexed()[first:]):
        raise Inconvertible("its indexed layers are not the last ones")
    w.put("attention.indexer.key_length", index.dim * index.heads)
    w.put("leading_dense_block_count", first)


def deepseek4(w: Written, row: Row) -> None:
    """`deepseek.py` (`DeepseekV4Model`): compression ratios by layer; the MTP layer is dropped."""
    w.attention()
    w.put("attention.value_length", w.keys[f"{w.arch}.attention.key_length"])
    w.window(pattern=False)
    ratios = []
    for layer in w.layers:
        found = [m.reach.ratio for m in layer.memories if isinstance(m, Softmax) and isinstance(m.reach, Compressed)]
        ratios.append(found[0] if found else 0)
    w.put("attention.compress_ratios", ratios)
    dims = {m.dim for layer in w.layers for m in layer.memories if isinstance(m, Index)}
    w.put("attention.indexer.key_length", dims.pop() if dims else 0)
    width = w.number("hidden_size", default=4096)
    w.put("embedding_length_out", width * w.number("hc_mult", default=4))


def kda(w: Written, row: Row) -> None:
    """`kimi_linear.py`, `kimi_k3.py`: no heads in KDA layers; Kimi Linear leaves the value size to `head_dim`."""
    if w.model.model_type == "kimi_k3":
        w.rename("kimi-k3")
    w.absorbed()
    w.kv_zeros(1)
    if w.arch == "kimi-linear":
        width = w.number("hidden_size")
        w.put("attention.value_length", w.number("head_dim") or width // max(w.model.attention_heads or 1, 1))
    w.kda()


def dots3(w: Written, row: Row) -> None:
    """`dots3.py`: latents of two widths, an indexer on those that see everything. A prediction layer is in no config."""
    slides = [_is_sliding(layer) for layer in w.layers]
    full, window = (w.latent(alike) for alike in (_those(w.layers, slides, False), _those(w.layers, slides, True)))
    w.absorbed(full)
    if not w.config.flag("use_dsa", True):
        raise Inconvertible("its config says `use_dsa: false`")
    if window.rope_dim != full.rope_dim:
        raise Inconvertible("its rotary parts differ between layers")
    heads = w.model.attention_heads or full.heads
    w.put("attention.head_count", [window.heads if slide else heads for slide in slides])
    w.put("attention.sliding_window", window.reach.size if isinstance(window.reach, Window) else 0)
    w.put("attention.sliding_window_pattern", slides)
    w.put("attention.kv_lora_rank_swa", window.rank)
    w.put("attention.key_length_swa", window.rank + window.rope_dim)
    w.put("attention.value_length_swa", window.rank)
    w.put("attention.key_length_mla_swa", window.nope_dim + window.rope_dim)
    w.put("attention.value_length_mla_swa", window.value_dim)
    w.put("attention.indexer.key_length", w.index().dim)
    w.put("attention.indexer.types", [not slide for slide in slides])


def _is_sliding(layer: Layer) -> bool:
    return any(isinstance(m, Latent) and isinstance(m.reach, Window) for m in layer.memories)


def _those(layers: tuple[Layer, ...], marks: list[bool], wanted: bool) -> tuple[Layer, ...]:
    return tuple(layer for layer, mark in zip(layers, marks, strict=True) if mark is wanted)


def hy4(w: Written, row: Row) -> None:
    """`hy_v4.py`: an indexer on the layers marked "full"; the MTP layers are dropped."""
    w.absorbed()
    owners = w.indexed()
    if not any(owners):
        return
    if not owners[0]:
        raise Inconvertible("layer 0 has no indexer, and nothing precedes it to share")
    w.put("attention.indexer.key_length", w.index().dim)
    w.put("attention.indexer.top_k", w.number("index_topk", default=2048))
    w.put("attention.indexer.types", list(owners))


def qwen4(w: Written, row: Row) -> None:
    """`qwen4exp.py`: a delta net, an indexer on the full layers, and at most one layer of n-gram embeddings; no MTP block."""
    ngrams = [any(_is_ngram(m) for m in layer.memories) for layer in w.layers]
    w.layers = tuple(Layer(index=at.index, memories=tuple(m for m in at.memories if not _is_ngram(m))) for at in w.layers)
    w.delta()
    w.put("attention.indexer.key_length", w.index().dim)
    w.put("hyper_connection.count", w.number("hc_count", default=4))
    if sum(ngrams) > 1:
        raise Inconvertible("several of its layers have n-gram embeddings, and llama.cpp takes one")
    if any(ngrams):
        w.put("ple.layers", [ngrams.index(True)])
        w.put("ple.ngram_size", w.number("ngram_size", default=3))
        w.put("ple.heads_per_ngram", w.number("heads_per_ngram", default=8))
        w.put("ple.conv_kernel", w.number("ple_conv_kernel_size", default=4))


def _is_ngram(memory: object) -> bool:
    return isinstance(memory, Recurrent) and memory.kind == "state"


def glm5(w: Written, row: Row) -> None:
    """`glm.py` (`Glm5NextModel`): KDA, latents without rotary keys, and an indexer that pools; NextN layers are blocks."""
    if w.latent().rope_dim:
        raise Inconvertible("its latent attention has rotary keys")
    w.with_drafts()
    w.absorbed()
    w.kv_zeros(1)
    w.kda()
    w.put("attention.indexer.key_length", w.index().dim)
    w.put("attention.indexer.kpool", w.number("index_kpool", default=16))
    listed = w.config.items("indexer_types")
    if listed:
        w.put("attention.indexer.types", [kind == "full" for kind in listed])


def bailing(w: Written, row: Row) -> None:
    """`bailingmoe3.py`: KDA in all but every n-th layer and the rest of the last group; NextN layers are blocks."""
    for key, wanted in (("no_kda_lora", True), ("kda_safe_gate", True), ("gated_attention_proj_granularity_type", "head_wise")):
        if w.config.data.get(key, wanted) != wanted:
            found = shown(w.config.data[key]).strip("`")
            raise Inconvertible(f"its config says `{key}: {found}`")
    group, trunk = w.number("layer_group_size", default=6), len(w.model.layers)
    w.with_drafts()
    w.absorbed()
    attends = [i >= trunk // group * group or (i + 1) % group == 0 for i in range(len(w.layers))]
    w.put("attention.head_count_kv", [int(there) for there in attends])
    w.put("attention.value_length", w.kda())
