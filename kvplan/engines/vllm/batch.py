"""How many tokens one step of the scheduler takes, and how many requests run at once: what vLLM settles where nobody says.

The one home of both numbers: the plan of the cache (tokens in flight, states) and the ledger (activations, samplers, graphs)
ask here. Source: `engine/arg_utils.py:get_batch_defaults`, `_set_default_max_num_seqs_and_batched_tokens_args`; 0.11
(`_set_default_args`) and 0.33 read.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.engines.kernel.releases import Quirk, Release, quirk
from kvplan.units import GIB

_LARGE: Final = 70 * GIB
_HUGE: Final = 160 * GIB
_GB10: Final = 121  # sm_121: the memory of a large card without its compute
_ARGS: Final = "engine/arg_utils.py:get_batch_defaults"

HUGE_CARDS: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_ARGS}, 0.11"),
    ((0, 28), True, f"{_ARGS}, 0.28"),
    says="16,384 tokens for servers too on cards of 160 GiB and more",
)
GB10_IS_SMALL: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_ARGS}, 0.11"), ((0, 33), True, f"{_ARGS}, 0.33"), says="a GB10 counts as a small card"
)
WHOLE_ITEMS: Final[Quirk[bool]] = quirk(
    ((0,), False, "engine/arg_utils.py, 0.20.0"),
    ((0, 25), True, "engine/arg_utils.py:_get_min_mm_batched_tokens, 0.25.1"),
    says="a batch holds one whole item of a model whose images attend both ways",
)
PERFORMANCE_MODE: Final[Quirk[bool]] = quirk(
    ((0,), False, "engine/arg_utils.py, 0.19"), ((0, 22), True, "engine/arg_utils.py"), says="`performance_mode` exists"
)


class Host(Struct, frozen=True, kw_only=True):
    """The device as vLLM finds it; `workers` are the processes that share the model."""

    memory: int  # bytes
    name: str = ""
    capability: int = 0
    cpu: bool = False
    workers: int = 1


class Batch(Struct, frozen=True, kw_only=True):
    """`max_num_batched_tokens` and `max_num_seqs`."""

    tokens: int
    seqs: int


def settled(
    release: Release,
    host: Host,
    *,
    max_model_len: int,
    max_num_batched_tokens: int | None = None,
    max_num_seqs: int | None = None,
    offline: bool = False,
    chunked_prefill: bool = True,
    throughput: bool = False,
    item_tokens: int = 0,
) -> Batch:
    """Tokens a step and requests at once, given ones first.

    Args:
        offline: the `LLM` class, not a server.
        throughput: `performance_mode` is "throughput", which doubles both defaults.
        item_tokens: tokens of the largest item that may not be cut between two steps; 0: none.

    >>> settled((0, 32), Host(memory=80 * GIB, name="NVIDIA H100"), max_model_len=4096)
    Batch(tokens=8192, seqs=1024)
    >>> settled((0, 32), Host(memory=80 * GIB, name="NVIDIA H100"), max_model_len=1024, max_num_seqs=4)
    Batch(tokens=4096, seqs=4)
    """
    tokens, seqs = _defaults(release, host, offline=offline)
    if throughput and PERFORMANCE_MODE.at(release):
        tokens, seqs = 2 * tokens, 2 * seqs
    most = max_num_seqs or seqs
    if max_num_batched_tokens is not None:
        tokens = max_num_batched_tokens
    else:
        if not chunked_prefill:
            tokens = max(tokens, max_model_len)
        if WHOLE_ITEMS.at(release):
            tokens = max(tokens, item_tokens)
        tokens = min(tokens, most * max_model_len)
    return Batch(tokens=tokens, seqs=most if max_num_seqs is not None else min(most, tokens))


def _defaults(release: Release, host: Host, *, offline: bool) -> tuple[int, int]:
    if host.cpu:
        return (4096 if offline else 2048) * host.workers, (256 if offline else 128) * host.workers
    if host.memory >= _HUGE and HUGE_CARDS.at(release):
        return 16384, 1024
    small = "a100" in host.name.lower() or (host.capability == _GB10 and GB10_IS_SMALL.at(release))
    if host.memory >= _LARGE and not small:
        return (16384 if offline else 8192), 1024
    return (8192 if offline else 2048), 256
