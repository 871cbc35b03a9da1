"""What changes: between two releases of an engine, two cache dtypes, or two files of a model; whose capacity, and by which rule.

Which rule makes a difference is asked of the rules themselves: the answer after it all, with one rule as it was before. A
rule that changes the answer so is named, with where it was read; rules that only do together are named together.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct, structs

from kvplan import architectures
from kvplan.domain.dtypes import lookup
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import about, engine_name, make_engine
from kvplan.engines.kernel.engine import Engine, Served
from kvplan.engines.kernel.releases import Asked, Watched
from kvplan.engines.kernel.remarks import about_release
from kvplan.engines.kernel.search import largest
from kvplan.engines.kernel.tensors import At
from kvplan.errors import ConfigError, OptionError, Refused, printable
from kvplan.units import GIB

Of = Literal["engine", "kv-dtype", "model"]
KINDS: Final[tuple[Of, ...]] = ("engine", "kv-dtype", "model")
#: Memory that requests share where nobody says: the cache of a small server.
BUDGET_BYTES: Final = 40 * GIB
_SEVERAL: Final = 8  # causes of one change that are named


class Figure(Struct, frozen=True, kw_only=True):
    """What one side says of one model.

    `total_bytes` is the cache of the workload, `requests` how many such the budget holds, `tokens` what a server prints of the
    whole; None where it does not serve the model so, with its words in `refused`.
    """

    total_bytes: int | None = None
    requests: int | None = None
    tokens: int | None = None
    refused: str = ""

    def same_as(self, other: "Figure") -> bool:
        """Whether the numbers are the same; a refusal in other words is still one."""
        mine, theirs = ((f.total_bytes, f.requests, f.tokens, bool(f.refused)) for f in (self, other))
        return mine == theirs

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return structs.asdict(self)


class Cause(Struct, frozen=True, kw_only=True):
    """A rule that makes a difference.

    `was` and `now` are its values, `source` where the later one was read. `without` is the answer with everything as it is
    now and this rule as it was; None where only several rules together make the difference.
    """

    rule: str
    was: str
    now: str
    source: str
    without: Figure | None = None

    @property
    def known(self) -> tuple[str, str, str, str]:
        """The rule, whatever it does to a model."""
        return (self.rule, self.was, self.now, self.source)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "rule": self.rule,
            "was": self.was,
            "now": self.now,
            "source": self.source,
            "without": None if self.without is None else self.without.to_dict(),
        }


class Change(Struct, frozen=True, kw_only=True):
    """One model whose answer is another."""

    model: Model
    engine: str  # as typed
    before: Figure
    after: Figure
    causes: tuple[Cause, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "model": self.model.name,
            "engine": self.engine,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "causes": [cause.to_dict() for cause in self.causes],
        }


class Diff(Struct, frozen=True, kw_only=True):
    """All that changes between `before` and `after` (as typed), of one workload and one budget."""

    of: Of
    before: str
    after: str
    workload: Workload
    budget_bytes: int
    changes: tuple[Change, ...]
    same: int  # models whose answer is the same
    refused: int = 0  # models that neither side serves
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything did."""
        return bool(self.changes)

    @property
    def rules(self) -> tuple[Cause, ...]:
        """Every rule that made a difference, each once, the one of most models first."""
        found: dict[tuple[str, str, str, str], int] = {}
        for change in self.changes:
            for cause in change.causes:
                found[cause.known] = found.get(cause.known, 0) + 1
        return tuple(Cause(rule=r, was=w, now=n, source=s) for r, w, n, s in sorted(found, key=lambda known: -found[known]))

    def __repr__(self) -> str:
        return f"<Diff {self.before} -> {self.after}: {len(self.changes)} of {len(self.changes) + self.same} models>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, every bytes value an exact int (docs/reference/formats.md)."""
        return {
            "of": self.of,
            "before": self.before,
            "after": self.after,
            **self.workload.to_dict(),
            "budget_bytes": self.budget_bytes,
            "same": self.same,
            "refused": self.refused,
            "changes": [change.to_dict() for change in self.changes],
        }


def of_engines(
    before: str,
    after: str,
    models: Iterable[Model],
    workload: Workload,
    *,
    budget_bytes: int = BUDGET_BYTES,
    options: Mapping[str, Any] | None = None,
) -> Diff:
    """Two releases of one engine.

    Args:
        before: `NAME@VERSION`; without a version its latest.
        after: the same of the other.
        models: whose answers are compared.
        workload: what the cache holds.
        budget_bytes: what requests share on each device.
        options: of the engine, for both.

    Raises:
        OptionError: two engines, a bad option, or an engine of which one release's rules are known.
    """
    name = engine_name(before)
    if about(before).name != about(after).name:
        words = f"`{before[:40]}` and `{after[:40]}` are two engines, and no rule of one became the other's"
        raise OptionError(words, hint=f"kvplan compare MODEL -e {before[:40]},{after[:40]}")
    given = _for_length(name, options or {}, workload)
    old, new = make_engine(before, given), make_engine(after, given)
    ruled = [False]

    def of(model: Model) -> tuple[Figure, Figure, Callable[[], tuple[Cause, ...]]]:
        watched, back = Watched(new.release, old.release), Watched(old.release, new.release)
        first, last = _at(old, model, workload, budget_bytes, back), _at(new, model, workload, budget_bytes, watched)
        ruled[0] |= bool(watched.asked)
        found = tuple({(id(a.rule), a.kind): a for a in (*watched.differing, *back.differing)}.values())
        return first, last, lambda: _rules(old, new, model, workload, budget_bytes, found, last)

    found = _diff("engine", before, after, ((model, after, of) for model in models), workload, budget_bytes)
    if not ruled[0] and old.release != new.release:
        known = about(after)
        raise OptionError(
            f"what changed between releases of {known.name} is not known: its rules are those of {known.latest}",
            hint="`kvplan engines` says what was read",
        )
    unread = dict.fromkeys(said for one in (old, new) for said in about_release(one.about, one.release))
    return structs.replace(found, notes=(*found.notes, *unread))


def _for_length(name: str, options: Mapping[str, Any], workload: Workload) -> dict[str, Any]:
    """The options, with the length that requests may have, as a server is told it."""
    context = about(name).roles.get("context")
    told = {context: workload.seq_len} if context and workload.seq_len and context not in options else {}
    return {**told, **options}


def _at(engine: Engine, model: Model, workload: Workload, budget_bytes: int, release: Watched | None = None) -> Figure:
    """What an engine says, with its rules as `release` has them."""
    own, engine.release = engine.release, engine.release if release is None else release
    try:
        on = engine.on(model)
        at = At(workload.seq_len, workload.batch_size, workload.encoder_len)
        on.check(at)
        total = on.totals(at)
        total_bytes = total.allocated + total.bookkeeping
        if not isinstance(on, Served):
            fits = largest(lambda n: on.most_bytes(At(at.seq_len, n, at.encoder_len)) <= budget_bytes) if total_bytes else None
            return Figure(total_bytes=total_bytes, requests=fits)
        pool = on.pool(budget_bytes)
        if pool.refused or not total_bytes:
            return Figure(total_bytes=total_bytes, refused=pool.refused)
        requests = largest(lambda n: on.holds(pool, At(at.seq_len, n, at.encoder_len)))
        return Figure(total_bytes=total_bytes, requests=requests, tokens=pool.num_tokens)
    except Refused as problem:
        return Figure(refused=problem.reason)
    except OptionError as problem:
        return Figure(refused=str(problem))
    finally:
        engine.release = own


def _rules(
    old: Engine, new: Engine, model: Model, workload: Workload, budget_bytes: int, asked: Sequence[Asked], last: Figure
) -> tuple[Cause, ...]:
    """The rules that make the difference, each alone; where none does alone, all that are not the same."""
    alone, together = [], []
    for one in asked:
        without = _at(new, model, workload, budget_bytes, Watched(new.release, old.release, (one,)))
        was, now = one.rule.row(old.release, one.kind), one.rule.row(new.release, one.kind)
        cause = Cause(
            rule=one.rule.says or (now[2] or was[2]),
            was=_value(was[1]),
            now=_value(now[1]),
            source=now[2] or was[2],
        )
        together.append(cause)
        if not without.same_as(last):
            alone.append(structs.replace(cause, without=without))
    return tuple((alone or together)[:_SEVERAL])


def _value(value: object) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value) or "nothing"


def of_dtypes(
    before: str,
    after: str,
    models: Iterable[Model],
    workload: Workload,
    *,
    engine: str,
    budget_bytes: int = BUDGET_BYTES,
    options: Mapping[str, Any] | None = None,
) -> Diff:
    """Two cache dtypes in one engine.

    Raises:
        OptionError: an unknown dtype or option, or an engine that cannot be told one.
    """
    names = [lookup(name).name for name in (before, after)]
    given = _for_length(engine_name(engine), options or {}, workload)
    old, new = (make_engine(engine, {**given, "kv_dtype": name}) for name in names)
    was, now = (lookup(name) for name in names)
    cause = Cause(
        rule="the cache dtype" + (f", {now.scales}" if now.scales else ""),
        was=f"{was.name}: {_bits(was.row_bytes(1, 1024) / 1024)} bits",
        now=f"{now.name}: {_bits(now.row_bytes(1, 1024) / 1024)} bits",
        source=about(engine).rules or about(engine).source,
    )

    def of(model: Model) -> tuple[Figure, Figure, Callable[[], tuple[Cause, ...]]]:
        first, last = (_at(one, model, workload, budget_bytes) for one in (old, new))
        return first, last, lambda: (structs.replace(cause, without=first),)

    return _diff("kv-dtype", before, after, ((model, engine, of) for model in models), workload, budget_bytes)


def _bits(width: float) -> str:
    return f"{8 * width:.4g}"


def of_models(
    before: Model,
    after: Model,
    workload: Workload,
    *,
    engines: Sequence[str],
    budget_bytes: int = BUDGET_BYTES,
    options: Mapping[str, Any] | None = None,
) -> Diff:
    """Two files of a model, in each engine: which keys of the config make the difference."""

    def of_engine(engine: str) -> Callable[[Model], tuple[Figure, Figure, Callable[[], tuple[Cause, ...]]]]:
        made = make_engine(engine, _for_length(engine_name(engine), options or {}, workload))

        def of(model: Model) -> tuple[Figure, Figure, Callable[[], tuple[Cause, ...]]]:
            first, last = (_at(made, one, workload, budget_bytes) for one in (before, model))
            return first, last, lambda: _keys(made, before, model, workload, budget_bytes, last)

        return of

    rows = ((after, engine, of_engine(engine)) for engine in engines)
    return _diff("model", before.name, after.name, rows, workload, budget_bytes)


def _keys(engine: Engine, before: Model, after: Model, workload: Workload, budget_bytes: int, last: Figure) -> tuple[Cause, ...]:
    """Keys of two configs that make the difference, each alone; else all that were read and are not the same."""
    if before.origin is None or after.origin is None or not before.origin.config or not after.origin.config:
        return (_layers_cause(before, after),)
    facts = [{fact.key: fact for fact in model.provenance} for model in (before, after)]
    alone, together = [], []
    for key in dict.fromkeys((*facts[1], *facts[0])):
        was, now = (side[key].value if key in side else "absent" for side in facts)
        if was == now:
            continue
        cause = Cause(rule=f"`{key[:60]}`", was=was[:60], now=now[:60], source=printable(after.origin.source)[:200])
        together.append(cause)
        old = _with_key(after, before, key)
        without = None if old is None else _at(engine, old, workload, budget_bytes)
        if without is not None and not without.same_as(last):
            alone.append(structs.replace(cause, without=without))
    return tuple((alone or together or [_layers_cause(before, after)])[:_SEVERAL])


def _with_key(after: Model, before: Model, key: str) -> Model | None:
    """The model after, with one key of its config as it was before; None where that is no config."""
    if after.origin is None or before.origin is None:
        return None
    config = _put(after.origin.config, before.origin.config, key.split("."))
    try:
        return architectures.read(config, source=after.origin.source, name=after.name, infer=after.inferred)
    except ConfigError:
        return None


def _put(now: Mapping[str, Any], was: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """`now` with what `was` has at `path`."""
    key, rest = path[0], path[1:]
    made = dict(now)
    inner = was.get(key)
    if rest and isinstance(made.get(key), Mapping):
        made[key] = _put(made[key], inner if isinstance(inner, Mapping) else {}, rest)
    elif key in was:
        made[key] = inner
    else:
        made.pop(key, None)
    return made


def _layers_cause(before: Model, after: Model) -> Cause:
    """That the layers are others, where no config says why."""
    return Cause(
        rule="the layers",
        was=f"{len(before.layers)} layers, {len(before.collapsed())} kinds, {before.dtype}",
        now=f"{len(after.layers)} layers, {len(after.collapsed())} kinds, {after.dtype}",
        source=printable(after.origin.source)[:200] if after.origin is not None else "the description",
    )


_Asker = Callable[[Model], tuple[Figure, Figure, Callable[[], tuple[Cause, ...]]]]


def _diff(
    of: Of, before: str, after: str, rows: Iterator[tuple[Model, str, _Asker]], workload: Workload, budget_bytes: int
) -> Diff:
    changes, same, refused = [], 0, 0
    for model, engine, ask in rows:
        first, last, causes = ask(model)
        if first.total_bytes is None and last.total_bytes is None:
            refused += 1
        elif first.same_as(last):
            same += 1
        else:
            changes.append(Change(model=model, engine=engine, before=first, after=last, causes=causes()))
    return Diff(
        of=of,
        before=before,
        after=after,
        workload=workload,
        budget_bytes=budget_bytes,
        changes=tuple(changes),
        same=same,
        refused=refused,
    )
