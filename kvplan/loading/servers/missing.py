"""Words for options that a release does not have: which do, and what may be meant."""

from collections.abc import Iterator
from typing import Final

from kvplan.domain.servers import Server
from kvplan.errors import nearest
from kvplan.loading.servers.readers import READERS

_CUTOFF: Final = 0.75


def missing_words(server: Server) -> Iterator[str]:
    """One sentence a word that was not known."""
    reader = next((one for one in READERS if one.name == server.engine), None)
    for name in server.unknown:
        seen = reader.seen(name) if reader is not None else ""
        near = nearest(name, reader.names(server.version) if reader is not None else (), _CUTOFF)
        of = f"{server.engine} {server.version}".strip()
        said = f"; {seen}" if seen else f"; did you mean `{near}`?" if near else ""
        yield f"`{name}` is unknown to {of}{said}"
    for name in server.gone:
        seen = reader.seen(name) if reader is not None else ""
        yield f"`{name}` is gone from {server.engine}{f' ({seen})' if seen else ''}"
