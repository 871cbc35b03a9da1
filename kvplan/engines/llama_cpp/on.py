"""What the tiers and the slots ask of llama.cpp on a model."""

from __future__ import annotations

from typing import Any, Protocol

from kvplan.domain.allocation import Evidence
from kvplan.domain.model import Model
from kvplan.engines.llama_cpp.context import Context
from kvplan.engines.llama_cpp.memory import Params
from kvplan.gguf.hparams import Hparams


class OnModel(Protocol):
    """`kvplan.engines.llama_cpp.engine.LlamaCppOn`, which imports those that are given it."""

    engine: Any
    hparams: Hparams
    model: Model

    def context(self, seq_len: int, batch_size: int) -> Context[int]:
        """The context for so many sequences of so many tokens."""

    def params(self, seq_len: int, batch_size: int) -> Params[int]:
        """Its parameters."""

    def evidence(self, maker: str | None = None) -> Evidence:
        """How well its numbers are known."""
