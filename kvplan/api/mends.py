"""What may be changed of a server that does not start: one change at a time, what costs its users least first."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from kvplan.engines import about
from kvplan.engines.kernel.commandline.commands import Commands
from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.engines.kernel.search import largest
from kvplan.errors import KvplanError
from kvplan.loading.servers.readers import reader_of
from kvplan.questions.changes import SPLITS, narrower_dtypes
from kvplan.questions.check import Checked
from kvplan.questions.fit.fixes import narrower

#: Tokens that a length is rounded down to, for people.
_ROUND: Final = 256
#: The part of the length asked for that must be left, for it to be the first change.
_MOST_OF_IT: Final = 2 / 3
_MOST_LAYERS: Final = 512
#: The widest cache dtypes are tried first, and of them no more than these.
_DTYPES: Final = 6


class Mend(Struct, frozen=True, kw_only=True):
    """A change: options as they are typed, by their `dest`."""

    options: Mapping[str, Any]


#: Whether a server starts with these options beside its own.
Tried = Callable[[Mapping[str, Any]], Checked]


def mends(one: Checked, cards: int, tried: Tried) -> Iterator[Mend]:
    """Changes with which it starts, in this order, the least of each kind.

    1. shorter requests, where at least two thirds of the length are left;
    2. a larger part of each card;
    3. more of the cards that it is given, where the engine splits heads;
    4. a narrower cache, in what is surest first;
    5. fewer requests at once;
    6. experts, then layers, in host memory;
    7. shorter requests, whatever is left.

    Args:
        cards: how many the server sees.
        tried: its answer with other options.
    """
    reader = reader_of(one.server.engine)
    shorter = _shorter(one, reader)
    for options, enough in ((shorter, _most_is_left(one)), (_larger(one, reader), True)):
        if options and enough and _starts(tried, options):
            yield Mend(options=options)
    yield from _first(_splits(one, reader, cards), tried)
    yield from _first(_narrower(one, reader), tried)
    yield from _first(_fewer(one, reader), tried)
    yield from _to_host(one, reader, tried)
    if shorter and not _most_is_left(one) and _starts(tried, shorter):
        yield Mend(options=shorter)


def _starts(tried: Tried, options: Mapping[str, Any]) -> bool:
    return tried(options).outcome.status == "starts"


def _first(changes: Iterator[Mapping[str, Any]], tried: Tried) -> Iterator[Mend]:
    """The first of one kind that helps."""
    found = next((options for options in changes if _starts(tried, options)), None)
    if found is not None:
        yield Mend(options=found)


def _shorter(one: Checked, reader: Commands) -> Mapping[str, Any]:
    """The longest request that starts; nothing where no length helps."""
    longest = one.outcome.longest
    if not longest:
        return {}
    option = about(reader.name).roles.get("context", "")
    return reader.limited(one.server.options, reader.typed_as(option), longest // _ROUND * _ROUND or longest)


def _most_is_left(one: Checked) -> bool:
    found = one.outcome
    if found.longest is None:
        return False
    question = found.receipt.question if found.receipt is not None else None
    asked = found.laid.context if found.laid is not None else None
    if question is not None:
        typed = question.options.get(about(question.engine).roles.get("context", ""))
        asked = typed if isinstance(typed, int) and typed > 0 else question.model.max_tokens
    return asked is None or found.longest >= _MOST_OF_IT * asked


def _larger(one: Checked, reader: Commands) -> Mapping[str, Any]:
    option = about(reader.name).roles.get("utilization", "")
    return {reader.typed_as(option): one.outcome.share} if option and one.outcome.share else {}


def _splits(one: Checked, reader: Commands, cards: int) -> Iterator[Mapping[str, Any]]:
    option = about(reader.name).roles.get("tensor_parallel", "")
    if not option or not reader.reserves or reader.spreads:
        return
    name = reader.typed_as(option)
    now = one.server.options.get(name, 1)
    yield from ({name: many} for many in SPLITS if isinstance(now, int) and now < many <= cards)


def _narrower(one: Checked, reader: Commands) -> Iterator[Mapping[str, Any]]:
    """Cache dtypes as the engine's command line takes them, those first that it is surest of."""
    found = one.outcome
    question = found.receipt.question if found.receipt is not None else found.fit.question if found.fit is not None else None
    try:
        names = [str(each.options["kv_dtype"]) for each in narrower(question)] if question is not None else []
    except KvplanError:
        names = []
    if question is None:
        names = [row.name for row in narrower_dtypes(reader.name)]
    for name in names[:_DTYPES]:
        typed = _typed(about(reader.name).cache_dtypes[name], reader)
        if typed:
            yield typed


def _typed(text: str, reader: Commands) -> Mapping[str, Any]:
    """What an engine's own words set, by `dest`: flags, or a variable."""
    name, equals, value = text.partition("=")
    environment = {name: Word(value)} if equals and name.isupper() else {}
    words = () if environment else tuple(map(Word, text.split()))
    if words and not words[0].text.startswith("-"):
        return {}
    return reader.read((), words, Call(words=(), environment=environment), "").options


def _fewer(one: Checked, reader: Commands) -> Iterator[Mapping[str, Any]]:
    option = reader.typed_as(about(reader.name).roles.get("sequences", "")) or reader.slots
    now = one.server.options.get(option)
    most = now if isinstance(now, int) and not isinstance(now, bool) else 1 << 10
    if option:
        yield from ({option: 1 << power} for power in range(10, -1, -1) if 1 << power < most)


def _to_host(one: Checked, reader: Commands, tried: Tried) -> Iterator[Mend]:
    """The fewest experts, else the most layers that the cards hold."""
    roles, laid = about(reader.name).roles, one.outcome.laid
    if laid is None:
        return
    experts, layers = reader.typed_as(roles.get("cpu_experts", "")), reader.typed_as(roles.get("layers", "")) or reader.layers
    blocks = min(sum(place.blocks for place in laid.spread.places), _MOST_LAYERS)
    if experts and _starts(tried, {experts: blocks}):
        kept = largest(lambda many: _starts(tried, {experts: blocks - many}), ceiling=blocks - 1)
        yield Mend(options={experts: blocks - kept})
    if layers and _starts(tried, {layers: 1}):
        yield Mend(options={layers: largest(lambda many: _starts(tried, {layers: many}), ceiling=blocks)})
