"""`ideal`: the least that a model must keep, and the yardstick for every engine's waste.

Each token's key and value elements once at the cache dtype; windows and chunks capped; MLA absorbed
(rank + rope); the indexer's keys; compressed entries; states in their own dtype, a short convolution's
kernel - 1 columns; cross-attention for the encoder's length; nothing for layers that share.

Sources: Vaswani et al. 2017 (keys and values per token), GQA 2305.13245, MLA 2405.04434 section 2.1,
Cross-Layer Attention 2405.12981 section 2.2, Mamba-2 2405.21060, gated DeltaNet 2412.06464.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, ClassVar, assert_never

from msgspec import Struct

from kvplan.domain.allocation import Per
from kvplan.domain.dtypes import DType, item_bytes, lookup, torch_name
from kvplan.domain.model import (
    Cross,
    Index,
    Latent,
    Memory,
    Model,
    Reach,
    Recurrent,
    Shared,
    Softmax,
)
from kvplan.domain.words import memory_words
from kvplan.engines.kernel.engine import PieceEngine
from kvplan.engines.kernel.heads import split_heads
from kvplan.engines.kernel.retention import cross_tokens, growth_period, kept_tokens
from kvplan.engines.kernel.states import state_shape
from kvplan.engines.kernel.tensors import Count, Piece, Totals
from kvplan.errors import OptionError


class IdealOptions(Struct, frozen=True, kw_only=True):
    """`kv_dtype` "auto" is the model's dtype; `tensor_parallel` devices split the KV heads."""

    kv_dtype: str = "auto"
    tensor_parallel: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.tensor_parallel <= 65_536:
            raise OptionError(f"tensor_parallel must be from 1 to 65,536, got {self.tensor_parallel}")


class Slopes(Struct, frozen=True, kw_only=True):
    """Bytes of one sequence: for each entry kept under a reach, and whatever the length (encoder's, states')."""

    by_reach: Mapping[Reach, int]
    fixed: int
    state: int
    period: int  # tokens after which growth repeats


class Ideal(PieceEngine):
    """The theory; see the module's docstring."""

    name: ClassVar[str] = "ideal"
    Options: ClassVar[type[Any]] = IdealOptions
    aliases: ClassVar[Mapping[str, str]] = {"kv_dtype": "kv_dtype", "tensor_parallel": "tensor_parallel"}
    latest: ClassVar[str] = "1"
    options: IdealOptions
    _known: tuple[Model, int, Slopes] | None = None

    def kv_dtype(self, model: Model) -> str:
        """The option, or the model's own dtype."""
        return lookup(model.dtype if self.options.kv_dtype == "auto" else self.options.kv_dtype).name

    @property
    def tensor_parallel(self) -> int:
        """Devices that share the heads."""
        return self.options.tensor_parallel

    def pieces(self, model: Model, seq_len: Count, batch_size: Count, encoder_len: int) -> Iterator[Piece[Count]]:
        """Every tensor, one entry for each distinct memory."""
        cache = lookup(self.kv_dtype(model))
        for memories, layers in model.collapsed().items():
            for memory in memories:
                yield from self._memory(memory, layers, model, cache, seq_len, batch_size, encoder_len)

    def totals(self, model: Model, seq_len: Count, batch_size: Count, encoder_len: int) -> Totals[Count]:
        """The sums of `pieces`, with one multiplication for each reach however many tensors have it: sweeps are long."""
        slopes = self._slopes(model, encoder_len)
        one = seq_len * 0 + (slopes.fixed + slopes.state)
        for reach, slope in slopes.by_reach.items():
            one += kept_tokens(reach, seq_len) * slope
        payload = one * batch_size
        return Totals(payload=payload, allocated=payload, bookkeeping=0, state=payload * 0 + batch_size * slopes.state)

    def bytes_per_token(self, model: Model, seq_len: Count, payload: Count | None = None) -> Count:
        """What the next token of one sequence adds, rounded up where entries stand for several tokens."""
        slopes = self._slopes(model, 0)
        grown = seq_len * 0
        for reach, slope in slopes.by_reach.items():
            grown += (kept_tokens(reach, seq_len + slopes.period) - kept_tokens(reach, seq_len)) * slope
        return grown if slopes.period == 1 else -(-grown // slopes.period)

    def _slopes(self, model: Model, encoder_len: int) -> Slopes:
        """The slopes of this model, kept for the next block of the same sweep."""
        if self._known is None or self._known[0] is not model or self._known[1] != encoder_len:
            self._known = (model, encoder_len, self._measured_slopes(model, encoder_len))
        return self._known[2]

    def _measured_slopes(self, model: Model, encoder_len: int) -> Slopes:
        """Read off the tensors at a length where every reach keeps something: each tensor is linear in what it keeps."""
        cache, length = lookup(self.kv_dtype(model)), growth_period(model)
        by_reach: dict[Reach, int] = {}
        fixed = state = 0
        for memories, layers in model.collapsed().items():
            for memory in memories:
                found = self._memory(memory, layers, model, cache, length, 1, encoder_len)
                size = sum(piece.payload for piece in found) * len(layers)
                match memory:
                    case Softmax() | Latent() | Index():
                        slope = size // kept_tokens(memory.reach, length)
                        by_reach[memory.reach] = by_reach.get(memory.reach, 0) + slope
                    case Recurrent():
                        state += size
                    case Cross() | Shared():
                        fixed += size
                    case _:
                        assert_never(memory)
        return Slopes(by_reach=by_reach, fixed=fixed, state=state, period=length)

    def _memory(
        self,
        memory: Memory,
        layers: tuple[int, ...],
        model: Model,
        cache: DType,
        seq_len: Count,
        batch_size: Count,
        encoder_len: int,
    ) -> Iterator[Piece[Count]]:
        kind = memory_words(memory, model.attention_heads)
        tp = self.options.tensor_parallel

        def rows(name: str, heads: int, dim: int, tokens: Count, dtype: DType, per: Per = "token") -> Piece[Count]:
            row = dtype.row_bytes(heads, dim)
            size = tokens * (batch_size * row)
            as_bytes = dtype.packed or dtype.head_scale_bytes > 0
            return Piece(
                layers=layers,
                name=name,
                kind=kind,
                shape=(batch_size, tokens, row) if as_bytes else (batch_size, heads, tokens, dim),
                dtype="uint8" if as_bytes else dtype.torch,
                payload=size,
                padded=size,
                per=per,
            )

        match memory:
            case Softmax():
                heads, tokens = split_heads(memory.kv_heads, tp), kept_tokens(memory.reach, seq_len)
                yield rows("keys" if memory.value_dim else "keys and values", heads, memory.key_dim, tokens, cache)
                if memory.value_dim:
                    yield rows("values", heads, memory.value_dim, tokens, cache)
            case Latent():
                tokens = kept_tokens(memory.reach, seq_len)
                yield rows("latent", 1, memory.rank, tokens, cache)
                if memory.rope_dim:
                    yield rows("rope keys", 1, memory.rope_dim, tokens, cache)
            case Index():
                dtype = lookup(memory.dtype) if memory.dtype else cache
                yield rows("index keys", memory.heads, memory.dim, kept_tokens(memory.reach, seq_len), dtype)
            case Cross():
                heads, tokens = split_heads(memory.kv_heads, tp), seq_len * 0 + cross_tokens(memory, encoder_len)
                yield rows("cross keys", heads, memory.key_dim, tokens, cache, "encoder")
                yield rows("cross values", heads, memory.value_dim, tokens, cache, "encoder")
            case Recurrent():
                yield from self._states(memory, layers, kind, model, seq_len, batch_size)
            case Shared():
                return
            case _:
                assert_never(memory)

    def _states(
        self,
        memory: Recurrent,
        layers: tuple[int, ...],
        kind: str,
        model: Model,
        seq_len: Count,
        batch_size: Count,
    ) -> Iterator[Piece[Count]]:
        for state in memory.states:
            shape: tuple[int, ...] = state_shape(state, self.options.tensor_parallel)
            dtype = state.dtype or model.dtype
            size = batch_size * (prod(shape) * item_bytes(dtype)) + seq_len * 0
            yield Piece(
                layers=layers,
                name=state.name,
                kind=kind,
                shape=(batch_size, *shape),
                dtype=torch_name(dtype),
                payload=size,
                padded=size,
                per="sequence",
            )
