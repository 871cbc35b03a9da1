"""Settings files of one server: the engine whose keys they have reads them."""

from collections.abc import Mapping
from typing import Any

from kvplan.engines.kernel.commandline.commands import Commands
from kvplan.loading.servers.readers import READERS
from kvplan.loading.servers.yaml_tree import Map, Node, plain


def reader_of(root: Node) -> tuple[Commands, Mapping[str, Any]] | None:
    """(the engine's reader, the keys), where a mapping is some engine's settings."""
    if not isinstance(root, Map) or root.get("apiVersion") or root.get("services"):
        return None
    keys = plain(root)
    return next(((reader, keys) for reader in READERS if reader.file(keys)), None)
