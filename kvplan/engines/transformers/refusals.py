"""What `transformers` cannot do, in its own words where it has some: a reason, or ""."""

from __future__ import annotations

from kvplan.domain.model import Compressed, Full, Index, Model, Recurrent, Softmax, Window
from kvplan.engines.transformers.models import (
    NEEDS_ATTENTION,
    NO_CACHE,
    NO_STATIC,
    OWN_CACHE,
    shares,
    surplus_layers,
    text_type,
)
from kvplan.engines.transformers.releases import FIRST_RELEASE, INDEX_ON_MODULES, OLDEST, STATIC_ERROR, STATIC_INDEX_ERROR


def refusal(model: Model, built: str, release: tuple[int, ...], version: str) -> str:
    """Why nothing can be predicted for `model` in this release, with a cache that is `built` in this way."""
    kind = text_type(model)
    if release[:2] < OLDEST:
        return "releases of transformers before 4.36 have not been studied"
    if kind in NO_CACHE:
        return f"transformers keeps no cache for model type {kind}: {NO_CACHE[kind]}"
    first = FIRST_RELEASE.get(kind)
    if first and release < first:
        return f"transformers {version} has no model type {kind}: it came with {'.'.join(map(str, first))}"
    kept = [memory for layer in model.layers for memory in layer.memories]
    if kind in NEEDS_ATTENTION and release >= (5, 5) and not any(isinstance(m, Softmax) for m in kept):
        words = "`get_seq_length` can only be called on attention layers"
        return f"transformers {version} raises a ValueError ({words}): this {kind} model has none"
    if built == "static":
        return _no_static(model, release, version)
    return _no_dynamic(model, built, release, version)


def _no_static(model: Model, release: tuple[int, ...], version: str) -> str:
    kind = text_type(model)
    if kind in NO_STATIC:
        return f"transformers has no static cache for {kind}: StaticCache raises a KeyError"
    error = STATIC_ERROR.at(kind, release)
    if error:
        return f"transformers {version} raises {error}"
    if STATIC_INDEX_ERROR.at(kind, release) and not shares(model):
        return f"transformers {version} raises an IndexError for a static cache of this {kind} model"
    return _last_loop_static(model) or _too_few_layers(model, release, version)


def _no_dynamic(model: Model, built: str, release: tuple[int, ...], version: str) -> str:
    kind = text_type(model)
    kept = [memory for layer in model.layers for memory in layer.memories]
    kinds = Recurrent if INDEX_ON_MODULES.at(kind, release) else Recurrent | Index
    states = any(isinstance(m, kinds) or isinstance(getattr(m, "reach", None), Compressed) for m in kept)
    if built == "plain" and states and kind not in OWN_CACHE | {"recurrent_gemma"}:
        return f"a DynamicCache made without a config has no place for what layers of {kind} keep, and raises"
    return "" if built == "plain" else _too_few_layers(model, release, version)  # such a cache grows its own layers


def _last_loop_static(model: Model) -> str:
    """Earlier loops put their own tokens behind the keys of a preallocated layer, and the mask has no room for them."""
    loop = model.loop
    if loop is None or loop.kept == "each" or loop.passes == 1:
        return ""
    inside = [memory for layer in model.layers[loop.first : loop.stop] for memory in layer.memories]
    if not any(isinstance(m, Softmax) and isinstance(m.reach, Full) for m in inside):
        return ""
    return "transformers raises a RuntimeError for a static cache that only the last loop writes: mask and keys differ in length"


def last_loop_plain(model: Model, tokens: int) -> str:
    """A cache that knows no windows shows earlier loops more keys than the masks of sliding layers have."""
    loop = model.loop
    if loop is None or loop.kept == "each" or loop.passes == 1:
        return ""
    inside = [
        memory.reach for layer in model.layers[loop.first : loop.stop] for memory in layer.memories if isinstance(memory, Softmax)
    ]
    windows = [reach.size for reach in inside if isinstance(reach, Window)]
    if not windows or tokens <= min(windows):
        return ""
    return (
        "transformers raises a RuntimeError: a DynamicCache made without a config knows no windows, and only the last loop writes"
    )


def _too_few_layers(model: Model, release: tuple[int, ...], version: str) -> str:
    """T5 and its kin: the cache has as many layers as the encoder. 5.0 is the one release in between that works."""
    missing = -surplus_layers(model)
    if missing <= 0 or release < (4, 56) or release[:2] == (5, 0):
        return ""
    kind = text_type(model)
    return (
        f"transformers {version} raises an IndexError: it makes as many cache layers as {kind} has encoder layers, "
        f"and the decoder has {missing} more"
    )
