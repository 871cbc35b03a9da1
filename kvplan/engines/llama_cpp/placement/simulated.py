"""Where no closed form says what a device's compute buffer takes: the band around what ggml's allocator makes of the graph itself.

That is where experts on the host are copied to the first device (a copy takes the room that the one before it left, or none does),
and where blocks keep a state (a device that begins with one gets copies of the last block's gate).
"""

from __future__ import annotations

from typing import Final

from kvplan.engines.llama_cpp.context import Context
from kvplan.engines.llama_cpp.placement.band import Band
from kvplan.engines.llama_cpp.placement.graph.states import SCANS, kind_of
from kvplan.engines.llama_cpp.placement.graph.whole import extents
from kvplan.engines.llama_cpp.placement.place import Placed
from kvplan.gguf.hparams import Hparams

#: Per cent of what the allocator makes of the graph, in which recorded buffers lie.
_BUILT: Final = (88, 118)
#: Architectures whose blocks are built otherwise: a Mamba or a decay of their own.
_OTHERWISE: Final = frozenset(
    {"kimi-linear", "kimi-k3", "bailingmoe3", "plamo2", "plamo3", "gemma3n", "gemma4", "deepseek4", "glm5-next", "qwen4exp"}
)


def simulated(h: Hparams, context: Context[int], placed: Placed, *, outputs: int, away: bool) -> dict[int, Band]:
    """Bands by device, of those whose graph is built here.

    Args:
        h: the model.
        context: its context.
        placed: where its blocks lie.
        outputs: tokens of a batch whose logits are computed; 0: all.
        away: whether caches are kept on the host.
    """
    blocks = placed.matrices
    if away or not placed.devices or not context.flash_attn or h.arch in _OTHERWISE or set(range(h.n_layer)) - set(blocks):
        return {}
    scans = [kind_of(blocks[layer]) for layer in range(h.n_layer) if h.recurrent[layer]]
    if set(scans) - set(SCANS):
        return {}
    copied = any(matrix.host for layer in range(h.n_layer) for name, matrix in blocks[layer].items() if name.endswith("_exps"))
    if placed.host.blocks:  # those are computed here and there
        return {}
    if not copied and not scans:
        return {}
    devices = range(1 if any(h.indexed) else len(placed.devices))  # an indexer's scores are not built
    found = extents(h, context, placed, outputs=outputs)
    logits = 4 * (outputs or int(context.n_ubatch)) * h.n_vocab
    bands = {}
    for device in devices:
        extent = found[device].bytes
        low, high = (extent * share // 100 for share in _BUILT)
        if scans and device == placed.output and not copied:  # where tensors of no bytes end a gap, the logits do not find it
            high = max(high, found[device].before_last + logits)
        if extent:
            bands[device] = Band(low=low, best=extent, high=high)
    return bands
