"""What a model's weights take, counted from its config: as its checkpoint stores them, or in another format."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters import Counted, counted
from kvplan.domain.dtypes import ALIASES, DTYPES, item_bytes
from kvplan.domain.latest import latest
from kvplan.domain.model import Latent, Model, Softmax
from kvplan.domain.origin import NO_SETTINGS
from kvplan.domain.parameters import elements
from kvplan.domain.storage.named import NAMES, named_scheme
from kvplan.domain.storage.schemes import Scheme, scheme_of, stored
from kvplan.domain.stored import StoredTensor
from kvplan.errors import KvplanError, OptionError, nearest
from kvplan.units import ceil_div

if TYPE_CHECKING:
    from kvplan.gguf.mixes import Subject, Tensor

#: A list whose count is further from the known one comes from a config whose widths were left out.
CLOSE: Final = 0.01
_ROW: Final = 4096  # a matrix of usual size
#: What people mean who name only the bits.
_USUAL: Final = {
    "q2": "q2_k", "q3": "q3_k_m", "q4": "q4_k_m", "q5": "q5_k_m", "q6": "q6_k", "q8": "q8_0", "q4_k": "q4_k_m", "4bit": "int4",
    "8bit": "int8", "bnb": "bnb-4bit", "nf4": "bnb-4bit",
}  # fmt: skip
_PLAIN: Final = {"float32", "bfloat16", "float16"}


class Weighed(Struct, frozen=True, kw_only=True):
    """Bytes of a model's weights, the parameters that they hold, and in words how both were counted."""

    bytes: int
    parameters: int
    source: str


@latest(4, by_identity=True)
def tensors(model: Model) -> Counted | None:
    """The model's tensors, or None: it was described by hand, no rule counts its type, or its config leaves sizes out."""
    if model.origin is None or not model.origin.config or "general.architecture" in model.origin.config:
        return None
    try:
        found = counted(Config(model.origin.config, model.name))
    except KvplanError:
        return None
    if model.parameters and abs(elements(found.tensors) / model.parameters - 1) > CLOSE:
        return None
    return found


def stored_weights(model: Model) -> Weighed | None:
    """The weights as the checkpoint stores them: at its dtype, or as its `quantization_config` says; None: not known.

    Raises:
        ConfigError: a quantisation whose stored size is not known.
    """
    found = tensors(model)
    if found is None or model.origin is None:
        return None
    scheme = scheme_of(model.origin.outer, model.origin.text)
    return _weighed(model, found, scheme, model.dtype if scheme is None else f"{_name(scheme)} (its quantization_config)")


def weights_at(model: Model, dtype: str) -> Weighed | None:
    """The weights in another type or format; None: the model's tensors are not known.

    Raises:
        OptionError: no such format.
    """
    from kvplan.gguf.mixes import mix_of

    check_format(dtype)
    found = tensors(model)
    if found is None:
        return None
    mix = mix_of(dtype)
    plain = _plain(dtype)
    if mix is not None and plain is None:
        return _in_gguf(model, found, mix)
    if plain is not None:
        size = stored(found.tensors, item_bytes(plain)).bytes
        return _said(found, size, plain)
    scheme = named_scheme(dtype, found.tensors)
    return _weighed(model, found, scheme, dtype.strip().lower())


def check_format(dtype: str) -> None:
    """Whether `--weights-dtype` has such a format.

    Raises:
        OptionError: it has not; the message names the nearest.
    """
    from kvplan.gguf.mixes import DEFAULTS, mix_of

    if _plain(dtype) is None and mix_of(dtype) is None and named_scheme(dtype) is None:
        asked = dtype.strip().lower()
        near = _USUAL.get(asked) or nearest(asked, [*DEFAULTS, *NAMES, *_PLAIN, *ALIASES])
        raise OptionError(
            f"«weights_dtype»: unknown format `{dtype[:40]}`",
            hint=f"did you mean `{near}`?" if near else "bf16, fp8, int4, awq, gptq, nvfp4, mxfp4, bnb-4bit, q4_k_m, q8_0 …",
        )


def nominal_bytes(parameters: int, dtype: str) -> int:
    """Every one of so many parameters in a format: what a description's `parameters` come to, whose tensors nobody knows.

    Raises:
        OptionError: no such format.
    """
    from kvplan.gguf.mixes import DEFAULTS, mix_of, type_bytes

    check_format(dtype)
    mix, scheme = mix_of(dtype), named_scheme(dtype)
    if _plain(dtype) is None and mix is not None:
        return type_bytes(DEFAULTS[mix], _ROW, ceil_div(parameters, _ROW) * _ROW)
    if scheme is not None:
        size = scheme.rules[0].format.stored((_ROW, _ROW)).bytes
        return ceil_div(parameters * size, _ROW * _ROW)
    return parameters * item_bytes(_plain(dtype) or "bfloat16")


def _plain(dtype: str) -> str | None:
    """The plain type that a name means: every element has as many bytes."""
    key = dtype.strip().lower().removeprefix("torch.")
    name = ALIASES.get(key, key)
    return name if name in _PLAIN and name in DTYPES else None


def _weighed(model: Model, found: Counted, scheme: Scheme | None, words: str) -> Weighed:
    return _said(found, stored(found.tensors, item_bytes(model.dtype), scheme).bytes, words)


def _said(found: Counted, size: int, words: str) -> Weighed:
    number = elements(found.tensors)
    missing = f", without {', '.join(found.uncounted)}" if found.uncounted else ""
    return Weighed(bytes=size, parameters=number, source=f"{number:,} parameters in {words}, tensor by tensor{missing}")


def _name(scheme: Scheme) -> str:
    names = dict.fromkeys(rule.format.name for rule in scheme.rules)
    if scheme.experts is not None:
        names[scheme.experts.name] = None
    return " and ".join(names)


def gguf_weights(model: Model, mix: str) -> Weighed | None:
    """The tensors of a GGUF file of that mix, `bf16` and `f16` included, whose norms stay in 32 bits; None: not known."""
    found = tensors(model)
    return None if found is None else _in_gguf(model, found, mix)


def gguf_tensors(model: Model, dtype: str) -> tuple[StoredTensor, ...]:
    """The tensors of a GGUF file of the model in one of llama.cpp's mixes, without places; none where they are not known."""
    from kvplan.gguf.mixes import mix_of, type_bytes, typed

    found, mix = tensors(model), mix_of(dtype)
    if found is None or mix is None:
        return ()
    subject, listed = _listed(model, found)
    made: list[StoredTensor] = []
    seen: dict[str, int] = {}
    for tensor, kind in typed(listed, subject, mix):
        number = seen[tensor.name] = seen.get(tensor.name, -1) + 1
        name = f"{tensor.name.removesuffix('.weight')}.{number}.weight" if number else tensor.name  # biases, further norms
        rows = max(1, tensor.elements // max(1, tensor.columns * tensor.experts))
        dims = (max(1, tensor.columns), rows, *((tensor.experts,) if tensor.experts > 1 else ()))
        made.append(StoredTensor(name=name, type=kind, dims=dims, bytes=type_bytes(kind, tensor.columns, tensor.elements)))
    return tuple(made)


def _in_gguf(model: Model, found: Counted, mix: str) -> Weighed:
    """Vision towers are in a file of their own, and prediction layers in few."""
    from kvplan.gguf.from_parameters import rope_factors
    from kvplan.gguf.mixes import mixed_bytes

    subject, listed = _listed(model, found)
    size = mixed_bytes(listed, subject, mix) + rope_factors(model.origin.text if model.origin is not None else NO_SETTINGS)
    return _said(found, size, f"{mix.upper()}, as llama.cpp chooses types")


def _listed(model: Model, found: Counted) -> "tuple[Subject, Iterator[Tensor]]":
    """The model as llama.cpp's choice of types sees it, and its tensors."""
    from kvplan.gguf.from_parameters import subject_of, tensors_of

    kind = model.text_type
    first = model.layers[0].memories
    kv = next((memory.kv_heads for memory in first if isinstance(memory, Softmax)), 0)
    latent = next((memory for layer in model.layers for memory in layer.memories if isinstance(memory, Latent)), None)
    heads = model.attention_heads or 0
    own = isinstance(next(iter(first), None), Latent)
    subject = subject_of(found.tensors, layers=len(model.layers), gqa=heads // kv if kv else heads if own else 0, text_type=kind)
    return subject, tensors_of(found.tensors, text_type=kind, nope_dim=latent.nope_dim if latent is not None else 0)


__all__ = [
    "Weighed", "check_format", "gguf_tensors", "gguf_weights", "nominal_bytes", "projector_bytes", "stored_weights", "tensors",
    "weights_at",
]  # fmt: skip


def projector_bytes(model: Model, *, item_bytes: int = 2) -> int:
    """What llama.cpp's converter writes into the projector's file: the towers of images and sound; 0: none, or not known.

    Args:
        model: the whole model.
        item_bytes: of a matrix's element; vectors and tables of positions stay float32.
    """
    from kvplan.gguf.from_parameters import OUTSIDE

    found = tensors(model)
    towers = [] if found is None or found.uncounted else [p for p in found.tensors if p.component in OUTSIDE]
    return sum(
        elements((parameter,)) * (item_bytes if len(parameter.shape) > 1 and parameter.role != "positions" else 4)
        for parameter in towers
    )


def quantised(model: Model) -> bool:
    """Whether the model's config says that its checkpoint is stored in another type than its dtype."""
    return model.origin is not None and any(s.has("quantization_config") for s in (model.origin.outer, model.origin.text))
