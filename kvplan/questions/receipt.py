"""`receipt`: a server's start-up before it starts: every line of its memory, what it prints, or why it would not start."""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from kvplan.architectures.describe import describe
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.budget import Budget
from kvplan.domain.machine import Machine
from kvplan.domain.pool import Pool
from kvplan.domain.tiers import TierAsk, Tiers
from kvplan.engines import make_engine
from kvplan.engines.kernel.engine import Prepared, Served
from kvplan.questions.fit.budget import budget_of, prepared_of, told_options
from kvplan.questions.fit.question import Question
from kvplan.questions.media import one_image, used
from kvplan.questions.reserve import reserved
from kvplan.questions.tiers import tiers_of
from kvplan.units import human_bytes


class Receipt(Struct, frozen=True, kw_only=True):
    """What one worker of a server does with one card.

    `starts` is whether it comes up with the smallest cache that its lines allow, `unsure` whether with the largest alone;
    `lines` are its own words, `refused` its refusal, `pool` what it makes of the best value.
    """

    question: Question
    budget: Budget
    starts: bool
    unsure: bool = False
    engine_version: str = ""
    pool: Pool | None = None
    lines: tuple[str, ...] = ()
    refused: str = ""
    not_predicted: str = ""
    notes: tuple[str, ...] = ()
    tiers: Tiers | None = None  # what the options ask of the memory below the card

    @property
    def may_start(self) -> bool:
        """Whether it comes up with the best value of its lines and not with the smallest cache that they allow."""
        return self.unsure and not self.refused

    def __hash__(self) -> int:
        q = self.question
        return hash((q.model.name, q.engine, q.gpu.id, q.gpus, self.starts, self.lines, self.refused))

    def __repr__(self) -> str:
        q = self.question
        said = (
            "starts"
            if self.starts
            else "may start"
            if self.may_start
            else f"does not start: {self.refused or self.not_predicted}"
        )
        return f"<Receipt {q.model.name} · {q.engine} on {q.gpu.id}: {said}>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/formats.md), every bytes value an exact int."""
        q, found = self.question, self.budget.ledger
        return {
            "model": q.model.name,
            "engine": q.engine.partition("@")[0],
            "engine_version": self.engine_version,
            "gpu": q.gpu.id,
            "gpus": q.gpus,
            "tensor_parallel": q.tensor_parallel,
            "starts": self.starts,
            "unsure": self.unsure,
            "refused": self.refused,
            "ledger": None if found is None else found.to_dict(),
            "budget": [line.to_dict() for line in self.budget.lines],
            "available": self.budget.cache.to_dict(),
            "num_blocks": self.pool.num_blocks if self.pool else None,
            "num_tokens": self.pool.num_tokens if self.pool else None,
            "concurrency": self.pool.concurrency if self.pool else None,
            "max_model_len": self.pool.max_model_len if self.pool else None,
            "lines": list(self.lines),
            "notes": list(self.notes),
            "not_predicted": self.not_predicted,
            **({"tiers": self.tiers.to_dict()} if self.tiers is not None else {}),
            **({"media": q.media.to_dict()} if q.media is not None else {}),
        }


def receipt(q: Question) -> Receipt:
    """The start-up that `q` describes.

    Raises:
        OptionError: an unknown engine or option.
    """
    budget = budget_of(q)
    options = told_options(q, budget)
    pools = [
        reserved(q.model, q.engine, options, max(0, size)) for size in (budget.cache.bytes, budget.cache.low, budget.cache.high)
    ]
    pool = pools[0]
    if isinstance(pool, NotPredicted) and pool.no_start:
        return Receipt(question=q, budget=budget, starts=False, refused=pool.reason, engine_version=pool.engine_version)
    if isinstance(pool, NotPredicted):
        return Receipt(question=q, budget=budget, starts=False, not_predicted=pool.reason, engine_version=pool.engine_version)
    comes_up = [not budget.refused and not one.refused for one in pools if isinstance(one, Pool)]
    prepared = prepared_of(q, budget)
    lines, notes = pool.log, []
    if budget.ledger is None:
        notes.append(
            f"the lines beside the cache of {q.model.name} on {q.engine} are not known: one assumed line stands for them"
        )
    elif isinstance(prepared, Served):
        tensors = describe(q.model, getattr(prepared.engine.options, "draft", None))
        machine = Machine(gpu=q.gpu, given=q.given_bytes, learned=q.learned, free=q.free)
        lines = prepared.startup(budget.ledger, machine, tensors, pool) if tensors is not None else pool.log
        notes += budget.ledger.notes
    if q.media is not None:  # by what the server is told of this card
        q = replace(q, media=used(q.model, q.media.media, q.engine, options, q.processor_files))
    if q.media is not None and pool.max_model_len and q.media.tokens > pool.max_model_len:
        notes.append(f"{q.media.words}: more than max_model_len {pool.max_model_len:,}, so such a request is refused")
    elif q.media is None:
        notes += one_image(q.model, make_engine(q.engine, options))
    refused, unsure = budget.refused or pool.refused, comes_up[1] != comes_up[2]
    if refused and unsure:
        notes.append(f"{human_bytes(budget.cache.high)} for the cache, the most that these lines allow, would be enough")
    return Receipt(
        question=q,
        budget=budget,
        starts=comes_up[1],
        unsure=unsure,
        engine_version=pool.engine_version,
        pool=pool,
        lines=tuple(lines),
        refused=refused,
        notes=tuple(notes),
        tiers=_told(prepared, pool),
    )


def _told(prepared: Prepared | None, pool: Pool) -> Tiers | None:
    """What the options ask of host memory and disks; None where nothing is."""
    if prepared is None:
        return None
    found = tiers_of(prepared, TierAsk(tokens=max(pool.max_model_len, 1)), pool)
    return found if any(row.place != "device" for row in found.rows) else None
