"""JSON for machines: `"schema": 2`, and every bytes value an exact int."""

import json
from typing import Any

from kvplan.report.blocks import Answer, View


def text(answer: Answer, view: View) -> str:
    """The answer's values, whatever the view."""
    beside: dict[str, Any] = getattr(answer, "beside", {})
    return to_json(answer.key, answer.dicts(), **beside)


def to_json(name: str, values: Any, **more: Any) -> str:
    """`{"schema": 2, NAME: values, …}`, indented; a number that JSON has no word for is a bug, and never written."""
    return json.dumps({"schema": 2, name: values, **more}, indent=2, allow_nan=False) + "\n"
