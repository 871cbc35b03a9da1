"""One process's memory on a CUDA device: weights, the cache, and what the pass over a prompt takes beside them.

transformers reserves nothing: a call of `generate()` takes its largest moment when the whole prompt goes through at once, and
PyTorch's allocator keeps what it took. `weights` are the parameters in construction order through that allocator, with the
rotary tables; `prefill_peak` is the largest sum of tensors that are alive together (`peaks`), exact where the allocator finds
blocks of their size, else a band of the blocks' roundings. A class without a row, and recurrent layers, get a wide band.

Source: `modeling_*.py`, `masking_utils.py`, `integrations/` of transformers 5.17 and 5.24; `c10/cuda/CUDACachingAllocator.cpp`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any, Final

from msgspec import Struct

from kvplan.domain.caching_allocator import MIN_LARGE_BYTES, Allocator, fresh_block, round_size
from kvplan.domain.described import Described
from kvplan.domain.ledger import Basis, Line, band, exact
from kvplan.domain.parameters import Parameter, in_order
from kvplan.engines.kernel.releases import Release
from kvplan.engines.kernel.sections import count_in
from kvplan.engines.kernel.tensors import Piece
from kvplan.engines.transformers import peaks
from kvplan.engines.transformers.peaks import Family, Moment, terms
from kvplan.engines.transformers.releases import SCAN_IN_FULL
from kvplan.units import MIB, ceil_div

WEIGHTS: Final = "weights"
PEAK: Final = "prompt's pass"
_ROPE_BUFFERS: Final = 2  # inv_freq and original_inv_freq, float32, half a head each
_ONE_MORE: Final = 512  # a scalar that stays on the device once a model is built
_LOOSE: Final = (0.5, 2.0)  # of a class without a row: its band
_SCAN_LOOSE: Final = 1.2  # of a scan without kernels: what else its layer holds
_SCAN_CHUNK: Final = 256
_FLOAT32: Final = 4
_NUMBERED: Final = 45  # of each expert of a token: sort's values and order, top-k's, the inverse: 8 bytes each; weights; flags
_COUNTER: Final = 8  # bytes of a layer's length counter
_TOP_K: Final = ("num_experts_per_tok", "experts_per_token", "moe_topk", "moe_k", "num_selected_experts", "top_k")


class Widths(Struct, frozen=True, kw_only=True):
    """Elements a token of a model's widest tensors, and what its classes do.

    Attributes:
        text_type: model type of the text part.
        item: bytes of an element of the model's dtype.
        vocab: rows of the head.
        sizes: widths by their letter, as `peaks` has them.
        heads: query heads of a layer; `head_dim` elements of one.
        gated: whether feed-forwards have a gate; `activation`: what stands between their products.
        dense, experts, shared: whether there are feed-forwards for every token, routed experts, shared ones beside them.
        normed: queries and keys are normalised head by head.
        window: what the narrowest attention sees; 0: everything.
        tables: rotary tables.
        indexer: elements of an indexer's key, and its heads: it compares each position with each; 0: none.
        scan: heads, their width, and width of the state of a state-space scan; 0: none.
        recurrent: some layers keep a state.
    """

    text_type: str
    item: int
    vocab: int
    sizes: Mapping[str, int]
    heads: int
    head_dim: int
    gated: bool
    activation: str
    dense: bool
    experts: bool
    shared: bool
    normed: bool
    window: int
    tables: int
    indexer: tuple[int, int]
    scan: tuple[int, int, int]
    recurrent: bool


class Pass(Struct, frozen=True, kw_only=True):
    """A prompt's pass: `batch` sequences of `tokens` tokens, whose cache then takes `cache` bytes, `last` of them a layer's.

    `eager`: attention multiplies queries and keys itself, `logits` rows of each sequence go through the head. `searched`: the
    band's end grows with every request, for whoever looks for the most of them.
    """

    batch: int
    tokens: int
    cache: int
    last: int
    eager: bool
    logits: int = 1
    searched: bool = False


def weights(tensors: Described, item: int) -> int:
    """What the allocator counts once a model is built on the device, library workspaces aside."""
    memory = Allocator()
    for p, _ in in_order([p for p in tensors.parameters if p.component != "draft"]):
        size = _FLOAT32 if p.dtype == "float32" else item
        memory.take(prod(p.shape) * max(1, p.experts) * size)
    found = widths(tensors, item)
    for _ in range(_ROPE_BUFFERS * found.tables):
        memory.take(found.head_dim // 2 * _FLOAT32)
    for size in _multipliers(tensors, item):
        memory.take(size)
    return memory.allocated + _ONE_MORE


def _multipliers(tensors: Described, item: int) -> Iterator[int]:
    """Falcon-H1's buffer in each mixer: a factor for every output of its in-projection."""
    if tensors.text_type == "falcon_h1":
        for p in tensors.parameters:
            if p.role == "ssm_in" and len(p.shape) == 2:
                yield from [p.shape[0] * item] * max(1, len(p.layers))


def weights_line(tensors: Described, item: int, *, stored: bool) -> Line:
    """The first line; `stored`: the checkpoint keeps another format, which classes unpack in their own ways."""
    amount = weights(tensors, item)
    source = "modeling_utils.py: parameters and rotary tables, through the caching allocator"
    if stored:
        return band(WEIGHTS, amount, int(0.98 * amount), int(1.05 * amount), source, "rule")
    return exact(WEIGHTS, amount, source)


def blocks(cache: Iterable[Piece[int]], bookkeeping_bytes: int) -> int:
    """What the allocator counts of a cache: each tensor and each counter of 8 bytes a block of whole 512."""
    tensors = sum(round_size(p.padded) * p.count for p in cache if p.padded)
    return tensors + bookkeeping_bytes // _COUNTER * round_size(_COUNTER)


def last_layer(cache: Iterable[Piece[int]]) -> int:
    """The part of the last layer that attends: it is not there yet while that layer's queries are rotated."""
    grows = [p for p in cache if p.per == "token" and p.layers]
    last = max((max(p.layers) for p in grows), default=0)
    return sum(round_size(p.padded) * p.layers.count(last) for p in grows)


def prefill_peak(w: Widths, asked: Pass, release: Release) -> Line:
    """The most bytes over the weights while a prompt's pass runs, its cache included."""
    family = peaks.FAMILIES.get(w.text_type)
    tables = 2 * w.tables * asked.tokens * w.head_dim * w.item + asked.tokens * 8
    bests, ends = zip(*_moments(w, family or Family(), asked), strict=True)
    best, high = max(bests) + tables, max(ends) + tables  # a moment of more tensors may end higher than the widest one
    source = "modeling_*.py: the tensors alive at the widest moment"
    if w.recurrent:
        scan = _scan(w, asked, in_full=SCAN_IN_FULL.at(release))
        low = int(_LOOSE[0] * best)  # with the kernels of mamba_ssm nothing of the scan is alive
        if scan:
            high = max(int(_SCAN_LOOSE * scan), int(_LOOSE[1] * best))
            basis: Basis = "rule" if scan > best else "assumed"
            return band(PEAK, max(scan, best), low, high, f"{source}; its scan without kernels", basis)
        return band(PEAK, best, low, int(2 * _LOOSE[1] * best), f"{source}; recurrent layers are not followed", "assumed")
    if family is None:
        low, high = asked.cache + int(_LOOSE[0] * (best - asked.cache)), asked.cache + int(_LOOSE[1] * (high - asked.cache))
        return band(PEAK, best, low, high, f"{source}; no row for {w.text_type or 'its class'}: llama's", "assumed")
    slack = tables + (_routing(w, asked) if w.experts else 0)  # tables that are narrower or float32, and sorted expert numbers
    return band(PEAK, best, best - slack, max(best, high) + slack, source, "rule")


def _moments(w: Widths, family: Family, asked: Pass) -> Iterator[tuple[int, int]]:
    """Each wide moment: its bytes, and those if every block came whole."""
    before = asked.cache - asked.last
    masks = _masks(w, family, asked)
    rows = family.position_rows * asked.tokens * w.sizes["H"] * w.item
    if w.dense:
        yield _sum(w, asked, peaks.feed_forward(family, gated=w.gated, activation=w.activation), asked.cache + masks + rows)
    if w.experts:
        for moment in peaks.mixture(family, shared=w.shared):
            yield _sum(w, asked, moment, asked.cache + masks + _routing(w, asked))
    yield _sum(w, asked, peaks.norm(family), asked.cache + masks)
    if all(w.indexer):
        pairs = asked.batch * asked.tokens**2 * _FLOAT32
        yield _sum(w, asked, peaks.LATENT, asked.cache + masks, [pairs * size for size in w.indexer])
    if w.sizes["L"]:
        yield _sum(w, asked, peaks.LATENT, asked.cache + masks)
    elif w.sizes["Q"]:
        for moment in peaks.rotation(family, normed=w.normed):
            yield _sum(w, asked, moment, before + masks)
    if asked.eager:
        yield _eager(w, asked, masks)
    elif masks:
        wide = asked.batch * asked.tokens**2 * w.item  # the kernel takes a mask of numbers, one for each sequence
        yield _sum(w, asked, peaks.MASKED, asked.cache + masks, (wide,))
    head = asked.batch * asked.logits * w.vocab * w.item
    yield _sum(w, asked, "2H", asked.cache + masks, (head,))


def _sum(w: Widths, asked: Pass, moment: Moment, base: int, more: Iterable[int] = ()) -> tuple[int, int]:
    tokens = asked.batch * asked.tokens
    sizes = [size for size in more if size]
    for count, letter, item in terms(moment):
        sizes += [tokens * w.sizes[letter] * (item or w.item)] * count
    return base + sum(map(round_size, sizes)), base + sum(map(_at_most if asked.searched else _whole, sizes))


def _whole(size: int) -> int:
    """The most that a tensor's block counts: up to 1 MiB of what is left of it stays part of it."""
    return fresh_block(size) if size < MIN_LARGE_BYTES else round_size(size) + (MIB if size % (2 * MIB) else 0)


def _at_most(size: int) -> int:
    """The same, for a question of the most requests: never less for a larger tensor."""
    return fresh_block(size) if size < MIN_LARGE_BYTES else round_size(size) + MIB


def _masks(w: Widths, family: Family, asked: Pass) -> int:
    """Masks that are kept through the pass: none where `is_causal` says it all, one byte an element for a fused kernel."""
    if asked.eager:
        number = 2 if w.window else 1
        return number * asked.batch * asked.tokens**2 * w.item
    slides = asked.tokens >= w.window if w.window else family.masked
    return asked.tokens**2 if slides else 0  # one for all sequences


def _eager(w: Widths, asked: Pass, masks: int) -> tuple[int, int]:
    """Scores with their mask added, and the softmax: in float32, or beside a column of sinks.

    Source: `eager_attention_forward` of the classes.
    """
    squares = asked.batch * w.heads * asked.tokens * asked.tokens
    if w.text_type in peaks.SINKS:
        wider = asked.batch * w.heads * asked.tokens * (asked.tokens + 1)
        more = [squares * w.item, wider * w.item, wider * w.item, asked.batch * w.heads * asked.tokens * w.item]
    else:
        more = [squares * w.item, squares * _FLOAT32, squares * _FLOAT32]
    return _sum(w, asked, "3Q + 3H", asked.cache + masks, more)


def _routing(w: Widths, asked: Pass) -> int:
    """Expert numbers, their order and its inverse, and the weights, of every token's experts; and the router's logits."""
    tokens = asked.batch * asked.tokens
    counts = 2 * round_size(w.sizes["R"] * _FLOAT32)  # tokens of each expert, and their running sum
    return tokens * (w.sizes["k"] * _NUMBERED + w.sizes["R"] * _FLOAT32) + counts


def _scan(w: Widths, asked: Pass, *, in_full: bool) -> int:
    """A state-space scan as PyTorch code: by chunks of 256 in Mamba 2, else three tensors with a state for every position.

    `in_full`: the product of every pair of positions in a chunk, for each element of the state.
    Source: `modeling_falcon_h1.py:torch_forward`: `(C[:, :, :, None] * B[:, :, None]).sum(dim=-1)`;
    `modeling_mamba.py:slow_forward`.
    """
    heads, width, state = w.scan
    outer = asked.batch * asked.tokens * (2 * w.sizes["S"] + 3 * w.sizes["H"]) * w.item + asked.cache
    if not heads:
        return 3 * asked.batch * asked.tokens * w.sizes["S"] // 2 * state * _FLOAT32 + outer if state else 0
    padded = ceil_div(asked.tokens, _SCAN_CHUNK) * _SCAN_CHUNK * asked.batch
    pairs = padded * _SCAN_CHUNK * heads * _FLOAT32
    return pairs * (state if in_full else 1) + 2 * pairs + padded * heads * (2 * state + 2 * width) * _FLOAT32 + outer


def widths(tensors: Described, item: int) -> Widths:
    """The widths of a model, from its parameters and a few keys of its config."""
    text = tensors.text
    own = [p for p in tensors.parameters if p.component not in {"vision", "audio", "encoder", "draft"}]
    matrices = [p for p in own if len(p.shape) == 2]
    embed = _widest(matrices, {"embed"}, 1)
    heads = count_in(text, "num_attention_heads", "n_head", "num_heads", "n_heads")
    queries, keys, values = (_widest(matrices, {role}, 0) for role in ("q", "k", "v"))
    outputs = max((p.shape[1] for p in matrices if p.role == "o"), default=0)
    if not queries:  # one projection
        queries = outputs
        joined = _widest(matrices, {"qkv"}, 0)
        keys = values = max(0, joined - queries) // 2
    latent, rope, nope = (count_in(text, key) for key in ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim"))
    value = count_in(text, "v_head_dim")
    routed = [p for p in own if p.experts]
    dense = [p for p in matrices if p.component == "mlp" and p.role == "down" and not p.experts]
    top_k = count_in(text, *_TOP_K) if routed else 0
    inner = max((p.shape[-1] for p in routed if p.role == "down"), default=0)
    mixers = [p for p in own if p.role in {"ssm_in", "ssm_a", "ssm_conv"}]
    head_dim = count_in(text, "head_dim") or (rope if latent else 0) or (queries // heads if heads else 0)
    kinds = text.get("layer_types")
    window = count_in(text, "sliding_window") if text.get("use_sliding_window") is not False else 0
    if isinstance(kinds, list) and not any("sliding" in str(kind) or "chunked" in str(kind) for kind in kinds):
        window = 0
    positions = any(p.role == "positions" for p in own)
    return Widths(
        text_type=tensors.text_type,
        item=item,
        vocab=max((p.shape[0] for p in matrices if p.role in {"head", "embed"}), default=0),
        sizes={
            "H": embed, "I": max((p.shape[1] for p in dense), default=0), "Q": queries, "K": keys, "V": values,
            "O": heads * value, "L": heads * (nope + value) if latent else 0, "P": heads * (nope + rope),
            "E": top_k * inner, "X": top_k * embed, "k": top_k, "R": max((p.experts for p in routed), default=0),
            "S": _widest(matrices, {"ssm_in"}, 0),
        },
        heads=heads,
        head_dim=head_dim,
        gated=any(p.role in {"gate", "gate_up"} for p in own if not p.experts) or not dense,
        activation=_activation(text, tensors.text_type),
        dense=bool(dense),
        experts=bool(routed),
        shared=any("shared" in p.name for p in own),
        normed=any("q_norm" in p.name and len(p.shape) == 1 and p.shape[0] == head_dim for p in own),
        window=window,
        tables=0 if positions or not queries + latent else 2 if tensors.text_type in peaks.TWO_TABLES else 1,
        indexer=(count_in(text, "index_head_dim"), count_in(text, "index_n_heads")) if latent else (0, 0),
        scan=_scan_widths(text, by_head=any(p.role == "ssm_a" and len(p.shape) == 1 for p in own)) if mixers else (0, 0, 0),
        recurrent=bool(mixers),
    )  # fmt: skip


def _scan_widths(text: Mapping[str, Any], *, by_head: bool) -> tuple[int, int, int]:
    """Heads, their width and their state; heads of 0 where every channel has a state of its own."""
    state = count_in(text, "mamba_d_state", "ssm_state_size", "state_size")
    heads = count_in(text, "mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "num_heads") if by_head else 0
    return heads, count_in(text, "mamba_d_head", "mamba_head_dim", "head_dim"), state


def _activation(text: Mapping[str, Any], text_type: str) -> str:
    named = (text.get(key) for key in ("hidden_act", "activation_function", "hidden_activation"))
    return next((name for name in named if isinstance(name, str)), peaks.DEFAULT_ACTIVATION.get(text_type, ""))


def _widest(parameters: Iterable[Parameter], roles: set[str], axis: int) -> int:
    return max((p.shape[axis] for p in parameters if p.role in roles and not p.experts), default=0)
