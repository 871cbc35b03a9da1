"""Where recorded facts and configs lie, read once a test run."""

import json
from functools import cache
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).resolve().parent
TESTS = GOLDEN.parent
ROOT = TESTS.parent
CONFIGS = TESTS / "configs"
GUIDES = ROOT / "docs" / "guides"


@cache
def cases(name: str) -> list[dict[str, Any]]:
    """Every record of `tests/golden/NAME.jsonl`, in order; nobody may change one."""
    return [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
