"""`kvplan.check`: the servers of files and command lines as their engines would read them, and whether they start."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from kvplan.api.check_server import Place, served
from kvplan.api.given import Count, size
from kvplan.domain.gpus import Gpu, counted
from kvplan.domain.gpus import gpu as device
from kvplan.domain.machine import NOTHING
from kvplan.domain.servers import Server, Servers
from kvplan.errors import OptionError
from kvplan.loading.machine import read_machine
from kvplan.loading.servers.models import given_configs
from kvplan.loading.servers.read import command_servers, read_servers, servers_of
from kvplan.loading.servers.readers import reader_of
from kvplan.questions.check import Check, Checked
from kvplan.report.notebook import displayed

displayed(Check, "kvplan.report.answers.check:CheckAnswer", several=False)


def parsed(
    files: Iterable[str | Path] = (),
    *,
    command: Sequence[str] | str | None = None,
    text: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> list[Servers]:
    """What is read out of files, a command line and a text, one value an input; nothing is computed, and nothing is run.

    Args:
        files: shell scripts, compose files, manifests, units, Modelfiles, settings files.
        command: a command line, in words or as one text.
        text: what would stand in a file, where there is none.
        variables: values of variables that the inputs use.

    Raises:
        InputError: an input that cannot be read.
    """
    found = [read_servers(path, variables) for path in files]
    if isinstance(command, str):
        found.append(servers_of(command, "command.sh", variables))
    elif command:
        found.append(command_servers(tuple(command), variables))
    if text is not None:
        found.append(servers_of(text, "", variables))
    return found


def check(
    files: Iterable[str | Path] = (),
    *,
    gpu: str,
    command: Sequence[str] | str | None = None,
    text: str | None = None,
    variables: Mapping[str, str] | None = None,
    memory: Count | None = None,
    machine: str | Path | None = None,
    model_config: Sequence[str] = (),
    infer: bool = False,
) -> Check:
    """Whether the servers of files, a command line and a text start on a card, each with its engine's ledger.

    Servers that are given the same cards start one after the other, and each is left what those before it do not take.

    Args:
        files, command, text, variables: as `parsed` takes them.
        gpu: the card, `NAME` or `NAME:N`; several with commas are the cards 0, 1 … of the machine.
        memory: bytes of each card, instead of the catalogue's.
        machine: a file that `kvplan audit LOG --save` wrote.
        model_config: `NAME=config.json` for models that are local or private, by the name that the input has.
        infer: read an unknown architecture by shape.

    Returns:
        A `Check`: `.starts`, `.status`, `.servers` (each with `.server`, `.outcome`, `.notes`), `.to_dict()`.

    Raises:
        InputError: an input that cannot be read.
        OptionError: an unknown card, or another bad value.
    """
    read = parsed(files, command=command, text=text, variables=variables)
    return checked(read, place_of(gpu, memory=memory, machine=machine, model_config=model_config, infer=infer))


def checked(read: Sequence[Servers], place: Place) -> Check:
    """As `check`, of inputs that were read already."""
    found = tuple(one for servers in read for one in _input(servers, place))
    return Check(servers=found, others=tuple(name for servers in read for name in servers.others))


def place_of(
    gpu: str,
    *,
    memory: Count | None = None,
    machine: str | Path | None = None,
    model_config: Sequence[str] = (),
    infer: bool = False,
) -> Place:
    """Where servers run, of what `check` is given.

    Raises:
        OptionError: an unknown card, or another bad value.
    """
    return Place(
        cards=_cards(gpu),
        memory_bytes=None if memory is None else size(memory, "«memory»"),
        learned=NOTHING if machine is None else read_machine(machine),
        configs=given_configs(tuple(model_config)),
        infer=infer,
    )


def _cards(names: str) -> tuple[Gpu, ...]:
    """The cards of a machine: `h100`, `h100:8`, or one name a card."""
    if not isinstance(names, str):
        raise OptionError("say on which card: «gpu NAME»", hint="`kvplan gpus` lists them")
    found: list[Gpu] = []
    for part in names.split(","):
        name, count = counted(part)
        if not name.strip():
            raise OptionError("«gpu»: a card's name is missing", hint="`kvplan gpus` lists them")
        found += [device(name)] * min(count or 1, 4096)
    return tuple(found)


class Running(Struct):
    """The servers of one input that were started so far, and how much of each card they take."""

    names: dict[int | str, list[str]] = field(default_factory=dict)
    taken: dict[int | str, int] = field(default_factory=dict)
    empty: dict[str, Server] = field(default_factory=dict)

    def within(self, server: Server) -> Server:
        """A server as it runs: a model that is loaded into one which was started without has that one's release and options."""
        before = self.empty.get(server.engine)
        if before is None or not server.model or not reader_of(server.engine).starts_empty:
            return server
        return replace(
            server,
            version=server.version or before.version,
            options={**before.options, **server.options},
            env={**before.env, **server.env},
            gpus=server.gpus if server.gpus is not None else before.gpus,
        )

    def check(self, server: Server, place: Place) -> Checked:
        """Whether the next one starts with what those before it leave of its cards."""
        found = served(server, place, self.left_out(server))
        return replace(found, beside=tuple(dict.fromkeys(name for card in self._with(server) for name in self.names[card])))

    def left_out(self, server: Server) -> int:
        """Bytes of its fullest card that those before it have."""
        return max((self.taken[card] for card in self._with(server)), default=0)

    def _with(self, server: Server) -> list[int | str]:
        """Its cards that others run on, too; models that take turns have none."""
        return [card for card in _shared(server) if card in self.taken] if not server.alternative else []

    def start(self, found: Checked) -> None:
        """It runs from now on, where it can."""
        server = found.server
        if not server.model:
            self.empty[server.engine] = server
        if server.alternative or found.outcome.status == "does not start":
            return
        for card in _shared(server):
            self.names.setdefault(card, []).append(server.place or server.model or server.engine)
            self.taken[card] = self.taken.get(card, 0) + found.outcome.taken_bytes


def _input(servers: Servers, place: Place) -> Iterator[Checked]:
    """The servers of one input, in their order; those on the same cards see what is left."""
    running = Running()
    for written in servers.servers:
        found = running.check(running.within(written), place)
        running.start(found)
        yield found


def _shared(server: Server) -> tuple[int | str, ...]:
    """The cards that others of the same input may have, too: those with a number or a name; "all" begin with the first."""
    if server.pod:
        return ()
    if isinstance(server.gpus, tuple):
        return server.gpus
    return (0,) if server.gpus == "all" else ()
