"""llama.cpp's memory: from a model's hparams and a context's sizes to every tensor of its cache objects.

Source: llama.cpp 0c1e57098, `src/llama-model.cpp` (`create_memory`), `src/llama-kv-cache*.cpp`,
`src/llama-memory-*.cpp`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, Literal

from msgspec import Struct

from kvplan.domain.dtypes import lookup
from kvplan.engines.kernel.releases import Release
from kvplan.engines.kernel.tensors import Count, at_least, at_most
from kvplan.engines.llama_cpp.builds import (
    HYBRID_STREAMS,
    INDEXERS,
    LATENT_VALUES,
    LATEST,
    NEXTN_KEPT,
    PADDING,
    ROUNDS_WINDOWS,
    VALUES_PADDED,
    WINDOWS_QUANTISED,
    windows,
)
from kvplan.gguf.hparams import Hparams
from kvplan.gguf.known import (
    DSA,
    HYBRID,
    IGNORES_NEXTN,
    INDEXED,
    NO_CACHE,
    PLAIN_MTP_HYBRIDS,
    PURE_RECURRENT,
    ROLLBACK,
    TRUNK_ONLY_HYBRIDS,
)

_Role = Literal["k", "v", "r", "s", "p", "state"]

PAD: Final = 256  # cells are a multiple of this
#: Cache types of the command line -> kvplan's dtype.
CACHE_TYPES: Final = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
CACHE_TYPES.update({name: name for name in ("q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")})


class Params(Struct, Generic[Count], frozen=True, kw_only=True):
    """`llama_context_params`, by the names of the C API; tokens and sequences may be arrays, one entry a workload."""

    n_ctx: Count  # tokens; an int of 0: the model's context length
    n_seq_max: Count
    n_batch: int | Count = 2048
    n_ubatch: int | Count = 512
    n_rs_seq: int = 0
    kv_unified: bool = False
    swa_full: bool = False
    flash_attn: Literal["on", "off", "auto"] = "auto"
    type_k: str = "f16"
    type_v: str = "f16"
    ctx_type: Literal["default", "mtp"] = "default"
    embeddings: bool = False
    release: Release = LATEST


class Tensor(Struct, Generic[Count], frozen=True, kw_only=True):
    """One tensor of a part: `role` k, v, r, s, p or state."""

    layer: int
    role: _Role
    shape: tuple[int | Count, ...]  # llama.cpp's order: the row first
    type: str
    bytes: Count


class Part(Struct, Generic[Count], frozen=True, kw_only=True):
    """One cache object as the log prints it: cells of one stream, streams, layers stored, and its tensors."""

    name: str
    cells: int | Count
    streams: Count
    n_layers: int
    tensors: tuple[Tensor[Count], ...]

    def sum(self, *roles: str) -> int | Count:
        """Bytes of the tensors with these roles."""
        return sum(t.bytes for t in self.tensors if t.role in roles)


def pad(amount: Count, size: int = PAD) -> Count:
    """`amount` rounded up to a multiple of `size` (`GGML_PAD`)."""
    return -(-amount // size) * size


class Memory(Generic[Count]):
    """Builds the parts of one context. Source: `llama_model::create_memory`."""

    cells: Count
    streams: Count
    n_seq_max: Count
    cells_swa: Count
    cells_raw: Count

    def __init__(
        self, h: Hparams, p: Params[Count], *, cells: Count, n_seq_max: Count, n_batch: Count, n_ubatch: Count, flash: bool
    ) -> None:
        self.h = h
        self.cells = cells
        self.release = p.release
        together = p.kv_unified or (h.arch in HYBRID and not HYBRID_STREAMS.at(p.release))
        self.streams = n_seq_max * 0 + 1 if together else n_seq_max
        self.n_seq_max = n_seq_max
        self.n_rs_seq = p.n_rs_seq if h.arch in ROLLBACK else 0
        self.flash = flash
        self.window = windows(h, p.release) if h.has_swa else "none"
        self.type_k = p.type_k
        self.type_v = p.type_v
        own = n_seq_max * 0 + h.n_swa  # deepseek4 keeps every sequence apart
        all_windows = n_seq_max * h.n_swa if together else own
        beside = n_batch if self.window == "batch" else n_ubatch
        padding = PADDING.at(p.release)
        size = PAD if ROUNDS_WINDOWS.at(p.release) else padding.flash if flash else padding.plain
        self.cells_swa = cells if p.swa_full else at_most(cells, pad(all_windows + beside, size))
        self.cells_raw = cells if p.swa_full else at_most(cells, pad(own + n_ubatch))

    def parts(self) -> Iterator[Part[Count]]:
        """Every cache object, in the engine's order."""
        h = self.h
        if h.arch in NO_CACHE:
            return
        if h.arch in PURE_RECURRENT:
            yield self._recurrent()
            return
        if h.arch == "deepseek4":
            yield from self._deepseek4()
            return
        whole = h.arch in IGNORES_NEXTN or (h.arch in HYBRID and h.arch not in TRUNK_ONLY_HYBRIDS)
        whole = whole or NEXTN_KEPT.at(h.arch, self.release)
        layers = range(h.n_layer_all if whole else h.n_layer)
        attention = [i for i in layers if self._attends(i)]
        if h.arch == "dots3note":
            yield from self._dots3(attention)
            return
        name = "attn" if h.arch in HYBRID else "mla" if h.arch in DSA and any(h.indexed) else "kv"
        yield from self._attention(name, attention)
        if h.arch in HYBRID:
            yield self._recurrent()
        kept = INDEXERS.at(h.arch, self.release)
        if kept != "none" and h.index_length and (any(h.indexed) or h.arch in INDEXED - {"hy_v4"}):
            yield self._indexer([i for i in attention if (h.indexed[i] or kept == "all") and not h.sliding[i]])

    def mtp(self) -> Iterator[Part[Count]]:
        """A drafting context: a cache of the NextN layers alone, where the architecture does not ignore the request."""
        h = self.h
        drafts = list(range(h.n_layer, h.n_layer_all))
        if h.arch in {*NO_CACHE, *PURE_RECURRENT, *IGNORES_NEXTN} or (h.arch in HYBRID and h.arch not in PLAIN_MTP_HYBRIDS):
            yield from self.parts()
        elif h.arch in DSA:
            yield self._cache("kv", drafts, self.cells)
        else:
            yield from self._attention("kv", drafts)

    def _attention(self, name: str, layers: Sequence[int]) -> Iterator[Part[Count]]:
        """One cache, or two where the architecture has windows."""
        h = self.h
        if self.window == "none":
            yield self._cache(name, layers, self.cells)
            return
        yield self._cache("base", [i for i in layers if not h.sliding[i]], self.cells)
        yield self._cache("swa", [i for i in layers if h.sliding[i]], self.cells_swa)

    def _dots3(self, attention: Sequence[int]) -> Iterator[Part[Count]]:
        """Latents and an indexer on the layers that see everything, a window of latents on the others."""
        full = [i for i in attention if not self.h.sliding[i]]
        yield self._cache("mla", full, self.cells)
        yield self._indexer([i for i in attention if self.h.indexed[i]])
        yield self._cache("swa", [i for i in attention if self.h.sliding[i]], self.cells_swa)

    def _attends(self, layer: int) -> bool:
        h = self.h
        if h.kv_from_start is not None and layer >= h.kv_from_start:
            return False
        if h.arch == "falcon-h1":
            return True
        if h.arch in {"nemotron_h", "nemotron_h_moe"}:
            return not h.recurrent[layer] and h.feed_forward[layer] == 0
        return not h.recurrent[layer]

    def _kv(
        self,
        layers: Sequence[int],
        cells: Count,
        streams: Count,
        k: Callable[[int], int],
        v: Callable[[int], int],
        kinds: tuple[str, str] | None = None,
    ) -> Iterator[Tensor[Count]]:
        type_k, type_v = kinds or (self.type_k, self.type_v)
        sizes: dict[tuple[str, int], Count] = {}  # equal rows share one product: with arrays, these are the work
        for layer in layers:
            rows: tuple[tuple[_Role, str, int], ...] = (("k", type_k, k(layer)), ("v", type_v, v(layer)))
            for role, kind, elements in rows:
                if role == "v" and elements < 0:
                    continue
                if (kind, elements) not in sizes:
                    sizes[kind, elements] = cells * streams * lookup(CACHE_TYPES[kind]).row_bytes(1, elements)
                size = sizes[kind, elements]
                yield Tensor(layer=layer, role=role, shape=(elements, cells, streams), type=kind, bytes=size)

    def _v_elements(self, layer: int) -> int:
        """A value row; without flash attention V lies transposed, and unequal layers are all padded to the widest."""
        h = self.h
        if h.is_mla:  # the latent serves as both
            return h.value_length if LATENT_VALUES.at(self.release) else -1
        if not self.flash and VALUES_PADDED.at(self.release):
            return max(h.n_embd_v(i) for i in range(h.n_layer_all))
        return h.n_embd_v(layer)

    def _cache(self, name: str, layers: Sequence[int], cells: Count) -> Part[Count]:
        plain = name == "swa" and layers and not WINDOWS_QUANTISED.at(self.release)
        kinds = ("f16", "f16") if plain else None
        tensors = tuple(self._kv(layers, cells, self.streams, self.h.n_embd_k, self._v_elements, kinds))
        return Part(name=name, cells=cells, streams=self.streams, n_layers=len(layers), tensors=tensors)

    def _indexer(self, layers: Sequence[int]) -> Part[Count]:
        """One indexer row a token; MiniMax-M3's cache object also allocates a value row that nothing reads."""
        h = self.h
        row = h.index_length * (3 if h.index_pool else 1)
        value = h.value_length if h.arch == "minimax-m3" else -1

        def key(layer: int) -> int:  # a sliding layer's is as wide as its own keys: only its full size is replaced
            return h.key_length_swa if h.sliding[layer] else row

        tensors = tuple(self._kv(layers, self.cells, self.streams, key, lambda _: value))
        return Part(name="indexer", cells=self.cells, streams=self.streams, n_layers=len(layers), tensors=tensors)

    def _recurrent(self) -> Part[Count]:
        """Rolling and state rows, always f32. (The log prints the model's layers instead of the stored ones.)"""
        h = self.h
        rows = self.n_seq_max * (1 + self.n_rs_seq)

        def state(layer: int, role: _Role, elements: int) -> Tensor[Count]:
            return Tensor(layer=layer, role=role, shape=(elements, rows), type="f32", bytes=rows * (4 * elements))

        layers = [i for i in range(h.n_layer) if h.recurrent[i]]
        tensors = [made for i in layers for made in (state(i, "r", h.r_elements), state(i, "s", h.s_elements))]
        if h.p_elements and h.ple_layer in layers:
            tensors.append(state(h.ple_layer, "p", h.p_elements))
        return Part(name="recr", cells=self.n_seq_max, streams=rows * 0 + 1, n_layers=len(layers), tensors=tuple(tensors))

    def _deepseek4(self) -> Iterator[Part[Count]]:
        """Raw window, compressed entries, indexer entries and compressor states; every sequence has its own stream."""
        h, streams = self.h, self.n_seq_max
        trunk = range(h.n_layer)
        csa, hca = [i for i in trunk if h.ratios[i] == 4], [i for i in trunk if h.ratios[i] == 128]

        def part(name: str, layers: Sequence[int], cells: Count, row: int) -> Part[Count]:
            tensors = tuple(self._kv(layers, cells, streams, lambda _: row, lambda _: -1))
            return Part(name=name, cells=cells, streams=streams, n_layers=len(layers), tensors=tensors)

        def state(name: str, layers: Sequence[int], rows: int, dim: int) -> Part[Count]:
            copies = streams * (1 + self.n_rs_seq)
            size, shape = copies * (4 * dim * rows), (dim, rows, copies)
            tensors = tuple(
                Tensor(layer=i, role="state", shape=shape, type="f32", bytes=size) for i in layers for _ in ("kv", "score")
            )
            return Part(name=name, cells=rows, streams=copies, n_layers=len(layers), tensors=tensors)

        def entries(ratio: int) -> Count:
            whole: Count = -(-self.cells // ratio)
            return pad(at_least(whole, 1))

        yield part("raw_base", [], self.cells, h.key_length_swa)
        yield part("raw_swa", list(trunk), self.cells_raw, h.key_length_swa)
        yield part("csa", csa, entries(4), h.key_length_swa)
        yield part("hca", hca, entries(128), h.key_length_swa)
        yield part("lid", csa, entries(4), h.index_length)
        yield state("csa_state", csa, 8, 2 * h.key_length_swa)
        yield state("hca_state", hca, 128, h.key_length_swa)
        yield state("lid_state", csa, 8, 2 * h.index_length)
