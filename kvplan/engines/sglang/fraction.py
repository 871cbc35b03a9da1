"""`mem_fraction_static`: the share of a card that weights and caches get, the rest being activations' and graphs'.

Floats are Python floats in the engine's own order: its fraction is rounded to three digits, and a product more or less changes
them.

Source: sglang 0.5.23, `srt/arg_groups/memory_hook.py`, `srt/arg_groups/cuda_graph_hook.py`.
"""

from __future__ import annotations

from typing import Final

from kvplan.engines.sglang import classes
from kvplan.engines.sglang.backends import large_hopper_pictures
from kvplan.engines.sglang.options import SglangOptions
from kvplan.engines.sglang.reading import Reading

#: Up to so many MiB: (chunk in tokens, largest decode graph below tp 4, and from it on). Source: `memory_hook.py`.
_BY_MEMORY: Final = (
    (20 * 1024, 2048, 8, 8),
    (35 * 1024, 4096, 48, 160),
    (60 * 1024, 4096, 32, 160),
    (160 * 1024, 8192, 256, 512),
)
_LARGEST: Final = (16384, 512, 512)
_LARGE_MIB: Final = 60 * 1024
_FLOOR_MIB: Final = 10 * 1024
_GRAPH_CHUNKS: Final = ((4, 33, 4), (48, 257, 16), (288, 513, 32), (576, 1025, 64), (1280, 4097, 256))  # ranges of sizes
_MLA_GRAPH: Final = 8192  # tokens
_MOST_GRAPH: Final = 512  # requests; `expand_multimodal_decode_graph_to_running_limit`


def capacity(reading: Reading, options: SglangOptions) -> tuple[int, int]:
    """Chunk of prefill in tokens, and the largest batch of a decode graph, by the card's memory."""
    chunk, below, above = next((row[1:] for row in _BY_MEMORY if options.memory_mib < row[0]), _LARGEST)
    if options.chunked_prefill_size is not None:
        chunk = options.chunked_prefill_size
    given, limit = options.cuda_graph_max_bs_decode, options.max_running_requests
    if given is not None:
        return chunk, given
    graph = below if options.tp_size < 4 else above
    if limit is None:
        return chunk, graph
    grows = graph < limit <= _MOST_GRAPH and large_hopper_pictures(reading, options)
    return chunk, limit if grows else min(graph, limit)


def captured_sizes(largest: int) -> int:
    """How many prefill graphs of up to `largest` tokens there are. Source: `generate_prefill_cuda_graph_batch_sizes`.

    >>> captured_sizes(8192), captured_sizes(2048)
    (58, 42)
    """
    small = sum(len(range(first, min(stop, largest + 1), step)) for first, stop, step in _GRAPH_CHUNKS)
    return small + len(range(4608, largest + 1, 512))


def static_fraction(
    reading: Reading, options: SglangOptions, chunk: int, graph: int, *, graphs: bool, post_capture: bool
) -> float:
    """`mem_fraction_static`: what remains of the card when activations and graphs have their share.

    Source: `arg_groups/memory_hook.py:handle_gpu_memory_settings`, `reserve_for_graph_mb`, `adjust_mem_fraction_for_vlm`.
    """
    memory = options.memory_mib
    if post_capture:
        reserved = 1536 + options.tp_size * options.pp_size / 8 * 1024
    else:
        reserved = _activations_mib(options, chunk, graph)
        reserved += _graph_mib(reading, options, chunk, graph, graphs=graphs)
        if memory > _LARGE_MIB:
            reserved = max(reserved, _FLOOR_MIB)
        if options.moe_a2a_backend == "deepep" and _decode_graphs(options):
            reserved += 2 * 1024
    fraction = round((memory - reserved) / memory, 3)
    sees = reading.multimodal and not options.language_only and not options.language_model_only
    if not sees or options.disaggregation_mode == "decode":
        return fraction
    if post_capture:
        return fraction - 8 * 1024 / memory
    return fraction if reading.tower is None else fraction * _vision_factor(reading.tower.layers, reading.tower.hidden_size)


def pre_capture_reserve(options: SglangOptions, chunk: int, graph: int) -> float:
    """MiB that activations take before graphs are captured. Source: `memory_hook.py:pre_capture_activation_reserve_mb`."""
    reserved = _activations_mib(options, chunk, graph)
    return max(reserved, _FLOOR_MIB) if options.memory_mib > _LARGE_MIB else reserved


def _activations_mib(options: SglangOptions, chunk: int, graph: int) -> float:
    reserved = 512 + _activation_tokens(options, chunk, graph) * 1.5
    return reserved + options.tp_size * options.pp_size / 8 * 1024


def _vision_factor(layers: int, size: int) -> float:
    ratio = layers * (size**2) / (24 * (1024**2))
    return 0.95 * max(0.8, min(1.05, 1.0 - 0.1 * (ratio - 1.0)))


def _activation_tokens(options: SglangOptions, chunk: int, graph: int) -> int:
    if options.disaggregation_mode == "decode":
        running = options.max_running_requests or graph or 1
        return max(running * (options.speculative_num_draft_tokens or 1), 2048)
    return max(chunk if chunk > 0 else options.max_prefill_tokens, 2048)


def _decode_graphs(options: SglangOptions) -> bool:
    return not (options.disable_cuda_graph or options.disable_decode_cuda_graph) and options.disaggregation_mode != "prefill"


def _graph_mib(reading: Reading, options: SglangOptions, chunk: int, graph: int, *, graphs: bool) -> float:
    reserved = 0.0
    if _decode_graphs(options):
        reserved += graph * 2
    if options.attention_groups > 1 and options.disaggregation_mode != "prefill":
        reserved += graph * options.attention_groups * 3
        if graph > 300:
            reserved += graph * options.attention_groups * 1.5
    if graphs:
        reserved += 1.5 * 1024 if reading.latent else captured_sizes(_largest_graph(reading, options, chunk)) * 8
        if options.moe_a2a_backend == "deepep":
            reserved += 1024
    return reserved


def _largest_graph(reading: Reading, options: SglangOptions, chunk: int) -> int:
    largest = options.cuda_graph_max_bs_prefill
    if largest is None:
        largest = min(_MLA_GRAPH, chunk) if reading.latent else chunk
        if options.max_total_tokens is not None:
            largest = min(largest, options.max_total_tokens)
        if "llama-2" in reading.name.lower():
            largest = min(largest, 4096)
    return largest


def prefill_graphs(reading: Reading, options: SglangOptions) -> bool:
    """Whether prefill is captured when the fraction is settled. Source: `cuda_graph_hook.py:apply_cuda_graph_compatibility`."""
    if options.disable_cuda_graph or options.disable_prefill_cuda_graph or options.disaggregation_mode == "decode":
        return False
    kda = reading.state is not None and reading.state.kind == "kda"
    off = options.pp_size > 1 or options.dcp_size > 1 or kda or reading.architecture == classes.COMPRESSED
    unseen = options.moe_a2a_backend not in {"none", "deepep", "megamoe", "flashinfer"}
    return not off and not unseen and not (reading.multimodal and reading.architecture not in classes.MULTIMODAL_GRAPHS)


def may_size_later(reading: Reading, options: SglangOptions, chunk: int, *, graphs: bool) -> bool:
    """`post_capture_kv_sizing_planned`."""
    sparse = reading.architecture == classes.COMPRESSED or reading.architecture in classes.MINIMAX_SPARSE
    if options.dcp_size != 1 or reading.latent or sparse:
        return False
    if options.disaggregation_mode != "prefill" and not _decode_graphs(options):
        return False
    if options.disaggregation_mode == "decode":
        return True
    return graphs and 0 < chunk <= _last_captured(_largest_graph(reading, options, chunk))


def _last_captured(largest: int) -> int:
    sizes = [size for first, stop, step in _GRAPH_CHUNKS for size in range(first, stop, step)] + list(
        range(4608, largest + 1, 512)
    )
    return max((size for size in sizes if size <= largest), default=0)
