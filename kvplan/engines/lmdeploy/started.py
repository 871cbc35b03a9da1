"""What LMDeploy's two backends share: whole blocks for each request, the share of free memory, and the command line.

Source: lmdeploy 0.18.0 `cli/serve.py`, `pytorch/engine/executor/base.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from kvplan.domain.model import Full, Latent, Model, Reach, Shared, Softmax
from kvplan.domain.pool import Pool
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.engine import Engine, Served, Serving
from kvplan.engines.kernel.search import largest
from kvplan.engines.kernel.tensors import At, Count, whole_blocks
from kvplan.engines.lmdeploy.about import ABOUT
from kvplan.engines.lmdeploy.log import command
from kvplan.engines.lmdeploy.models import described_by_hand
from kvplan.engines.lmdeploy.options import LmdeployOptions
from kvplan.errors import Refused

_PARTS: Final = 10_000  # a fraction has four digits


class Started(Served):
    """What both backends share: whole blocks for each request, and the command line."""

    options: LmdeployOptions
    block_size: int  # tokens
    block_bytes: int

    def __init__(self, engine: Engine, model: Model) -> None:
        super().__init__(engine, model)
        self.options = engine.options
        self.tensor_parallel = self.options.tp

    def blocks(self, at: At[Count]) -> Count:
        """Blocks of all requests."""
        return whole_blocks(at.seq_len, self.block_size) * at.batch_size

    def check(self, at: At[int]) -> None:
        """A server holds so many requests at once; others wait."""
        options = self.options
        if options.max_batch_size is not None and at.batch_size > options.max_batch_size:
            raise Refused(f"{at.batch_size:,} requests at once are more than max_batch_size, which is {options.max_batch_size:,}")

    def notes(self, workload: Workload) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        return (*self.model.notes, *self._notes(workload))

    def _notes(self, workload: Workload) -> Iterator[str]:
        options = self.options
        if options.session_len is not None and workload.seq_len > options.session_len:
            yield f"requests of more than {options.session_len:,} tokens (session_len) are cut short by the server"
        if described_by_hand(self.model) and any(isinstance(m, Shared) for layer in self.model.layers for m in layer.memories):
            yield "no builder of LMDeploy shares caches between layers: each has one of its own"
        if self.engine.version != ABOUT.latest:
            yield f"the rules are those of lmdeploy {ABOUT.latest}; no other release was studied"

    def shared(self, at: At[int], free_bytes: int, loaded_bytes: int) -> tuple[str, Pool] | None:
        """By bisection over the server's own pool: more of the memory never holds less."""
        tried: dict[int, Pool] = {}

        def too_few(part: int) -> bool:
            told = replace(self.options, cache_max_entry_count=part / _PARTS, max_batch_size=at.batch_size)
            tried[part] = pool = self.with_options(told).pool(free_bytes)
            return not pool.usable_bytes or self.blocks(at) > pool.num_blocks - pool.null_blocks

        least = largest(too_few, ceiling=_PARTS - 1) + 1
        if least == _PARTS:
            return None
        too_few(least)
        return f"{least / _PARTS:g}", tried[least]

    def with_options(self, options: LmdeployOptions) -> Started:
        """The same model in a server with other options."""
        raise NotImplementedError

    def command(self, serving: Serving) -> str:
        """`lmdeploy serve api_server …`."""
        return command(
            serving.model,
            self.options,
            session_len=serving.context,
            max_batch_size=serving.batch_size,
            share=serving.utilization if serving.utilization < 1 else self.options.cache_max_entry_count,
        )

    def typed(self, workload: Workload) -> str:
        """The server's command line."""
        return self.command(self.asked(workload))


def reaches(model: Model) -> tuple[Reach, ...]:
    """How far each layer looks back into its keys and values."""
    return tuple(next((m.reach for m in layer.memories if isinstance(m, Softmax | Latent)), Full()) for layer in model.layers)
