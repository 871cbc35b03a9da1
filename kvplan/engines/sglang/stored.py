"""A model as SGLang keeps it: what a layer has rows for, whatever the model itself needs to remember."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from kvplan.domain.model import Chunk, Cross, Index, Layer, Memory, Model, Recurrent, Shared, Softmax, Window
from kvplan.engines.sglang import classes
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.natives import NATIVE


def as_stored(model: Model, args: Arguments) -> Model:
    """`model` with the layers of SGLang's pools; equal layers are equal values."""
    reading = args.reading
    if reading.architecture == classes.COMPRESSED:
        return model
    known: dict[tuple[bool, ...], tuple[Memory, ...]] = {}
    layers = []
    for index in range(reading.layers):
        kinds = (
            index in reading.sliding,
            reading.attention is None or index in reading.attention,
            index in reading.index_layers and reading.index is not None,
            index in reading.state_layers,
            reading.sparse is not None and index in reading.sparse.layers,
        )
        if kinds not in known:
            known[kinds] = tuple(_memories(args, *kinds))
        layers.append(Layer(index=index, memories=known[kinds]))
    return replace(model, layers=tuple(layers), loop=None)  # SGLang counts its own passes


def _memories(args: Arguments, sliding: bool, attends: bool, indexes: bool, remembers: bool, sparse: bool) -> Iterator[Memory]:
    reading = args.reading
    if sliding and reading.sliding_heads is not None:
        own = reading.architecture in classes.OWN_SLIDING_WIDTHS or reading.heads is None
        heads = reading.sliding_heads if own else reading.heads
        if heads is not None:
            size = reading.window
            yield replace(heads, reach=Window(size)) if size is not None and size > 1 else heads
    elif attends and reading.latent is not None:
        yield reading.latent
    elif attends and reading.heads is not None:
        yield _as_rows(args, reading.heads)
    if indexes and reading.index is not None:
        yield reading.index
    if sparse and reading.sparse is not None and reading.sparse.dim:
        yield Index(dim=reading.sparse.dim, heads=1)
    if remembers and reading.state is not None:
        yield reading.state


def _as_rows(args: Arguments, heads: Softmax) -> Softmax:
    """A hybrid's pool is not told the width of the values."""
    wide = args.reading.attention is not None or args.reading.sparse is not None
    return replace(heads, value_dim=heads.key_dim) if wide else heads


def differences(model: Model, args: Arguments) -> Iterator[str]:
    """What SGLang does not use of a model, in words."""
    reading = args.reading
    memories = [memory for layer in model.layers for memory in layer.memories]
    named = reading.architecture or f"model type {model.model_type}"
    if reading.architecture == classes.COMPRESSED:
        return
    if reading.architecture and reading.architecture not in NATIVE:
        yield f"SGLang has no class {named}: its Transformers fallback stores full keys and values in every layer"
    if not reading.sliding and any(isinstance(getattr(memory, "reach", None), Window | Chunk) for memory in memories):
        yield f"SGLang keeps every token in every layer of {named}: it does not use the windows (is_hybrid_swa_model)"
    if any(isinstance(memory, Shared) for memory in memories):
        yield f"SGLang does not read the sharing of {named}: every layer keeps keys and values of its own"
    if not reading.stateful and any(isinstance(memory, Recurrent) for memory in memories):
        yield f"SGLang keeps no states for {named}: its fallback stores full keys and values in every layer"
    if reading.encoder is not None:
        yield f"SGLang keeps the encoder's tokens of {named} as rows of every layer, beside those of the text"
    elif any(isinstance(memory, Cross) for memory in memories):
        yield f"SGLang has no rows of an encoder's length for {named}: what it stores grows with the tokens"
