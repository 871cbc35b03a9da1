"""Looped models as vLLM serves them, where that is not as they were trained: the passes that its classes really run.

Sources: `models/dory.py` and `transformers_utils/configs/dory.py` (0.33); `models/registry.py` (nanbeige: the Transformers
backend, whose `base.py:create_attention_instances` makes one `Attention` for each of `num_hidden_layers`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from kvplan.domain.latest import latest
from kvplan.domain.model import MAX_LAYERS, Full, Layer, Loop, Model, Reach, Softmax, Window
from kvplan.domain.origin import Settings
from kvplan.domain.words import loop_words
from kvplan.engines.vllm.models import text_of
from kvplan.errors import Refused

_MOST: Final = 2**24  # heads, elements of one, tokens of a window
_PASSES: Final = 1_000
_PERIOD: Final = "S-S-S-*-"  # windows, MLPs between them, every fourth attention full
_BLOCKS: Final = {"sliding_attention": "S", "full_attention": "*", "mlp": "-"}


@latest(4, by_identity=True)
def served(model: Model) -> Model:
    """The model with the passes that vLLM's class of it makes; most are served as they are.

    Raises:
        Refused: vLLM's class does not take its config.
    """
    known, text = _CLASSES.get(model.text_type), text_of(model)
    return model if known is None or text is None else known(model, text)


def _once(model: Model, _: Settings) -> Model:
    """One cache a layer, whatever the config repeats."""
    if model.loop is None:
        return model
    told = tuple(note for note in model.notes if note != loop_words(model.loop))
    said = f"vLLM's Transformers backend makes one cache a layer, not {model.loop.passes}: loops are not repeated"
    return replace(model.looped(1), notes=(*told, said))


def _dory(model: Model, c: Settings) -> Model:
    """Blocks are counted, MLPs among them, and without a word of the config one loop runs over all of them.

    The class's own keys (`hybrid_layer_pattern`, `attention_head_dim`, `swa_window_size`) win over those of transformers.
    """
    blocks = c.whole("num_hidden_layers", 72, 1, MAX_LAYERS)
    pattern = _pattern(c, blocks)
    before, after = (c.whole(key, 0, 0, MAX_LAYERS) for key in ("n_input_layers", "n_output_layers"))
    middle = c.whole("n_recurrent_layers", blocks - before - after, -MAX_LAYERS, MAX_LAYERS)
    if middle < 0 or before + middle + after != blocks:
        raise Refused("Dory input, recurrent, and output layers must sum to num_hidden_layers")
    passes = c.whole("n_recurrent_loops", 1, 1, _PASSES)
    mode = c.text("recurrent_kv_cache_mode", "per_loop")
    if mode not in {"per_loop", "last_loop"}:
        raise Refused("recurrent_kv_cache_mode must be per_loop or last_loop")
    width = c.whole("attention_head_dim", c.whole("head_dim", 256, 1, _MOST), 1, _MOST)
    heads = c.whole("num_key_value_heads", 4, 1, _MOST)
    window = Window(c.whole("swa_window_size", c.whole("sliding_window", 1024, 1, _MOST), 1, _MOST))
    reaches: dict[str, Reach] = {"S": window, "*": Full()}
    kept = {kind: (Softmax(kv_heads=heads, key_dim=width, value_dim=width, reach=reach),) for kind, reach in reaches.items()}
    own = [kept[kind] for kind in pattern if kind != "-"]
    first, stop = (sum(kind != "-" for kind in pattern[:end]) for end in (before, before + middle))
    told = tuple(note for note in model.notes if model.loop is None or note != loop_words(model.loop))
    loop = Loop(first=first, stop=stop, passes=passes, kept="last" if mode == "last_loop" else "each")
    if first == stop or passes == 1:
        loop_of, copies = None, []
    else:
        loop_of, copies = loop, own[first:stop] * (passes - 1) if loop.kept == "each" else []
        told = (*told, loop_words(loop))
    if len(own) + len(copies) > MAX_LAYERS:
        raise Refused(f"{len(own)} layers in {passes} loops are more than {MAX_LAYERS:,} layers, which kvplan does not count")
    rows = tuple(Layer(index=i, memories=memories) for i, memories in enumerate((*own, *copies)))
    return replace(model, layers=rows, loop=loop_of, notes=told)


def _pattern(c: Settings, blocks: int) -> str:
    """One sign a block: `S` a window, `*` full attention, `-` an MLP.

    Raises:
        Refused: not a sign for each.
    """
    given = c.text("hybrid_layer_pattern", most=MAX_LAYERS)
    listed = c.data.get("layer_types")
    if not given and isinstance(listed, list):
        given = "".join(_BLOCKS.get(kind, "?") if isinstance(kind, str) else "?" for kind in listed)
    given = given or _PERIOD * (blocks // len(_PERIOD))
    if len(given) != blocks or set(given) - {"S", "*", "-"}:
        raise Refused("hybrid_layer_pattern must contain one S, *, or - per layer")
    return given


#: Model type -> what vLLM's class makes of it.
_CLASSES: Final[dict[str, Callable[[Model, Settings], Model]]] = {"dory": _dory, "nanbeige": _once}
