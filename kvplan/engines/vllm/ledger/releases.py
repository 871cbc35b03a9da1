"""What changed in vLLM's start-up between releases, as rows `(since, value)`: the newest row that is not after the release.

0.11, 0.14, 0.17, 0.19, 0.22, 0.24, 0.26, 0.28, 0.30 and 0.33 were read whole. A release between two of them takes the
earlier one's rows, and its ledger says so, except where a message or a log of the engine dates the change.
"""

from typing import Final

from kvplan.engines.kernel.releases import Quirk, Release, quirk

READ: Final[tuple[Release, ...]] = (
    (0, 11), (0, 14), (0, 17), (0, 19), (0, 22), (0, 24), (0, 26), (0, 28), (0, 30), (0, 33),
)  # fmt: skip
SUPPORTED: Final = ((0, 11), (0, 33))


UTILIZATION: Final[Quirk[float]] = quirk(
    ((0,), 0.9, "config/cache.py, 0.11"), ((0, 22), 0.92, "config/cache.py"), says="the share of a card when nobody says"
)
REQUEST_ROUNDS_UP: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/utils.py:request_memory, 0.11"),
    ((0, 14), True, "v1/worker/utils.py:request_memory"),
    says="the memory asked for is rounded up to whole bytes, not cut",
)
SORTED_SAMPLER: Final[Quirk[bool]] = quirk(
    ((0,), True, "v1/sample/ops/topk_topp_triton.py, 0.11"),
    ((0, 17), False, "v1/sample/ops/topk_topp_triton.py"),
    says="the V1 runner's sampler sorts logits beside the two hidden copies",
)
GRAPHS_SUBTRACTED: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu_worker.py:determine_available_memory, 0.11"),
    ((0, 21), True, "v1/worker/gpu_worker.py:determine_available_memory"),
    says="the CUDA-graph estimate is taken off the cache's share",
)
GRAPHS_ESTIMATED: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu_model_runner.py:profile_cudagraph_memory, 0.11"),
    ((0, 19), True, "v1/worker/gpu_model_runner.py:profile_cudagraph_memory"),
    says="CUDA graphs are estimated before the cache is sized",
)
V2_ESTIMATES_GRAPHS: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu/model_runner.py:profile_cudagraph_memory, 0.11"),
    ((0, 30), True, "v1/worker/gpu/model_runner.py:profile_cudagraph_memory"),
    says="the V2 runner estimates CUDA graphs",
)
SPLIT_LIMIT_LOADING: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu_worker.py:_scoped_allocator_max_split, 0.11"),
    ((0, 22), True, "v1/worker/gpu_worker.py:_scoped_allocator_max_split"),
    says="the allocator does not split large blocks while weights load",
)
SPLIT_LIMIT_PROFILING: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu_worker.py, 0.11"),
    ((0, 33), True, "v1/worker/gpu_worker.py"),
    says="the allocator does not split large blocks while the profile runs",
)
WHOLE_CONSUMPTION: Final[Quirk[bool]] = quirk(
    ((0,), False, "utils/mem_utils.py:memory_profiling, 0.11"),
    ((0, 28), True, "utils/mem_utils.py:memory_profiling"),
    says="what is gone of the free memory counts, whoever took it",
)
WARM_BEFORE_SNAPSHOT: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu_worker.py:init_device, 0.11"),
    ((0, 33), True, "v1/worker/gpu_worker.py:init_device"),
    says="cuBLAS handles are made before the first snapshot",
)
DENSE_CAPTURE_STEPS: Final[Quirk[bool]] = quirk(
    ((0,), False, "config/vllm.py:_set_cudagraph_sizes, 0.11"),
    ((0, 14), True, "config/vllm.py:_set_cudagraph_sizes"),
    says="more sizes of batches are captured",
)
CAPTURE_1024: Final[Quirk[bool]] = quirk(
    ((0,), False, "config/vllm.py:_set_cudagraph_sizes, 0.11"),
    ((0, 30), True, "config/vllm.py:_set_cudagraph_sizes"),
    says="batches up to 1,024 are captured",
)
MXFP4_MARLIN: Final[Quirk[bool]] = quirk(
    ((0,), True, "fused_moe/oracle/mxfp4.py, 0.11"),
    ((0, 22), False, "fused_moe/oracle/mxfp4.py"),
    says="mxfp4 experts are laid out for Marlin: widths in 128, hidden in 256",
)
DEEP_GEMM_AT_LOAD: Final[Quirk[bool]] = quirk(
    ((0,), False, "vendored DeepGEMM runtime, 0.11"),
    ((0, 22), True, "vendored DeepGEMM runtime"),
    says="DeepGEMM's workspace is taken while weights load",
)
DEEP_GEMM_WITH_LATENTS: Final[Quirk[bool]] = quirk(
    ((0,), False, "vendored DeepGEMM runtime, 0.11"),
    ((0, 18), True, "vendored DeepGEMM runtime"),
    says="DeepGEMM's workspace is taken for latents",
)
V2_RUNS_ENCODER: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu/model_runner.py:profile_run, 0.11"),
    ((0, 28), True, "v1/worker/gpu/model_runner.py:profile_run"),
    says="the V2 runner runs the vision encoder in its profile",
)


def between(release: Release) -> str:
    """A note where `release` was not read: which one's rules stand in. Empty where it was.

    >>> between((0, 27, 0))
    'vLLM 0.27 was not read: the rules of 0.26 stand in'
    """
    minor = release[:2]
    if minor in READ:
        return ""
    earlier = max((known for known in READ if known <= minor), default=READ[0])
    name = ".".join(map(str, minor))
    return f"vLLM {name} was not read: the rules of {'.'.join(map(str, earlier))} stand in"


EXPERT_CHUNK: Final[Quirk[int]] = quirk(
    ((0,), 32_768, "envs.py:VLLM_FUSED_MOE_CHUNK_SIZE, 0.11"),
    ((0, 12), 16_384, "envs.py:VLLM_FUSED_MOE_CHUNK_SIZE"),
    ((0, 18, 1), 2**53, "fused_moe/modular_kernel.py, 0.18.1 and later"),
    says="tokens that the experts take at a time, whatever is gathered",
)
