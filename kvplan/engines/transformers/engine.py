"""`transformers`: what the library's own cache objects hold after a prompt and the tokens decoded since.

`payload_bytes` counts the elements that the cache's tensors show, `allocated_bytes` the storage behind them (a sliding
layer's tensor is a view of a larger one), and bookkeeping the counters beside them. Without `prompt_len` the state is
that after a prompt of `seq_len - 1` tokens and one decode step; the last token that `generate()` samples never enters
the cache. The cache has the dtype of the activations; there is no option for it, except the quantized cache.

Sources: `cache_utils.py`, `generation/utils.py` and `models/*/modeling_*.py` of transformers 4.36 to 5.23.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.dtypes import lookup
from kvplan.domain.model import Chunk, Compressed, Cross, Index, Latent, Memory, Model, Recurrent, Shared, Softmax, Window
from kvplan.domain.words import layer_kinds
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.engine import PieceEngine
from kvplan.engines.kernel.releases import parse_version
from kvplan.engines.kernel.tensors import Count, Piece
from kvplan.engines.transformers.models import (
    OWN_CACHE,
    alternating,
    as_kept,
    plain_mlps,
    setting,
    surplus_layers,
    text_type,
    widest_window,
    without_types,
    without_windows_unless_shared,
)
from kvplan.engines.transformers.quantized import quantized_pieces, quantized_refusal, uneven_groups
from kvplan.engines.transformers.refusals import refusal
from kvplan.engines.transformers.releases import FUSED, LATEST, family, general
from kvplan.engines.transformers.rules import Rules
from kvplan.engines.transformers.tensors import Layers, Moment
from kvplan.errors import OptionError, nearest

_PREALLOCATED: Final = frozenset({"static", "hybrid", "alternating", "chunked", "everywhere"})
CACHES: Final = ("auto", "dynamic", "static", "quantized", "plain", "hybrid", "hybrid_chunked", "sliding_window")


class TransformersOptions(Struct, frozen=True, kw_only=True):
    """What `generate()` and the cache classes take.

    `cache`: `auto` (what `generate()` builds for the model), `dynamic`, `static`, `quantized`, `plain` (a
    `DynamicCache()` made without a config, which knows no windows), or an older release's `hybrid`, `hybrid_chunked`,
    `sliding_window`. `max_cache_len` is a static cache's room in tokens; without it, what a `generate()` of
    `max_length` tokens prepares, or of one token more than `seq_len`. `prompt_len` tokens went through at once.
    `num_beams` and `num_return_sequences` multiply the batch. The rest are the quantized cache's own.
    """

    cache: str = "auto"
    dtype: str = "auto"
    max_cache_len: int | None = None
    max_length: int | None = None
    prompt_len: int | None = None
    num_beams: int = 1
    num_return_sequences: int = 1
    backend: str = "quanto"
    nbits: int = 4
    axis_key: int | None = None
    axis_value: int | None = None
    q_group_size: int = 64
    residual_length: int = 128

    def __post_init__(self) -> None:
        if self.cache not in CACHES:
            near = nearest(self.cache, CACHES)
            hint = f"did you mean `{near}`?" if near else f"one of {', '.join(CACHES)}"
            raise OptionError(f"transformers option cache: there is no `{self.cache[:40]}` cache", hint=hint)
        for name in ("max_cache_len", "max_length", "num_beams", "num_return_sequences", "q_group_size", "residual_length"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 2**40:
                raise OptionError(f"transformers option {name} must be at least 1, got {value}")
        if self.prompt_len is not None and not 0 <= self.prompt_len <= 2**40:
            raise OptionError(f"transformers option prompt_len must be at least 0, got {self.prompt_len}")


class Transformers(PieceEngine):
    """The library's caches; see the module's docstring."""

    name: ClassVar[str] = "transformers"
    Options: ClassVar[type[Any]] = TransformersOptions
    aliases: ClassVar[Mapping[str, str]] = {"kv_dtype": "dtype"}
    latest: ClassVar[str] = LATEST
    options: TransformersOptions

    def __init__(self, options: Any = None, version: str | None = None) -> None:
        super().__init__(options, version)
        self.release = parse_version(self.version)
        if (self.options.cache == "quantized" and self.options.backend == "fp8") or self.release < (4, 44):
            # one scale a tensor, whatever the batch; Bloom's first views of a batch of one
            self.linear_in_batch = False  # type: ignore[misc]

    # What is asked for, in this release.

    def kv_dtype(self, model: Model) -> str:
        """The activations' dtype: the model's, or the one it is loaded in."""
        row = lookup(model.dtype if self.options.dtype == "auto" else self.options.dtype)
        if row.torch not in {"float32", "bfloat16", "float16"}:
            raise OptionError(
                f"transformers keeps keys and values in the model's dtype, so not in {row.name}",
                hint="load the model in another dtype, or use --set cache=quantized --set backend=fp8 (or quanto, hqq)",
            )
        return row.name

    def implementation(self, model: Model) -> str:
        """What is built: `dynamic`, `plain`, `static`, `hybrid`, `everywhere` or `quantized`."""
        asked = self.options.cache
        if asked == "auto":
            asked = family("default", text_type(model), self.release, "dynamic")
            if asked == "hint":
                asked = setting(model, "cache_implementation", "dynamic")
        if asked == "hybrid" and text_type(model) == "llama4_text" and self.release < (4, 56):
            asked = "hybrid_chunked"  # the class for chunks, under either name
        if asked in {"hybrid", "hybrid_chunked", "sliding_window"}:
            asked = general(asked, self.release)
        if asked in _PREALLOCATED and self._ignores_static(model):
            return "dynamic"
        return str(asked)

    def _ignores_static(self, model: Model) -> bool:
        """Whether the model keeps what it always keeps, whatever cache is asked for."""
        kind = text_type(model)
        return kind in OWN_CACHE or bool(family("static_ignored", kind, self.release, False))

    def _on_modules(self, model: Model) -> bool:
        return bool(family("window_on_modules", text_type(model), self.release, False))

    def rules(self, model: Model) -> Rules:
        """Everything that the tensors depend on."""
        kind, built, dtype = text_type(model), self.implementation(model), self.kv_dtype(model)
        less = kind == "recurrent_gemma" or family("split_conv", kind, self.release, False)
        return Rules(
            dtype=dtype,
            key_dtype=family("key_dtype", kind, self.release, "") or dtype,
            preallocated=built in _PREALLOCATED and not self._on_modules(model),
            windows=self._windows(model, built),
            window_unclipped=built == "chunked" and general("window_unclipped", self.release),
            every_window=widest_window(model) if built == "everywhere" else None,
            fused=self._fused(model, built),
            first_view_of_one=kind == "bloom" and self.release < (4, 44),
            fixed_len=self._fixed_len(),
            extra_len=general("extra_len", self.release),
            latent=family("latent", kind, self.release, True),
            cross_slides=family("cross_slides", kind, self.release, False),
            index_name="idx_keys" if kind in {"minimax_m3", "minimax_m3_vl_text"} else "indexer_keys",
            reference_window=setting(model, "sliding_window", 128) if kind == "unlimited_ocr_text" and built != "plain" else None,
            state_names=_STATE_NAMES.get(kind, ()),
            state_in_model_dtype=family("state", kind, self.release, "state") == "model",
            conv_columns_less=int(less),
            conv_is_view=less,
        )

    def _windows(self, model: Model, built: str) -> Any:
        if self._on_modules(model):
            return "on_modules"
        if built in {"dynamic", "static"}:
            return general(built, self.release)
        return {"hybrid": "kept", "alternating": "kept", "chunked": "kept", "everywhere": "everywhere"}.get(built, "ignored")

    def _fused(self, model: Model, built: str) -> Any:
        """Whether the first tensors are views of a fused projection's output."""
        kind = text_type(model)
        if built in _PREALLOCATED or not general("first_view", self.release):
            return ""
        if kind == "phi" and self.release < (4, 37):
            return "values"
        if kind != "falcon":
            return FUSED.get(kind, "")
        if setting(model, "new_decoder_architecture", False) or setting(model, "multi_query", True):
            return ""
        return "both" if setting(model, "alibi", False) else "values"

    def _fixed_len(self) -> int | None:
        if self.options.max_cache_len is not None:
            return self.options.max_cache_len
        if self.options.max_length is None:
            return None
        return self.options.max_length - 1 + int(general("extra_len", self.release))

    # The tensors.

    def kept(self, model: Model) -> Model:
        """The layers as this release and this implementation see them."""
        kept = as_kept(model, self.release)
        built = self.implementation(kept)
        if self._on_modules(kept):
            return kept
        if built == "dynamic" and family("zero_shared", text_type(kept), self.release, False):
            return without_windows_unless_shared(kept)
        if built == "alternating" or (built == "chunked" and text_type(kept) != "llama4_text"):
            return alternating(kept)
        return without_types(kept) if built == "hybrid" else kept

    def notes(self, model: Model, workload: Workload) -> tuple[str, ...]:
        """What the library changes or ignores without saying so; keys that lost their say are in the provenance."""
        from kvplan.engines.transformers.notes import departures

        return (*super().notes(model, workload), *departures(model, self.release))

    def moment(self, seq_len: Count, batch_size: Count, encoder_len: int) -> Moment[Count]:
        """What the cache has seen, beams included."""
        prompt = self.options.prompt_len
        return Moment(
            seq_len=seq_len,
            prompt_len=seq_len - 1 if prompt is None else seq_len * 0 + prompt,
            batch_size=batch_size * max(self.options.num_beams, self.options.num_return_sequences),
            encoder_len=encoder_len,
        )

    def pieces(self, model: Model, seq_len: Count, batch_size: Count, encoder_len: int) -> Iterator[Piece[Count]]:
        """Every tensor, one entry for each set of equal layers."""
        kept = self.kept(model)
        rules, at = self.rules(kept), self.moment(seq_len, batch_size, encoder_len)
        quantized = self.implementation(kept) == "quantized"
        for memories, layers in kept.collapsed().items():
            if quantized:
                yield from quantized_pieces(self.options, self.release, rules, memories, layers, at, kept.attention_heads)
            else:
                held = tuple(m for m in memories if not (isinstance(m, Cross) and not encoder_len and not m.tokens))
                yield from Layers(rules, layers, at, kept.attention_heads).pieces(held)
        yield from self._beside(kept, rules, at)

    def _beside(self, model: Model, rules: Rules, at: Moment[Count]) -> Iterator[Piece[Count]]:
        """Tensors that single releases allocated or kept alive for nothing."""
        built, everyone = self.implementation(model), tuple(layer.index for layer in model.layers)
        softmax = [m for layer in model.layers for m in layer.memories if isinstance(m, Softmax)]
        if built == "hybrid" and self._on_modules(model) and general("hybrid_early", self.release) and softmax:
            unused = replace(rules, preallocated=True, windows="ignored")
            yield from Layers(unused, everyone, at, model.attention_heads).pieces((softmax[0],))
        if built == "static" and family("shared_references", text_type(model), self.release, False):
            sources = {m.source for layer in model.layers for m in layer.memories if isinstance(m, Shared)}
            yield from Layers(rules, tuple(sorted(sources)), at, model.attention_heads).references(model)

    def bookkeeping_bytes(self, model: Model, seq_len: Count, batch_size: Count) -> Count | int:
        """Counters that the layers keep as tensors."""
        kept = self.kept(model)
        if text_type(kept) in OWN_CACHE:
            return int(family("counter_bytes", text_type(kept), self.release, 0))
        built, rules = self.implementation(kept), self.rules(kept)
        total = 0
        for memories, layers in kept.collapsed().items():
            total += sum(self._counters(memory, built, rules) for memory in memories) * len(layers)
        if built in {"hybrid", "alternating"}:
            total += int(general("hybrid_bookkeeping", self.release)) * len(kept.layers)
        if built == "static" and surplus_layers(kept) > 0:
            total += 2 * int(general("static_bookkeeping", self.release)) * surplus_layers(kept)
        if built == "static" and general("empty_static", self.release):
            total += int(general("static_bookkeeping", self.release)) * plain_mlps(kept)
        return total

    def _counters(self, memory: Memory, built: str, rules: Rules) -> int:
        """Bytes of counters that one memory brings along."""
        if rules.windows == "on_modules":
            return 0
        if isinstance(memory, Recurrent):
            slides = memory.kind == "rg_lru" and family("recurrent_slides", "recurrent_gemma", self.release, False)
            return (
                int(general(f"{'static' if built == 'static' else 'sliding'}_bookkeeping", self.release))
                if slides and built in {"static", "dynamic"}
                else 0
            )
        reach = getattr(memory, "reach", None)
        if built == "static":
            each = int(general("static_bookkeeping", self.release))
            return each if isinstance(memory, Softmax | Latent | Index | Cross) else 0
        if built != "dynamic" or rules.windows != "less_one" or isinstance(memory, Index) or isinstance(reach, Compressed):
            return 0
        slides = isinstance(reach, Window | Chunk) or rules.reference_window is not None
        if isinstance(memory, Cross) and not rules.cross_slides:
            return 0
        return int(general("sliding_bookkeeping", self.release)) if slides else 0

    def refuse(self, model: Model) -> NotPredicted | None:
        """A release or a model type that was not studied, or that the library itself refuses."""
        reason = refusal(model, self.implementation(model), self.release, self.version)
        if reason:
            return NotPredicted(reason=reason)
        if self.implementation(model) == "quantized":
            return quantized_refusal(self.options, as_kept(model, self.release))
        return None

    def footprint(self, model: Model, workload: Workload) -> Allocation | NotPredicted:
        """The cache of `workload`, tensor by tensor; the kinds of layer are as the library keeps them."""
        engine = self
        if workload.prompt_len is not None and workload.prompt_len != self.options.prompt_len:
            engine = Transformers(replace(self.options, prompt_len=workload.prompt_len), self.version)
        answer = super(Transformers, engine).footprint(model, workload)
        if isinstance(answer, NotPredicted):
            return answer
        if self.implementation(model) == "quantized":
            uneven = uneven_groups(engine.options, as_kept(model, self.release), workload)
            if uneven is not None:
                return uneven
        return replace(answer, kinds=layer_kinds(self.kept(model)))


_STATE_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "minimax": ("linear_cache",),
    "recurrent_gemma": ("conv1d_state", "recurrent_states"),
    "rwkv": ("0", "1", "2", "3", "4"),
    "xlstm": ("rnn_state.0", "rnn_state.1", "rnn_state.2"),
    "olmo_hybrid": (),
}
