"""CUDA graphs: what the engine estimates before the cache is made, and what their capture takes after it.

Both are drops of the driver's free memory, so no formula gives them to the byte: the fits below are empirical and their bands
say how far they were off.
"""

from typing import Final

from kvplan.domain.ledger import Line, band, exact
from kvplan.engines.vllm.ledger import releases
from kvplan.engines.vllm.ledger.settings import Batch, Card, Settings
from kvplan.engines.vllm.ledger.shape import Shape
from kvplan.units import GIB, MIB, ceil_div

ESTIMATE: Final = "CUDA graphs, estimated"
CAPTURED: Final = "CUDA graphs, captured"
_SPREAD: Final = 3 * GIB // 10
_SPLIT_ROWS: Final = 512  # decode rows for which FlashAttention 3 keeps partial outputs
_SPLITS: Final = 32
_CUBLAS: Final = 32 * MIB
#: Driver's part of a capture on H200, 0.26, V2 runner: a layer's, and what is off for the whole (three starts, exact).
_DRIVER_PER_LAYER: Final = 19 * MIB // 2
_DRIVER_OFF: Final = 4 * MIB
#: Mixtures and latent attention take more than the dense fit: what six starts of 0.19 on H100 were above it.
_MIXTURE_MORE: Final = 45 * GIB // 100


def estimate(shape: Shape, settings: Settings, batch: Batch, card: Card) -> Line:
    """What `profile_cudagraph_memory` finds: 0 where nothing is captured or the runner does not look.

    Fitted to 38 dense starts of 0.19 on H100 (mean error 0.15 GiB); elsewhere the same fit, with the same band.
    """
    source = "v1/worker/gpu_model_runner.py:profile_cudagraph_memory"
    release = settings.release
    looks = releases.GRAPHS_ESTIMATED.at(release) and (not batch.v2 or releases.V2_ESTIMATES_GRAPHS.at(release))
    if not batch.captures or not looks:
        return exact(ESTIMATE, 0, source)
    best = int(0.24 * GIB + 0.0176 * GIB * _layers(shape, settings) + 0.13 * _split(shape, settings, card))
    best += _more(shape)
    return _around(ESTIMATE, best, f"{source}; fit over 38 starts of 0.19 on H100")


def subtracted(settings: Settings) -> bool:
    """Whether the estimate is taken off the cache's share."""
    if settings.estimate_graphs is not None:
        return settings.estimate_graphs and bool(releases.GRAPHS_ESTIMATED.at(settings.release))
    return releases.GRAPHS_SUBTRACTED.at(settings.release)


def captured(shape: Shape, settings: Settings, batch: Batch, card: Card) -> Line:
    """What "Graph capturing finished ... took" prints."""
    if not batch.captures:
        return exact(CAPTURED, 0, "nothing is captured in eager mode")
    widths = _activations(shape, settings)
    split = _split(shape, settings, card)
    largest = batch.captures[-1]
    if batch.v2 and settings.release >= (0, 26):
        outputs = 4 * sum(batch.captures) * shape.hidden * 2
        best = _DRIVER_PER_LAYER * _layers(shape, settings) - _DRIVER_OFF + split + largest * 2 * widths + _CUBLAS + outputs
        return _around(CAPTURED, best + _more(shape), "fit over 3 starts of 0.26 on H200")
    best = int(0.062 * GIB + 0.0164 * GIB * _layers(shape, settings)) + split + largest * 2 * widths + int(0.031 * GIB)
    return _around(CAPTURED, best + _more(shape), "fit over 38 starts of 0.19 on H100")


def _around(name: str, best: int, source: str) -> Line:
    return band(name, best, max(0, best - _SPREAD), best + _SPREAD, source)


def _layers(shape: Shape, settings: Settings) -> int:
    return ceil_div(shape.layers, settings.pipeline_parallel_size)


def _split(shape: Shape, settings: Settings, card: Card) -> int:
    """FlashAttention 3's float32 partial outputs; none with Triton's attention (float32, Gemma 3 with images)."""
    if settings.dtype == "float32" or not card.hopper or shape.prefix_lm:
        return 0
    return ceil_div(shape.queries, settings.tensor_parallel_size) * _SPLIT_ROWS * _SPLITS * 4


def _activations(shape: Shape, settings: Settings) -> int:
    tp = settings.tensor_parallel_size
    return 3 * ceil_div(shape.intermediate, tp) + 2 * shape.hidden + ceil_div(shape.queries, tp)


def _more(shape: Shape) -> int:
    return _MIXTURE_MORE if shape.experts else 0
