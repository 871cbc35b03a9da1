"""What a server prints while it starts, as far as memory goes, in its own words. Times and progress are left out.

Source: `v1/worker/gpu_worker.py`, `v1/worker/gpu_model_runner.py`, `v1/core/kv_cache_utils.py`, `config/scheduler.py`.
"""

from collections.abc import Iterator

from kvplan.domain.ledger import Ledger, Line
from kvplan.domain.pool import Pool
from kvplan.engines.vllm.ledger import build, graphs, machine
from kvplan.engines.vllm.ledger.settings import Batch, Settings
from kvplan.units import GIB, MIB

_SUGGESTION_KEEPS = 150 * MIB  # what the suggested --kv-cache-memory leaves free


def startup(found: Ledger, settings: Settings, batch: Batch, pool: Pool) -> Iterator[str]:
    """The lines, in the order in which they are printed; a refusal ends them."""

    def gib(amount: int) -> str:
        return format_gib(amount, settings.release)

    loaded = sum(line.bytes for line in found.lines if line.name in {build.WEIGHTS, build.LORA, build.DRAFTER})
    free, given = found.total.bytes - _of(found, machine.CONTEXT), settings.kv_cache_memory_bytes
    if settings.enable_chunked_prefill:
        yield f"Chunked prefill is enabled with max_num_batched_tokens={batch.tokens}."
    yield f"Model loading took {gib(loaded)} GiB"
    if given is not None:
        yield (
            f"Initial free memory {gib(free)} GiB, reserved {gib(given)} GiB memory for KV Cache as specified by "
            "kv_cache_memory_bytes config and skipped memory profiling."
        )
        if found.taken.bytes + given > found.total.bytes:  # nothing checks it: the allocation of the cache fails
            yield "torch.OutOfMemoryError: CUDA out of memory."
            return
    else:
        estimate = _of(found, graphs.ESTIMATE)
        if estimate:
            yield f"Estimated CUDA graph memory: {estimate / GIB:.2f} GiB total"
        yield f"Available KV cache memory: {gib(found.available.bytes)} GiB"
    if pool.refused:
        yield f"ValueError: {pool.refused}"
        return
    yield from pool.log
    captured = _of(found, graphs.CAPTURED)
    if captured:
        yield f"Graph capturing finished, took {captured / GIB:.2f} GiB"
    if given is None:
        kept = found.available.bytes - (0 if found.line(graphs.ESTIMATE) in found.lines else captured) - _SUGGESTION_KEEPS
        yield (
            f"Free memory on device ({gib(free)}/{gib(found.total.bytes)} GiB) on startup. Desired GPU memory utilization is "
            f"({settings.utilization}, {gib(found.requested.bytes)} GiB). Actual usage is {gib(loaded)} GiB for weight, "
            f"{gib(_of(found, build.ACTIVATION))} GiB for peak activation, {gib(_of(found, machine.NON_TORCH))} GiB for "
            f"non-torch memory, and {gib(captured)} GiB for CUDAGraph memory. Replace gpu_memory_utilization config with "
            f"`--kv-cache-memory={kept}` ({gib(kept)} GiB) to fit into requested memory."
        )


def _of(found: Ledger, name: str) -> int:
    line: Line | None = found.line(name)
    return line.bytes if line is not None else 0


def format_gib(amount: int, release: tuple[int, ...]) -> str:
    """GiB as the release prints them. Source: `utils/mem_utils.py:format_gib`; before 0.13 two decimals.

    >>> format_gib(16 * 2**30, (0, 26)), format_gib(16 * 2**30, (0, 11))
    ('16.0', '16.00')
    """
    return str(round(amount / GIB, 2)) if release >= (0, 13) else f"{amount / GIB:.2f}"
