"""The ledger of one rank of a vLLM server: every line from the total to what the cache gets."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final

from msgspec import Struct

from kvplan.domain.described import Described
from kvplan.domain.ledger import Ledger, Line, band, exact
from kvplan.domain.machine import NOTHING, Learned
from kvplan.engines.kernel.releases import Release
from kvplan.engines.vllm.ledger import graphs, machine, releases
from kvplan.engines.vllm.ledger.activation import Peak, gathered_bytes, peak
from kvplan.engines.vllm.ledger.beside import beside_of
from kvplan.engines.vllm.ledger.loading import Beside, Loaded, load
from kvplan.engines.vllm.ledger.lora import slots
from kvplan.engines.vllm.ledger.quantised import Quantised, scheme_of
from kvplan.engines.vllm.ledger.rotary import rotaries
from kvplan.engines.vllm.ledger.settings import Batch, Card, Settings, resolve
from kvplan.engines.vllm.ledger.shape import Shape, shape_of
from kvplan.engines.vllm.ledger.tensors import Rank, whole_shared
from kvplan.engines.vllm.stages import stage_layers
from kvplan.units import MIB

TOTAL: Final = "total"
REQUESTED: Final = "requested"
WEIGHTS: Final = "weights"
LORA: Final = "LoRA slots"
DRAFTER: Final = "drafter"
ACTIVATION: Final = "peak activation"
_HOPPER: Final = 90
_PER_TENSOR: Final = 0.004  # of quantised weights: layouts of kernels that were not recorded
_MXFP4: Final = 0.015  # its layouts differ by card and release: two starts of 0.19 on H100 print 0.6 and 1.5 % less
_TOWERS_BEFORE: Final = 0.007  # what Gemma 3 prints less on 0.19 than the rules of 0.26 give
_OFF_HOPPER: Final = 24 * MIB  # what cuBLAS may take beside its default before Hopper


class Parts(Struct, frozen=True, kw_only=True):
    """What the lines were made from, for reports and tests."""

    shape: Shape
    batch: Batch
    rank: Rank
    loaded: Loaded
    peak: Peak


def requested_memory(total_bytes: int, utilization: float, release: Release) -> int:
    """The part of the total that the server allows itself, in the engine's float arithmetic.

    Source: `v1/worker/utils.py:request_memory` (0.14 and later round up); `v1/worker/gpu_worker.py:init_device` before.
    """
    product = total_bytes * utilization
    return ceil(product) if releases.REQUEST_ROUNDS_UP.at(release) else int(product)


def parts(model: Described, settings: Settings, card: Card, stage: int = 0) -> Parts:
    """Everything about one rank that follows from rules alone."""
    shape = shape_of(model.parameters, model.config, model.text, model.text_type)
    batch = resolve(settings, shape, card)
    stages = settings.pipeline_parallel_size
    item = 4 if settings.dtype == "float32" else 2
    rank = Rank(
        tensor_parallel=settings.tensor_parallel_size,
        layers=stage_layers(shape.layers, stages, settings.stage_layers)[stage],
        first=stage == 0,
        last=stage == stages - 1,
        item_bytes=item,
        expert_parallel=settings.deals_experts,
        expert_ranks=settings.expert_ranks,
        whole_shared=settings.splits_tokens and whole_shared(model.text_type, settings.release),
    )
    quantised = scheme_for(model, settings, card)
    rotary = rotaries(
        model.text, model.text_type, shape.head_dim, shape.latent.rope if shape.latent else 0, item, settings.flashinfer
    )
    beside = beside_of(model, shape, settings, card, batch, rank, quantised, rotary)
    loaded = load(model.parameters, rank, settings.release, beside, quantised)
    found = peak(shape, settings, batch, card, quantised, last=rank.last, swapped=_swapped(model, settings, rotary))
    return Parts(shape=shape, batch=batch, rank=rank, loaded=loaded, peak=found)


def scheme_for(model: Described, settings: Settings, card: Card) -> Quantised | None:
    """How the weights are quantised, in the layout of the release."""
    marlin = releases.MXFP4_MARLIN.at(settings.release) or card.compute_capability < _HOPPER
    return scheme_of(quantised_config(model), settings.quantization, marlin)


def quantised_config(model: Described) -> Mapping[str, Any]:
    """The section of the config that has the quantisation: the whole, or the text part's."""
    if model.config.get("quantization_config"):
        return model.config
    text = model.config.get("text_config")
    return text if isinstance(text, Mapping) and text.get("quantization_config") else model.config


def _swapped(model: Described, settings: Settings, rotary: Mapping[str, Any]) -> int:
    """gpt-oss keeps a float32 table that its first forward replaces by a narrower copy, unless it is compiled."""
    if settings.captures or settings.dtype == "float32" or model.text_type != "gpt_oss":
        return 0
    return sum(table.positions * table.dim * (4 - 2) for table in rotary.values() if table.item_bytes == 4)


def ledger(model: Described, settings: Settings, card: Card, known: Learned = NOTHING, stage: int = 0) -> tuple[Ledger, Parts]:
    """Every line of one rank of one pipeline stage, and what they were made from."""
    found = parts(model, settings, card, stage)
    release = settings.release
    lines = [*weight_lines(model, settings, card, found), activation_line(model, settings, card, found)]
    ranks = settings.expert_ranks if found.shape.experts else settings.tensor_parallel_size  # processes that talk to each other
    non_torch = machine.non_torch(card, settings, ranks)
    if known.non_torch is not None:
        non_torch = exact(machine.NON_TORCH, known.non_torch, known.source, known.basis)
    lines.append(non_torch)
    estimate = graphs.estimate(found.shape, settings, found.batch, card)
    if known.estimate is not None and estimate.high:
        estimate = exact(graphs.ESTIMATE, known.estimate, known.source, known.basis)
    beside = []
    if graphs.subtracted(settings):
        if estimate.high:
            lines.append(estimate)
    elif estimate.high:
        beside.append(estimate)
    captured = graphs.captured(found.shape, settings, found.batch, card)
    if known.graphs is not None and captured.high:
        captured = exact(graphs.CAPTURED, known.graphs, known.source, known.basis)
    context = machine.context(card, settings, ranks)
    if known.context is not None:
        context = exact(machine.CONTEXT, known.context, known.source, known.basis)
    buffers = machine.runner_buffers(found.batch, found.shape)
    if releases.WHOLE_CONSUMPTION.at(release):
        lines.append(buffers)
        beside += [captured, context]
    else:
        beside += [captured, buffers, context]
    total = total_line(card, known)
    notes = tuple(note for note in (releases.between(release), _unknown(found)) if note)
    told = settings.kv_cache_memory_bytes
    return (
        Ledger(
            total=total,
            requested=requested_line(total, settings),
            lines=tuple(lines),
            beside=tuple(beside),
            notes=notes,
            told=None if told is None else exact("available", told, "kv_cache_memory_bytes"),
        ),
        found,
    )


def _unknown(found: Parts) -> str:
    if found.peak.known:
        return ""
    name = found.shape.architecture or found.shape.text_type
    return f"no row for the forward pass of {name}: its peak is llama's, with a wide band"


def total_line(card: Card, known: Learned) -> Line:
    """The device's total: the log's, what was given, or what the card prints."""
    if known.total is not None:
        return exact(TOTAL, known.total, known.source, known.basis)
    low, high = card.total_low or card.total, card.total_high or card.total
    return band(TOTAL, card.total, low, high, card.total_source, card.total_basis)


def requested_line(total: Line, settings: Settings) -> Line:
    """`requested`: the utilisation's part of the total, which must be free also where a flag says what the cache gets."""
    source = "v1/worker/utils.py:request_memory"
    best, low, high = (
        requested_memory(amount, settings.utilization, settings.release) for amount in (total.bytes, total.low, total.high)
    )
    return Line(name=REQUESTED, bytes=best, low=low, high=high, basis=total.basis, source=source)


def weight_lines(model: Described, settings: Settings, card: Card, found: Parts) -> list[Line]:
    """Weights, LoRA slots and drafter: together what "Model loading took" prints."""
    source = "model_executor/model_loader, through the caching allocator"
    amount = found.loaded.bytes
    scheme = scheme_for(model, settings, card)
    if scheme is None and found.shape.multimodal and not releases.SPLIT_LIMIT_LOADING.at(settings.release):
        lines = [band(WEIGHTS, amount, int(amount * (1 - _TOWERS_BEFORE)), amount, f"{source}; towers recorded on 0.26", "rule")]
    elif scheme is None:
        lines = [exact(WEIGHTS, amount, source)]
    else:
        spread = int(amount * (_MXFP4 if scheme.name == "mxfp4" else _PER_TENSOR))
        lines = [band(WEIGHTS, amount, amount - spread, amount + spread, f"{source}; {scheme.name} layout", "rule")]
    slots_bytes = slots(model.parameters, settings, found.rank)
    if slots_bytes:
        lines.append(exact(LORA, slots_bytes, "lora/layers/*.py:create_lora_weights"))
    if model.drafter:
        whole = Rank(
            tensor_parallel=settings.tensor_parallel_size,
            expert_parallel=settings.deals_experts,
            expert_ranks=settings.expert_ranks,
            item_bytes=found.rank.item_bytes,
        )
        drafter = load(model.drafter, whole, settings.release, Beside())
        lines.append(band(DRAFTER, drafter.bytes, int(0.98 * drafter.bytes), int(1.1 * drafter.bytes), source, "rule"))
    return lines


def activation_line(model: Described, settings: Settings, card: Card, found: Parts) -> Line:
    """The peak of the profile run, and its band where a rule is missing."""
    p = found.peak
    best = low = high = encoder = 0
    if found.shape.multimodal:
        from kvplan.engines.vllm.ledger import vision  # with nine modules of media, which a text model does without

        best, low, high = vision.held(found.shape, model, settings, found.batch)
        encoder = vision.encoder_bytes(found.shape, model, settings, found.batch)
    amount = p.bytes
    source = "v1/worker/gpu/model_runner.py:profile_run" if found.batch.v2 else "v1/worker/gpu_model_runner.py:profile_run"
    below = p.spread + (card.l2_bytes if settings.captures and p.forward > p.sampler else 0)
    above = p.spread + (0 if card.hopper else _OFF_HOPPER)
    if settings.pipeline_parallel_size > 1:
        above += card.l2_bytes  # stages of two starts of 0.19 on H100 differ by one autotuner's buffer
    if p.unsorted and p.unsorted < p.sampler:
        below += amount - max(p.forward, p.unsorted) - p.libraries
    if settings.captures and p.forward > p.sampler and (found.shape.experts or found.shape.hybrid):
        below, above = below + p.forward // 4, above + p.forward // 4
    gathered = gathered_bytes(found.shape, settings, found.batch, scheme_for(model, settings, card))
    below, above = below + gathered, above + gathered  # no start with data ranks was recorded: one copy less, or one more
    most = max(amount + above + high, best + 2 * encoder)  # the encoder's own peak comes before the text model's
    line = band(ACTIVATION, max(amount + best, encoder), amount - below + low, most, source, "rule")
    return line if line.low != line.high else exact(ACTIVATION, line.bytes, source)


def smallest(ledgers: Sequence[Ledger]) -> Ledger:
    """The stage that leaves least: its block count is every stage's."""
    return min(ledgers, key=lambda one: one.available.bytes)
