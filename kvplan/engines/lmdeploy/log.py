"""The lines that LMDeploy prints of its cache, and what to type to start its server.

Source: lmdeploy 0.18.0 `pytorch/engine/executor/base.py`, `cli/serve.py`, `cli/utils.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from kvplan.engines.lmdeploy.options import POLICIES, LmdeployOptions
from kvplan.engines.lmdeploy.plan import Plan

_DEFAULT = LmdeployOptions()


def adjusted(plan: Plan, options: LmdeployOptions) -> Iterator[str]:
    """Its warnings where it changes what was asked."""
    if not plan.own_blocks and plan.block_size != options.block_size:
        yield f"Update `block_size={plan.block_size}` for large `head_dim={plan.k_head_dim}`."
    if options.enable_prefix_caching and plan.window_size > 0:
        yield "Sliding window prefix caching is not supported."


def fewer_tokens(max_prefill_token_num: int) -> str:
    """Its warning where a shorter pass of prefill had to do."""
    return f"No enough memory. Update max_prefill_token_num={max_prefill_token_num}"


def command(model: str, options: LmdeployOptions, *, session_len: int, max_batch_size: int, share: float) -> str:
    """`lmdeploy serve api_server …`; options at their defaults are left out."""
    return " ".join(
        [
            f"lmdeploy serve api_server {quote(model)}" if model else "lmdeploy serve api_server",
            *_flags(options, session_len=session_len, max_batch_size=max_batch_size, share=share),
        ]
    )


def _flags(options: LmdeployOptions, *, session_len: int, max_batch_size: int, share: float) -> Iterator[str]:
    yield f"--backend {options.backend}"
    yield f"--session-len {session_len}"
    yield f"--max-batch-size {max_batch_size}"
    yield f"--cache-max-entry-count {share:g}"
    if options.policy:
        yield f"--quant-policy {POLICIES[options.policy]}"
    if options.tp > 1:
        yield f"--tp {options.tp}"
    block = options.cache_block_seq_len if options.backend == "turbomind" else options.block_size
    if block != _DEFAULT.block_size:
        yield f"--cache-block-seq-len {block}"
    if options.kernel_block_size != _DEFAULT.kernel_block_size:
        yield f"--kernel-block-size {options.kernel_block_size}"
    if options.dtype != _DEFAULT.dtype:
        yield f"--dtype {options.dtype}"
    if options.max_prefill_token_num != _DEFAULT.max_prefill_token_num:
        yield f"--max-prefill-token-num {options.max_prefill_token_num}"
    if options.enable_prefix_caching:
        yield "--enable-prefix-caching"
    if options.prefix_cache_state_budget:
        yield f"--prefix-cache-state-budget {options.prefix_cache_state_budget}"
    if options.speculative_algorithm:
        yield f"--speculative-algorithm {quote(options.speculative_algorithm)}"
        yield f"--speculative-num-draft-tokens {options.speculative_num_draft_tokens}"
