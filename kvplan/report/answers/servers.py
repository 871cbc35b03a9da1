"""What `kvplan check --parse-only` shows: the servers of an input as they were read."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from msgspec import Struct

from kvplan.domain.servers import Server, Servers
from kvplan.domain.tables import Column, Table
from kvplan.errors import printable
from kvplan.report.blocks import Block, Heading, Notes, Rows, View

#: Characters of an option's value in a table.
_SHOWN = 60


class ServersAnswer(Struct, frozen=True):
    """The servers of several inputs."""

    key: ClassVar[str] = "servers"
    inputs: Sequence[Servers]

    @property
    def servers(self) -> list[Server]:
        """All of them, in the order of the inputs."""
        return [server for one in self.inputs for server in one.servers]

    def dicts(self) -> list[dict[str, Any]]:
        """One object a server."""
        return [server.to_dict() for server in self.servers]

    def rows(self) -> Rows:
        """One row a server; options and what else has parts as JSON."""
        columns = ("file", "line", "place", "engine", "version", "model", "options", "gpus", "env", "unknown", "gone")
        return columns, (
            {
                "file": server.file,
                "line": server.line,
                "place": server.place,
                **{key: value if isinstance(value, str) else json.dumps(value) for key, value in server.to_dict().items()},
            }
            for server in self.servers
        )

    def blocks(self, view: View) -> Iterator[Block]:
        """One table a server: what was read, and where."""
        for server in self.servers:
            yield Heading(heading(server))
            yield _table(server)
            said = remarks(server)
            if said:
                yield Notes(said)
        others = [name for one in self.inputs for name in one.others]
        if others:
            yield Notes([f"takes a card and is no server that kvplan knows: {', '.join(map(printable, others[:20]))}"])
        if not self.servers:
            yield Notes(["no server is started here"])


def heading(server: Server) -> str:
    """Engine, release, model and place, in one line."""
    where = f"{server.file}:{server.line}" if server.file else server.place
    engine = f"{server.engine} {server.version}".strip()
    return " · ".join(filter(None, (engine, printable(server.model or "no model named", 120), printable(where, 80))))


def cards(server: Server) -> str:
    """The cards that it is given, in words; empty where nothing says."""
    if server.gpus is None:
        return ""
    if isinstance(server.gpus, tuple):
        return ", ".join(map(str, server.gpus)) if server.gpus else "none"
    return str(server.gpus)


def remarks(server: Server) -> list[str]:
    """What its release does not have, and what its parser would refuse."""
    from kvplan.loading.servers.missing import missing_words

    return [*missing_words(server), *server.refused, *server.notes]


def _table(server: Server) -> Table:
    values = [(name, _shown(value), server.lines.get(name, 0)) for name, value in server.options.items()]
    values += [(name, _shown(value), 0) for name, value in server.env.items()]
    if cards(server):
        values.append(("cards", cards(server), 0))
    return Table(
        title="",
        columns=(
            Column(title="option", key="option", kind="name"),
            Column(title="value", key="value", room=40),
            Column(title="line", key="line", kind="count", drop=1, quiet=True),
        ),
        rows=tuple((name, value, line or None) for name, value, line in values),
        notes=() if values else ("nothing that changes memory was typed",),
    )


def _shown(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value), _SHOWN)
