"""TurboMind serving a model: blocks alone, by reading its source."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from kvplan.domain.allocation import Evidence
from kvplan.domain.model import Model
from kvplan.domain.pool import Pool
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.engine import Engine
from kvplan.engines.kernel.tensors import At, Count, Piece
from kvplan.engines.lmdeploy import turbomind
from kvplan.engines.lmdeploy.facts import LmdeployFacts
from kvplan.engines.lmdeploy.models import trained_tokens
from kvplan.engines.lmdeploy.options import LmdeployOptions
from kvplan.engines.lmdeploy.started import Started


class TurboMindOn(Started):
    """TurboMind serving one model, by reading its source."""

    def __init__(self, engine: Engine, model: Model) -> None:
        super().__init__(engine, model)
        self.layers = turbomind.blocks_of(model, self.options)
        self.block_size = self.options.cache_block_seq_len
        self.block_bytes = sum(layer.bytes for _, layer in self.layers)

    @property
    def kv_dtype(self) -> str:
        """The dtype of keys and values, scales included."""
        return turbomind.kv_dtype(self.model, self.options)

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """Each layer's share of the blocks."""
        blocks, words = self.blocks(at), super().kinds(At(1, 1))
        alike: dict[tuple[turbomind.LayerBlock, str], list[int]] = {}
        for layer, block in self.layers:
            alike.setdefault((block, words[layer]), []).append(layer)
        for (block, kind), layers in alike.items():
            yield Piece(
                layers=tuple(layers),
                name="keys and values",
                kind=kind,
                shape=(blocks, block.bytes),
                dtype="uint8",
                payload=at.seq_len * at.batch_size * (block.bytes // self.block_size),
                padded=blocks * block.bytes,
                per="block",
            )

    def _notes(self, workload: Workload) -> Iterator[str]:
        yield from super()._notes(workload)
        yield f"TurboMind by reading its source ({turbomind.SOURCE}), not by running it"

    def facts(self, workload: Workload) -> LmdeployFacts:
        """The block."""
        return LmdeployFacts(
            backend="turbomind",
            block_size=self.block_size,
            kernel_block_size=self.block_size,
            block_bytes=self.block_bytes,
            request_blocks=self.blocks(At(workload.seq_len, 1)),
            kv_bytes=self.blocks(At(workload.seq_len, workload.batch_size)) * self.block_bytes,
            state_slot_bytes=0,
            num_state_caches=0,
            state_bytes=0,
            runtime_bytes=0,
            vocab_size=0,
            dtype=self.kv_dtype,
            window_size=-1,
        )

    def with_options(self, options: LmdeployOptions) -> TurboMindOn:
        """The same model in a server with other options."""
        return TurboMindOn(type(self.engine)(options, self.engine.version), self.model)

    def evidence(self, maker: str | None = None) -> Evidence:
        """From source at most: no recorded run stands behind it."""
        found = super().evidence(maker)
        return "from source" if found in {"recorded", "same rule"} else found

    def pool(self, budget_bytes: int) -> Pool:
        """Blocks of the region that TurboMind asks for, and the line that it prints."""
        found = turbomind.served(self.block_bytes, self.options, trained_tokens(self.model), budget_bytes)
        return replace(found, model=self.model.name, engine_version=self.engine.version)
