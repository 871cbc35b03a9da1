"""Outcomes as notes at lines of files: SARIF 2.1.0, and the commands that GitHub's runner reads from a job's output."""

import json
import re
from typing import Any, Final

from kvplan.engines import about
from kvplan.errors import printable
from kvplan.questions.check import Check, Checked
from kvplan.report.answers.check import helps, said

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Final = {"does not start": "error", "may start": "warning", "not decided": "note", "starts": "none"}
_GITHUB: Final = {"error": "error", "warning": "warning", "note": "notice"}
_RULES: Final = {
    "does not start": "The server does not start on these cards", "may start": "The bands of its memory decide",
    "not decided": "kvplan cannot tell", "starts": "The server starts",
}  # fmt: skip
_MOST: Final = 900


def blamed(one: Checked) -> int:
    """The line that a reader should look at: of what asks for too long a request, else of the model, else of the server."""
    lines = one.server.lines
    if one.outcome.longest is not None or one.outcome.status == "does not start":
        for name in _lengths(one.server.engine):
            if lines.get(name):
                return lines[name]
    return lines.get("model", 0) or one.server.line or 1


def _lengths(engine: str) -> tuple[str, ...]:
    """What an engine calls the longest request."""
    known = about(engine)
    return (*filter(None, (known.roles.get("context"),)), *known.lengths)


def sarif(check: Check, version: str) -> str:
    """One run; a result for each server that does not start, may not, or of which kvplan cannot tell."""
    results = [_result(one) for one in check.servers if _LEVELS[one.outcome.status] != "none"]
    rules = [{"id": _rule(status), "shortDescription": {"text": text}} for status, text in _RULES.items()]
    driver = {
        "name": "kvplan",
        "version": version,
        "informationUri": "https://pypi.org/project/kvplan-exact/",
        "rules": rules,
    }
    run = {"tool": {"driver": driver}, "columnKind": "utf16CodeUnits", "results": results}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(status: str) -> str:
    return status.replace(" ", "-")


def _result(one: Checked) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ruleId": _rule(one.outcome.status),
        "level": _LEVELS[one.outcome.status],
        "message": {"text": _message(one)},
    }
    if one.server.file:
        place = {"artifactLocation": {"uri": _uri(one.server.file)}, "region": {"startLine": blamed(one)}}
        found["locations"] = [{"physicalLocation": place}]
    return found


def _uri(file: str) -> str:
    """A path as SARIF has it: forward slashes, nothing that is no part of a URI."""
    from urllib.parse import quote

    return quote(file.replace("\\", "/").removeprefix("./"))


def _message(one: Checked) -> str:
    notes = "; ".join([*helps(one), *one.notes])
    return printable(said(one) + (f" ({notes})" if notes else ""), _MOST)


def github(check: Check) -> str:
    """`::error file=…,line=…,title=…::…`, one a server that does not start; a summary line for people."""
    lines = []
    for one in check.servers:
        level = _GITHUB.get(_LEVELS[one.outcome.status])
        if level is None:
            continue
        place = f"file={_property(one.server.file)},line={blamed(one)}," if one.server.file else ""
        lines.append(f"::{level} {place}title=kvplan%3A {_property(one.outcome.status)}::{_data(_message(one))}")
    good = sum(one.outcome.status == "starts" for one in check.servers)
    return "\n".join([*lines, f"kvplan: {good} of {len(check.servers)} servers start"]) + "\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return re.sub(r"[:,]", lambda m: {":": "%3A", ",": "%2C"}[m[0]], _data(printable(text, 300)))
