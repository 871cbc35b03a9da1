"""The grid of caches: every setting's bytes by kind of layer, and what of them the model does not need. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from kvplan.domain.allocation import Allocation
from kvplan.domain.beyond import Beyond, Part
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import about, make_engine
from kvplan.engines.kernel.engine import Prepared, footprint
from kvplan.errors import OptionError, Refused
from kvplan.questions.estimate import plan
from kvplan.questions.page.values import Cache, CacheCell, Kept


def cache(
    index: int,
    model: Model,
    engine: str,
    kv_dtype: str,
    seq_lens: Sequence[int],
    batch_sizes: Sequence[int],
    options: Mapping[str, Any],
) -> Cache:
    """One model in one engine at one cache dtype (`auto`: its own), over the grid.

    What the engine refuses for the model or the dtype is a cache that says so.
    """
    known, version = about(engine), engine.partition("@")[2]
    asked = Cache(model=index, engine=engine, kv_dtype=kv_dtype, engine_version=version or known.latest)
    try:
        made = make_engine(engine, {**options, **({} if kv_dtype == "auto" else {"kv_dtype": kv_dtype})})
        prepared = made.on(model)
        evidence = prepared.evidence()
    except Refused as problem:
        return _refused(asked, problem.reason, problem.see)
    except OptionError as problem:
        return _refused(asked, str(problem), problem.hint)
    return Cache(
        model=index,
        engine=engine,
        kv_dtype=kv_dtype,
        engine_version=made.version,
        stored=prepared.kv_dtype,
        evidence=evidence,
        cells=tuple(tuple(_cell(prepared, seq_len, n) for n in batch_sizes) for seq_len in seq_lens),
    )


def _refused(asked: Cache, reason: str, see: str) -> Cache:
    return Cache(
        model=asked.model,
        engine=asked.engine,
        kv_dtype=asked.kv_dtype,
        engine_version=asked.engine_version,
        refused=reason,
        see=see,
    )


def _cell(prepared: Prepared, seq_len: int, batch_size: int) -> CacheCell:
    workload = Workload(seq_len=seq_len, batch_size=batch_size)
    try:
        found = footprint(prepared, workload)
    except Refused as problem:
        return CacheCell(refused=problem.reason, see=problem.see)
    return CacheCell(
        total_bytes=found.total_bytes,
        payload_bytes=found.payload_bytes,
        bookkeeping_bytes=found.bookkeeping_bytes,
        bytes_per_token=found.bytes_per_token,
        kept=tuple(Kept(kind=group.kind, layers=group.layers, bytes=group.bytes) for group in found.groups),
        beyond=_beyond(prepared, found, workload),
        notes=found.notes,
    )


def _beyond(prepared: Prepared, found: Allocation, workload: Workload) -> Beyond | None:
    """What is taken beyond what the model needs: by the engine's own causes where it tells them apart, else what is kept more
    than the theory keeps at the same cache dtype, and what is empty.
    """
    if prepared.engine.about.theory:
        return None
    own = prepared.beyond(workload)
    if own is not None:
        return own
    try:
        ideal = plan(found.model, workload, "ideal", kv_dtype=found.kv_dtype)
    except OptionError:
        return None
    if not isinstance(ideal, Allocation):
        return None
    kept, empty = found.payload_bytes - ideal.total_bytes, found.total_bytes - found.payload_bytes
    parts = (
        Part(name="kept beyond need", cause="tokens that no query reads any more, other formats, drafters", bytes=kept),
        Part(name="empty", cause="room that is allocated and holds nothing", bytes=empty),
    )
    return Beyond(ideal_bytes=ideal.total_bytes, parts=tuple(part for part in parts if part.bytes))
