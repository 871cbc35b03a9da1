"""What lies below a device's cache: every tier that an engine has, beside the device's own cache. Pure."""

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from kvplan.domain.pool import Pool
from kvplan.domain.tiers import Kept, Tier, TierAsk, Tiers
from kvplan.engines import located
from kvplan.engines.kernel.engine import Prepared, Served
from kvplan.engines.kernel.search import largest
from kvplan.engines.kernel.tensors import At

_MOST_SESSIONS: Final = 2**24


def tiers_of(prepared: Prepared, ask: TierAsk, pool: Pool | None = None, *, caches: int = 1) -> Tiers:
    """Every tier, the device's own cache first.

    Args:
        prepared: the engine on a model, as it is started.
        ask: the budgets, and a session's tokens.
        pool: what the server reserves on each device, where it does.
        caches: servers, or data ranks, that share the requests: each has tiers of its own.
    """
    told = ask if pool is None else replace(ask, device_bytes=pool.budget_bytes)
    below = below_device(prepared, told)
    alike = any(row.ranks > 1 and row.kept != "split" for row in below)
    device = [] if pool is None or pool.refused else [_device(prepared, told, pool, "copied" if alike else "split")]
    found = Tiers(ask=told, rows=(*device, *below))
    return replace(found, notes=tuple(_notes(prepared, found, caches)))


def below_device(prepared: Prepared, ask: TierAsk) -> tuple[Tier, ...]:
    """Memory of the host and of disks that the engine fills beside its device; none, for an engine of which none is known."""
    where = prepared.engine.about.tiers
    return tuple(located(where)(prepared, ask)) if where else ()


def _device(prepared: Prepared, ask: TierAsk, pool: Pool, kept: Kept) -> Tier:
    """The device's own cache: what it holds of requests that run, which is what it keeps of those that do not."""
    sessions = 0
    if isinstance(prepared, Served):
        holds = prepared.holds
        sessions = largest(lambda n: holds(pool, At(ask.tokens, n)), ceiling=_MOST_SESSIONS)
    one = prepared.totals(At(ask.tokens, 1)).allocated
    return Tier(
        tier="gpu",
        title="the GPU's cache",
        place="device",
        budget_bytes=pool.budget_bytes * prepared.tensor_parallel,
        used_bytes=pool.allocated_bytes * prepared.tensor_parallel,
        tokens=pool.num_tokens,
        sessions=sessions,
        session_bytes=one * prepared.tensor_parallel,
        returned_tokens=ask.tokens,
        ranks=prepared.tensor_parallel,
        kept=kept,
        evidence=prepared.evidence(),
    )


def _notes(prepared: Prepared, found: Tiers, caches: int) -> Iterator[str]:
    ask, below = found.ask, [row for row in found.rows if row.place != "device"]
    wanted = ask.host_bytes is not None or ask.disk_bytes is not None
    if wanted and not below:
        yield f"kvplan knows no tier of {prepared.engine.name} below the device"
    if not wanted and not below:
        yield "give a budget below the GPU with «host» or «disk»" if ask.sessions else "what was set keeps nothing below the GPU"
    if caches > 1:
        yield f"budgets are of one of {caches} servers (or data ranks), each with tiers of its own"
    yield from _better(found)
    if ask.sessions and any(row.resident(ask.sessions) < ask.sessions for row in below if not row.refused):
        yield (
            "what comes back is of sessions that return at random: in strict turns, a tier that drops the least recent first and "
            "lacks room for all of them gives nothing back"
        )


def _better(found: Tiers) -> Iterator[str]:
    """Where one connector keeps far more of the same budget than another, whichever is better is said."""
    best = found.best("host")
    if best is None:
        return
    less = [row for row in found.rows if row.place == "host" and row.tokens and not row.refused and 2 * row.tokens <= best.tokens]
    if not less:
        return
    names = ", ".join(f"{row.tier} {row.tokens:,}{_how(row)}" for row in less)
    yield f"{best.tier} holds {best.tokens:,} tokens{_how(best)}; of the same memory {names}"


def _how(row: Tier) -> str:
    words = {"once": " (one copy for all ranks)", "copied": " (a copy on every rank)", "split": ""}
    return words[row.kept] if row.ranks > 1 else ""
