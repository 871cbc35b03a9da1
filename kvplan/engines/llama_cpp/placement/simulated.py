"""What no closed form says of a device's compute buffer: the band around what ggml's allocator makes of the graph itself.

Experts on the host are copied to the first device: a copy takes the room that the one before it left, or none does. Blocks keep
a state: a device that begins with one gets copies of the last block's gate.
"""

from __future__ import annotations

from typing import Final

from kvplan.engines.llama_cpp.context import Context
from kvplan.engines.llama_cpp.placement.band import Band
from kvplan.engines.llama_cpp.placement.graph.states import SCANS, kind_of
from kvplan.engines.llama_cpp.placement.graph.whole import Blocks, extents
from kvplan.engines.llama_cpp.placement.place import Placed
from kvplan.engines.llama_cpp.placement.weights import matrices
from kvplan.gguf.hparams import Hparams

#: Per cent of what the allocator makes of the graph, in which recorded buffers lie; with both copies of experts and states.
_BUILT: Final = (91, 118)
_BOTH: Final = (87, 130)
#: Experts of a token that the engine knows at most (`LLAMA_MAX_EXPERTS`).
_EXPERTS: Final = 512
#: What goes before the last matrix of a feed-forward.
_FEEDS: Final = {"ffn_down": {"ffn_up"}, "ffn_down_exps": {"ffn_up_exps", "ffn_gate_up_exps"}}
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
    copied, scans = placed.experts_on_host, any(h.recurrent[: h.n_layer])
    if away or not placed.devices or placed.host.blocks or not (copied or scans):
        return {}  # blocks on the host are computed here and there
    if not context.flash_attn or h.arch in _OTHERWISE:
        return {}
    blocks = matrices(placed.in_blocks, placed.devices[0])
    if not _whole(h, context, blocks):
        return {}
    devices = range(1 if any(h.indexed) else len(placed.devices))  # an indexer's scores are not built
    found = extents(h, context, placed, blocks, outputs=outputs)
    logits = 4 * (outputs or int(context.n_ubatch)) * h.n_vocab
    bands = {}
    for device in devices:
        extent = found[device].bytes
        low, high = (extent * share // 100 for share in (_BOTH if copied and scans else _BUILT))
        if scans and device == placed.output and not copied:  # a gap that is a little too small is not one
            high = max(high, found[device].before_last + logits)
        if extent:
            bands[device] = Band(low=low, best=extent, high=high)
    return bands


def _whole(h: Hparams, context: Context[int], blocks: Blocks) -> bool:
    """Whether all is there that the graph is built from: each block's matrices and cache, no more experts than there may be."""
    stored = {tensor.layer for part in context.parts for tensor in part.tensors if tensor.role == "k"}
    used = h.keys.get(f"{h.arch}.expert_used_count") or 0
    used = max(used, default=0) if isinstance(used, list | tuple) else used
    routed = any("ffn_down_exps" in block for block in blocks.values())
    if routed and not (isinstance(used, int) and 1 <= used <= _EXPERTS):
        return False
    for layer in range(h.n_layer):
        block = blocks.get(layer, {})
        if h.recurrent[layer]:
            if kind_of(block) not in SCANS:
                return False
        elif "attn_output" in block and layer not in stored:
            return False
        for kind, ways in _FEEDS.items():
            if kind in block and not ways & set(block):
                return False
        if not block:
            return False
    return True
