"""`kvplan.check`: the servers of files and command lines as their engines would read them, and whether they start."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.api.given import Count, size
from kvplan.api.memory import known_weights
from kvplan.api.placement import card_of, laid
from kvplan.api.places import places, said
from kvplan.api.receipt import split_of
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.budget import gpu_memory
from kvplan.domain.gpus import Gpu, counted
from kvplan.domain.gpus import gpu as device
from kvplan.domain.machine import NOTHING, Learned
from kvplan.domain.servers import Server, Servers
from kvplan.domain.spread import Card
from kvplan.engines import about, option_names
from kvplan.engines.kernel.commandline.asked import Asked
from kvplan.engines.kernel.commandline.commands import Commands
from kvplan.errors import KvplanError, OptionError
from kvplan.loading.machine import read_machine
from kvplan.loading.servers.missing import missing_words
from kvplan.loading.servers.models import Named, given_configs, named_model
from kvplan.loading.servers.read import command_servers, read_servers, servers_of
from kvplan.loading.servers.readers import READERS
from kvplan.questions.check import EMPTY, Check, Checked, Outcome, outcome, placed, refused, undecided
from kvplan.questions.fit.question import Question
from kvplan.report.notebook import displayed

_MOST_CARDS: Final = 16
_ALL: Final = -2  # layers: every one, whatever fits

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
    return checked(read, gpu=gpu, memory=memory, machine=machine, model_config=model_config, infer=infer)


def checked(
    read: Sequence[Servers],
    *,
    gpu: str,
    memory: Count | None = None,
    machine: str | Path | None = None,
    model_config: Sequence[str] = (),
    infer: bool = False,
) -> Check:
    """As `check`, of inputs that were read already."""
    place = Place(
        cards=_cards(gpu),
        memory_bytes=None if memory is None else size(memory, "«memory»"),
        learned=NOTHING if machine is None else read_machine(machine),
        configs=given_configs(tuple(model_config)),
        infer=infer,
    )
    found = tuple(one for servers in read for one in _input(servers, place))
    return Check(servers=found, others=tuple(name for servers in read for name in servers.others))


class Place(Struct, frozen=True, kw_only=True):
    """Where the servers run: the cards in their order, and what is known of them and of models."""

    cards: tuple[Gpu, ...]
    memory_bytes: int | None
    learned: Learned
    configs: Mapping[str, Path]
    infer: bool


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


class _Started(Struct):
    """What runs on a card: who, and how much of it is taken."""

    names: list[str]
    taken: int = 0


def _input(servers: Servers, place: Place) -> Iterator[Checked]:
    """The servers of one input, in their order; those on the same cards see what is left."""
    running: dict[int | str, _Started] = {}
    empty: dict[str, Server] = {}
    for written in servers.servers:
        server = _within(written, empty.get(written.engine))
        if not server.model:
            empty[server.engine] = server
        shared = _shared(server)
        before = [running[card] for card in shared if card in running] if not server.alternative else []
        found = _one(server, place, max((one.taken for one in before), default=0))
        names = tuple(dict.fromkeys(name for one in before for name in one.names))
        yield replace(found, beside=names)
        if not server.alternative and found.outcome.status != "does not start":
            for card in shared:
                one = running.setdefault(card, _Started([]))
                one.names.append(server.place or server.model or server.engine)
                one.taken += found.outcome.taken_bytes


def _within(server: Server, before: Server | None) -> Server:
    """A model that is loaded into a server which was started without one has that server's release, options and cards."""
    if before is None or not server.model or not next(one for one in READERS if one.name == server.engine).starts_empty:
        return server
    return replace(
        server,
        version=server.version or before.version,
        options={**before.options, **server.options},
        env={**before.env, **server.env},
        gpus=server.gpus if server.gpus is not None else before.gpus,
    )


def _shared(server: Server) -> tuple[int | str, ...]:
    """The cards that others of the same input may have, too: those with a number or a name; "all" begin with the first."""
    if isinstance(server.gpus, tuple):
        return server.gpus
    return (0,) if server.gpus == "all" else ()


def _one(server: Server, place: Place, taken: int) -> Checked:
    """A server's outcome, with what of it was not counted."""
    reader = next(one for one in READERS if one.name == server.engine)
    notes = list(missing_words(server)) + list(server.notes)
    stops = [name for name in server.unknown if reader.refuses_unknown and not name.isupper()]
    if stops or server.refused:
        said = server.refused[0] if server.refused else f"unrecognized arguments: {' '.join(stops)}"
        return Checked(server=server, outcome=refused(f"its parser refuses it: {said}"), notes=tuple(notes))
    if not about(server.engine).predicted:
        return Checked(server=server, outcome=undecided(f"{server.engine} is not predicted by this release"), notes=tuple(notes))
    asked = reader.asked(server.options, server.env, option_names(server.engine))
    if asked.not_counted:
        notes.append(f"not counted: {', '.join(asked.not_counted)}")
    if asked.undecided:
        return Checked(server=server, outcome=undecided(f"no value here for {', '.join(asked.undecided)}"), notes=tuple(notes))
    if not server.model and reader.starts_empty:
        notes.append("no model is named: what it loads when it is asked is not counted")
        return Checked(server=server, outcome=EMPTY, notes=tuple(notes))
    if not server.model or server.model == "unresolved":
        return Checked(server=server, outcome=undecided("no model is named here"), notes=tuple(notes))
    if not asked.on_cards:
        return Checked(server=server, outcome=undecided("none of its layers are on a card"), notes=tuple(notes))
    try:
        found, named = _asked(server, asked, place, taken, reader=reader, notes=notes)
    except KvplanError as problem:
        return Checked(server=server, outcome=undecided(str(problem)), notes=tuple(notes))
    if named.note:
        notes.append(named.note)
    return Checked(server=server, outcome=found, notes=tuple(notes))


def _asked(
    server: Server, asked: Asked, place: Place, taken: int, *, reader: Commands, notes: list[str]
) -> tuple[Outcome, Named]:
    """The question that a server is, and its outcome."""
    named = named_model(server.model or "", place.configs, infer=place.infer, aliases=reader.known_as(server.model or ""))
    engine = _spec(server)
    options: dict[str, Any] = dict(asked.options)
    if asked.drafter and "draft" in option_names(engine):
        options["draft"] = named_model(asked.drafter, place.configs, infer=place.infer).model
    split = len(_visible(server, place)) if asked.splits_all else split_of(engine, options)
    weights = known_weights(named.source, named.model, None, named.weights_dtype)
    base: dict[str, Any] = {
        "model": named.model, "weights": weights, "weights_given": named.weights_dtype is not None, "engine": engine,
        "tensor_parallel": split, "options": options, "memory_bytes": place.memory_bytes, "learned": place.learned,
    }  # fmt: skip
    reserves = reader.reserves
    if not reserves:
        base |= {"context": asked.context or named.model.max_tokens, "batch_size": asked.sequences or 1}
    sized = Question(**base, gpu=place.cards[0])
    devices = sized.devices
    cards = _visible(server, place)
    card = min(cards[: max(1, devices)] or cards, key=lambda one: one.most_bytes or 0)
    spread = reader.spreads and not asked.splits_all
    if spread and places(engine) and (len(cards) > 1 or asked.layers is not None or said(engine, options)):
        layers = about(engine).roles.get("layers", "")
        if layers in server.options:
            options[layers] = _ALL if asked.layers is None else asked.layers
        found = laid(
            named.model,
            weights,
            named.weights_dtype,
            tuple(_left_of(one, place.memory_bytes, taken) for one in cards[:_MOST_CARDS]),
            engine,
            options,
            context=base["context"],
            requests=base["batch_size"],
            brief=True,
        )
        return (undecided(found.reason) if isinstance(found, NotPredicted) else placed(found)), named
    if spread and len(cards) > 1 and place.memory_bytes is None:
        base["memory_bytes"] = sum(gpu_memory(one).bytes for one in cards)
        notes.append(f"its layers lie on {len(cards)} cards, counted as one memory")
    given = server.gpus if isinstance(server.gpus, int) else len(server.gpus) if isinstance(server.gpus, tuple) else None
    if given is not None and given < devices:
        notes.append(f"it takes {devices} cards and this process is given {given}: the others must be on other nodes")
    if asked.layers is not None:
        notes.append(f"{asked.layers} of its layers are on cards; counted as if all were")
    question = Question(**base, gpu=card, gpus=devices)
    alone = outcome(question, reserves=reserves)
    if not taken:
        return alone, named
    left = max(0, _total(alone) - taken)
    question = replace(question, free=(left,)) if _ledger(alone) else replace(question, memory_bytes=left)
    return outcome(question, reserves=reserves), named


def _left_of(entry: Gpu, memory_bytes: int | None, taken: int) -> Card:
    """A card, less what those that started before take of it."""
    card = card_of(entry, memory_bytes)
    return card_of(entry, memory_bytes, max(0, card.memory.bytes - taken)) if taken else card


def _ledger(found: Outcome) -> bool:
    budget = found.receipt.budget if found.receipt is not None else found.fit.budget if found.fit is not None else None
    return budget is not None and budget.ledger is not None


def _total(found: Outcome) -> int:
    budget = found.receipt.budget if found.receipt is not None else found.fit.budget if found.fit is not None else None
    return budget.memory.bytes if budget is not None else 0


def _spec(server: Server) -> str:
    """The engine with its release, where one is named that its rules can be asked for."""
    numbered = server.version[:1].isdigit()
    return f"{server.engine}@{server.version}" if numbered else server.engine


def _visible(server: Server, place: Place) -> list[Gpu]:
    """The cards that a server sees: those that it is given, else all."""
    if isinstance(server.gpus, tuple):
        return [place.cards[one] for one in server.gpus if isinstance(one, int) and one < len(place.cards)] or [place.cards[0]]
    if isinstance(server.gpus, int):
        return list(place.cards[: server.gpus])
    return list(place.cards)
