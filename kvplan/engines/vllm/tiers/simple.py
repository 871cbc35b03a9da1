"""The simple connector (`SimpleCPUOffloadConnector`): a second block pool for each rank, in host memory or in a file.

Source: `distributed/kv_transfer/kv_connector/v1/simple_cpu_offload_connector.py`,
`v1/simple_kv_offload/worker.py:_resolve_num_cpu_blocks`, `manager.py:_derive_cpu_config`; 0.33.0.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.domain.model import Model
from kvplan.engines.vllm.plan import Plan
from kvplan.engines.vllm.resolved import prefix_caching
from kvplan.engines.vllm.specs import FullSpec
from kvplan.errors import Refused

#: A block of the second pool that holds nothing, as in the GPU's.
NULL_BLOCK: Final = 1


class Blocks(Struct, frozen=True, kw_only=True):
    """The second pool: blocks of the same bytes as the GPU's, on every rank."""

    block_bytes: tuple[int, ...]  # of each stage
    ranks: int
    num_cpu_blocks: int | None = None  # asked for instead of what the capacity holds

    def capacity(self, budget_bytes: int, *, per_rank: bool) -> int:
        """Bytes of one rank, of a budget for all or for each."""
        return budget_bytes if per_rank else budget_bytes // self.ranks

    def blocks(self, capacity: int) -> int:
        """Blocks of each rank, the null block among them: the stage with the widest block decides.

        Raises:
            Refused: more were asked for than the capacity holds.
        """
        found = []
        for size in self.block_bytes:
            most = max(1, capacity // size)
            wanted = self.num_cpu_blocks
            if wanted is not None and not 1 <= wanted <= most:
                raise Refused(f"num_cpu_blocks={wanted} must be between 1 and local offload capacity {most}")
            found.append(most if wanted is None else wanted)
        return min(found)


def second_pool(model: Model, plan: Plan, num_cpu_blocks: int | None = None) -> Blocks | None:
    """The pool; None where the connector switches itself off: without prefix caching nothing would find its blocks.

    Raises:
        Refused: in vLLM's words.
    """
    if not prefix_caching(model, plan.options, plan.version):
        return None
    if not any(isinstance(group.spec, FullSpec) for group in plan.groups):
        raise Refused("AssertionError in __init__: assert 0 <= self.fa_gidx < len(self.cpu_kv_cache_config.kv_cache_groups)")
    options = plan.options
    ranks = options.tensor_parallel_size * options.pipeline_parallel_size * options.prefill_context_parallel_size
    return Blocks(block_bytes=plan.block_bytes, ranks=ranks, num_cpu_blocks=num_cpu_blocks)
