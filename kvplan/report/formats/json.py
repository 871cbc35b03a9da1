"""JSON for machines: `"schema": 1`, and every bytes value an exact int."""

import json
from typing import Any


def to_json(name: str, values: Any, **more: Any) -> str:
    """`{"schema": 1, NAME: values, …}`, indented."""
    return json.dumps({"schema": 1, name: values, **more}, indent=2) + "\n"
