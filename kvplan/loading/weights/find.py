"""How much memory a model's weights take: given, measured in a checkpoint, counted, or not known; never guessed."""

import re
from collections.abc import Mapping
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Final

from kvplan.architectures.weights import CLOSE, check_format, nominal_bytes, quantised, stored_weights, weights_at
from kvplan.domain.budget import counted_weights
from kvplan.domain.ledger import Line, band
from kvplan.domain.model import Model
from kvplan.errors import OptionError
from kvplan.files import expanded
from kvplan.loading import HasConfig, hub_name
from kvplan.loading.catalogue import find

if TYPE_CHECKING:
    from kvplan.loading.weights.safetensors import TensorBytes

#: A repository of GGUF files, by its name alone.
_GGUF_COPY: Final = r"^[^/]+/[^/]+-gguf$"
Source = str | PathLike[str] | Mapping[str, Any] | Model | HasConfig


def find_weights(source: Source, model: Model, *, given_bytes: int | None = None, dtype: str | None = None) -> Line:
    """The weights of `model` as a budget line.

    First match wins: `given_bytes`; a format asked for with `dtype`; the checkpoint beside a local config.json or on the hub
    (safetensors headers or index); what the model's file says (GGUF tensors, a description's `weights_bytes`); the tensors
    counted from the config, as its `quantization_config` stores them; its parameters at its dtype.

    Raises:
        OptionError: nothing is known; the message names what was looked at.
        InputError: a checkpoint that is there and cannot be read.
        ConfigError: a `quantization_config` whose stored size is not known.
    """
    if given_bytes is not None:
        if dtype is not None:
            raise OptionError("«weights» and «weights_dtype» are two answers to one question", hint="give one of them")
        return Line(name="weights", bytes=given_bytes, basis="given", source="--weights")
    if dtype is not None:
        return _at_dtype(model, dtype, _checkpoint(source))
    checkpoint = _checkpoint(source)
    if checkpoint is not None:
        return Line(name="weights", bytes=checkpoint.bytes, basis="measured", source=checkpoint.source)
    if model.weights_bytes is not None:
        gguf = bool(model.gguf)
        assumed = next((fact.value for fact in model.provenance if fact.key == "weights" and fact.origin == "assumed"), "")
        if assumed:
            return Line(name="weights", bytes=model.weights_bytes, basis="assumed", source=assumed)
        said = "the tensors that the GGUF file lists" if gguf else "weights_bytes in its description"
        return Line(name="weights", bytes=model.weights_bytes, basis="measured" if gguf else "given", source=said)
    if isinstance(source, str) and re.search(_GGUF_COPY, hub_name(source), re.IGNORECASE):
        raise OptionError(
            f"`{source[:80]}` holds GGUF files of several sizes", hint="say which with «weights_dtype q4_k_m», or name the file"
        )
    found = _counted(model)
    if found is not None:
        return found
    if model.parameters is not None and not quantised(model):
        return _every(model, model.parameters, model.dtype) if model.assumed else counted_weights(model.parameters, model.dtype)
    raise _unknown(model)


def _counted(model: Model) -> Line | None:
    """The tensors of the model's config, as its checkpoint stores them."""
    found = stored_weights(model)
    return None if found is None else Line(name="weights", bytes=found.bytes, basis="rule", source=found.source)


def _every(model: Model, parameters: int, dtype: str) -> Line:
    """Every parameter in one format: a band where the count of the model is assumed."""
    known = model.assumed
    if known is not None:
        best, low, high = (nominal_bytes(count, dtype) for count in (parameters, known.low, known.high))
        return band("weights", best, low, high, known.because, "assumed")
    said = f"{parameters:,} parameters, all of them in {dtype.strip().lower()}"
    return Line(name="weights", bytes=nominal_bytes(parameters, dtype), basis="derived", source=said)


def _at_dtype(model: Model, dtype: str, checkpoint: "TensorBytes | None") -> Line:
    """The weights in another format: tensor by tensor where they are known, else every parameter at one type."""
    check_format(dtype)
    found = weights_at(model, dtype)
    elements = checkpoint.elements if checkpoint is not None and not quantised(model) else None
    if found is not None and (elements is None or abs(found.parameters / max(1, elements) - 1) <= CLOSE):
        return Line(name="weights", bytes=found.bytes, basis="rule", source=found.source)
    parameters = elements or model.parameters
    if parameters is None:
        raise OptionError(
            f"«weights_dtype {dtype[:20]}»: the number of parameters of {model.name} is not known",
            hint="give «weights SIZE», such as «weights 16GB», or `parameters` in a YAML description",
        )
    return _every(model, parameters, dtype)


def _checkpoint(source: Source) -> "TensorBytes | None":
    """The safetensors files beside a local config.json, or of a hub repository."""
    if not isinstance(source, str | PathLike):
        return None
    source = hub_name(source) if isinstance(source, str) else source
    path = expanded(fspath(source))
    try:
        folder = path if path.is_dir() else path.parent if path.name == "config.json" and path.is_file() else None
    except OSError:
        return None
    if folder is not None:
        from kvplan.loading.weights.safetensors import checkpoint_bytes

        return checkpoint_bytes(folder)
    if _on_hub(str(source)):
        from kvplan.loading.weights.hub import hub_checkpoint

        return hub_checkpoint(str(source))
    return None


def _on_hub(text: str) -> bool:
    """Whether a model that loaded came from the hub: neither a file nor an entry of the catalogue."""
    owner, slash, name = text.partition("/")
    if not (owner and slash and name) or "/" in name or expanded(text).exists():
        return False
    return find(text) is None


def _unknown(model: Model) -> OptionError:
    tried = ["safetensors files or index beside its config.json", "GGUF tensors", "weights_bytes in its description"]
    counted = "its checkpoint is quantised, so parameters x dtype would be wrong" if quantised(model) else "no parameter count"
    return OptionError(
        f"the weights of {model.name} are not known: no {', no '.join(tried)}; {counted}",
        hint="give «weights SIZE» (such as «weights 16GB»)" + (", or «weights_dtype»" if model.parameters else ""),
    )
