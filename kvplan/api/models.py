"""The catalogue as a list: what `kvplan models` shows of each entry."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from kvplan.api.given import Source
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.errors import OptionError
from kvplan.loading.catalogue import listing, load, matching
from kvplan.report.answers.models import Entry

#: Where the price of one more token is taken.
PRICED_AT: Final = Workload(batch_size=1, seq_len=8192)


def entries(pattern: str = "") -> Iterator[Entry]:
    """Each model whose name has `pattern` in it (or matches it, where it has a `*`), by name; else a part of its hub id.

    They come from the listing that `make index` keeps, because working out all of them is most of a second; one that
    it lacks is worked out.
    """
    known = listed()
    found = list(matching(pattern))
    wanted = pattern.lower()
    if wanted and not found:  # a part of a hub id
        found = [name for name, entry in known.items() if wanted in (entry.hub or "").lower()]
    for name in found:
        yield known.get(name) or worked_out(name)


def listed() -> Mapping[str, Entry]:
    """The kept listing, by name; empty where there is none yet."""
    path = listing()
    rows = msgspec.json.decode(path.read_bytes(), type=list[Entry]) if path.is_file() else []
    return {entry.model: entry for entry in rows}


def worked_out(name: str) -> Entry:
    """The row of one catalogue entry, from its spec."""
    return entry_of(name, load(name)[0])


def entry_of(source: Source, model: Model) -> Entry:
    """The row of any model, as it was named and as it was read."""
    from kvplan.engines import make_engine
    from kvplan.engines.kernel.engine import footprint

    hub = next((fact.value for fact in model.provenance if fact.key == "hub"), "")
    return Entry.of(footprint(make_engine("ideal", {}).on(model), PRICED_AT), hub, _stored(source, model))


def _stored(name: Source, model: Model) -> int | None:
    """The bytes of its checkpoint, where they are known."""
    from kvplan.loading.weights.find import find_weights

    try:
        return find_weights(name, model).bytes
    except OptionError:
        return None
