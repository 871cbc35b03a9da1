"""What llama.cpp makes of a GGUF file's metadata: its `llama_hparams`, as plain numbers.

Source: llama.cpp 0c1e57098, `src/llama-model.cpp` (`load_hparams`, `load_swa_pattern`), `src/llama-hparams.cpp`,
`src/models/*.cpp` (`load_arch_hparams`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from kvplan.gguf.keys import Keys
from kvplan.gguf.known import (
    GLM52_INDEXED,
    INDEXED,
    INTERVAL_RECUR,
    KDA,
    MAX_LAYERS,
    MLA,
    NON_CAUSAL,
    PURE_RECURRENT,
    SHORT_CONV,
    SSM,
    SWA,
    WKV,
    ZERO_HEADS_RECUR,
)


class Hparams(Struct, frozen=True, kw_only=True):
    """llama.cpp's view of a model. Lists have one entry for each of `n_layer_all` layers."""

    arch: str
    n_layer_all: int
    n_layer: int  # without NextN layers
    loops: int  # times that the layers run; those of later times stand after all others
    n_embd: int
    n_vocab: int
    n_embd_out: int
    context_length: int  # tokens
    causal: bool
    head_count: tuple[int, ...]
    head_count_kv: tuple[int, ...]
    feed_forward: tuple[int, ...]
    key_length: int
    value_length: int
    key_length_swa: int
    value_length_swa: int
    is_mla: bool
    has_swa: bool  # `swa_type`: two caches, even if no layer slides or the window is 0
    n_swa: int  # tokens
    sliding: tuple[bool, ...]
    recurrent: tuple[bool, ...]
    indexed: tuple[bool, ...]
    index_length: int
    index_pool: int
    ratios: tuple[int, ...]  # deepseek4: compression ratio of each layer
    kv_from_start: int | None  # layers from here on reuse earlier ones
    r_elements: int  # of one sequence, one layer
    s_elements: int
    p_elements: int  # of one sequence, on `ple_layer` if that is recurrent
    ple_layer: int  # -1: none
    conv_kernel: int  # taps whose last kernel - 1 inputs are R; 0: R is not a convolution's
    keys: Mapping[str, Any]

    def n_embd_k(self, layer: int) -> int:
        """Elements of one token's key row in `layer`."""
        return self.head_count_kv[layer] * (self.key_length_swa if self.sliding[layer] else self.key_length)

    def n_embd_v(self, layer: int) -> int:
        """Elements of one token's value row in `layer`."""
        return self.head_count_kv[layer] * (self.value_length_swa if self.sliding[layer] else self.value_length)


def read_hparams(keys: Mapping[str, Any], source: str = "GGUF") -> Hparams:
    """Read the metadata of a GGUF file as llama.cpp does.

    Args:
        keys: the header's key-value pairs; arrays as lists.
        source: what errors call the file.

    Raises:
        GgufError: a required key is missing, of the wrong type, or an array of the wrong length.
    """
    k = Keys(keys, source)
    arch = k.arch
    blocks = k.integer("block_count", maximum=MAX_LAYERS)
    if blocks < 1:
        raise k.refuse("block_count", "must be at least 1")
    nextn = k.integer("nextn_predict_layers", 0) if arch != "deepseek4" else 0
    heads = k.per_layer("attention.head_count", blocks, 0, exact=True)
    kv_heads = k.per_layer("attention.head_count_kv", blocks, heads, exact=True)
    widths = k.per_layer("feed_forward_length", blocks, 0, exact=True)
    n_embd = k.integer("embedding_length", maximum=2**31)
    if arch == "graniteswitch":  # one single-head router layer is appended
        heads, kv_heads, widths, blocks = (*heads, heads[0]), (*kv_heads, 1), (*widths, 0), blocks + 1
    loops = k.integer("num_loops", 1, MAX_LAYERS) if arch == "nanbeige" else 1
    heads, kv_heads, total = heads * loops, kv_heads * loops, blocks * loops
    if total > MAX_LAYERS or nextn >= total:
        raise k.refuse("block_count", f"of {blocks} does not fit {nextn} NextN layers and {loops} loops")
    first = heads[0] or max(heads, default=0)
    key_length = k.integer("attention.key_length", n_embd // first if first else 0, 2**31)
    value_length = k.integer("attention.value_length", n_embd // first if first else 0, 2**31)
    rotary = k.integer("rope.dimension_count", key_length, 2**31)
    if arch in {"llama", "deci", "falcon"} and heads[0] and rotary != key_length:
        raise k.refuse("rope.dimension_count", f"does not fit: invalid n_rot: {rotary}, expected {key_length}")
    if arch == "t5" and k.integer("decoder_block_count", blocks) > blocks:
        raise k.refuse("decoder_block_count", f"is above the {blocks} blocks, and llama.cpp does not load such a file")
    trunk = total - nextn
    recurrent = _recurrent(k, kv_heads, total, trunk)
    has_swa, n_swa, sliding = _sliding(k, total, trunk, recurrent)
    r, s = _state_sizes(k, n_embd, heads, key_length) if any(recurrent) else (0, 0)
    indexed = _indexed(k, total, trunk)
    vocab = k.keys.get("tokenizer.ggml.tokens")
    return Hparams(
        arch=arch,
        n_layer_all=total,
        n_layer=trunk,
        n_embd=n_embd,
        n_vocab=_vocabulary(vocab) or k.integer("vocab_size", 0),
        n_embd_out=k.integer("embedding_length_out", 0) or n_embd,
        context_length=k.integer("context_length", maximum=2**40),
        causal=arch not in NON_CAUSAL and bool(keys.get(f"{arch}.attention.causal", True)),
        head_count=heads,
        head_count_kv=kv_heads,
        feed_forward=widths * loops,
        key_length=key_length,
        value_length=value_length,
        key_length_swa=k.integer("attention.key_length_swa", None if arch == "gemma4" else key_length, 2**31),
        value_length_swa=k.integer("attention.value_length_swa", None if arch == "gemma4" else value_length, 2**31),
        is_mla=arch in MLA and k.has("attention.key_length_mla") and k.has("attention.value_length_mla"),
        has_swa=has_swa,
        n_swa=n_swa,
        sliding=sliding,
        recurrent=recurrent,
        indexed=indexed,
        index_length=k.integer("attention.indexer.key_length", 0, 2**31),
        index_pool=k.integer("attention.indexer.kpool", maximum=2**31) if arch == "glm5-next" else 0,
        ratios=_padded(k.per_layer("attention.compress_ratios", trunk, 0), total) if arch == "deepseek4" else (0,) * total,
        kv_from_start=_kv_from_start(k, total),
        r_elements=r,
        s_elements=s,
        p_elements=_p_elements(k, n_embd),
        ple_layer=_ple_layer(k),
        conv_kernel=_conv_kernel(k),
        loops=loops,
        keys=keys,
    )


def _vocabulary(tokens: Any) -> int:
    """Entries of the vocabulary, whether its strings were kept or walked past."""
    return len(tokens) if isinstance(tokens, list | tuple) else int(getattr(tokens, "length", 0))


def _padded(values: Sequence[Any], length: int) -> tuple[Any, ...]:
    return (*values, *([type(values[0])()] * (length - len(values)))) if values else ()


def _kv_from_start(k: Keys, total: int) -> int | None:
    """gemma3n: 20 whatever the file says; gemma4: block_count - shared_kv_layers."""
    if k.arch == "gemma3n":
        return 20
    if k.arch == "gemma4":
        return total - k.integer("attention.shared_kv_layers", 0, total)
    return None


def _sliding(k: Keys, total: int, trunk: int, recurrent: tuple[bool, ...]) -> tuple[bool, int, tuple[bool, ...]]:
    """Whether there are windows, their size (tokens) and which layers slide. Source: `load_swa_pattern`."""
    none = (False, 0, (False,) * total)
    row = SWA.get(k.arch)
    if row is None or (k.arch == "exaone4" and trunk != 64):
        return none
    given = k.integer("attention.sliding_window", None if row.required else -1, 2**31)
    window = row.window if given < 0 else given
    if window == 0 and row.optional:
        return none
    window = row.forced or window
    if k.arch == "lfm2":
        return True, window, tuple(i < trunk and not recurs for i, recurs in enumerate(recurrent))
    if k.arch == "deepseek4":
        return True, window, (True,) * total
    pattern = k.keys.get(f"{k.arch}.attention.sliding_window_pattern")
    if isinstance(pattern, list | tuple):
        if len(pattern) < trunk:
            raise k.refuse("attention.sliding_window_pattern", f"has {len(pattern)} entries for {trunk} layers")
        return True, window, _padded([bool(p) for p in pattern[:total]], total)
    period = k.integer("attention.sliding_window_pattern", row.period, 2**31)
    return True, window, tuple(i < trunk and _slides(i, period, dense_first=row.dense_first) for i in range(total))


def _slides(layer: int, period: int, *, dense_first: bool) -> bool:
    if period == 0:
        return True
    return layer % period != 0 if dense_first else layer % period < period - 1


def _recurrent(k: Keys, kv_heads: tuple[int, ...], total: int, trunk: int) -> tuple[bool, ...]:
    """Which layers keep a state."""
    if k.arch in PURE_RECURRENT or k.arch == "falcon-h1":
        return (True,) * total
    if k.arch in ZERO_HEADS_RECUR:
        return tuple(n == 0 for n in kv_heads)
    if k.arch in {"nemotron_h", "nemotron_h_moe"}:
        widths = k.per_layer("feed_forward_length", total, 0)
        return tuple(n == 0 and ff == 0 for n, ff in zip(kv_heads, widths, strict=True))
    interval = INTERVAL_RECUR.get(k.arch)
    if interval is None:
        return (False,) * total
    given = k.keys.get(f"{k.arch}.attention.recurrent_layers")
    if isinstance(given, list | tuple):
        marks = k.per_layer("attention.recurrent_layers", trunk)
        return tuple(i < trunk and bool(marks[i]) for i in range(total))
    interval = k.integer("full_attention_interval", interval, 2**31) or interval
    return tuple(i < trunk and (i + 1) % interval != 0 for i in range(total))


def _state_sizes(k: Keys, n_embd: int, heads: tuple[int, ...], key_length: int) -> tuple[int, int]:
    """Elements of R and S of one recurrent layer and sequence. Source: `n_embd_r`, `n_embd_s`.

    Raises:
        GgufError: a key is missing that llama.cpp does not load the architecture without.
    """

    def size(key: str) -> int:
        return k.integer(key, maximum=2**31)

    if k.arch in WKV:
        return k.integer("token_shift_count", 2, 2**31) * n_embd, n_embd * size("wkv.head_size")
    if k.arch in SHORT_CONV:
        return n_embd * max(size("shortconv.l_cache") - 1, 0), 0
    if k.arch == "minimax-01":
        return 0, key_length * key_length * heads[0]
    kernel = size("ssm.conv_kernel")
    columns = max(kernel - 1, 0)
    if k.arch in KDA:
        head = size("kda.head_dim")
        return 3 * (columns if kernel else 3) * heads[0] * head, head * head * heads[0]
    inner, state = size("ssm.inner_size"), size("ssm.state_size")
    groups = 0 if k.arch in {"mamba", "jamba"} else size("ssm.group_count")
    return columns * (inner + 2 * groups * state), state * inner


def _conv_kernel(k: Keys) -> int:
    """Taps of the convolution behind R, as `_state_sizes` counts it."""
    if k.arch in SHORT_CONV:
        return k.integer("shortconv.l_cache", 0, 2**31)
    if k.arch not in SSM | KDA:
        return 0
    return k.integer("ssm.conv_kernel", 0, 2**31) or (4 if k.arch in KDA else 0)


def _ple_layer(k: Keys) -> int:
    """The layer of n-gram embeddings, or -1; llama.cpp loads no file with several."""
    listed = k.keys.get(f"{k.arch}.ple.layers")
    if k.arch != "qwen4exp" or not isinstance(listed, list | tuple) or not listed:
        return -1
    if len(listed) > 1:
        raise k.refuse("ple.layers", f"lists {len(listed)} layers, but only one PLE layer is supported")
    return int(k.per_layer("ple.layers", 1)[0])


def _p_elements(k: Keys, n_embd: int) -> int:
    """qwen4exp keeps one more row on its PLE layer. Source: `ple_conv_state`."""
    if _ple_layer(k) < 0:
        return 0
    columns = max(k.integer("ple.conv_kernel", maximum=2**20) - 1, 0) * k.integer("ple.ngram_size", maximum=2**20)
    return columns * k.integer("hyper_connection.count", maximum=2**20) * n_embd


def _indexed(k: Keys, total: int, trunk: int) -> tuple[bool, ...]:
    """Which layers own an indexer's keys (DSA, MSA and the indexed hybrids)."""
    unused = k.arch not in INDEXED or (k.arch == "hy_v4" and not k.integer("attention.indexer.top_k", 0, 2**31))
    if unused or not k.has("attention.indexer.key_length"):
        return (False,) * total
    types = k.keys.get(f"{k.arch}.attention.indexer.types")
    if k.arch == "dots3note" and types is None:
        raise k.refuse("attention.indexer.types", "is missing, which llama.cpp needs too")
    marks: Sequence[int] | None = k.per_layer("attention.indexer.types", trunk) if isinstance(types, list | tuple) else None
    if k.arch == "minimax-m3":
        dense = k.integer("leading_dense_block_count", 0, 2**31)
        return tuple(i >= dense for i in range(total))
    if k.arch == "deepseek32" or (marks is None and k.arch != "glm-dsa"):
        return tuple(i < trunk for i in range(total))
    if marks is None:  # glm-dsa without the key: all layers, or GLM-5.2's built-in table
        long = k.integer("context_length", maximum=2**40) >= 2**20
        return tuple(i < trunk and (not long or i in GLM52_INDEXED) for i in range(total))
    return tuple(i < trunk and marks[i] == 1 for i in range(total))
