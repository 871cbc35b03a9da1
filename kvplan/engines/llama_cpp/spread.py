"""llama.cpp over the cards of a question: what lies on each, what its own `--fit` would choose, and what may be changed.

`questions/fit` asks these; nothing here searches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict, replace

from kvplan.domain.ledger import Line
from kvplan.domain.model import Model
from kvplan.domain.spread import Card, Place, Spread, runs
from kvplan.domain.stored import StoredTensor
from kvplan.domain.unified import Shared
from kvplan.engines.kernel.engine import Serving
from kvplan.engines.kernel.releases import written
from kvplan.engines.llama_cpp.beside import beside, drafter, host_memory
from kvplan.engines.llama_cpp.builds import CONTEXT, FITS, LAYERS, ROW_SPLIT
from kvplan.engines.llama_cpp.context import Context, Refusal, make_context
from kvplan.engines.llama_cpp.engine import LlamaCpp, LlamaCppOn
from kvplan.engines.llama_cpp.ledger import CACHE, PROMPTS, STATE, WEIGHTS, Side, devices_of, lines_of, pool_of
from kvplan.engines.llama_cpp.memory import CACHE_TYPES
from kvplan.engines.llama_cpp.options import AUTO, CACHE_RAM_MIB, LlamaCppOptions
from kvplan.engines.llama_cpp.placement.compute import Band
from kvplan.engines.llama_cpp.placement.devices import Host, taking_part
from kvplan.engines.llama_cpp.placement.fit import Choice, Need, Subject, Trial, fitted
from kvplan.engines.llama_cpp.placement.load import loaded, trial_asked
from kvplan.engines.llama_cpp.placement.patterns import overrides
from kvplan.engines.llama_cpp.placement.place import Asked, Part, Placed, place
from kvplan.engines.llama_cpp.placement.split import shares_of
from kvplan.engines.llama_cpp.placement.weights import Buffers, Loading, file_order
from kvplan.engines.llama_cpp.releases import bands_between
from kvplan.errors import Refused
from kvplan.gguf.hparams import Hparams
from kvplan.units import MIB

#: Options that say where things lie; where one is given, the question is about devices.
PLACING: Final = (
    "n_gpu_layers", "split_mode", "tensor_split", "main_gpu", "device", "n_cpu_moe", "cpu_moe", "override_tensor", "offload_kqv",
    "mmap", "fit", "spec_type", "draft", "mmproj", "lora",
)  # fmt: skip
_LESS: Final = (
    "its prompt cache would grow to 8,192 MiB of the same memory: --cache-ram {0} (or LLAMA_ARG_CACHE_RAM={0}) keeps it within "
    "what is left"
)
_SAME_POOL: Final = "the cache is the processor's part of the memory that both share: none of it becomes free"
#: Layers, as people typed "all" before there was a word for it.
_EVERY: Final = 99
#: Cache types that a shorter context is traded for, from the best to the smallest.
TYPES: Final = ("f16", "q8_0", "q5_1", "q4_0")


class Move(Struct, frozen=True, kw_only=True):
    """A change of the command line: in words, and the options that make it."""

    change: str
    options: Mapping[str, Any]


class Spreading:
    """One model, one command line, some cards."""

    own_why = "because it keeps 1,024 MiB of each card free"

    def __init__(
        self,
        model: Model,
        options: LlamaCppOptions,
        cards: Sequence[Card],
        weights: Line,
        tensors: Sequence[StoredTensor],
        *,
        version: str = "",
    ) -> None:
        """`tensors` are the file's; of a model without a file, those of its mix; `weights` says where they come from.

        Raises:
            Refused: llama.cpp does not run the model so.
        """
        self.model = model
        self.options = options
        self.cards = tuple(cards)
        self.weights = weights
        self.version = version
        engine = LlamaCpp(options, version or None)
        if options.n_gpu_layers == AUTO and LAYERS.at(engine.release) == "none":
            options = self.options = replace(options, n_gpu_layers=_EVERY)  # what people type to have them on cards
            engine = LlamaCpp(options, version or None)
        if options.split_mode == "row" and ROW_SPLIT.at(engine.release):
            raise Refused(
                f"{written(engine.release)} splits matrices by row: which part of them each card gets was not read",
                see="the cache lies as with -sm layer",
            )
        self.on: LlamaCppOn = engine.on(model)
        if not FITS.at(engine.release):
            self.own_why = "by this build's default"
        self.h: Hparams = self.on.hparams
        self.devices = devices_of(cards)
        placed = any(tensor.offset for tensor in tensors)
        self.tensors = tuple(tensors) if placed else file_order((each.name, each.type, each.dims, each.bytes) for each in tensors)
        self._known: dict[tuple[int, ...], Buffers] = {}
        self._draft = None if options.draft is None else drafter(options.draft)

    @property
    def ceiling(self) -> int:
        """Tokens that the model was made for."""
        return self.h.context_length

    @property
    def layers(self) -> int:
        """Blocks and the output layer."""
        return self.h.n_layer_all + 1

    @property
    def mixed(self) -> bool:
        """Whether the model has experts."""
        return any("_exps" in tensor.name for tensor in self.tensors)

    def changed(self, **more: Any) -> Spreading:
        """The same with other options."""
        options = replace(self.options, **more)
        return Spreading(self.model, options, self.cards, self.weights, self.tensors, version=self.version)

    def at(self, context: int, requests: int) -> Spread:
        """Everything, device by device, for so many requests of so many tokens.

        Raises:
            Refused: the engine does not start so.
        """
        made = self._context(context, requests)
        placed = place(self.h, made, self.tensors, self.asked(), self.devices, known=self._known)
        if isinstance(placed, Refusal):
            raise Refused(f"llama.cpp refuses: {placed.message}")
        bands = self._compute(made, placed)
        sides = self._beside(placed, context, requests)
        kept = host_memory(self.on, made)
        places = []
        for index, (part, band) in enumerate(zip(placed.parts, bands, strict=True)):
            device = index < len(placed.devices)
            number = self.devices.index(placed.devices[index]) if device else -1
            card = self.cards[number] if device else None
            words = [runs(part.blocks)] if part.blocks else []
            words += ["output"] if part.has_output else []
            places.append(
                Place(
                    device=part.name,
                    card=card.id if card is not None else "",
                    layers=", ".join(words),
                    blocks=part.n_layers,
                    lines=lines_of(part, band, card, sides, index if device else -1, self.weights),
                    cached=self._cached(part, on_host=not device),
                    room=None if card is None else card.room,
                )
            )
        pool = self._pool(places, kept)
        places[-1] = replace(places[-1], lines=(*places[-1].lines, *kept))
        serving = self._within(pool, kept)
        return Spread(
            places=tuple(places),
            pool=pool,
            context=context,
            requests=requests,
            offloaded=placed.n_layers_offloaded,
            command=serving.command(self._serving(context, requests)),
            settings={name: value for name, value in _said(self.options).items() if name in PLACING},
            notes=(*self._notes(placed), *([] if serving is self.on else [_LESS.format(serving.engine.options.cache_ram)])),
        )

    def _cached(self, part: Part, *, on_host: bool) -> tuple[int, ...]:
        """The layers whose cache lies there: its own, or all of them on the host."""
        if self.options.offload_kqv:
            return part.blocks
        return tuple(range(self.h.n_layer_all)) if on_host else ()

    @property
    def shared(self) -> Shared | None:
        """The memory that the processor and the cards share, where it is one."""
        return next((card.shared for card in self.cards if card.shared is not None), None) if len(self.cards) == 1 else None

    def _pool(self, places: Sequence[Place], kept: Sequence[Line]) -> Place | None:
        """All of it together; a prompt cache that nobody asked for takes no more than what is left (`_within`)."""
        if self.shared is None:
            return None
        mapped = self.options.mmap and all(device.maps_files for device in self.devices)
        counted = [line for line in kept if line.name != PROMPTS or self.options.cache_ram != CACHE_RAM_MIB]
        places = [*places[:-1], replace(places[-1], lines=(*places[-1].lines, *counted))]
        return pool_of(places, self.shared, sum(tensor.bytes for tensor in self.tensors) if mapped else None)

    def _within(self, pool: Place | None, kept: Sequence[Line]) -> LlamaCppOn:
        """The same, told a prompt cache that the memory holds which both share; where it does, as it is."""
        left = None if pool is None or pool.left is None else max(0, pool.left.low) // MIB
        usual = self.options.cache_ram == CACHE_RAM_MIB and any(line.name == PROMPTS for line in kept)
        if left is None or not usual or left >= CACHE_RAM_MIB:
            return self.on
        return LlamaCpp(replace(self.options, cache_ram=left), self.version or None).on(self.model)

    def lent_more(self) -> tuple[str, Spreading] | None:
        """The command that lends the GPU more of the shared memory, and the same afterwards; None where nothing does."""
        if self.shared is None or self.shared.raised_bytes <= self.cards[0].room.low:
            return None
        card = replace(self.cards[0], free_bytes=self.shared.raised_bytes)
        return self.shared.setting, Spreading(self.model, self.options, (card,), self.weights, self.tensors, version=self.version)

    def asked(self) -> Asked:
        """The command line's places."""
        o = self.options
        return Asked(
            n_gpu_layers=o.n_gpu_layers,
            split_mode=o.split_mode,  # type: ignore[arg-type]
            main_gpu=o.main_gpu,
            tensor_split=None if o.tensor_split is None else shares_of(o.tensor_split),
            use_devices=None if o.device is None else tuple(name.strip() for name in o.device.split(",")),
            offload_kqv=o.offload_kqv,
            loading=Loading(
                mmap=None if o.mmap else False,
                load_mtp=o.spec_type == "draft-mtp",
                moved=overrides(o.override_tensor, cpu_moe=o.cpu_moe, n_cpu_moe=o.n_cpu_moe),
            ),
        )

    def _serving(self, context: int, requests: int) -> Serving:
        return Serving(model=self.model.gguf or self.model.hub or self.model.name, context=context, batch_size=requests)

    def command(self, context: int, requests: int) -> str:
        """What to type."""
        return self.on.command(self._serving(context, requests))

    def needs(self, context: int, requests: int) -> tuple[str, ...]:
        """Of which model the file must be, where none was named."""
        return self.on.needs(self._serving(context, requests))

    def own_choice(self, context: int | None, requests: int) -> tuple[str, int, Spreading]:
        """What `--fit` makes of this command line: in words, the tokens that it leaves each request, and the same so."""
        release = self.on.engine.release
        if not FITS.at(release) or not self.options.fit:
            tokens = (CONTEXT.at(release) or self.h.context_length) if context is None else context * requests
            return f"-c {tokens}", tokens // max(requests, 1), self
        choice = self.choice(context, requests)
        streams = 1 if self.on.settled.unified else requests
        more: dict[str, Any] = {}
        if choice.n_gpu_layers != AUTO and self.options.n_gpu_layers == AUTO:
            more["n_gpu_layers"] = choice.n_gpu_layers
        if choice.tensor_split:
            more["tensor_split"] = ",".join(map(str, choice.tensor_split))
        if choice.moved:
            more["override_tensor"] = ";".join(f"{each.pattern}={each.buffer}" for each in choice.moved)
        return choice_words(choice), choice.n_ctx // max(streams, 1), self.changed(**more)

    def kept(self, context: int, requests: int) -> Spreading:
        """The same, told not to change anything where `--fit` would."""
        if not self.options.fit or self.options.n_gpu_layers != AUTO or not FITS.at(self.on.engine.release):
            return self
        choice = self.choice(context, requests)
        return self.changed(fit=False) if choice.n_gpu_layers != AUTO or choice.moved else self

    def choice(self, context: int | None, requests: int) -> Choice:
        """The same as a value."""
        asked = self.asked()
        blocks = self.h.n_layer_all if asked.loading.load_mtp else self.h.n_layer
        devices = taking_part(self.devices, use_devices=asked.use_devices, split_mode=asked.split_mode, main_gpu=asked.main_gpu)
        if isinstance(devices, Refusal):
            raise Refused(f"llama.cpp refuses: {devices.message}")
        return fitted(
            Subject(
                blocks=blocks,
                experts=bool(self.h.keys.get(f"{self.h.arch}.expert_count")) or self.mixed,
                context_length=self.h.context_length,
                streams=1 if self.on.settled.unified else requests,
                n_ctx=0 if context is None else context * requests,
                n_gpu_layers=self.options.n_gpu_layers,
                split_set=self.options.tensor_split is not None,
                moved=bool(asked.loading.moved),
                rows=self.options.split_mode == "row",
            ),
            devices,
            0,
            lambda trial: self._need(trial, requests, blocks),
        )

    def _need(self, trial: Trial, requests: int, blocks: int) -> list[Need]:
        context = make_context(self.h, replace(self.on.params(1, requests), n_ctx=trial.n_ctx))
        if isinstance(context, Refusal):
            raise Refused(f"llama.cpp refuses: {context.message}")
        found = loaded(self.h, context, self.tensors, trial_asked(self.asked(), trial, blocks), self.devices, Host())
        if isinstance(found, Refusal):
            raise Refused(f"llama.cpp refuses: {found.message}")
        placed, sums = found
        bands = self._compute(context, placed)
        sides = self._beside(placed, int(context.n_ctx) // max(requests, 1), requests)
        more = [sum(sum(side.bytes[at]) // 2 for side in sides) for at in range(len(sums))]
        return [Need(model, cache + side, band.best) for (model, cache), band, side in zip(sums, bands, more, strict=True)]

    def _beside(self, placed: Placed, context: int, requests: int) -> tuple[Side, ...]:
        return tuple(beside(self.on, self._draft, self.asked(), placed, context, requests))

    def _context(self, context: int, requests: int) -> Context[int]:
        return self.on.context(context, requests)

    def _compute(self, context: Context[int], placed: Placed) -> tuple[Band, ...]:
        release, server = self.on.engine.release, self.options.frontend == "server"
        outputs = None if server else 0
        return bands_between(
            self.h, context, (placed,), (release, release), quantised=self._quantised, outputs=outputs, server=server
        )

    @property
    def _quantised(self) -> bool:
        return any(CACHE_TYPES[kind] == kind for kind in (self.options.type_k, self.options.type_v))

    def cache_types(self) -> Iterator[Move]:
        """The present types of the cache, and smaller ones."""
        o = self.options
        yield Move(change=o.type_k if o.type_k == o.type_v else f"{o.type_k}/{o.type_v}", options={})
        for kind in TYPES[TYPES.index(o.type_k) + 1 :] if o.type_k in TYPES and o.type_k == o.type_v else ():
            yield Move(change=kind, options={"cache_type_k": kind, "cache_type_v": kind})

    def moves(self) -> Iterator[Move]:
        """What may be changed where it does not fit, from what costs least."""
        for move in list(self.cache_types())[1:]:
            words = f"a cache in {move.change}: -ctk {move.change} -ctv {move.change}"
            yield Move(change=words, options=move.options)
        if self.options.offload_kqv:
            yield Move(change="the cache in host memory: --no-kv-offload", options={"offload_kqv": False})

    def fewer(self) -> Iterator[tuple[str, str, int, int]]:
        """Experts of the first layers on the host, or whole layers."""
        o = self.options
        if self.mixed and not o.cpu_moe and not o.override_tensor:
            yield "the experts of {} layers in host memory: --n-cpu-moe {}", "n_cpu_moe", max(o.n_cpu_moe, 1), self.h.n_layer
        most = self.layers if o.n_gpu_layers < 0 else o.n_gpu_layers
        if most > 1:
            yield f"{{}} of {self.layers} layers on the cards: -ngl {{}}", "n_gpu_layers", most - 1, 0

    def splits(self, context: int, requests: int) -> Iterator[Move]:
        """Layers by what each card has left for them, instead of by free memory."""
        if len(self.devices) < 2 or self.options.tensor_split is not None or self.options.split_mode != "layer":
            return
        spread = self.at(context, requests)
        fixed = [sum(line.bytes for line in place.lines if line.name not in {WEIGHTS, CACHE, STATE}) for place in spread.devices]
        rooms = [
            max(0, place.room.bytes - taken) if place.room else 0 for place, taken in zip(spread.devices, fixed, strict=True)
        ]
        if not sum(rooms):
            return
        count = sum(place.blocks for place in spread.devices) + 1
        even = [room * count // sum(rooms) for room in rooms]
        even[0] += count - sum(even)
        seen = set()
        for shift in (0, 1, -1, 2, -2):
            shares = [*even]
            shares[-1] -= shift
            shares[0] += shift
            if min(shares) > 0 and tuple(shares) not in seen:
                seen.add(tuple(shares))
                text = ",".join(map(str, shares))
                yield Move(change=f"another split: -ts {text}", options={"tensor_split": text})

    def _notes(self, placed: Placed) -> tuple[str, ...]:
        found = []
        if placed.host.blocks:
            here = {*placed.host.blocks}
            size = placed.host.kv_bytes + sum(tensor.bytes for tensor in self.tensors if tensor.block in here)
            where = "host memory" if self.shared is None else "the memory that both share: none of it becomes free"
            found.append(
                f"{len(here)} of {self.layers - 1} layers, with their cache, are computed by the processor: "
                f"each token reads {size / 2**30:.2f} GiB from {where}"
            )
        elif placed.moved and len(placed.largest_on_host) > 1:
            gib = placed.host.model_bytes / 2**30
            found.append(f"weights on the host are computed there: {gib:.2f} GiB, with what lies between them in the file")
        if self.options.cache_ram < 0:
            found.append("its prompt cache has no limit (--cache-ram -1): it grows until host memory is full")
        if not placed.host.blocks and placed.host.kv_bytes:
            gib = placed.host.kv_bytes / 2**30
            there = f"the cache is in host memory: each token reads it from there, up to {gib:.2f} GiB of a full context"
            found.append(there if self.shared is None else _SAME_POOL)
        return tuple(found)


def choice_words(choice: Choice) -> str:
    """What `--fit` chose, for people."""
    words = [f"-c {choice.n_ctx}"]
    words += [f"-ngl {choice.n_gpu_layers}"] if choice.n_gpu_layers != AUTO else []
    words += [f"-ts {','.join(map(str, choice.tensor_split))}"] if choice.tensor_split else []
    text = " ".join(words)
    if choice.moved:
        text += f", the experts of {sum(each.part for each in choice.given)} layers on the host"
    return f"{text} ({choice.refused})" if choice.refused else text


def _said(options: LlamaCppOptions) -> dict[str, Any]:
    """Options that are not at their defaults."""
    plain = asdict(LlamaCppOptions())
    found = {name: value for name, value in asdict(options).items() if value != plain[name]}
    return {name: getattr(value, "name", value) for name, value in found.items()}
