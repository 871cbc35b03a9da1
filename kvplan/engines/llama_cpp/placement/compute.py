"""What a context's compute buffers take on each device and on the host: a point where a closed form is known, else a band.

The graph allocator reuses memory, so that a buffer is as large as the largest moment of one prompt batch: the logits, or what a
block holds of its feed-forward and attention, beside the masks. Which kinds of layers a device holds decides, hardly how many.

Source: llama.cpp 0c1e57098, `src/llama-context.cpp` (`sched_reserve`, `graph_reserve`), `ggml/src/ggml-backend.cpp`
(`ggml_backend_sched_split_graph`: copies of inputs, and of weights of an operation that is moved). The forms and the bands around
them were fitted to recorded buffers: `tests/golden/llama_cpp_devices.jsonl`, `llama_cpp.jsonl`, `llama_cpp_gpu_logs.jsonl`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from kvplan.engines.llama_cpp.context import Context
from kvplan.engines.llama_cpp.memory import Part, pad
from kvplan.engines.llama_cpp.placement.band import Band as Band
from kvplan.engines.llama_cpp.placement.caches import with_caches
from kvplan.engines.llama_cpp.placement.devices import HOST_ALIGNMENT
from kvplan.engines.llama_cpp.placement.place import Placed
from kvplan.engines.llama_cpp.placement.simulated import simulated
from kvplan.engines.llama_cpp.placement.split import HOST_LAYER
from kvplan.engines.llama_cpp.placement.weights import REPACKED
from kvplan.gguf.hparams import Hparams
from kvplan.gguf.known import NO_CACHE, PURE_RECURRENT, SHORT_CONV

#: Architectures for which the closed form was found exact on recorded devices of three blocks and more.
_CLOSED: Final = frozenset({"llama", "qwen2", "qwen3", "gemma2", "gemma3"})
_FAR: Final = 65_536  # cells of an indexer from which its scores are among the largest moments
_MOVES: Final = 32  # tokens of a batch from which operations are moved to a device (`op_offload`)
_ENOUGH: Final = 3  # blocks; with fewer, some moments do not come about
#: Per cent of the logits that lie there with what is left of the last block at most: without experts, with.
_LEFT: Final = (132, 145)
#: Per cent of a copy of weights with what lies beside it, in which recorded buffers lie: dense weights; of experts at most.
_COPIED: Final = (93, 134)
_COPIED_EXPERTS: Final = 114
#: Feed-forward without a gate: two vectors of its width instead of three.
_UNGATED: Final = frozenset(
    {
        "starcoder", "starcoder2", "gpt2", "gptj", "gptneox", "falcon", "bloom", "mpt", "phi2", "nemotron", "codeshell", "jais",
        "apertus", "arcee",
    }
)  # fmt: skip
#: Encoders whose context gives vectors, no logits.
_VECTORS: Final = NO_CACHE - {"dream", "llada", "llada-moe", "rnd1"}
#: Architectures whose blocks hold much more than the form says, in ways that were not taken apart.
_UNKNOWN: Final = frozenset({"glm5-next", "qwen4exp"})
#: Architectures with operations that stay on the processor when their blocks do, whatever a device offers.
_HOST_COMPUTES: Final = frozenset({"bloom", "mpt", "gemma3n", "gemma4", "starcoder"})
#: Architectures with experts in every block, whatever a file says of the first ones (src/models/mellum.cpp).
_MIXED_ALL: Final = frozenset({"mellum"})
#: Delta attention: tenths of the query's width that a token holds, least and most.
_BY_WIDTH: Final = {"kimi-k3": (46, 54), "kimi-linear": (28, 32), "bailingmoe3": (28, 32)}


class Rules(Struct, frozen=True, kw_only=True):
    """What differs between builds and front ends.

    Attributes:
        outputs: tokens of a batch whose logits are computed at most (`n_outputs_max`); 0: all of them.
        device_mask, host_mask: bytes of one entry of the attention mask with flash attention: 2 (f16), 4 (f32), or both of
            them side by side; without it 4.
        hidden: hidden states of a batch on the host, fewest and most; None: one more than copies.
        gates: vectors of a gated feed-forward's width that lie side by side at least.
        studied: whether the closed form's commit is meant; elsewhere it is no more than a guide.
    """

    outputs: int = 0
    device_mask: int = 2
    host_mask: int = 2
    hidden: tuple[int, int] | None = None
    studied: bool = True
    gates: int = 3  # vectors of a gated feed-forward's width that lie side by side at least


class _Batch(Struct, frozen=True, kw_only=True):
    """Sizes of one prompt batch, bytes; a block's largest moment from least to most."""

    ub: int
    masks: int
    host_masks: int
    inputs: int
    logits: int
    hidden: int
    padding: int
    attention: int
    turned: int
    bare: int
    pair: int
    mixed: bool
    least: int
    most: int
    closed: bool
    below: int
    above: int


def compute(
    h: Hparams,
    context: Context[int],
    placed: Placed,
    rules: Rules = Rules(),  # noqa: B008  (frozen)
    *,
    quantised: bool = False,
) -> tuple[Band, ...]:
    """The compute buffer of each device and, last, of the host.

    Args:
        h: the model.
        context: its context.
        placed: where its layers lie.
        rules: of the build.
        quantised: whether keys or values are.
    """
    batch = _batch(h, context, rules, quantised=quantised, alone=not placed.devices)
    on_host = bool(placed.host.blocks) or placed.host.has_output
    cache_away = not on_host and bool(placed.host.kv_bytes + placed.host.state_bytes)
    copied = _copied(placed, int(context.n_ubatch), mixed=batch.mixed)
    plain = not on_host and not cache_away and not placed.moved
    built = simulated(h, context, placed, outputs=rules.outputs, away=cache_away or not rules.studied)
    found = []
    for index, part in enumerate(placed.parts[:-1]):
        extra = copied if index == 0 else (0, 0)
        output = placed.output == index or (index == 0 and placed.output == HOST_LAYER and extra[1] > 0)
        bare = batch.mixed and placed.moved and not extra[1] and not placed.experts[index] and not any(h.indexed)
        if not part.blocks and not output and not extra[1]:
            found.append(Band(low=0, best=0, high=0))
            continue
        if index in built:
            found.append(built[index])
            continue
        band = _device(
            batch,
            placed.copies,
            blocks=len(part.blocks),
            output=output,
            extra=extra,
            plain=plain,
            bare=bare,
            away=cache_away,
            moved=placed.moved,
            second=None if placed.output == HOST_LAYER else placed.next_on_host,
        )
        if extra[1] and placed.host.kv_bytes:
            band = with_caches(band, context, placed.layers, weight=extra[0], beside=batch.masks + batch.attention + batch.hidden)
        if part.blocks == (h.n_layer - 1,) and rules.outputs and not plain:  # its feed-forward sees the outputs alone
            low = min(band.low, batch.attention * 9 // 10)
            band = Band(low=low, best=band.best, high=band.high)
        found.append(band)
    odd = any(h.recurrent) or h.arch in _HOST_COMPUTES or REPACKED in placed.host.model
    found.append(_host(batch, placed, rules, away=cache_away, copied=bool(copied[1]), odd=odd))
    return tuple(found)


def _batch(h: Hparams, context: Context[int], rules: Rules, *, quantised: bool, alone: bool) -> _Batch:
    ub, wide = int(context.n_ubatch), h.n_embd
    caches = [part for part in context.parts if part.name != "recr" and not part.name.endswith("_state") and part.n_layers]
    cells = sum(int(part.cells) for part in caches)
    masks, on_host = ((each if context.flash_attn else 4) * ub * cells for each in (rules.device_mask, rules.host_mask))
    outputs = min(ub, rules.outputs or ub)
    width = max(h.head_count, default=0) * max(h.key_length, h.key_length_swa)
    if quantised and h.key_length % 64 == 0:  # matrices that turn keys and values before they are packed
        power = h.key_length & -h.key_length
        turned = len(caches) * 4 * (power * power + 64 * 64)
        masks, on_host = masks + turned, on_host + turned
    block = _block(h, ub, width, caches, int(context.n_seq_max), alone=alone)
    least, most = block.least - 4 * ub * (3 - rules.gates) * max(h.feed_forward, default=0), block.most
    if not context.flash_attn and caches:
        largest = max(int(part.cells) for part in caches)
        attention = 4 * ub * (max(h.head_count) * largest + 2 * wide + 2 * width)
        least, most = max(least, attention), max(most, attention + masks)
    return _Batch(
        ub=ub,
        masks=masks,
        host_masks=on_host,
        inputs=16 * ub * len(caches) + 4 * ub,
        logits=0 if h.arch in _VECTORS else 4 * outputs * (h.n_vocab + wide),
        hidden=4 * ub * wide,
        padding=4 * outputs,
        attention=4 * ub * (2 * wide + width),
        turned=4 * ub * width,
        bare=4 * ub * (5 * width // 2 + wide if h.is_mla else 2 * wide + 2 * width),
        pair=4 * ub * (2 * max(h.feed_forward, default=0) + 2 * wide),
        mixed=bool(_number(h, "expert_used_count")),
        least=least,
        most=most,
        below=block.below if rules.studied else min(block.below, 97),
        above=block.above if rules.studied else max(block.above, 136),
        closed=rules.studied
        and h.arch in _CLOSED
        and context.flash_attn
        and not quantised
        and width <= wide  # wider queries leave a gap before the logits
        and not h.keys.get(f"{h.arch}.expert_count"),
    )


def _number(h: Hparams, name: str) -> int:
    value = h.keys.get(f"{h.arch}.{name}")
    value = max(value, default=0) if isinstance(value, list | tuple) else value
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


class _Block(Struct, frozen=True):
    """The largest moment of one block, bytes, least and most, and per cent around them in which recorded buffers lie."""

    least: int
    most: int
    below: int = 93
    above: int = 138


def _block(h: Hparams, ub: int, width: int, caches: Sequence[Part[int]], sequences: int, *, alone: bool) -> _Block:
    """What a block holds of one batch. `alone`: on the processor, without devices."""
    wide, arch, forward = h.n_embd, h.arch, max(h.feed_forward, default=0)
    dense = 3 * forward + 2 * wide + width
    used, each = _number(h, "expert_used_count"), _number(h, "expert_feed_forward_length") or forward
    mixed = max(3 * used * each + 2 * wide, 18 * used * wide // 10)
    if arch == "nemotron_h_moe":  # no gate, and experts of a narrower model
        mixed = max(2 * used * each + 2 * wide, used * wide)
    states = 4 * h.s_elements * max(sequences, 1)
    inner = _number(h, "ssm.inner_size")
    cells = sum(int(part.cells) for part in caches)
    few, many, more = 0, 0, 0  # floats a token; bytes whatever the batch
    below, above = 93, 138
    if used and not _number(h, "expert_feed_forward_length") and not _number(h, "expert_count"):  # a record of few keys
        few, many, below, above = max(14 * used * wide // 10, 2 * wide + width), max(2 * used * wide, dense), 97, 145
        if arch == "llama4" or (_number(h, "leading_dense_block_count") and arch not in _MIXED_ALL):
            few = max(few, dense)  # a shared expert as wide as the dense layers, or dense layers
    elif used:
        few = many = max(mixed, dense) if _number(h, "leading_dense_block_count") else mixed
        below, above = 97, 145
    elif arch in _UNGATED:
        few, many, below, above = 17 * forward // 10 + wide // 4, 2 * forward + 3 * wide, 94, 114
    else:
        few = many = dense
        if arch in _CLOSED:
            below, above = 95 if width <= wide else 93, 122
    if arch == "gemma3n":
        above = 138 if alone else 190
    if arch == "deci":  # each block has a width of its own
        below, above = 97, 132
    least_more = 0
    if arch in _BY_WIDTH:
        low, high = _BY_WIDTH[arch]
        few, many, more, below, above = max(few, low * width // 10), max(many, high * width // 10), states, 95, 108
    elif h.is_mla:
        below, above = (95, 118) if alone else (92, 132)
        few, many = max(few, 5 * width // 2), max(many, 6 * dense // 5 if alone else max(11 * width // 4, dense))
    elif inner and any(h.recurrent):
        low, high = (6, 20) if arch in PURE_RECURRENT else (7, 12 if alone else 20)
        few, many, below, above = max(few, low * inner), max(many, high * inner), 93, 118
        least_more, more = states // 2, states + states // 8
    elif any(h.recurrent) and arch not in SHORT_CONV:
        many, more, above = max(many, (18 if alone else 42) * wide), 2 * states, 116
    index = next((part for part in caches if part.name == "indexer"), None)
    if index is not None and arch not in _UNKNOWN:
        chosen = max(h.head_count) * min(int(index.cells), _number(h, "attention.indexer.top_k") or 2048)
        low, high = (chosen + 34 * width // 10, chosen + 39 * width // 10) if alone else (2 * width, chosen // 2 + 4 * width)
        far = 4 * ub * int(index.cells) if int(index.cells) > _FAR else 0
        few, many, below, above = max(few, low), max(many, high), 94, 118
        least_more, more = far, max(far, 4 * ub * min(int(index.cells), _FAR))
    if arch == "deepseek4":
        lines = sum(int(part.cells) for part in caches if part.name == "lid")
        few, many, more, below, above = 3 * wide, 5 * width, (40 * ub + 1280) * lines + (1 << 20), 97, 105
    elif arch in _UNKNOWN:
        few, many, more, below, above = 3 * wide, 24 * (wide + width), 16 * ub * cells + (16 << 20), 95, 105
    return _Block(4 * ub * few + least_more, 4 * ub * many + more, below, above)


def _copied(placed: Placed, ub: int, *, mixed: bool) -> tuple[int, int]:
    """Weights on the host that are copied to the first device when a batch needs them: the largest, and the largest ones."""
    if ub < _MOVES or not placed.devices or not placed.devices[0].backend.offloads:
        return 0, 0
    return max(placed.largest_on_host, default=0), sum(placed.largest_on_host[: 2 if mixed else 3])


def _device(
    batch: _Batch,
    copies: int,
    *,
    blocks: int,
    output: bool,
    extra: tuple[int, int],
    plain: bool,
    bare: bool,
    away: bool,
    moved: bool,
    second: int | None,
) -> Band:
    """One device's buffer.

    Args:
        second: bytes of what may lie beside the largest weights that come from the host, where that is known.
    """
    logits = batch.logits if output else 0
    beside, shared = batch.masks + batch.inputs, 0
    if copies > 1:
        shared = copies * (batch.hidden + (beside if blocks else 0) + (pad(batch.padding, 128) if output and blocks else 0))
        low, high = (peak if blocks else 0 for peak in (batch.least, batch.most))
    elif plain:
        low, high = (peak + beside if blocks else 0 for peak in (batch.least, batch.most))
    else:  # the batch comes from another place, and the masks and the block's peak need not meet
        held = batch.attention + batch.masks
        peaks = (batch.bare, batch.bare) if bare else (batch.least, batch.most)
        sums = [max(peak + batch.hidden + batch.inputs, held) if blocks else 0 for peak in peaks]
        low = sums[0] if batch.mixed else sums[0] * 89 // 100
        high = max(sums[1], batch.hidden + held + batch.turned) if blocks else 0
        if batch.mixed and blocks and not extra[1] and not moved:  # a residual and what is added to it come each by itself
            high += batch.hidden
        if away:
            low, high = low // 2, high * 3 // 2
    if batch.closed and plain and blocks >= _ENOUGH and (copies > 1 or logits > batch.most + beside):
        exact = max(low, logits) + shared
        return Band(low=exact, best=exact, high=exact)
    found = _around(low * 9 // 10 if blocks < _ENOUGH else low, high, batch, logits=logits, shared=shared)
    if not extra[1]:
        return found
    if second is not None and not away:
        return _with_copies(batch, sums, extra[0], second, logits, found)
    if batch.mixed:  # of experts two lie there at once, or one beside a block's peak
        return Band(low=max(found.low, extra[0]), best=max(found.low, extra[1]), high=extra[1] + found.high)
    own = _around(low * 9 // 10 if blocks < _ENOUGH else low, high, batch, logits=0)
    low = max(own.low * 95 // 100 + (extra[0] // 4 if not moved else 0), logits)
    far = batch.masks if batch.masks > batch.logits // 4 else 0  # long contexts: the masks come beside the copy
    high = max(max(sums[1], logits) * 112 // 100, found.low) + extra[1] + far
    return Band(low=low, best=(low + high) // 2, high=max(low, high))


def _with_copies(batch: _Batch, peaks: list[int], weight: int, second: int, logits: int, found: Band) -> Band:
    """The first device, that gets copies of weights on the host when an operation is moved to it.

    Every such multiplication is a split of its own, so that one copy lies there at a time; but one that is larger than that
    before it does not fit into the room that it left. Beside a copy lie what goes in and what comes out.
    """
    if batch.mixed:
        low = max(weight + batch.least * 9 // 20, found.low)
        high = max(weight + second + max(batch.most, logits) + batch.hidden, peaks[1]) * _COPIED_EXPERTS // 100
    else:
        low, high = (max(weight + batch.pair, peak) for peak in peaks)
        low, high = low * _COPIED[0] // 100, high * (batch.above if batch.above > 150 else _COPIED[1]) // 100
    far = batch.masks if batch.masks > batch.logits // 2 else 0  # long contexts: the masks come beside the copy
    low, high = max(low, logits), max(high + far, logits * 135 // 100, low)
    return Band(low=low, best=(low + high) // 2, high=high)


def _around(low: int, high: int, batch: _Batch, *, logits: int, shared: int = 0) -> Band:
    """A band around a block's peak, or around the logits where they are more.

    The logits and what they are multiplied from lie side by side whole (`result_output` and its source are two nodes), so no
    buffer with the output is smaller; beside them some of the last block is left. `shared`: with every copy of a batch.
    """
    low = max((low + shared) * batch.below // 100, logits + shared * 94 // 100)
    high = max(-(-(high + shared) * batch.above // 100), logits * _LEFT[batch.mixed] // 100 + shared * 110 // 100)
    return Band(low=low, best=(low + high) // 2, high=max(low, high))


def _host(batch: _Batch, placed: Placed, rules: Rules, *, away: bool, copied: bool, odd: bool) -> Band:
    """Hidden states and inputs of the devices' batches; a block's peak where blocks are computed here."""
    copies = placed.copies
    beside = batch.host_masks + batch.inputs + 4 * batch.ub + pad(batch.padding, HOST_ALIGNMENT)
    low, high = (count * batch.hidden + copies * beside for count in rules.hidden or (copies + 1, copies + 1))
    on_host = bool(placed.host.blocks) or placed.host.has_output
    logits = batch.logits if placed.host.has_output else 0
    here = [peak + beside for peak in (batch.least, batch.most)]
    if not placed.devices or (placed.host.blocks and not copied):
        return _around(here[0], here[1], batch, logits=logits)
    if away or (on_host and odd):
        return _around(min(low, here[0]), max(2 * high, here[1], logits), batch, logits=0)
    if (on_host or placed.moved) and not rules.studied:
        return Band(low=low * 97 // 100, best=low * 12 // 10, high=high * 2)
    if on_host or placed.moved:
        computes = not copied and bool(placed.largest_on_host)  # what nobody moves is computed here
        return Band(low=low * 99 // 100, best=low * 12 // 10, high=high * (250 if computes else 148) // 100)
    if batch.closed and rules.hidden is None:
        return Band(low=low, best=low, high=low)
    below, above = (97, 145) if rules.studied else (98, 118)
    return Band(low=low * below // 100, best=high, high=high * above // 100)
