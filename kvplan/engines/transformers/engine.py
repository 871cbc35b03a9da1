"""`transformers`: what the library's own cache objects hold after a prompt and the tokens decoded since.

`payload_bytes` counts the elements that the cache's tensors show, `allocated_bytes` the storage behind them (a sliding
layer's tensor is a view of a larger one), and bookkeeping the counters beside them. Without `prompt_len` the state is
that after a prompt of `seq_len - 1` tokens and one decode step; the last token that `generate()` samples never enters
the cache. The cache has the dtype of the activations; there is no option for it, except the quantized cache.

Sources: `cache_utils.py`, `generation/utils.py` and `models/*/modeling_*.py` of transformers 4.36 to 5.24.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from msgspec.structs import replace

from kvplan.domain.described import Described
from kvplan.domain.dtypes import lookup
from kvplan.domain.ledger import Ledger, Line
from kvplan.domain.machine import Machine
from kvplan.domain.model import Chunk, Compressed, Cross, Index, Latent, Memory, Model, Recurrent, Shared, Softmax, Window
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import Engine, Prepared, Serving
from kvplan.engines.kernel.tensors import At, Count, Piece
from kvplan.engines.kernel.typed import weights_flag
from kvplan.engines.transformers.about import ABOUT
from kvplan.engines.transformers.models import (
    OWN_CACHE,
    alternating,
    as_kept,
    asked_cache,
    one_projection,
    own_window,
    plain_mlps,
    surplus_layers,
    text_type,
    widest_window,
    with_surplus_layers,
    without_types,
    without_windows_unless_shared,
)
from kvplan.engines.transformers.options import TransformersOptions
from kvplan.engines.transformers.quantized import quantized_pieces, refuse_quantized, refuse_uneven
from kvplan.engines.transformers.refusals import last_loop_plain, refusal
from kvplan.engines.transformers.releases import (
    COUNTER_BYTES,
    CROSS_SLIDES,
    DEFAULT_CACHE,
    DYNAMIC,
    EMPTY_STATIC,
    EXTRA_LEN,
    FIRST_VIEW,
    FUSED,
    GATE_DTYPE,
    HYBRID,
    HYBRID_BOOKKEEPING,
    HYBRID_CHUNKED,
    HYBRID_EARLY,
    KEY_DTYPE,
    LATENT,
    RECURRENT_SLIDES,
    SHARED_REFERENCES,
    SLIDING_BOOKKEEPING,
    SLIDING_WINDOW,
    SPLIT_CONV,
    STATE_DTYPE,
    STATIC,
    STATIC_BOOKKEEPING,
    STATIC_IGNORED,
    SURPLUS_STATIC,
    WINDOW_ON_MODULES,
    WINDOW_UNCLIPPED,
    ZERO_SHARED,
)
from kvplan.engines.transformers.rules import Rules
from kvplan.engines.transformers.tensors import Layers, Moment
from kvplan.errors import OptionError, Refused

if TYPE_CHECKING:
    from kvplan.engines.transformers.ledger import Widths
    from kvplan.engines.transformers.process import Process

_PREALLOCATED: Final = frozenset({"static", "hybrid", "alternating", "chunked", "everywhere"})


class Transformers(Engine):
    """The library's caches; see the module's docstring."""

    about: ClassVar[About] = ABOUT
    Options: ClassVar[type[Any]] = TransformersOptions
    options: TransformersOptions

    def on(self, model: Model) -> TransformersOn:
        """What the library keeps of `model`.

        Raises:
            Refused: a release or a model type that was not studied, or that the library itself refuses.
            OptionError: a dtype that the library keeps nothing in.
        """
        return TransformersOn(self, model)


class TransformersOn(Prepared):
    """The library's cache of one model in one release: `read` are the layers as it keeps them."""

    engine: Transformers

    def __init__(self, engine: Transformers, model: Model) -> None:
        super().__init__(engine, model)
        options, release = engine.options, engine.release
        # one scale a tensor, whatever the batch; Bloom's first views of a batch of one
        self.linear_in_batch = not ((options.cache == "quantized" and options.backend == "fp8") or release < (4, 44))
        reason = refusal(model, self.implementation(model), release, engine.version)
        if reason:
            raise Refused(reason)
        if self.implementation(model) == "quantized":
            refuse_quantized(options, as_kept(model, release))
        self.read = self.kept(model)
        self.built = self.implementation(self.read)
        self.rules = self._rules()
        self._process: tuple[tuple[Machine, Described | None], Process] | None = None

    def command(self, serving: Serving) -> str:
        """Python that holds this workload: the model in its dtype, then the cache or the call that makes it.

        An encoder generates nothing: one pass is its whole work (`modeling_auto.py`: `AutoModel`, or the class with its head).
        """
        options = self.engine.options
        told = [repr(serving.model)]
        told += [f'dtype="{self.kv_dtype}"'] if {"kv_dtype", "dtype"} & serving.options.keys() else []
        quantised = weights_flag(self.engine.about, serving)
        told += [f"quantization_config=BitsAndBytesConfig({quantised})"] if quantised else []
        encoder = not any(layer.memories for layer in self.model.layers)
        loads = "AutoModelForCausalLM"
        if encoder:  # a reranker is its encoder with the head that scores
            loads = "AutoModelForSequenceClassification" if self.model.use == "rerank" else "AutoModel"
        loaded = f"model = {loads}.from_pretrained({', '.join(told)})"
        if encoder:
            made = "model(**inputs)"
        elif options.cache == "static":
            length = options.max_cache_len or serving.context
            made = f"cache = StaticCache(model.config, max_cache_len={length})"
        else:
            made = f"model.generate(**inputs, {', '.join(self._generated(serving))})"
        return f"{loaded}; {made}  # at most {serving.batch_size:,} sequences"

    def _generated(self, serving: Serving) -> Iterator[str]:
        """The arguments of `generate()`."""
        options = self.engine.options
        yield f"max_length={options.max_length or serving.context}"
        for name in ("num_beams", "num_return_sequences"):
            if getattr(options, name) > 1:
                yield f"{name}={getattr(options, name)}"
        if options.cache == "quantized":
            config = {"backend": options.backend, "nbits": options.nbits, "q_group_size": options.q_group_size}
            config["residual_length"] = options.residual_length
            yield f'cache_implementation="quantized", cache_config={config}'

    # What is asked for, in this release.

    @property
    def kv_dtype(self) -> str:
        """The activations' dtype: the model's, or the one it is loaded in."""
        row = lookup(self.model.dtype if self.engine.options.dtype == "auto" else self.engine.options.dtype)
        if row.torch not in {"float32", "bfloat16", "float16"}:
            raise OptionError(
                f"transformers keeps keys and values in the model's dtype, so not in {row.name}",
                hint="load the model in another dtype, or use «set cache=quantized» «set backend=fp8» (or quanto, hqq)",
                option="dtype",
            )
        return row.name

    @property
    def stored(self) -> str:
        """The dtype, or what a quantised cache packs it with."""
        options = self.engine.options
        if self.built != "quantized":
            return self.kv_dtype
        return "fp8" if options.backend == "fp8" else f"{options.backend} {options.nbits} bits"

    def implementation(self, model: Model) -> str:
        """What is built: `dynamic`, `plain`, `static`, `hybrid`, `everywhere` or `quantized`."""
        asked = self.engine.options.cache
        if asked == "auto":
            asked = DEFAULT_CACHE.at(text_type(model), self.engine.release)
            if asked == "hint":
                asked = asked_cache(model)
        if asked == "hybrid" and text_type(model) == "llama4_text" and self.engine.release < (4, 56):
            asked = "hybrid_chunked"  # the class for chunks, under either name
        if asked in _BUILT_AS:
            asked = _BUILT_AS[asked].at(self.engine.release)
        if asked in _PREALLOCATED and self._ignores_static(model):
            return "dynamic"
        return str(asked)

    def _ignores_static(self, model: Model) -> bool:
        """Whether the model keeps what it always keeps, whatever cache is asked for."""
        kind = text_type(model)
        return kind in OWN_CACHE or STATIC_IGNORED.at(kind, self.engine.release)

    def _on_modules(self, model: Model) -> bool:
        return WINDOW_ON_MODULES.at(text_type(model), self.engine.release)

    def _rules(self) -> Rules:
        """Everything that the tensors depend on."""
        model, built, dtype = self.read, self.built, self.kv_dtype
        kind = text_type(model)
        preallocated = built in _PREALLOCATED and not self._on_modules(model)
        less = kind == "recurrent_gemma" or SPLIT_CONV.at(kind, self.engine.release)
        return Rules(
            dtype=dtype,
            key_dtype=dtype if preallocated else KEY_DTYPE.at(kind, self.engine.release) or dtype,
            gate_dtype=GATE_DTYPE.at(kind, self.engine.release),
            preallocated=preallocated,
            windows=self._windows(model, built),
            window_unclipped=built == "chunked" and WINDOW_UNCLIPPED.at(self.engine.release),
            every_window=widest_window(model) if built == "everywhere" else None,
            fused=self._fused(model, built),
            first_view_of_one=kind == "bloom" and self.engine.release < (4, 44),
            fixed_len=self._fixed_len(),
            extra_len=EXTRA_LEN.at(self.engine.release),
            latent=LATENT.at(kind, self.engine.release),
            cross_slides=CROSS_SLIDES.at(kind, self.engine.release),
            index_name="idx_keys" if kind in {"minimax_m3", "minimax_m3_vl_text"} else "indexer_keys",
            reference_window=own_window(model) if kind == "unlimited_ocr_text" and built != "plain" else None,
            state_names=_STATE_NAMES.get(kind, ()),
            state_in_model_dtype=STATE_DTYPE.at(kind, self.engine.release) == "model",
            conv_columns_less=int(less),
            conv_is_view=less,
            one_is_a_step=kind == "recurrent_gemma",  # RecurrentGemmaRecurrentBlock.forward looks at the number of tokens alone
        )

    def _windows(self, model: Model, built: str) -> Any:
        if self._on_modules(model):
            return "on_modules"
        if built in _WINDOWS:
            return _WINDOWS[built].at(self.engine.release)
        return {"hybrid": "kept", "alternating": "kept", "chunked": "kept", "everywhere": "everywhere"}.get(built, "ignored")

    def _fused(self, model: Model, built: str) -> Any:
        """Whether the first tensors are views of a fused projection's output."""
        kind = text_type(model)
        if built in _PREALLOCATED or not FIRST_VIEW.at(self.engine.release):
            return ""
        if kind == "phi" and self.engine.release < (4, 37):
            return "values"
        if kind != "falcon":
            return FUSED.get(kind, "")
        return one_projection(model)

    def _fixed_len(self) -> int | None:
        if self.engine.options.max_cache_len is not None:
            return self.engine.options.max_cache_len
        if self.engine.options.max_length is None:
            return None
        return self.engine.options.max_length - 1 + int(EXTRA_LEN.at(self.engine.release))

    # The tensors.

    def kept(self, model: Model) -> Model:
        """The layers as this release and this implementation see them."""
        kept = as_kept(model, self.engine.release)
        built = self.implementation(kept)
        if built == "static" and SURPLUS_STATIC.at(self.engine.release):
            kept = with_surplus_layers(kept)
        if self._on_modules(kept):
            return kept
        if built == "dynamic" and ZERO_SHARED.at(text_type(kept), self.engine.release):
            return without_windows_unless_shared(kept)
        if built == "alternating" or (built == "chunked" and text_type(kept) != "llama4_text"):
            return alternating(kept)
        return without_types(kept) if built == "hybrid" else kept

    def notes(self, workload: Workload) -> tuple[str, ...]:
        """What the library changes or ignores without saying so; keys that lost their say are in the provenance."""
        from kvplan.engines.transformers.notes import departures

        return (*super().notes(workload), *departures(self.model, self.engine.release))

    # What a process takes beside it.

    by_requests = True

    def ledger_of(self, machine: Machine, tensors: Described | None, at: Workload) -> Ledger:
        """Every line of a `generate()` process while it holds `at`."""
        from kvplan.engines.transformers.process import Process

        asked = (machine, tensors)
        if self._process is None or any(a is not b for a, b in zip(self._process[0], asked, strict=True)):
            self._process = (asked, Process(self, machine, tensors))
        return self._process[1].ledger(at)

    def own_way(self, left_bytes: int) -> tuple[str, ...]:
        """That the prompts are taken to be as long as the context, where nobody says how long they are."""
        if self.engine.options.prompt_len is not None:
            return ()
        return (
            "all prompts go through in one pass, each as long as the context: "
            "`--set prompt_len=N` says how many tokens a prompt has",
        )

    def prompt_pass(self, tensors: Described, at: Workload, item: int, *, attention: str = "", logits: int = 1) -> Line:
        """The most bytes over the weights while `at` goes through at once, its cache included: a band where it is no point.

        Args:
            tensors: the model's.
            at: sequences, and tokens of each.
            item: bytes of an element of the model's dtype.
            attention: `attn_implementation`; empty: what the class picks.
            logits: rows of each sequence that the head sees (`logits_to_keep`; `generate()` keeps one).
        """
        from kvplan.engines.transformers import ledger

        return self.pass_of(ledger.widths(tensors, item), at, attention=attention, logits=logits)

    def pass_of(self, widths: Widths, at: Workload, *, attention: str = "", logits: int = 1, searched: bool = False) -> Line:
        """`prompt_pass` of a model by its widths; `searched`: for whoever looks for the most requests."""
        from kvplan.engines.transformers import ledger, peaks

        crosses = any(isinstance(memory, Cross) for layer in self.model.layers for memory in layer.memories)
        eager = attention == "eager" if attention else widths.text_type in peaks.EAGER
        prompt = self._prompt(at)
        pieces = tuple(self._pieces(prompt, at.encoder_len))
        asked = ledger.Pass(
            batch=prompt.batch_size,
            tokens=prompt.seq_len,
            cache=ledger.blocks(pieces, self._bookkeeping()),
            last=ledger.last_layer(pieces),
            eager=eager,
            logits=logits if logits and not crosses else prompt.seq_len,
            searched=searched,
        )
        return ledger.prefill_peak(widths, asked, self.engine.release)

    @property
    def rows(self) -> int:
        """Sequences that one request becomes."""
        return max(self.engine.options.num_beams, self.engine.options.num_return_sequences)

    def prompt_cache(self, at: Workload) -> int:
        """What the allocator counts of the cache once the prompts of `at` went through."""
        from kvplan.engines.transformers import ledger

        return ledger.blocks(self._pieces(self._prompt(at), at.encoder_len), self._bookkeeping())

    def held_blocks(self, at: Workload) -> tuple[int, int]:
        """What it counts of the cache at the end of `at`, and of the layer that grows last."""
        from kvplan.engines.transformers import ledger

        pieces = tuple(self.tensors(At(at.seq_len, at.batch_size, at.encoder_len)))
        return ledger.blocks(pieces, self._bookkeeping()), ledger.last_layer(pieces)

    def _prompt(self, at: Workload) -> Moment[int]:
        """The moment after the prompts of `at`: `prompt_len` tokens of each, or all of it."""
        told = self.engine.options.prompt_len
        tokens = at.seq_len if told is None else min(max(told, 1), at.seq_len)
        return Moment(seq_len=tokens, prompt_len=tokens, batch_size=at.batch_size * self.rows, encoder_len=at.encoder_len)

    def moment(self, at: At[Count]) -> Moment[Count]:
        """What the cache has seen, beams included."""
        prompt = self.engine.options.prompt_len
        return Moment(
            seq_len=at.seq_len,
            prompt_len=at.seq_len - 1 if prompt is None else at.seq_len * 0 + prompt,
            batch_size=at.batch_size * self.rows,
            encoder_len=at.encoder_len,
        )

    def check(self, at: At[int]) -> None:
        """Quantised caches refuse tensors that their groups do not divide; a cache without windows some loops."""
        if self.built == "quantized":
            refuse_uneven(self.engine.options, self.read, at.seq_len, at.batch_size)
        reason = last_loop_plain(self.read, at.seq_len) if self.built == "plain" else ""
        if reason:
            raise Refused(reason)

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """Every tensor, one entry for each set of equal layers."""
        return self._pieces(self.moment(at), at.encoder_len)

    def _pieces(self, moment: Moment[Count], encoder_len: int) -> Iterator[Piece[Count]]:
        kept, engine = self.read, self.engine
        quantized = self.built == "quantized"
        for memories, layers in kept.collapsed().items():
            if quantized:
                yield from quantized_pieces(
                    engine.options, engine.release, self.rules, memories, layers, moment, kept.attention_heads
                )
            else:
                held = tuple(m for m in memories if not (isinstance(m, Cross) and not encoder_len and not m.tokens))
                yield from Layers(self.rules, layers, moment, kept.attention_heads).pieces(held)
        yield from self._beside(moment)

    def _beside(self, at: Moment[Count]) -> Iterator[Piece[Count]]:
        """Tensors that single releases allocated or kept alive for nothing."""
        model, rules, built = self.read, self.rules, self.built
        everyone = tuple(layer.index for layer in model.layers)
        softmax = [m for layer in model.layers for m in layer.memories if isinstance(m, Softmax)]
        if built == "hybrid" and self._on_modules(model) and HYBRID_EARLY.at(self.engine.release) and softmax:
            unused = replace(rules, preallocated=True, windows="ignored")
            yield from Layers(unused, everyone, at, model.attention_heads).pieces((softmax[0],))
        if built == "static" and SHARED_REFERENCES.at(text_type(model), self.engine.release):
            sources = {m.source for layer in model.layers for m in layer.memories if isinstance(m, Shared)}
            yield from Layers(rules, tuple(sorted(sources)), at, model.attention_heads).references(model)

    def bookkeeping(self, at: At[Count]) -> Count | int:
        """Counters that the layers keep as tensors."""
        return self._bookkeeping()

    def _bookkeeping(self) -> int:
        kept, built, rules = self.read, self.built, self.rules
        if text_type(kept) in OWN_CACHE:
            return COUNTER_BYTES.at(text_type(kept), self.engine.release)
        total = 0
        for memories, layers in kept.collapsed().items():
            total += sum(self._counters(memory, built, rules) for memory in memories) * len(layers)
        if built in {"hybrid", "alternating"}:
            total += int(HYBRID_BOOKKEEPING.at(self.engine.release)) * len(kept.layers)
        if built == "static" and surplus_layers(kept) > 0:
            total += 2 * int(STATIC_BOOKKEEPING.at(self.engine.release)) * surplus_layers(kept)
        if built == "static" and EMPTY_STATIC.at(self.engine.release):
            total += int(STATIC_BOOKKEEPING.at(self.engine.release)) * plain_mlps(kept)
        return total

    def _counters(self, memory: Memory, built: str, rules: Rules) -> int:
        """Bytes of counters that one memory brings along."""
        if rules.windows == "on_modules":
            return 0
        if isinstance(memory, Recurrent):
            slides = memory.kind == "rg_lru" and RECURRENT_SLIDES.at("recurrent_gemma", self.engine.release)
            return (
                (STATIC_BOOKKEEPING if built == "static" else SLIDING_BOOKKEEPING).at(self.engine.release)
                if slides and built in {"static", "dynamic"}
                else 0
            )
        reach = getattr(memory, "reach", None)
        if built == "static":
            each = int(STATIC_BOOKKEEPING.at(self.engine.release))
            return each if isinstance(memory, Softmax | Latent | Index | Cross) else 0
        if built != "dynamic" or rules.windows != "less_one" or isinstance(memory, Index) or isinstance(reach, Compressed):
            return 0
        slides = isinstance(reach, Window | Chunk) or rules.reference_window is not None
        if isinstance(memory, Cross) and not rules.cross_slides:
            return 0
        return int(SLIDING_BOOKKEEPING.at(self.engine.release)) if slides else 0


#: An older release's implementation -> what it is built as.
_BUILT_AS: Final = {"hybrid": HYBRID, "hybrid_chunked": HYBRID_CHUNKED, "sliding_window": SLIDING_WINDOW}
#: What becomes of windows.
_WINDOWS: Final = {"dynamic": DYNAMIC, "static": STATIC}
_STATE_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "minimax": ("linear_cache",),
    "recurrent_gemma": ("conv1d_state", "recurrent_states"),
    "rwkv": ("0", "1", "2", "3", "4"),
    "xlstm": ("rnn_state.0", "rnn_state.1", "rnn_state.2"),
    "olmo_hybrid": (),
}
