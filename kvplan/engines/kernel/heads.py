"""KV heads over devices."""

from kvplan.errors import OptionError


def split_heads(kv_heads: int, tensor_parallel: int) -> int:
    """KV heads on each of `tensor_parallel` devices: split evenly, or replicated when there are fewer heads.

    Raises:
        OptionError: neither number divides the other.

    Source: vLLM `config/model.py:get_num_kv_heads`; Megatron's column-parallel QKV has the same rule.
    """
    if tensor_parallel == 1:
        return kv_heads
    if kv_heads % tensor_parallel and tensor_parallel % kv_heads:
        raise OptionError(
            f"tensor_parallel {tensor_parallel} neither divides {kv_heads} kv_heads nor is a multiple of them",
            hint=f"use a divisor of {kv_heads}, or a multiple (heads are then replicated)",
            option="tensor_parallel",
        )
    return max(1, kv_heads // tensor_parallel)
