"""Requests with times, for the schedulers of any engine."""

from typing import Any

import numpy as np

from kvplan.domain.traffic import Traffic


def array(values: list[int]) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.int64)


def traffic(rows: list[tuple[int, int, int, tuple[int, ...]]], hash_tokens: int) -> Traffic:
    """Requests of (microseconds since the one before, prompt, output, hashes)."""
    hashes = [name for row in rows for name in row[3]]
    return Traffic(
        arrival_us=array(np.cumsum([row[0] for row in rows]).tolist()),
        prompt=array([row[1] for row in rows]),
        output=array([row[2] for row in rows]),
        offsets=array([0, *np.cumsum([len(row[3]) for row in rows]).tolist()]) if hashes else None,
        hashes=array(hashes) if hashes else None,
        hash_tokens=hash_tokens if hashes else 0,
    )
