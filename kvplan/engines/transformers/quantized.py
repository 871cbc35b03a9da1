"""Quantized caches: codes and scales of all tokens but the last few, which wait in full precision.

The prompt is quantized whole. Decoded tokens pile up until there are `residual_length` of them; then everything is
quantized again and none wait. fp8 appends and keeps no residual. Sources: `QuantizedLayer.update`,
`QuantoQuantizedLayer`, `HQQQuantizedLayer`, `Fp8QuantizedLayer` in `cache_utils.py`; optimum-quanto 0.2.7, hqq 0.2.8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvplan.domain.dtypes import item_bytes, torch_name
from kvplan.domain.model import Full, Memory, Model, Softmax
from kvplan.domain.words import memory_words
from kvplan.engines.kernel.tensors import Count, Piece, at_least
from kvplan.engines.transformers.options import TransformersOptions
from kvplan.engines.transformers.releases import ZEROPOINT
from kvplan.engines.transformers.rules import Rules
from kvplan.engines.transformers.tensors import Moment
from kvplan.errors import Refused

_BITS: Final = {"quanto": (2, 4), "hqq": (1, 2, 4, 8)}
_AXES: Final = {"quanto": (0, -1), "hqq": (0, 1)}


def refuse_quantized(options: TransformersOptions, model: Model) -> None:
    """Refuse what the quantized cache classes refuse.

    Raises:
        Refused: in the library's words.
    """
    plain = all(isinstance(m, Softmax) and isinstance(m.reach, Full) for layer in model.layers for m in layer.memories) and all(
        layer.memories for layer in model.layers
    )
    if not plain:
        raise Refused("QuantizedCache takes models whose layers are all full attention, and raises a ValueError here")
    if options.backend == "fp8":
        return
    if options.backend not in _BITS:
        raise Refused(f"unknown quantization backend `{options.backend[:40]}`: available are quanto, hqq and fp8")
    if options.nbits not in _BITS[options.backend]:
        words = ", ".join(map(str, _BITS[options.backend]))
        raise Refused(f"`nbits` for the {options.backend} backend has to be one of {words}, got {options.nbits}")
    for name in ("axis_key", "axis_value"):
        axis = getattr(options, name)
        if axis is not None and axis not in _AXES[options.backend]:
            words = " or ".join(map(str, _AXES[options.backend]))
            raise Refused(f"`{name}` for the {options.backend} backend has to be {words}, got {axis}")


def refuse_uneven(options: TransformersOptions, model: Model, seq_len: int, batch_size: int) -> None:
    """Both backends refuse a tensor that its groups do not divide.

    Raises:
        Refused: its words.

    Source: `group` in optimum-quanto 0.2.7 (along the axis), the assertion in hqq's `Quantizer.quantize`.
    """
    if options.backend == "fp8":
        return
    prompt = seq_len - 1 if options.prompt_len is None else min(options.prompt_len, seq_len)
    waiting = (seq_len - prompt) % options.residual_length
    for memory in {m for layer in model.layers for m in layer.memories if isinstance(m, Softmax)}:
        for dim, axis in ((memory.key_dim, options.axis_key), (memory.value_dim, options.axis_value)):
            for tokens in {prompt, seq_len - waiting}:
                elements = memory.kv_heads * tokens * dim * batch_size
                if options.backend == "quanto":
                    elements //= dim if axis == -1 else batch_size or 1
                shared = 8 // options.nbits  # codes in a byte
                if options.backend == "hqq" and axis != 0 and elements // options.q_group_size % shared:
                    words = f"{elements // options.q_group_size:,} groups, which do not fill bytes of {shared} codes"
                    raise Refused(f"hqq fails to pack {words} (core/bitpack.py: BitPack)")
                if elements % options.q_group_size:
                    words = f"{elements:,} elements, which groups of {options.q_group_size} do not divide"
                    raise Refused(f"{options.backend} refuses {words}")


def quantized_pieces(
    options: TransformersOptions,
    release: tuple[int, ...],
    rules: Rules,
    memories: tuple[Memory, ...],
    layers: tuple[int, ...],
    at: Moment[Count],
    heads: int | None,
) -> Iterator[Piece[Count]]:
    """Codes, scales and the tokens that wait, for keys and values."""
    decoded = at_least(at.seq_len - at.prompt_len, 0)
    waiting = decoded % options.residual_length if options.backend != "fp8" else decoded * 0
    for memory in memories:
        if not isinstance(memory, Softmax):
            continue
        for part, dim in (("keys", memory.key_dim), ("values", memory.value_dim)):
            row = memory.kv_heads * dim
            elements = at.batch_size * (at.seq_len - waiting) * row
            words, axis = memory_words(memory, heads), options.axis_key if part == "keys" else options.axis_value
            yield from _quantized(options, release, rules, f"_quantized_{part}", elements, layers, words, axis)
            size = at.batch_size * waiting * (row * item_bytes(rules.dtype))
            yield Piece(
                layers=layers,
                name=part,
                kind=memory_words(memory, heads),
                shape=(at.batch_size, memory.kv_heads, waiting, dim),
                dtype=torch_name(rules.dtype),
                payload=size,
                padded=size,
                per="token",
            )


def _quantized(
    options: TransformersOptions,
    release: tuple[int, ...],
    rules: Rules,
    name: str,
    elements: Count,
    layers: tuple[int, ...],
    kind: str,
    axis: int | None,
) -> Iterator[Piece[Count]]:
    def piece(part: str, count: Count, dtype: str, each: int) -> Piece[Count]:
        size = count * each
        return Piece(
            layers=layers, name=f"{name}.{part}", kind=kind, shape=(count,), dtype=dtype, payload=size, padded=size, per="token"
        )

    if options.backend == "fp8":
        yield piece("0", elements, "float8_e4m3fn", 1)
        yield piece("1", elements * 0 + 1, "float32", 4)
        return
    quanto = options.backend == "quanto"
    groups = elements // options.q_group_size
    scale = item_bytes(rules.dtype)
    codes = _packed(groups, options, axis or 0) if quanto else elements * options.nbits // 8
    yield piece("_data._data" if quanto else "0", codes, "uint8", 1)
    yield piece("_scale" if quanto else "1.scale", groups, torch_name(rules.dtype), scale)
    zeropoint = quanto and int(ZEROPOINT.at(release))
    shift = "_zeropoint" if zeropoint else "_shift" if quanto else "1.zero"
    yield piece(shift, groups, "int8" if zeropoint else torch_name(rules.dtype), zeropoint or scale)


def _packed(groups: Count, options: TransformersOptions, axis: int) -> Count:
    """Bytes of quanto's codes: along the first axis several share a byte, and the last byte may be half empty.

    A tensor grouped along its first axis has a row for each group, along its last a row for each element of a group.
    Source: `pack_weights` in `tensor/packed.py`, `group` in `tensor/grouped.py` of optimum-quanto 0.2.7.
    """
    each = 8 // options.nbits  # codes in a byte
    if axis == 0:
        return (groups + each - 1) // each * options.q_group_size
    return groups * ((options.q_group_size + each - 1) // each)
