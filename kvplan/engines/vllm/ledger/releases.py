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


UTILIZATION: Final[Quirk[float]] = quirk(((0,), 0.9, "config/cache.py, 0.11"), ((0, 22), 0.92, "config/cache.py"))
#: `requested` rounds up since `request_memory` exists; before it is a float product, which is cut to whole bytes.
REQUEST_ROUNDS_UP: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/utils.py:request_memory, 0.11"), ((0, 14), True, "v1/worker/utils.py:request_memory")
)
#: Bytes per logit of the V1 runner's sampler beside the two hidden copies: torch's sort until the Triton kernel came.
SORTED_SAMPLER: Final[Quirk[bool]] = quirk(
    ((0,), True, "v1/sample/ops/topk_topp_triton.py, 0.11"), ((0, 17), False, "v1/sample/ops/topk_topp_triton.py")
)
#: Whether the CUDA-graph estimate is taken off the cache's share. The engine's own message dates it 0.21.
GRAPHS_SUBTRACTED: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu_worker.py:determine_available_memory, 0.11"),
    ((0, 21), True, "v1/worker/gpu_worker.py:determine_available_memory"),
)
GRAPHS_ESTIMATED: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu_model_runner.py:profile_cudagraph_memory, 0.11"),
    ((0, 19), True, "v1/worker/gpu_model_runner.py:profile_cudagraph_memory"),
)
V2_ESTIMATES_GRAPHS: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu/model_runner.py:profile_cudagraph_memory, 0.11"),
    ((0, 30), True, "v1/worker/gpu/model_runner.py:profile_cudagraph_memory"),
)
#: The allocator's max_split_size while weights load, and while the profile runs.
SPLIT_LIMIT_LOADING: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu_worker.py:_scoped_allocator_max_split, 0.11"),
    ((0, 22), True, "v1/worker/gpu_worker.py:_scoped_allocator_max_split"),
)
SPLIT_LIMIT_PROFILING: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu_worker.py, 0.11"), ((0, 33), True, "v1/worker/gpu_worker.py")
)
#: The ledger of driver figures: what is gone of the free memory, whoever took it.
WHOLE_CONSUMPTION: Final[Quirk[bool]] = quirk(
    ((0,), False, "utils/mem_utils.py:memory_profiling, 0.11"), ((0, 28), True, "utils/mem_utils.py:memory_profiling")
)
#: cuBLAS handles are made before the snapshot: they leave the profile's peak and the non-torch memory.
WARM_BEFORE_SNAPSHOT: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu_worker.py:init_device, 0.11"), ((0, 33), True, "v1/worker/gpu_worker.py:init_device")
)
DENSE_CAPTURE_STEPS: Final[Quirk[bool]] = quirk(
    ((0,), False, "config/vllm.py:_set_cudagraph_sizes, 0.11"), ((0, 14), True, "config/vllm.py:_set_cudagraph_sizes")
)
CAPTURE_1024: Final[Quirk[bool]] = quirk(
    ((0,), False, "config/vllm.py:_set_cudagraph_sizes, 0.11"), ((0, 30), True, "config/vllm.py:_set_cudagraph_sizes")
)
#: mxfp4 experts for Marlin: widths in 128, hidden in 256 (starts of 0.10 and 0.19). Later Triton's layout on Hopper.
MXFP4_MARLIN: Final[Quirk[bool]] = quirk(
    ((0,), True, "fused_moe/oracle/mxfp4.py, 0.11"), ((0, 22), False, "fused_moe/oracle/mxfp4.py")
)
#: DeepGEMM's workspace is taken while loading: measured on 0.26; the starts of 0.19 show it with latent attention only.
DEEP_GEMM_AT_LOAD: Final[Quirk[bool]] = quirk(
    ((0,), False, "vendored DeepGEMM runtime, 0.11"), ((0, 22), True, "vendored DeepGEMM runtime")
)
DEEP_GEMM_WITH_LATENTS: Final[Quirk[bool]] = quirk(
    ((0,), False, "vendored DeepGEMM runtime, 0.11"), ((0, 18), True, "vendored DeepGEMM runtime")
)
#: The V2 runner runs the vision encoder in its profile.
V2_RUNS_ENCODER: Final[Quirk[bool]] = quirk(
    ((0,), False, "v1/worker/gpu/model_runner.py:profile_run, 0.11"), ((0, 28), True, "v1/worker/gpu/model_runner.py:profile_run")
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


#: Tokens that the experts take at a time, whatever is gathered; since 0.19 all of them.
EXPERT_CHUNK: Final[Quirk[int]] = quirk(
    ((0,), 32_768, "envs.py:VLLM_FUSED_MOE_CHUNK_SIZE, 0.11"),
    ((0, 12), 16_384, "envs.py:VLLM_FUSED_MOE_CHUNK_SIZE"),
    ((0, 18, 1), 2**53, "fused_moe/modular_kernel.py, 0.18.1 and later"),
)
