"""What Ollama makes of a model: its GGUF keys, and what its manifest says beside."""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.model import Model
from kvplan.domain.origin import Settings
from kvplan.engines.ollama.launch import Subject
from kvplan.errors import OptionError

_MOST_BYTES: Final = 2**60


def subject(model: Model, keys: Mapping[str, Any]) -> Subject:
    """The model as the server holds it.

    Args:
        model: with what the local install says of it, where it was found in one.
        keys: its GGUF keys.
    """
    arch = str(keys.get("general.architecture", ""))
    store = Settings(model.origin.store if model.origin is not None else {}, "the model's manifest")
    parameters = store.section("parameters").data
    sees = model.origin is not None and model.origin.outer.has("vision_config")
    projected = store.flag("projector") or f"{arch}.vision.block_count" in keys or sees
    capabilities = {"embedding" if f"{arch}.pooling_type" in keys else "completion", *(("vision",) if projected else ())}
    size = store.whole("file_bytes", model.weights_bytes or 0, most=_MOST_BYTES)
    return Subject(
        keys=keys,
        file_bytes=size,
        family=store.text("family") or arch,  # what `ollama create` writes into the config blob
        families=store.names("families"),
        capabilities=frozenset(capabilities),
        options={name: _number(name, value) for name, value in parameters.items() if name in _PARAMETERS},
        draft=store.text("draft") or None,
    )


def stored_name(model: Model) -> str:
    """The name under which a local install has the model; empty where none does."""
    return str(model.origin.store.get("name", "")) if model.origin is not None else ""


#: Parameters of a Modelfile that decide memory.
_PARAMETERS: Final = frozenset({"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "draft_num_predict"})


def _number(name: str, value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**31):
        return value
    raise OptionError(
        f"the model's parameter {name} is no number that a context can have", hint="`ollama show --parameters MODEL`"
    )
