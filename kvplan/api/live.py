"""`kvplan audit http://…`: what a running server says of itself against the prediction for its model, options and card."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from kvplan.api.check import checked, place_of
from kvplan.domain.servers import Server, Servers
from kvplan.engines.kernel.live import Live, Printed
from kvplan.engines.kernel.verdicts import Audit, ComparedFact, Result, Status
from kvplan.errors import OptionError
from kvplan.loading.live import Address, ask
from kvplan.questions.check import Checked, Outcome

_HOST_GIB: Final = 64  # beside the cache of a server on a CPU: more than any line takes


def audit_live(address: str, *, gpu: str | None = None, model: str | None = None, key: str = "") -> Audit:
    """What a server prints beside what is predicted, one result a model that it has loaded.

    Args:
        address: `http://HOST:PORT`.
        gpu: the card, `NAME` or `NAME:N` (N cards split the model, where the engine can); None: a server on a CPU.
        model: what it serves, where its own name of it is not known; a file or folder, too.
        key: what it is asked with, as `Authorization: Bearer`.

    Raises:
        OptionError: no card.
        EnvironmentMissing, InputError: see `kvplan.loading.live.ask`.
    """
    place = Address(address, key)
    engine, found = ask(place)
    if gpu is None and any(live.on_host is None for live in found):
        raise OptionError("a server does not say on which card it runs: «gpu NAME»", hint="`kvplan gpus` lists them")
    results = [result_of(place.name, engine, live, gpu, model) for live in found]
    return Audit(results=tuple(results))


def result_of(name: str, engine: str, live: Live, gpu: str | None, model: str | None) -> Result:
    """What one model of a server says, beside the prediction for it."""
    from kvplan.domain.gpus import counted
    from kvplan.engines import about

    options: dict[str, Any] = {**live.options, **({} if gpu is not None or live.on_host is None else live.on_host)}
    gpu = gpu or f"{_HOST_GIB + (live.cache_bytes >> 30)}GiB"
    cards = counted(gpu)[1] or 1
    split = about(engine).roles.get("tensor_parallel")
    if cards > 1 and split and split not in options:
        options[split] = cards
    file = model is not None and Path(model).exists()  # what was given is opened, what a server says is a name
    server = Server(
        engine=engine, version=live.version, model=live.model if file else model or live.model, options=options, place=name
    )
    place = replace(place_of(gpu), configs={live.model: Path(model)} if file and model is not None else {})
    one = checked([Servers(name=name, servers=(server,))], place).servers[0]
    facts = tuple(fact for printed in live.printed for fact in _facts(printed, one.outcome))
    reason = "; ".join([*([one.outcome.reason] if one.outcome.reason else []), *one.notes, *live.notes])
    return Result(id=f"{name} {live.model}", engine=_named(one), status=_status(facts), facts=facts, reason=reason, is_log=True)


def _status(facts: tuple[ComparedFact, ...]) -> Status:
    """Of the facts that are predicted; without one, nothing is."""
    known = [fact for fact in facts if fact.predicted is not None]
    if not known:
        return "not_predicted"
    return "exact" if all(fact.agrees for fact in known) else "differs"


def _named(one: Checked) -> str:
    return f"{one.server.engine} {one.server.version}".strip()


def _facts(printed: Printed, outcome: Outcome) -> Iterator[ComparedFact]:
    best, low, high = _predicted(printed.of, outcome)
    band = low is not None and high is not None and low != high
    yield ComparedFact(
        name=printed.name,
        predicted=best,
        recorded=printed.value,
        low=low if band else None,
        high=high if band else None,
        inside=band,
    )


def _predicted(of: str, outcome: Outcome) -> tuple[int | None, int | None, int | None]:
    """(best, low, high) of a number; None where nothing is predicted."""
    if outcome.receipt is not None and outcome.receipt.pool is not None:
        pool, left = outcome.receipt.pool, outcome.receipt.budget.cache
        each = pool.num_tokens / pool.num_blocks if pool.num_blocks else 0
        if of == "length":
            return pool.max_model_len, None, None
        if of in {"num_blocks", "num_tokens"} and pool.block_bytes:
            blocks = [pool.num_blocks, max(0, left.low) // pool.block_bytes, max(0, left.high) // pool.block_bytes]
            best, low, high = blocks if of == "num_blocks" else [int(each * n) for n in blocks]
            return best, min(best, low), max(best, high)
    if outcome.fit is not None:
        question = outcome.fit.question
        if of == "context":
            return question.context, None, None
        if of == "sequences":
            return question.batch_size, None, None
    if outcome.laid is not None:
        laid = outcome.laid
        if of == "context":
            return laid.context, None, None
        if of == "sequences":
            return laid.requests, None, None
        if of == "taken_bytes":  # of all cards
            parts = [place.needed for place in laid.spread.devices]
            return sum(one.bytes for one in parts), sum(one.low for one in parts), sum(one.high for one in parts)
    if of == "taken_bytes" and outcome.taken_bytes:
        slack = outcome.fit.budget.reserve.bytes if outcome.fit is not None else 0
        return outcome.taken_bytes, outcome.taken_bytes - slack, outcome.taken_bytes
    return None, None, None
