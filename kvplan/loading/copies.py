"""Hub ids that the catalogue answers: the id that was asked for, and the format that its name says the weights are in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from kvplan.domain.model import Fact, Latent, Model
from kvplan.domain.storage.named import format_in, quantization_config


def as_asked(model: Model, text: str, entry: Path) -> Model:
    """An entry of the catalogue under the hub id that found it; a copy in another format has that format's config.

    `meta-llama/Llama-3.1-8B-Instruct` is the entry under its own name; `hugging-quants/…-AWQ-INT4` has a
    `quantization_config` besides, of the usual settings of that format, as its own config.json was not read.
    """
    if "/" not in text or text.lower() == model.name:  # a paper's rows have a slash in their names
        return model
    facts = [fact for fact in model.provenance if fact.key != "hub"]
    renamed = replace(model, provenance=(Fact("hub", text, "as asked"), *facts))
    form = format_in(text.rpartition("/")[2])
    if not form or form in entry.stem or model.origin is None or _method(model.origin.config) == form:
        return renamed
    latent = any(isinstance(memory, Latent) for layer in model.layers for memory in layer.memories)
    config = {**model.origin.config, **quantization_config(form, latent=latent)}
    note = f"read as {entry.stem}, its weights in {form} by the name alone"
    return replace(renamed, origin=replace(model.origin, config=config), notes=(*model.notes, note))


def _method(config: Mapping[str, Any]) -> str:
    """The method of an entry that is quantised itself, as DeepSeek-V3 is."""
    quant = config.get("quantization_config")
    return str(quant.get("quant_method")) if isinstance(quant, Mapping) else ""
