"""Ollama over the cards of a question: what llama-server is started with there, and what its own `--fit` then leaves on each.

The places are llama.cpp's; what may be changed is what Ollama has words for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from kvplan.domain.ledger import Line
from kvplan.domain.model import Model
from kvplan.domain.spread import Card, Place, Spread
from kvplan.domain.stored import StoredTensor
from kvplan.engines.kernel.engine import Serving
from kvplan.engines.kernel.tensors import At
from kvplan.engines.llama_cpp.ledger import CONTEXT as DRIVER
from kvplan.engines.llama_cpp.ledger import FILLED, WEIGHTS
from kvplan.engines.llama_cpp.memory import Part
from kvplan.engines.llama_cpp.options import AUTO, LlamaCppOptions
from kvplan.engines.llama_cpp.spread import Move
from kvplan.engines.llama_cpp.spread import Spreading as Behind
from kvplan.engines.ollama.engine import Ollama, OllamaOn
from kvplan.engines.ollama.options import OllamaOptions
from kvplan.engines.ollama.printed import Held
from kvplan.engines.ollama.releases import behind
from kvplan.errors import Refused
from kvplan.units import MIB

#: What llama-server's --fit keeps free of each card (LLAMA_ARG_FIT_TARGET).
MARGIN: Final = 1024 * MIB
#: Options that say where things lie.
PLACING: Final = ("num_gpu", "main_gpu", "sched_spread")
#: Cache types that a shorter context is traded for, from the best to the smallest.
_TYPES: Final = ("f16", "q8_0", "q4_0")


class Spreading:
    """One model, the server's variables and a request, some cards."""

    own_why = "by its default for this memory"

    def __init__(
        self,
        model: Model,
        options: OllamaOptions,
        cards: Sequence[Card],
        weights: Line,
        tensors: Sequence[StoredTensor],
        *,
        altered: bool = False,
        version: str = "",
    ) -> None:
        """The cards are told to Ollama where nobody has told it others; `altered`: it is a change that is tried.

        Raises:
            Refused: it does not run the model so, or this release does not with llama-server.
        """
        self.altered = altered
        told: dict[str, Any] = {}
        if not options.device_memory_bytes and cards:
            capability = min((_capability(card) for card in cards), default=0)
            told = {"device_memory_bytes": min(card.memory.bytes for card in cards), "compute_capability": capability}
        if options.gpus == 1 and cards:  # a plan tells the memory of one card, whatever the member names
            told["gpus"] = len(cards)
        self.model, self.options, self.cards, self.weights, self.tensors = (
            model,
            replace(options, **told),
            tuple(cards),
            weights,
            tensors,
        )
        self.version = version
        on = Ollama(self.options, version or None).on(model)
        if not isinstance(on, OllamaOn):
            raise Refused("where a release before 0.30 puts layers is not predicted", see="-e ollama")
        self.on = on
        self._behind: dict[tuple[int, int], Behind] = {}

    @property
    def ceiling(self) -> int:
        """Tokens that the model was made for."""
        return self.on.trained

    def behind(self, context: int, requests: int) -> tuple[Behind, int, int]:
        """llama.cpp's places as Ollama's command line asks for them, the tokens of a slot, and the slots."""
        tokens, slots = self.on.slots(context, requests)
        launch = self.on.launched(tokens, slots)
        key = (launch.batch, launch.runner.num_gpu)
        if key not in self._behind:
            cards = self.cards
            if launch.runner.main_gpu is not None and len(launch.devices) == 1 and len(cards) > 1:
                free = [card.free_bytes or card.memory.bytes for card in cards]  # all of it on the one card that has most
                cards = (cards[free.index(max(free))],)
            kept = self.options.cache_type or None
            flags = LlamaCppOptions(
                cache_type_k=kept,
                cache_type_v=kept,
                flash_attn=launch.flash,
                batch=launch.batch,
                ubatch_size=launch.batch,
                n_gpu_layers=AUTO if launch.runner.num_gpu < 0 else launch.runner.num_gpu,
                embeddings=launch.embedding,
                mmap=launch.load_mode != "none",
            )
            version = behind(self.on.engine.release) or ""
            self._behind[key] = Behind(self.model, flags, cards, self.weights, self.tensors, version=version)
        return self._behind[key], tokens, slots

    def at(self, context: int, requests: int) -> Spread:
        """Everything, device by device.

        Raises:
            Refused: Ollama holds no such requests, or llama-server does not start so.
        """
        self.on.check(At(context, requests))
        served, tokens, slots = self.behind(context, requests)
        found = served.at(tokens, slots)
        notes = found.notes if self.altered else (*found.notes, *self.on.offloading())
        if self.options.num_gpu is None:
            found = replace(found, places=tuple(map(_with_margin, found.places)))
        settings = {name: getattr(self.options, name) for name in PLACING if getattr(self.options, name) not in {None, False}}
        return replace(
            found, context=context, requests=requests, command=self.command(context, requests), settings=settings, notes=notes
        )

    def command(self, context: int, requests: int) -> str:
        """What to type."""
        return self.on.command(self._serving(context, requests))

    def _serving(self, context: int, requests: int) -> Serving:
        return Serving(model=self.model.hub or self.model.name, context=context, batch_size=requests)

    def changed(self, **more: Any) -> Spreading:
        """The same with other options."""
        options = replace(self.options, **more)
        return Spreading(self.model, options, self.cards, self.weights, self.tensors, altered=True, version=self.version)

    def lent_more(self) -> tuple[str, Spreading] | None:
        """The command that lends the GPU more of the shared memory, and the same afterwards; None where nothing does."""
        served, _, _ = self.behind(4096, 1)
        found = served.lent_more()
        if found is None:
            return None
        words, raised = found
        more = Spreading(self.model, self.options, raised.cards, self.weights, self.tensors, altered=True, version=self.version)
        return words, more

    def needs(self, context: int, requests: int) -> tuple[str, ...]:
        """What is typed beside the server's line."""
        return self.on.needs(self._serving(context, requests))

    def own_choice(self, context: int | None, requests: int) -> tuple[str, int, Spreading]:
        """What Ollama starts where nobody says more, and what `--fit` leaves on the cards."""
        usual = self.on.usual_workload()
        asked = usual.seq_len if context is None else context
        served, tokens, slots = self.behind(asked, requests)
        choice = served.choice(tokens, slots)
        layers = choice.n_gpu_layers
        words = f"num_ctx {tokens}"
        if layers != AUTO:
            words += f", {layers} of {served.layers} layers on the cards"
        kept = self if layers == AUTO else self.changed(num_gpu=layers)
        return f"{words}; `ollama ps`: {kept.shown(asked, requests)}", tokens, kept

    def shown(self, context: int, requests: int) -> str:
        """What `ollama ps` prints, over the bands of the compute buffers.

        Source: `MemorySize`: buffers alone, no driver; weights no more than the file; of a model with windows the second of
        its two caches alone, for both are printed under one name.
        """
        served, tokens, slots = self.behind(context, requests)
        spread = served.at(tokens, slots)
        lost = _lost(served.on.context(tokens, slots).parts, spread.host.blocks)
        ends = []
        for side in ("low", "high"):
            vram = sum(_counted(place, side) for place in spread.devices)
            weights = sum(line.bytes for place in spread.places for line in place.lines if line.name == WEIGHTS)
            total = vram + _counted(spread.host, side) - max(0, weights - self.weights.bytes)
            all_layers = not spread.host.blocks and bool(spread.devices)
            ends.append(Held(total=(vram if all_layers else total - lost[1]) - lost[0], vram=vram - lost[0]))
        sizes, words = (list(dict.fromkeys(each)) for each in ((h.size for h in ends), (h.processor for h in ends)))
        return f"SIZE {' to '.join(sizes)}, PROCESSOR {' to '.join(words)}, CONTEXT {tokens}"

    def kept(self, context: int, requests: int) -> Spreading:
        """The same: Ollama leaves `--fit` on, and has no word for off."""
        return self

    def cache_types(self) -> Iterator[Move]:
        """The present type of the cache, and smaller ones."""
        now = self.options.cache_type or "f16"
        yield Move(change=now, options={})
        for kind in _TYPES[_TYPES.index(now) + 1 :] if now in _TYPES else ():
            yield Move(change=kind, options={"kv_cache_type": kind})

    def moves(self) -> Iterator[Move]:
        """What may be changed where it does not fit, from what costs least."""
        if self.options.num_gpu is None:
            served, _, _ = self.behind(4096, 1)
            yield Move(
                change=f"every layer on the cards, whatever stays free there: num_gpu {served.layers}",
                options={"num_gpu": served.layers},
            )
        for move in list(self.cache_types())[1:]:
            yield Move(change=f"a cache in {move.change}: OLLAMA_KV_CACHE_TYPE={move.change}", options=move.options)

    def fewer(self) -> Iterator[tuple[str, str, int, int]]:
        """Whole layers on the host."""
        served, _, _ = self.behind(4096, 1)
        most = served.layers if self.options.num_gpu is None else self.options.num_gpu
        if most > 1:
            yield f"{{}} of {served.layers} layers on the cards: num_gpu {{}}", "num_gpu", most - 1, 0

    def splits(self, context: int, requests: int) -> Iterator[Move]:
        """None: Ollama has no word for another split."""
        return iter(())


def _capability(card: Card) -> int:
    major, _, minor = card.capability.partition(".")
    return int(major) * 10 + int(minor or 0) if major.isdecimal() and (minor or "0").isdecimal() else 0


def _with_margin(place: Place) -> Place:
    """A device of which `--fit` keeps a part free, where nobody says how many layers it gets."""
    if place.room is None:
        return place
    low, high = (end - MARGIN for end in (place.room.low, place.room.high))
    room = replace(
        place.room,
        bytes=place.room.bytes - MARGIN,
        low=low,
        high=high,
        source=f"{place.room.source}, less 1,024 MiB that --fit keeps",
    )
    return replace(place, room=room)


def _counted(place: Place, side: str) -> int:
    """The buffers of one place at an end of their bands."""
    return sum(getattr(line, side) for line in place.lines if line.name not in {DRIVER, *FILLED})


def _lost(parts: Sequence[Part[int]], on_host: int) -> tuple[int, int]:
    """Bytes of caches that a later line of the same name replaces: on GPUs, and on the host, whose layers are the first."""
    if {part.name for part in parts if part.name in {"base", "swa"}} != {"base", "swa"}:
        return 0, 0
    first = next(part for part in parts if part.name == "base")
    host = sum(tensor.bytes for tensor in first.tensors if tensor.layer < on_host)
    return int(first.sum("k", "v")) - host, host
