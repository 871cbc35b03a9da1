"""Connectors that take cache blocks away from the GPU, as vLLM is told of them.

Source: vllm 0.33.0 `config/vllm.py:_post_init_kv_transfer_config`, `distributed/kv_transfer/kv_connector/factory.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from kvplan.errors import OptionError
from kvplan.units import GIB

#: Connectors that do not know groups of layers: vLLM's hybrid manager goes off with them (`SupportsHMA`).
_ONE_GROUP: Final = frozenset({"LMCacheConnectorV1", "DynamoConnector"})
_MOST_CHILDREN: Final = 16


class Connector(Struct, frozen=True, kw_only=True):
    """`--kv-transfer-config`: the connector's name, what it is told beside, and the connectors inside one of several."""

    name: str
    extra: Mapping[str, Any] = {}
    children: tuple[Connector, ...] = ()

    @property
    def one_group(self) -> bool:
        """Whether every layer is held in full with it; of several connectors, one is enough."""
        return self.name in _ONE_GROUP or any(child.one_group for child in self.children)


def connector(told: str, size: float | None, backend: str, *, simple: bool) -> Connector | None:
    """The connector that `--kv-transfer-config` or `--kv-offloading-size` asks for; None without one.

    `--kv-offloading-size` takes the native one, the simple one where VLLM_USE_SIMPLE_KV_OFFLOAD is set, or LMCache's server.
    """
    if size is not None:
        if backend == "lmcache":
            return Connector(name="LMCacheMPConnector")
        name = "SimpleCPUOffloadConnector" if simple else "OffloadingConnector"
        return Connector(name=name, extra={"cpu_bytes_to_use": int(size * GIB)})
    return parse(told) if told.strip() else None


def parse(text: str) -> Connector | None:
    """`--kv-transfer-config` from its JSON; None where it names no connector, which vLLM takes as none (`KVTransferConfig`).

    Raises:
        OptionError: not a JSON object with the name of a connector.
    """
    import json

    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict) and data.get("kv_connector") is None:
        return None
    return _read(data, deep=True)


def _read(data: Any, *, deep: bool) -> Connector:
    name = data.get("kv_connector") if isinstance(data, dict) else None
    extra = data.get("kv_connector_extra_config", {}) if isinstance(data, dict) else {}
    if not isinstance(name, str) or not name or not isinstance(extra, dict):
        raise OptionError(
            "kv_transfer_config: expected a JSON object with `kv_connector`",
            hint='for example \'{"kv_connector": "OffloadingConnector", "kv_role": "kv_both"}\'',
            option="kv_transfer_config",
        )
    inside = extra.get("connectors", []) if name == "MultiConnector" and deep else []
    children = tuple(_read(child, deep=False) for child in inside[:_MOST_CHILDREN]) if isinstance(inside, list) else ()
    return Connector(name=name, extra=extra, children=children)
