"""Settings files that a command names: YAML as plain values, bounded, nothing constructed."""

from collections.abc import Mapping
from typing import Any, Final

MAX_CHARACTERS: Final = 200_000
MAX_NODES: Final = 20_000
MAX_DEPTH: Final = 30


def yaml_keys(text: str) -> Mapping[str, Any] | None:
    """A YAML mapping of plain values; None where it is none, or too large. Anchors and tags are refused."""
    import yaml

    if len(text) > MAX_CHARACTERS:
        return None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = count = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            count += 1
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if count > MAX_NODES or depth > MAX_DEPTH or getattr(event, "anchor", None) or isinstance(event, yaml.AliasEvent):
                return None
        found = yaml.load(text, Loader=loader)  # noqa: S506 — a safe loader, on events that were counted
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        return None
    return found if isinstance(found, dict) and all(isinstance(key, str) for key in found) else None
