"""One server that `check` read, on its cards: the question that it is, and the outcome."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.api.drafters import Drafter, drafter_of
from kvplan.api.memory import known_weights
from kvplan.api.placement import laid
from kvplan.api.places import places
from kvplan.api.receipt import split_of
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.budget import gpu_memory
from kvplan.domain.gpus import Gpu
from kvplan.domain.machine import Learned
from kvplan.domain.model import Model
from kvplan.domain.servers import Server
from kvplan.domain.spread import Card
from kvplan.engines import about, option_names
from kvplan.engines.kernel.commandline.asked import Asked
from kvplan.engines.kernel.commandline.commands import Commands
from kvplan.engines.kernel.commandline.words import UNRESOLVED
from kvplan.errors import KvplanError
from kvplan.loading.servers.missing import missing_words
from kvplan.loading.servers.models import Named, named_model
from kvplan.loading.servers.readers import reader_of
from kvplan.questions.check import EMPTY, Checked, Outcome, beyond, outcome, placed, refused, undecided
from kvplan.questions.fit.question import Question
from kvplan.questions.placement.making import card_of

_MOST_CARDS: Final = 16
_ROPES: Final = frozenset({"rope_theta", "rope_scaling", "rope_parameters"})  # keys of a config
_ALL: Final = -2  # layers: every one, whatever fits


class Place(Struct, frozen=True, kw_only=True):
    """Where the servers run: the cards in their order, and what is known of them and of models."""

    cards: tuple[Gpu, ...]
    memory_bytes: int | None
    learned: Learned
    configs: Mapping[str, Path]
    infer: bool


def served(server: Server, place: Place, taken: int = 0, *, brief: bool = False) -> Checked:
    """A server's outcome, with what of it was not counted.

    Args:
        taken: bytes of its cards that others have.
        brief: whether it starts, without what would make it start.
    """
    reader = reader_of(server.engine)
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
    if not server.model or server.model == UNRESOLVED:
        return Checked(server=server, outcome=undecided("no model is named here"), notes=tuple(notes))
    if not asked.on_cards:
        return Checked(server=server, outcome=undecided("none of its layers are on a card"), notes=tuple(notes))
    try:
        found, named = _asked(server, asked, place, taken, reader=reader, notes=notes, brief=brief)
    except KvplanError as problem:
        return Checked(server=server, outcome=undecided(str(problem)), notes=tuple(notes))
    if named.note:
        notes.append(named.note)
    return Checked(server=server, outcome=found, notes=tuple(notes))


def _asked(
    server: Server, asked: Asked, place: Place, taken: int, *, reader: Commands, notes: list[str], brief: bool
) -> tuple[Outcome, Named]:
    """The question that a server is, and its outcome."""
    named = named_model(server.model or "", place.configs, infer=place.infer, aliases=reader.known_as(server.model or ""))
    engine = _spec(server)
    context, sequences = asked.context or named.model.max_tokens, asked.sequences or 1
    drafter = None
    if asked.drafter:
        drafter = drafter_of(
            asked.drafter, engine, reader, place.configs, context=context or 1, sequences=sequences, infer=place.infer
        )
        notes += [drafter.note] if drafter.note else []
    options = dict(asked.options) | ({"draft": drafter.draft} if drafter is not None and drafter.draft is not None else {})
    base: dict[str, Any] = {
        "model": named.model,
        "weights": known_weights(named.source, named.model, None, named.weights_dtype),
        "weights_given": named.weights_dtype is not None,
        "engine": engine,
        "tensor_parallel": len(visible(server, place)) if asked.splits_all else split_of(engine, options),
        "options": options,
        "memory_bytes": place.memory_bytes,
        "learned": place.learned,
    }
    if not reader.reserves:
        base |= {"context": context, "batch_size": sequences}
    taken += _beside(drafter, notes)
    said, derived = reader.too_long(server.options, server.env, named.model) if _whole(named.model) else ("", 0)
    if said:
        options[about(engine).roles["context"]] = derived
    if reader.spreads and not asked.splits_all and places(engine):
        found = _spread(server, asked, base, named, place, taken, brief=brief)
    else:
        found = _together(server, asked, base, place, taken, reader=reader, notes=notes, brief=brief)
    found = found if drafter is None else drafter.within(found)
    return (beyond(found, said, derived) if said else found), named


def _whole(model: Model) -> bool:
    """Whether the config is kept with its ropes, so that it says how long requests may be."""
    return model.max_tokens is not None and bool(_ROPES & model.config_keys)


def _beside(drafter: Drafter | None, notes: list[str]) -> int:
    """What a drafter takes as a model of its own."""
    if drafter is None or not drafter.beside_bytes:
        return 0
    from kvplan.units import human_bytes

    notes.append(f"its drafter takes {human_bytes(drafter.beside_bytes)}: weights, and a cache for the same tokens")
    return drafter.beside_bytes


def _spread(
    server: Server, asked: Asked, base: dict[str, Any], named: Named, place: Place, taken: int, *, brief: bool
) -> Outcome:
    """Of an engine that deals layers out to cards and the host."""
    engine, options = base["engine"], base["options"]
    layers = about(engine).roles.get("layers", "")
    if layers in server.options:
        options[layers] = _ALL if asked.layers is None else asked.layers
    found = laid(
        named.model,
        base["weights"],
        named.weights_dtype,
        tuple(_left_of(one, place.memory_bytes, taken) for one in visible(server, place)[:_MOST_CARDS]),
        engine,
        options,
        context=base["context"],
        requests=base["batch_size"],
        brief=True,
        typed=asked.context is not None,
    )
    if isinstance(found, NotPredicted):
        return undecided(found.reason)
    below = None if brief else outcome(Question(**base, gpu=place.cards[0]), reserves=False).tiers
    return replace(placed(found), below=below)


def _together(
    server: Server,
    asked: Asked,
    base: dict[str, Any],
    place: Place,
    taken: int,
    *,
    reader: Commands,
    notes: list[str],
    brief: bool,
) -> Outcome:
    """Of an engine whose cards hold equal parts."""
    devices = Question(**base, gpu=place.cards[0]).devices
    cards = visible(server, place)
    card = min(cards[: max(1, devices)] or cards, key=lambda one: one.most_bytes or 0)
    if reader.spreads and not asked.splits_all and len(cards) > 1 and place.memory_bytes is None:
        base["memory_bytes"] = sum(gpu_memory(one).bytes for one in cards)
        notes.append(f"its layers lie on {len(cards)} cards, counted as one memory")
    given = server.gpus if isinstance(server.gpus, int) else len(server.gpus) if isinstance(server.gpus, tuple) else None
    if given is None and devices > len(place.cards):  # nothing in the input says how many there are
        named = f"{len(place.cards)} were named: the others are" if len(place.cards) > 1 else "one was named: each is"
        notes.append(f"it takes {devices} cards and {named} counted like it")
    if given is not None and given < devices:
        notes.append(f"it takes {devices} cards and this process is given {given}: the others must be on other nodes")
    if len({one.id for one in cards[:devices]}) > 1:
        notes.append(f"its cards differ: each is counted as the smallest, {card.id}")
    if asked.layers is not None:
        notes.append(f"{asked.layers} of its layers are on cards; counted as if all were")
    question = Question(**base, gpu=card, gpus=devices)
    alone = outcome(question, reserves=reader.reserves, brief=brief or taken > 0)
    answer = alone.receipt or alone.fit
    if not taken or answer is None:
        return alone
    left = max(0, answer.budget.memory.bytes - taken)
    measured = answer.budget.ledger is not None
    question = replace(question, free=(left,)) if measured else replace(question, memory_bytes=left)
    return outcome(question, reserves=reader.reserves, brief=brief)


def _left_of(entry: Gpu, memory_bytes: int | None, taken: int) -> Card:
    """A card, less what those that started before take of it."""
    card = card_of(entry, memory_bytes)
    return card_of(entry, memory_bytes, max(0, card.memory.bytes - taken)) if taken else card


def _spec(server: Server) -> str:
    """The engine with its release, where one is named that its rules can be asked for."""
    numbered = server.version.removeprefix("b")[:1].isdigit()  # releases, and llama.cpp's builds
    return f"{server.engine}@{server.version}" if numbered else server.engine


def visible(server: Server, place: Place) -> list[Gpu]:
    """The cards that a server sees: those that it is given, else all."""
    if isinstance(server.gpus, tuple):
        return [place.cards[one] for one in server.gpus if isinstance(one, int) and one < len(place.cards)] or [place.cards[0]]
    if isinstance(server.gpus, int):
        return list(place.cards[: server.gpus])
    return list(place.cards)
