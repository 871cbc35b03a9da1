"""Laws as layers: what was measured, written as the memories of a model."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Final

from msgspec.structs import replace

from kvplan.domain.dtypes import STATE_ITEM_BYTES, lookup
from kvplan.domain.model import MAX_LAYERS, Chunk, Cross, Index, Latent, Layer, Memory, Model, Reach, Recurrent, Softmax, State
from kvplan.questions.measure.laws import Law
from kvplan.questions.measure.observed import Facts
from kvplan.questions.measure.series import Series, item_bytes_of

#: What stands for a model type where a description names none.
_TYPE: Final = "spec"
#: One tensor that grows: its heads and elements a head, its dtype, its law.
Row = tuple[Series, Law, int, int]


def described(name: str, series: Sequence[Series], facts: Facts, notes: Sequence[str]) -> Model:
    """The model that keeps what every series with a law keeps, layer by layer."""
    kept = [one for one in series if one.law is not None]
    dtype = _cache_dtype(kept, facts)
    numbered = [one.layer for one in kept if one.layer is not None]
    count = min(max([facts.layers or 1, *(number + 1 for number in numbered)]), MAX_LAYERS)
    held: dict[int, list[Series]] = {}
    for number, one in _spread(kept, count):
        held.setdefault(number, []).append(one)
    layers = tuple(Layer(index=i, memories=tuple(_memories(held.get(i, []), dtype, facts))) for i in range(count))
    heads = facts.attention_heads
    divides = heads and all(heads % m.kv_heads == 0 for layer in layers for m in layer.memories if isinstance(m, Softmax))
    return Model(
        name=name,
        model_type=_TYPE,
        layers=layers,
        dtype=dtype,
        max_tokens=facts.max_tokens,
        attention_heads=heads if divides else None,
        notes=tuple(notes),
    )


def _spread(kept: Sequence[Series], layers: int) -> Iterator[tuple[int, Series]]:
    """Each tensor with its layer: one that names none is the first's, and one whose outer axis has all layers is each one's."""
    for one in kept:
        law = one.law
        place = next((i for i in (0, len(one.entry) - 1) if one.entry and one.entry[i] == layers), None)
        if one.layer is not None or layers == 1 or place is None or law is None or law.row % layers or law.extra % layers:
            yield one.layer or 0, one
            continue
        entry = one.entry[:place] + one.entry[place + 1 :]
        each = Law(law.kind, row=law.row // layers, size=law.size, extra=law.extra // layers)
        for layer in range(layers):
            yield layer, replace(one, entry=entry, laws=(each,))


def _cache_dtype(kept: Sequence[Series], facts: Facts) -> str:
    """The dtype of most of what grows, else of the weights."""
    sizes: dict[str, int] = {}
    for one in kept:
        if one.law is not None and one.law.row and _named(one.dtype) and one.dtype not in STATE_ITEM_BYTES:
            sizes[one.dtype] = sizes.get(one.dtype, 0) + one.law.row
    most = max(sizes, key=sizes.__getitem__) if sizes else facts.dtype
    return _named(most) if most not in STATE_ITEM_BYTES and _named(most) else "float32"


def _named(dtype: str) -> str:
    """kvplan's name for a torch dtype; empty where it has none."""
    if dtype in STATE_ITEM_BYTES:
        return dtype
    return lookup(dtype).name if item_bytes_of(dtype) else ""


def _memories(held: Sequence[Series], dtype: str, facts: Facts) -> Iterator[Memory]:
    """One layer's memories: what grows, keys with their values, each further tensor by itself, and the states."""
    groups: dict[tuple[bool, Reach], list[Row]] = {}
    states: list[State] = []
    for one in held:
        law = one.law
        if law is None:
            continue
        item = item_bytes_of(one.dtype) or 1
        if law.row:
            heads, dim = _heads(one.entry, law.row // item)
            groups.setdefault((law.kind == "encoder", _reach(law, facts)), []).append((one, law, heads, dim))
        if law.extra:
            states.append(_state(one, law.extra, item, dtype))
    for (encoder, reach), rows in groups.items():
        yield from _crossed(rows) if encoder else _grown(rows, reach, dtype, facts)
    if states:
        yield Recurrent(states=tuple(states))


def _reach(law: Law, facts: Facts) -> Reach:
    """A law's reach; a window is a chunk where the config calls its size so."""
    chunks = {size for key, size in facts.numbers.items() if "chunk" in key.lower()}
    windows = {size for key, size in facts.numbers.items() if "window" in key.lower()}
    return Chunk(law.size) if law.kind == "window" and law.size in chunks - windows else law.reach


def _heads(entry: tuple[int, ...], elements: int) -> tuple[int, int]:
    """Heads and elements a head of one entry: the last axis is a head's, those before are heads."""
    axes = [size for size in entry if size > 1] or [1]
    if prod(axes) != elements:
        return 1, elements
    return prod(axes[:-1]), axes[-1]


def _state(one: Series, size: int, item: int, dtype: str) -> State:
    """A tensor of one sequence that does not grow; one of a type that kvplan does not know is counted as bytes."""
    name, elements = _named(one.dtype), size // item
    if not name or size % item:
        return State(name=one.name[:200], shape=(size,), dtype="int8")
    shape = one.entry if one.entry and len(one.entry) <= 8 and prod(one.entry) == elements else (elements,)
    return State(name=one.name[:200], shape=shape, dtype=None if name == dtype else name)


def _crossed(rows: Sequence[Row]) -> Iterator[Memory]:
    """Tensors that grow with the encoder's output, in pairs; a last one alone is written as two halves."""
    for (_, _, heads, key), (_, _, others, value) in zip(rows[::2], rows[1::2], strict=False):
        if heads == others:
            yield Cross(kv_heads=heads, key_dim=key, value_dim=value)
        else:
            yield Cross(kv_heads=1, key_dim=heads * key, value_dim=others * value)
    if len(rows) % 2:
        _, _, heads, dim = rows[-1]
        yield Cross(kv_heads=heads, key_dim=dim - dim // 2, value_dim=max(1, dim // 2))


def _grown(rows: Sequence[Row], reach: Reach, dtype: str, facts: Facts) -> Iterator[Memory]:
    """Tensors of one layer that grow alike: keys and values, and each other one as what is kept beside them."""
    pair = _pair([row for row in rows if _named(row[0].dtype) == dtype])
    if len(pair) == 2:
        (_, _, heads, key), (_, _, others, value) = pair
        if heads != others:
            heads, key, value = 1, heads * key, others * value
        yield _keys_and_values(heads, key, value, reach, facts)
    elif pair and pair[0][0].entry[:1] == (2,) and len(pair[0][0].entry) > 2:  # both in one tensor, stacked
        _, _, heads, dim = pair[0]
        yield _keys_and_values(heads // 2, dim, dim, reach, facts)
    elif pair:
        yield Softmax(kv_heads=pair[0][2], key_dim=pair[0][3], value_dim=0, reach=reach)
    for row in rows:
        if row not in pair:
            yield _beside(row, reach, dtype)


def _pair(rows: list[Row]) -> list[Row]:
    """Keys and values: by their names where these say so, else the first two; one alone is both."""
    words = [row[0].path[-1].lower().lstrip("_") if row[0].path else "" for row in rows]
    named = [[row for row, word in zip(rows, words, strict=True) if word.startswith(letter)] for letter in "kv"]
    return [named[0][0], named[1][0]] if all(named) else rows[:2]


def _keys_and_values(heads: int, key: int, value: int, reach: Reach, facts: Facts) -> Memory:
    """Keys and values; a latent where the config has its sizes under the names that go with one."""
    sizes, queries = facts.numbers, facts.attention_heads or 1
    ranks = {size for name, size in sizes.items() if "rank" in name and "kv" in name}
    rope, nope, values = (next((s for name, s in sizes.items() if f"{w}_head_dim" in name), 0) for w in ("rope", "nope", "v"))
    if heads == 1 < queries and key in ranks and rope == value and nope and values:
        return Latent(rank=key, rope_dim=rope, heads=queries, nope_dim=nope, value_dim=values, reach=reach)
    return Softmax(kv_heads=heads, key_dim=key, value_dim=value, reach=reach)


def _beside(row: Row, reach: Reach, dtype: str) -> Memory:
    """A tensor that grows beside keys and values, in a type of its own; one that kvplan does not know is counted as bytes."""
    one, law, heads, dim = row
    name = _named(one.dtype)
    if not name or name in STATE_ITEM_BYTES:
        return Index(dim=law.row, dtype="int8", reach=reach)
    return Index(dim=dim, heads=heads, dtype=None if name == dtype else name, reach=reach)
