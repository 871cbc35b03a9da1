"""The pages of what releases changed: every rule in words, and what they say of models is what `diff` says."""

import json
import sys
from typing import Any

import pytest
from golden import ROOT

from kvplan.engines.kernel.releases import parse_version
from kvplan.loading import load

sys.path.insert(0, str(ROOT / "tools"))
changes: Any = pytest.importorskip("changes")
DATA: dict[str, Any] = json.loads(changes.DATA.read_text(encoding="utf-8"))


def test_every_engine_with_rules_by_release_has_a_page() -> None:
    pages = {path.stem.removeprefix("changes-") for path in changes.REFERENCE.glob("changes-*.md")}
    assert pages == set(changes.versioned()) == set(DATA)


@pytest.mark.parametrize("engine", sorted(DATA))
def test_every_rule_says_what_it_is_and_where_it_was_read(engine: str) -> None:
    steps = changes.steps(engine)
    assert [step.source for step in steps if not step.rule.says] == []
    assert [step.rule.says for step in steps if not step.source] == []
    assert set(DATA[engine]) == {changes.text_of(step.release) for step in steps}


@pytest.mark.parametrize(("engine", "release"), [("vllm", "0.33"), ("transformers", "5.15"), ("tensorrt-llm", "1.4")])
def test_what_a_page_says_of_models_is_what_diff_says(engine: str, release: str) -> None:
    rows = {row[0]: row for rules in DATA[engine][release].values() for row in rules}
    names = list(rows)[:3]
    found = changes.by_rule(changes.asked(engine, parse_version(release), [load(name) for name in (*names, "olmo-2-7b")]))
    assert {rule for rule, rows in found.items() if rows} <= set(DATA[engine][release])
    assert {row[0]: row for rules in found.values() for row in rules} == {name: rows[name] for name in names}
