"""Which type llama.cpp gives each tensor when it quantises a model to a mix (Q4_K_M, IQ4_XS …), and what the tensors take. Pure.

Source: llama.cpp `src/llama-quant.cpp` (`tensor_allows_quantization`, `llama_tensor_get_type_impl`, `tensor_type_fallback`,
`llama_ftype_get_default_type`) at 007dbbf3fd17, without overrides; with an importance matrix for the IQ mixes, the smaller
of which demand one, and without for the rest. 1-D tensors, routers and convolutions stay float32, as
`convert_hf_to_gguf.py` writes them. Publishers' own mixes (`UD-…`, `…_XL`) are not llama.cpp's.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from kvplan.gguf.ggml import GGML_TYPES
from kvplan.units import ceil_div

#: Mix -> the type of a tensor that no rule mentions.
DEFAULTS: Final[dict[str, str]] = {
    "f32": "f32", "f16": "f16", "bf16": "bf16", "q4_0": "q4_0", "q4_1": "q4_1", "q5_0": "q5_0", "q5_1": "q5_1", "q8_0": "q8_0",
    "q2_k": "q2_k", "q2_k_s": "q2_k", "q3_k_s": "q3_k", "q3_k_m": "q3_k", "q3_k_l": "q3_k", "q4_k_s": "q4_k", "q4_k_m": "q4_k",
    "q5_k_s": "q5_k", "q5_k_m": "q5_k", "q6_k": "q6_k", "iq1_s": "iq1_s", "iq1_m": "iq1_m", "iq2_xxs": "iq2_xxs",
    "iq2_xs": "iq2_xs", "iq2_s": "iq2_xs", "iq2_m": "iq2_s", "iq3_xxs": "iq3_xxs", "iq3_xs": "iq3_s", "iq3_s": "iq3_s",
    "iq3_m": "iq3_s", "iq4_nl": "iq4_nl", "iq4_xs": "iq4_xs", "tq1_0": "tq1_0", "tq2_0": "tq2_0", "mxfp4_moe": "mxfp4",
}  # fmt: skip
#: How people shorten them.
ALIASES: Final[dict[str, str]] = {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}

_TYPES: Final = {name: (block, size) for name, block, size in GGML_TYPES.values()}
_LOW: Final = frozenset({"iq2_xxs", "iq2_xs", "iq1_s", "iq2_s", "iq2_m", "iq1_m"})
_FALLBACKS: Final = {
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"),
    **dict.fromkeys(("q2_k", "q3_k", "tq1_0", "tq2_0"), "q4_0"),
    "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0",
}  # fmt: skip
_EIGHT: Final = frozenset({
    "q2_k", "iq3_xs", "iq3_xxs", "q3_k_s", "q3_k_m", "iq4_nl", "q4_k_s", "q4_k_m", "iq3_s", "iq3_m", "iq4_xs",
})  # fmt: skip


class Tensor(Struct, frozen=True, kw_only=True):
    """A tensor of a GGUF file as far as its type depends on it.

    `category` is llama.cpp's: `embed`, `q`, `k`, `v` (values, fused projections and latent attention's kv_b), `o`, `up`,
    `gate`, `down`, `output`, `other`; "" stays float32. `columns` is the first axis (inputs), `experts` its last.
    """

    category: str
    columns: int
    elements: int
    layer: int = 0
    experts: int = 1
    name: str = ""  # in the file, where it is told from others by it


class Subject(Struct, frozen=True, kw_only=True):
    """The model as the rule sees it: query heads that share a KV head, experts, all layers, and three special cases."""

    gqa: int
    experts: int
    layers: int
    tied: bool
    falcon: bool = False
    seventy: bool = False  # llama.cpp's model type 70B: 80 layers with grouped heads


def mix_of(name: str) -> str | None:
    """The mix that a name means, or None.

    >>> mix_of("Q4_K_M"), mix_of("Q5_K"), mix_of("UD-Q4_K_XL")
    ('q4_k_m', 'q5_k_m', None)
    """
    key = name.strip().lower().replace("-", "_")
    key = ALIASES.get(key, key)
    return key if key in DEFAULTS else None


def type_bytes(kind: str, columns: int, elements: int) -> int:
    """Bytes of `elements` in rows of `columns`."""
    block, size = _TYPES[kind]
    return ceil_div(columns, block) * size * (elements // columns) if columns else 0


def mixed_bytes(tensors: Iterable[Tensor], subject: Subject, mix: str) -> int:
    """What the tensors of a file take, in the order of layers."""
    return sum(type_bytes(kind, tensor.columns, tensor.elements) for tensor, kind in typed(tensors, subject, mix))


def typed(tensors: Iterable[Tensor], subject: Subject, mix: str) -> Iterator[tuple[Tensor, str]]:
    """Each tensor with its type."""
    listed = list(tensors)
    state = _State(subject, mix, sum(tensor.category == "v" for tensor in listed))
    for tensor in listed:
        if not tensor.category:
            yield tensor, "f32"
        elif DEFAULTS[mix] in {"f32", "f16", "bf16"}:
            yield tensor, DEFAULTS[mix]
        else:
            yield tensor, _fitting(state.choose(tensor), tensor.columns)


def _fitting(kind: str, columns: int) -> str:
    """The type, or the one that llama.cpp falls back to where rows are not whole blocks."""
    if columns % _TYPES[kind][0]:
        kind = _FALLBACKS.get(kind, "f16")
        if columns % _TYPES[kind][0]:
            return "f16"
    return kind


def _more_bits(layer: int, layers: int) -> bool:
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


class _State:
    """llama.cpp's counters over one file."""

    def __init__(self, subject: Subject, mix: str, values: int) -> None:
        self.subject, self.mix, self.values = subject, mix, values
        self.value = self.down = self.gate = self.up = 0

    def choose(self, tensor: Tensor) -> str:
        """The type of the next tensor."""
        mix, kind, category = self.mix, DEFAULTS[self.mix], tensor.category
        if category == "output" or (self.subject.tied and category == "embed"):
            return self._output(tensor, kind)
        if mix == "mxfp4_moe":
            return "mxfp4" if tensor.experts > 1 else "q8_0"
        if category == "embed":
            return self._embedding(kind)
        if mix in _LOW:
            return self._low(category, kind)
        chosen: str = getattr(self, f"_{category}", lambda k, t: k)(kind, tensor)
        return chosen

    def _output(self, tensor: Tensor, kind: str) -> str:
        if self.mix == "mxfp4_moe" or self.subject.falcon or tensor.columns % _TYPES[kind][0]:
            return "q8_0"
        if self.mix in _LOW or self.mix == "iq3_xxs":
            return "q5_k"
        return kind if kind == "q8_0" else "q6_k"

    def _embedding(self, kind: str) -> str:
        if self.mix in {"iq2_xxs", "iq2_xs", "iq1_s", "iq1_m"}:
            return "q2_k"
        if self.mix in {"iq2_s", "iq2_m", "iq3_xxs"}:
            return "iq3_s"
        return "q4_k" if self.mix in {"tq1_0", "tq2_0"} else kind

    def _low(self, category: str, kind: str) -> str:
        """Mixes of less than three bits."""
        better = "iq3_s" if self.mix in {"iq2_s", "iq2_m"} else "q2_k"
        if category == "v":
            return "q4_k" if self.subject.gqa >= 4 or self.subject.experts >= 4 else better
        if category == "k" and self.subject.experts == 8:
            return "q4_k"
        if category == "down":
            self.down += 1
            return better if self.down - 1 < self.subject.layers // 8 else kind
        if category == "o":
            if self.subject.experts == 8:
                return "q5_k"
            return {"iq1_s": "iq2_xxs", "iq1_m": "iq2_xxs", "iq2_s": "iq3_s", "iq2_m": "iq3_s"}.get(self.mix, kind)
        return kind

    def _v(self, kind: str, tensor: Tensor) -> str:
        mix, grouped, place = self.mix, self.subject.gqa >= 4, self.value
        self.value += 1
        match mix:
            case "q2_k":
                kind = "q4_k" if grouped else "q3_k"
            case "q2_k_s" | "iq3_xs" | "iq3_s" if grouped:
                kind = "q4_k"
            case "iq3_xxs":
                kind = "q4_k" if grouped else "iq3_xxs"
            case "iq3_m":
                kind = "q4_k"
            case "q3_k_m":
                kind = "q5_k" if place < 2 else "q4_k"
            case "q3_k_l":
                kind = "q5_k"
            case "iq4_nl" | "iq4_xs" if grouped:
                kind = "q5_k"
            case "q4_k_m" | "q5_k_m" if _more_bits(place, self.values):
                kind = "q6_k"
            case "q4_k_s" if place < 4:
                kind = "q5_k"
        if self.subject.seventy and kind in {"q3_k", "q4_k"}:
            kind = "q5_k"
        return "q8_0" if self.subject.experts == 8 else kind

    def _k(self, kind: str, tensor: Tensor) -> str:
        if self.subject.experts == 8:
            return "q8_0"
        return self._q(kind, tensor)

    def _q(self, kind: str, tensor: Tensor) -> str:
        return {"iq3_xs": "iq3_xxs", "iq3_xxs": "iq2_s"}.get(self.mix, kind)

    def _down(self, kind: str, tensor: Tensor) -> str:
        layers, falcon = self.subject.layers, self.subject.falcon
        layer = tensor.layer if self.subject.experts > 1 else self.down
        self.down += 1
        early, more = layer < layers // 8, _more_bits(layer, layers)
        match self.mix:
            case "q2_k":
                return "q3_k"
            case "q2_k_s":
                return "q4_k" if early else kind
            case "q3_k_m":
                return "q5_k" if layer < layers // 16 else "q4_k" if not falcon or more else "q3_k"
            case "iq3_m":
                return "q4_k" if early or (self.subject.experts == 8 and more) else kind
            case "q3_k_l":
                return "q4_k" if falcon else "q5_k"
            case "q4_k_m" if falcon:
                return "q6_k" if layer < layers // 16 else "q5_k" if more else "q4_k"
            case "q4_k_m" | "q5_k_m":
                return "q6_k" if more else kind
            case "q4_k_s":
                return "q5_k" if early and not falcon else kind
        return kind

    def _o(self, kind: str, tensor: Tensor) -> str:
        if self.subject.falcon:
            return "q4_k" if self.mix == "q3_k_l" else kind
        if self.subject.experts == 8:
            return "q5_k" if self.mix in _EIGHT else kind
        chosen = {"q2_k": "q3_k", "iq3_xxs": "iq3_s", "q3_k_m": "q4_k", "q3_k_l": "q5_k", "iq3_m": "q4_k"}
        return chosen.get(self.mix, kind)

    def _gate(self, kind: str, tensor: Tensor) -> str:
        layer = tensor.layer if self.subject.experts > 1 else self.gate
        self.gate += 1
        return self._middle(kind, layer)

    def _up(self, kind: str, tensor: Tensor) -> str:
        layer = tensor.layer if self.subject.experts > 1 else self.up
        self.up += 1
        return self._middle(kind, layer)

    def _middle(self, kind: str, layer: int) -> str:
        layers = self.subject.layers
        return "iq3_xxs" if self.mix == "iq3_xs" and layers // 8 <= layer < 7 * layers // 8 else kind
