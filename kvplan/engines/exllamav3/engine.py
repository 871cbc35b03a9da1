"""ExLlamaV3, as TabbyAPI starts it: pages of 256 tokens and slots of states, allocated whole when the model loads.

Nothing is measured: `cache_size` says how many tokens all jobs share, `max_batch_size` how many jobs have a slot. Where they are
not given, an estimate is of the cache to ask for: whole pages for each sequence, and a slot for each. The modules, in the order
in which the engine works: `models` (what its classes make of a config), `layers` (memories to pages and slots), `planes` and
`states` (tensors of either), `pool` (TabbyAPI's settings, sums), `parallel` (cards), `largest` (what fits some memory).

Source: exllamav3 1.6.5, TabbyAPI e632af4. Golden: `tests/golden/exllamav3.jsonl`, every recorded cache exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from kvplan.domain.allocation import Evidence, Per
from kvplan.domain.model import Model, Shared, Window
from kvplan.domain.pool import Pool
from kvplan.domain.workload import Workload
from kvplan.engines.exllamav3.about import ABOUT
from kvplan.engines.exllamav3.facts import ExLlamaV3Facts, TierFacts
from kvplan.engines.exllamav3.largest import largest
from kvplan.engines.exllamav3.log import PROGRAM, flags, lines, model_flags
from kvplan.engines.exllamav3.models import architecture, as_read, described_by_hand, named, refuse
from kvplan.engines.exllamav3.options import ExLlamaV3Options
from kvplan.engines.exllamav3.parallel import fullest_card, refuse_split
from kvplan.engines.exllamav3.planes import PAGE, Attention, Mode, Plane
from kvplan.engines.exllamav3.pool import Caches, PageTier, caches, history, page_tier, pages, states, sums
from kvplan.engines.exllamav3.states import Held, Ring, Slots
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import Engine, Prepared, Serving
from kvplan.engines.kernel.retention import kept_tokens
from kvplan.engines.kernel.tensors import At, Count, Piece, whole_blocks
from kvplan.errors import Refused
from kvplan.units import MIB

_DRAFTER: Final = "drafter"
_AMPERE: Final = 80
_DEFAULT: Final = ExLlamaV3Options()


class ExLlamaV3(Engine):
    """ExLlamaV3's caches; see the module's docstring."""

    about: ClassVar[About] = ABOUT
    Options: ClassVar[type[Any]] = ExLlamaV3Options
    options: ExLlamaV3Options

    def on(self, model: Model) -> ExLlamaV3On:
        """What each layer of `model` holds.

        Raises:
            Refused: what the engine says instead of loading it, or why kvplan cannot tell.
        """
        try:
            if 0 < self.options.compute_capability < _AMPERE:  # tabby common/hardware.py:hardware_supports_exllamav3
                raise Refused("All GPUs must be ampere (30 series) or newer. AMD GPUs are not supported.")
            refuse(model)
            return ExLlamaV3On(self, model, as_read(model))
        except Refused as problem:
            raise Refused(f"ExLlamaV3 {self.version} does not load {model.name} so: {problem.reason}", problem.see) from problem


class ExLlamaV3On(Prepared):
    """ExLlamaV3 with one model: the layers that hold something, on one card or on the fullest of several."""

    engine: ExLlamaV3

    def __init__(self, engine: ExLlamaV3, model: Model, read: Model) -> None:
        super().__init__(engine, model)
        self.read = read
        options = engine.options
        found = caches(read, options)
        self.tensor_parallel = options.tensor_parallel
        self.main, self.draft, self.drafts = found.main, found.draft, found.drafts
        if options.tensor_parallel > 1:
            refuse_split(architecture(read), found.main, named(read)[0] or model.model_type, swa_full=options.swa_full)
            if options.layer_map.strip():
                raise Refused("Tensor-parallel is not currently implemented for relayered models.")
            self.main = fullest_card(found.main, options)
        self.linear_in_batch = options.cache_size is None and options.max_batch_size is None
        self.history = history(read, options)
        self.tier: PageTier | None = None
        if options.sysmem_kv_cache:
            self.tier = page_tier(found, options.mode, options.draft_mode_of_cache, options.sysmem_kv_cache * MIB)

    @property
    def kv_dtype(self) -> str:
        """fp16 whatever the checkpoint holds, or what `cache_mode` packs pages to."""
        return self.engine.options.kv_dtype

    def pages(self, at: At[Count]) -> Count:
        """Pages of the cache: as told, or whole ones for each sequence."""
        told = self.engine.options.cache_size
        if told is None:
            return whole_blocks(at.seq_len, PAGE) * at.batch_size
        return at.seq_len * at.batch_size * 0 + told // PAGE

    def jobs(self, at: At[Count]) -> Count:
        """Jobs that have a slot: as told, or one a sequence."""
        told = self.engine.options.max_batch_size
        return at.batch_size if told is None else at.batch_size * 0 + told

    def slots(self, jobs: int) -> Slots:
        """The slots' options; the number of jobs is for sums."""
        return Slots(jobs=jobs, history=self.history, state_dtype=self.engine.options.state_dtype)

    def check(self, at: At[int]) -> None:
        """A cache of a given size holds so many jobs and tokens at once; others wait in the engine's queue."""
        options, needed = self.engine.options, whole_blocks(at.seq_len, PAGE) * at.batch_size
        if options.max_batch_size is not None and at.batch_size > options.max_batch_size:
            raise Refused(f"{at.batch_size:,} requests at once are more than max_batch_size, which is {options.max_batch_size:,}")
        if options.cache_size is not None and needed * PAGE > options.cache_size:
            raise Refused(
                f"{at.batch_size:,} x {at.seq_len:,} tokens take {needed:,} pages "
                f"(only {options.cache_size // PAGE:,} available)",
                see=f"a cache_size of {needed * PAGE} holds them",
            )

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """Every tensor on the card, equal layers together; a drafter's cache after them."""
        options = self.engine.options
        alike: dict[tuple[Held, str], list[int]] = {}
        words = super().kinds(At(1, 1))
        for entry in self.main:
            kind = words[entry.layer] if entry.layer < len(words) else ""
            alike.setdefault((_anonymous(entry), kind), []).append(entry.layer)
        for (entry, kind), layers in alike.items():
            yield from self._pieces(entry, tuple(layers), kind, options.mode, at)
        for entry in self.draft:
            yield from self._pieces(entry, (), _DRAFTER, options.draft_mode_of_cache, at)

    def _pieces(self, entry: Held, layers: tuple[int, ...], kind: str, mode: Mode, at: At[Count]) -> Iterator[Piece[Count]]:
        """The tensors of one layer, as each of `layers` holds them."""
        zero = at.seq_len * at.batch_size * 0
        for _, plane in pages((entry,), self.pages(at), mode):
            yield _piece(plane, layers, kind, zero + _needed(entry, plane, at.seq_len) * at.batch_size, "block")
        for _, plane in states((entry,), self.slots(1), self.jobs(at), at.seq_len):
            if not plane.on_host:
                yield _piece(plane, layers, kind, zero + plane.needed * at.batch_size, "sequence")

    def bytes_per_token(self, seq_len: Count, payload: Count | None = None) -> Count:
        """What the next token of one sequence adds, rounded up where a row stands for several tokens."""
        kept = ((self.main, self.engine.options.mode), (self.draft, self.engine.options.draft_mode_of_cache))
        period = lcm(*(plane.tokens_per_row for held, mode in kept for _, plane in pages(held, 1, mode)))
        one = seq_len * 0 + 1
        now = self.totals(At(seq_len, one)).payload if payload is None else payload
        return whole_blocks(self.totals(At(seq_len + period, one)).payload - now, period)

    def notes(self, workload: Workload) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        return (*self.model.notes, *self._notes(workload))

    def _notes(self, workload: Workload) -> Iterator[str]:
        options = self.engine.options
        if described_by_hand(self.model) and any(isinstance(m, Shared) for layer in self.model.layers for m in layer.memories):
            yield "no architecture of ExLlamaV3 shares caches between layers: this is what it would need if one did"
        masks = {e.layer for e in self.main if isinstance(e.paged, Attention) and isinstance(e.reach, Window)}
        if masks:
            yield f"{len(masks):,} sliding layers keep all tokens: their windows only mask"
        if options.mode.quantised and any(isinstance(entry.slot, Ring) for entry in self.main):
            yield "rings of sliding layers stay fp16 in any cache_mode"
        if options.max_seq_len is not None and workload.seq_len > options.max_seq_len > 0:
            yield f"requests of more than {options.max_seq_len:,} tokens (max_seq_len) are refused by the server"
        if options.tensor_parallel > 1:
            yield (
                f"the fullest of {options.tensor_parallel} cards that are equally free: shares follow free memory, layer by layer"
            )
        elif len(options.cards) > 1:
            yield "gpu_split fills the cards layer by layer: this is the sum of all cards"
        if options.draft_mode == "mtp":
            yield "drafting with the model's own prediction layers needs a checkpoint that holds them"
        told = [n for n in ("swa_full", "layer_map", "recurrent_dtype") if getattr(options, n) != getattr(_DEFAULT, n)]
        if told:
            yield f"TabbyAPI has no option for {', '.join(told)}: the library has"
        if self.engine.version != ABOUT.latest:
            yield f"the rules are those of exllamav3 {ABOUT.latest}; no other release was studied"

    def facts(self, workload: Workload) -> ExLlamaV3Facts:
        """Pages, slots, and host memory."""
        at, options = At(workload.seq_len, workload.batch_size), self.engine.options
        jobs, tokens = self.jobs(at), self.pages(at) * PAGE
        main, draft = (
            sums(kept, tokens, mode, self.slots(jobs))
            for kept, mode in ((self.main, options.mode), (self.draft, options.draft_mode_of_cache))
        )
        tier = self.tier
        return ExLlamaV3Facts(
            cache_size=tokens,
            max_batch_size=jobs,
            max_history=self.history,
            num_pages=tokens // PAGE,
            page_bytes=sums(self.main, PAGE, options.mode, self.slots(1)).kv_bytes,
            kv_bytes=main.kv_bytes,
            state_bytes=main.state_bytes,
            draft_bytes=draft.total_bytes,
            num_kv_layers=main.num_kv_layers,
            num_state_layers=main.num_state_layers,
            host_state_bytes=main.host_state_bytes + draft.host_state_bytes,
            checkpoint_bytes=main.checkpoint_bytes,
            page_tier=None if tier is None else TierFacts(slot_size=tier.slot_size, max_slots=tier.max_slots, tokens=tier.tokens),
        )

    def log(self, workload: Workload) -> tuple[str, ...]:
        """TabbyAPI's lines."""
        at = At(workload.seq_len, workload.batch_size)
        return tuple(lines(self._length(workload.seq_len), self.pages(at) * PAGE))

    def typed(self, workload: Workload) -> str:
        """TabbyAPI's command line for exactly this cache."""
        return self.command(self.asked(workload))

    def _length(self, seq_len: int) -> int:
        told = self.engine.options.max_seq_len
        return seq_len if told is None or told < 1 else told

    def command(self, serving: Serving) -> str:
        """`python main.py --model-name …`, TabbyAPI's command line."""
        at, options = At(serving.context, serving.batch_size), self.engine.options
        length, tokens = self._length(serving.context), self.pages(at) * PAGE
        told = flags(options, max_seq_len=length, cache_size=tokens, max_batch_size=self.jobs(at))
        return f"{PROGRAM} {model_flags(serving.model)} {told}"

    def evidence(self, maker: str | None = None) -> Evidence:
        """As the kernel's; a split over cards depends on weights that are not known here."""
        found = super().evidence(maker)
        return "from source" if found in {"recorded", "same rule"} and self.tensor_parallel > 1 else found

    def largest_pool(self, budget_bytes: int) -> Pool:
        """The largest `cache_size` that `budget_bytes` on each card hold, at TabbyAPI's number of jobs."""
        kept = Caches(main=self.main, draft=self.draft)
        found = largest(kept, self.read, self.engine.options, self.history, budget_bytes)
        return replace(found, model=self.model.name, engine_version=self.engine.version)


def _anonymous(entry: Held) -> Held:
    """What a layer holds, without its number."""
    return Held(layer=0, paged=entry.paged, slot=entry.slot, after=entry.after, reach=entry.reach)


def _needed(entry: Held, plane: Plane[Count], seq_len: Count) -> Count:
    """Bytes of a plane's rows that hold what the model needs of one sequence."""
    some, all_ = plane.used
    return kept_tokens(entry.reach, seq_len) // plane.tokens_per_row * (plane.row_bytes * some // all_)


def _piece(plane: Plane[Count], layers: tuple[int, ...], kind: str, payload: Count, per: Per) -> Piece[Count]:
    return Piece(
        layers=layers,
        name=plane.name,
        kind=kind,
        shape=plane.shape,
        dtype=plane.dtype,
        payload=payload,
        padded=payload * 0 + plane.bytes,
        per=per,
    )
