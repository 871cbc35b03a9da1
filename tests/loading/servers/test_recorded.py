"""Inputs as people paste them, against what is to be read out of them (tests/golden/command_lines.jsonl)."""

import json
from pathlib import Path
from typing import Any

import pytest
from golden import GOLDEN

from kvplan.loading.servers.read import read_servers

CASES = [json.loads(line) for line in (GOLDEN / "command_lines.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_recorded_input_reads_as_expected(case: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / case["file"]
    file.write_text(case["input"], encoding="utf-8")
    if "dotenv" in case:
        (tmp_path / ".env").write_text(case["dotenv"], encoding="utf-8")
    read = read_servers(file)
    assert [server.to_dict() for server in read.servers] == case["expected"]
    if "other_service" in case:
        assert list(read.others) == case["other_service"]
    for server in read.servers:  # what is said of a place is true
        lines = case["input"].splitlines()
        assert 1 <= server.line <= len(lines)
        assert all(0 <= line <= len(lines) for line in server.lines.values())
