"""From a model, a command line and cards to what answers where everything lies: for every question that asks it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from msgspec.structs import replace

from kvplan.domain.budget import given_memory, gpu_memory, shares
from kvplan.domain.gpus import Gpu
from kvplan.domain.ledger import Line
from kvplan.domain.model import Model
from kvplan.domain.spread import Card
from kvplan.domain.stored import StoredTensor
from kvplan.domain.unified import shared_memory
from kvplan.engines import about, located
from kvplan.engines.kernel.engine import Engine
from kvplan.engines.kernel.spreading import Spreading
from kvplan.questions.media import sees_or_hears
from kvplan.units import MIB


def spread_over(model: Model, engine: Engine, cards: Sequence[Card], weights: Line, weights_dtype: str | None) -> Spreading:
    """The engine over cards and host.

    Args:
        model: the model.
        engine: with its options, of `with_tensors`.
        cards: side by side.
        weights, weights_dtype: bytes of the weights and where they come from; the format, where the model is no file.

    Raises:
        Refused: the engine does not run the model so.
    """
    tensors = tensors_of(model, weights, weights_dtype)
    made = located(about(engine.name).spread).Spreading(model, engine.options, cards, weights, tensors, version=engine.version)
    return cast("Spreading", made)


def card_of(entry: Gpu, memory_bytes: int | None = None, free_bytes: int | None = None) -> Card:
    """A card of the catalogue as a place for layers; of memory that the CPU shares, `memory_bytes` are what the system has."""
    memory = gpu_memory(entry) if memory_bytes is None else given_memory(entry.id, memory_bytes)
    shared = shared_memory(entry, memory_bytes) if shares(entry) else None
    return Card(
        id=entry.id,
        vendor=entry.vendor,
        memory=memory if shared is None else replace(shared.lent, name=memory.name),
        free_bytes=free_bytes,
        shared=shared,
        capability=entry.compute_capability,
    )


def tensors_of(model: Model, weights: Line, weights_dtype: str | None) -> tuple[StoredTensor, ...]:
    """The tensors of the file, or of a file of that format, else of the usual one nearest in size; scaled to what is known."""
    from kvplan.architectures.weights import gguf_tensors

    if model.tensors and weights.basis != "given":
        return model.tensors
    found = model.tensors or gguf_tensors(model, weights_dtype or "") or _nearest(model, weights.bytes)
    total = sum(tensor.bytes for tensor in found)
    if total == weights.bytes or not total:
        return found
    return tuple(replace(tensor, bytes=max(1, tensor.bytes * weights.bytes // total)) for tensor in found)


def projector_words(model: Model, engine: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """What a model that sees or hears has beside its file, where the engine loads it from one that nobody named."""
    from kvplan.architectures.weights import projector_bytes

    known = about(engine)
    own = known.roles.get("projector", "")
    if not sees_or_hears(model) or (own and own in options) or "projector" not in about(known.behind or engine).roles:
        return ()
    size = projector_bytes(model)
    takes = f"about {size / MIB:,.0f} MiB in f16" if size else "of a size that is not known here"
    add = ": --mmproj FILE adds it" if own else ""
    return (f"what it sees with is a file of its own, {takes}, and a buffer: not in these numbers{add}",)


_USUAL: Final = ("q4_k_m", "q8_0", "bf16")


def _nearest(model: Model, size: int) -> tuple[StoredTensor, ...]:
    """The tensors of a file of about that size: types decide what the processor lays out anew, and how rows are padded."""
    from kvplan.architectures.weights import gguf_tensors

    files = [found for found in (gguf_tensors(model, mix) for mix in _USUAL) if found]
    return min(files, key=lambda file: abs(sum(tensor.bytes for tensor in file) - size)) if files else _alike(model)


def with_tensors(engine: str, options: Mapping[str, Any], weights_dtype: str | None) -> dict[str, Any]:
    """The options, a drafter among them with the tensors of a file in the same format, where it was not read from one."""
    from kvplan.architectures.weights import gguf_tensors

    found = dict(options)
    name = about(engine).roles.get("drafter", "")
    drafter = found.get(name)
    if isinstance(drafter, Model) and not drafter.tensors:
        made = gguf_tensors(drafter, weights_dtype or "") or gguf_tensors(drafter, _USUAL[0]) or _alike(drafter)
        found[name] = replace(drafter, tensors=made)
    return found


def _alike(model: Model) -> tuple[StoredTensor, ...]:
    """Layers of equal size, where nobody knows their tensors: the vocabulary counts as one of them."""
    names = ["token_embd", "output", *(f"blk.{layer.index}.ffn_down" for layer in model.layers)]
    return tuple(StoredTensor(name=f"{name}.weight", type="f16", dims=(512, 2), bytes=1 << 30) for name in names)
