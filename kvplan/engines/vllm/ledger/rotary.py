"""Rotary caches: tables of cosines and sines that vLLM keeps, and the temporaries that their making leaves behind.

The temporaries are freed at once, and their blocks are what the next large parameters are cut from: under the split limit of
loading a parameter may take a block that is larger than itself, and then counts all of it.

Source: `model_executor/layers/rotary_embedding/`: `__init__.py:get_rope`, `base.py`, `yarn_scaling_rope.py`,
`deepseek_scaling_rope.py`, `linear_scaling_rope.py`, `phi3_long_rope_scaled_rope.py`, `mrope.py`; 0.26.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from kvplan.domain.caching_allocator import Allocator
from kvplan.engines.kernel.sections import count_in

Kind = Literal["plain", "yarn", "linear", "longrope"]
_FLOAT: Final = 4
_LARGEST_FACTOR: Final = 2**20


class Rotary(Struct, frozen=True, kw_only=True):
    """One table, shared by all layers that ask for the same.

    Attributes:
        positions: rows of the table.
        dim: elements of a row (the rotated part of a head).
        kind: how it is made.
        short_positions: rows of the short table that `longrope` puts before the long one.
        item_bytes: bytes of an element as kept.
        key: what else tells two tables apart (base, scaling).
    """

    positions: int
    dim: int
    kind: Kind = "plain"
    short_positions: int = 0
    item_bytes: int = 2
    key: str = ""

    def make(self, memory: Allocator) -> int:
        """Build the table in `memory`, free the temporaries, and return the table's handle."""
        if self.kind == "longrope":
            short = self._narrowed(memory, self._cache(memory, self.short_positions))
            long = self._narrowed(memory, self._cache(memory, self.positions))
            both = memory.take((self.short_positions + self.positions) * self.dim * self.item_bytes)
            memory.give(short)
            memory.give(long)
            return both
        return self._narrowed(memory, self._cache(memory, self.positions))

    def _cache(self, memory: Allocator, positions: int) -> int:
        """The float32 table: positions, angles, cosines, sines, and the two joined."""
        half = positions * (self.dim // 2) * _FLOAT
        rows = memory.take(positions * _FLOAT)
        if self.kind == "linear":
            divided = memory.take(positions * _FLOAT)
            memory.give(rows)
            rows = divided
        angles = memory.take(half)
        if self.kind in {"yarn", "longrope"}:  # `freqs.cos() * mscale`: the unscaled cosines are freed
            cosines, sines = self._scaled(memory, half), self._scaled(memory, half)
        else:
            cosines, sines = memory.take(half), memory.take(half)
        table = memory.take(2 * half)
        if self.kind == "linear":  # a list of one table is joined once more
            joined = memory.take(2 * half)
            for handle in (rows, angles, cosines, sines, table):
                memory.give(handle)
            return joined
        for handle in (rows, angles, cosines, sines):
            memory.give(handle)
        return table

    @staticmethod
    def _scaled(memory: Allocator, size: int) -> int:
        plain = memory.take(size)
        scaled = memory.take(size)
        memory.give(plain)
        return scaled

    def _narrowed(self, memory: Allocator, table: int) -> int:
        """`cache.to(dtype)`: a copy, unless it stays float32."""
        if self.item_bytes == _FLOAT:
            return table
        rows = self.positions if not self.short_positions else None
        size = memory.size(table) // 2 if rows is None else rows * self.dim * self.item_bytes
        kept = memory.take(size)
        memory.give(table)
        return kept


#: Text model types whose layers know positions otherwise, or not at all.
_WITHOUT: Final = frozenset({
    "gpt2", "opt", "mpt", "bloom", "gpt_bigcode", "mamba", "mamba2", "falcon_mamba", "jamba", "nemotron_h", "biogpt", "bart",
    "whisper", "t5", "mbart", "xlstm", "rwkv", "zamba",
})  # fmt: skip
#: Shares of a head that classes rotate where the config does not say.
_PARTIAL: Final = {
    "glm": 0.5, "glm4": 0.5, "glm4_moe": 0.5, "chatglm": 0.5, "phi": 0.5, "stablelm": 0.25, "persimmon": 0.5, "nemotron": 0.5,
    "gpt_neox": 0.25, "qwen3_next": 0.25, "qwen3_5_text": 0.25, "qwen3_5_moe_text": 0.25, "recurrent_gemma": 0.5, "bamba": 0.5,
}  # fmt: skip
_MLA_TYPES: Final = ("deepseek_yarn", "deepseek_llama_scaling")


def rotaries(
    text: Mapping[str, Any], text_type: str, head_dim: int, rope_dim: int, item_bytes: int, flashinfer: bool
) -> Mapping[str, Rotary]:
    """Layer type ("" for every layer alike) -> the table that layers of that type ask for; empty without rotation.

    Args:
        text: the text part of the config, completed with the class's defaults.
        head_dim: elements of a head, of which `partial_rotary_factor` are rotated.
        rope_dim: the width of MLA's rotary key; 0 for other attention.
        item_bytes: bytes of an activation.
    """
    if text_type in _WITHOUT or str(text.get("position_embedding_type", "")) in {"nope", "learned", "alibi", "absolute"}:
        return {}
    if text.get("alibi") is True or (text_type == "granitemoehybrid" and text.get("position_embedding_type") != "rope"):
        return {}
    given = text.get("rope_parameters") or text.get("rope_scaling")
    if isinstance(given, Mapping) and given and all(isinstance(part, Mapping) for part in given.values()):
        return {kind: _rotary(text, text_type, part, head_dim, rope_dim, item_bytes, flashinfer) for kind, part in given.items()}
    scaling: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    whole = _rotary(text, text_type, scaling, head_dim, rope_dim, item_bytes, flashinfer)
    local = text.get("rope_local_base_freq")
    if isinstance(local, int | float) and not isinstance(local, bool):
        plain = _rotary(text, text_type, {"rope_theta": local}, head_dim, rope_dim, item_bytes, flashinfer)
        return {"sliding_attention": plain, "full_attention": whole}
    return {"": whole}


def layer_types(text: Mapping[str, Any], layers: int) -> Sequence[str]:
    """The type of each layer where tables differ by it: the config's list, or its period of sliding layers."""
    given = text.get("layer_types")
    if isinstance(given, list):
        return [str(kind) for kind in given]
    period = text.get("sliding_window_pattern") or text.get("_sliding_window_pattern")
    if text.get("rope_local_base_freq") and not period:
        period = 6  # Gemma 3's class default
    if not isinstance(period, int) or isinstance(period, bool) or period < 1:
        return ()
    return ["sliding_attention" if (index + 1) % period else "full_attention" for index in range(layers)]


def _rotary(
    text: Mapping[str, Any],
    text_type: str,
    scaling: Mapping[str, Any],
    head_dim: int,
    rope_dim: int,
    item_bytes: int,
    flashinfer: bool,
) -> Rotary:
    named = ("max_position_embeddings", "n_positions", "seq_length", "max_sequence_length", "max_seq_len")
    positions = count_in(text, *named, default=8192)
    kind = str(scaling.get("rope_type", scaling.get("type")) or "default")
    if kind in {"su", "longrope"}:
        trained = "original_max_position_embeddings"
        short = count_in(scaling, trained) or count_in(text, trained, default=positions)
        return Rotary(
            positions=positions,
            dim=_rotated(text, text_type, scaling, head_dim),
            kind="longrope",
            short_positions=short,
            item_bytes=item_bytes,
        )
    dim = rope_dim or _rotated(text, text_type, scaling, head_dim)
    key = f"{kind} {scaling.get('rope_theta', text.get('rope_theta'))} {scaling.get('factor')}"
    if "mrope_section" in scaling and kind in {"default", "mrope", "yarn"}:
        positions *= 4  # the index of a video frame may exceed the trained length
    factor = scaling.get("factor", 1)
    factor = factor if isinstance(factor, int | float) and not isinstance(factor, bool) and 0 < factor < _LARGEST_FACTOR else 1
    if kind == "yarn" or kind in _MLA_TYPES:
        original = count_in(scaling, "original_max_position_embeddings", default=positions)
        if "mrope_section" in scaling:
            original *= 4
        wide = text_type == "gpt_oss" or (bool(rope_dim) and flashinfer and dim in {64, 128, 256, 512})
        return Rotary(positions=int(original * factor), dim=dim, kind="yarn", item_bytes=4 if wide else item_bytes, key=key)
    if kind == "linear":
        return Rotary(positions=int(positions * factor), dim=dim, kind="linear", item_bytes=item_bytes, key=key)
    return Rotary(positions=positions, dim=dim, item_bytes=item_bytes, key=key)


def _rotated(text: Mapping[str, Any], text_type: str, scaling: Mapping[str, Any], head_dim: int) -> int:
    whole = text.get("rotary_dim")
    if isinstance(whole, int) and not isinstance(whole, bool) and whole > 0:
        return whole
    for section in (scaling, text):
        for key in ("partial_rotary_factor", "rotary_pct", "rope_pct"):
            share = section.get(key)
            if isinstance(share, int | float) and not isinstance(share, bool) and 0 < share <= 1:
                return int(head_dim * share)
    return int(head_dim * _PARTIAL.get(text_type, 1))
