"""What one server holds, as a small value that other programs can ask: schedulers, operators, latency simulators. Pure.

It is frozen, needs nothing but itself, survives JSON, and fails closed: an admission counts with the fewest blocks that the
server may come up with, and what is not known is an error, never a guess.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from kvplan.domain.pool import Share
from kvplan.engines.kernel.engine import Served
from kvplan.errors import InputError, Refused, shown
from kvplan.questions.fit.budget import prepared_of
from kvplan.questions.receipt import Receipt
from kvplan.units import MAX_COUNT, ceil_div

#: Of the JSON form: it grows with keys that change their meaning, never with new ones.
SCHEMA: Final = 1


class Capacity(Struct, frozen=True, kw_only=True):
    """One server on its cards: one cache, of which each request takes blocks.

    Attributes:
        gpus: cards of one copy of the model; `tensor_parallel` of them split it.
        num_blocks: blocks of its pool, of `block_bytes` on each card, `null_blocks` of which never hold a request.
        low_blocks, high_blocks: the fewest and the most over what the server may leave for its cache.
        num_tokens: tokens that they hold, as the server prints it.
        max_model_len: tokens of a request at most; max_num_seqs: requests that run at once, where the server is told.
        shares: what a request takes; empty where that is not known for the engine.
        evidence: what stands behind the bytes.
    """

    model: str
    engine: str
    engine_version: str
    gpu: str
    gpus: int
    tensor_parallel: int
    num_blocks: int
    low_blocks: int
    high_blocks: int
    null_blocks: int
    block_bytes: int
    num_tokens: int
    max_model_len: int
    max_num_seqs: int | None = None
    shares: tuple[Share, ...] = ()
    evidence: str = ""
    schema: int = SCHEMA

    def __repr__(self) -> str:
        return f"<Capacity {self.model} · {self.engine} on {self.gpus} x {self.gpu}: {self.num_tokens:,} tokens>"

    @property
    def usable_blocks(self) -> int:
        """Blocks that requests can surely have."""
        return max(0, self.low_blocks - self.null_blocks)

    @property
    def usable_bytes(self) -> int:
        """The same, on each card."""
        return self.usable_blocks * self.block_bytes

    @property
    def tokens_per_block(self) -> int:
        """Tokens of the smallest block of a request: the block size that a simulator is told.

        Raises:
            Refused: not known for the engine.
        """
        return min(share.block_tokens for share in self._shares if share.grows)

    @property
    def _shares(self) -> tuple[Share, ...]:
        if not self.shares:
            raise Refused(f"the blocks that one request of {self.engine} takes are not known", "`-e vllm`'s are")
        return self.shares

    def blocks_of(self, tokens: int) -> int:
        """The most blocks that a request of `tokens` tokens (prompt and output together) holds.

        Raises:
            InputError: no such request: below one token, or longer than the server takes.
            Refused: not known for the engine.
        """
        if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= self.max_model_len:
            raise InputError(f"a request has from 1 to {self.max_model_len:,} tokens, got {shown(tokens)}")
        return sum(share.blocks(tokens) for share in self._shares)

    def admits(self, tokens: int, running: Iterable[int] = ()) -> bool:
        """Whether a request of `tokens` tokens surely fits beside those that run, each given by the tokens that it may reach.

        Raises:
            InputError: as `blocks_of`, of any of them.
        """
        others = list(running)
        if self.max_num_seqs is not None and len(others) >= self.max_num_seqs:
            return False
        return self.blocks_of(tokens) + sum(map(self.blocks_of, others)) <= self.usable_blocks

    def requests_of(self, tokens: int) -> int:
        """The most requests of `tokens` tokens that are surely held at once."""
        most = self.usable_blocks // max(1, self.blocks_of(tokens))
        return most if self.max_num_seqs is None else min(most, self.max_num_seqs)

    def servers_for(self, requests: Iterable[int]) -> int:
        """Servers whose blocks and places hold all of these requests at once, each given by the tokens that it may reach.

        A lower bound that evenly spread requests meet; 0 for none.

        Raises:
            InputError: as `blocks_of`; or a request that one server does not hold.
        """
        blocks = [self.blocks_of(tokens) for tokens in requests]
        if not blocks:
            return 0
        if max(blocks) > self.usable_blocks:
            raise InputError(f"a request of {max(blocks):,} blocks is more than one server holds ({self.usable_blocks:,})")
        places = ceil_div(len(blocks), self.max_num_seqs) if self.max_num_seqs else 1
        return max(places, ceil_div(sum(blocks), self.usable_blocks))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` makes the same value of it."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {"schema": found.pop("schema"), **found}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Capacity":
        """The value of its JSON form.

        Raises:
            InputError: not in that form, of another schema, or numbers that contradict each other.
        """
        try:
            found = msgspec.convert(data, cls)
        except (msgspec.ValidationError, TypeError) as problem:
            raise InputError(f"that is no capacity: {problem}", hint="`to_dict()` of a `kvplan.capacity` is") from problem
        if found.schema != SCHEMA:
            raise InputError(
                f"that is a capacity of schema {found.schema}, and this kvplan reads {SCHEMA}", hint="use one release"
            )
        sizes = (found.null_blocks, found.low_blocks, found.num_blocks, found.high_blocks)
        if not 0 <= sizes[0] <= MAX_COUNT or list(sizes[1:]) != sorted(sizes[1:]) or min(sizes) < 0 or max(sizes) > MAX_COUNT:
            raise InputError(
                "that is no capacity: its blocks contradict each other", hint="`to_dict()` of a `kvplan.capacity` is"
            )
        if any(share.block_tokens < 1 or share.more < 0 for share in found.shares):
            raise InputError("that is no capacity: a block holds no tokens", hint="`to_dict()` of a `kvplan.capacity` is")
        return found


def capacity_of(found: Receipt) -> Capacity:
    """What a server that starts holds.

    Raises:
        Refused: it does not start, or kvplan cannot tell.
    """
    q, pool = found.question, found.pool
    if found.not_predicted:
        raise Refused(found.not_predicted)
    if pool is None or found.refused or not found.starts:
        why = found.refused or "at the small end of what may be left, there is no room for one request"
        raise Refused(
            f"{q.engine} does not surely start {q.model.name} on {q.gpu.id}: {why}", "`kvplan receipt` shows every line"
        )
    prepared = prepared_of(q, found.budget)
    if not isinstance(prepared, Served):
        raise Refused(f"{q.engine} reserves no pool: it allocates what a request needs", "`kvplan fit` says what fits")
    band = found.budget.cache
    low, high = (prepared.pool(max(0, size)) for size in (band.low, band.high))
    return Capacity(
        model=q.model.name,
        engine=pool.engine,
        engine_version=pool.engine_version,
        gpu=q.gpu.id,
        gpus=q.devices,
        tensor_parallel=q.tensor_parallel,
        num_blocks=pool.num_blocks,
        low_blocks=min(low.num_blocks, pool.num_blocks),
        high_blocks=max(high.num_blocks, pool.num_blocks),
        null_blocks=pool.null_blocks,
        block_bytes=pool.block_bytes,
        num_tokens=pool.num_tokens,
        max_model_len=pool.max_model_len,
        max_num_seqs=prepared.most_running,
        shares=prepared.shares,
        evidence=prepared.evidence(q.gpu.vendor),
    )
