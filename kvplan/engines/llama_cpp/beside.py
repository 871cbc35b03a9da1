"""What one llama.cpp process holds beside the model and its context, by device: drafter, MTP context, projector, adapter; and
llama-server's prompt cache and context checkpoints, in host memory.

Source: llama.cpp 0c1e57098, `common/speculative.cpp`, `tools/mtmd/clip.cpp`, `src/llama-adapter.cpp`,
`tools/server/server-context.cpp` (`slot.prompt.checkpoints`, `server_prompt_cache`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from kvplan.domain.ledger import Line, band
from kvplan.domain.model import Model
from kvplan.domain.stored import SideFile, StoredTensor
from kvplan.engines.llama_cpp.builds import PROMPT_CACHE, SLOT_CHECKPOINTS, STATE_CHECKPOINTS, unknown
from kvplan.engines.llama_cpp.context import Context, Refusal, make_context
from kvplan.engines.llama_cpp.convert import gguf_keys
from kvplan.engines.llama_cpp.engine import LlamaCppOn
from kvplan.engines.llama_cpp.ledger import ADAPTER, CHECKPOINTS, DRAFTER, MTP, PROJECTOR, PROMPTS, Side
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, Params
from kvplan.engines.llama_cpp.options import CHECKPOINTS as CHECKPOINTS_USUAL
from kvplan.engines.llama_cpp.placement.place import Asked, Placed, place
from kvplan.engines.llama_cpp.placement.weights import Loading, file_order
from kvplan.engines.llama_cpp.releases import bands_between
from kvplan.engines.llama_cpp.tiers import checkpoint_bytes
from kvplan.errors import GgufError, Refused
from kvplan.gguf.hparams import Hparams, read_hparams
from kvplan.units import MIB

#: Bytes of an image encoder's compute buffer, least and most: it is reserved for the largest image.
_ENCODING: Final = (64 * MIB, 768 * MIB)
#: A model's metadata and tensors.
Drafter = tuple[Hparams, tuple[StoredTensor, ...]]


def drafter(model: Model) -> Drafter:
    """A drafter's metadata, and its tensors in the order of a file.

    Raises:
        Refused: llama.cpp does not read it.
    """
    try:
        listed = model.tensors
        if not any(tensor.offset for tensor in listed):
            listed = file_order((each.name, each.type, each.dims, each.bytes) for each in listed)
        return read_hparams(gguf_keys(model), model.name), listed
    except GgufError as problem:
        raise Refused(str(problem)) from problem


def beside(on: LlamaCppOn, draft: Drafter | None, asked: Asked, placed: Placed, context: int, requests: int) -> Iterator[Side]:
    """What is loaded beside the model, by device.

    Raises:
        Refused: a context of its own does not start so.
    """
    o, count = on.engine.options, len(placed.devices)
    params = replace(on.params(context, requests), n_rs_seq=0)
    quantised = any(CACHE_TYPES[kind] == kind for kind in (o.type_k, o.type_v))
    plain = replace(asked, loading=Loading(mmap=None if o.mmap else False))
    if draft is not None:
        own = replace(plain, n_gpu_layers=o.n_gpu_layers_draft)
        yield _context(DRAFTER, draft, params, own, placed, "its own load: -md, -ngld", quantised=quantised)
    if o.spec_type == "draft-mtp":
        params = replace(params, ctx_type="mtp")
        yield _context(
            MTP, (on.hparams, ()), params, plain, placed, "a context of the NextN layers: --spec-type", quantised=quantised
        )
    if o.mmproj is not None:
        size = sum(_alloc(placed, tensor) for tensor in o.mmproj.tensors)
        spans = [(0, 0)] * (count + 1)
        spans[0 if count else -1] = (size + _ENCODING[0], size + _ENCODING[1])
        yield Side(
            name=PROJECTOR, bytes=tuple(spans), source=f"{o.mmproj.name}: {size / MIB:,.2f} MiB of weights, and its buffer"
        )
    if o.lora is not None:
        yield Side(name=ADAPTER, bytes=tuple(_adapter(o.lora, placed)), source=o.lora.name)


def host_memory(on: LlamaCppOn, context: Context[int]) -> tuple[Line, ...]:
    """What llama-server fills in host memory as it serves, none of it at the start: checkpoints of its slots, and prompts."""
    o, release, found = on.engine.options, on.engine.release, []
    if o.frontend != "server" or o.embeddings:
        return ()
    slots, tokens = int(context.n_seq_max), int(context.n_ctx_seq)
    count = SLOT_CHECKPOINTS.at(release)
    if count and o.ctx_checkpoints != CHECKPOINTS_USUAL:
        count = o.ctx_checkpoints
    made = count and (STATE_CHECKPOINTS.at(release) or not any(on.hparams.recurrent))
    each = checkpoint_bytes(on, context, tokens) if made else 0
    if each:
        most = slots * count * each
        where = f"each of {slots} slots" if slots > 1 else "the slot"
        words = f"--ctx-checkpoints {count}: as many of {each / MIB:,.1f} MiB in {where}"
        found.append(band(CHECKPOINTS, most, 0, most, words, "rule"))
    if o.cache_ram > 0 and PROMPT_CACHE.at(release):
        words = f"--cache-ram {o.cache_ram}, LLAMA_ARG_CACHE_RAM: it grows as prompts change in a slot; 0 turns it off"
        found.append(band(PROMPTS, o.cache_ram * MIB, 0, o.cache_ram * MIB, words, "rule"))
    return tuple(found)


def _context(
    name: str, model: Drafter, params: Params[int], asked: Asked, placed: Placed, source: str, *, quantised: bool
) -> Side:
    """A context of its own beside the main one, summed by device."""
    h, tensors = model
    no = unknown(h, params.release, mtp=params.ctx_type == "mtp", rollback=False, flash=params.flash_attn == "on")
    if no:
        raise Refused(f"{name}: {no}")
    made = make_context(h, params)
    if isinstance(made, Refusal):
        raise Refused(f"llama.cpp refuses: {name}: {made.message}")
    found = place(h, made, tensors, asked, placed.devices)
    if isinstance(found, Refusal):
        raise Refused(f"llama.cpp refuses: {name}: {found.message}")
    bands = bands_between(h, made, (found,), (params.release, params.release), quantised=quantised, server=True)
    spans = []
    for part, band_of in zip(found.parts, bands, strict=True):
        size = part.model_bytes + part.kv_bytes + part.state_bytes + part.output_bytes
        spans.append((size + band_of.low, size + band_of.high))
    return Side(name=name, bytes=tuple(spans), source=source)


def _alloc(placed: Placed, tensor: StoredTensor) -> int:
    return placed.devices[0].backend.alloc(tensor.type, tensor.dims[0], tensor.bytes) if placed.devices else tensor.bytes


def _adapter(lora: SideFile, placed: Placed) -> Iterator[tuple[int, int]]:
    """An adapter's tensors lie with those that they change."""
    sums = [0] * (len(placed.devices) + 1)
    for tensor in lora.tensors:
        block = tensor.block
        at = placed.layers[block] if block is not None and block < len(placed.layers) - 1 else placed.layers[-1]
        sums[at] += tensor.bytes
    yield from ((size, size) for size in sums)
