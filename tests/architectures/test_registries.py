"""Every name of each release's own table is read, or refused with its reason: table, page and code hold together."""

import re
import sys

import pytest
from each import each
from golden import GOLDEN, ROOT

from kvplan import architectures
from kvplan.architectures.classes import GENERIC, REFUSED, TYPE_OF
from kvplan.errors import ConfigError

sys.path.insert(0, str(ROOT / "tools"))
from registries import LIBRARIES, entries, names

PAGE = (ROOT / "docs" / "reference" / "architectures.md").read_text(encoding="utf-8")
KNOWN = frozenset(architectures.known_model_types())


def section(library: str) -> dict[str, str]:
    """Name -> what the page says beside it."""
    text = PAGE.partition(f"\n### {library}\n")[2].partition("\n### ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", text, re.MULTILINE))


def test_every_table_has_a_library() -> None:
    assert {path.stem for path in (GOLDEN / "registries").glob("*.txt")} == set(LIBRARIES)


@each("library", LIBRARIES)
def test_the_page_says_of_each_name_what_the_code_does(library: str) -> None:
    found = entries(library)
    said = section(library)
    assert list(said) == [e.name for e in found if not e.reason] + [e.name for e in found if e.reason]
    for entry in found:
        assert said[entry.name].strip("`") == (entry.reason.replace("|", "/") or entry.read_as.strip("`"))


@each("library", LIBRARIES)
def test_at_most_one_name_in_twenty_is_refused_and_none_without_a_reason(library: str) -> None:
    found = entries(library)
    assert len(found) == len(set(names(library)[1])) > 100
    refused = [e for e in found if e.reason]
    assert [e.name for e in refused if e.reason == "unknown"] == []
    assert len(refused) * 20 <= len(found)


@pytest.mark.parametrize("library", ["vllm-0.33", "sglang-0.5.23"])
def test_a_class_is_read_as_a_type_that_kvplan_knows(library: str) -> None:
    unknown = [e for e in entries(library) if not e.reason and e.name not in GENERIC and e.read_as not in KNOWN]
    assert unknown == []


def test_a_config_without_a_model_type_is_read_by_its_class() -> None:
    config = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}
    assert architectures.read({"architectures": ["SolarForCausalLM"], **config}).text_type == "solar"
    assert TYPE_OF["LlamaForCausalLM"] == "llama"


@pytest.mark.parametrize("keys", [{}, {"model_type": "nobody_knows"}])
def test_a_class_that_is_not_read_says_why(keys: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="JetNemotronForCausalLM, which is a mix of attention"):
        architectures.read({"architectures": ["JetNemotronForCausalLM"], **keys})
    assert not set(REFUSED) & set(TYPE_OF)
