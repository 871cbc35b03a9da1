"""What to type: an engine's own command for a workload, and the name it is given for a model."""

from kvplan.domain.model import Model


def served_name(model: Model, source: str = "") -> str:
    """What an engine is given as the model: its hub id where one is known, else the path or name that was typed."""
    hub = next((fact.value for fact in model.provenance if fact.key == "hub"), "")
    return hub or source.removesuffix("/config.json") or model.name
