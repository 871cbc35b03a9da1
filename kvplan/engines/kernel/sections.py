"""Numbers of a config's section, whatever else its author wrote there."""

from collections.abc import Mapping
from typing import Any


def count_in(section: Mapping[str, Any], *keys: str, default: int = 0) -> int:
    """The first of these keys that holds a whole number above 0.

    >>> count_in({"n_head": 0, "num_heads": 8}, "n_head", "num_heads"), count_in({"n_head": "8"}, "n_head")
    (8, 0)
    """
    for key in keys:
        value = section.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return default
