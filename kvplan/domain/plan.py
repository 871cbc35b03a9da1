"""What a committee is asked about: members on one card or a node. Plain values; `kvplan.loading.plan.read` reads them."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from kvplan.domain.gpus import Gpu
from kvplan.domain.ledger import Line
from kvplan.domain.machine import NOTHING, Learned
from kvplan.domain.model import Model


class Member(Struct, frozen=True, kw_only=True):
    """One engine, on one card or on several that split its model.

    `users` requests of `context` tokens at once, or a `share` of each of its cards, or both (then the users must fit the
    share). A member without a model has `cache_bytes` (perhaps 0) on each card instead. `weights` are of the whole model,
    `reserve` and `share` of one card. `cards` are those it must be on; empty leaves that open. `lines` says where each key
    stands, for errors.
    """

    name: str
    engine: str
    weights: Line
    model: Model | None = None
    source: str = ""
    weights_dtype: str = ""  # the format that its weights were asked for in, where the checkpoint is in another
    context: int = 1
    users: int | None = None
    share: float | None = None
    reserve: Line | None = None  # None: what kvplan assumes for the engine
    cache_bytes: int | None = None
    tensor_parallel: int = 1
    stages: int = 1  # that share its layers, for engines that have them
    cards: tuple[int, ...] = ()
    encoder_len: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, str] = field(default_factory=dict)

    @property
    def devices(self) -> int:
        """Cards that it takes: those that split each layer, times the pipeline's stages."""
        return self.tensor_parallel * self.stages

    @property
    def dealt_over(self) -> int:
        """Cards that its layers are dealt out to, for engines that do; every engine else takes `devices`."""
        return max(1, len(self.cards)) if self.devices == 1 else 0

    def where(self, key: str) -> str:
        """`file:line` of a key, or of the member."""
        return self.lines.get(key, self.lines.get("", self.name))


class Plan(Struct, frozen=True, kw_only=True):
    """Members on `gpus` cards of one kind. `memory` is one card's; `reserve` is kept free on each, whatever members need."""

    gpu: Gpu
    memory: Line
    reserve: Line
    members: tuple[Member, ...]
    gpus: int = 1
    source: str = ""
    learned: Learned = NOTHING  # what a machine file says of each card

    @property
    def room_bytes(self) -> int:
        """What the members may take of one card."""
        return self.memory.bytes - self.reserve.bytes

    @property
    def hardware(self) -> str:
        """The card, or how many of which."""
        return self.gpu.id if self.gpus == 1 else f"{self.gpus} x {self.gpu.id}"

    @property
    def typed(self) -> str:
        """The cards as they are typed: `NAME` or `NAME:N`."""
        return self.gpu.id if self.gpus == 1 else f"{self.gpu.id}:{self.gpus}"
